package catalog

import (
	"encoding/json"
	"math"
	"math/big"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestKindsAtTheirOwnPrices(t *testing.T) {
	full := Price{
		Input: 1_000_000, Output: 2_000_000, CachedInput: 100_000, CacheWrite: 1_250_000, CacheWrite1h: 2_000_000, Reasoning: 3_000_000,
		AudioInput: 4_000_000, AudioOutput: 8_000_000, Request: 7,
	}
	tiered := Price{Input: 1_000_000, Output: 1_000_000, CachedInput: 1_000_000, Above: &Above{Tokens: 100, Price: Price{
		Input: 2_000_000, Output: 3_000_000, CachedInput: 2_000_000, Above: &Above{Tokens: 200, Price: Price{Input: 5_000_000, Output: 5_000_000}},
	}}}
	for _, c := range []struct {
		name   string
		price  Price
		tokens Tokens
		want   int64
	}{
		{"each of them", full, Tokens{Prompt: 1000, Cached: 100, CacheWrite: 40, CacheWrite1h: 20, AudioInput: 10, Completion: 100, Reasoning: 30, AudioOutput: 5}, 850 + 10 + 25 + 40 + 40 + 130 + 90 + 40 + 7},
		{"kinds without a price", Price{Input: 1_000_000, Output: 2_000_000}, Tokens{Prompt: 10, CacheWrite: 4, CacheWrite1h: 2, AudioInput: 1, Completion: 10, Reasoning: 3, AudioOutput: 2}, 30},
		{"an hour costs as much as minutes", Price{Input: 1_000_000, CacheWrite: 2_000_000}, Tokens{Prompt: 10, CacheWrite: 4, CacheWrite1h: 2}, 6 + 8},
		{"free kinds", Price{Input: 1_000_000, Output: 1_000_000, CacheWrite: Free, Reasoning: Free}, Tokens{Prompt: 10, CacheWrite: 4, CacheWrite1h: 1, Completion: 10, Reasoning: 9}, 6 + 1},
		{"parts that are more than the whole", full, Tokens{Prompt: 10, Cached: 8, CacheWrite: 8, CacheWrite1h: 9, AudioInput: 9}, 1 + 4 + 7}, // 0.8 rounds up
		{"at the limit", tiered, Tokens{Prompt: 100, Completion: 10}, 110},
		{"above it all is dearer", tiered, Tokens{Prompt: 101, Cached: 50, Completion: 10}, 202 + 30},
		{"and dearer still", tiered, Tokens{Prompt: 201, Completion: 1}, 1005 + 5},
		{"a fee is due where nothing else is", Price{Request: 5}, Tokens{}, 5},
		{"no overflow", Price{Input: math.MaxInt64, Output: math.MaxInt64, Request: 9}, Tokens{Prompt: math.MaxInt64, Completion: math.MaxInt64}, math.MaxInt64},
	} {
		if got := c.price.Cost(c.tokens); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

func prices(t *rapid.T) Price {
	amount := func(name string) int64 {
		return rapid.SampledFrom([]int64{0, 1, 333_333, 1_000_000, 59_000_001}).Draw(t, name)
	}
	own := func(name string) int64 {
		return rapid.SampledFrom([]int64{0, Free, 777_777, 90_000_001}).Draw(t, name)
	}
	return Price{
		Input: amount("input"), Output: amount("output"), CachedInput: amount("cached"), CacheWrite: own("write"), CacheWrite1h: own("hour"),
		Reasoning: own("reasoning"), AudioInput: own("audio in"), AudioOutput: own("audio out"), Request: amount("request"),
	}
}

func counts(t *rapid.T) Tokens {
	count := func(name string) int64 { return rapid.Int64Range(0, 5000).Draw(t, name) }
	return Tokens{
		Prompt: count("prompt"), Cached: count("cached"), CacheWrite: count("write"), CacheWrite1h: count("hour"), AudioInput: count("audio in"),
		Completion: count("completion"), Reasoning: count("reasoning"), AudioOutput: count("audio out"),
	}
}

// R37: no token is billed twice, and none is left out, whatever a provider says of its parts: where all kinds have one
// price, only the sums count.
func TestNoTokenIsBilledTwice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const p = 1_000_000
		tokens, own := counts(t), rapid.SampledFrom([]int64{0, p})
		price := Price{
			Input: p, Output: p, CachedInput: p, CacheWrite: own.Draw(t, "write"), CacheWrite1h: own.Draw(t, "hour"), Reasoning: own.Draw(t, "reasoning"),
			AudioInput: own.Draw(t, "audio in"), AudioOutput: own.Draw(t, "audio out"),
		}
		if got := price.Cost(tokens); got != tokens.Prompt+tokens.Completion {
			t.Fatalf("%+v at %+v: %d", tokens, price, got)
		}
	})
}

