// Package health knows how deployments and provider keys are doing, from the requests that go to them:
// circuits, latencies and retry budgets. It is kept in memory, for each replica on its own.
package health
