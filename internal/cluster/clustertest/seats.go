package clustertest

import (
	"crypto/rand"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"shareai/internal/cluster"
)

// halls are the seats of two replicas.
type halls struct{ here, there cluster.Seats }

// RunSeats runs the suite. join returns the Seats of two replicas of a cluster; an implementation for a single
// process returns the same twice.
func RunSeats(t *testing.T, join func(*testing.T) (here, there cluster.Seats)) {
	for name, test := range map[string]func(*testing.T, halls){
		"what is idle is lent":                          testLent,
		"what is released goes to who has less":         testReturned,
		"a claim ends":                                  testClaimEnds,
		"owners divide equally":                         testOwners,
		"an owner leaves what he does not want":         testModestOwner,
		"no share is what nobody claims":                testNoShare,
		"seats of the dead become free":                 testDeadSeats,
		"a smaller capacity sends nobody away":          testShrunk,
		"under saturation everybody has his share":      testSaturated,
		"many at once are never more than the capacity": testManySitters,
		"names may hold anything":                       testGroupNames,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			here, there := join(t)
			test(t, halls{here, there})
		})
	}
}

// theatre is a deployment that nobody else uses, with who sits in it.
type theatre struct {
	halls
	t          *testing.T
	deployment string
	capacity   int64
	claim      time.Duration
	lease      time.Duration
	turn       int
	inside     map[cluster.Group][]cluster.Holder
}

func newTheatre(t *testing.T, h halls, capacity int64) *theatre {
	return &theatre{
		halls: h, t: t, deployment: rand.Text(), capacity: capacity, claim: time.Minute, lease: time.Minute,
		inside: map[cluster.Group][]cluster.Holder{},
	}
}

func (h *theatre) ask(g cluster.Group) cluster.Seat {
	return cluster.Seat{Deployment: h.deployment, Capacity: h.capacity, Group: g, Claim: h.claim}
}

// replica takes turns.
func (h *theatre) replica() cluster.Seats {
	h.turn++
	return []cluster.Seats{h.here, h.there}[h.turn%2]
}

// sit lets somebody of a group try to sit down.
func (h *theatre) sit(g cluster.Group) bool {
	h.t.Helper()
	holder := cluster.Holder{ID: rand.Text(), Lease: h.lease}
	got, err := h.replica().Sit(h.t.Context(), holder, h.ask(g))
	if err != nil {
		h.t.Fatal(err)
	}
	if got.Seated {
		h.inside[g] = append(h.inside[g], holder)
	}
	if want := int64(len(h.inside[g])); got.Held != want {
		h.t.Errorf("%v: %d seats, want %d", g, got.Held, want)
	}
	return got.Seated
}

// rise lets somebody of a group leave.
func (h *theatre) rise(g cluster.Group) {
	h.t.Helper()
	if len(h.inside[g]) == 0 {
		h.t.Fatalf("nobody of %v is inside", g)
	}
	h.replica().Rise(h.t.Context(), h.inside[g][0], h.ask(g))
	h.inside[g] = h.inside[g][1:]
}

// expect lets several groups try, in order, and says whether each gets a seat.
func (h *theatre) expect(want bool, groups ...cluster.Group) {
	h.t.Helper()
	for i, g := range groups {
		if got := h.sit(g); got != want {
			h.t.Fatalf("%d: %s is seated: %v, want %v; inside are %v", i, g.Name, got, want, h.counts())
		}
	}
}

func (h *theatre) counts() string {
	var list []string
	for g, inside := range h.inside {
		list = append(list, fmt.Sprintf("%s/%s:%d", g.Owner, g.Name, len(inside)))
	}
	slices.Sort(list)
	return fmt.Sprint(list)
}

func times(n int, g cluster.Group) []cluster.Group { return slices.Repeat([]cluster.Group{g}, n) }

func group(owner, name string, share float64) cluster.Group {
	return cluster.Group{Owner: owner, Name: name, Share: int64(share * 1e6)}
}

func testLent(t *testing.T, r halls) {
	h, staging := newTheatre(t, r, 4), group("acme", "staging", 0.25)
	h.expect(true, times(4, staging)...)
	h.expect(false, staging)
	h.rise(staging)
	h.expect(true, staging)
}

func testReturned(t *testing.T, r halls) {
	h, production, staging := newTheatre(t, r, 4), group("acme", "production", 0.75), group("acme", "staging", 0.25)
	h.expect(true, times(4, staging)...)
	h.expect(false, times(3, production)...)
	for range 3 {
		h.rise(staging)
		h.expect(false, staging) // it is kept
		h.expect(true, production)
	}
	h.expect(false, production)
	h.rise(staging)
	h.expect(true, staging) // who has his share keeps it
	h.rise(production)
	h.expect(false, staging) // whoever of production comes, the claim of those who were refused is its own
	h.expect(true, production)
}

