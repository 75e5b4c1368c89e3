package cluster

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
)

// Tape is an answer while it is made and after it: frames in the order in which they were recorded. One
// goroutine records; any number of players read, and none of them holds the recorder up.
type Tape struct {
	limits  *AnswerLimits
	running *atomic.Int64 // bytes on all tapes of this process that have not ended
	onEnd   func()        // called once, after the end

	mu     sync.Mutex
	frames [][]byte
	size   int64
	end    tapeEnd
	grown  chan struct{} // closed when there is more; nil while nobody waits
}

// perFrame is what it takes to hold a frame besides its bytes, roughly.
const perFrame = 64

// tapeEnd says whether and how a tape has ended.
type tapeEnd uint8

const (
	endless tapeEnd = iota
	endKept         // it may be played again
	endDropped
)

// Append records a frame, which is not empty and belongs to the tape from then on. It fails when the tape is full.
func (t *Tape) Append(frame []byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	size := int64(len(frame)) + perFrame
	if t.size+size > t.limits.Tape {
		return errTapeFull
	}
	t.frames = append(t.frames, frame)
	t.size += size
	t.running.Add(size)
	t.wake()
	return nil
}

// Keep ends the tape and keeps it for those who claim its name later, unless it is too long for that.
func (t *Tape) Keep() { t.finish(endKept) }

// Drop ends the tape: those who play it get all of it, and its name is free. It does nothing to a tape
// that has ended.
func (t *Tape) Drop() { t.finish(endDropped) }

func (t *Tape) finish(end tapeEnd) {
	t.mu.Lock()
	if t.end != endless {
		t.mu.Unlock()
		return
	}
	if t.size > t.limits.Answer {
		end = endDropped
	}
	t.end = end
	t.running.Add(-t.size)
	t.wake()
	t.mu.Unlock()
	t.onEnd()
}

// wake tells the players that there is more. The caller holds the lock.
func (t *Tape) wake() {
	if t.grown != nil {
		close(t.grown)
		t.grown = nil
	}
}

// ended says how the tape has ended, and its size in bytes.
func (t *Tape) ended() (tapeEnd, int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.end, t.size
}

// Play returns a player of the tape from its beginning.
func (t *Tape) Play() Player { return &tapePlayer{tape: t} }

type tapePlayer struct {
	tape *Tape
	at   int // frames played
}

// Next implements Player.
func (p *tapePlayer) Next(ctx context.Context) ([][]byte, error) {
	for {
		frames, wait, err := p.take()
		if wait == nil {
			return frames, err
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// take returns what there is, or what to wait for.
func (p *tapePlayer) take() (frames [][]byte, wait <-chan struct{}, err error) {
	t := p.tape
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(t.frames)
	if t.end != endless {
		err = io.EOF
	} else if p.at == n {
		if t.grown == nil {
			t.grown = make(chan struct{})
		}
		return nil, t.grown, nil
	}
	frames, p.at = t.frames[p.at:n:n], n
	return frames, nil, err
}
