package cluster

import (
	"context"
	"slices"
	"time"
)

// Seats are what deployments can serve at the same time, divided among groups of callers. A group takes whatever is
// free; where a deployment is contended, what becomes free goes to those who have less than their share.
//
// Owners divide a deployment equally: those who want less than that leave the rest to the others. Each group has a share
// of its owner's part, in whole seats, rounded to the nearest and at least one. A group that is refused leaves a
// claim. Seats that groups below their share claim are kept from those who have theirs. Nobody is ever sent
// away from a seat that he has.
type Seats interface {
	// Sit takes a seat, or leaves a claim. The error says that nothing is known: the seats can not be counted.
	Sit(ctx context.Context, holder Holder, ask Seat) (Seating, error)
	// Rise gives a seat back. It is called once for each Sit that was seated. What can not be given back
	// becomes free when its lease ends.
	Rise(ctx context.Context, holder Holder, ask Seat)
}

// Seat is what is asked for.
type Seat struct {
	Deployment string // identifies it among all
	Capacity   int64  // how many seats it has
	Group      Group
	Claim      time.Duration // how long a claim lasts
}

// Group is whom a seat is for.
type Group struct {
	Owner string
	Name  string // unique for its owner
	Share int64  // of its owner's part, in millionths; 0: only what nobody else claims
}

// Seating is the answer to a Sit.
type Seating struct {
	Seated bool
	Held   int64 // seats that the group has, this one included
	Share  int64 // seats that are its share at this moment
}

// whole is a share of everything.
const whole = 1_000_000

// seats is a group's share of its owner's part.
func (g Group) seats(part float64) int64 {
	if g.Share == 0 {
		return 0
	}
	return max(int64(float64(g.Share)*part/whole+0.5), 1)
}

// demand is what a group has and wants.
type demand struct {
	Group
	held, claims int64
}

// seating is the law of seats. of is whoever asks, not counted in all yet unless by its seats and claims.
func seating(capacity int64, of Group, all []demand) Seating {
	var used, own int64
	part := float64(capacity)
	for _, d := range all {
		used += d.held
		if d.Group == of {
			own = d.held
		}
	}
	if slices.ContainsFunc(all, func(d demand) bool { return d.Owner != of.Owner }) {
		part = level(capacity, of, all)
	}
	s := Seating{Held: own, Share: of.seats(part)}
	if used >= capacity {
		return s
	}
	var kept int64 // for those who have less than their share
	for _, d := range all {
		if d.Group != of {
			kept += min(d.claims, max(d.seats(part)-d.held, 0))
		}
	}
	if s.Seated = own < s.Share || used+kept < capacity; s.Seated {
		s.Held++
	}
	return s
}

// level is the part of an owner who wants more than his: everybody has as much, or what he wants.
func level(capacity int64, of Group, all []demand) float64 {
	owners := map[string]int64{of.Owner: 1}
	for _, d := range all {
		owners[d.Owner] += d.held + d.claims
	}
	left, n := float64(capacity), float64(len(owners))
	content := map[string]bool{}
	for again := true; again; {
		again = false
		for name, wants := range owners {
			if !content[name] && float64(wants) <= left/n {
				content[name], again = true, true
				left -= float64(wants)
				n--
			}
		}
	}
	if n == 0 {
		return float64(capacity)
	}
	return left / n
}
