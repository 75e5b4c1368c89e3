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
// whole cost is ever rounded, once for each kind of token that has a price of its own.
//
// Input, Output and CachedInput always count. Of the kinds after them, 0 means that the kind has no price of its own and
// is charged like what it is a part of (cache writes and audio like Input, CacheWrite1h like CacheWrite, reasoning and
// audio like Output), and Free that it costs nothing.
type Price struct {
	Input       int64 `json:"input"`
	Output      int64 `json:"output"`
	CachedInput int64 `json:"cached_input"` // prompt tokens that the provider read from its cache

	CacheWrite   int64 `json:"cache_write,omitempty"`    // prompt tokens that the provider wrote into its cache
	CacheWrite1h int64 `json:"cache_write_1h,omitempty"` // of those: for an hour instead of minutes
	Reasoning    int64 `json:"reasoning,omitempty"`
	AudioInput   int64 `json:"audio_input,omitempty"`
	AudioOutput  int64 `json:"audio_output,omitempty"`

	Request int64 `json:"request,omitempty"` // nano-dollars for each answer that is paid for, besides its tokens
	// Above is what holds for longer prompts; nil: the same.
	Above *Above `json:"above,omitempty"`
}

// Above is the price of requests whose prompt has more than so many tokens. It holds for all of their tokens, not for
// those beyond the limit alone.
type Above struct {
	Tokens int64 `json:"tokens"`
	Price
}

// Free is the price of a kind that costs nothing although it is a part of one that costs something.
const Free = -1

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
// the price has changed. What a price does not have leaves no trace in it.
func (p Price) Version() string {
	sum := sha256.Sum256(p.appendContent(nil))
	return hex.EncodeToString(sum[:6])
}

func (p *Price) appendContent(dst []byte) []byte {
	dst = fmt.Appendf(dst, "%d/%d/%d", p.Input, p.Output, p.CachedInput)
	for i, own := range [...]int64{p.CacheWrite, p.CacheWrite1h, p.Reasoning, p.AudioInput, p.AudioOutput, p.Request} {
		if own != 0 {
			dst = fmt.Appendf(dst, " %d:%d", i, own)
		}
	}
	if p.Above != nil {
		dst = p.Above.appendContent(fmt.Appendf(dst, " >%d:", p.Above.Tokens))
	}
	return dst
}

// Tokens counts the tokens of one answer. Cached, CacheWrite and AudioInput are parts of Prompt, Reasoning and
// AudioOutput parts of Completion, CacheWrite1h is a part of CacheWrite.
type Tokens struct {
	Prompt       int64 `json:"prompt"`
	Cached       int64 `json:"cached,omitempty"`
	CacheWrite   int64 `json:"cache_write,omitempty"`
	CacheWrite1h int64 `json:"cache_write_1h,omitempty"`
	AudioInput   int64 `json:"audio_input,omitempty"`
	Completion   int64 `json:"completion"`
	Reasoning    int64 `json:"reasoning,omitempty"`
	AudioOutput  int64 `json:"audio_output,omitempty"`
	// Estimated says that the provider reported no usage, or not all of it, and counts are ours.
	Estimated bool `json:"estimated,omitempty"`
}

// Add returns the sum of both counts. It is estimated when either part is.
func (t Tokens) Add(o Tokens) Tokens {
	return Tokens{
		Prompt: t.Prompt + o.Prompt, Cached: t.Cached + o.Cached,
		CacheWrite: t.CacheWrite + o.CacheWrite, CacheWrite1h: t.CacheWrite1h + o.CacheWrite1h,
		AudioInput: t.AudioInput + o.AudioInput, Completion: t.Completion + o.Completion,
		Reasoning: t.Reasoning + o.Reasoning, AudioOutput: t.AudioOutput + o.AudioOutput,
		Estimated: t.Estimated || o.Estimated,
	}
}

// Cost returns what the tokens cost in nano-dollars, each kind rounded once, half up. No token is charged twice: of a
// prompt, what was read from the cache goes first, then what was written into it, then audio; of an answer, audio and
// then reasoning. What says that it is more than the whole counts as the whole.
func (p Price) Cost(t Tokens) int64 {
	at := p.of(t.Prompt)
	cost := at.Request
	input := max(t.Prompt, 0)
	cached := part(&input, t.Cached)
	written := part(&input, t.CacheWrite)
	hour := part(&written, t.CacheWrite1h)
	audio := part(&input, t.AudioInput)
	cost = saturate(cost, perMillion(cached, at.CachedInput))
	cost = saturate(cost, own(&written, hour, at.CacheWrite1h))
	cost = saturate(cost, own(&input, written, at.CacheWrite))
	cost = saturate(cost, own(&input, audio, at.AudioInput))
	cost = saturate(cost, perMillion(input, at.Input))

	output := max(t.Completion, 0)
	audio = part(&output, t.AudioOutput)
	reasoning := part(&output, t.Reasoning)
	cost = saturate(cost, own(&output, audio, at.AudioOutput))
	cost = saturate(cost, own(&output, reasoning, at.Reasoning))
	return saturate(cost, perMillion(output, at.Output))
}

// Most returns the most that the tokens can cost, whatever kinds they turn out to be of: audio only where the counts
// say that there is some.
func (p Price) Most(t Tokens) int64 {
	at := *p.of(t.Prompt)
	at.Input = max(at.Input, at.CachedInput, at.CacheWrite, at.CacheWrite1h)
	at.Output = max(at.Output, at.Reasoning)
	if t.AudioInput > 0 {
		at.Input = max(at.Input, at.AudioInput)
	}
	if t.AudioOutput > 0 {
		at.Output = max(at.Output, at.AudioOutput)
	}
	return saturate(at.Request, saturate(perMillion(t.Prompt, at.Input), perMillion(t.Completion, at.Output)))
}

// of is the price that holds for a prompt of so many tokens.
func (p *Price) of(prompt int64) *Price {
	for p.Above != nil && prompt > p.Above.Tokens {
		p = &p.Above.Price
	}
	return p
}

// part takes a part out of a whole.
func part(whole *int64, n int64) int64 {
	n = min(max(n, 0), *whole)
	*whole -= n
	return n
}

// own is the cost of a kind at its own price. Where it has none, its tokens become like all the others.
func own(others *int64, tokens, price int64) int64 {
	if price == 0 {
		*others += tokens
		return 0
	}
	return perMillion(tokens, price)
}

// saturate adds costs, which are never negative.
func saturate(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
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
