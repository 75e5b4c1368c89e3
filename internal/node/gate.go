package node

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// queueTime is the longest wait for a place. Longer, and another node or provider would have answered already.
const queueTime = 2 * time.Second

var (
	// errBusy says that a request was not begun.
	errBusy = errors.New("busy")
	// errCut is the cause with which the owner's machine takes back what it has lent.
	errCut = errors.New("the owner's grace is over")
)

// gate is what a request passes before its engine is called. It has the last word on how much the machine does: what the
// gateway knows is a hint, and there may be several gateways. Requests that find no place wait in a short queue, first
// come first served.
type gate struct {
	changed func() // called, without the lock, when load has changed

	mu      sync.Mutex
	open    bool
	limit   int            // requests at once
	engines map[string]int // that run, by engine
	running map[*pass]bool
	// queue holds those who wait, oldest first. Nobody in it fits: whatever makes room lets in whom it can.
	queue []*pass
}

// pass is one request.
type pass struct {
	engine string
	slots  int           // requests that the engine works on at once
	let    chan struct{} // closed when it is decided whether it may run
	cancel context.CancelCauseFunc
}

func newGate(changed func()) *gate {
	return &gate{changed: changed, engines: map[string]int{}, running: map[*pass]bool{}}
}

// load is what the gate holds: how much it takes at once (0 when it is closed), what runs, what waits.
type load struct{ capacity, running, queued int }

func (g *gate) load() load {
	g.mu.Lock()
	defer g.mu.Unlock()
	l := load{running: len(g.running), queued: len(g.queue)}
	if g.open {
		l.capacity = g.limit
	}
	return l
}

// set says how many requests are taken at once; 0: none. What runs goes on; what waits is sent away when none are taken.
func (g *gate) set(limit int) {
	g.mu.Lock()
	same := g.limit == limit && g.open == (limit > 0)
	g.open, g.limit = limit > 0, limit
	if g.open {
		g.admit()
	} else {
		for _, p := range g.queue {
			close(p.let)
		}
		g.queue = nil
	}
	g.mu.Unlock()
	if !same {
		g.changed()
	}
}

// cut ends everything that runs.
func (g *gate) cut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for p := range g.running {
		p.cancel(errCut)
	}
}

// enter waits for a place at an engine that works on so many requests at once. The error is errBusy, or the context's;
// nothing was begun then. Otherwise the caller works under the context that is returned, and calls leave when it is done.
func (g *gate) enter(ctx context.Context, engine string, slots int) (inside context.Context, leave func(), err error) {
	inside, cancel := context.WithCancelCause(ctx)
	p := &pass{engine: engine, slots: slots, let: make(chan struct{}), cancel: cancel}
	g.mu.Lock()
	switch {
	case !g.open:
		err = errBusy
	case g.fits(p):
		g.start(p)
	case len(g.queue) >= g.limit:
		err = errBusy
	default:
		g.queue = append(g.queue, p)
	}
	g.mu.Unlock()
	if err == nil {
		g.changed()
		err = g.await(ctx, p)
	}
	if err != nil {
		cancel(err)
		return nil, nil, err
	}
	return inside, sync.OnceFunc(func() { g.leave(p) }), nil
}

// await returns when a request may run, or will not.
func (g *gate) await(ctx context.Context, p *pass) error {
	timer := time.NewTimer(queueTime)
	defer timer.Stop()
	err := errBusy
	select {
	case <-p.let:
	case <-timer.C:
	case <-ctx.Done():
		err = ctx.Err()
	}
	g.mu.Lock()
	runs := g.running[p]
	g.queue = slices.DeleteFunc(g.queue, func(q *pass) bool { return q == p })
	g.mu.Unlock()
	switch {
	case runs && ctx.Err() != nil:
		g.leave(p)
		return ctx.Err()
	case runs:
		return nil
	}
	g.changed()
	return err
}

func (g *gate) leave(p *pass) {
	p.cancel(nil)
	g.mu.Lock()
	delete(g.running, p)
	g.engines[p.engine]--
	if g.open {
		g.admit()
	}
	g.mu.Unlock()
	g.changed()
}

func (g *gate) fits(p *pass) bool {
	return len(g.running) < g.limit && g.engines[p.engine] < p.slots
}

func (g *gate) start(p *pass) {
	g.running[p] = true
	g.engines[p.engine]++
	close(p.let)
}

// admit lets in everybody who fits, oldest first.
func (g *gate) admit() {
	g.queue = slices.DeleteFunc(g.queue, func(p *pass) bool {
		if !g.fits(p) {
			return false
		}
		g.start(p)
		return true
	})
}
