package attempt

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"shareai/internal/account"
	"shareai/internal/catalog"
	"shareai/internal/fault"
	"shareai/internal/routing"
	"shareai/internal/share"
	"shareai/internal/upstream"
)

// limited gives a deployment one seat.
func (d *double) limited() *double {
	d.candidate.Target.HealthID = d.candidate.ID
	d.candidate.Deployment.Capacity = catalog.Capacity{Concurrency: 1}
	return d
}

// open makes every attempt need a seat where its deployment has a capacity.
func (h *house) open() { h.desk = share.NewDesk(nil, slog.New(slog.DiscardHandler)) }

// occupy takes a seat at a deployment for somebody else.
func (h *house) occupy(d *double) *share.Seat {
	seat, turn := h.desk.Take(h.t.Context(), &share.Ask{
		Deployment: d.candidate.ID, Declared: d.candidate.Deployment.Capacity.Concurrency,
		Part: account.Part{Owner: "acme", Millionths: 1e6}, End: time.Now().Add(time.Hour),
	})
	if turn != nil {
		h.t.Errorf("%s has no seat", d.candidate.ID)
	}
	return seat
}

// expectFree says that a deployment with one seat has it.
func (h *house) expectFree(d *double) {
	h.t.Helper()
	h.occupy(d).Release()
}

func TestAFullDeploymentIsPassedOverAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.open()
		a := h.add(saying("a", "stop")).limited()
		h.add(saying("b", "stop")).limited()
		h.occupy(a)
		start := time.Now()
		answer, err := h.run(t.Context(), unaryBody)
		if err != nil || answer.Candidate.ID != "b/m" || time.Since(start) != 0 {
			t.Fatalf("%v, %v after %s", answer.Candidate, err, time.Since(start))
		}
		if got := h.plan.Candidates[0].Excluded; got != routing.AtCapacity {
			t.Errorf("the plan says %q", got)
		}
	})
}

func TestWhoHasNowhereElseToGoWaitsForASeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.open()
		a := h.add(saying("a", "stop")).limited()
		h.add(failing(upstream.NotFound))
		time.AfterFunc(300*time.Millisecond, h.occupy(a).Release)
		start := time.Now()
		answer, err := h.run(t.Context(), unaryBody)
		if err != nil || answer.Candidate.ID != "a/m" || time.Since(start) != 300*time.Millisecond {
			t.Fatalf("%v, %v after %s", answer.Candidate, err, time.Since(start))
		}
		attempts := h.log.Attempts()
		if got := attempts[len(attempts)-1]; got.Wait != (300*time.Millisecond).Microseconds() || got.Retry {
			t.Errorf("%+v", got)
		}
		if got := h.plan.Candidates[0].Excluded; got != routing.Kept {
			t.Errorf("the plan says %q", got)
		}
		h.expectFree(a)
	})
}

func TestWhoGetsNoSeatIsToldWhenToComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.open()
		for range 2 {
			h.occupy(h.add(saying("never", "stop")).limited())
		}
		start := time.Now()
		_, err := h.run(t.Context(), unaryBody)
		e := fault.From(err)
		if e.Kind != fault.RateLimited || e.Code != "capacity_exceeded" || e.RetryAfter != share.RetryAfter {
			t.Errorf("%+v", e)
		}
		if took := time.Since(start); took < share.Patience || took > share.Patience+100*time.Millisecond {
			t.Errorf("after %s", took)
		}
		if h.log.Len() != 0 {
			t.Errorf("attempts: %s", h.outcomes())
		}
	})
}

// A client that leaves while it waits is gone at once, and a request that may not take that long does not wait that long.
func TestWaitingForASeatEndsWithTheRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.open()
		h.occupy(h.add(saying("never", "stop")).limited())
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(10*time.Millisecond, cancel)
		start := time.Now()
		if _, err := h.run(ctx, unaryBody); !errors.Is(err, context.Canceled) && fault.From(err).Kind != fault.Canceled || time.Since(start) != 10*time.Millisecond {
			t.Errorf("%v after %s", err, time.Since(start))
		}
		h.policy.Deadlines.Total = 200 * time.Millisecond
		start = time.Now()
		if _, err := h.run(t.Context(), unaryBody); fault.From(err).Kind != fault.RateLimited || time.Since(start) != 200*time.Millisecond {
			t.Errorf("%v after %s", err, time.Since(start))
		}
	})
}

// Whatever way an attempt ends, its seat is free again.
func TestASeatIsGivenBackOnEveryWayOut(t *testing.T) {
	full := func(h *house) *double { return h.add(streaming(delta("one"), delta("two"), stopChunk, doneMark)) }
	for name, way := range map[string]struct {
		script func(h *house) *double
		body   string
		end    func(t *testing.T, h *house, body string)
	}{
		"success":  {func(h *house) *double { return h.add(saying("yes", "stop")) }, unaryBody, ask},
		"error":    {func(h *house) *double { return h.add(failing(upstream.ServerError)) }, unaryBody, ask},
		"panic":    {func(h *house) *double { return h.add(panicking) }, unaryBody, askInPanic},
		"cancel":   {func(h *house) *double { return h.add(slowly(time.Hour, saying("late", "stop"))) }, unaryBody, askAndLeave},
		"timeout":  {func(h *house) *double { return h.add(slowly(time.Hour, saying("late", "stop"))) }, streamBody, ask},
		"end":      {full, streamBody, readAll},
		"leaving":  {full, streamBody, readOne},
		"breaking": {func(h *house) *double { return h.add(streaming(delta("one"), "CUT")) }, streamBody, readAll},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t)
				h.open()
				d := way.script(h).limited()
				way.end(t, h, way.body)
				h.expectFree(d)
			})
		})
	}
}

func ask(t *testing.T, h *house, body string) {
	_, _ = h.run(t.Context(), body)
}

func askAndLeave(t *testing.T, h *house, body string) {
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(time.Millisecond, cancel)
	_, _ = h.run(ctx, body)
}

func askInPanic(t *testing.T, h *house, body string) {
	defer func() {
		if recover() == nil {
			t.Error("it did not panic")
		}
	}()
	_, _ = h.run(t.Context(), body)
}

func panicking(context.Context, *upstream.Call) (*upstream.Answer, error) { panic("a defect") }

func readAll(t *testing.T, h *house, body string) {
	answer, err := h.run(t.Context(), body)
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = answer.Stream.Next()
	}
	answer.Stream.Close()
}

func readOne(t *testing.T, h *house, body string) {
	answer, err := h.run(t.Context(), body)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := answer.Stream.Next(); err != nil {
		t.Error(err)
	}
	answer.Stream.Close()
}

// A rival's seat and that of the attempt that it replaces are both given back.
func TestHedgingGivesBothSeatsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.open()
		h.policy.Hedge = catalog.HedgeP95
		a, b := h.add(saying("a", "stop")).limited(), h.add(saying("b", "stop")).limited()
		for range 100 {
			ask(t, h, unaryBody)
		}
		a.script = []behaviour{slowly(time.Hour, saying("late", "stop"))}
		answer, err := h.run(t.Context(), unaryBody)
		if err != nil || answer.Candidate.ID != "b/m" || h.log.Len() != 2 {
			t.Fatalf("%v %s", err, h.outcomes())
		}
		h.expectFree(a)
		h.expectFree(b)
	})
}
