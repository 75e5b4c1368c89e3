package attempt

import (
	"context"
	"time"

	"shareai/internal/catalog"
	"shareai/internal/health"
	"shareai/internal/routing"
	"shareai/internal/upstream"
)

// The waits between tries of the same deployment.
const (
	backoffFirst = 100 * time.Millisecond // the most before the second try; doubles with each further one
	backoffMost  = 2 * time.Second
	// shortWait is the longest Retry-After that is waited for. A longer one is the client's to wait.
	shortWait = 5 * time.Second
)

// walk is the way of one request through its plan. One goroutine owns it.
type walk struct {
	engine *Engine
	work   *Work
	stops  []stop
	room   [4]stop // most plans need no more
	at     int     // the place in the first round
	left   int     // tries that attempts.total still allows
	over   bool

	last     *upstream.Error  // the failure that the client hears of when no other follows
	tooLong  *stop            // the request was too long for it: only a larger model may do better
	confined *stop            // the policy lets nobody else answer for its failure
	atOnce   *stop            // to be tried next, without a wait: with another key, or in another form
	begun    bool             // the client has seen content
	only     func(*stop) bool // who may go on with it; nil: all
	// beforeWait, when not nil, is called before something is waited for: the time to flush what has come. Its error
	// says that the client is gone.
	beforeWait func() error
}

// stop is one candidate on the way, with what became of it so far.
type stop struct {
	candidate  *routing.Candidate
	deployment *health.Deployment
	permit     health.Permit // for the present try
	key        *catalog.ProviderKey
	tries      int
	again      bool          // its failure may pass: it may be tried again when due
	due        time.Time     // after a back-off, or the Retry-After that it sent
	wait       time.Duration // what was waited for before the present try
	ejected    bool          // its circuit is open, or it has no key left: the last to be tried
	rival      bool          // it runs beside another
	queueing                 // for a seat
	// refusesPrefill is set when it does not take the beginning of its answer.
	refusesPrefill bool
}

func newWalk(e *Engine, work *Work) *walk {
	w := &walk{engine: e, work: work, left: work.Plan.Policy.Attempts.Total}
	w.stops = w.room[:0]
	for i := range work.Plan.Candidates {
		c := &work.Plan.Candidates[i]
		if c.Excluded == routing.Kept || c.Excluded == routing.CircuitOpen {
			w.stops = append(w.stops, stop{candidate: c, deployment: e.board.Deployment(c.HealthID), ejected: c.Excluded == routing.CircuitOpen})
		}
	}
	return w
}

// next is where the next try goes; nil when the walk is over. It waits where a back-off is due, and
// takes the permit for the try.
func (w *walk) next(ctx context.Context) *stop {
	for !w.over && w.left > 0 && ctx.Err() == nil {
		s, inTurn := w.atOnce, false
		if w.atOnce = nil; s == nil {
			s, inTurn = w.choose(), true
		}
		if s == nil {
			break
		}
		switch {
		case s.turn != nil:
			if !w.queue(ctx, s) {
				continue
			}
		case inTurn && s.tries > 0 && !w.pause(ctx, s):
			continue
		}
		if !w.admit(ctx, s) {
			continue
		}
		if inTurn {
			s.tries++
		}
		w.left--
		return s
	}
	w.over = true
	return nil
}

// choose finds the next stop in the order of doc.go.
func (w *walk) choose() *stop {
	if s := w.firstRound(); s != nil {
		return s
	}
	for {
		s := w.soonest()
		if s == nil {
			return w.leastBad()
		}
		// The deployment's budget keeps retries from becoming a storm.
		if s.turn != nil || s.deployment.SpendRetry() {
			return s
		}
		s.again = false
	}
}

// firstRound is the next stop that had no turn yet.
func (w *walk) firstRound() *stop {
	for w.at < len(w.stops) {
		s := &w.stops[w.at]
		w.at++
		if !s.ejected && w.suits(s) {
			return s
		}
	}
	return nil
}

// soonest is the stop that may be tried again first.
func (w *walk) soonest() *stop {
	var best *stop
	for i := range w.stops {
		s := &w.stops[i]
		if s.again && !s.ejected && w.suits(s) && s.tries < w.perDeployment() && (best == nil || s.due.Before(best.due)) {
			best = s
		}
	}
	return best
}

// leastBad is the best of those whose circuits are open. Who was tried before and has been waited for, in vain
// because its circuit lets others through first, is tried all the same.
func (w *walk) leastBad() *stop {
	var best *stop
	for i := range w.stops {
		s := &w.stops[i]
		if s.ejected && (s.tries == 0 || s.again && s.tries < w.perDeployment()) && w.suits(s) &&
			(best == nil || s.deployment.Badness() < best.deployment.Badness()) {
			best = s
		}
	}
	return best
}

func (w *walk) perDeployment() int { return w.work.Plan.Policy.Attempts.PerDeployment }

