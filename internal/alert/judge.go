package alert

import (
	"fmt"
	"math"
	"strings"
	"time"

	"shareai/internal/account"
)

// Tally counts requests that could have been answered: neither those whose client left, nor those that were refused for
// what they asked, nor those of a drill.
type Tally struct {
	Requests   int64
	Failures   int64
	FailedOver int64 // answered by another than the primary
	Extra      int64 // what those cost more than at the primary, in nano-dollars; below zero: less
	Usual      int64 // what all of them would have cost at their primaries
}

// Add adds up.
func (t *Tally) Add(o Tally) {
	t.Requests += o.Requests
	t.Failures += o.Failures
	t.FailedOver += o.FailedOver
	t.Extra += o.Extra
	t.Usual += o.Usual
}

// Counted is what a tally is of. The name is empty for OfAll.
type Counted struct {
	Scope Scope
	Name  string
}

func (c Counted) String() string {
	if c.Scope == OfAll {
		return "all requests"
	}
	return fmt.Sprintf("%s %q", c.Scope, c.Name)
}

// ID is the subject of an episode.
func (c Counted) ID() string {
	if c.Name == "" {
		return string(c.Scope)
	}
	return string(c.Scope) + ":" + c.Name
}

// tenThousand turns shares into levels: people write them with two digits, or four.
const tenThousand = 10_000

// JudgeBudget says which of its thresholds a budget has reached. from and to are its present period.
func JudgeBudget(of *account.Bound, b *account.Budget, from, to time.Time, spent int64) Observation {
	o := Observation{Rule: Budget, Subject: fmt.Sprintf("%s:%s:%s:%d", of.Scope, of.ID, b.Period, from.Unix())}
	for _, at := range append([]float64{1}, b.AlertAt...) {
		// The threshold in nano-dollars, so that no rounding of the share decides.
		if level := Level(math.Round(at * tenThousand)); spent >= int64(math.Ceil(at*float64(b.NanoUSD))) && level > o.Level {
			o.Level = level
		}
	}
	if o.Level == Well {
		return o
	}
	share := 100 * float64(spent) / float64(b.NanoUSD)
	period := map[string]string{account.PerDay: "daily", account.PerWeek: "weekly", account.PerMonth: "monthly"}[b.Period]
	budget := strings.TrimSpace(period + " budget")
	o.Title = fmt.Sprintf("%s has used %.0f %% of its %s", whose(of), math.Floor(share), budget)
	o.Organization = of.Spending.Organization
	o.Text = fmt.Sprintf("%s of %s are spent; the period ends on %s. %s", dollars(spent), dollars(b.NanoUSD),
		to.UTC().Format("2006-01-02 15:04 UTC"), consequence(b))
	o.Details = map[string]any{
		"scope": of.Scope, "id": of.ID, "name": of.Name, "period": b.Period, "from": Moment(from), "to": Moment(to),
		"threshold": float64(o.Level) / tenThousand, "spent_usd": usd(spent), "budget_usd": usd(b.NanoUSD),
	}
	return o
}

func whose(of *account.Bound) string {
	name := map[account.BoundScope]string{
		account.ByOrganization: "Organization", account.ByProject: "Project", account.ByKey: "API key", account.ByModel: "Model", account.ByLabel: "Label",
	}[of.Scope]
	return fmt.Sprintf("%s %q", name, of.Name)
}

func consequence(b *account.Budget) string {
	switch b.OnExceed {
	case account.Alert:
		return "Requests go on when it is used up."
	case account.Cheapest:
		return "When it is used up, requests go to the cheapest deployment."
	default:
		return "When it is used up, requests are refused."
	}
}

// usd writes an amount exactly, for programs: 400.12.
func usd(nano int64) string {
	return strings.TrimRight(strings.TrimRight(fmt.Sprintf("%d.%09d", nano/1e9, nano%1e9), "0"), ".")
}

// dollars writes an amount to the cent, for people.
func dollars(nano int64) string { return fmt.Sprintf("$%.2f", float64(nano)/1e9) }

// JudgeErrors says whether too many of some requests fail.
func (r *ErrorRule) JudgeErrors(of Counted, now Tally, open *Episode) Observation {
	o := Observation{Rule: ErrorRate, Subject: of.ID(), Bar: r.Share}
	share := ratio(now.Failures, now.Requests)
	switch {
	case now.Requests == 0:
		o.Level = Unknown
	case share >= r.Share && (open != nil || now.Requests >= r.MinRequests):
		o.Level = Bad
	}
	o.Title = fmt.Sprintf("%s of %s fail", percent(share), of)
	o.Text = fmt.Sprintf("%d of %d failed in the last %s; the bar is %s.", now.Failures, now.Requests, Span(r.Window), percent(r.Share))
	o.Details = map[string]any{
		"scope": of.Scope, "name": of.Name, "requests": now.Requests, "failures": now.Failures, "share": share, "bar": r.Share,
		"window_seconds": int64(r.Window.Seconds()),
	}
	return o
}

