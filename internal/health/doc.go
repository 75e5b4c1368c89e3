// Package health knows how deployments and provider keys are doing, from the requests that go to them:
// circuits, latencies and retry budgets. It is kept in memory, for each replica on its own: what one
// replica can not reach another may well reach, and a request must not wait for anyone's opinion.
//
// # The circuit of a deployment
//
//	           too many failures, or too slow, or asked to wait
//	┌────────┐ ───────────────────────────────────────────────► ┌──────┐ ◄─┐ asked to wait:
//	│ closed │                                                  │ open │ ──┘ the later end holds
//	└────────┘                                                  └──────┘
//	    ▲        5 successes   ┌───────────┐   the wait is over  │    ▲
//	    └───────────────────── │ half-open │ ◄───────────────────┘    │
//	                           └───────────┘ ─────────────────────────┘
//	                                           a probe failed: a longer wait
//
// Closed, everything passes. It opens when
//
//   - 5 requests in a row failed, the last two within a minute of each other: a provider that is gone is
//     left after five requests, however busy it was before; or
//   - 5 streams in a row broke after their first content, the last two within a minute of each other. A
//     stream is a success when it begins, so that a long one does not keep a probe waiting, and one that
//     breaks takes its success back; or
//   - half of the requests of the last 10 s failed, and there were 10 at least: a deployment that fails
//     every second request would never fail 5 in a row, and one blip on a quiet one is no reason; or
//   - four of five successes of the last 10 s were slow, and there were 20 at least. Slow is more than
//     three times the deployment's own median, and more than a second. This is the most reluctant one,
//     because answers also take long when longer ones are asked for; or
//   - the deployment asked for it (Retry-After, see HoldOff).
//
// Open, nothing passes for 5 s. Every probe that fails doubles the wait, up to 20 s: a probe is somebody's
// request. With a tenth of jitter, so that replicas do not probe together, traffic is back at most 22 s and
// three answers after a recovery, which keeps the promise of 30 s. The wait starts at 5 s again after the
// circuit was closed for 30 s; one that opens sooner is flapping and goes on where it was. A wait that the
// deployment asked for ends when it asked, at most 5 minutes away, and nothing shortens it.
//
// Half-open, real requests find out. One is let through at a time; each success doubles how many may be under way
// (1, 2, 4, 8, 16), so that a provider that is just starting up is not run over; the fifth closes the
// circuit. One failure opens it again. A probe that is not heard of for 30 s gives its place to another,
// and may still speak for the deployment when it comes back.
//
// What was sent before the circuit last opened or closed does not move it: a hundred requests that hang at the
// moment of an outage, and time out one after the other when it is long over, must not open it again.
// Every permit has a serial number for that.
//
// A circuit that opened for slowness stays open while its probes are slow. After two minutes of that the
// new pace is taken for usual: what was learned is forgotten and the next success counts.
//
// When every candidate is ejected, the least bad one serves (Badness, Insist). A request that was
// insisted on and succeeds ends the wait: nothing speaks better for a deployment than an answer.
//
// # Latency
//
// Only successes are measured, so that an instant 503 does not look fast. Latency is a moving average with a
// time constant of 10 s, forgotten when nothing came for 5 minutes. The median (for "slow") and the 95th
// percentile (for hedging) come from a histogram that is right to 7 % and halves every 5 minutes; both are
// unknown below 20 samples. Streams are measured to their first token and unary answers to their end, each
// by itself (Mode).
//
// # The retry budget of a deployment
//
// It starts with 10 retries, holds 10 at most, and gains a fifth of one with each first attempt. At any time
//
//	retries ≤ 10 + first attempts / 5
//
// so that retries add at most 20 % to the load of a deployment in trouble, and a quiet one can still be retried.
//
// # A provider key
//
// A key that is rejected (401, 403) is out of use for 30 s, and for twice as long at each further
// rejection in a row, up to 10 minutes: keys are rarely repaired, but a provider's own login may be what
// failed. Rejections that arrive while it is out were sent before, and count once. A key at its limit (429) is out for
// as long as the provider says, 5 s when it does not and 5 minutes at most. A shorter time never ends a longer one.
//
// # Memory
//
// What was not used for an hour is dropped when something new comes: deployments leave a configuration, and
// drills have circuits of their own. A *Deployment or *Key is therefore to be held for one request and
// not longer.
package health