// A cost differs from the exact sum by less than half a nano-dollar for each kind.
func TestEachKindIsRoundedOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		price, tokens := prices(t), counts(t)
		tokens.Cached = min(tokens.Cached, tokens.Prompt)
		tokens.CacheWrite = min(tokens.CacheWrite, tokens.Prompt-tokens.Cached)
		tokens.CacheWrite1h = min(tokens.CacheWrite1h, tokens.CacheWrite)
		tokens.AudioInput = min(tokens.AudioInput, tokens.Prompt-tokens.Cached-tokens.CacheWrite)
		tokens.AudioOutput = min(tokens.AudioOutput, tokens.Completion)
		tokens.Reasoning = min(tokens.Reasoning, tokens.Completion-tokens.AudioOutput)
		or := func(own, other int64) int64 {
			if own == 0 {
				own = other
			}
			return max(own, 0)
		}
		write := price.CacheWrite
		if write == 0 {
			write = price.Input
		}
		exact := new(big.Int)
		for _, kind := range [][2]int64{
			{tokens.Prompt - tokens.Cached - tokens.CacheWrite - tokens.AudioInput, price.Input},
			{tokens.Cached, price.CachedInput},
			{tokens.CacheWrite - tokens.CacheWrite1h, or(price.CacheWrite, price.Input)},
			{tokens.CacheWrite1h, or(price.CacheWrite1h, write)},
			{tokens.AudioInput, or(price.AudioInput, price.Input)},
			{tokens.AudioOutput, or(price.AudioOutput, price.Output)},
			{tokens.Reasoning, or(price.Reasoning, price.Output)},
			{tokens.Completion - tokens.Reasoning - tokens.AudioOutput, price.Output},
		} {
			exact.Add(exact, new(big.Int).Mul(big.NewInt(kind[0]), big.NewInt(kind[1])))
		}
		got := new(big.Int).Mul(big.NewInt(price.Cost(tokens)-price.Request), big.NewInt(1_000_000))
		if off := new(big.Int).Sub(got, exact); off.CmpAbs(big.NewInt(8*500_000)) > 0 {
			t.Fatalf("%+v at %+v: %s millionths off", tokens, price, off)
		}
		if most := price.Most(tokens); tokens.AudioInput == 0 && tokens.AudioOutput == 0 && most+8 < price.Cost(tokens) {
			t.Fatalf("%+v at %+v: %d is more than the most, %d", tokens, price, price.Cost(tokens), most)
		}
	})
}

func TestTheVersionCoversEveryKind(t *testing.T) {
	if v := (Price{Input: 1, Output: 2, CachedInput: 3}).Version(); v != "9de93caf7d8d" {
		t.Errorf("the version of a price without other kinds has changed: %s", v)
	}
	seen := map[string]Price{}
	for _, p := range []Price{
		{},
		{CacheWrite: 1},
		{CacheWrite: Free},
		{CacheWrite1h: 1},
		{Reasoning: 1},
		{AudioInput: 1},
		{AudioOutput: 1},
		{Request: 1},
		{Above: &Above{}},
		{Above: &Above{Tokens: 1}},
		{Above: &Above{Price: Price{Input: 1}}},
		{Above: &Above{Price: Price{Above: &Above{Tokens: 1}}}},
	} {
		if other, taken := seen[p.Version()]; taken {
			t.Errorf("%+v and %+v have one version", p, other)
		}
		seen[p.Version()] = p
	}
}

// Prices are kept as JSON. Those of the version before have no other kinds, and none have come from nowhere.
func TestPricesAsJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := prices(t)
		want.Above = &Above{Tokens: 5, Price: prices(t)}
		text, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var got Price
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
	})
	var old Price
	if err := json.Unmarshal([]byte(`{"input":1,"output":2,"cached_input":3}`), &old); err != nil || old != (Price{Input: 1, Output: 2, CachedInput: 3}) {
		t.Errorf("%+v, %v", old, err)
	}
}

func BenchmarkCost(b *testing.B) {
	p := Price{Input: 3e9, Output: 15e9, CachedInput: 3e8, CacheWrite: 3_750_000_000, Above: &Above{Tokens: 200_000, Price: Price{Input: 6e9}}}
	t := Tokens{Prompt: 5000, Cached: 4000, CacheWrite: 500, Completion: 300, Reasoning: 100}
	for b.Loop() {
		p.Cost(t)
	}
}
