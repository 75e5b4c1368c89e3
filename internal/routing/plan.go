// Package routing is the pure planner: from a snapshot and what a request asks for it makes the list
// of deployments to try, in order, and says of every other why it is left out. It does no input or
// output and keeps no state.
package routing

import (
	"fmt"
	"slices"
	"time"

	"shareai/internal/account"
	"shareai/internal/catalog"
	"shareai/internal/fault"
	"shareai/internal/health"
	"shareai/internal/openai"
	"shareai/internal/snapshot"
)

// Ask is what one request asks for.
type Ask struct {
	Principal *account.Principal
	Endpoint  catalog.Endpoint
	Request   *openai.Request
	// Wish is the client's own say about providers, from the body and the headers.
	Wish Wish
	// Draw gives a number in [0, 1) for the weighted strategy.
	Draw func() float64
	// Needs is what the request demands beyond text.
	Needs openai.Needs
	// Count counts the tokens of the prompt with a tokenizer family's vocabulary. It is slow: it is asked
	// only where bytes can not decide. Nil: bytes decide.
	Count func(family string) int64
	// Live is what is known of the deployments at this moment. Nil: all are well.
	Live Live
	// Drills run for this caller now.
	Drills []*catalog.Drill
}

// Live is a view of the deployments' health. *health.Board is one.
type Live interface {
	Look(id string) health.View
	// Turn is the next number in [0, 1) of an evenly spread sequence for each name.
	Turn(name string) float64
}

// Reason says why a deployment is not a candidate.
type Reason string

// The reasons. A kept candidate has none.
const (
	Kept         Reason = ""
	NotPinned    Reason = "not_pinned"     // the key or the request is pinned to another
	NotWanted    Reason = "not_wanted"     // the request names other providers, or ignores this one
	WrongRegion  Reason = "region"         // outside the policy's regions
	KeepsData    Reason = "retention"      // keeps data longer than the policy accepts
	TooDear      Reason = "price"          // above the policy's price ratio or the request's ceiling
	TooManyTries Reason = "attempts_total" // beyond the policy's number of attempts
	CircuitOpen  Reason = "circuit"        // fails too often to be asked now
	IsDrained    Reason = "drained"        // takes no new requests
	Incapable    Reason = "capability"     // can not do what the request needs
	TooLong      Reason = "context_length" // the prompt and the wanted answer do not fit
	TooMuch      Reason = "max_output"     // answers are shorter than the request wants
	KeyForbids   Reason = "key"            // a model that the API key may not use
)

// Origin says why a deployment was considered.
type Origin string

// The origins. The deployments of the model itself have none.
const (
	OfModel      Origin = ""
	OfEquivalent Origin = "equivalent" // the equivalence map, Candidate.Grade says how close
	OfPolicy     Origin = "policy"     // a fallback of the policy
	OfRequest    Origin = "request"    // a fallback that the request names
)

// Candidate is a deployment with the planner's verdict.
type Candidate struct {
	snapshot.Target
	Excluded Reason
	Origin   Origin
	Grade    float64        // of an equivalent, 0 to 1
	Drill    *catalog.Drill // makes it fail; nil for none
	// HealthID is the name under which its health is kept: the deployment's id, within a drill the drill's
	// own, so that no one else is kept away.
	HealthID string
}

// Plan is what to try, in order.
type Plan struct {
	// Route is the stored route that matched; empty when the client named a plain model.
	Route      string
	Policy     *catalog.Policy
	Candidates []Candidate // kept and excluded, in the order in which they were considered
}

// Make plans a request. Its error is a *fault.Error for the client: an unknown model, one that the
// key may not use, or no deployment that satisfies every rule.
func Make(view *snapshot.Snapshot, ask Ask) (Plan, error) {
	route, err := find(view, ask)
	if err != nil {
		return Plan{}, err
	}
	plan := Plan{Policy: route.Policy, Candidates: make([]Candidate, 0, 4)}
	if route.Route.Policy != "" || len(route.Route.Models) > 0 {
		plan.Route = route.Name
	}
	pin := ask.Wish.Pin
	if ask.Principal.Key.Pin.Set() {
		pin = ask.Principal.Key.Pin
	}
	rules := rules{policy: route.Policy, pin: pin, wish: ask.Wish, estimate: estimate(ask.Request)}
	for _, model := range route.Models {
		plan.add(&rules, model, ask)
	}
	if ask.Wish.AllowFallbacks {
		for _, model := range route.Fallbacks {
			if !slices.Contains(route.Models, model) {
				plan.add(&rules, model, ask)
			}
		}
	}
	plan.bound(ask.Wish.AllowFallbacks)
	if !plan.any() {
		return plan, plan.nothingLeft(ask)
	}
	return plan, nil
}

