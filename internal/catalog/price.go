package catalog

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"math/bits"
	"strconv"
)

// Price is what a deployment charges, in nano-dollars per million tokens: USD 0.59 per million
// tokens is 590,000,000. A cheap model costs a fraction of a nano-dollar per token, so that only a
// whole cost is ever rounded, once for each kind of token.
type Price struct {
	Input       int64 `json:"input"`
	Output      int64 `json:"output"`
	CachedInput int64 `json:"cached_input"` // prompt tokens that the provider read from its cache
}

// MaxUSDPerMillion bounds a price, so that a cost always fits an int64.
const MaxUSDPerMillion = 1_000_000

// NanoPerMillion converts USD per million tokens into a price.
func NanoPerMillion(usd float64) (int64, error) {
	if math.IsNaN(usd) || usd < 0 || usd > MaxUSDPerMillion {
		return 0, fmt.Errorf("a price is between 0 and %d USD per million tokens", MaxUSDPerMillion)
	}
	return int64(math.Round(usd * 1e9)), nil
}

// Version identifies the price by its content: records keep it, so that a cost can be explained after
// the price has changed.
func (p Price) Version() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d/%d/%d", p.Input, p.Output, p.CachedInput))
	return hex.EncodeToString(sum[:6])
}

// Tokens counts the tokens of one answer. Cached is a part of Prompt, Reasoning a part of Completion.
type Tokens struct {
	Prompt     int64 `json:"prompt"`
	Cached     int64 `json:"cached,omitempty"`
	Completion int64 `json:"completion"`
	Reasoning  int64 `json:"reasoning,omitempty"`
	// Estimated says that the provider reported no usage and the counts are ours.
	Estimated bool `json:"estimated,omitempty"`
}

// Add returns the sum of both counts. It is estimated when either part is.
func (t Tokens) Add(o Tokens) Tokens {
	return Tokens{
		Prompt: t.Prompt + o.Prompt, Cached: t.Cached + o.Cached,
		Completion: t.Completion + o.Completion, Reasoning: t.Reasoning + o.Reasoning,
		Estimated: t.Estimated || o.Estimated,
	}
}

// Cost returns what the tokens cost in nano-dollars, each kind rounded once, half up.
func (p Price) Cost(t Tokens) int64 {
	cached := min(max(t.Cached, 0), max(t.Prompt, 0))
	return perMillion(t.Prompt-cached, p.Input) + perMillion(cached, p.CachedInput) + perMillion(t.Completion, p.Output)
}

// perMillion is tokens × price / 1,000,000 in 128 bits, rounded half up and saturating.
func perMillion(tokens, price int64) int64 {
	if tokens <= 0 || price <= 0 {
		return 0
	}
	hi, lo := bits.Mul64(uint64(tokens), uint64(price))
	lo, carry := bits.Add64(lo, 500_000, 0)
	hi += carry
	if hi >= 1_000_000 {
		return math.MaxInt64
	}
	quotient, _ := bits.Div64(hi, lo, 1_000_000)
	return int64(min(quotient, math.MaxInt64))
}

// FormatUSD writes nano-dollars as a decimal number of dollars without loss: 1500 is 0.0000015.
func FormatUSD(nano int64) string { return string(AppendUSD(nil, nano)) }

// AppendUSD appends FormatUSD to dst.
func AppendUSD(dst []byte, nano int64) []byte {
	u := uint64(nano)
	if nano < 0 {
		dst, u = append(dst, '-'), -u
	}
	dst = strconv.AppendUint(dst, u/1_000_000_000, 10)
	rest := u % 1_000_000_000
	if rest == 0 {
		return dst
	}
	dst = append(dst, '.')
	for unit := uint64(100_000_000); rest > 0; unit /= 10 {
		dst = append(dst, byte('0'+rest/unit))
		rest %= unit
	}
	return dst
}
