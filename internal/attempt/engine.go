package attempt

import (
	"context"
	"errors"
	"time"

	"shareai/internal/catalog"
	"shareai/internal/fault"
	"shareai/internal/openai"
	"shareai/internal/routing"
	"shareai/internal/snapshot"
	"shareai/internal/upstream"
)

// Caller speaks to one deployment. *upstream.Client is one; the error of Do is an *upstream.Error.
type Caller interface {
	Do(ctx context.Context, call *upstream.Call) (*upstream.Answer, error)
}

// Engine walks plans. It keeps no state of a request and serves any number at once.
type Engine struct {
	caller Caller
	draw   func() float64
}

// NewEngine makes an engine over a caller. draw gives numbers in [0, 1), for the choice among a
// provider's keys.
func NewEngine(caller Caller, draw func() float64) *Engine {
	return &Engine{caller: caller, draw: draw}
}

// Work is one request to be answered.
type Work struct {
	Plan      *routing.Plan
	Endpoint  catalog.Endpoint
	Request   *openai.Request
	RequestID string
	Start     time.Time
	Trace     Trace
	// Log receives one entry for each attempt, also of those that fail.
	Log *Log
}

// Answer is what a deployment gave: Reply for a unary request, Stream for a stream.
type Answer struct {
	Target *snapshot.Target
	Reply  openai.Reply
	Stream *Stream
}

// Run tries the plan's candidates in order. The context is the client's: when it ends, so does the
// attempt. The error is a *fault.Error that speaks for all attempts. A Stream must be closed.
func (e *Engine) Run(ctx context.Context, work *Work) (Answer, error) {
	var last *upstream.Error
	for i := range work.Plan.Candidates {
		candidate := &work.Plan.Candidates[i]
		if candidate.Excluded != routing.Kept {
			continue
		}
		answer, err := e.try(ctx, work, &candidate.Target)
		if err == nil {
			return answer, nil
		}
		last = err
		if !movesOn(err.Outcome) {
			break
		}
	}
	return Answer{}, verdict(last, work.Log)
}

// try makes one attempt and logs it.
func (e *Engine) try(ctx context.Context, work *Work, target *snapshot.Target) (Answer, *upstream.Error) {
	deadlines := &work.Plan.Policy.Deadlines
	headers := deadlines.Headers
	if headers == 0 && work.Request.Stream {
		headers = catalog.DefaultStreamHeaders
	}
	key := e.pick(target.Provider.Keys)
	entry := work.Log.open(work, target, key)
	stage := upstream.HeadersTimeout
	if first := deadlines.FirstToken; work.Request.Stream && first < headers {
		stage, headers = upstream.FirstTokenTimeout, first
	}
	ctx, dog := watch(ctx, work.Start.Add(deadlines.Total), stage, headers)
	got, err := e.caller.Do(ctx, &upstream.Call{
		Target:      upstream.Target{Provider: target.Provider, Deployment: target.Deployment, Key: key},
		Endpoint:    work.Endpoint,
		Request:     work.Request,
		RequestID:   work.RequestID,
		Traceparent: work.Trace.parent(entry.at().SpanID),
		Connect:     deadlines.Connect,
		OnHeaders:   dog.headersCame,
	})
	if err != nil {
		dog.stop()
		failure := asFailure(err)
		entry.fail(failure)
		return Answer{}, failure
	}
	entry.headers(got.HeadersAt)
	if got.Stream == nil {
		dog.stop()
		return e.unary(work, target, got, entry)
	}
	stream := &Stream{answer: got, work: work, target: target, entry: entry, dog: dog, idle: deadlines.Idle}
	if failure := stream.prime(deadlines.FirstToken); failure != nil {
		stream.fail(failure)
		return Answer{}, failure
	}
	return Answer{Target: target, Stream: stream}, nil
}

// unary checks a whole answer.
func (e *Engine) unary(work *Work, target *snapshot.Target, got *upstream.Answer, entry entry) (Answer, *upstream.Error) {
	defer got.Close()
	reply, failure := parseReply(got, work)
	if failure != nil {
		entry.fail(failure)
		return Answer{}, failure
	}
	entry.finish(work, target, reply.Usage, reply.ContentBytes)
	return Answer{Target: target, Reply: reply}, nil
}

