// Package share gives out what deployments can serve at the same time. Where a deployment has a capacity, an attempt
// needs a seat there; while it is contended, every group of callers (an environment, a team) has its share of them.
// The law is with cluster.Seats, which count for one process or for all replicas; this package says who asks, for how
// many, how long a place in the queue lasts, and what happens when the counts are away.
package share
