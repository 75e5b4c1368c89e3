package attempt

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"shareai/internal/account"
	"shareai/internal/catalog"
	"shareai/internal/fault"
	"shareai/internal/health"
	"shareai/internal/routing"
	"shareai/internal/upstream"
)

// A new outcome needs a decision.
func TestEveryOutcomeHasARule(t *testing.T) {
	for _, o := range upstream.Outcomes {
		if _, ok := rules[o]; !ok && o != upstream.OK {
			t.Errorf("%s has no rule", o)
		}
	}
	for o, r := range rules {
		if r.scope != ofClient && r.scope != ofContent && r.scope != ofGateway && r.class == "" {
			t.Errorf("%s can not be named in failover_on", o)
		}
	}
}

// Where a failure leads: to the next candidate, to another try, or to the client.
func TestWhereAFailureLeads(t *testing.T) {
	type leads struct {
		next  bool       // to another candidate
		again bool       // where there is no other, to another try
		kind  fault.Kind // of what the client hears when nothing helped
	}
	table := map[upstream.Outcome]leads{
		upstream.ConnectFailed:     {true, true, fault.Upstream},
		upstream.ConnectTimeout:    {true, false, fault.Timeout},
		upstream.DNSFailed:         {true, true, fault.Upstream},
		upstream.TLSFailed:         {true, false, fault.Upstream},
		upstream.RefusedAddress:    {true, false, fault.Upstream},
		upstream.Broken:            {true, true, fault.Upstream},
		upstream.Overloaded:        {true, true, fault.Unavailable},
		upstream.NodeBusy:          {true, true, fault.Unavailable},
		upstream.NodeAway:          {true, true, fault.Unavailable},
		upstream.ServerError:       {true, true, fault.Upstream},
		upstream.BadAnswer:         {true, true, fault.Upstream},
		upstream.ErrorEvent:        {true, true, fault.Upstream},
		upstream.NoFinish:          {true, true, fault.Upstream},
		upstream.EmptyAnswer:       {true, true, fault.Upstream},
		upstream.TimeoutStatus:     {true, false, fault.Timeout},
		upstream.HeadersTimeout:    {true, false, fault.Timeout},
		upstream.FirstTokenTimeout: {true, false, fault.Timeout},
		upstream.IdleTimeout:       {true, false, fault.Timeout},
		upstream.NotFound:          {true, false, fault.Upstream},
		upstream.RateLimited:       {true, true, fault.RateLimited},
		upstream.QuotaExhausted:    {true, false, fault.RateLimited},
		upstream.KeyRejected:       {true, false, fault.Upstream},
		upstream.ContextLength:     {false, false, fault.Invalid}, // the candidates of this test serve one model
		upstream.ContentFilter:     {false, false, fault.Invalid},
		upstream.ClientError:       {false, false, fault.Invalid},
		upstream.Canceled:          {false, false, fault.Canceled},
		upstream.TotalTimeout:      {false, false, fault.Timeout},
		upstream.Diverged:          {true, false, fault.Upstream},
		upstream.Hedged:            {true, false, fault.Upstream},
	}
	for _, o := range upstream.Outcomes {
		want, ok := table[o]
		if !ok && o != upstream.OK {
			t.Errorf("%s is not in the table", o)
		}
		if o == upstream.OK {
			continue
		}
		synctest.Test(t, func(t *testing.T) {
			h := newHouse(t)
			a, b := h.add(failing(o)), h.add(saying("yes", "stop"))
			began := time.Now()
			_, err := h.run(t.Context(), unaryBody)
			if (err == nil) != want.next || (len(b.calls) == 1) != want.next || len(a.calls) != 1 {
				t.Errorf("%s: %v after %q", o, err, h.outcomes())
			}
			if d := time.Since(began); d != 0 {
				t.Errorf("%s: the next candidate had to wait %v", o, d)
			}

			alone := newHouse(t)
			a = alone.add(failing(o))
			_, err = alone.run(t.Context(), unaryBody)
			if tries := len(a.calls); (tries == 2) != want.again || tries > 2 || fault.From(err).Kind != want.kind {
				t.Errorf("%s alone: %v after %q", o, err, alone.outcomes())
			}
		})
	}
}

