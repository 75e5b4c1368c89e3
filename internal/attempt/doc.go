// Package attempt walks a plan: it calls one candidate after the other until an answer can be given
// to the client, and keeps a log of every try.
//
// # The commit point
//
// Until the client has seen content, any failure may move to the next candidate. A unary answer is
// committed when it has arrived whole and is well-formed. A stream is committed at its first content,
// tool-call or reasoning delta; what comes before (chunks that only name a role) is held back and
// sent after. Past the commit point a stream that breaks ends with an error: it is never passed off as
// finished. A stream is finished when every choice that began has a finish_reason; whether [DONE]
// followed does not matter.
//
// # Deadlines
//
// One watchdog for each attempt cancels its context with the deadline that passed as the cause:
//
//	connect (in the dialer) → headers → first token → idle between events
//
// and, over all attempts, total. The headers deadline of a unary request counts only where a policy
// sets it, because engines send a unary answer's headers when the whole answer is ready.
package attempt
