package attempt

import (
	"context"
	"time"

	"shareai/internal/account"
	"shareai/internal/catalog"
	"shareai/internal/fault"
	"shareai/internal/health"
	"shareai/internal/openai"
	"shareai/internal/routing"
	"shareai/internal/share"
	"shareai/internal/upstream"
)

// Caller speaks to one deployment. *upstream.Client is one; the error of Do is an *upstream.Error.
type Caller interface {
	Do(ctx context.Context, call *upstream.Call) (*upstream.Answer, error)
}

// Engine walks plans. It keeps no state of a request and serves any number at once.
type Engine struct {
	caller Caller
	board  *health.Board
	draw   func() float64
	desk   *share.Desk // nil: nobody counts what a deployment can serve
}

// NewEngine makes an engine over a caller. What it learns about deployments it tells the board. draw
// gives numbers in [0, 1), for the choice among a provider's keys, back-off and drills.
func NewEngine(caller Caller, board *health.Board, draw func() float64) *Engine {
	return &Engine{caller: caller, board: board, draw: draw}
}

// Sharing makes every attempt take a seat where its deployment has a capacity.
func (e *Engine) Sharing(desk *share.Desk) *Engine {
	e.desk = desk
	return e
}

// Work is one request to be answered.
type Work struct {
	Plan      *routing.Plan
	Endpoint  catalog.Endpoint
	Request   *openai.Request
	Needs     openai.Needs
	RequestID string
	Start     time.Time
	Trace     Trace
	Part      account.Part // what the caller may have of a contended deployment
	// Log receives one entry for each attempt, also of those that fail.
	Log *Log
}

// Answer is what a deployment gave: Reply for a unary request, Stream for a stream.
type Answer struct {
	Candidate *routing.Candidate
	Reply     openai.Reply
	Stream    *Stream
}

// Run answers a request by walking its plan. The context is the client's: when it ends, so does every
// attempt. The error is a *fault.Error that speaks for all attempts. A Stream must be closed.
func (e *Engine) Run(ctx context.Context, work *Work) (Answer, error) {
	w := newWalk(e, work)
	for at := w.next(ctx); at != nil; at = w.next(ctx) {
		got, served, failure := w.tryHedged(ctx, at)
		if failure != nil {
			continue
		}
		answer := Answer{Candidate: served.candidate, Reply: got.reply}
		if got.leg != nil {
			answer.Stream = newStream(ctx, w, got.leg)
		}
		return answer, nil
	}
	if ctx.Err() != nil {
		return Answer{}, fault.From(context.Canceled)
	}
	if w.last == nil { // nobody was asked
		return Answer{}, errNoSeat
	}
	return Answer{}, verdict(w.last, work.Log)
}
