package attempt

import (
	"context"
	"time"

	"shareai/internal/catalog"
	"shareai/internal/upstream"
)

// tryHedged makes one attempt, and where the policy asks for it a rival when the attempt takes longer
// than nearly all before it. It returns what was won and at which stop.
func (w *walk) tryHedged(ctx context.Context, s *stop) (result, *stop, *upstream.Error) {
	after := w.hedgeAfter(s)
	if after <= 0 {
		got, failure := w.try(ctx, s)
		return got, s, failure
	}
	first := w.launch(ctx, s)
	timer := time.NewTimer(after)
	defer timer.Stop()
	select {
	case end := <-first.done:
		return w.collect(first, end)
	case <-timer.C:
	}
	rival := w.rival()
	if rival == nil {
		return w.collect(first, <-first.done)
	}
	second := w.launch(ctx, rival)
	return w.race(first, second)
}

// hedgeAfter is when a rival starts; 0: none does.
func (w *walk) hedgeAfter(s *stop) time.Duration {
	if w.work.Plan.Policy.Hedge != catalog.HedgeP95 || w.round > 0 || s.ejected {
		return 0
	}
	return s.deployment.P95(w.work.Plan.Mode)
}

// rival is the next candidate of the first round, if its budget allows more than its share.
func (w *walk) rival() *stop {
	if w.round > 0 || w.left <= 0 || w.over {
		return nil
	}
	for w.at < len(w.stops) {
		s := &w.stops[w.at]
		if s.ejected || !w.suits(s) {
			w.at++
			continue
		}
		if !s.deployment.SpendRetry() {
			return nil
		}
		w.at++
		if !w.admit(s) {
			continue
		}
		s.tries++
		w.left--
		s.rival = true
		return s
	}
	return nil
}

// runner is a try that runs by itself.
type runner struct {
	stop   *stop
	try    *try
	cancel context.CancelCauseFunc
	done   chan ended
}

// ended is how a try ended.
type ended struct {
	got     result
	failure *upstream.Error
}

// launch begins a try beside others. Its context lives on with the stream that it may give.
func (w *walk) launch(ctx context.Context, s *stop) *runner {
	ctx, cancel := context.WithCancelCause(ctx)
	r := &runner{stop: s, try: w.open(s), cancel: cancel, done: make(chan ended, 1)}
	go func() {
		got, failure := r.try.run(ctx)
		r.done <- ended{got, failure}
	}()
	return r
}

// collect draws the consequences of a try's end.
func (w *walk) collect(r *runner, end ended) (result, *stop, *upstream.Error) {
	if end.failure != nil {
		r.cancel(context.Canceled)
		w.note(r.stop, r.try.key, end.failure)
	}
	return end.got, r.stop, end.failure
}

// race waits for the first of two to succeed and stops the other. When one fails, all hope is on the other.
func (w *walk) race(a, b *runner) (result, *stop, *upstream.Error) {
	var end ended
	winner, other := a, b
	select {
	case end = <-a.done:
	case end = <-b.done:
		winner, other = b, a
	}
	if end.failure != nil {
		_, _, _ = w.collect(winner, end)
		return w.collect(other, <-other.done)
	}
	other.cancel(upstream.Hedged)
	late := <-other.done // at once: a cancelled call returns
	if late.failure == nil {
		late.failure = &upstream.Error{Outcome: upstream.Hedged, Message: "Another attempt was faster."}
		if late.got.leg != nil {
			late.got.leg.fail(late.failure)
		}
	} else {
		other.stop.permit.Dropped()
	}
	return w.collect(winner, end)
}
