// Package cluster holds the short-lived state that replicas share. Each kind of state is an interface
// with two implementations behind one conformance suite (clustertest): Memory for a single process,
// Redis for many. Nothing in here is durable: what must survive belongs into the store. While Redis is
// away, signals arrive late, answers can not be claimed, and meters can not be asked.
package cluster

import "context"

// TopicSnapshot is signalled after every commit that raised the store's revision.
const TopicSnapshot = "snapshot"

// Signals wakes up whoever waits for a topic, on every replica. A signal carries no data and says only
// "look again": several may arrive as one, one may arrive twice, and one may be lost while the
// connection is down, so that every subscriber also looks by itself from time to time.
type Signals interface {
	// Publish signals a topic. It returns within about a second, with an error when other replicas could
	// not be told; those who wait in this process are told all the same.
	Publish(ctx context.Context, topic string) error
	// Subscribe returns a channel that receives after each signal of the topic. It never closes. The
	// subscription ends with ctx or when the returned function is called, whichever comes first; the
	// function may be called more than once. No signal that is published after Subscribe has returned
	// is lost while the connection holds. A lost connection is restored by itself, and because signals
	// may have been missed meanwhile, the channel then receives too.
	Subscribe(ctx context.Context, topic string) (<-chan struct{}, func(), error)
}
