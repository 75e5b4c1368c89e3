package attempt

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"shareai/internal/account"
	"shareai/internal/catalog"
	"shareai/internal/fault"
	"shareai/internal/openai"
	"shareai/internal/routing"
	"shareai/internal/snapshot"
	"shareai/internal/upstream"
	"shareai/internal/usage"
)

func TestTheWatchdogNamesTheDeadlineThatPassed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			name  string
			total time.Duration
			walk  func(*watchdog)
			want  upstream.Outcome
			after time.Duration
		}{
			{"headers", time.Minute, func(*watchdog) {}, upstream.HeadersTimeout, time.Second},
			{"first token", time.Minute, func(w *watchdog) { w.enter(upstream.FirstTokenTimeout, 3*time.Second) }, upstream.FirstTokenTimeout, 3 * time.Second},
			{"the whole request is nearer", 2 * time.Second, func(w *watchdog) { w.enter(upstream.IdleTimeout, time.Minute) }, upstream.TotalTimeout, 2 * time.Second},
			{"no limit of its own", 5 * time.Second, func(w *watchdog) { w.enter(upstream.HeadersTimeout, 0) }, upstream.TotalTimeout, 5 * time.Second},
			{"entered again and again", time.Minute, func(w *watchdog) {
				for range 10 {
					w.enter(upstream.IdleTimeout, time.Second)
					<-time.After(900 * time.Millisecond)
				}
			}, upstream.IdleTimeout, 9100 * time.Millisecond},
		} {
			start := time.Now()
			ctx, w := watch(t.Context(), start.Add(c.total), upstream.HeadersTimeout, time.Second)
			c.walk(w)
			<-ctx.Done()
			if got := context.Cause(ctx); !errors.Is(got, c.want) {
				t.Errorf("%s: cause %v, want %v", c.name, got, c.want)
			}
			if d := time.Since(start); d != c.after {
				t.Errorf("%s: after %v, want %v", c.name, d, c.after)
			}
			w.stop()
		}
	})
}

func TestARestingWatchdogLetsAClientTakeItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, w := watch(t.Context(), time.Now().Add(time.Hour), upstream.IdleTimeout, time.Second)
		w.rest()
		<-time.After(time.Minute)
		if ctx.Err() != nil {
			t.Fatalf("cancelled while resting: %v", context.Cause(ctx))
		}
		w.stop()
		if ctx.Err() == nil {
			t.Error("a stopped watchdog leaves its context running")
		}
	})
}

// scripted answers each call with the next failure, then with a good answer.
type scripted struct {
	failures []upstream.Outcome
	calls    []*upstream.Call
}

func (s *scripted) Do(_ context.Context, call *upstream.Call) (*upstream.Answer, error) {
	s.calls = append(s.calls, call)
	if n := len(s.calls); n <= len(s.failures) {
		return nil, &upstream.Error{Outcome: s.failures[n-1], Message: "no", Status: 418}
	}
	return &upstream.Answer{Status: 200, HeadersAt: time.Now(), Body: []byte(`{"choices":[{"index":0,"message":{"content":"yes"},"finish_reason":"stop"}]}`)}, nil
}

func work(t *testing.T, candidates int) *Work {
	request, err := openai.ParseRequest([]byte(`{"model":"m","messages":[]}`))
	if err != nil {
		t.Fatal(err)
	}
	policy := catalog.Policy{}.WithDefaults()
	plan := &routing.Plan{Policy: &policy}
	for range candidates {
		plan.Candidates = append(plan.Candidates, routing.Candidate{Target: snapshot.Target{
			ID: "a/l", Model: &catalog.Model{Name: "m"}, Deployment: &catalog.Deployment{Model: "l"}, Provider: &catalog.Provider{Name: "a"},
		}})
	}
	return &Work{Plan: plan, Endpoint: catalog.Chat, Request: request, Start: time.Now(), Log: &Log{}}
}

func TestRunSkipsExcludedCandidates(t *testing.T) {
	w := work(t, 3)
	w.Plan.Candidates[0].Excluded = routing.WrongRegion
	w.Plan.Candidates[1].ID = "b/l"
	caller := &scripted{}
	answer, err := NewEngine(caller, nil).Run(t.Context(), w)
	if err != nil || answer.Target.ID != "b/l" || len(caller.calls) != 1 {
		t.Errorf("%v after %d calls: %+v", err, len(caller.calls), answer.Target)
	}
}

// Which outcomes move on is decided by type. Every outcome stands in this table, so that a new one
// needs a decision.
func TestWhichOutcomesMoveOn(t *testing.T) {
	stays := map[upstream.Outcome]fault.Kind{
		upstream.ClientError:   fault.Invalid,
		upstream.ContextLength: fault.Invalid,
		upstream.ContentFilter: fault.Invalid,
		upstream.Canceled:      fault.Canceled,
		upstream.TotalTimeout:  fault.Timeout,
	}
	for _, outcome := range upstream.Outcomes {
		if outcome == upstream.OK {
			continue
		}
		caller := &scripted{failures: []upstream.Outcome{outcome}}
		w := work(t, 2)
		_, err := NewEngine(caller, nil).Run(t.Context(), w)
		kind, stay := stays[outcome]
		if stay && (len(caller.calls) != 1 || fault.From(err).Kind != kind) {
			t.Errorf("%s: %d calls, %v", outcome, len(caller.calls), err)
		}
		if !stay && (len(caller.calls) != 2 || err != nil) {
			t.Errorf("%s: %d calls, %v", outcome, len(caller.calls), err)
		}
		if got := w.Log.Attempts[0].Outcome; got != string(outcome) {
			t.Errorf("%s is logged as %s", outcome, got)
		}
	}
}

func TestKeysAreDrawnByWeight(t *testing.T) {
	keys := []catalog.ProviderKey{{Name: "one"}, {Name: "three", Weight: 3, Secret: account.NewSecret("s")}}
	count := map[string]int{}
	for i := range 4 {
		e := NewEngine(nil, func() float64 { return float64(i) / 4 })
		count[e.pick(keys).Name]++
	}
	if count["one"] != 1 || count["three"] != 3 {
		t.Errorf("%v", count)
	}
	if (&Engine{}).pick(nil).Name != "" {
		t.Error("a provider without keys")
	}
}

func TestTokensAreSummedOverAttempts(t *testing.T) {
	l := Log{}
	for _, tokens := range []catalog.Tokens{{Prompt: 10, Completion: 3, Estimated: true}, {Prompt: 10, Cached: 2, Completion: 5}} {
		l.Attempts = append(l.Attempts, usage.Attempt{Tokens: tokens, Cost: 7})
	}
	tokens, cost := l.Totals()
	if tokens != (catalog.Tokens{Prompt: 20, Cached: 2, Completion: 8, Estimated: true}) || cost != 14 {
		t.Errorf("%+v, %d", tokens, cost)
	}
}
