package usage

import (
	"testing"
	"time"

	"shareai/internal/catalog"
)

func TestThePrimaryIsWhatTheRequestWasMeantFor(t *testing.T) {
	for _, c := range []struct {
		name    string
		reasons []string // of the candidates; empty: kept
		want    int
	}{
		{"nothing was planned", nil, -1},
		{"the first", []string{"", ""}, 0},
		{"rules leave out the first", []string{"region", "", ""}, 1},
		{"its circuit is open", []string{"circuit", ""}, 0},
		{"no key of its provider is good", []string{"provider_keys", ""}, 0},
		{"it is drained, behind one of a wrong region", []string{"region", "drained", ""}, 1},
		{"rules leave out all", []string{"region", "price"}, 0},
	} {
		var candidates []Candidate
		for _, reason := range c.reasons {
			candidates = append(candidates, Candidate{Reason: reason})
		}
		if got := Primary(candidates); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

// comparison is a finished request and what it says against its primary, a.
type comparison struct {
	name   string
	record Record
	usual  time.Duration
	want   Difference
	none   bool
	over   bool
}

func used(prompt, completion int64) catalog.Tokens {
	return catalog.Tokens{Prompt: prompt, Completion: completion}
}

// comparisons are requests of which the primary charges a nano-dollar for each token of the prompt and two
// for each of the answer, and the others ten times as much.
var comparisons = []comparison{
	{
		name: "the primary answered",
		record: Record{Deployment: "a", Cost: 140, Duration: 900, Attempts: []Attempt{
			{Deployment: "a", Outcome: "ok", Offset: 30, Duration: 850, Tokens: used(100, 20), Cost: 140},
		}},
		usual: time.Millisecond,
		want:  Difference{Usual: -100},
	},
	{
		name: "the primary answered at its second attempt",
		record: Record{Deployment: "a", Cost: 140, Attempts: []Attempt{
			{Deployment: "a", Outcome: "overloaded", Offset: 30, Duration: 50},
			{Deployment: "a", Outcome: "ok", Offset: 380, Wait: 300, Retry: true, Tokens: used(100, 20), Cost: 140},
		}},
		want: Difference{Lost: 350},
	},
	{
		name: "another answered a stream",
		record: Record{Deployment: "b", Stream: true, FirstToken: 700, Duration: 9000, Cost: 1400, Attempts: []Attempt{
			{Deployment: "a", Outcome: "server_error", Offset: 30, Duration: 200},
			{Deployment: "b", Outcome: "ok", Offset: 260, FirstToken: 440, Tokens: used(100, 20), Cost: 1400},
		}},
		usual: 300 * time.Microsecond,
		want:  Difference{Cost: 1260, Lost: 230, Usual: 400},
		over:  true,
	},
	{
		name: "the primary was not asked: its circuit is open",
		record: Record{Deployment: "b", Cost: 1400, Duration: 500, Attempts: []Attempt{
			{Deployment: "b", Outcome: "ok", Offset: 30, Tokens: used(100, 20), Cost: 1400},
		}},
		want: Difference{Cost: 1260},
		over: true,
	},
	{
		name: "a hedge won: the loser is paid as well",
		record: Record{Deployment: "b", Cost: 1500, Attempts: []Attempt{
			{Deployment: "a", Outcome: "hedged", Offset: 30, Tokens: used(100, 0), Cost: 100},
			{Deployment: "b", Outcome: "ok", Hedge: true, Offset: 530, Tokens: used(100, 20), Cost: 1400},
		}},
		want: Difference{Cost: 1360, Lost: 500},
		over: true,
	},
	{
		name: "the primary won over its hedge",
		record: Record{Deployment: "a", Cost: 140, Attempts: []Attempt{
			{Deployment: "a", Outcome: "ok", Offset: 30, Tokens: used(100, 20), Cost: 140},
			{Deployment: "b", Outcome: "hedged", Hedge: true, Offset: 530},
		}},
	},
	{
		name: "resumed from its prefix, at the second try: 100 and 8 + 12 tokens were said",
		record: Record{Deployment: "c", Stream: true, Resumed: true, Cost: 1436, Attempts: []Attempt{
			{Deployment: "a", Outcome: "broken", Offset: 30, FirstToken: 100, Duration: 400, Tokens: used(100, 8), Cost: 116},
			{Deployment: "b", Outcome: "client_error", Resumes: "prefill", Offset: 440, Duration: 60},
			{Deployment: "c", Outcome: "ok", Resumes: "prefill", Offset: 510, FirstToken: 120, Tokens: used(108, 12), Cost: 1320},
		}},
		want: Difference{Cost: 1436 - 140, Lost: 510 + 120 - 430},
		over: true,
	},
	{
		name: "resumed by a restart that said all of it again",
		record: Record{Deployment: "b", Stream: true, Resumed: true, Cost: 1516, Attempts: []Attempt{
			{Deployment: "x", Outcome: "connect_failed", Offset: 10, Duration: 5},
			{Deployment: "a", Outcome: "broken", Offset: 30, FirstToken: 100, Duration: 400, Tokens: used(100, 8), Cost: 116},
			{Deployment: "b", Outcome: "ok", Resumes: "restart", Offset: 440, FirstToken: 90, Tokens: used(100, 20), Cost: 1400},
		}},
		want: Difference{Cost: 1516 - 140, Lost: 20 + 440 + 90 - 430},
		over: true,
	},
	{
		name: "the client left in the middle of the answer",
		record: Record{Deployment: "b", Status: 499, Cost: 1000, Attempts: []Attempt{
			{Deployment: "a", Outcome: "overloaded", Offset: 30, Duration: 10},
			{Deployment: "b", Outcome: "canceled", Offset: 50, Tokens: used(100, 0), Cost: 1000},
		}},
		want: Difference{Cost: 900, Lost: 20},
		over: true,
	},
	{
		name:   "nobody answered",
		record: Record{Attempts: []Attempt{{Deployment: "a", Outcome: "overloaded"}, {Deployment: "b", Outcome: "overloaded"}}},
		none:   true,
	},
	{name: "nobody was asked", none: true},
}

func TestTheDifferenceToThePrimary(t *testing.T) {
	price := catalog.Price{Input: 1e6, CachedInput: 1e6, Output: 2e6}
	for _, c := range comparisons {
		c.record.Against("a", price, c.usual)
		got, known := c.record.Difference()
		if got != c.want || known == c.none {
			t.Errorf("%s: %+v, %v; want %+v", c.name, got, known, c.want)
		}
		if c.record.FailedOver() != c.over {
			t.Errorf("%s: failed over %v", c.name, c.record.FailedOver())
		}
	}
	unplanned := Record{Deployment: "a", Attempts: []Attempt{{Deployment: "a", Outcome: "ok"}}}
	if _, known := unplanned.Difference(); known || unplanned.FailedOver() {
		t.Error("a record of the release before is compared with nothing")
	}
}

func TestTheCauseOfAFailover(t *testing.T) {
	left := []Candidate{{Deployment: "b"}, {Deployment: "a", Reason: "circuit"}}
	failed := []Attempt{{Deployment: "a", Outcome: "overloaded"}, {Deployment: "a", Outcome: "idle_timeout"}, {Deployment: "b", Outcome: "ok"}}
	for _, c := range []struct {
		record Record
		want   string
	}{
		{Record{Primary: "a", Deployment: "a", Attempts: failed}, ""},
		{Record{Primary: "a", Attempts: failed[:2]}, ""},
		{Record{Primary: "a", Deployment: "b", Attempts: failed, Candidates: left}, "idle_timeout"},
		{Record{Primary: "a", Deployment: "b", Attempts: failed[2:], Candidates: left}, "circuit"},
		{Record{Primary: "a", Deployment: "b", Attempts: failed[2:]}, ""},
	} {
		if got := c.record.Cause(); got != c.want {
			t.Errorf("%+v: %q, want %q", c.record, got, c.want)
		}
	}
}

func BenchmarkAgainst(b *testing.B) {
	r := sample()
	b.ReportAllocs()
	for b.Loop() {
		r.Against("beta/meta/llama-3.3-70b", catalog.Price{Input: 700_000_000, Output: 900_000_000}, time.Second)
	}
}