// parseReply reads a whole answer and brings embeddings into the format that was asked for: an engine
// that ignores it gives official SDKs garbage, because they ask for base64 unasked.
func parseReply(got *upstream.Answer, work *Work) (openai.Reply, *upstream.Error) {
	body, err := got.Body, error(nil)
	if format := work.Request.EncodingFormat; format != "" && work.Endpoint == catalog.Embeddings {
		body, err = openai.EmbeddingsAs(body, format)
	}
	var reply openai.Reply
	if err == nil {
		reply, err = openai.ParseReply(body)
	}
	switch {
	case err != nil:
		return reply, &upstream.Error{Outcome: upstream.BadAnswer, Status: got.Status, Message: "The provider's answer is not well-formed.", Cause: err}
	case reply.Err != nil:
		return reply, upstream.Classify(reply.Err)
	case !reply.Content && len(reply.Choices) == 0:
		return reply, &upstream.Error{Outcome: upstream.BadAnswer, Status: got.Status, Message: "The provider's answer is empty."}
	default:
		return reply, nil
	}
}

// pick draws one of a provider's keys by weight.
func (e *Engine) pick(keys []catalog.ProviderKey) catalog.ProviderKey {
	if len(keys) == 0 {
		return catalog.ProviderKey{}
	}
	if len(keys) == 1 {
		return keys[0]
	}
	total := 0
	for _, k := range keys {
		total += max(k.Weight, 1)
	}
	drawn := e.draw() * float64(total)
	for _, k := range keys {
		if drawn -= float64(max(k.Weight, 1)); drawn < 0 {
			return k
		}
	}
	return keys[len(keys)-1]
}

// asFailure gives an error of package upstream its type back.
func asFailure(err error) *upstream.Error {
	var f *upstream.Error
	if errors.As(err, &f) {
		return f
	}
	return &upstream.Error{Outcome: upstream.Broken, Message: "The connection to the provider broke.", Cause: err}
}

// movesOn says whether another candidate may do better. What the client asked for wrongly stays wrong
// everywhere, and a client that left wants nothing more.
func movesOn(o upstream.Outcome) bool {
	switch o {
	case upstream.ClientError, upstream.ContextLength, upstream.ContentFilter, upstream.Canceled, upstream.TotalTimeout:
		return false
	default:
		return true
	}
}

// retryLater is the Retry-After of an answer for which no provider named one.
const retryLater = 5 * time.Second

// verdict is what the client hears when no attempt succeeded. What concerns the client alone is the
// last failure's; else it is what all attempts have in common.
func verdict(last *upstream.Error, log *Log) error {
	switch last.Outcome {
	case upstream.ClientError, upstream.ContextLength, upstream.ContentFilter:
		return &fault.Error{Kind: fault.Invalid, Status: last.Status, Code: last.Code, Param: last.Param, Message: last.Message, Cause: last}
	case upstream.Canceled:
		return fault.From(context.Canceled)
	}
	e := &fault.Error{
		Kind: fault.Upstream, Code: "provider_error", RetryAfter: last.RetryAfter, Cause: last,
		Message: "No provider could serve this request. `attempts` lists what was tried.",
	}
	switch {
	case log.all(upstream.RateLimited, upstream.QuotaExhausted):
		e.Kind, e.Code = fault.RateLimited, "rate_limit_exceeded"
		e.Message = "Every provider that could serve this request is rate-limited. Try again after the time in Retry-After."
	case log.all(upstream.Overloaded, upstream.RateLimited, upstream.QuotaExhausted):
		e.Kind, e.Code = fault.Unavailable, "provider_overloaded"
		e.Message = "Every provider that could serve this request is overloaded. Try again after the time in Retry-After."
	case last.Outcome == upstream.TotalTimeout || log.all(upstream.ConnectTimeout, upstream.HeadersTimeout, upstream.FirstTokenTimeout, upstream.TimeoutStatus):
		e.Kind, e.Code = fault.Timeout, "provider_timeout"
		e.Message = "No provider answered in time. `attempts` lists what was tried."
	}
	if (e.Kind == fault.RateLimited || e.Kind == fault.Unavailable) && e.RetryAfter == 0 {
		e.RetryAfter = retryLater
	}
	return e
}