// JudgeFallbacks says whether more requests than usual are answered by another than their primary. past is the day
// before the window. open is the open episode, if there is one.
func (r *RiseRule) JudgeFallbacks(now, past Tally, open *Episode) Observation {
	share, before := ratio(now.FailedOver, now.Requests), ratio(past.FailedOver, past.Requests)
	o := r.rise(Fallbacks, share, before, open)
	switch {
	case now.Requests == 0:
		o.Level = Unknown
	case o.Level == Bad && open == nil && now.FailedOver < r.Least:
		o.Level = Well
	}
	o.Title = fmt.Sprintf("%s of the requests are answered by a fallback", percent(share))
	o.Text = fmt.Sprintf("%d of %d in the last %s; in the day before it were %s.", now.FailedOver, now.Requests, Span(r.Window), percent(before))
	o.Details["failed_over"], o.Details["requests"] = now.FailedOver, now.Requests
	return o
}

// JudgeCost says whether fallbacks cost more beyond their primaries than usual.
func (r *RiseRule) JudgeCost(now, past Tally, open *Episode) Observation {
	// Primaries that cost next to nothing, such as nodes, are no measure: less than the floor counts as the floor.
	day := r.Least * int64(24*time.Hour/r.Window)
	share, before := ratio(now.Extra, max(now.Usual, r.Least, 1)), ratio(past.Extra, max(past.Usual, day, 1))
	o := r.rise(FallbackCost, share, before, open)
	switch {
	case now.Requests == 0:
		o.Level = Unknown
	case o.Level == Bad && open == nil && now.Extra < r.Least:
		o.Level = Well
	}
	o.Title = fmt.Sprintf("Fallbacks cost %s more than their primaries", dollars(now.Extra))
	o.Text = fmt.Sprintf("All requests of the last %s would have cost %s at their primaries; in the day before it were %s more than %s.",
		Span(r.Window), dollars(now.Usual), dollars(max(past.Extra, 0)), dollars(past.Usual))
	o.Details["extra_usd"], o.Details["usual_usd"] = usd(max(now.Extra, 0)), usd(now.Usual)
	return o
}

// rise compares a share with that of the past, or with the bar of the open episode.
func (r *RiseRule) rise(rule Rule, share, past float64, open *Episode) Observation {
	o := Observation{Rule: rule, Subject: string(OfAll), Bar: max(r.Share, r.Factor*past)}
	if open != nil {
		o.Bar = open.Bar
	}
	if rule == Fallbacks {
		o.Bar = min(o.Bar, 1) // no more than all of the requests can fall back
	}
	if share >= o.Bar {
		o.Level = Bad
	}
	o.Report.Details = map[string]any{"share": share, "usual_share": past, "bar": o.Bar, "window_seconds": int64(r.Window.Seconds())}
	return o
}

func ratio(part, whole int64) float64 {
	if whole <= 0 || part <= 0 {
		return 0
	}
	return float64(part) / float64(whole)
}

func percent(share float64) string { return fmt.Sprintf("%.3g %%", 100*share) }

// Standing is what one replica knows of providers and models: true where they are down. What it does not know it
// leaves out.
type Standing struct {
	Providers map[string]bool `json:"providers,omitempty"`
	Models    map[string]bool `json:"models,omitempty"`
}

// JudgeDown says of each provider or model that is declared whether one of the replicas finds it down.
func JudgeDown(rule Rule, declared []string, found []map[string]bool) []Observation {
	all := make([]Observation, 0, len(declared))
	for _, name := range declared {
		down, known := 0, 0
		for _, replica := range found {
			is, says := replica[name]
			known += count(says)
			down += count(says && is)
		}
		o := Observation{Rule: rule, Subject: name, Level: Well}
		switch {
		case down > 0:
			o.Level = Bad
		case known == 0:
			o.Level = Unknown
		}
		o.Report = downReport(rule, name, down, len(found))
		all = append(all, o)
	}
	return all
}

func downReport(rule Rule, name string, down, replicas int) Report {
	r := Report{
		Title:   fmt.Sprintf("Provider %q is down", name),
		Text:    "The circuits of all of its deployments that were in use are open: requests go elsewhere, or fail where there is nothing else.",
		Details: map[string]any{"provider": name, "replicas": replicas, "replicas_that_find_it_down": down},
	}
	if rule == ModelDown {
		r.Title = fmt.Sprintf("Model %q has no deployment left", name)
		r.Text = "Every deployment is drained or has an open circuit: requests are answered by an equivalent or a fallback, or fail."
		delete(r.Details, "provider")
		r.Details["model"] = name
	}
	if replicas > 1 {
		r.Text += fmt.Sprintf(" %d of %d replicas find it so.", down, replicas)
	}
	return r
}

func count(is bool) int {
	if is {
		return 1
	}
	return 0
}

// Node is what is known of a machine that serves models.
type Node struct {
	ID, Organization, Name string
	Linked                 bool
	LastSeen               time.Time // zero: it was never linked
}

// JudgeNode says whether a node is gone that was there.
func JudgeNode(n *Node) Observation {
	o := Observation{Rule: NodeGone, Subject: n.ID}
	if !n.Linked && !n.LastSeen.IsZero() {
		o.Level = Bad
	}
	o.Organization = n.Organization
	o.Title = fmt.Sprintf("Node %q of %q is gone", n.Name, n.Organization)
	o.Text = "It has no link to the gateway any more. Check that the machine runs and has a network, and see `shareai node status` there."
	o.Details = map[string]any{"id": n.ID, "organization": n.Organization, "name": n.Name, "last_seen": Moment(n.LastSeen)}
	return o
}

// Minute is what was counted of something in a minute, which At is in.
type Minute struct {
	At time.Time
	Of Counted
	Tally
}
