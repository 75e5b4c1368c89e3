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
	running *atomic.Int64        // bytes on all tapes of this process that have not ended
	onEnd   func(tapeEnd, int64) // called once, just before the end, with the size in bytes

	mu     sync.Mutex
	frames [][]byte
	size   int64
	ending bool
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

// Keep records a last frame, ends the tape and keeps it for those who claim its name later, unless it is
// too long for that.
func (t *Tape) Keep(last []byte) { t.finish(endKept, last) }

// Drop records a last frame and ends the tape: those who play it get all of it. Its name is free in this
// process before any of them knows of the end. It does nothing to a tape that has ended.
func (t *Tape) Drop(last []byte) { t.finish(endDropped, last) }

func (t *Tape) finish(end tapeEnd, last []byte) {
	t.mu.Lock()
	ending, size := t.ending, t.size+int64(len(last))+perFrame
	t.ending = true
	t.mu.Unlock()
	if ending {
		return
	}
	if size > t.limits.Answer {
		end = endDropped
	}
	t.onEnd(end, size)

	t.mu.Lock()
	defer t.mu.Unlock()
	if len(last) > 0 {
		t.frames = append(t.frames, last)
	}
	t.running.Add(-t.size)
	t.size, t.end = size, end
	t.wake()
}

// wake tells the players that there is more. The caller holds the lock.
func (t *Tape) wake() {
	if t.grown != nil {
		close(t.grown)
		t.grown = nil
	}
}

// ended says how the tape has ended.
func (t *Tape) ended() tapeEnd {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.end
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
