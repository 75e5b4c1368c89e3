package attempt

import (
	"context"
	"time"

	"shareai/internal/routing"
	"shareai/internal/share"
)

// queueing is how a stop stands with the seats of its deployment.
type queueing struct {
	seat *share.Seat // for the present try; nil: none is needed
	turn *share.Turn // not nil: there was no seat when it was last asked for
	// until is when it is given up to wait for one; zero: nobody has waited yet.
	until time.Time
}

// seated takes a seat at a stop. Where there is none the walk goes on at once, and comes back when no other candidate
// is left. The plan tells why.
func (w *walk) seated(ctx context.Context, s *stop) bool {
	if w.engine.desk == nil {
		return true
	}
	c := s.candidate
	s.seat, s.turn = w.engine.desk.Take(ctx, &share.Ask{
		Deployment: c.Target.HealthID, Declared: c.Deployment.Capacity.Concurrency,
		Part: w.work.Part, End: w.end(), Turn: s.turn,
	})
	if s.turn == nil {
		if c.Excluded == routing.AtCapacity {
			c.Excluded = routing.Kept
		}
		s.until = time.Time{}
		return true
	}
	s.again, s.due = true, time.Now()
	if s.tries == 0 {
		c.Excluded = routing.AtCapacity
	}
	return false
}

// queue waits until a seat at a stop may be free. When it has taken too long, or too many wait, the stop is given up.
func (w *walk) queue(ctx context.Context, s *stop) bool {
	begin := time.Now()
	if s.until.IsZero() {
		s.until = begin.Add(share.Patience)
		if end := w.end(); end.Before(s.until) {
			s.until = end
		}
	}
	if w.beforeWait != nil && w.beforeWait() != nil {
		w.over = true
		return false
	}
	if left := time.Until(s.until); left <= 0 || !s.turn.Wait(ctx, left) {
		s.again, s.ejected = false, false
		return false
	}
	s.wait += time.Since(begin)
	return true
}

// end is when the request is over at the latest.
func (w *walk) end() time.Time { return w.work.Start.Add(w.work.Plan.Policy.Deadlines.Total) }
