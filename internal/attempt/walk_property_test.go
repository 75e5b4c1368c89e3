package attempt

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"shareai/internal/catalog"
	"shareai/internal/health"
	"shareai/internal/routing"
	"shareai/internal/upstream"
)

// Whatever the policy, the candidates and the client do: a walk ends within its bounds, logs every attempt, finishes
// an answer once and gives every permit back.
func TestWalksKeepTheirBounds(t *testing.T) {
	for seed := range uint64(3000) {
		synctest.Test(t, func(t *testing.T) {
			g := generator{T: t, Rand: rand.New(rand.NewPCG(seed, 1)), stream: seed%3 > 0}
			h := g.house()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if g.IntN(3) == 0 {
				time.AfterFunc(time.Duration(g.IntN(9000))*time.Millisecond, cancel)
			}
			body := unaryBody
			if g.stream {
				body = streamBody
			}
			began := time.Now()
			answer, err := h.run(ctx, body)
			if err == nil && answer.Stream != nil {
				g.read(h, answer.Stream)
			}
			cancel()
			if took := time.Since(began); took > h.policy.Deadlines.Total+time.Second {
				t.Errorf("seed %d: took %v of %v", seed, took, h.policy.Deadlines.Total)
			}
			g.check(seed, h)
		})
	}
}

// generator makes random walks.
type generator struct {
	*testing.T
	*rand.Rand
	stream bool
}

func (g generator) house() *house {
	h := newHouse(g.T)
	h.draw = g.Float64()
	h.policy = catalog.Policy{
		Attempts:  catalog.Attempts{Total: 1 + g.IntN(8), PerDeployment: 1 + g.IntN(3)},
		Deadlines: catalog.Deadlines{Total: time.Duration(1+g.IntN(60)) * time.Second, Idle: 3 * time.Second, FirstToken: 5 * time.Second},
	}
	h.policy.Hedge = sample(g, catalog.Off, catalog.HedgeP95)
	h.policy.HoldToolCalls = sample(g, catalog.Off, catalog.Auto)
	h.policy.OnContentFilter = sample(g, catalog.FilterReturn, catalog.FilterFallback)
	if g.IntN(4) == 0 {
		h.policy.FailoverOn = []catalog.FailureClass{catalog.FailOverloaded, catalog.FailServerError, catalog.FailBadAnswer}
	}
	for range 1 + g.IntN(5) {
		g.add(h)
	}
	<-time.After(8 * time.Second) // circuits that opened are half-open now
	for _, d := range h.stops {
		deployment := h.board.Deployment(d.candidate.HealthID)
		if g.IntN(5) == 0 {
			failInRow(deployment)
		}
		if deployment.State() == health.Open {
			d.candidate.Excluded = routing.CircuitOpen
		}
	}
	if g.IntN(2) == 0 {
		g.limit(h)
	}
	return h
}

// limit gives every deployment one seat, some of which others have for a while.
func (g generator) limit(h *house) {
	h.open()
	for _, d := range h.stops {
		if d.limited(); g.IntN(3) == 0 {
			time.AfterFunc(time.Duration(g.IntN(3000))*time.Millisecond, h.occupy(d).Release)
		}
	}
}

func (g generator) add(h *house) {
	var script []behaviour
	for range 3 {
		script = append(script, g.behaviour())
	}
	d := h.add(script...)
	if g.IntN(2) == 0 {
		d.prefills()
	}
	d.candidate.Limits.Context = sample[int64](g, 0, 8192, 32768)
	for i := range g.IntN(4) {
		d.candidate.Provider.Keys = append(d.candidate.Provider.Keys, catalog.ProviderKey{Name: fmt.Sprint(i)})
	}
	deployment := h.board.Deployment(d.candidate.HealthID)
	switch g.IntN(4) {
	case 0:
		failInRow(deployment)
	case 1: // known, so that it may be hedged
		for range 40 {
			p, _ := deployment.Acquire()
			p.Succeeded(sample(g, health.FirstToken, health.WholeAnswer), 100*time.Millisecond)
		}
	}
}

func failInRow(d *health.Deployment) {
	for range 5 {
		if p, ok := d.Acquire(); ok {
			p.Failed()
		}
	}
}

func (g generator) behaviour() behaviour {
	var b behaviour
	switch g.IntN(6) {
	case 0, 1:
		b = failing(sample(g, upstream.Outcomes[1:]...))
	case 2:
		b = asking(sample(g, upstream.RateLimited, upstream.Overloaded), time.Duration(g.IntN(8))*time.Second)
	case 3:
		b = continuing(g.T)
	default:
		b = refusingPrefill(g.T, telling(g.IntN(len(story)+1), sample(g, streamEnds...)...))
	}
	if !g.stream && g.IntN(2) == 0 {
		b = saying(sample(g, "yes", ""), sample(g, "stop", "length", "content_filter"))
	}
	if g.IntN(3) == 0 {
		b = slowly(time.Duration(g.IntN(8000))*time.Millisecond, b)
	}
	return func(ctx context.Context, call *upstream.Call) (*upstream.Answer, error) {
		answer, err := b(ctx, call)
		if err == nil && (answer.Stream != nil) != call.Request.Stream { // of the other kind
			b := saying("yes", "stop")
			if call.Request.Stream {
				b = streaming(stopChunk)
			}
			return b(ctx, call)
		}
		return answer, err
	}
}

// streamEnds are ways in which a stream may go on after some pieces of text.
var streamEnds = [][]string{
	{"CUT"},
	{},
	{doneMark},
	{"garbage", "CUT"},
	{`{"choices":[{"index":0,"del`, "CUT"},
	{`{"error":{"message":"x"}}`},
	{`{"error":{"message":"x","code":"rate_limit_exceeded"}}`},
	{stopChunk, doneMark},
	{stopChunk},
	{stopChunk, `{"error":{"message":"x"}}`},
	{toolCall("{"), "CUT"},
	{toolCall("{}"), toolsFinish},
}

func sample[T any](g generator, from ...T) T { return from[g.IntN(len(from))] }

// read reads a stream to its end, or leaves it before.
func (g generator) read(h *house, s *Stream) {
	finished, leaveAt := 0, -1
	if g.IntN(4) == 0 {
		leaveAt = g.IntN(5)
	}
	for i := 0; i != leaveAt; i++ {
		c, err := s.Next()
		if err != nil {
			break
		}
		for j := range c.Choices {
			if c.Choices[j].FinishReason != "" {
				finished++
			}
		}
	}
	s.Close()
	if finished > 1 {
		g.Errorf("finished %d times after %q", finished, h.outcomes())
	}
}

func (g generator) check(seed uint64, h *house) {
	if h.log.Len() > h.policy.Attempts.Total {
		g.Errorf("seed %d: %d attempts of %d", seed, h.log.Len(), h.policy.Attempts.Total)
	}
	for _, a := range h.log.Attempts() {
		if a.Outcome == "" {
			g.Errorf("seed %d: an attempt has no outcome: %q", seed, h.outcomes())
		}
	}
	for _, d := range h.stops {
		deployment := h.board.Deployment(d.candidate.HealthID)
		if deployment.State() != health.HalfOpen {
			continue
		}
		p, ok := deployment.Acquire()
		if !ok {
			g.Errorf("seed %d: a permit of %s is lost: %q", seed, d.candidate.ID, h.outcomes())
		}
		p.Dropped()
	}
	if h.desk == nil {
		return
	}
	<-time.After(3 * time.Second) // the others have gone
	for _, d := range h.stops {
		h.expectFree(d)
	}
}
