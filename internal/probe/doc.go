// Package probe finds out whether providers are there while no request tells.
//
// # Passive first
//
// Requests say more than any probe, and cost nothing extra. A provider is probed only
//
//   - when no request told anything about its deployments for one interval (30 s unless declared otherwise); or
//   - while a circuit of one of its deployments is open, unless the provider asked to be left alone for a
//     time: every 5 s, or at its interval when that is shorter; or
//   - to make sure of a failure: once a second, five times, which is what it takes to open a circuit.
//
// Providers begin at a random point of their interval, so that replicas and providers do not probe together.
//
// # What a probe may cost
//
// Nothing, unless the operator says otherwise. The default asks for the list of models, which every
// provider gives away; tcp opens a connection and closes it. A canary is a real request with an answer of
// at most 16 tokens (reasoning models refuse to be held to one). It is sent only where it was declared together
// with a cap in money for a UTC day, and only while that day's canaries and the dearest that this one should become
// fit under it; otherwise the provider is probed free of charge. What was spent is counted in memory, for each
// replica on its own and from zero after a restart. A provider that counts more tokens than were asked for can
// exceed the cap by one canary. A deployment without a price costs nothing by this count.
//
// # What a probe changes
//
//   - The provider is not there (no connection, no answer within 5 s, a status of 502 and above): a failure
//     for each of its deployments. Where a circuit is half-open, the probe takes the place of a user's request
//     and fails instead of it.
//   - It is there: nothing is closed by that, because a provider may list its models while every completion
//     fails. Only when it was away at the probe before, a circuit that waits may try at once.
//   - It rejects the key, or answers 500 or 501 to the list: nothing. Not every engine has a list, and requests
//     will tell about the key.
//   - A canary's success or failure counts like any request's, but not how long it took: so short an answer
//     would make every real one look slow. It has 30 s, because reasoning comes first.
package probe
