package attempt

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"shareai/internal/catalog"
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

func TestTokensAreSummedOverAttempts(t *testing.T) {
	l := Log{}
	for _, tokens := range []catalog.Tokens{{Prompt: 10, Completion: 3, Estimated: true}, {Prompt: 10, Cached: 2, Completion: 5}} {
		l.entries = append(l.entries, &entry{Attempt: usage.Attempt{Tokens: tokens, Cost: 7}})
	}
	tokens, cost := l.Totals()
	if tokens != (catalog.Tokens{Prompt: 20, Cached: 2, Completion: 8, Estimated: true}) || cost != 14 {
		t.Errorf("%+v, %d", tokens, cost)
	}
}
