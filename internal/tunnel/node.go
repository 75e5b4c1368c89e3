package tunnel

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"shareai/internal/catalog"
)

const (
	// A node whose links were lost more often than maxLosses within lossWindow rests for the length of quarantine.
	maxLosses  = 3
	lossWindow = time.Minute
	quarantine = 30 * time.Second
	// maxSuperseded bounds how many processes of one node are remembered as replaced.
	maxSuperseded = 64
)

// node is what the hub knows of one node.
type node struct {
	id      string
	running atomic.Int64 // requests from here
	view    atomic.Pointer[View]
	links   atomic.Pointer[[]*link]  // that are ready, the newest last
	remote  atomic.Pointer[[]remote] // links of other replicas

	mu                sync.Mutex
	opening           []*link  // that are not ready yet
	superseded        []string // boots of which a newer one was seen, the oldest first
	losses            []time.Time
	resting           time.Time // until when no link is let in
	state             nodeState
	advertised        catalog.Advertised
	told              bool      // advertised was passed on
	announced         time.Time // when the directory was told, and what
	announce          presenceState
	announcedRevision int64
	revision          int64 // raised when other replicas should look at once
	lookedUp          time.Time
}

// nodeState is the last that a node said.
type nodeState struct {
	boot     string
	sequence uint64
	view     View
}

func newNode(id string) *node {
	n := &node{id: id}
	n.view.Store(&View{})
	n.links.Store(&[]*link{})
	n.remote.Store(&[]remote{})
	return n
}

func (n *node) look() View {
	v := *n.view.Load()
	v.InFlight = max(v.InFlight, int(n.running.Load()))
	return v
}

// open returns the links that are ready.
func (n *node) open() []*link { return *n.links.Load() }

// all returns the links that are ready and those that are about to be.
func (n *node) all() []*link {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Concat(n.open(), n.opening)
}

// admit notes a link that is about to open, or says why it may not.
func (n *node) admit(l *link, replaces string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if slices.Contains(n.superseded, l.boot) {
		return reasonSuperseded
	}
	if time.Now().Before(n.resting) {
		return reasonFlapping
	}
	l.seen = l.opened.UnixMicro()
	for _, other := range slices.Concat(n.open(), n.opening) {
		if other.boot != l.boot {
			continue
		}
		l.seen = min(l.seen, other.seen)
		if other.id != replaces && !other.leaving.Load() {
			return reasonDuplicate
		}
	}
	for _, other := range *n.remote.Load() {
		if other.state.Boot == l.boot {
			l.seen = min(l.seen, other.state.Seen)
		}
	}
	n.opening = append(n.opening, l)
	return ""
}

// forget drops a link that did not become ready.
func (n *node) forget(l *link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.opening = slices.DeleteFunc(n.opening, func(o *link) bool { return o == l })
}

// add makes a link usable. It returns the links of older processes, which are to be closed.
func (n *node) add(l *link) (older []*link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.opening = slices.DeleteFunc(n.opening, func(o *link) bool { return o == l })
	links := append(slices.Clone(n.open()), l)
	n.links.Store(&links)
	n.revision++
	n.show()
	for _, other := range links {
		switch {
		case other.boot == l.boot:
		case other.seen <= l.seen:
			n.supersede(other.boot)
			older = append(older, other)
		default: // its first event was slow
			n.supersede(l.boot)
			older = append(older, l)
		}
	}
	return older
}

// supersede notes that a process has been replaced by a newer one. The caller holds the lock.
func (n *node) supersede(boot string) {
	if slices.Contains(n.superseded, boot) {
		return
	}
	n.superseded = append(n.superseded, boot)
	if len(n.superseded) > maxSuperseded {
		n.superseded = n.superseded[1:]
	}
	// Two processes that take the node from each other are no better than a network that fails.
	n.lose(time.Now())
}

// lose counts a loss. The caller holds the lock.
func (n *node) lose(now time.Time) {
	n.losses = append(slices.DeleteFunc(n.losses, func(at time.Time) bool { return now.Sub(at) > lossWindow }), now)
	if len(n.losses) > maxLosses {
		n.resting, n.losses = now.Add(quarantine), nil
	}
}

// remove takes a link out.
func (n *node) remove(l *link, how ending) {
	n.mu.Lock()
	defer n.mu.Unlock()
	links := slices.DeleteFunc(slices.Clone(n.open()), func(o *link) bool { return o == l })
	n.links.Store(&links)
	n.revision++
	if how == endingLost {
		n.lose(time.Now())
	}
	n.show()
}

// ending is how a link ended.
type ending int

const (
	endingClean ending = iota // announced, or wanted by this end
	endingLost
)

// apply takes in what a node said. It reports whether what it advertises has changed.
func (n *node) apply(l *link, e *event) (advertised bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if e.Leaving && !l.leaving.Swap(true) {
		n.revision++
	}
	if e.Advertised != nil && (!n.told || !sameAdvertised(&n.advertised, e.Advertised)) {
		n.advertised, n.told, advertised = *e.Advertised, true, true
	}
	// Each link carries the state in order, and of several links one may be behind.
	if n.state.boot != e.Boot || n.state.sequence < e.Sequence {
		before := n.state.view
		n.state = nodeState{e.Boot, e.Sequence, View{
			Draining: e.Draining, Capacity: e.Capacity, InFlight: e.InFlight, Queued: e.Queued, Idle: e.Idle,
			TokensPerSecond: e.TokensPerSecond,
		}}
		after := n.state.view
		if before.Draining != after.Draining || before.Idle != after.Idle || before.Capacity != after.Capacity {
			n.revision++
		}
	}
	n.state.view.LastSeen = time.Now()
	n.show()
	return advertised
}

// show makes the view from what this replica and others know. The caller holds the lock.
func (n *node) show() {
	local := slices.ContainsFunc(n.open(), func(l *link) bool { return !l.leaving.Load() })
	v := n.state.view
	others := *n.remote.Load()
	newest := n.state.sequence
	for _, r := range others {
		if !local && (r.state.Boot != n.state.boot || r.state.Sequence > newest) {
			newest, v = r.state.Sequence, r.state.view(r.at)
		}
		if r.at.After(v.LastSeen) {
			v.LastSeen = r.at
		}
	}
	v.Local = local
	v.Linked = local || len(others) > 0
	n.view.Store(&v)
}

func (n *node) status(replica string) NodeStatus {
	s := NodeStatus{Node: n.id, View: n.look()}
	for _, l := range n.open() {
		s.Links = append(s.Links, LinkStatus{
			ID: l.id, Replica: replica, Boot: l.boot, Opened: l.opened, Leaving: l.leaving.Load(), Running: int(l.running.Load()),
		})
	}
	for _, r := range *n.remote.Load() {
		s.Links = append(s.Links, LinkStatus{Replica: r.replica, Boot: r.state.Boot, Opened: time.UnixMicro(r.state.Opened)})
	}
	return s
}
