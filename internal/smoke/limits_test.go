package smoke

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// G5: limits reject what exceeds them, and nothing less.
func TestLimits(t *testing.T) {
	budget := short{Limits, "budget", Pass, "3 requests answered, the next one refused"}
	for d, want := range map[defect]short{
		"":           {Limits, "requests per minute", Pass, "5 requests answered of 5, the next one refused for 7 s"},
		limitUsedUp:  {Limits, "requests per minute", Pass, "nothing was left of it; refused for 7 s"},
		limitIgnored: {Limits, "requests per minute", Fail, "answered although nothing was left of the limit"},
		limitEarly:   {Limits, "requests per minute", Fail, "refused although 2 were left"},
		noRetryAfter: {Limits, "requests per minute", Fail, "the refusal does not say when to try again (Retry-After)"},
		noRemaining:  {Limits, "requests per minute", Fail, "the answer does not say what is left (x-ratelimit-remaining-requests)"},
	} {
		t.Run(string(d), func(t *testing.T) {
			_, url := newDouble(t, d)
			got := shorten(Run(t.Context(), Options{Gateway: url, Key: testKey, RateKey: rateKey, QuotaKey: quotaKey}).Lines)
			if diff := cmp.Diff([]short{want, budget}, got[len(got)-2:]); diff != "" {
				t.Error(diff)
			}
		})
	}
	_, url := newDouble(t, budgetIgnored)
	got := shorten(Run(t.Context(), Options{Gateway: url, Key: testKey, QuotaKey: quotaKey}).Lines)
	if want := (short{Limits, "budget", Fail, "100 requests were answered, and none refused"}); !slices.Contains(got, want) {
		t.Errorf("%+v", got)
	}
	_, url = newDouble(t, "")
	got = shorten(Run(t.Context(), Options{Gateway: url, Key: testKey, RateKey: testKey}).Lines)
	if want := (short{Limits, "requests per minute", Fail, "the answer does not name a limit (x-ratelimit-limit-requests): the key has none"}); !slices.Contains(got, want) {
		t.Errorf("%+v", got)
	}
}

// G2: a deployment that failed so often that its circuit is open is replaced, too.
func TestAnOpenCircuitIsAFailover(t *testing.T) {
	_, url := newDouble(t, circuitOpen)
	got := shorten(Run(t.Context(), Options{Gateway: url, Key: testKey}).Lines)
	want := short{Failover, "demo-failover, chat", Pass, "answered by beta at once after N ms: broken/chat circuit"}
	if !slices.Contains(got, want) {
		t.Errorf("%+v", got)
	}
}
