// Package attempt walks a plan: it tries one candidate after the other until an answer can be given to
// the client, keeps a log of every try, and completes a stream that breaks half-way. There is one
// engine for every endpoint and mode, so that the same fault has the same consequence everywhere.
//
// # The walk
//
// First round: every candidate once, best first, each at once when the one before has failed; no
// back-off delays a failover. Further rounds: those whose failure may pass (an overload, a broken
// connection) again, after a back-off with full jitter or the Retry-After that they sent, where it is
// short. A candidate that was silent is not tried again: waiting twice helps nobody. At last, the
// candidates that their circuits keep out, the least bad first: a request never fails because everything
// seemed unwell.
//
// The bounds: attempts.total over all tries, attempts.per_deployment for each candidate, the candidate's
// retry budget, and deadlines.total for the whole request. A provider key that is rejected or
// limited is replaced by another one at once, which is bounded by attempts.total alone.
//
// What a failure means is decided by its upstream.Outcome in one table (rules.go), never by a text.
//
// # The commit point
//
// Until the client has seen content, any failure may move to the next candidate. A unary answer is
// committed when it has arrived whole and is well-formed. A stream is committed at its first content or
// reasoning delta; what comes before (chunks that only name a role) is held back and sent after. Tool
// calls are held back until they are whole, unless the policy says otherwise: a call that breaks in
// its arguments is worth nothing, and held back it can still fail over. A stream is finished when every
// choice that began has a finish_reason; whether [DONE] followed does not matter.
//
// # Resuming
//
// A stream that breaks after its commit point goes on at the next candidate, in the same stream:
//
//	prefill   the candidate takes the text so far as the beginning of its answer and sends the rest
//	restart   the candidate answers from the start; exactly what the client has seen is skipped
//
// A candidate that refuses the prefill is restarted. A restart that says something else than the client
// has seen is given up, and after it only prefill is tried. Only plain text is resumed: one choice, no
// reasoning and no tool call sent, no JSON mode. A request that offers tools is only restarted, since a
// prefilled answer can not turn into a tool call. When nothing helps, the stream ends with an error: it
// is never passed off as finished.
//
// # Deadlines
//
// One watchdog for each attempt cancels its context with the deadline that passed as the cause:
//
//	connect (in the dialer) → headers → first token → idle between events
//
// and, over all attempts, total. The headers deadline of a unary request counts only where a policy
// sets it, because engines send a unary answer's headers when the whole answer is ready.
//
// # Hedging
//
// Where a policy asks for it, a first attempt that takes longer than its deployment's own 95th percentile
// gets a rival at the next candidate; who is first to commit answers, the other is stopped.
package attempt