func TestBackOff(t *testing.T) {
	for _, c := range []struct {
		name   string
		policy catalog.Policy
		script []behaviour
		calls  int
		after  time.Duration
		fails  bool
	}{
		{"half of the first back-off", catalog.Policy{}, []behaviour{failing(upstream.Overloaded), saying("yes", "stop")}, 2, 50 * time.Millisecond, false},
		{
			"it doubles",
			catalog.Policy{Attempts: catalog.Attempts{PerDeployment: 4}},
			[]behaviour{failing(upstream.Overloaded), failing(upstream.Broken), failing(upstream.ServerError), saying("yes", "stop")},
			4, (50 + 100 + 200) * time.Millisecond, false,
		},
		{"a short Retry-After is kept", catalog.Policy{}, []behaviour{asking(upstream.RateLimited, 2*time.Second), saying("yes", "stop")}, 2, 2 * time.Second, false},
		{"a long one is the client's", catalog.Policy{}, []behaviour{asking(upstream.RateLimited, 20*time.Second), saying("yes", "stop")}, 1, 0, true},
		{"not past the deadline", catalog.Policy{Deadlines: catalog.Deadlines{Total: time.Second}}, []behaviour{asking(upstream.Overloaded, 2*time.Second), saying("yes", "stop")}, 1, 0, true},
		{"per_deployment bounds", catalog.Policy{Attempts: catalog.Attempts{PerDeployment: 3}}, []behaviour{failing(upstream.Overloaded)}, 3, 150 * time.Millisecond, true},
		{"total bounds", catalog.Policy{Attempts: catalog.Attempts{Total: 2, PerDeployment: 9}}, []behaviour{failing(upstream.Overloaded)}, 2, 50 * time.Millisecond, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t)
				h.policy = c.policy
				a := h.add(c.script...)
				began := time.Now()
				_, err := h.run(t.Context(), unaryBody)
				if d := time.Since(began); len(a.calls) != c.calls || d != c.after || (err != nil) != c.fails {
					t.Errorf("%d calls, %v, %v", len(a.calls), d, err)
				}
				if log := h.log.Attempts(); c.calls > 1 && (!log[1].Retry || log[1].Wait == 0 || log[0].Retry) {
					t.Errorf("the log does not tell of the retry: %+v", log)
				}
			})
		})
	}
}

func TestALongRetryAfterIsPassedOn(t *testing.T) {
	h := newHouse(t)
	h.add(asking(upstream.RateLimited, 20*time.Second))
	_, err := h.run(t.Context(), unaryBody)
	if e := fault.From(err); e.Kind != fault.RateLimited || e.RetryAfter != 20*time.Second {
		t.Errorf("%v, %v", e, e.RetryAfter)
	}
}

// A unary answer has no usual length, so that a silent candidate without a headers deadline is given half of what
// is left while somebody else could answer, and all of it when nobody could.
func TestASilentCandidateLeavesTimeForTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.policy.Deadlines.Total = time.Minute
		h.add(slowly(time.Hour, saying("late", "stop")))
		h.add(slowly(time.Hour, saying("late", "stop")))
		h.add(slowly(10*time.Second, saying("yes", "stop")))
		began := time.Now()
		_, err := h.run(t.Context(), unaryBody)
		if err != nil || h.outcomes() != "a:headers_timeout b:headers_timeout c:ok" || time.Since(began) != 55*time.Second {
			t.Errorf("%v after %q and %v", err, h.outcomes(), time.Since(began))
		}
		h.stops = h.stops[:1]
		began = time.Now()
		if _, err := h.run(t.Context(), unaryBody); err == nil || h.outcomes() != "a:total_timeout" || time.Since(began) != time.Minute {
			t.Errorf("alone: %v after %q and %v", err, h.outcomes(), time.Since(began))
		}
	})
}

// Every candidate has its turn before any is tried again.
func TestRoundsComeBeforeRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.add(failing(upstream.Overloaded))
		h.add(failing(upstream.HeadersTimeout))
		h.add(failing(upstream.Broken), saying("yes", "stop"))
		if _, err := h.run(t.Context(), unaryBody); err != nil {
			t.Fatal(err)
		}
		if got := h.outcomes(); got != "a:overloaded b:headers_timeout c:broken a:overloaded c:ok" {
			t.Error(got)
		}
	})
}

func TestAnEmptyRetryBudgetEndsRetries(t *testing.T) {
	h := newHouse(t)
	a := h.add(failing(upstream.Overloaded))
	for h.board.Deployment("a/m").SpendRetry() {
		if t.Context().Err() != nil {
			t.Fatal("the budget has no end")
		}
	}
	if _, err := h.run(t.Context(), unaryBody); err == nil || len(a.calls) != 1 {
		t.Errorf("%d calls, %v", len(a.calls), err)
	}
}

func TestAClientThatLeavesEndsTheWalk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		a := h.add(asking(upstream.Overloaded, 3*time.Second))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := h.run(ctx, unaryBody)
		if fault.From(err).Kind != fault.Canceled || len(a.calls) != 1 {
			t.Errorf("%v after %d calls", err, len(a.calls))
		}
	})
}