// suits says whether a stop may do better than those before it.
func (w *walk) suits(s *stop) bool {
	switch {
	case w.confined != nil && s != w.confined, w.only != nil && !w.only(s):
		return false
	case w.tooLong == nil:
		return true
	}
	small, other := w.tooLong.candidate, s.candidate
	if small.Limits.Context > 0 && other.Limits.Context > 0 {
		return other.Limits.Context > small.Limits.Context
	}
	return other.Model.Name != small.Model.Name
}

// admit takes what a try at a stop needs: a key, the permit of its circuit, and a seat.
func (w *walk) admit(ctx context.Context, s *stop) bool {
	if !w.permitted(s) {
		return false
	}
	if !w.seated(ctx, s) {
		s.permit.Dropped()
		return false
	}
	return true
}

// permitted takes a key for a stop and the permit of its circuit. A stop that is not permitted is put off to the end.
func (w *walk) permitted(s *stop) bool {
	var usable bool
	s.key, usable = w.engine.pick(s.candidate)
	if s.ejected {
		s.permit, s.ejected = s.deployment.Insist(), false
		return true
	}
	if !usable {
		w.eject(s, routing.NoKey)
		return false
	}
	permit, ok := s.deployment.Acquire()
	if !ok {
		w.eject(s, routing.CircuitOpen)
		return false
	}
	s.permit = permit
	return true
}

// eject puts a stop off to the end. Where it had no turn yet, the plan tells why.
func (w *walk) eject(s *stop, why routing.Reason) {
	s.ejected = true
	if s.tries == 0 {
		s.candidate.Excluded = why
	}
}

// pause waits until a stop is due. When the whole request would then be late, the answer is no, and the stop is
// not tried again.
func (w *walk) pause(ctx context.Context, s *stop) bool {
	s.wait = time.Until(s.due)
	if s.wait <= 0 {
		s.wait = 0
		return true
	}
	if time.Until(w.work.Start.Add(w.work.Plan.Policy.Deadlines.Total)) <= s.wait {
		s.again = false
		return false
	}
	if w.beforeWait != nil && w.beforeWait() != nil {
		w.over = true
		return false
	}
	timer := time.NewTimer(s.wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// backoff is a random part of a time that doubles with each try.
func (w *walk) backoff(tries int) time.Duration {
	most := min(backoffFirst<<min(max(tries, 1)-1, 10), backoffMost)
	return time.Duration(w.engine.draw() * float64(most))
}

// note draws the consequences of a try that failed, for the rest of the walk and for everybody's view of the
// deployment and its key.
func (w *walk) note(s *stop, f *upstream.Error) {
	rule := rules[f.Outcome]
	several := len(s.candidate.Provider.Keys) > 1
	if rule.ill || rule.scope == ofKey && !several {
		s.permit.Failed()
	} else {
		s.permit.Dropped()
	}
	w.remember(s, f)
	switch {
	case rule.scope == ofKey && several:
		w.engine.rest(s.candidate, s.key, f)
		if w.engine.hasKey(s.candidate) {
			w.atOnce = s
		}
	case f.RetryAfter > 0 && (rule.scope == ofDeployment || rule.scope == ofKey):
		s.deployment.HoldOff(f.RetryAfter)
	}
}

// broke draws the consequences of a stream that broke after its first content, which had counted as a success.
func (w *walk) broke(l *leg, f *upstream.Error) {
	if rules[f.Outcome].ill {
		l.stop.deployment.Broke()
	}
	w.remember(l.stop, f)
}

// remember decides what a failure means for the rest of the walk.
func (w *walk) remember(s *stop, f *upstream.Error) {
	rule, policy := rules[f.Outcome], w.work.Plan.Policy
	w.last = f
	s.wait, s.due = 0, time.Now().Add(w.backoff(s.tries))
	s.again = (rule.scope == ofDeployment || f.Outcome == upstream.RateLimited) && f.RetryAfter <= shortWait
	if f.RetryAfter > 0 {
		s.due = time.Now().Add(f.RetryAfter)
	}
	switch {
	case rule.scope == ofLength:
		w.tooLong = s
	case f.Outcome == upstream.ClientError && w.begun:
		// The request was good for whoever began: it is this candidate that does not take it.
	case rule.scope == ofClient, rule.scope == ofContent && policy.OnContentFilter != catalog.FilterFallback:
		w.over = true
	case !rule.movesOn(policy):
		w.confined = s
	}
}

// begin starts a new account of failures: the client has seen content.
func (w *walk) begin() {
	w.begun, w.last, w.confined, w.atOnce, w.only = true, nil, nil, nil, nil
}

// hasOther says whether a candidate is left that had no turn yet.
func (w *walk) hasOther(than *stop) bool {
	for i := range w.stops {
		if s := &w.stops[i]; s != than && s.tries == 0 && !s.ejected && s.turn == nil && w.suits(s) {
			return w.left > 0
		}
	}
	return false
}
