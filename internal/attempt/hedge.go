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
		got, failure := w.tryAt(ctx, s)
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
	rival := w.rival(ctx)
	if rival == nil {
		return w.collect(first, <-first.done)
	}
	return w.race(first, w.launch(ctx, rival))
}

// hedgeAfter is when a rival starts; 0: none does.
func (w *walk) hedgeAfter(s *stop) time.Duration {
	if w.work.Plan.Policy.Hedge != catalog.HedgeP95 || s.tries > 1 || s.ejected {
		return 0
	}
	return s.deployment.P95(w.work.Plan.Mode)
}

// rival is the next candidate of the first round, if its budget allows more than its share.
func (w *walk) rival(ctx context.Context) *stop {
	for w.left > 0 {
		s := w.firstRound()
		if s == nil {
			return nil
		}
		if !s.deployment.SpendRetry() {
			w.at-- // its turn comes when it is not in addition
			return nil
		}
		if w.admit(ctx, s) {
			s.tries++
			w.left--
			s.rival = true
			return s
		}
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
	got      result
	failure  *upstream.Error
	panicked any // what the try panicked with; nil: it did not
}

// launch begins a try beside others. Its context lives on with the stream that it may give. A panic in it is
// the walk's, whose request it is.
func (w *walk) launch(ctx context.Context, s *stop) *runner {
	ctx, cancel := context.WithCancelCause(ctx)
	r := &runner{stop: s, try: w.open(s), cancel: cancel, done: make(chan ended, 1)}
	go func() {
		var end ended
		defer func() {
			end.panicked = recover()
			r.done <- end
		}()
		end.got, end.failure = r.try.run(ctx)
	}()
	return r
}

// collect draws the consequences of a try's end.
func (w *walk) collect(r *runner, end ended) (result, *stop, *upstream.Error) {
	if end.panicked != nil {
		panic(end.panicked)
	}
	if end.failure != nil {
		r.cancel(context.Canceled)
		w.note(r.stop, end.failure)
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
	switch late := <-other.done; { // at once: a cancelled call returns
	case late.panicked != nil:
		panic(late.panicked)
	case late.failure != nil:
		other.stop.permit.Dropped()
	case late.got.leg != nil: // it succeeded all the same, and nobody needs it
		late.got.leg.fail(errHedged())
	}
	return w.collect(winner, end)
}

func errHedged() *upstream.Error {
	return &upstream.Error{Outcome: upstream.Hedged, Message: "Another attempt was faster."}
}
