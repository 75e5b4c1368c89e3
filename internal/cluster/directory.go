package cluster

import (
	"context"
	"encoding/json"
	"time"
)

// TopicDirectory is signalled when something in the Directory has changed that others should look at now.
const TopicDirectory = "directory"

// Directory says which replica holds links to which nodes. What it says is a hint: the truth is with the replica that
// holds the link, so that an entry which is late or wrong costs a question, and never more.
//
// An entry lives as long as its lease, which whoever announced it renews by announcing it again: those of a
// replica that died are gone by themselves.
type Directory interface {
	// Announce writes an entry, or replaces the one with the same node and replica. Others are signalled when the
	// entry is new to this process, or its Revision is another one than before.
	Announce(ctx context.Context, p Presence, lease time.Duration) error
	// Withdraw removes an entry and signals the others. One that is not there is no error.
	Withdraw(ctx context.Context, node, replica string) error
	// Lookup returns the entries of one node, by replica.
	Lookup(ctx context.Context, node string) ([]Presence, error)
	// List returns all entries, by node and replica.
	List(ctx context.Context) ([]Presence, error)
	// Watch is Subscribe of Signals for changes of the directory.
	Watch(ctx context.Context) (<-chan struct{}, func(), error)
}

// Presence is one entry of the Directory.
type Presence struct {
	Node    string `json:"node"`    // whose link is held; empty: the entry is of the replica itself
	Replica string `json:"replica"` // that holds it
	Peer    string `json:"peer"`    // base URL at which other replicas reach that replica
	// Revision changes when others should look at once. A change of State alone is seen when they look anyway.
	Revision int64           `json:"revision"`
	State    json.RawMessage `json:"state,omitempty"` // for whoever holds links; the directory does not read it
}

// Once tells the first use of a name from all others.
type Once interface {
	// First reports whether the name is used for the first time within keep.
	First(ctx context.Context, name string, keep time.Duration) (bool, error)
}
