package account

import "math"

// Share is what all projects of an organization together that carry a label with a value may have of its part of a
// deployment that is contended.
type Share struct {
	Label string  `json:"label"`
	Value string  `json:"value"`
	Share float64 `json:"share"` // above 0, at most 1
}

// Part is a share, as it is for one principal.
type Part struct {
	Owner string // the organization
	// Name tells the shares of an organization apart: label=value. Empty: what the others leave.
	Name       string
	Millionths int64
}

// PartOf finds the share of a project: the first that it carries, else what all shares together leave, which is
// everything where there are none.
func PartOf(o *Organization, p *Project) Part {
	rest := Part{Owner: o.Name, Millionths: millionths(1)}
	for _, s := range o.Shares {
		if value, ok := p.Labels[s.Label]; ok && value == s.Value {
			return Part{Owner: o.Name, Name: s.Label + "=" + s.Value, Millionths: millionths(s.Share)}
		}
		rest.Millionths -= millionths(s.Share)
	}
	rest.Millionths = max(rest.Millionths, 0)
	return rest
}

func millionths(share float64) int64 { return int64(math.Round(share * 1e6)) }
