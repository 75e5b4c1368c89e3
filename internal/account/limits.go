package account

import (
	"time"
)

// Limits bound speed. Zero means no limit.
type Limits struct {
	RequestsPerMinute int64 `json:"requests_per_minute,omitempty"`
	RequestsPerHour   int64 `json:"requests_per_hour,omitempty"`
	RequestsPerDay    int64 `json:"requests_per_day,omitempty"`
	TokensPerMinute   int64 `json:"tokens_per_minute,omitempty"` // of prompt and answer together
	TokensPerHour     int64 `json:"tokens_per_hour,omitempty"`
	TokensPerDay      int64 `json:"tokens_per_day,omitempty"`
	Concurrency       int64 `json:"concurrency,omitempty"` // requests at the same time
}

// Any says whether there is a limit at all.
func (l Limits) Any() bool { return l != Limits{} }

// LabelLimits bound all projects of an organization together that carry a label with a value.
type LabelLimits struct {
	Label   string   `json:"label"`
	Value   string   `json:"value"`
	Limits  Limits   `json:"limits,omitzero"`
	Budgets []Budget `json:"budgets,omitempty"`
}

// Budget bounds money over a period.
type Budget struct {
	Period   string    `json:"period"`             // one of Periods
	Start    time.Time `json:"start,omitzero"`     // of a fixed window: its first moment
	End      time.Time `json:"end,omitzero"`       // of a fixed window: the first moment after it
	NanoUSD  int64     `json:"nano_usd"`           // nano-dollars
	AlertAt  []float64 `json:"alert_at,omitempty"` // shares of the budget, 0 to 1
	OnExceed string    `json:"on_exceed,omitempty"`
}

// The periods of budgets, in UTC. A week begins on Monday.
const (
	PerDay   = "day"
	PerWeek  = "week"
	PerMonth = "month"
	Fixed    = "window" // from Budget.Start to Budget.End, once
)

// The words of Budget.OnExceed. Empty means Reject.
const (
	Reject   = "reject"   // requests are refused
	Cheapest = "cheapest" // requests go to the cheapest deployment that may serve them
	Alert    = "alert"    // requests go on
)

// Span returns the period around a moment: from its first moment to the first one after it. It is
// false outside of a fixed window, where the budget does not bound anything.
func (b *Budget) Span(at time.Time) (from, to time.Time, ok bool) {
	at = at.UTC()
	year, month, day := at.Date()
	switch b.Period {
	case PerDay:
		from = time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
		return from, from.AddDate(0, 0, 1), true
	case PerWeek:
		since := (int(at.Weekday()) + 6) % 7 // days since Monday
		from = time.Date(year, month, day-since, 0, 0, 0, 0, time.UTC)
		return from, from.AddDate(0, 0, 7), true
	case PerMonth:
		from = time.Date(year, month, 1, 0, 0, 0, 0, time.UTC)
		return from, from.AddDate(0, 1, 0), true
	default:
		return b.Start, b.End, !at.Before(b.Start) && at.Before(b.End)
	}
}

// BoundScope is what a bound holds for.
type BoundScope string

// The scopes of bounds.
const (
	ByOrganization BoundScope = "organization"
	ByLabel        BoundScope = "label"
	ByProject      BoundScope = "project"
	ByKey          BoundScope = "key"
	ByModel        BoundScope = "model"
)

// Bound is the limits and budgets of one thing.
type Bound struct {
	Scope BoundScope
	// ID identifies the thing among all of its scope: a key's id, organization/project, and the like.
	ID string
	// Name is what its owner calls it.
	Name    string
	Limits  Limits
	Budgets []Budget
	// Spending selects the records that count for it; its period is open.
	Spending Spending
}

// Spending selects usage records by whose they are and when they began. An empty field matches everything.
type Spending struct {
	Organization string
	Projects     []string // of the organization
	// Label and LabelValue select those whose project carried the label when they came: what it carries now does not
	// change what was spent.
	Label, LabelValue string
	KeyID             string
	Model             string // that answered
	From, To          time.Time
	Ended             time.Time // only those that ended before; zero: all
}

// BoundsOf lists what bounds a principal.
func BoundsOf(p *Principal) []Bound {
	var bounds []Bound
	add := func(b Bound) {
		if b.Limits.Any() || len(b.Budgets) > 0 {
			bounds = append(bounds, b)
		}
	}
	o, project, key := p.Organization, p.Project, p.Key
	add(Bound{Scope: ByOrganization, ID: o.Name, Name: o.Name, Limits: o.Limits, Budgets: o.Budgets, Spending: Spending{Organization: o.Name}})
	for _, l := range o.LabelLimits {
		if !carries(project, &l) {
			continue
		}
		name := l.Label + "=" + l.Value
		add(Bound{
			Scope: ByLabel, ID: o.Name + "/" + name, Name: name, Limits: l.Limits, Budgets: l.Budgets,
			Spending: Spending{Organization: o.Name, Label: l.Label, LabelValue: l.Value},
		})
	}
	add(Bound{
		Scope: ByProject, ID: o.Name + "/" + project.Name, Name: project.Name, Limits: project.Limits, Budgets: project.Budgets,
		Spending: Spending{Organization: o.Name, Projects: []string{project.Name}},
	})
	add(Bound{Scope: ByKey, ID: key.ID, Name: key.Name, Limits: key.Limits, Budgets: key.Budgets, Spending: Spending{KeyID: key.ID}})
	return bounds
}

func carries(p *Project, l *LabelLimits) bool {
	value, ok := p.Labels[l.Label]
	return ok && value == l.Value
}
