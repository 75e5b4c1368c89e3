package cluster

import (
	"context"
	"slices"
	"sync"
	"time"
)

// MemorySeats are the seats of a single process. The zero value has nobody in them.
type MemorySeats struct {
	halls sync.Map // of *hall, by deployment
}

// hall is the state of one deployment.
type hall struct {
	mu      sync.Mutex
	groups  map[Group]*bench
	soonest time.Time // when the next lease or claim ends
	all     []demand  // room for Sit
}

// bench is the state of one group.
type bench struct {
	seats  map[string]time.Time // by holder, until when
	claims []claim              // oldest first
}

type claim struct {
	holder string
	until  time.Time
}

// Sit implements Seats. It never fails.
func (m *MemorySeats) Sit(_ context.Context, holder Holder, ask Seat) (Seating, error) {
	found, ok := m.halls.Load(ask.Deployment)
	if !ok {
		found, _ = m.halls.LoadOrStore(ask.Deployment, &hall{groups: map[Group]*bench{}})
	}
	h := found.(*hall)
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	h.expire(now)
	h.all = h.all[:0]
	for g, b := range h.groups {
		h.all = append(h.all, demand{g, int64(len(b.seats)), int64(len(b.claims))})
	}
	s := seating(ask.Capacity, ask.Group, h.all)
	b := h.groups[ask.Group]
	if b == nil {
		b = &bench{seats: map[string]time.Time{}}
		h.groups[ask.Group] = b
	}
	b.claims = slices.DeleteFunc(b.claims, func(c claim) bool { return c.holder == holder.ID })
	if s.Seated {
		b.seats[holder.ID] = now.Add(holder.Lease)
		h.note(now.Add(holder.Lease))
		return s, nil
	}
	if int64(len(b.claims)) >= ask.Capacity { // more than that can not be kept
		b.claims = slices.Delete(b.claims, 0, 1)
	}
	b.claims = append(b.claims, claim{holder.ID, now.Add(ask.Claim)})
	h.note(now.Add(ask.Claim))
	return s, nil
}

// Rise implements Seats.
func (m *MemorySeats) Rise(_ context.Context, holder Holder, ask Seat) {
	found, ok := m.halls.Load(ask.Deployment)
	if !ok {
		return
	}
	h := found.(*hall)
	h.mu.Lock()
	defer h.mu.Unlock()
	if b := h.groups[ask.Group]; b != nil {
		delete(b.seats, holder.ID)
	}
}

func (h *hall) note(end time.Time) {
	if h.soonest.IsZero() || end.Before(h.soonest) {
		h.soonest = end
	}
}

// expire forgets the leases and claims that have ended, and groups that have and want nothing.
func (h *hall) expire(now time.Time) {
	if h.soonest.IsZero() || now.Before(h.soonest) {
		return
	}
	h.soonest = time.Time{}
	for g, b := range h.groups {
		for id, end := range b.seats {
			if now.Before(end) {
				h.note(end)
			} else {
				delete(b.seats, id)
			}
		}
		b.claims = slices.DeleteFunc(b.claims, func(c claim) bool { return !now.Before(c.until) })
		for _, c := range b.claims {
			h.note(c.until)
		}
		if len(b.seats)+len(b.claims) == 0 {
			delete(h.groups, g)
		}
	}
}