func testClaimEnds(t *testing.T, r halls) {
	h, production, staging := newTheatre(t, r, 2), group("acme", "production", 0.5), group("acme", "staging", 0.5)
	h.claim = lapse
	h.expect(true, times(2, staging)...)
	h.expect(false, production)
	h.rise(staging)
	h.claim = time.Minute
	h.expect(false, staging)
	<-time.After(2 * lapse)
	h.expect(true, staging)
}

func testOwners(t *testing.T, r halls) {
	h, acme, other := newTheatre(t, r, 4), group("acme", "", 1), group("other", "", 1)
	h.expect(true, times(4, acme)...)
	h.expect(false, times(4, other)...)
	h.rise(acme)
	h.rise(acme)
	h.expect(false, acme)
	h.expect(true, other, other)
	h.expect(false, other)
	h.rise(acme)
	h.expect(true, acme)
}

func testModestOwner(t *testing.T, r halls) {
	h, other := newTheatre(t, r, 9), group("other", "", 1)
	production, staging := group("acme", "production", 0.75), group("acme", "staging", 0.25)
	h.expect(true, other)
	h.expect(true, times(8, staging)...)
	h.expect(false, times(8, production)...)
	for range 6 { // three quarters of the eight that the other leaves
		h.rise(staging)
		h.expect(false, staging)
		h.expect(true, production)
	}
	h.rise(staging)
	h.expect(true, staging)
}

func testNoShare(t *testing.T, r halls) {
	h, all, rest := newTheatre(t, r, 2), group("acme", "production", 1), group("acme", "", 0)
	h.expect(true, rest, rest)
	h.expect(false, all)
	h.rise(rest)
	h.expect(false, rest)
	h.expect(true, all)
}

func testDeadSeats(t *testing.T, r halls) {
	h, g := newTheatre(t, r, 2), group("acme", "", 1)
	h.lease, h.claim = lapse, lapse
	h.expect(true, g, g)
	h.expect(false, g)
	<-time.After(2 * lapse)
	h.inside[g] = nil
	h.expect(true, g, g)
}

func testShrunk(t *testing.T, r halls) {
	h, g := newTheatre(t, r, 4), group("acme", "", 1)
	h.expect(true, times(4, g)...)
	h.capacity = 2
	for range 2 {
		h.rise(g)
		h.expect(false, g)
	}
	h.rise(g)
	h.expect(true, g)
}

// Everybody asks all the time, and seats become free in any order.
func testSaturated(t *testing.T, r halls) {
	h := newTheatre(t, r, 10)
	want := map[cluster.Group]int{
		group("acme", "production", 0.5): 5, group("acme", "staging", 0.3): 3, group("acme", "", 0.2): 2,
	}
	for g := range want { // whoever comes first takes all of it
		h.expect(true, times(10, g)...)
		break
	}
	for round := range 30 {
		for g := range want {
			for h.sit(g) {
			}
		}
		for g, inside := range h.inside {
			if len(inside) > 0 && (len(inside) > want[g] || round%3 == 0) {
				h.rise(g)
				break
			}
		}
	}
	for range 3 {
		for g := range want {
			h.sit(g)
		}
	}
	for g, n := range want {
		if got := len(h.inside[g]); got != n {
			t.Errorf("%s has %d seats, want %d", g.Name, got, n)
		}
	}
}

func testManySitters(t *testing.T, r halls) {
	deployment := rand.Text()
	var inside, most, seated atomic.Int64
	var people sync.WaitGroup
	for i := range 8 {
		people.Go(func() {
			ask := cluster.Seat{Deployment: deployment, Capacity: 3, Claim: lapse, Group: group("acme", strconv.Itoa(i%2), 0.5)}
			seats := []cluster.Seats{r.here, r.there}[i/4]
			for range 50 {
				holder := Holder()
				got, err := seats.Sit(t.Context(), holder, ask)
				if err != nil {
					t.Errorf("sit: %v", err)
					return
				}
				if !got.Seated {
					continue
				}
				seated.Add(1)
				for now, before := inside.Add(1), most.Load(); now > before && !most.CompareAndSwap(before, now); before = most.Load() {
				}
				inside.Add(-1)
				seats.Rise(t.Context(), holder, ask)
			}
		})
	}
	people.Wait()
	if most.Load() > 3 || seated.Load() == 0 {
		t.Errorf("up to %d were inside, %d in all", most.Load(), seated.Load())
	}
	h := &theatre{halls: r, t: t, deployment: deployment, capacity: 3, claim: lapse, lease: time.Minute, inside: map[cluster.Group][]cluster.Holder{}}
	<-time.After(2 * lapse)
	h.expect(true, times(3, group("acme", "0", 0.5))...) // all have left
}

func testGroupNames(t *testing.T, r halls) {
	h := newTheatre(t, r, 4)
	odd, plain := group("acme", "team=a b/c\n% \x00é", 0.5), group("acme", "team=a", 0.5)
	h.expect(true, times(4, odd)...)
	h.expect(false, plain, plain)
	for range 2 {
		h.rise(odd)
		h.expect(false, odd)
		h.expect(true, plain)
	}
}
