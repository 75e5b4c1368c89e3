package upstream

import (
	"context"
	"errors"
	"net/http"
	"time"

	"shareai/internal/fault"
)

// Outcome is one word for how an attempt ended. The set is closed: retry, circuit and failover decide
// by it, records and metrics count it.
//
// An Outcome is an error as well, so that whoever sets a deadline cancels the attempt with
// the outcome as the cause, as in cancel(upstream.IdleTimeout), and finds it in the Error that comes
// back. errors.Is(err, upstream.IdleTimeout) holds for such an Error.
type Outcome string

// The outcomes that Do and Stream.Next find out.
const (
	OK                Outcome = "ok"
	ConnectFailed     Outcome = "connect_failed"      // no connection: refused, unreachable, reset
	ConnectTimeout    Outcome = "connect_timeout"     // none within Call.Connect
	DNSFailed         Outcome = "dns_failed"          // the name does not resolve
	TLSFailed         Outcome = "tls_failed"          // handshake or certificate
	RefusedAddress    Outcome = "refused_address"     // ours: the address may not be reached from here
	NodeAway          Outcome = "node_away"           // the node has no link: nothing was sent
	NodeBusy          Outcome = "node_busy"           // the node has as much to do as its owner allows, and did not begin
	Broken            Outcome = "broken"              // the connection broke before or within the answer
	RateLimited       Outcome = "rate_limited"        // 429
	Overloaded        Outcome = "overloaded"          // 503, 529 and other "not now"
	ServerError       Outcome = "server_error"        // other 5xx
	TimeoutStatus     Outcome = "timeout_status"      // 408, 504
	KeyRejected       Outcome = "key_rejected"        // 401, 403
	QuotaExhausted    Outcome = "quota_exhausted"     // the account behind the key has no money or quota left
	ContextLength     Outcome = "context_length"      // the request is longer than the model's context
	ContentFilter     Outcome = "content_filter"      // refused for what it says
	NotFound          Outcome = "not_found"           // the provider has no such model or address
	ClientError       Outcome = "client_error"        // other 4xx
	BadAnswer         Outcome = "bad_answer"          // not what the API promises: HTML, no JSON, a redirect
	ErrorEvent        Outcome = "error_event"         // an error inside an answer that began with 200
	Canceled          Outcome = "canceled"            // the context was cancelled without an Outcome as its cause
	TotalTimeout      Outcome = "total_timeout"       // the context's own deadline passed
	HeadersTimeout    Outcome = "headers_timeout"     // set by attempt
	FirstTokenTimeout Outcome = "first_token_timeout" // set by attempt
	IdleTimeout       Outcome = "idle_timeout"        // set by attempt
	NoFinish          Outcome = "no_finish"           // set by attempt: a stream ended cleanly but unfinished
	EmptyAnswer       Outcome = "empty_answer"        // set by attempt: finished without saying anything
	Diverged          Outcome = "diverged"            // set by attempt: a restarted stream said something else than the first
	Hedged            Outcome = "hedged"              // set by attempt: another attempt was faster
)

// Outcomes lists every outcome.
var Outcomes = []Outcome{
	OK, ConnectFailed, ConnectTimeout, DNSFailed, TLSFailed, RefusedAddress, NodeAway, NodeBusy, Broken, RateLimited, Overloaded,
	ServerError, TimeoutStatus, KeyRejected, QuotaExhausted, ContextLength, ContentFilter, NotFound, ClientError,
	BadAnswer, ErrorEvent, Canceled, TotalTimeout, HeadersTimeout, FirstTokenTimeout, IdleTimeout, NoFinish,
	EmptyAnswer, Diverged, Hedged,
}

// Error is the outcome's word.
func (o Outcome) Error() string { return string(o) }

// Error is why a deployment gave no answer, or broke off one.
type Error struct {
	Outcome Outcome
	// Status is the upstream's HTTP status; 0 when it sent none.
	Status int
	// RetryAfter is how long the upstream asks to wait; 0 when it does not say.
	RetryAfter time.Duration
	// Message says what happened, in the upstream's words where it had any; bounded, redacted and
	// without the provider's address or key.
	Message string
	// Type, Code and Param are the members of OpenAI's error object, where the upstream sent them.
	Type, Code, Param string
	// Header is the head of the upstream's answer; nil when it sent none.
	Header http.Header
	// HeadersAt is when that head arrived; zero when none did.
	HeadersAt time.Time
	// Cause is for the log only: it may name addresses.
	Cause error
}

// Error is the text for logs: outcome, message and cause, redacted.
func (e *Error) Error() string {
	text := string(e.Outcome) + ": " + e.Message
	if e.Cause == nil {
		return text
	}
	return text + ": " + fault.Redact(e.Cause.Error())
}

// Unwrap gives errors.Is the outcome, and errors.Is and errors.As the cause.
func (e *Error) Unwrap() []error {
	if e.Cause == nil {
		return []error{e.Outcome}
	}
	return []error{e.Outcome, e.Cause}
}

// ended is the error of a call whose context has ended.
func ended(ctx context.Context) *Error {
	cause := context.Cause(ctx)
	e := &Error{Outcome: Canceled, Message: "The attempt was cancelled.", Cause: cause}
	var outcome Outcome
	switch {
	case errors.As(cause, &outcome):
		e.Outcome, e.Message = outcome, "The provider took too long ("+string(outcome)+")."
	case errors.Is(cause, context.DeadlineExceeded):
		e.Outcome, e.Message = TotalTimeout, "The provider took longer than the request may."
	}
	return e
}
