package health

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// State is what a circuit lets through.
type State string

// The states of a circuit.
const (
	Closed   State = "closed"    // everything
	Open     State = "open"      // nothing
	HalfOpen State = "half_open" // a few requests, to find out
)

// Board holds the health of everything that can fail. It is safe for concurrent use. Ids are the
// caller's: a deployment's is its provider/model, a provider key's and a drill's share have a prefix.
type Board struct {
	clock    clock
	onChange func(id string, from, to State)

	deployments sync.Map // string → *Deployment
	keys        sync.Map // string → *Key
	turns       sync.Map // string → *turn
	swept       atomic.Int64
}

// Options configure a board. The zero value is good for production.
type Options struct {
	// OnChange, when not nil, hears of every change of a circuit's state. It is called without a lock, by the
	// request that caused the change, and must not block; of two changes at nearly the same time the later
	// may be heard first. An open circuit becomes half-open when the first request after its wait comes.
	OnChange func(id string, from, to State)
}

// NewBoard makes an empty board: everything is taken to be well.
func NewBoard(o Options) *Board {
	return &Board{clock: clock{time.Now()}, onChange: o.OnChange}
}

// Deployment returns the health of a deployment, for the time of a request: what was idle for an hour
// is dropped.
func (b *Board) Deployment(id string) *Deployment {
	if d, ok := b.deployments.Load(id); ok {
		return d.(*Deployment)
	}
	d, known := b.deployments.LoadOrStore(id, newDeployment(id, b))
	if !known {
		b.sweep()
	}
	return d.(*Deployment)
}

// Key returns the health of a provider key, for the time of a request.
func (b *Board) Key(id string) *Key {
	if k, ok := b.keys.Load(id); ok {
		return k.(*Key)
	}
	k, known := b.keys.LoadOrStore(id, &Key{clock: b.clock, used: b.clock.now()})
	if !known {
		b.sweep()
	}
	return k.(*Key)
}

// View is the health of a deployment at one moment.
type View struct {
	State       State
	Badness     float64          // see Deployment.Badness
	Latency     [2]time.Duration // by Mode: the usual one of recent successes; 0: unknown
	SuccessRate float64          // see Deployment.SuccessRate
}

// Look returns the health of a deployment; of one never heard of, that it is well.
func (b *Board) Look(id string) View {
	d, ok := b.deployments.Load(id)
	if !ok {
		return View{State: Closed, SuccessRate: 1}
	}
	return d.(*Deployment).view()
}

// Status is the health of a deployment for whoever watches it.
type Status struct {
	ID string
	View
	P95   [2]time.Duration // by Mode, see Deployment.P95
	Until time.Time        // end of an open circuit's wait; zero when it is not open
}

// List returns the status of every deployment that was used in the last hour, sorted by id.
func (b *Board) List() []Status {
	var list []Status
	b.deployments.Range(func(_, d any) bool {
		list = append(list, d.(*Deployment).status())
		return true
	})
	slices.SortFunc(list, func(a, b Status) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// KeyStatus is a provider key that is out of use.
type KeyStatus struct {
	ID    string
	Until time.Time // when it may be used again
}

// KeysOut lists the provider keys that are out of use now, sorted by id.
func (b *Board) KeysOut() []KeyStatus {
	var list []KeyStatus
	b.keys.Range(func(id, k any) bool {
		if until := k.(*Key).Until(); !until.IsZero() {
			list = append(list, KeyStatus{id.(string), until})
		}
		return true
	})
	slices.SortFunc(list, func(a, b KeyStatus) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// Turn returns the next number in [0, 1) of a sequence of its own for each name. The numbers of a
// sequence are spread evenly, so that shares of traffic drawn with them hold to within a request or two.
func (b *Board) Turn(name string) float64 {
	now := b.clock.now()
	if t, ok := b.turns.Load(name); ok {
		return t.(*turn).next(now)
	}
	// Replicas start at different places: with few requests each they would all choose the same.
	fresh := &turn{}
	fresh.at.Store(rand.Uint64())
	fresh.used.Store(int64(now))
	t, known := b.turns.LoadOrStore(name, fresh)
	if !known {
		b.sweep()
	}
	return t.(*turn).next(now)
}

// turn walks round a circle in steps of the golden section, which never comes near a place where it has
// been before it must: any run of n numbers leaves gaps of about 1/n.
type turn struct {
	at   atomic.Uint64 // fractions of 2^64
	used atomic.Int64  // moment
}

const goldenSection = 0x9E3779B97F4A7C15 // of 2^64

func (t *turn) next(now moment) float64 {
	if at := t.used.Load(); int64(now)-at > int64(sweepEvery) {
		t.used.Store(int64(now))
	}
	return float64(t.at.Add(goldenSection)>>11) / (1 << 53)
}

func (t *turn) idleSince() moment { return moment(t.used.Load()) }

// What was not used for idleLimit may be dropped; it is looked for at most once in sweepEvery.
const (
	idleLimit  = time.Hour
	sweepEvery = time.Minute
)

// sweep drops what was idle for long. It is called when something new has come: what does not grow needs
// no sweeping.
func (b *Board) sweep() {
	now := b.clock.now()
	last := b.swept.Load()
	if int64(now)-last < int64(sweepEvery) || !b.swept.CompareAndSwap(last, int64(now)) {
		return
	}
	for _, all := range []*sync.Map{&b.deployments, &b.keys, &b.turns} {
		all.Range(func(id, entry any) bool {
			if now-entry.(interface{ idleSince() moment }).idleSince() > idleLimit {
				all.CompareAndDelete(id, entry)
			}
			return true
		})
	}
}

// moment is a time by a board's clock: how long ago the board was made, and never 0, which means never.
type moment = time.Duration

// clock tells moments. A difference of monotonic times is half as dear as the time of day.
type clock struct{ start time.Time }

func (c clock) now() moment { return time.Since(c.start) + 1 }

func (c clock) time(m moment) time.Time { return c.start.Add(m - 1) }
