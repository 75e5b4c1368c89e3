package clustertest

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"shareai/internal/cluster"
)

// shortLease is one that a test can wait for.
const shortLease = 300 * time.Millisecond

// RunDirectory runs the suite. join returns the Directory of one more replica of a cluster; an implementation for a
// single process returns the same one each time.
func RunDirectory(t *testing.T, join func(*testing.T) cluster.Directory) {
	for name, test := range map[string]func(t *testing.T, here, there cluster.Directory){
		"what is announced is found":      testAnnounced,
		"what is withdrawn is gone":       testWithdrawn,
		"a lease ends":                    testLease,
		"one of two leases ends":          testTwoLeases,
		"changes are signalled":           testDirectorySignals,
		"a replica has an entry too":      testReplicaEntry,
		"replicas write at the same time": testDirectoryConcurrent,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, join(t), join(t))
		})
	}
}

func newPresence() cluster.Presence {
	return cluster.Presence{
		Node: "node_" + rand.Text(), Replica: "r1", Peer: "http://10.0.0.1:8080", Revision: 1, State: json.RawMessage(`{"capacity":2}`),
	}
}

func announce(t *testing.T, d cluster.Directory, p cluster.Presence, lease time.Duration) {
	t.Helper()
	if err := d.Announce(t.Context(), p, lease); err != nil {
		t.Fatalf("announce: %v", err)
	}
}

func expectPresence(t *testing.T, d cluster.Directory, node string, want ...cluster.Presence) {
	t.Helper()
	got, err := d.Lookup(t.Context(), node)
	if err != nil {
		t.Fatalf("lookup: %v", err)
	}
	if len(want) == 0 && len(got) == 0 {
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("lookup (-want +got)\n%s", diff)
	}
}

// listed returns what a list has of a node.
func listed(t *testing.T, d cluster.Directory, node string) []cluster.Presence {
	t.Helper()
	all, err := d.List(t.Context())
	if err != nil {
		t.Fatalf("list: %v", err)
	}
	var of []cluster.Presence
	for _, p := range all {
		if p.Node == node {
			of = append(of, p)
		}
	}
	return of
}

func testAnnounced(t *testing.T, here, there cluster.Directory) {
	one := newPresence()
	two := one
	two.Replica, two.Peer, two.State = "r2", "http://10.0.0.2:8080", nil
	other := newPresence()
	expectPresence(t, there, one.Node)
	announce(t, there, two, time.Minute)
	announce(t, here, one, time.Minute)
	announce(t, here, other, time.Minute)
	for _, d := range []cluster.Directory{here, there} {
		expectPresence(t, d, one.Node, one, two)
		expectPresence(t, d, other.Node, other)
		if diff := cmp.Diff([]cluster.Presence{one, two}, listed(t, d, one.Node)); diff != "" {
			t.Errorf("list (-want +got)\n%s", diff)
		}
	}
	one.State, one.Revision = json.RawMessage(`{"text":"two words, and \"more\""}`), 2
	announce(t, here, one, time.Minute)
	expectPresence(t, there, one.Node, one, two)
}

func testWithdrawn(t *testing.T, here, there cluster.Directory) {
	one := newPresence()
	two := one
	two.Replica = "r2"
	announce(t, here, one, time.Minute)
	announce(t, there, two, time.Minute)
	for range 2 { // the second time there is nothing to withdraw
		if err := here.Withdraw(t.Context(), one.Node, one.Replica); err != nil {
			t.Fatalf("withdraw: %v", err)
		}
	}
	expectPresence(t, there, one.Node, two)
	announce(t, here, one, time.Minute)
	expectPresence(t, there, one.Node, one, two)
}

func testLease(t *testing.T, here, there cluster.Directory) {
	p := newPresence()
	announce(t, here, p, shortLease)
	expectPresence(t, there, p.Node, p)
	for end := time.Now().Add(2 * shortLease); time.Now().Before(end); { // renewed, it goes on
		announce(t, here, p, shortLease)
	}
	expectPresence(t, there, p.Node, p)
	gone(t, func() bool { return len(listed(t, there, p.Node)) == 0 })
	expectPresence(t, here, p.Node)
}