func TestKeysRotate(t *testing.T) {
	two := []catalog.ProviderKey{{Name: "one"}, {Name: "two"}}
	refuse := func(name string, o upstream.Outcome) behaviour {
		return func(ctx context.Context, call *upstream.Call) (*upstream.Answer, error) {
			if call.Key.Name == name || name == "" {
				return failing(o)(ctx, call)
			}
			return saying("yes", "stop")(ctx, call)
		}
	}
	for _, o := range []upstream.Outcome{upstream.KeyRejected, upstream.RateLimited, upstream.QuotaExhausted} {
		synctest.Test(t, func(t *testing.T) {
			h := newHouse(t)
			h.draw = 0
			a := h.add(refuse("one", o))
			a.candidate.Provider.Keys = two
			began := time.Now()
			if _, err := h.run(t.Context(), unaryBody); err != nil || time.Since(began) != 0 {
				t.Errorf("%s: %v after %q", o, err, h.outcomes())
			}
			if _, err := h.run(t.Context(), unaryBody); err != nil || h.log.Len() != 1 {
				t.Errorf("%s: the refused key was used again: %q", o, h.outcomes())
			}
		})
		synctest.Test(t, func(t *testing.T) {
			h := newHouse(t)
			a, b := h.add(refuse("", o)), h.add(saying("yes", "stop"))
			a.candidate.Provider.Keys = two
			if _, err := h.run(t.Context(), unaryBody); err != nil || len(a.calls) != 2 || len(b.calls) != 1 {
				t.Errorf("%s: %v after %q", o, err, h.outcomes())
			}
			if _, err := h.run(t.Context(), unaryBody); err != nil || len(a.calls) != 2 {
				t.Errorf("%s: a provider without a good key was asked: %q", o, h.outcomes())
			}
			// When nobody else is there, even a resting key is better than none.
			h.stops = h.stops[:1]
			if _, err := h.run(t.Context(), unaryBody); err == nil || len(a.calls) < 3 {
				t.Errorf("%s: %v after %d calls", o, err, len(a.calls))
			}
		})
	}
}

func TestKeysAreDrawnByWeight(t *testing.T) {
	c := &routing.Candidate{HealthID: "a/m"}
	c.ID = "a/m"
	c.Provider = &catalog.Provider{Name: "a", Keys: []catalog.ProviderKey{{Name: "one"}, {Name: "three", Weight: 3, Secret: account.NewSecret("s")}}}
	count := map[string]int{}
	for i := range 4 {
		e := NewEngine(nil, health.NewBoard(health.Options{}), func() float64 { return float64(i) / 4 })
		key, _ := e.pick(c)
		count[key.Name]++
	}
	if count["one"] != 1 || count["three"] != 3 {
		t.Errorf("%v", count)
	}
	c.Provider = &catalog.Provider{Name: "a"}
	if key, _ := (&Engine{}).pick(c); key.Name != "" {
		t.Error("a provider without keys")
	}
}

// A request that is too long goes to a larger model at once, and to no other.
func TestTooLongGoesToALargerModel(t *testing.T) {
	h := newHouse(t)
	small := h.add(failing(upstream.ContextLength))
	same := h.add(saying("no", "stop"))
	large := h.add(saying("yes", "stop"))
	small.candidate.Limits.Context, same.candidate.Limits.Context, large.candidate.Limits.Context = 8192, 8192, 131072
	if _, err := h.run(t.Context(), unaryBody); err != nil || h.outcomes() != "a:context_length c:ok" {
		t.Errorf("%v after %q", err, h.outcomes())
	}
}

func TestAContentFilterMayFallBack(t *testing.T) {
	for _, refusal := range []behaviour{failing(upstream.ContentFilter), saying("", "content_filter")} {
		h := newHouse(t)
		h.policy.OnContentFilter = catalog.FilterFallback
		h.add(refusal)
		h.add(saying("yes", "stop"))
		if _, err := h.run(t.Context(), unaryBody); err != nil || h.outcomes() != "a:content_filter b:ok" {
			t.Errorf("%v after %q", err, h.outcomes())
		}
	}
	h := newHouse(t)
	h.add(saying("", "content_filter"))
	h.add(saying("yes", "stop"))
	if _, err := h.run(t.Context(), unaryBody); err != nil || h.outcomes() != "a:ok" {
		t.Errorf("the policy says return: %v after %q", err, h.outcomes())
	}
}

