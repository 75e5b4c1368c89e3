package attempt

import (
	"testing"
	"testing/synctest"
	"time"

	"shareai/internal/catalog"
	"shareai/internal/health"
	"shareai/internal/upstream"
)

// What the engine learns, everybody knows: the next plan is made with it.
func TestTheBoardIsTold(t *testing.T) {
	for name, c := range map[string]struct {
		script behaviour
		times  int
		want   health.State
	}{
		"successes":                         {saying("yes", "stop"), 20, health.Closed},
		"failures":                          {failing(upstream.ServerError), 5, health.Open},
		"a Retry-After":                     {asking(upstream.Overloaded, 20*time.Second), 1, health.Open},
		"a limited single key":              {asking(upstream.RateLimited, 20*time.Second), 1, health.Open},
		"a rejected single key":             {failing(upstream.KeyRejected), 5, health.Open},
		"a client's mistakes":               {failing(upstream.ClientError), 20, health.Closed},
		"streams that break":                {telling(3, "CUT"), 5, health.Open},
		"streams that end without a word":   {streaming(roleChunk, "CUT"), 5, health.Open},
		"clients that leave":                {failing(upstream.Canceled), 20, health.Closed},
		"a content filter":                  {failing(upstream.ContentFilter), 20, health.Closed},
		"requests that take all their time": {failing(upstream.TotalTimeout), 20, health.Closed},
	} {
		synctest.Test(t, func(t *testing.T) {
			h := newHouse(t)
			h.policy.Attempts.PerDeployment = 1
			h.add(c.script)
			for range c.times {
				if answer, err := h.run(t.Context(), streamBody); err == nil && answer.Stream != nil {
					hear(answer.Stream)
				}
			}
			if got := h.board.Look("a/m").State; got != c.want {
				t.Errorf("%s: %s, want %s", name, got, c.want)
			}
		})
	}
}

func TestLatencyIsMeasuredOnSuccesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.add(slowly(300*time.Millisecond, telling(len(story), stopChunk)))
		h.hear(t, streamBody)
		if got := h.board.Look("a/m").Latency[health.FirstToken]; got < 300*time.Millisecond {
			t.Errorf("latency %v", got)
		}
	})
}

// A key that was good again is rested as briefly as at its first rejection.
func TestAGoodKeyIsAccepted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.draw = 0
		rejected := failing(upstream.KeyRejected)
		twice := []behaviour{rejected, rejected} // both keys, one after the other
		h.add(append(twice, saying("yes", "stop"), rejected)...).
			candidate.Provider.Keys = []catalog.ProviderKey{{Name: "one"}, {Name: "two"}}
		_, _ = h.run(t.Context(), unaryBody)
		<-time.After(time.Minute)
		if _, err := h.run(t.Context(), unaryBody); err != nil {
			t.Fatal(err)
		}
		_, _ = h.run(t.Context(), unaryBody)
		if left := time.Until(h.board.Key("a#one").Until()); left <= 0 || left > 30*time.Second {
			t.Errorf("the key rests for %v", left)
		}
	})
}

func TestADrillHitsItsShare(t *testing.T) {
	h := newHouse(t)
	a := h.add(saying("yes", "stop"))
	a.candidate.Drill = &catalog.Drill{ID: "drill_1", Share: 0.5}
	for _, c := range []struct {
		draw float64
		hit  bool
	}{{0, true}, {0.49, true}, {0.5, false}, {0.99, false}} {
		h.draw = c.draw
		if _, err := h.run(t.Context(), unaryBody); err != nil {
			t.Fatal(err)
		}
		call := a.calls[len(a.calls)-1]
		if (call.Drill != nil) != c.hit || (h.log.Attempts()[0].Drill == "drill_1") != c.hit {
			t.Errorf("drawn %v: %v", c.draw, call.Drill)
		}
	}
}
