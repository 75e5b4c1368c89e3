// Package smoke performs the smoke test that every installation can run on itself, as a client of the
// public API and nothing else: whatever it finds out, a program with an API key could.
//
// Its five parts are numbered: (1) every route answers, (2) a failing provider is replaced, (3) cost and
// latency are compared and the usage report agrees, (4) a repeated prompt is served from the cache, (5)
// limits reject what exceeds them. A part that can not be rehearsed on a gateway says so and why; that
// is neither a pass nor a failure.
//
// A route is a name that the key may use at one provider that serves it. Who serves a name is found out
// by asking: the request names the providers to leave out, until the gateway has nobody left to ask.
package smoke
