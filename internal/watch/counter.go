package watch

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"shareai/internal/alert"
	"shareai/internal/fault"
	"shareai/internal/usage"
)

// Tallies keeps what was counted.
type Tallies interface {
	AddTallies(ctx context.Context, counted []alert.Minute) error
}

// The times of a Counter: how often it stores, how long it may take at the end, and for how long it keeps what could not
// be stored.
const (
	countEvery = 5 * time.Second
	lastCount  = 2 * time.Second
	keepCounts = time.Hour
)

// Counter counts finished requests. It is an observer of the gateway. A process that dies takes what it counted in the
// last seconds with it: these numbers judge what is usual, and nobody is billed by them.
type Counter struct {
	tallies Tallies
	log     *slog.Logger

	mu      sync.Mutex
	counted map[minute]*alert.Tally
}

type minute struct {
	at int64 // since the epoch
	of alert.Counted
}

// NewCounter makes a counter, which has to run.
func NewCounter(tallies Tallies, log *slog.Logger) *Counter {
	return &Counter{tallies: tallies, log: log, counted: map[minute]*alert.Tally{}}
}

// Observe counts a request.
func (c *Counter) Observe(r *usage.Record) {
	t, counts := tallyOf(r)
	if !counts {
		return
	}
	at := (r.Start + r.Duration) / time.Minute.Microseconds() // it is news when it ends
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(minute{at, alert.Counted{Scope: alert.OfAll}}, t)
	if model := modelOf(r); model != "" {
		c.add(minute{at, alert.Counted{Scope: alert.OfModel, Name: model}}, t)
	}
	if r.Route != "" {
		c.add(minute{at, alert.Counted{Scope: alert.OfRoute, Name: r.Route}}, t)
	}
}

func (c *Counter) add(to minute, t alert.Tally) {
	if c.counted[to] == nil {
		c.counted[to] = &alert.Tally{}
	}
	c.counted[to].Add(t)
}

// tallyOf says what a request adds, and whether it counts at all.
func tallyOf(r *usage.Record) (alert.Tally, bool) {
	switch refused := r.Status >= http.StatusBadRequest && r.Status < http.StatusInternalServerError; {
	case r.Drill != "", r.Status == fault.Canceled.Status():
		return alert.Tally{}, false
	case refused && (r.Status != http.StatusTooManyRequests || len(r.Attempts) == 0):
		return alert.Tally{}, false // what was asked could not be answered, or our own limits refused it
	}
	t := alert.Tally{Requests: 1}
	if r.Code != "" {
		t.Failures = 1
	}
	difference, answered := r.Difference()
	if !answered {
		return t, true
	}
	t.Usual = r.PrimaryCost
	if r.FailedOver() {
		t.FailedOver, t.Extra = 1, difference.Cost
	}
	return t, true
}

// modelOf is the model that a request was meant for. It is one that is declared: what a client sends is nothing to
// keep rows for.
func modelOf(r *usage.Record) string {
	if first := usage.Primary(r.Candidates); first >= 0 {
		return r.Candidates[first].Model
	}
	return r.Model
}

// Run stores what was counted until ctx ends, and then for the last time.
func (c *Counter) Run(ctx context.Context) {
	again := time.NewTicker(countEvery)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastCount)
			defer cancel()
			c.store(last)
			return
		case <-again.C:
			c.store(ctx)
		}
	}
}

func (c *Counter) store(ctx context.Context) {
	list := c.take()
	if len(list) == 0 {
		return
	}
	err := c.tallies.AddTallies(ctx, list)
	if err == nil {
		return
	}
	c.log.WarnContext(ctx, "what was counted for alerts could not be stored and waits", "error", err)
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range list {
		if m := &list[i]; time.Since(m.At) < keepCounts {
			c.add(minute{m.At.Unix() / 60, m.Of}, m.Tally)
		}
	}
}

// take returns what was counted, sorted, and begins anew.
func (c *Counter) take() []alert.Minute {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := make([]alert.Minute, 0, len(c.counted))
	for m, t := range c.counted {
		list = append(list, alert.Minute{At: time.Unix(m.at*60, 0), Of: m.of, Tally: *t})
	}
	clear(c.counted)
	slices.SortFunc(list, func(a, b alert.Minute) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Of.Scope, b.Of.Scope), cmp.Compare(a.Of.Name, b.Of.Name))
	})
	return list
}
