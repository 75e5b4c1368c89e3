package config

import (
	"crypto/sha256"
	"encoding/hex"
	"math"
	"regexp"
	"slices"

	"shareai/internal/account"
	"shareai/internal/snapshot"
)

// The bounds of limits and budgets.
const (
	mostLimit  = 1_000_000_000_000
	mostBudget = 1_000_000_000 // USD
)

// organizations reads the organizations with their projects and keys.
func (d *decoder) organizations(spec *snapshot.Spec) reader {
	return func(v value) {
		d.each(v, func(v value) {
			o := account.Organization{Origin: account.FromFile}
			var projects []declared
			d.mapping(v, fields{
				"name":         d.name(&o.Name),
				"limits":       d.limits(&o.Limits),
				"budgets":      list(d, &o.Budgets, d.budget),
				"projects":     list(d, &projects, d.project),
				"label_limits": list(d, &o.LabelLimits, d.labelLimits),
				"shares":       list(d, &o.Shares, d.trafficShare),
				"operator":     d.boolean(&o.Operator),
				"community":    d.boolean(&o.Community),
			}, "name")
			spec.Organizations = append(spec.Organizations, o)
			for _, p := range projects {
				p.Organization = o.Name
				spec.Projects = append(spec.Projects, p.Project)
				for _, k := range p.keys {
					k.Organization, k.Project = o.Name, p.Name
					k.ID = fileKeyID(k)
					spec.Keys = append(spec.Keys, k)
				}
			}
		})
	}
}

// declared is a project with the keys declared in it.
type declared struct {
	account.Project
	keys []account.APIKey
}

func (d *decoder) project(v value) declared {
	p := declared{Project: account.Project{Origin: account.FromFile}}
	d.mapping(v, fields{
		"name":    d.name(&p.Name),
		"labels":  d.labels(&p.Labels),
		"limits":  d.limits(&p.Limits),
		"budgets": list(d, &p.Budgets, d.budget),
		"keys":    list(d, &p.keys, d.apiKey),
	}, "name")
	return p
}

func (d *decoder) apiKey(v value) account.APIKey {
	k := account.APIKey{Origin: account.FromFile}
	var secret account.Secret
	d.mapping(v, fields{
		"name":   d.name(&k.Name),
		"secret": d.secret(&secret, account.MinKeyLength),
		"models": func(v value) {
			list(d, &k.Models, d.item(d.pattern))(v)
			if v.kind == sequence && len(v.items) == 0 {
				d.complain(v, `write ["*"] or leave the field out if every model is meant`, "names no model")
			}
		},
		"expires": d.moment(&k.Expires),
		"pin":     d.pin(&k.Pin),
		"scopes": func(v value) {
			list(d, &k.Scopes, func(v value) (scope account.Scope) {
				choice(d, &scope, account.Scopes...)(v)
				return scope
			})(v)
			if v.kind == sequence && len(v.items) == 0 {
				d.complain(v, "leave the field out if the key is for inference", "names no scope")
			}
		},
		"limits":  d.limits(&k.Limits),
		"budgets": list(d, &k.Budgets, d.budget),
	}, "name", "secret")
	if !secret.Empty() {
		k.Hash, k.Hint = secret.Hash(), account.Hint(secret)
	}
	return k
}

// fileKeyID is the identity of a key of the file: the same in every process and after every restart,
// because records refer to it.
func fileKeyID(k account.APIKey) string {
	sum := sha256.Sum256([]byte(k.Organization + "/" + k.Project + "/" + k.Name))
	return "key_file_" + hex.EncodeToString(sum[:8])
}

func (d *decoder) pattern(into *string) reader {
	return func(v value) {
		text, ok := d.scalar(v)
		if !ok {
			return
		}
		if err := account.CheckPattern(text); err != nil {
			d.complain(v, err.Error(), "is not a model pattern")
			return
		}
		*into = text
	}
}