// find resolves the client's name to a route that the caller may use.
func find(view *snapshot.Snapshot, ask Ask) (*snapshot.Route, error) {
	name := ask.Request.Model
	route, ok := view.Route(name)
	if !ok || !route.OpenTo(ask.Principal.Project.Organization, ask.Principal.Project.Name) {
		return nil, fault.New(fault.NotFound, "model_not_found",
			fmt.Sprintf("There is no model %q. GET /v1/models lists what this key may use.", clip(name))).About("model")
	}
	if !ask.Principal.Key.Allows(name) {
		return nil, fault.New(fault.Forbidden, "model_not_allowed",
			fmt.Sprintf("This API key may not use the model %q. GET /v1/models lists what it may use; whoever manages the key can allow more.", clip(name))).About("model")
	}
	if !route.Serves(ask.Endpoint) {
		return nil, fault.New(fault.Invalid, "endpoint_not_supported",
			fmt.Sprintf("%q does not serve the %s endpoint.", clip(name), ask.Endpoint)).About("model")
	}
	return route, nil
}

// clip bounds a name that a client sent before it is quoted back.
func clip(name string) string {
	const most = 100
	if len(name) <= most {
		return name
	}
	cut := most
	for cut > 0 && name[cut]&0xC0 == 0x80 { // not inside a character
		cut--
	}
	return name[:cut] + "…"
}

// add appends a model's deployments in the order of the policy's strategy, each with its verdict.
func (p *Plan) add(r *rules, model *snapshot.Model, ask Ask) {
	start := len(p.Candidates)
	for i := range model.Targets {
		p.Candidates = append(p.Candidates, Candidate{Target: model.Targets[i], Excluded: r.verdict(&model.Targets[i]), HealthID: model.Targets[i].ID})
	}
	added := p.Candidates[start:]
	sorter(p.Policy.Strategy).sort(added, p.Policy, ask)
	ask.Wish.sort(added)
	if r.primary == nil {
		r.primary = firstKept(added)
	}
	for i := range added {
		if added[i].Excluded == Kept && r.tooDear(&added[i].Target) {
			added[i].Excluded = TooDear
		}
	}
}

// bound excludes what lies beyond the number of attempts; without fallbacks that is all but the first.
func (p *Plan) bound(fallbacks bool) {
	most := p.Policy.Attempts.Total
	if !fallbacks {
		most = 1
	}
	for i := range p.Candidates {
		if p.Candidates[i].Excluded != Kept {
			continue
		}
		if most--; most < 0 {
			p.Candidates[i].Excluded = TooManyTries
		}
	}
}

func (p *Plan) any() bool { return firstKept(p.Candidates) != nil }

func firstKept(list []Candidate) *snapshot.Target {
	for i := range list {
		if list[i].Excluded == Kept {
			return &list[i].Target
		}
	}
	return nil
}

// retryPolicy is the Retry-After when a policy leaves no deployment: somebody has to change it.
const retryPolicy = 30 * time.Second

// nothingLeft explains an empty plan. What the request itself ruled out is the caller's to change, and
// no retry helps; what the policy ruled out, the operator's.
func (p *Plan) nothingLeft(ask Ask) error {
	reasons, ruledOut := "", true
	for _, c := range p.Candidates {
		if reasons != "" {
			reasons += ", "
		}
		reasons += c.Provider.Name + ": " + string(c.Excluded)
		ruledOut = ruledOut && (c.Excluded == NotWanted || c.Excluded == NotPinned && !ask.Principal.Key.Pin.Set())
	}
	if ruledOut {
		return fault.New(fault.Invalid, "no_candidate",
			fmt.Sprintf("The request's own choice of providers leaves none for %q (%s). Name others.", clip(ask.Request.Model), reasons)).About("provider")
	}
	e := fault.New(fault.Unavailable, "no_candidate",
		fmt.Sprintf("No deployment of %q satisfies the policy %q and this request (%s).", clip(ask.Request.Model), p.Policy.Name, reasons)).About("model")
	e.RetryAfter = retryPolicy
	return e
}
