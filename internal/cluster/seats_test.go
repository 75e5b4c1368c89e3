package cluster_test

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"shareai/internal/cluster"
	"shareai/internal/cluster/clustertest"
)

func TestMemorySeats(t *testing.T) {
	t.Parallel()
	clustertest.RunSeats(t, func(*testing.T) (here, there cluster.Seats) {
		s := new(cluster.MemorySeats)
		return s, s
	})
}

func TestRedisSeats(t *testing.T) {
	t.Parallel()
	server := redisServer(t)
	clustertest.RunSeats(t, func(t *testing.T) (here, there cluster.Seats) {
		return newRedis(t, server, new(logBuffer)).Seats(), newRedis(t, server, new(logBuffer)).Seats()
	})
}

// A seat that could not be given back while Redis was away is given back when it is there again.
func TestASeatIsGivenBackLate(t *testing.T) {
	t.Parallel()
	server := redisServer(t)
	w, near := newWire(t, server)
	here, there := newRedis(t, near, new(logBuffer)).Seats(), newRedis(t, server, new(logBuffer)).Seats()
	ask := cluster.Seat{Deployment: clustertest.Holder().ID, Capacity: 1, Claim: time.Millisecond, Group: cluster.Group{Owner: "acme", Share: 1}}
	h, other := clustertest.Holder(), clustertest.Holder()
	if got, err := here.Sit(t.Context(), h, ask); err != nil || !got.Seated {
		t.Fatal(got, err)
	}
	w.setCut(true)
	here.Rise(t.Context(), h, ask)
	if got, err := there.Sit(t.Context(), other, ask); err != nil || got.Seated {
		t.Fatal(got, err)
	}
	w.setCut(false)
	elsewhere := ask
	elsewhere.Deployment += " of another"
	for _, err := here.Sit(t.Context(), other, elsewhere); err != nil; _, err = here.Sit(t.Context(), other, elsewhere) {
		if t.Context().Err() != nil {
			t.Fatal(err)
		}
	}
	if got, err := there.Sit(t.Context(), other, ask); err != nil || !got.Seated {
		t.Fatal(got, err)
	}
}

// A seat whose answer was lost is nobody's: it is given back, unless its holder has asked again and got it.
func TestASeatWhoseAnswerIsLostIsGivenBack(t *testing.T) {
	t.Parallel()
	server := redisServer(t)
	w, near := newWire(t, server)
	here, there := newRedis(t, near, new(logBuffer)).Seats(), newRedis(t, server, new(logBuffer)).Seats()
	ask := cluster.Seat{Deployment: clustertest.Holder().ID, Capacity: 1, Claim: time.Millisecond, Group: cluster.Group{Owner: "acme", Share: 1}}
	elsewhere := ask
	elsewhere.Deployment += " of another"
	try := func(h cluster.Holder, ask cluster.Seat) cluster.Seating {
		got, err := here.Sit(t.Context(), h, ask)
		for err != nil {
			if t.Context().Err() != nil {
				t.Fatal(err)
			}
			got, err = here.Sit(t.Context(), h, ask)
		}
		return got
	}
	try(clustertest.Holder(), elsewhere) // the script is known
	for again := range 2 {
		h, other := clustertest.Holder(), clustertest.Holder()
		for lost := false; !lost; { // it may be another answer that is
			w.drops.Store(1)
			_, err := here.Sit(t.Context(), h, ask)
			if lost = err != nil; !lost {
				w.drops.Store(0)
				here.Rise(t.Context(), h, ask)
			}
		}
		for again == 1 && !try(h, ask).Seated { // what was lost may be in the way, once
			if t.Context().Err() != nil {
				t.Fatal("no seat")
			}
		}
		try(other, elsewhere)
		got, err := there.Sit(t.Context(), other, ask)
		if err != nil || got.Seated == (again == 1) {
			t.Fatalf("asked again %d times: %+v, %v", again, got, err)
		}
		there.Rise(t.Context(), other, ask)
		there.Rise(t.Context(), h, ask)
	}
}

