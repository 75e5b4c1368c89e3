package routing

import (
	"cmp"
	"slices"

	"shareai/internal/catalog"
	"shareai/internal/health"
	"shareai/internal/snapshot"
)

// planner makes one plan.
type planner struct {
	ask   *Ask
	rules rules
	by    *sorting
	plan  *Plan
	kept  int // candidates that may be tried
	// The primary is the deployment that the request is meant for: the first that nothing but its present
	// condition keeps away. Prices are measured against it, also while it is away: a ceiling that rose with
	// each fallback would be none. Where the request rules out all of the route's own models, the ceiling is
	// set by what they would have been, without a primary.
	primary, measured bool
}

// source is a model whose deployments are to be considered, and why.
type source struct {
	model   *snapshot.Model
	origin  Origin
	grade   float64
	verdict Reason // when not Kept, that of all its deployments
}

// equivalents considers the models that may stand in, best grade first. Vectors of one model mean
// nothing to another, so that embeddings have none.
func (p *planner) equivalents(route *snapshot.Route) {
	how := p.rules.policy.Equivalents
	if how == catalog.EquivalentsOff || p.ask.Endpoint == catalog.Embeddings {
		return
	}
	for _, e := range equivalentsOf(route) {
		before := p.kept
		p.fallBack(source{model: e.Model, origin: OfEquivalent, grade: e.Grade})
		if how != catalog.EquivalentsAny && p.kept > before {
			return
		}
	}
}

// equivalentsOf returns the equivalents of all the route's models, best grade first.
func equivalentsOf(route *snapshot.Route) []snapshot.Equivalent {
	if len(route.Models) == 1 {
		return route.Models[0].Equivalents
	}
	var list []snapshot.Equivalent
	for _, m := range route.Models {
		list = append(list, m.Equivalents...)
	}
	slices.SortStableFunc(list, func(a, b snapshot.Equivalent) int { return cmp.Compare(b.Grade, a.Grade) })
	return list
}

// fallBack considers a further model, unless what is kept exceeds what may be tried already.
func (p *planner) fallBack(s source) {
	if p.kept < p.rules.policy.Attempts.Total {
		p.consider(s)
	}
}

// consider appends a model's deployments that are not in the plan yet, each with its verdict, in the order
// of the strategy and of the client's wish. No preference brings back what a rule has excluded.
func (p *planner) consider(s source) {
	start := len(p.plan.Candidates)
	for i := range s.model.Targets {
		t := &s.model.Targets[i]
		if !t.Provider.OpenTo(p.ask.Principal.Project.Organization) || p.has(t.ID) {
			continue
		}
		p.plan.Candidates = append(p.plan.Candidates, Candidate{Target: *t, Origin: s.origin, Grade: s.grade, HealthID: t.HealthID, Excluded: s.verdict})
		c := &p.plan.Candidates[len(p.plan.Candidates)-1]
		p.drill(c)
		if c.Excluded == Kept {
			c.Excluded = p.verdict(c)
		}
	}
	added := p.plan.Candidates[start:]
	p.arrange(added, s.model)
	p.compare(added)
	if p.kept == 0 {
		p.explore(added)
	}
	for i := range added {
		if added[i].Excluded == Kept {
			p.kept++
		}
	}
}

func (p *planner) has(id string) bool {
	for i := range p.plan.Candidates {
		if p.plan.Candidates[i].ID == id {
			return true
		}
	}
	return false
}

// drill lets the first drill that is about a deployment have it.
func (p *planner) drill(c *Candidate) {
	for _, d := range p.ask.Drills {
		if d.Hits(c.Provider, c.ID) {
			c.Drill, c.HealthID = d, "drill:"+d.ID+"|"+c.ID
			return
		}
	}
}

