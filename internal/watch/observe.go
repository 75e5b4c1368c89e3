package watch

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"shareai/internal/alert"
)

// day is how far back the past goes that a rise is compared with.
const day = 24 * time.Hour

// observe looks at everything that a rule is about. No observations, and no error: the rule is off.
func (t *turn) observe(ctx context.Context, rule alert.Rule) ([]alert.Observation, error) {
	rules := &t.settings.Rules
	switch {
	case rule == alert.Budget && !rules.Budget.Off:
		return t.budgets(ctx)
	case rule == alert.Fallbacks && !rules.Fallbacks.Off:
		return t.rise(ctx, rule, &rules.Fallbacks, rules.Fallbacks.JudgeFallbacks)
	case rule == alert.FallbackCost && !rules.FallbackCost.Off:
		return t.rise(ctx, rule, &rules.FallbackCost, rules.FallbackCost.JudgeCost)
	case rule == alert.ProviderDown && !rules.ProviderDown.Off:
		var names []string
		for _, p := range t.view.Providers() {
			names = append(names, p.Name)
		}
		return t.down(ctx, rule, names, func(s *alert.Standing) map[string]bool { return s.Providers })
	case rule == alert.ModelDown && !rules.ModelDown.Off:
		return t.down(ctx, rule, t.view.ModelNames(), func(s *alert.Standing) map[string]bool { return s.Models })
	case rule == alert.NodeGone && !rules.NodeGone.Off:
		return t.nodes(ctx)
	case rule == alert.ErrorRate && !rules.ErrorRate.Off:
		return t.errors(ctx)
	default:
		return nil, nil
	}
}

// budgets reads what was spent of every budget from the ledger, as the counters of admission do.
func (t *turn) budgets(ctx context.Context) ([]alert.Observation, error) {
	var seen []alert.Observation
	for _, of := range t.view.Bounds() {
		for i := range of.Budgets {
			b := &of.Budgets[i]
			from, to, counts := b.Span(t.now)
			if !counts {
				continue
			}
			spending := of.Spending
			spending.From, spending.To = from, to
			spent, err := t.options.Ledger.Spent(ctx, spending)
			if err != nil {
				return nil, err
			}
			seen = append(seen, alert.JudgeBudget(&of, b, from, to, spent))
		}
	}
	return seen, nil
}

// rise compares a window with the day before it.
func (t *turn) rise(ctx context.Context, rule alert.Rule, r *alert.RiseRule, judge func(now, past alert.Tally, open *alert.Episode) alert.Observation) ([]alert.Observation, error) {
	all := alert.Counted{Scope: alert.OfAll}
	begin := t.now.Add(-r.Window)
	now, err := t.options.Rows.Tallies(ctx, begin, t.now.Add(time.Minute))
	if err != nil {
		return nil, err
	}
	past, err := t.options.Rows.Tallies(ctx, begin.Add(-day), begin)
	if err != nil {
		return nil, err
	}
	return []alert.Observation{judge(now[all], past[all], t.open(rule, string(alert.OfAll)))}, nil
}

// errors looks at everything that had requests within a day.
func (t *turn) errors(ctx context.Context) ([]alert.Observation, error) {
	r := &t.settings.Rules.ErrorRate
	now, err := t.options.Rows.Tallies(ctx, t.now.Add(-r.Window), t.now.Add(time.Minute))
	if err != nil {
		return nil, err
	}
	lately, err := t.options.Rows.Tallies(ctx, t.now.Add(-day), t.now.Add(time.Minute))
	if err != nil {
		return nil, err
	}
	counted := slices.SortedFunc(maps.Keys(lately), func(a, b alert.Counted) int { return strings.Compare(a.ID(), b.ID()) })
	var seen []alert.Observation
	for _, of := range counted {
		if slices.Contains(r.Of, of.Scope) {
			seen = append(seen, r.JudgeErrors(of, now[of], t.open(alert.ErrorRate, of.ID())))
		}
	}
	return seen, nil
}

func (t *turn) down(ctx context.Context, rule alert.Rule, declared []string, of func(*alert.Standing) map[string]bool) ([]alert.Observation, error) {
	known, err := t.options.Rows.Standings(ctx, t.now.Add(-staleAfter))
	if err != nil {
		return nil, err
	}
	found := make([]map[string]bool, len(known))
	for i := range known {
		found[i] = of(&known[i])
	}
	return alert.JudgeDown(rule, declared, found), nil
}

func (t *turn) nodes(ctx context.Context) ([]alert.Observation, error) {
	if t.options.Nodes == nil {
		return nil, nil
	}
	nodes, err := t.options.Nodes.Nodes(ctx)
	seen := make([]alert.Observation, len(nodes))
	for i := range nodes {
		seen[i] = alert.JudgeNode(&nodes[i])
	}
	return seen, err
}

// open is the open episode of a subject, or nil.
func (t *turn) open(rule alert.Rule, name string) *alert.Episode {
	if e := t.last[subject{rule, name}]; e != nil && e.State == alert.Open {
		return e
	}
	return nil
}
