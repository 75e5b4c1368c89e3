package share

import (
	"context"
	"crypto/rand"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"shareai/internal/account"
	"shareai/internal/cluster"
	"shareai/internal/fault"
)

const (
	// RetryAfter is what who got no seat is told: nobody knows when one is given back.
	RetryAfter = time.Second
	// Patience is how long a request waits for a seat when it has nowhere else to go.
	Patience = time.Second
	// claim is how long a seat is kept for a group below its share that was refused. It outlasts RetryAfter, so that who
	// comes back as told finds the claim in force.
	claim = 2 * time.Second
	// again is how often who waits asks again: other replicas do not tell what they give back.
	again = 50 * time.Millisecond
	// margin is added to the end of a request: then whoever has a seat is dead.
	margin = 30 * time.Second
	// away is how long shared seats are left alone after they did not answer.
	away = time.Second
)

// Desk gives out seats. Any number of goroutines may use it.
type Desk struct {
	seats cluster.Seats // for all replicas; nil: own count
	own   *cluster.MemorySeats
	log   *slog.Logger

	quiet    atomic.Int64 // until when the shared seats are not asked: nanoseconds since the epoch; 0: they answer
	halls    sync.Map     // of *hall, by deployment
	reported atomic.Bool  // somebody has reported a capacity
}

// NewDesk makes a desk over the seats of all replicas; nil where this process counts for itself.
func NewDesk(seats cluster.Seats, log *slog.Logger) *Desk {
	return &Desk{seats: seats, own: &cluster.MemorySeats{}, log: log}
}

// hall is what this process knows of a deployment.
type hall struct {
	reported atomic.Int64 // its capacity, as it says itself; 0: it does not say

	mu      sync.Mutex
	waiting map[account.Part]int64
	freed   chan struct{} // closed when somebody gives a seat back; nil: nobody looks
}

func (d *Desk) hall(deployment string) *hall {
	if h, ok := d.halls.Load(deployment); ok {
		return h.(*hall)
	}
	h, _ := d.halls.LoadOrStore(deployment, &hall{waiting: map[account.Part]int64{}})
	return h.(*hall)
}

// Report sets a deployment's capacity at run time, such as a node tells it, in the place of what is declared. 0 goes
// back to that.
func (d *Desk) Report(deployment string, capacity int64) {
	d.hall(deployment).reported.Store(capacity)
	d.reported.Store(true)
}

// Ask is who asks for a seat and where.
type Ask struct {
	Deployment string // its identity, whoever asks
	Declared   int64  // its capacity, as declared; 0: none
	Part       account.Part
	End        time.Time // when the request is over at the latest
	Turn       *Turn     // of who has asked before and got none
}

// Seat is a seat that was taken. Nil is the seat at a deployment without a capacity.
type Seat struct {
	ctx    context.Context // of the asker, without its end: it is given back all the same
	desk   *Desk
	by     cluster.Seats
	holder cluster.Holder
	ask    cluster.Seat
	once   sync.Once
}

// Take takes a seat. Where there is none for the asker, he gets a turn instead, with which to wait and to ask again.
func (d *Desk) Take(ctx context.Context, a *Ask) (*Seat, *Turn) {
	capacity := a.Declared
	if d.reported.Load() {
		if n := d.hall(a.Deployment).reported.Load(); n > 0 {
			capacity = n
		}
	}
	if capacity == 0 {
		return nil, nil
	}
	turn := a.Turn
	if turn == nil {
		turn = &Turn{id: rand.Text(), hall: d.hall(a.Deployment), part: a.Part}
	}
	turn.most, turn.freed = capacity, turn.hall.look()
	s := &Seat{
		ctx:    context.WithoutCancel(ctx),
		desk:   d,
		holder: cluster.Holder{ID: turn.id, Lease: time.Until(a.End) + margin},
		ask: cluster.Seat{
			Deployment: a.Deployment, Capacity: capacity, Claim: claim,
			Group: cluster.Group{Owner: a.Part.Owner, Name: a.Part.Name, Share: a.Part.Millionths},
		},
	}
	if d.sit(ctx, s) {
		return s, nil
	}
	return nil, turn
}

// sit asks the seats that count at this moment. While those of all replicas are away, this process counts for
// itself: providers have limits of their own, and a share is no reason to serve nobody.
func (d *Desk) sit(ctx context.Context, s *Seat) bool {
	if d.seats != nil && time.Now().UnixNano() >= d.quiet.Load() {
		s.by = d.seats
		got, err := d.seats.Sit(ctx, s.holder, s.ask)
		switch {
		case err == nil:
			if d.quiet.Swap(0) != 0 {
				d.log.InfoContext(ctx, "the seats of deployments are counted by all replicas together again")
			}
			return got.Seated
		case ctx.Err() != nil:
			return false
		}
		if d.quiet.Swap(time.Now().Add(away).UnixNano()) == 0 {
			d.log.WarnContext(ctx, "the seats of deployments are counted by this replica alone", "error", fault.Redact(err.Error()))
		}
	}
	s.by = d.own
	got, _ := d.own.Sit(ctx, s.holder, s.ask) // never fails
	return got.Seated
}

// Release gives the seat back. It may be called more than once.
func (s *Seat) Release() {
	if s == nil {
		return
	}
	s.once.Do(func() {
		s.by.Rise(s.ctx, s.holder, s.ask)
		s.desk.hall(s.ask.Deployment).free()
	})
}

// look returns what is closed when somebody gives a seat back from now on.
func (h *hall) look() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.freed == nil {
		h.freed = make(chan struct{})
	}
	return h.freed
}

func (h *hall) free() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.freed != nil {
		close(h.freed)
		h.freed = nil
	}
}

// Turn is the place of who got no seat. His claim stands for a while, whether he waits or goes elsewhere.
type Turn struct {
	id    string
	hall  *hall
	part  account.Part
	most  int64 // that may wait
	freed <-chan struct{}
}

// Wait waits until it is worth asking again, for at most a time. It does not when as many of his group
// wait as there are seats, and says so.
func (t *Turn) Wait(ctx context.Context, most time.Duration) bool {
	if !t.hall.join(t.part, t.most) {
		return false
	}
	defer t.hall.leave(t.part)
	timer := time.NewTimer(min(again, most))
	defer timer.Stop()
	select {
	case <-t.freed:
	case <-timer.C:
	case <-ctx.Done():
	}
	return true
}

func (h *hall) join(part account.Part, most int64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.waiting[part] >= most {
		return false
	}
	h.waiting[part]++
	return true
}

func (h *hall) leave(part account.Part) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.waiting[part]--; h.waiting[part] == 0 {
		delete(h.waiting, part)
	}
}
