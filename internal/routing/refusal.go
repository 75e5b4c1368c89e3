package routing

import (
	"fmt"
	"strings"
	"time"

	"shareai/internal/catalog"
	"shareai/internal/fault"
)

// retryPolicy is the Retry-After when a policy or the condition of the deployments leaves none: somebody
// has to change it.
const retryPolicy = 30 * time.Second

// nothingLeft explains an empty plan. What the request itself ruled out is the caller's to change, and
// no retry helps; what the policy ruled out, the operator's. What is only drained or away comes back.
func (p *planner) nothingLeft() error {
	var asked, later bool
	var incapable, short, long *Candidate
	for i := range p.plan.Candidates {
		c := &p.plan.Candidates[i]
		switch {
		case c.Excluded == IsDrained, c.Excluded == NodeAway, c.Excluded == NodeResting:
			later = true
		case !p.ofRequest(c):
			continue
		case c.Excluded == TooLong && (long == nil || c.Limits.Context > long.Limits.Context):
			long = c
		case c.Excluded == TooMuch && (short == nil || c.Limits.MaxOutput > short.Limits.MaxOutput):
			short = c
		case c.Excluded == Incapable && incapable == nil:
			incapable = c
		}
		asked = true
	}
	switch {
	case later || !asked:
		return p.unavailable()
	case long != nil:
		return p.tooLong(long)
	case short != nil:
		return p.tooMuch(short)
	case incapable != nil:
		return p.incapable(incapable)
	default:
		return p.unwanted()
	}
}

// ofRequest says whether the request could be changed so that the deployment would be kept.
func (p *planner) ofRequest(c *Candidate) bool {
	w := &p.ask.Wish
	switch c.Excluded {
	case NotWanted, Incapable, TooLong, TooMuch:
		return true
	case NotPinned:
		return !p.ask.Principal.Key.Pin.Set()
	case TooDear:
		return w.tooDear(&c.Target)
	case KeepsData:
		return acceptsRetention(p.rules.policy.Retention, c.Provider.Retention)
	default:
		return false
	}
}

func (p *planner) unavailable() error {
	e := fault.New(fault.Unavailable, "no_candidate",
		fmt.Sprintf("No deployment of %q satisfies the policy %q and this request (%s). %s", clip(p.ask.Request.Model), p.rules.policy.Name, p.reasons(), p.remedy())).About("model")
	e.RetryAfter = retryPolicy
	return e
}

// tooLong has the code and the parameter by which clients know that they have to shorten the history.
func (p *planner) tooLong(largest *Candidate) error {
	answer := ""
	if n := p.rules.length.answer; n > 0 {
		answer = fmt.Sprintf(" and asks for an answer of up to %d", n)
	}
	return fault.New(fault.Invalid, "context_length_exceeded",
		fmt.Sprintf("This request is too long for %q: its prompt has about %d tokens%s, and the largest context that may serve it has %d (%s). Shorten the prompt, ask for a shorter answer, or use a model with a larger context.",
			clip(p.ask.Request.Model), p.rules.length.known(), answer, largest.Limits.Context, largest.ID)).About(promptOf(p.ask.Endpoint))
}

func promptOf(e catalog.Endpoint) string {
	switch e {
	case catalog.Embeddings, catalog.Responses:
		return "input"
	case catalog.Completions:
		return "prompt"
	default:
		return "messages"
	}
}

func (p *planner) tooMuch(longest *Candidate) error {
	param := "max_tokens"
	if raw, ok := p.ask.Request.Field("max_completion_tokens"); ok && raw[0] != 'n' {
		param = "max_completion_tokens"
	}
	return fault.New(fault.Invalid, "no_candidate",
		fmt.Sprintf("The request asks for an answer of up to %d tokens, and no deployment of %q that may serve it gives more than %d (%s). Lower %s.",
			p.rules.output, clip(p.ask.Request.Model), longest.Limits.MaxOutput, longest.ID, param)).About(param)
}

func (p *planner) incapable(c *Candidate) error {
	missing := p.rules.missing(&c.Limits).List()
	if len(missing) == 0 {
		return fault.New(fault.Invalid, "no_candidate",
			fmt.Sprintf("%q makes embeddings only, no text (%s). Use another model here, or send it to /v1/embeddings.", clip(p.ask.Request.Model), p.reasons())).About("model")
	}
	offers := ""
	if can := c.Limits.Can &^ c.Limits.Lacks; can != 0 {
		offers = ", and offers " + words(can.List())
	}
	return fault.New(fault.Invalid, "no_candidate",
		fmt.Sprintf("No deployment of %q that may serve this request can do what it needs: %s lacks %s%s (%s). Use another model, or do without.",
			clip(p.ask.Request.Model), c.ID, words(missing), offers, p.reasons())).About(p.paramOf(missing))
}

// paramOf is the parameter by which a request asks for a capability.
func (p *planner) paramOf(missing []catalog.Capability) string {
	if len(missing) == 0 {
		return "model"
	}
	switch missing[0] {
	case catalog.Tools:
		if _, ok := p.ask.Request.Field("tools"); ok {
			return "tools"
		}
		if _, ok := p.ask.Request.Field("functions"); ok { // the older form
			return "functions"
		}
		return "tools"
	case catalog.JSONSchema:
		return "response_format"
	case catalog.Vision, catalog.Audio:
		return promptOf(p.ask.Endpoint)
	case catalog.Reasoning:
		return "reasoning_effort"
	case catalog.Choices:
		return "n"
	case catalog.Logprobs:
		return "logprobs"
	default:
		return "model"
	}
}

func words(list []catalog.Capability) string {
	texts := make([]string, len(list))
	for i, c := range list {
		texts[i] = string(c)
	}
	return strings.Join(texts, ", ")
}

// mostReasons bounds the list in a message.
const mostReasons = 8

// reasons lists the deployments with what excludes each.
func (p *planner) reasons() string {
	var b strings.Builder
	for i, c := range p.plan.Candidates {
		if i == mostReasons {
			b.WriteString(", …")
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(c.ID + ": " + string(c.Excluded))
	}
	if b.Len() == 0 {
		return "it has none"
	}
	return b.String()
}
