package routing

import (
	"fmt"
	"slices"
	"strings"

	"shareai/internal/catalog"
	"shareai/internal/fault"
)

// unwanted explains a plan that the request's own choice of providers and prices has emptied. It speaks of
// the deployments that came closest: those that satisfy most of the request.
func (p *planner) unwanted() error {
	w, model := &p.ask.Wish, clip(p.ask.Request.Model)
	refuse := func(param, format string, args ...any) error {
		return fault.New(fault.Invalid, "no_candidate", fmt.Sprintf(format, args...)+" ("+p.reasons()+").").About(param)
	}
	for _, reason := range [...]Reason{TooDear, NotWanted, KeepsData, NotPinned} {
		at := slices.IndexFunc(p.plan.Candidates, func(c Candidate) bool { return c.Excluded == reason && p.ofRequest(&c) })
		if at < 0 {
			continue
		}
		c := &p.plan.Candidates[at]
		switch reason {
		case TooDear:
			return p.overCeiling()
		case NotWanted:
			param := w.refusing(c).of(p.ask.Request)
			return refuse(param, "%s leaves out every deployment that may serve %q. Allow one of them", param, model)
		case KeepsData:
			param := dataMember.of(p.ask.Request)
			return refuse(param, "%s asks for a provider that keeps nothing, and none that may serve %q declares so. Do without, or use another model", param, model)
		default:
			return refuse(PinHeader, "The request is pinned to %s, where %q is not served. Pin it to another, or leave the header %s out", clip(w.Pin.String()), model, PinHeader)
		}
	}
	return refuse("provider", "The request's own choice of providers leaves none for %q. Name others", model)
}

// refusing is the member of the wish that leaves a deployment out.
func (w *Wish) refusing(c *Candidate) member {
	names := func(name string) bool { return named(&c.Target, name) }
	switch {
	case slices.ContainsFunc(w.Ignore, names):
		return ignoreMember
	case len(w.Only) > 0 && !slices.ContainsFunc(w.Only, names):
		return onlyMember
	default:
		return orderMember
	}
}

// overCeiling names the cheapest of the deployments that are above the request's own ceiling.
func (p *planner) overCeiling() error {
	var cheapest *Candidate
	for i := range p.plan.Candidates {
		c := &p.plan.Candidates[i]
		if c.Excluded != TooDear || !p.ask.Wish.tooDear(&c.Target) {
			continue
		}
		if cheapest == nil || c.Deployment.Price.Cost(p.rules.tokens) < cheapest.Deployment.Price.Cost(p.rules.tokens) {
			cheapest = c
		}
	}
	param, price := priceMember.of(p.ask.Request), &cheapest.Deployment.Price
	return fault.New(fault.Invalid, "no_candidate", fmt.Sprintf(
		"Every deployment that may serve %q costs more than %s allows. The cheapest is %s, at %s US dollars per million tokens of the prompt and %s of the answer (%s). Raise it, or use another model.",
		clip(p.ask.Request.Model), param, cheapest.ID, catalog.FormatUSD(price.Input), catalog.FormatUSD(price.Output), p.reasons())).About(param)
}

// remedy says what can be done where it is not the request that leaves nothing: by whoever runs the gateway, or by
// waiting.
func (p *planner) remedy() string {
	policy := p.rules.policy
	var says []string
	for i := range p.plan.Candidates {
		text := ""
		switch p.plan.Candidates[i].Excluded {
		case IsDrained, NodeResting:
			return "What could serve it takes no new requests at the moment: try again later."
		case NodeAway:
			return "The node that could serve it is not connected: start its agent, or try again later."
		case NotPinned:
			text = "the API key is pinned to " + p.ask.pin().String()
		case Community:
			text = "the policy does not let nodes of other organizations see prompts"
		case WrongRegion:
			text = "the policy admits the regions " + strings.Join(policy.Regions, ", ")
		case KeepsData:
			text = "the policy accepts the retention " + strings.Join(policy.Retention, ", ")
		case TooDear:
			text = fmt.Sprintf("a fallback may cost %g times the primary", policy.MaxPriceRatio)
		case KeyForbids:
			text = "the API key may not use the fallbacks that the request names"
		}
		if text != "" && !slices.Contains(says, text) {
			says = append(says, text)
		}
	}
	if len(says) == 0 {
		return "Whoever runs the gateway can change that."
	}
	text := strings.Join(says, "; ")
	return strings.ToUpper(text[:1]) + text[1:] + ". Whoever runs the gateway can change that, or use another model."
}