func TestAnEmptyAnswerIsTriedElsewhere(t *testing.T) {
	h := newHouse(t)
	h.add(saying("", "stop"))
	h.add(saying("yes", "stop"))
	if _, err := h.run(t.Context(), unaryBody); err != nil || h.outcomes() != "a:empty_answer b:ok" {
		t.Errorf("%v after %q", err, h.outcomes())
	}
	if a := h.log.Attempts()[0]; a.Tokens.Prompt != 3 {
		t.Errorf("what the empty answer used is not on the record: %+v", a.Tokens)
	}
	h = newHouse(t)
	h.add(saying("", "stop"))
	h.add(saying("", "stop"))
	answer, err := h.run(t.Context(), unaryBody)
	if err != nil || answer.Candidate.ID != "b/m" {
		t.Errorf("when all have nothing to say, that is the answer: %v", err)
	}
	h = newHouse(t)
	h.add(saying("", "length"))
	h.add(saying("yes", "stop"))
	if _, err := h.run(t.Context(), unaryBody); err != nil || h.log.Len() != 1 {
		t.Errorf("a limit of the client's own cut it to nothing: %v after %q", err, h.outcomes())
	}
}

// failover_on bounds who answers for a failure. The deployment itself may try again, and with another key.
func TestFailoverOnBoundsFailover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.policy.FailoverOn = []catalog.FailureClass{catalog.FailConnect}
		h.add(failing(upstream.ServerError))
		h.add(saying("yes", "stop"))
		if _, err := h.run(t.Context(), unaryBody); err == nil || h.outcomes() != "a:server_error a:server_error" {
			t.Errorf("%v after %q", err, h.outcomes())
		}
		h.stops[0].script = []behaviour{failing(upstream.ConnectFailed)}
		if _, err := h.run(t.Context(), unaryBody); err != nil || h.outcomes() != "a:connect_failed b:ok" {
			t.Errorf("%v after %q", err, h.outcomes())
		}
		h.stops[0].candidate.Provider.Keys = []catalog.ProviderKey{{Name: "one"}, {Name: "two"}}
		h.stops[0].script = []behaviour{failing(upstream.KeyRejected), saying("yes", "stop")}
		if _, err := h.run(t.Context(), unaryBody); err != nil || h.outcomes() != "a:key_rejected a:ok" {
			t.Errorf("%v after %q", err, h.outcomes())
		}
	})
}

// One that can not be waited for does not keep the others from being tried again, and the one that is due
// first goes first.
func TestWhoIsDueFirstGoesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.policy.Deadlines.Total = 3 * time.Second
		h.add(asking(upstream.Overloaded, 4*time.Second))
		h.add(failing(upstream.Broken), saying("yes", "stop"))
		began := time.Now()
		if _, err := h.run(t.Context(), unaryBody); err != nil || h.outcomes() != "a:overloaded b:broken b:ok" || time.Since(began) != 50*time.Millisecond {
			t.Errorf("%v after %q and %v", err, h.outcomes(), time.Since(began))
		}
	})
}

// All who wait for the same Retry-After have their try, although the circuit lets one probe through.
func TestWaitingIsNotInVain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		var down atomic.Bool
		down.Store(true)
		h.add(func(ctx context.Context, call *upstream.Call) (*upstream.Answer, error) {
			if down.Load() {
				return asking(upstream.Overloaded, 2*time.Second)(ctx, call)
			}
			return slowly(time.Second, saying("yes", "stop"))(ctx, call)
		})
		time.AfterFunc(time.Second, func() { down.Store(false) })
		var all sync.WaitGroup
		for range 8 {
			other := *h // each request has a log of its own
			all.Go(func() {
				if _, err := other.run(t.Context(), unaryBody); err != nil {
					t.Errorf("%v after %q", err, other.outcomes())
				}
			})
		}
		all.Wait()
	})
}

// What was too long for one is not sent to another of its size, whatever happened in between.
func TestTooLongIsRemembered(t *testing.T) {
	h := newHouse(t)
	for i, script := range []behaviour{failing(upstream.ContextLength), failing(upstream.HeadersTimeout), saying("no", "stop")} {
		h.add(script).candidate.Limits.Context = []int64{8192, 131072, 8192}[i]
	}
	_, err := h.run(t.Context(), unaryBody)
	if h.outcomes() != "a:context_length b:headers_timeout" || fault.From(err).Kind == fault.Invalid {
		t.Errorf("%v after %q", err, h.outcomes())
	}
}