// verdict holds a deployment against the rules, and only then looks at its condition: what is excluded
// for that satisfies every rule.
func (p *planner) verdict(c *Candidate) Reason {
	if reason := p.rules.verdict(&c.Target); reason != Kept {
		return reason
	}
	switch {
	case c.Limits.Drained:
		return IsDrained
	case c.Provider.Node != "" && !p.links(c.Provider.Node).Up:
		return NodeAway
	case c.Provider.Node != "" && p.links(c.Provider.Node).Resting:
		return NodeResting
	case p.ask.Live != nil && p.ask.Live.Look(c.HealthID).State == health.Open:
		return CircuitOpen
	default:
		return Kept
	}
}

// awaits says whether a deployment with this verdict satisfies every rule: it is kept, or only its present
// condition speaks against it.
func (r Reason) awaits() bool {
	return r == Kept || r == CircuitOpen || r == IsDrained || r == NodeAway || r == NodeResting
}

// arrange orders a model's deployments, most wanted first.
func (p *planner) arrange(list []Candidate, model *snapshot.Model) {
	if len(list) < 2 {
		return
	}
	s := *p.by
	if !p.primary && len(p.ask.Wish.Order) == 0 {
		s.turn = model.Name
	}
	p.balance(list)
	strategyOf(p.chosen()).sort(list, s)
	byRank(list, p.ask.Wish.Order)
	p.spare(list)
}

// chosen is the strategy in force: the client may say what to sort by.
func (p *planner) chosen() catalog.Strategy {
	if p.ask.Wish.Sort != "" {
		return p.ask.Wish.Sort
	}
	return p.rules.policy.Strategy
}

// compare applies the rules that look at a deployment beside the primary.
func (p *planner) compare(list []Candidate) {
	for i := range list {
		c := &list[i]
		switch {
		case !c.Excluded.awaits():
		case p.measured && p.rules.tooDear(&c.Target):
			c.Excluded = TooDear
		case !p.primary:
			p.primary = true
			p.measure(c)
		case !p.ask.Wish.AllowFallbacks && len(p.ask.Wish.Order) == 0:
			c.Excluded = NotWanted
		}
	}
}

// measure sets the ceiling, once.
func (p *planner) measure(c *Candidate) {
	if !p.measured {
		p.measured = true
		p.rules.measure(&c.Target)
	}
}

// measureOwn sets the ceiling by the route's own models where the request rules them all out: what it needs, or
// whom it does not want, must not make a dear equivalent the measure of itself.
func (p *planner) measureOwn() {
	for i := range p.plan.Candidates {
		if c := &p.plan.Candidates[i]; !p.measured && p.rules.admits(&c.Target) {
			p.measure(c)
		}
	}
}

// explore lets another than the fastest be the first now and then, so that what is known stays true.
func (p *planner) explore(list []Candidate) {
	if p.chosen() == catalog.Fastest && p.ask.Live != nil && p.ask.Draw != nil && len(p.ask.Wish.Order) == 0 {
		p.by.explore(list)
	}
}

// leastBad keeps the best of those that only their circuit excludes, where nothing else is left: a bad
// chance is better than none.
func (p *planner) leastBad() {
	if p.kept > 0 || p.ask.Live == nil {
		return
	}
	var best *Candidate
	var least float64
	for i := range p.plan.Candidates {
		c := &p.plan.Candidates[i]
		if c.Excluded != CircuitOpen {
			continue
		}
		if bad := p.ask.Live.Look(c.HealthID).Badness; best == nil || bad < least {
			best, least = c, bad
		}
	}
	if best != nil {
		best.Excluded = Kept
		p.kept = 1
	}
}

// bound excludes what lies beyond the number of attempts.
func (p *planner) bound() {
	most := p.rules.policy.Attempts.Total
	if p.kept <= most {
		return
	}
	for i := range p.plan.Candidates {
		if p.plan.Candidates[i].Excluded != Kept {
			continue
		}
		if most--; most < 0 {
			p.plan.Candidates[i].Excluded = TooManyTries
			p.kept--
		}
	}
}
