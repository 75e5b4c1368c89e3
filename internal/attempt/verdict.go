package attempt

import (
	"context"
	"errors"
	"time"

	"shareai/internal/fault"
	"shareai/internal/share"
	"shareai/internal/upstream"
)

// asFailure gives an error of package upstream its type back.
func asFailure(err error) *upstream.Error {
	var f *upstream.Error
	if errors.As(err, &f) {
		return f
	}
	return &upstream.Error{Outcome: upstream.Broken, Message: "The connection to the provider broke.", Cause: err}
}

// errNoSeat is the answer when every candidate serves as much as it can.
var errNoSeat = &fault.Error{
	Kind: fault.RateLimited, Code: "capacity_exceeded", RetryAfter: share.RetryAfter,
	Message: "Every deployment that could serve this request serves as many as it can, or keeps what is free for those who have less than their share of it. Try again after the time in Retry-After.",
}

// retryLater is the Retry-After of an answer for which no provider named one.
const retryLater = 5 * time.Second

// verdict is what the client hears when no attempt succeeded. What concerns the client alone is the
// last failure's; else it is what all attempts have in common.
func verdict(last *upstream.Error, log *Log) error {
	switch last.Outcome {
	case upstream.ClientError, upstream.ContextLength, upstream.ContentFilter:
		return &fault.Error{Kind: fault.Invalid, Status: clientStatus(last.Status), Code: last.Code, Param: last.Param, Message: last.Message, Cause: last}
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
	case log.all(upstream.Overloaded, upstream.NodeBusy, upstream.NodeAway, upstream.RateLimited, upstream.QuotaExhausted):
		e.Kind, e.Code = fault.Unavailable, "provider_overloaded"
		e.Message = "Every provider that could serve this request is overloaded. Try again after the time in Retry-After."
	case last.Outcome == upstream.TotalTimeout || log.all(upstream.ConnectTimeout, upstream.HeadersTimeout, upstream.FirstTokenTimeout, upstream.IdleTimeout, upstream.TimeoutStatus):
		e.Kind, e.Code = fault.Timeout, "provider_timeout"
		e.Message = "No provider answered in time. `attempts` lists what was tried."
	}
	if (e.Kind == fault.RateLimited || e.Kind == fault.Unavailable) && e.RetryAfter == 0 {
		e.RetryAfter = retryLater
	}
	return e
}

// clientStatus is the status of a refusal that the client has to mend: the provider's own, if it is one.
func clientStatus(of int) int {
	if of < 400 || of > 499 {
		return 0
	}
	return of
}
