// Package routing is the pure planner: from a snapshot and what a request asks for it makes the list
// of deployments to try, in order, and says of every other why it is left out. It does no input or
// output and keeps no state.
package routing

import (
	"fmt"
	"iter"

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
	// Draw gives a random number in [0, 1), for the strategies weighted and latency.
	Draw func() float64
	// Needs is what the request demands beyond text.
	Needs openai.Needs
	// Count counts the tokens of the prompt with a tokenizer family's vocabulary. It is slow: it is asked
	// only where bytes can not decide. Nil: bytes decide.
	Count func(family string) int64
	// Live is what is known of the deployments at this moment. Nil: all are well.
	Live Live
	// Links tell how nodes are doing. Nil: none is there.
	Links Links
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
	Community    Reason = "community"      // a node of another organization, and the policy does not let it see prompts
	KeepsData    Reason = "retention"      // keeps data longer than the policy accepts
	TooDear      Reason = "price"          // above the policy's price ratio or the request's ceiling
	TooManyTries Reason = "attempts_total" // beyond the policy's number of attempts
	CircuitOpen  Reason = "circuit"        // fails too often to be asked now
	IsDrained    Reason = "drained"        // takes no new requests
	NodeAway     Reason = "node_away"      // the node is not connected
	NodeResting  Reason = "node_resting"   // the node is connected, and its owner has it serve at other times
	Incapable    Reason = "capability"     // can not do what the request needs
	TooLong      Reason = "context_length" // the prompt and the wanted answer do not fit
	TooMuch      Reason = "max_output"     // answers are shorter than the request wants
	KeyForbids   Reason = "key"            // a fallback of the request that its API key may not use
	OverBudget   Reason = "budget"         // set by the gateway: a budget is used up, and there is a cheaper one
	AtCapacity   Reason = "capacity"       // set by attempt: it serves as much as it can, and the caller has his share
	NoKey        Reason = "provider_keys"  // set by attempt: every key of the provider is rejected or limited
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
	Mode       health.Mode // how the request's latency is measured
	Candidates []Candidate // kept and excluded, in the order in which they were considered
}

// Kept goes through the candidates that are to be tried, in order.
func (p *Plan) Kept() iter.Seq[*Candidate] {
	return func(yield func(*Candidate) bool) {
		for i := range p.Candidates {
			if c := &p.Candidates[i]; c.Excluded == Kept && !yield(c) {
				return
			}
		}
	}
}

// Make plans a request. Its error is a *fault.Error for the client: an unknown model, one that the
// key may not use, or no deployment that satisfies every rule. Where no deployment does, the plan says
// why for each.
func Make(view *snapshot.Snapshot, ask Ask) (Plan, error) {
	route, err := find(view, &ask)
	if err != nil {
		return Plan{}, err
	}
	if err := checkPlaces(view, &ask, route); err != nil {
		return Plan{}, err
	}
	named, err := fallbacksOf(view, &ask)
	if err != nil {
		return Plan{}, err
	}
	plan := Plan{Policy: route.Policy, Mode: health.WholeAnswer, Candidates: make([]Candidate, 0, room(route))}
	if ask.Request.Stream {
		plan.Mode = health.FirstToken
	}
	if route.Route.Policy != "" || len(route.Route.Models) > 0 {
		plan.Route = route.Name
	}
	p := planner{ask: &ask, rules: rulesOf(route.Policy, &ask), plan: &plan}
	p.by = &sorting{policy: route.Policy, tokens: p.rules.tokens, live: ask.Live, mode: plan.Mode, draw: ask.Draw}
	for _, model := range route.Models {
		p.consider(source{model: model})
	}
	p.measureOwn()
	if ask.Wish.AllowFallbacks {
		p.equivalents(route)
		for _, model := range route.Fallbacks {
			p.fallBack(source{model: model, origin: OfPolicy})
		}
		for _, s := range named {
			p.fallBack(s)
		}
	}
	p.leastBad()
	p.bound()
	if p.kept == 0 {
		return plan, p.nothingLeft()
	}
	return plan, nil
}

// room is how many candidates a plan for the route usually has.
func room(route *snapshot.Route) int {
	n := 2
	for _, m := range route.Models {
		n += len(m.Targets)
	}
	return n
}

// find resolves the client's name to a route that the caller may use.
func find(view *snapshot.Snapshot, ask *Ask) (*snapshot.Route, error) {
	name := ask.Request.Model
	route, ok := view.RouteOf(ask.Principal.Project.Organization, name)
	if !ok || !route.OpenTo(ask.Principal.Project.Organization, ask.Principal.Project.Name) {
		return nil, fault.New(fault.NotFound, "model_not_found",
			fmt.Sprintf("There is no model %q. GET /v1/models lists what this key may use.", clip(name))).About("model")
	}
	if !ask.Principal.Key.Allows(name) {
		return nil, fault.New(fault.Forbidden, "model_not_allowed",
			fmt.Sprintf("This API key may not use the model %q. GET /v1/models lists what it may use; whoever manages the key can allow more.", clip(name))).About("model")
	}
	if pin := ask.Principal.Key.Pin; !route.At(pin) {
		return nil, fault.New(fault.Forbidden, "model_not_allowed",
			fmt.Sprintf("This API key is pinned to %s, where %q is not served. GET /v1/models lists what it may use; whoever manages the key can change it.", pin, clip(name))).About("model")
	}
	if !route.Serves(ask.Endpoint) {
		return nil, notServed(name, "model", ask.Endpoint)
	}
	return route, nil
}

// fallbacksOf resolves the fallbacks that the request itself names, those that its key may use first. A
// name that does not exist is refused even where it would not be needed: better now than in an outage.
func fallbacksOf(view *snapshot.Snapshot, ask *Ask) ([]source, error) {
	var allowed, forbidden []source
	for _, f := range ask.Wish.Fallbacks {
		route, ok := view.RouteOf(ask.Principal.Project.Organization, f.Model)
		if !ok || !route.OpenTo(ask.Principal.Project.Organization, ask.Principal.Project.Name) {
			return nil, fault.New(fault.Invalid, "model_not_found",
				fmt.Sprintf("There is no model %q, which the request names as a fallback. GET /v1/models lists what this key may use.", clip(f.Model))).About(f.Param)
		}
		if !route.Serves(ask.Endpoint) {
			return nil, notServed(f.Model, f.Param, ask.Endpoint)
		}
		for _, m := range route.Models {
			s := source{model: m, origin: OfRequest}
			if ask.Principal.Key.Allows(f.Model) {
				allowed = append(allowed, s)
			} else {
				s.verdict = KeyForbids
				forbidden = append(forbidden, s)
			}
		}
	}
	return append(allowed, forbidden...), nil
}

func notServed(name, param string, endpoint catalog.Endpoint) error {
	return fault.New(fault.Invalid, "endpoint_not_supported",
		fmt.Sprintf("%q does not serve the %s endpoint.", clip(name), endpoint)).About(param)
}

// clip bounds a name that a client sent before it is quoted back.
func clip(name string) string { return fault.Clip(name, 100) }
