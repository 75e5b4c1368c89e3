package cluster

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// MemoryAnswers are the answers of a single process.
type MemoryAnswers struct {
	limits  AnswerLimits
	running atomic.Int64

	mu    sync.Mutex
	names map[string]*memoryAnswer
	kept  []*memoryAnswer // in the order in which they ended, which is that of their expiry
	bytes int64           // of those
}

type memoryAnswer struct {
	name  string
	work  Fingerprint
	tape  *Tape
	size  int64     // once it is kept
	until time.Time // once it is kept; zero: it runs
}

// perAnswer is what it takes to hold an answer besides its frames, roughly.
const perAnswer = 512

// NewMemoryAnswers returns answers in memory.
func NewMemoryAnswers(limits AnswerLimits) *MemoryAnswers {
	return &MemoryAnswers{limits: limits.withDefaults(), names: make(map[string]*memoryAnswer)}
}

// Claim implements Answers.
func (m *MemoryAnswers) Claim(_ context.Context, name string, work Fingerprint) (Claim, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.shed(0)
	if a, taken := m.names[name]; taken {
		if a.work != work {
			return Claim{}, ErrOtherWork
		}
		return Claim{Player: a.tape.Play()}, nil
	}
	if m.running.Load() >= m.limits.Running {
		return Claim{}, errTooManyTapes
	}
	a := &memoryAnswer{name: name, work: work}
	a.tape = &Tape{limits: &m.limits, running: &m.running, onEnd: func(end tapeEnd, size int64) { m.ended(a, end, size) }}
	m.names[name] = a
	return Claim{Tape: a.tape}, nil
}

// ended keeps an answer, or frees its name.
func (m *MemoryAnswers) ended(a *memoryAnswer, end tapeEnd, size int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if end == endDropped {
		delete(m.names, a.name)
		return
	}
	size += perAnswer
	m.shed(size)
	a.size, a.until = size, time.Now().Add(m.limits.Keep)
	m.kept = append(m.kept, a)
	m.bytes += size
}

// shed lets go of what has expired, and of the oldest until there is room for more bytes. The caller
// holds the lock.
func (m *MemoryAnswers) shed(room int64) {
	if len(m.kept) == 0 {
		return
	}
	now := time.Now()
	n := 0
	for _, a := range m.kept {
		if now.Before(a.until) && m.bytes+room <= m.limits.Kept {
			break
		}
		delete(m.names, a.name)
		m.bytes -= a.size
		n++
	}
	clear(m.kept[:n]) // what is behind the slice's beginning would be held as well
	m.kept = m.kept[n:]
}