func testTwoLeases(t *testing.T, here, there cluster.Directory) {
	short := newPresence()
	long := short
	long.Replica = "r2"
	announce(t, there, long, time.Minute)
	announce(t, here, short, shortLease)
	expectPresence(t, there, short.Node, short, long)
	gone(t, func() bool { return len(listed(t, here, short.Node)) == 1 })
	expectPresence(t, here, short.Node, long)
}

// gone waits for the end of a lease, which nothing tells.
func gone(t *testing.T, is func() bool) {
	t.Helper()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-limit.C:
			t.Fatal("the lease does not end")
		}
	}
}

func testDirectorySignals(t *testing.T, here, there cluster.Directory) {
	wake, end, err := there.Watch(t.Context())
	if err != nil {
		t.Fatalf("watch: %v", err)
	}
	defer end()
	p := newPresence()
	announce(t, here, p, time.Minute)
	Await(t, wake)
	p.Revision++
	announce(t, here, p, time.Minute)
	Await(t, wake)
	if err := here.Withdraw(t.Context(), p.Node, p.Replica); err != nil {
		t.Fatalf("withdraw: %v", err)
	}
	Await(t, wake)
	announce(t, here, p, time.Minute)
	Await(t, wake)
}

func testReplicaEntry(t *testing.T, here, there cluster.Directory) {
	p := cluster.Presence{Replica: "replica_" + rand.Text(), Peer: "http://10.0.0.1:8080"}
	announce(t, here, p, time.Minute)
	found := false
	for _, of := range listed(t, there, "") {
		found = found || cmp.Equal(of, p)
	}
	if !found {
		t.Error("the replica is not listed")
	}
}

func testDirectoryConcurrent(t *testing.T, here, there cluster.Directory) {
	node := newPresence().Node
	var all sync.WaitGroup
	for n := range 16 {
		all.Go(func() {
			p := cluster.Presence{Node: node, Replica: string(rune('a' + n))}
			if err := []cluster.Directory{here, there}[n%2].Announce(t.Context(), p, time.Minute); err != nil {
				t.Errorf("announce: %v", err)
			}
		})
	}
	all.Wait()
	if held := listed(t, here, node); len(held) != 16 {
		t.Errorf("%d entries", len(held))
	}
}

// RunOnce runs the suite of first uses. join is as in RunDirectory.
func RunOnce(t *testing.T, join func(*testing.T) cluster.Once) {
	t.Run("one of many is the first", func(t *testing.T) {
		t.Parallel()
		replicas := []cluster.Once{join(t), join(t)}
		name := rand.Text()
		var firsts atomic.Int32
		var all sync.WaitGroup
		for n := range 32 {
			all.Go(func() {
				first, err := replicas[n%2].First(t.Context(), name, time.Minute)
				if err != nil {
					t.Errorf("%v", err)
				}
				if first {
					firsts.Add(1)
				}
			})
		}
		all.Wait()
		if firsts.Load() != 1 {
			t.Errorf("%d were the first", firsts.Load())
		}
		if first, err := replicas[0].First(t.Context(), name+"x", time.Minute); !first || err != nil {
			t.Errorf("another name: %t, %v", first, err)
		}
	})
	t.Run("a name is free again", func(t *testing.T) {
		t.Parallel()
		here, there := join(t), join(t)
		name := rand.Text()
		first := func(o cluster.Once) bool {
			is, err := o.First(context.WithoutCancel(t.Context()), name, shortLease)
			if err != nil {
				t.Fatal(err)
			}
			return is
		}
		if !first(here) || first(there) {
			t.Error("the first use was not the first")
		}
		gone(t, func() bool { return first(there) })
	})
}
