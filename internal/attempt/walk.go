package attempt

import (
	"context"
	"slices"
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
	left   int     // tries that attempts.total still allows
	round  int     // the first is 0
	at     int     // the place in the round
	over   bool
	failed *stop // of the last failure
	last   *upstream.Error
	// beforeWait, when not nil, is called before the walk pauses.
	beforeWait func()
}

// stop is one candidate on the way, with what became of it so far.
type stop struct {
	candidate  *routing.Candidate
	deployment *health.Deployment
	tries      int
	again      bool          // its failure may pass: a further round may try it
	retryAfter time.Duration // as it said itself
	rotate     bool          // its key was refused and another one is there: try it at once
	ejected    bool          // its circuit is open: the last to be tried
	permit     health.Permit
	wait       time.Duration // what was waited for before the present try
	rival      bool          // it runs beside another
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
		s := w.choose()
		if s == nil {
			break
		}
		if s.tries > 0 && !s.rotate && !w.pause(ctx, s) {
			break
		}
		if w.admit(s) {
			if !s.rotate {
				s.tries++
			}
			w.left--
			return s
		}
	}
	w.over = true
	return nil
}

// choose finds the next stop in the order of doc.go.
func (w *walk) choose() *stop {
	if w.failed != nil && w.failed.rotate {
		return w.failed
	}
	for {
		for w.at < len(w.stops) {
			s := &w.stops[w.at]
			w.at++
			if w.due(s) {
				return s
			}
		}
		w.round, w.at = w.round+1, 0
		if !slices.ContainsFunc(w.stops, w.mayRetry) {
			return w.leastBad()
		}
	}
}

// due says whether a stop is to be tried in the present round. A retry needs the deployment's leave: its
// budget keeps retries from becoming a storm.
func (w *walk) due(s *stop) bool {
	if w.round == 0 {
		return !s.ejected && w.suits(s)
	}
	if !w.mayRetry(*s) {
		return false
	}
	s.again = s.deployment.SpendRetry()
	return s.again
}

// mayRetry says whether a further round has something to try at a stop.
func (w *walk) mayRetry(s stop) bool {
	return s.again && !s.ejected && w.suits(&s) && s.tries < w.work.Plan.Policy.Attempts.PerDeployment
}

// leastBad finds the best of those whose circuits are open; each is tried once.
func (w *walk) leastBad() *stop {
	var best *stop
	for i := range w.stops {
		s := &w.stops[i]
		if s.ejected && s.tries == 0 && w.suits(s) && (best == nil || s.deployment.Badness() < best.deployment.Badness()) {
			best = s
		}
	}
	return best
}

// suits says whether a stop may do better than the one that failed: after a request was too long, only a
// larger model does.
func (w *walk) suits(s *stop) bool {
	if w.last == nil || w.last.Outcome != upstream.ContextLength {
		return true
	}
	small, other := w.failed.candidate, s.candidate
	if small.Limits.Context > 0 && other.Limits.Context > 0 {
		return other.Limits.Context > small.Limits.Context
	}
	return other.Model.Name != small.Model.Name
}

// admit takes the permit of a stop's circuit, and a usable key with it. A stop that is not admitted is
// put off to the end.
func (w *walk) admit(s *stop) bool {
	if s.ejected {
		s.permit = s.deployment.Insist()
		return true
	}
	if !w.engine.hasKey(s.candidate) {
		s.ejected, s.candidate.Excluded = true, routing.NoKey
		return false
	}
	permit, ok := s.deployment.Acquire()
	if !ok {
		s.ejected, s.candidate.Excluded = true, routing.CircuitOpen
		return false
	}
	s.permit = permit
	return true
}

// pause waits before the same deployment is tried again: as long as it asked for, else a random part of a
// time that doubles. It is not worth it, and the answer is no, when the whole request would be late.
func (w *walk) pause(ctx context.Context, s *stop) bool {
	wait := s.retryAfter
	if wait == 0 {
		most := min(backoffFirst<<min(s.tries-1, 10), backoffMost)
		wait = time.Duration(w.engine.draw() * float64(most))
	}
	if time.Until(w.work.Start.Add(w.work.Plan.Policy.Deadlines.Total)) <= wait {
		return false
	}
	if w.beforeWait != nil {
		w.beforeWait()
	}
	s.wait = wait
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// note draws the consequences of a failure, for the rest of the walk and for everybody's view of the
// deployment and its key.
func (w *walk) note(s *stop, key *catalog.ProviderKey, f *upstream.Error) {
	rule := rules[f.Outcome]
	w.last, w.failed = f, s
	w.over = w.over || rule.ends(w.work.Plan.Policy)
	s.again, s.rotate, s.wait = rule.scope == ofDeployment || f.Outcome == upstream.RateLimited, false, 0
	s.retryAfter = f.RetryAfter
	if f.RetryAfter > shortWait {
		s.again = false
	}
	several := len(s.candidate.Provider.Keys) > 1
	if rule.ill || rule.scope == ofKey && !several {
		s.permit.Failed()
	} else {
		s.permit.Dropped()
	}
	switch {
	case rule.scope == ofKey && several:
		w.engine.rest(s.candidate, key, f)
		s.rotate = w.engine.hasKey(s.candidate)
	case f.RetryAfter > 0 && (rule.scope == ofDeployment || rule.scope == ofKey):
		s.deployment.HoldOff(f.RetryAfter)
	}
}

// broke draws the consequences of a stream that broke after its first content. Its permit is closed: it had
// served.
func (w *walk) broke(l *leg, f *upstream.Error) {
	rule := rules[f.Outcome]
	s := l.stop
	w.last, w.failed = f, s
	w.over = w.over || rule.ends(w.work.Plan.Policy)
	s.again, s.rotate, s.wait, s.retryAfter = rule.scope == ofDeployment, false, 0, 0
	if rule.ill {
		s.deployment.Fail()
	}
}

// repeat makes a stop the next one to be tried, in another form.
func (w *walk) repeat(s *stop) { w.failed, s.rotate = s, true }

// forget begins a new account of failures, after a success.
func (w *walk) forget() { w.last, w.failed = nil, nil }

// hasOther says whether a candidate is left that has not been tried.
func (w *walk) hasOther(than *stop) bool {
	for i := range w.stops {
		if s := &w.stops[i]; s != than && s.tries == 0 && !s.ejected && w.suits(s) {
			return w.left > 0
		}
	}
	return false
}
