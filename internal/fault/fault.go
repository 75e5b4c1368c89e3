// Package fault holds the one error type that reaches users.
//
// Code deep inside the gateway returns a *Error when it knows what a user can do about a failure.
// Every other error is a stranger: From turns it into an internal error whose cause is kept for
// the log and never shown. Decisions (retry, failover, status) read Kind and Code, never text.
package fault

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// Kind is the class of a failure. It alone decides the HTTP status.
type Kind uint8

// The kinds. The zero value is Internal, so that a forgotten kind is never mistaken for the
// client's fault.
const (
	Internal         Kind = iota // a defect or a failing part of ours
	Invalid                      // the request is wrong: 400
	Unauthenticated              // no key, or one we do not know: 401
	Exhausted                    // a budget is spent: 402
	Forbidden                    // a known key that may not do this: 403
	NotFound                     // 404
	MethodNotAllowed             // 405
	Conflict                     // 409
	TooLarge                     // 413
	UnsupportedMedia             // 415
	RateLimited                  // 429
	Canceled                     // the client left: 499, as nginx logs it
	Upstream                     // every attempt failed: 502
	Unavailable                  // we can not serve right now: 503
	Timeout                      // a deadline of ours passed: 504
)

// statuses is the one table from kind to HTTP status.
var statuses = [...]int{
	Internal:         http.StatusInternalServerError,
	Invalid:          http.StatusBadRequest,
	Unauthenticated:  http.StatusUnauthorized,
	Exhausted:        http.StatusPaymentRequired,
	Forbidden:        http.StatusForbidden,
	NotFound:         http.StatusNotFound,
	MethodNotAllowed: http.StatusMethodNotAllowed,
	Conflict:         http.StatusConflict,
	TooLarge:         http.StatusRequestEntityTooLarge,
	UnsupportedMedia: http.StatusUnsupportedMediaType,
	RateLimited:      http.StatusTooManyRequests,
	Canceled:         499,
	Upstream:         http.StatusBadGateway,
	Unavailable:      http.StatusServiceUnavailable,
	Timeout:          http.StatusGatewayTimeout,
}

// Status is the HTTP status of the kind.
func (k Kind) Status() int {
	if int(k) >= len(statuses) {
		return http.StatusInternalServerError
	}
	return statuses[k]
}

// Error is a failure that may be shown to the user.
type Error struct {
	Kind Kind
	// Code is the machine-readable reason, in OpenAI's vocabulary where it has a word for it
	// (invalid_api_key, model_not_found, context_length_exceeded, ...).
	Code string
	// Message is a sentence for the user: what is wrong and what to do. No secret, no address.
	Message string
	// Param names the request field that is at fault; empty when there is none.
	Param string
	// Status, when not 0, is sent instead of the kind's status: an upstream's own 4xx answer
	// reaches the client as it was.
	Status int
	// RetryAfter, when positive, tells the client how long to wait.
	RetryAfter time.Duration
	// Cause is for the log only.
	Cause error
}

// New makes an error that may be shown to the user.
func New(kind Kind, code, message string) *Error {
	return &Error{Kind: kind, Code: code, Message: message}
}

// About returns a copy of e that names the request field at fault.
func (e *Error) About(param string) *Error {
	c := *e
	c.Param = param
	return &c
}

// Because returns a copy of e with a cause for the log.
func (e *Error) Because(cause error) *Error {
	c := *e
	c.Cause = cause
	return &c
}

// Error is the text for logs: the message and its cause, redacted.
func (e *Error) Error() string {
	if e.Cause == nil {
		return e.Message
	}
	return e.Message + ": " + Redact(e.Cause.Error())
}

// Unwrap gives errors.Is and errors.As the cause.
func (e *Error) Unwrap() error { return e.Cause }

// HTTPStatus is the status to answer with.
func (e *Error) HTTPStatus() int {
	if e.Status != 0 {
		return e.Status
	}
	return e.Kind.Status()
}

// From returns err as an *Error. A context that ended becomes Canceled or Timeout; any other
// error that is not an *Error becomes Internal, its text kept as the cause. From(nil) is nil.
func From(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, context.Canceled):
		return New(Canceled, "client_closed_request", "The client closed the request.").Because(err)
	case errors.Is(err, context.DeadlineExceeded):
		return New(Timeout, "timeout", "The request took longer than allowed.").Because(err)
	default:
		return New(Internal, "internal_error", "Something went wrong inside the gateway. Quote the request id when you report it.").Because(err)
	}
}
