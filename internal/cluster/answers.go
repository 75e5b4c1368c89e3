package cluster

import (
	"cmp"
	"context"
	"errors"
	"time"

	"shareai/internal/fault"
)

// Answers shares answers among requests that say that they are the same. Whoever claims a name first
// makes the answer and puts it onto a tape; everybody else who claims it meanwhile, or within
// AnswerLimits.Keep after its end, plays that tape from its beginning.
type Answers interface {
	// Claim takes a name for work that is identified by a fingerprint. The error is ErrOtherWork when the name is taken
	// for other work, and a *fault.Error of kind Unavailable when no claim can be made now.
	Claim(ctx context.Context, name string, work Fingerprint) (Claim, error)
}

// Fingerprint identifies work: the same work has the same one.
type Fingerprint [32]byte

// Claim is what a claimant got: exactly one of the two.
type Claim struct {
	// Tape is to be recorded on by the claimant, who holds the name until Keep or Drop is called.
	Tape *Tape
	// Player plays what somebody else has recorded or is recording.
	Player Player
}

// Player plays a tape from its beginning, at its own speed. It is for one goroutine.
type Player interface {
	// Next waits until there is more and returns all of that that is at hand: the frames as they were
	// recorded, which must not be changed. io.EOF comes with the last of them, or alone after them. It
	// returns ErrLost when whoever recorded is gone before the end, and the error of ctx when that ends.
	Next(ctx context.Context) ([][]byte, error)
}

var (
	// ErrOtherWork says that a name is taken for other work.
	ErrOtherWork = errors.New("the name is taken for other work")
	// ErrLost says that a tape will never be complete. Its name is, or soon will be, free.
	ErrLost = errors.New("the recording was lost")
	// errTapeFull ends an answer that outgrew what one tape may hold.
	errTapeFull = errors.New("the answer is longer than a tape")
)

// claimAgain is the Retry-After of claims that could not be made.
const claimAgain = 2 * time.Second

var (
	errTooManyTapes = &fault.Error{
		Kind: fault.Unavailable, Code: "overloaded", RetryAfter: claimAgain,
		Message: "The gateway is holding as many running answers for repetition as it may. Try again shortly.",
	}
	errNoClaim = &fault.Error{
		Kind: fault.Unavailable, Code: "idempotency_unavailable", RetryAfter: claimAgain,
		Message: "Whether this request was made before can not be found out at the moment, so it is not begun. Send it again shortly, with the same key.",
	}
)

// AnswerLimits bound the memory of Answers. Bytes are those of frames and a little for each; zero means
// the default.
type AnswerLimits struct {
	// Answer is the longest answer that is kept after its end. 8 MiB.
	Answer int64
	// Tape is the longest answer that can be recorded at all. 64 MiB.
	Tape int64
	// Kept is what all kept answers of one process hold together; the oldest make way. 64 MiB. In Redis its
	// own maxmemory holds instead.
	Kept int64
	// Running is what all running answers of one process may hold before no further one is begun. 512 MiB.
	Running int64
	// Keep is how long an answer is kept after its end. 24 h.
	Keep time.Duration
	// Lease is after which silence of its recorder a tape in Redis is given up. 15 s.
	Lease time.Duration
}

func (l AnswerLimits) withDefaults() AnswerLimits {
	return AnswerLimits{
		Answer:  cmp.Or(l.Answer, 8<<20),
		Tape:    cmp.Or(l.Tape, 64<<20),
		Kept:    cmp.Or(l.Kept, 64<<20),
		Running: cmp.Or(l.Running, 512<<20),
		Keep:    cmp.Or(l.Keep, 24*time.Hour),
		Lease:   cmp.Or(l.Lease, 15*time.Second),
	}
}