// An open circuit keeps a candidate out of the first rounds; when all else has failed it serves.
func TestTheLeastBadServesLast(t *testing.T) {
	h := newHouse(t)
	h.add(saying("yes", "stop")).candidate.Excluded = routing.CircuitOpen
	h.add(failing(upstream.HeadersTimeout))
	h.add(saying("never", "stop")).candidate.Excluded = routing.WrongRegion
	answer, err := h.run(t.Context(), unaryBody)
	if err != nil || h.outcomes() != "b:headers_timeout a:ok" || answer.Candidate.ID != "a/m" {
		t.Errorf("%v after %q", err, h.outcomes())
	}
}

func TestACircuitThatOpensMeanwhileIsPassedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		a := h.add(failing(upstream.ServerError))
		h.add(saying("yes", "stop"))
		for range 20 {
			if _, err := h.run(t.Context(), unaryBody); err != nil {
				t.Fatal(err)
			}
		}
		if len(a.calls) > 10 {
			t.Errorf("%d calls to a deployment that always fails", len(a.calls))
		}
		if h.outcomes() != "b:ok" {
			t.Errorf("%q", h.outcomes())
		}
	})
}

func TestHedging(t *testing.T) {
	warm := func(h *house, id string) {
		d := h.board.Deployment(id)
		for range 40 {
			p, _ := d.Acquire()
			p.Succeeded(health.WholeAnswer, 100*time.Millisecond)
		}
	}
	hedged := func(t *testing.T, a, b behaviour) (*house, Answer, time.Duration, error) {
		h := newHouse(t)
		h.policy.Hedge = catalog.HedgeP95
		h.add(a)
		h.add(b)
		warm(h, "a/m")
		warm(h, "b/m")
		began := time.Now()
		answer, err := h.run(t.Context(), unaryBody)
		return h, answer, time.Since(began), err
	}
	synctest.Test(t, func(t *testing.T) {
		h, answer, took, err := hedged(t, slowly(time.Minute, saying("late", "stop")), slowly(50*time.Millisecond, saying("yes", "stop")))
		if err != nil || answer.Candidate.ID != "b/m" || h.outcomes() != "a:hedged b:ok" || took > time.Second {
			t.Errorf("a slow first: %v, %q, %v", err, h.outcomes(), took)
		}
		if log := h.log.Attempts(); !log[1].Hedge || log[0].Hedge {
			t.Errorf("the log does not tell who was the rival: %+v", log)
		}
		h, _, _, err = hedged(t, saying("yes", "stop"), saying("no", "stop"))
		if err != nil || h.outcomes() != "a:ok" {
			t.Errorf("a quick first needs no rival: %v, %q", err, h.outcomes())
		}
		h, _, _, err = hedged(t, slowly(time.Second, saying("yes", "stop")), slowly(10*time.Millisecond, failing(upstream.ServerError)))
		if err != nil || h.outcomes() != "a:ok b:server_error" {
			t.Errorf("a rival that fails: %v, %q", err, h.outcomes())
		}
		h, _, _, err = hedged(t, slowly(time.Second, failing(upstream.ServerError)), slowly(5*time.Second, saying("yes", "stop")))
		if err != nil || h.outcomes() != "a:server_error b:ok" {
			t.Errorf("a first that fails beside its rival: %v, %q", err, h.outcomes())
		}
		for h.board.Deployment("b/m").SpendRetry() {
			h.draw = 0
		}
		h.stops[0].script = []behaviour{slowly(time.Second, saying("yes", "stop"))}
		if _, err = h.run(t.Context(), unaryBody); err != nil || h.outcomes() != "a:ok" {
			t.Errorf("a rival without a budget: %v, %q", err, h.outcomes())
		}
	})
}

func TestAWalkWithoutAnyTryIsNoSuccess(t *testing.T) {
	h := newHouse(t)
	h.add(saying("yes", "stop"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.run(ctx, unaryBody); !errors.Is(err, context.Canceled) && fault.From(err).Kind != fault.Canceled {
		t.Error(err)
	}
}

// A panic beside the walk is the request's, not the process's.
func TestAPanicOfARivalIsTheRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, defect := range []int{0, 1} {
			h := newHouse(t)
			h.policy.Hedge = catalog.HedgeP95
			for i := range 2 {
				script := slowly(time.Minute, saying("yes", "stop"))
				if i == defect {
					script = slowly(time.Second, func(context.Context, *upstream.Call) (*upstream.Answer, error) { panic("defect") })
				}
				h.add(script)
			}
			for range 40 {
				p, _ := h.board.Deployment("a/m").Acquire()
				p.Succeeded(health.WholeAnswer, 100*time.Millisecond)
			}
			func() {
				defer func() {
					if p := recover(); p != "defect" {
						t.Errorf("%v", p)
					}
				}()
				_, _ = h.run(t.Context(), unaryBody)
			}()
		}
	})
}
