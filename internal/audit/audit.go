// Package audit is the log of administrative acts: what an entry holds, and how entries are chained so that a
// change to one of them shows. It is pure; the rows live in store. An entry never holds a secret or the hash
// of one: whoever describes an act leaves them out.
package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
)

// ActorKind says what kind of actor did something.
type ActorKind string

// The kinds of actors.
const (
	User   ActorKind = "user"    // of the operating system, by the command line
	APIKey ActorKind = "api_key" // by the API for administration
	Member ActorKind = "member"  // a signed-in user, by the console or the API for administration
	// Anonymous is who is not signed in: whoever signs up, or tries to sign in.
	Anonymous ActorKind = "anonymous"
	File      ActorKind = "file" // the configuration file, whoever changed it
	Node      ActorKind = "node" // a machine: a node, or one that would like to be one
)

// Actor is who did something, and from where.
type Actor struct {
	Kind ActorKind
	ID   string // an API key's or a member's id; empty for others
	Name string // the user's or the key's name
	From string // the machine's name, the client's address, or the file's path
}

type actorKey struct{}

// WithActor returns a context in which everything is done by an actor.
func WithActor(ctx context.Context, a Actor) context.Context {
	return context.WithValue(ctx, actorKey{}, a)
}

// ActorOf returns the actor of a context, or another one when it has none.
func ActorOf(ctx context.Context, otherwise Actor) Actor {
	if a, ok := ctx.Value(actorKey{}).(Actor); ok {
		return a
	}
	return otherwise
}

// Act is something that was done and is to be logged.
type Act struct {
	At      time.Time
	Who     Actor
	Name    string // key.create
	Subject string // what it was done to
	// Before and After are JSON documents of what the act changed; nil: there was nothing, or nothing is left.
	Before, After json.RawMessage
}

// Who is the actor of an entry.
type Who struct {
	Kind ActorKind `json:"kind"`
	ID   string    `json:"id,omitempty"`
	Name string    `json:"name,omitempty"`
}

// Entry is an act in the log.
type Entry struct {
	Sequence int64           `json:"sequence"`           // from 1, without a gap
	At       time.Time       `json:"at"`                 // by the clock of the process that did it, to the microsecond
	Revision int64           `json:"revision,omitempty"` // of the declarations, which the act made; 0: it made none
	Who      Who             `json:"who"`
	From     string          `json:"from"`
	Act      string          `json:"act"`
	Subject  string          `json:"subject,omitempty"`
	Before   json.RawMessage `json:"before,omitempty"`
	After    json.RawMessage `json:"after,omitempty"`
	Previous string          `json:"previous"` // hash of the entry before; empty for the first
}

// Head is the end of the chain: how many entries there are, and the hash of the last one.
type Head struct {
	Entries int64
	Hash    string // hexadecimal SHA-256; empty: there are no entries
}

// Row is an entry as it is stored. Body is the JSON document of an Entry, byte for byte as it was hashed.
type Row struct {
	Sequence int64
	At       int64 // microseconds
	Body     string
	Hash     string
}

// Append makes the row of an act that follows a head, and the head after it. revision is that which the act made, or 0.
func (h Head) Append(act Act, revision int64) (Row, Head, error) {
	at := act.At.UTC().Truncate(time.Microsecond)
	body, err := json.Marshal(Entry{
		Sequence: h.Entries + 1, At: at, Revision: revision,
		Who: Who{Kind: act.Who.Kind, ID: act.Who.ID, Name: act.Who.Name}, From: act.Who.From,
		Act: act.Name, Subject: act.Subject, Before: act.Before, After: act.After, Previous: h.Hash,
	})
	if err != nil {
		return Row{}, h, fmt.Errorf("describe the act %s: %w", act.Name, err)
	}
	row := Row{Sequence: h.Entries + 1, At: at.UnixMicro(), Body: string(body), Hash: hashOf(string(body))}
	return row, Head{Entries: row.Sequence, Hash: row.Hash}, nil
}

func hashOf(body string) string {
	sum := sha256.Sum256([]byte(body))
	return hex.EncodeToString(sum[:])
}

// Entry reads the row's document.
func (r Row) Entry() (Entry, error) {
	var e Entry
	if err := json.Unmarshal([]byte(r.Body), &e); err != nil {
		return Entry{}, fmt.Errorf("entry %d can not be read: %w", r.Sequence, err)
	}
	return e, nil
}

// Line is the row as a line of JSON, with its hash as the last member. Without that member it is what was hashed.
func (r Row) Line() string {
	return string(bytes.TrimSuffix([]byte(r.Body), []byte("}"))) + `,"hash":"` + r.Hash + "\"}\n"
}
