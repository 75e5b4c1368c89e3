package node

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// entry is somebody who wants to pass a gate.
type entry struct {
	inside context.Context
	leave  func()
	err    error
	after  time.Duration
}

// ask enters in the background.
func ask(ctx context.Context, g *gate, engine string, slots int) chan entry {
	out := make(chan entry, 1)
	start := time.Now()
	go func() {
		inside, leave, err := g.enter(ctx, engine, slots)
		out <- entry{inside, leave, err, time.Since(start)}
	}()
	synctest.Wait()
	return out
}

func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(func() {})
		if e := <-ask(t.Context(), g, "a", 9); !errors.Is(e.err, errBusy) || e.after > 0 {
			t.Errorf("closed: %v after %v", e.err, e.after)
		}
		g.set(2)
		first, second := <-ask(t.Context(), g, "a", 9), <-ask(t.Context(), g, "a", 9)
		waits := ask(t.Context(), g, "a", 9)
		late := ask(t.Context(), g, "a", 9)
		if e := <-ask(t.Context(), g, "a", 9); !errors.Is(e.err, errBusy) || e.after > 0 {
			t.Errorf("two run and two wait, a fifth: %v after %v", e.err, e.after)
		}
		if l := g.load(); l != (load{2, 2, 2}) {
			t.Errorf("load %+v", l)
		}
		time.Sleep(time.Second)
		first.leave()
		first.leave() // a second time is nothing
		third := <-waits
		if third.err != nil || third.after != time.Second {
			t.Errorf("the first in the queue: %v after %v", third.err, third.after)
		}
		if e := <-late; !errors.Is(e.err, errBusy) || e.after != queueTime {
			t.Errorf("the second in the queue: %v after %v", e.err, e.after)
		}
		second.leave()
		third.leave()
		if l := g.load(); l != (load{2, 0, 0}) {
			t.Errorf("at the end: %+v", l)
		}
	})
}

func TestGateOfAnEngine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(func() {})
		g.set(10)
		one := <-ask(t.Context(), g, "small", 1)
		waits := ask(t.Context(), g, "small", 1)
		if e := <-ask(t.Context(), g, "large", 8); e.err != nil {
			t.Errorf("another engine: %v", e.err)
		}
		one.leave()
		if e := <-waits; e.err != nil {
			t.Errorf("the engine is free: %v", e.err)
		}
	})
}

func TestGateCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(func() {})
		g.set(1)
		runs := <-ask(t.Context(), g, "a", 1)
		waits := ask(t.Context(), g, "a", 1)
		g.set(0)
		if e := <-waits; !errors.Is(e.err, errBusy) || e.after > 0 {
			t.Errorf("who waits: %v after %v", e.err, e.after)
		}
		if runs.inside.Err() != nil {
			t.Error("what runs was ended")
		}
		g.cut()
		if !errors.Is(context.Cause(runs.inside), errCut) {
			t.Errorf("cut: %v", context.Cause(runs.inside))
		}
		ctx, cancel := context.WithCancel(t.Context())
		g.set(1)
		left := ask(ctx, g, "a", 1)
		cancel()
		if e := <-left; !errors.Is(e.err, context.Canceled) {
			t.Errorf("who has left: %v", e.err)
		}
		runs.leave()
		if l := g.load(); l != (load{1, 0, 0}) {
			t.Errorf("at the end: %+v", l)
		}
	})
}

// However requests come, wait, give up and end: there are never more than may be, and nothing is lost.
func TestGateKeepsCount(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		limit, slots := rapid.IntRange(1, 4).Draw(r, "limit"), rapid.IntRange(1, 4).Draw(r, "slots")
		spans := rapid.SliceOfN(rapid.IntRange(0, 3000), 1, 20).Draw(r, "milliseconds")
		gives := rapid.SliceOfN(rapid.IntRange(1, 4000), 20, 20).Draw(r, "patience")
		synctest.Test(t, func(t *testing.T) {
			g := newGate(func() {})
			g.set(limit)
			var running atomic.Int64
			var all sync.WaitGroup
			for i, ms := range spans {
				all.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(gives[i])*time.Millisecond)
					defer cancel()
					_, leave, err := g.enter(ctx, "a", slots)
					if err != nil {
						return
					}
					if n := running.Add(1); n > int64(min(limit, slots)) {
						t.Errorf("%d run of %d", n, min(limit, slots))
					}
					time.Sleep(time.Duration(ms) * time.Millisecond)
					running.Add(-1)
					leave()
				})
			}
			all.Wait()
			if l := g.load(); l != (load{limit, 0, 0}) || g.engines["a"] != 0 {
				t.Errorf("left behind: %+v", l)
			}
		})
	})
}
