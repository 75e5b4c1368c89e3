package routing

import (
	"slices"

	"shareai/internal/account"
	"shareai/internal/catalog"
	"shareai/internal/openai"
	"shareai/internal/snapshot"
)

// AssumedOutput is the answer length, in tokens, of a request that sets no limit, where prices are weighed against
// each other and where limits are taken from before the answer is known.
const AssumedOutput = 512

// estimate guesses the tokens of a request.
func estimate(r *openai.Request) catalog.Tokens {
	t := catalog.Tokens{Prompt: r.PromptTokens(), Completion: r.MaxTokens, Estimated: true}
	if t.Completion == 0 {
		t.Completion = AssumedOutput
	}
	return t
}

// rules are what every candidate must satisfy, fallbacks included.
type rules struct {
	policy *catalog.Policy
	pin    account.Pin
	wish   *Wish
	// needs is what a deployment must be able to do where its abilities are known, and avoids what it must
	// not be known to lack.
	needs, avoids catalog.CapabilitySet
	text          bool  // the answer is text, which a model that only makes vectors has not
	output        int64 // the wanted length of the answer, in tokens; 0: no matter
	length        length
	tokens        catalog.Tokens
	ceiling       float64 // of the cost of a fallback for this request, in nano-dollars; 0: none
}

func rulesOf(policy *catalog.Policy, ask *Ask) rules {
	r := rules{policy: policy, pin: ask.pin(), wish: &ask.Wish, tokens: estimate(ask.Request), length: lengthOf(ask)}
	if ask.Endpoint != catalog.Embeddings {
		r.text, r.output = true, ask.Request.MaxTokens
	}
	r.needs, r.avoids = needsOf(ask)
	return r
}

// needsOf returns the capabilities that a request needs. Nearly every engine gives several choices and
// log probabilities, and few lists of capabilities say so: they count only where they are known to lack.
func needsOf(ask *Ask) (needs, avoids catalog.CapabilitySet) {
	n, several := ask.Needs, ask.Request.N > 1
	if ask.Endpoint != catalog.Embeddings && !several && n == (openai.Needs{}) {
		return 0, 0
	}
	for _, c := range []struct {
		wanted     bool
		capability catalog.Capability
	}{
		{n.Tools, catalog.Tools},
		{n.Vision, catalog.Vision},
		{n.Audio, catalog.Audio},
		{n.JSONSchema, catalog.JSONSchema},
		{n.Reasoning, catalog.Reasoning},
		{ask.Endpoint == catalog.Embeddings, catalog.Embedding},
	} {
		if c.wanted {
			needs |= catalog.SetOf(c.capability)
		}
	}
	avoids = needs
	if several {
		avoids |= catalog.SetOf(catalog.Choices)
	}
	if n.Logprobs {
		avoids |= catalog.SetOf(catalog.Logprobs)
	}
	return needs, avoids
}

// missing returns what the request needs and a deployment can not do.
func (r *rules) missing(l *snapshot.Limits) catalog.CapabilitySet {
	missing := r.avoids & l.Lacks
	if l.Known {
		missing |= r.needs &^ l.Can
	}
	return missing
}

// verdict applies the rules that look at one deployment alone. Rules of the operator come before those that
// the request can satisfy by asking for less.
func (r *rules) verdict(t *snapshot.Target) Reason {
	switch {
	case !t.At(r.pin):
		return NotPinned
	case !r.community(t):
		return Community
	case !r.inRegion(t):
		return WrongRegion
	case !acceptsRetention(r.policy.Retention, t.Provider.Retention), !r.wish.acceptsRetention(t):
		return KeepsData
	case !r.wish.accepts(t):
		return NotWanted
	case r.wish.tooDear(t):
		return TooDear
	case r.missing(&t.Limits) != 0, r.text && onlyEmbeds(&t.Limits):
		return Incapable
	case t.Limits.MaxOutput > 0 && r.output > t.Limits.MaxOutput:
		return TooMuch
	case r.length.exceeds(&t.Limits):
		return TooLong
	default:
		return Kept
	}
}

// admits says whether the operator's rules let a deployment serve, whatever the request needs of it.
func (r *rules) admits(t *snapshot.Target) bool {
	return t.At(r.pin) && r.community(t) && r.inRegion(t) && acceptsRetention(r.policy.Retention, t.Provider.Retention)
}

// community says whether the policy lets the deployment see prompts, be it another organization's.
func (r *rules) community(t *snapshot.Target) bool {
	return t.Provider.Community == "" || r.policy.Community == catalog.CommunityAllow
}

func (r *rules) inRegion(t *snapshot.Target) bool {
	return len(r.policy.Regions) == 0 || slices.Contains(r.policy.Regions, t.Provider.Region)
}

// onlyEmbeds says whether a deployment is known to make vectors and no text.
func onlyEmbeds(l *snapshot.Limits) bool {
	return l.Known && l.Can == catalog.SetOf(catalog.Embedding)
}

// acceptsRetention holds a provider's declared retention against the accepted ones. A provider that
// declares nothing counts as unknown.
func acceptsRetention(accepted []string, declared string) bool {
	if declared == "" {
		declared = "unknown"
	}
	return len(accepted) == 0 || slices.Contains(accepted, declared)
}

// measure sets the ceiling for the price of fallbacks by the primary. A primary that costs nothing sets
// none: a multiple of nothing would leave it without any priced fallback.
func (r *rules) measure(primary *snapshot.Target) {
	if r.policy.MaxPriceRatio > 0 {
		r.ceiling = r.policy.MaxPriceRatio * float64(primary.Deployment.Price.Cost(r.tokens))
	}
}

// tooDear compares the cost of this request at a fallback with the ceiling.
func (r *rules) tooDear(t *snapshot.Target) bool {
	return r.ceiling > 0 && float64(t.Deployment.Price.Cost(r.tokens)) > r.ceiling
}
