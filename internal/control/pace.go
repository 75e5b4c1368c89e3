package control

import (
	"sync"
	"time"
)

// How often a node may change what is stored of it: often at once, seldom for long.
const (
	nodeChangesAtOnce = 10
	nodeChangeEvery   = 30 * time.Second
)

// mostPaces bounds the memory of Paces. Those beyond it share one.
const mostPaces = 4096

// Paces bound how often each of many does something: some times at once, and then once in a while.
type Paces struct {
	burst int
	every time.Duration

	mu sync.Mutex
	of map[string]pace
}

// pace fills up by one each time that may be.
type pace struct {
	left int
	at   time.Time // when it last filled up by one
}

// NewPaces lets everybody do something burst times at once, and once in every.
func NewPaces(burst int, every time.Duration) *Paces {
	return &Paces{burst: burst, every: every, of: map[string]pace{}}
}

// Take counts once for somebody and returns 0, or says how long he has to wait.
func (p *Paces) Take(who string, now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	own, ok := p.of[who]
	if !ok && len(p.of) >= mostPaces {
		p.forget(now)
		if len(p.of) >= mostPaces {
			who = "everybody else"
			own, ok = p.of[who]
		}
	}
	if !ok {
		own = pace{left: p.burst, at: now}
	}
	if more := int64(now.Sub(own.at) / p.every); more > 0 {
		own.left = int(min(int64(own.left)+more, int64(p.burst)))
		own.at = own.at.Add(time.Duration(more) * p.every)
	}
	if own.left == 0 {
		return own.at.Add(p.every).Sub(now)
	}
	own.left--
	p.of[who] = own
	return 0
}

// forget removes those that are full again.
func (p *Paces) forget(now time.Time) {
	for who, own := range p.of {
		if now.Sub(own.at) >= time.Duration(p.burst)*p.every {
			delete(p.of, who)
		}
	}
}
