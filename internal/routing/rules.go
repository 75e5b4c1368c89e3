package routing

import (
	"slices"

	"shareai/internal/account"
	"shareai/internal/catalog"
	"shareai/internal/openai"
	"shareai/internal/snapshot"
)

// bytesPerToken is the usual length of a token of English text or code in today's vocabularies. It
// only weighs prices against each other here; money is settled on reported tokens.
const bytesPerToken = 4

// assumedOutput is the answer length, in tokens, of a request that sets no limit.
const assumedOutput = 512

// estimate guesses the tokens of a request.
func estimate(r *openai.Request) catalog.Tokens {
	t := catalog.Tokens{Prompt: int64(r.PromptBytes)/bytesPerToken + 1, Completion: r.MaxTokens, Estimated: true}
	if t.Completion == 0 {
		t.Completion = assumedOutput
	}
	return t
}

// rules are what every candidate must satisfy, fallbacks included.
type rules struct {
	policy   *catalog.Policy
	pin      account.Pin
	wish     Wish
	estimate catalog.Tokens
	primary  *snapshot.Target // the first kept candidate: price ratios are measured against it
}

// verdict applies the rules that look at one deployment alone.
func (r *rules) verdict(t *snapshot.Target) Reason {
	switch {
	case r.pin.Set() && (t.Provider.Name != r.pin.Provider || r.pin.Model != "" && t.Deployment.Model != r.pin.Model):
		return NotPinned
	case !r.wish.accepts(t.Provider.Name):
		return NotWanted
	case len(r.policy.Regions) > 0 && !slices.Contains(r.policy.Regions, t.Provider.Region):
		return WrongRegion
	case !acceptsRetention(r.policy.Retention, t.Provider.Retention):
		return KeepsData
	default:
		return Kept
	}
}

// acceptsRetention holds a provider's declared retention against the accepted ones. A provider that
// declares nothing counts as unknown.
func acceptsRetention(accepted []string, declared string) bool {
	if declared == "" {
		declared = "unknown"
	}
	return len(accepted) == 0 || slices.Contains(accepted, declared)
}

// tooDear compares a fallback's price on this request's tokens with the primary's. A primary that costs
// nothing sets no ceiling: a multiple of nothing would leave it without any priced fallback.
func (r *rules) tooDear(t *snapshot.Target) bool {
	if r.policy.MaxPriceRatio == 0 || r.primary == nil {
		return false
	}
	cost := r.primary.Deployment.Price.Cost(r.estimate)
	return cost > 0 && float64(t.Deployment.Price.Cost(r.estimate)) > r.policy.MaxPriceRatio*float64(cost)
}