func (d *decoder) pin(into *account.Pin) reader {
	return func(v value) {
		d.mapping(v, fields{"provider": d.name(&into.Provider), "model": d.text(&into.Model)}, "provider")
	}
}

func (d *decoder) limits(into *account.Limits) reader {
	return func(v value) {
		d.mapping(v, fields{
			"requests_per_minute": integer(d, &into.RequestsPerMinute, mostLimit),
			"requests_per_hour":   integer(d, &into.RequestsPerHour, mostLimit),
			"requests_per_day":    integer(d, &into.RequestsPerDay, mostLimit),
			"tokens_per_minute":   integer(d, &into.TokensPerMinute, mostLimit),
			"tokens_per_hour":     integer(d, &into.TokensPerHour, mostLimit),
			"tokens_per_day":      integer(d, &into.TokensPerDay, mostLimit),
			"concurrency":         integer(d, &into.Concurrency, mostLimit),
		})
	}
}

// labelLimits reads the limits of all projects of an organization that carry a label.
func (d *decoder) labelLimits(v value) account.LabelLimits {
	var l account.LabelLimits
	d.mapping(v, fields{
		"label":   d.text(&l.Label),
		"value":   d.text(&l.Value),
		"limits":  d.limits(&l.Limits),
		"budgets": list(d, &l.Budgets, d.budget),
	}, "label", "value")
	return l
}

// trafficShare reads what projects with a label may have of a contended deployment.
func (d *decoder) trafficShare(v value) account.Share {
	var s account.Share
	d.mapping(v, fields{
		"label": d.text(&s.Label),
		"value": d.text(&s.Value),
		"share": d.number(&s.Share, span{0, 1, true}),
	}, "label", "value", "share")
	return s
}

func (d *decoder) budget(v value) account.Budget {
	var b account.Budget
	var usd float64
	d.mapping(v, fields{
		"period":    choice(d, &b.Period, account.PerDay, account.PerWeek, account.PerMonth),
		"window":    d.window(&b),
		"usd":       d.number(&usd, span{0, mostBudget, true}),
		"alert_at":  list(d, &b.AlertAt, d.share),
		"on_exceed": choice(d, &b.OnExceed, account.Reject, account.Cheapest, account.Alert),
	}, "usd")
	if period, window := v.field("period"), v.field("window"); v.kind == mapping && (period == nil) == (window == nil) {
		d.complain(v, "period: month, or window: {start: 2027-01-01, end: 2027-04-01}", "needs either period or window")
	}
	b.NanoUSD = int64(math.Round(usd * 1e9))
	return b
}

// window reads the one period of a budget that does not come again.
func (d *decoder) window(into *account.Budget) reader {
	return func(v value) {
		d.mapping(v, fields{"start": d.moment(&into.Start), "end": d.moment(&into.End)}, "start", "end")
		into.Period = account.Fixed
		if !into.Start.IsZero() && !into.End.IsZero() && !into.Start.Before(into.End) {
			d.complain(v, "end is the first moment after it", "must start before it ends")
		}
	}
}

func (d *decoder) share(v value) (share float64) {
	d.number(&share, span{0, 1, true})(v)
	return share
}

var labelShape = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?$`)

const longestLabel = 128

// labels reads free names with short texts.
func (d *decoder) labels(into *map[string]string) reader {
	return func(v value) {
		if !d.is(v, mapping) {
			return
		}
		for _, e := range v.entries {
			if !labelShape.MatchString(e.name) {
				d.problem(e.line, e.column, "", "the name of a label has 1 to 63 letters, digits, '.', '_', '/' and '-'")
				continue
			}
			label := value{node: e.value, path: append(slices.Clone(v.path), e.name), what: "a label"}
			text, ok := d.scalar(label)
			switch {
			case ok && len(text) > longestLabel:
				d.complain(label, "", "has at most %d characters", longestLabel)
			case ok:
				if *into == nil {
					*into = map[string]string{}
				}
				(*into)[e.name] = text
			}
		}
	}
}
