package catalog

import (
	"math"
	"math/big"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestCostIsRoundedOncePerKind(t *testing.T) {
	for _, c := range []struct {
		name   string
		price  Price
		tokens Tokens
		want   int64
	}{
		{"nothing", Price{Input: 1, Output: 1}, Tokens{}, 0},
		{"one cheap token rounds half up", Price{Input: 500_000}, Tokens{Prompt: 1}, 1},
		{"just below half", Price{Input: 499_999}, Tokens{Prompt: 1}, 0},
		{"a million tokens at 0.59", Price{Input: 590_000_000}, Tokens{Prompt: 1_000_000}, 590_000_000},
		{"cached tokens at their own price", Price{Input: 1_000_000, CachedInput: 100_000}, Tokens{Prompt: 100, Cached: 90}, 10 + 9},
		{"cached can not exceed prompt", Price{Input: 1_000_000, CachedInput: 1_000_000}, Tokens{Prompt: 10, Cached: 99}, 10},
		{"reasoning is part of completion", Price{Output: 2_000_000}, Tokens{Completion: 50, Reasoning: 40}, 100},
		{"negative counts cost nothing", Price{Input: 1_000_000, Output: 1_000_000}, Tokens{Prompt: -5, Completion: -7}, 0},
	} {
		if got := c.price.Cost(c.tokens); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

// R37: a cost is exact to the nano-dollar for any count and price.
func TestCostAgreesWithArbitraryPrecision(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tokens := rapid.Int64Range(0, 1<<40).Draw(t, "tokens")
		price := rapid.Int64Range(0, MaxUSDPerMillion*1_000_000_000).Draw(t, "price")
		exact := new(big.Int).Mul(big.NewInt(tokens), big.NewInt(price))
		exact.Add(exact, big.NewInt(500_000)).Quo(exact, big.NewInt(1_000_000))
		want := int64(math.MaxInt64)
		if exact.IsInt64() {
			want = exact.Int64()
		}
		if got := (Price{Output: price}).Cost(Tokens{Completion: tokens}); got != want {
			t.Fatalf("%d tokens at %d: %d, want %d", tokens, price, got, want)
		}
	})
}

func TestNanoPerMillion(t *testing.T) {
	if n, err := NanoPerMillion(0.59); err != nil || n != 590_000_000 {
		t.Errorf("0.59: %d, %v", n, err)
	}
	for _, bad := range []float64{-1, math.NaN(), math.Inf(1), 2e6} {
		if _, err := NanoPerMillion(bad); err == nil {
			t.Errorf("%v was accepted", bad)
		}
	}
}

func TestPriceVersionFollowsContent(t *testing.T) {
	a := Price{Input: 1, Output: 2}
	if a.Version() != (Price{Input: 1, Output: 2}).Version() {
		t.Error("the same price has two versions")
	}
	if a.Version() == (Price{Input: 12, Output: 0}).Version() || a.Version() == (Price{Input: 1, Output: 2, CachedInput: 1}).Version() {
		t.Error("different prices share a version")
	}
}

func TestFormatUSD(t *testing.T) {
	for nano, want := range map[int64]string{
		0: "0", 1: "0.000000001", 1500: "0.0000015", 1_000_000_000: "1", 1_230_000_000: "1.23",
		-5_000_000_001: "-5.000000001", math.MinInt64: "-9223372036.854775808",
	} {
		if got := FormatUSD(nano); got != want {
			t.Errorf("%d: %s, want %s", nano, got, want)
		}
	}
}

func TestRouteScope(t *testing.T) {
	r := Route{Endpoints: []Endpoint{Chat}, Projects: []string{"app", "acme/web"}}
	if !r.Serves(Chat) || r.Serves(Embeddings) || !(&Route{}).Serves(Embeddings) {
		t.Error("endpoints")
	}
	for _, c := range []struct {
		organization, project string
		want                  bool
	}{{"acme", "app", true}, {"other", "app", true}, {"acme", "web", true}, {"other", "web", false}} {
		if got := r.OpenTo(c.organization, c.project); got != c.want {
			t.Errorf("%s/%s: %v", c.organization, c.project, got)
		}
	}
}

func TestPolicyDefaultsKeepWhatIsSet(t *testing.T) {
	p := Policy{Strategy: Cheapest, Deadlines: Deadlines{Idle: time.Second}}.WithDefaults()
	if p.Strategy != Cheapest || p.Deadlines.Idle != time.Second {
		t.Error("a set value was replaced")
	}
	if p.Attempts.Total != DefaultAttempts || p.Deadlines.Total != DefaultTotal || p.Deadlines.Headers != 0 {
		t.Errorf("defaults: %+v", p)
	}
}