// The law of seats, against a model in words: never more than the capacity; who is below his share gets whatever is
// free; who is refused although something is free is not below his share, and all of it is claimed by those who are;
// with nobody else about, everything is his.
func TestTheLawOfSeats(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		synctest.Test(t, func(t *testing.T) {
			const claim = 10 * time.Second
			m := new(cluster.MemorySeats)
			capacity := rapid.Int64Range(1, 20).Draw(rt, "capacity")
			groups := make([]cluster.Group, rapid.IntRange(1, 4).Draw(rt, "groups"))
			left := int64(1_000_000)
			for i := range groups {
				share := rapid.Int64Range(0, left).Draw(rt, "share")
				left -= share
				groups[i] = cluster.Group{Owner: "acme", Name: strconv.Itoa(i), Share: share}
			}
			ask := func(i int) cluster.Seat {
				return cluster.Seat{Deployment: "d", Capacity: capacity, Group: groups[i], Claim: claim}
			}
			inside := make([][]cluster.Holder, len(groups))
			refused := make([][]time.Time, len(groups)) // when
			used := func() (n int64) {
				for _, list := range inside {
					n += int64(len(list))
				}
				return n
			}
			for range rapid.IntRange(1, 150).Draw(rt, "steps") {
				time.Sleep(time.Duration(rapid.IntRange(0, 3).Draw(rt, "pause")) * time.Second)
				i := rapid.IntRange(0, len(groups)-1).Draw(rt, "who")
				if n := len(inside[i]); n > 0 && rapid.Bool().Draw(rt, "leaves") {
					m.Rise(t.Context(), inside[i][n-1], ask(i))
					inside[i] = inside[i][:n-1]
					continue
				}
				h := clustertest.Holder()
				h.Lease = time.Hour
				got, _ := m.Sit(t.Context(), h, ask(i))
				// Only one owner: his part is everything.
				below := int64(len(inside[i])) < fair(groups[i], capacity)
				claimed := int64(0)
				for j := range groups {
					if j != i {
						n := int64(0)
						for _, at := range refused[j] {
							if time.Since(at) < claim {
								n++
							}
						}
						claimed += min(n, max(fair(groups[j], capacity)-int64(len(inside[j])), 0))
					}
				}
				free := capacity - used()
				if want := free > 0 && (below || free > claimed); got.Seated != want {
					rt.Fatalf("%d of %d are free, %d claimed, below its share: %v; seated: %v", free, capacity, claimed, below, got.Seated)
				}
				if got.Seated {
					inside[i] = append(inside[i], h)
				} else {
					refused[i] = append(refused[i], time.Now())
				}
				if used() > capacity {
					rt.Fatalf("%d of %d are inside", used(), capacity)
				}
			}
			// The others leave and want nothing: all that is left belongs to one.
			one := rapid.IntRange(0, len(groups)-1).Draw(rt, "one")
			for j, list := range inside {
				for _, h := range list {
					m.Rise(t.Context(), h, ask(j))
				}
			}
			time.Sleep(claim)
			for n := range capacity {
				if got, _ := m.Sit(t.Context(), clustertest.Holder(), ask(one)); !got.Seated {
					rt.Fatalf("%d of %d, with nobody else about", n, capacity)
				}
			}
		})
	})
}

// fair is a group's share in whole seats.
func fair(g cluster.Group, capacity int64) int64 {
	if g.Share == 0 {
		return 0
	}
	return max((2*g.Share*capacity+1_000_000)/2_000_000, 1)
}

func BenchmarkMemorySeats(b *testing.B) {
	m := new(cluster.MemorySeats)
	ask := cluster.Seat{Deployment: "d", Capacity: 100, Claim: time.Second, Group: cluster.Group{Owner: "acme", Share: 700_000}}
	for b.Loop() {
		h := cluster.Holder{ID: "h", Lease: time.Minute}
		_, _ = m.Sit(b.Context(), h, ask)
		m.Rise(b.Context(), h, ask)
	}
}
