package tunnel

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"shareai/internal/catalog"
	"shareai/internal/cluster"
)

const (
	lease          = 15 * time.Second // of an entry of the directory
	renewAfter     = 5 * time.Second
	announceChange = time.Second // how often a change of load alone is announced
	refreshAfter   = 5 * time.Second
	directoryPause = 100 * time.Millisecond
)

// presenceState is what replicas tell each other about a node.
type presenceState struct {
	Boot            string  `json:"boot"`
	Seen            int64   `json:"seen"` // when the boot was first seen, microseconds
	Opened          int64   `json:"opened"`
	Sequence        uint64  `json:"seq"`
	Capacity        int     `json:"capacity"`
	InFlight        int     `json:"inflight"`
	Queued          int     `json:"queued"`
	Idle            string  `json:"idle_state,omitempty"`
	TokensPerSecond float64 `json:"tok_s,omitempty"`
	Draining        bool    `json:"draining,omitempty"`
}

func (p *presenceState) view(at time.Time) View {
	return View{
		Draining: p.Draining, Capacity: p.Capacity, InFlight: p.InFlight, Queued: p.Queued, Idle: p.Idle,
		TokensPerSecond: p.TokensPerSecond, LastSeen: at,
	}
}

// remote is a link that another replica holds.
type remote struct {
	replica string
	peer    string
	state   presenceState
	at      time.Time // when this replica last heard of it
}

// wakeDirectory says that something is to be announced.
func (h *Hub) wakeDirectory() {
	select {
	case h.dirty <- struct{}{}:
	default:
	}
}

// keepDirectory announces what this replica holds, and follows what others do.
func (h *Hub) keepDirectory(ctx context.Context) {
	changed, end, err := h.options.Directory.Watch(ctx)
	if err != nil {
		return // ctx has ended
	}
	defer end()
	tick := time.NewTicker(announceChange)
	defer tick.Stop()
	var announced, read time.Time // this replica itself; what others hold
	for {
		// An error leaves the entry of the replica, or what is known of others, as old as it is; the next tick tries again.
		now := time.Now()
		if now.Sub(announced) >= renewAfter && h.announceReplica(ctx) == nil {
			announced = now
		}
		h.announceNodes(ctx, now)
		if now.Sub(read) >= refreshAfter && h.refresh(ctx) == nil {
			read = now
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
			read = time.Time{}
			pause(ctx, directoryPause) // many changes at once are read once
		case <-h.dirty:
		case <-tick.C:
		}
	}
}

// pause waits.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// announceReplica makes this replica count.
func (h *Hub) announceReplica(ctx context.Context) error {
	if h.draining.Load() {
		return nil
	}
	return h.options.Directory.Announce(ctx, cluster.Presence{Replica: h.options.Replica, Peer: h.options.PeerURL}, lease)
}

// announceNodes writes what has changed, and renews what is about to lapse.
func (h *Hub) announceNodes(ctx context.Context, now time.Time) {
	h.nodes.Range(func(_, value any) bool {
		n := value.(*node)
		p, say := n.announcement(now)
		var err error
		switch say {
		case sayNothing:
			return true
		case sayGone:
			err = h.options.Directory.Withdraw(ctx, n.id, h.options.Replica)
		case sayHere:
			p.Node, p.Replica, p.Peer = n.id, h.options.Replica, h.options.PeerURL
			err = h.options.Directory.Announce(ctx, p, lease)
		}
		if err != nil {
			h.log.DebugContext(ctx, "the directory was not told", "node", n.id, "error", err)
			n.unannounced()
			return false // it does not answer: the others wait for the next turn
		}
		return true
	})
}

type saying int

const (
	sayNothing saying = iota
	sayHere
	sayGone
)

// announcement returns what to tell the directory, and takes it as told.
func (n *node) announcement(now time.Time) (cluster.Presence, saying) {
	n.mu.Lock()
	defer n.mu.Unlock()
	at := slices.IndexFunc(n.open(), func(l *link) bool { return !l.leaving.Load() })
	if at < 0 {
		if n.announced.IsZero() {
			return cluster.Presence{}, sayNothing
		}
		n.announced = time.Time{}
		return cluster.Presence{}, sayGone
	}
	l, v := n.open()[at], n.state.view
	state := presenceState{
		Boot: l.boot, Seen: l.seen, Opened: l.opened.UnixMicro(), Sequence: n.state.sequence, Capacity: v.Capacity, InFlight: v.InFlight,
		Queued: v.Queued, Idle: v.Idle, TokensPerSecond: v.TokensPerSecond, Draining: v.Draining,
	}
	age := now.Sub(n.announced)
	before := n.announce
	before.Sequence = state.Sequence
	switch {
	case age >= renewAfter:
	case age >= announceChange && before != state:
	case n.announcedRevision != n.revision:
	default:
		return cluster.Presence{}, sayNothing
	}
	n.announced, n.announce, n.announcedRevision = now, state, n.revision
	text, err := json.Marshal(state)
	if err != nil {
		return cluster.Presence{}, sayNothing
	}
	return cluster.Presence{Revision: n.revision, State: text}, sayHere
}

// unannounced takes an announcement back that did not arrive.
func (n *node) unannounced() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.announced, n.announcedRevision = time.Unix(0, 0), -1
}

// refresh reads what other replicas hold.
func (h *Hub) refresh(ctx context.Context) error {
	all, err := h.options.Directory.List(ctx)
	if err != nil {
		return err
	}
	now := time.Now()
	replicas := int64(1)
	held := map[string][]remote{}
	for _, p := range all {
		switch {
		case p.Replica == h.options.Replica:
		case p.Node == "":
			replicas++
		default:
			held[p.Node] = appendRemote(held[p.Node], p, now)
		}
	}
	if h.replicas.Swap(replicas) != replicas {
		for _, l := range h.openLinks() {
			l.tell(control{Op: opReplicas})
		}
	}
	for id := range held {
		h.node(id)
	}
	h.nodes.Range(func(_, value any) bool {
		n := value.(*node)
		h.heard(ctx, n, held[n.id])
		return true
	})
	return nil
}

func appendRemote(to []remote, p cluster.Presence, now time.Time) []remote {
	r := remote{replica: p.Replica, peer: p.Peer, at: now}
	if json.Unmarshal(p.State, &r.state) != nil {
		return to
	}
	return append(to, r)
}

// heard takes in what other replicas hold of a node. Of two processes with the same key the newer one wins, wherever
// it is linked.
func (h *Hub) heard(ctx context.Context, n *node, others []remote) {
	n.mu.Lock()
	if len(others) == 0 && len(*n.remote.Load()) == 0 {
		n.mu.Unlock()
		return
	}
	n.remote.Store(&others)
	n.show()
	var older []*link
	for _, l := range n.open() {
		for _, r := range others {
			switch {
			case r.state.Boot == l.boot:
			case r.state.Seen > l.seen:
				n.supersede(l.boot)
				older = append(older, l)
			case r.state.Seen < l.seen:
				n.supersede(r.state.Boot)
			}
		}
	}
	n.mu.Unlock()
	for _, l := range older {
		h.log.WarnContext(ctx, "a newer process of a node has linked to another replica; this link is closed", "node", n.id, "link", l.id)
		l.end(errSuperseded)
	}
}

// lookup asks the directory about one node, once a second at most: nobody is known to hold it.
func (h *Hub) lookup(ctx context.Context, id string) []remote {
	n := h.node(id)
	now := time.Now()
	n.mu.Lock()
	recent := now.Sub(n.lookedUp) < time.Second
	if !recent {
		n.lookedUp = now
	}
	n.mu.Unlock()
	if recent {
		return nil
	}
	all, err := h.options.Directory.Lookup(ctx, id)
	if err != nil {
		return nil
	}
	var others []remote
	for _, p := range all {
		if p.Replica != h.options.Replica {
			others = appendRemote(others, p, now)
		}
	}
	h.heard(ctx, n, others)
	return others
}

// holders returns the replicas that are said to hold a link, in no order.
func (n *node) holders() []remote {
	holders := slices.Clone(*n.remote.Load())
	rand.Shuffle(len(holders), func(i, j int) { holders[i], holders[j] = holders[j], holders[i] })
	return holders
}

// notHeld drops a hint that was wrong.
func (n *node) notHeld(r remote) {
	n.mu.Lock()
	defer n.mu.Unlock()
	left := slices.DeleteFunc(slices.Clone(*n.remote.Load()), func(o remote) bool { return o.replica == r.replica && o.at.Equal(r.at) })
	n.remote.Store(&left)
	n.show()
}

// withdrawAll takes this replica out of the directory.
func (h *Hub) withdrawAll(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	h.announceNodes(ctx, time.Now())
	_ = h.options.Directory.Withdraw(ctx, "", h.options.Replica) // or its lease ends
}

// news is what nodes said and nobody was told yet.
type news struct {
	mu      sync.Mutex
	adverts map[string]catalog.Advertised
	keys    map[string]string
	changed chan struct{}
}

func (n *news) advertised(node string, a catalog.Advertised) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.adverts == nil {
		n.adverts = map[string]catalog.Advertised{}
	}
	n.adverts[node] = a
	n.wake()
}

func (n *news) linked(node, key string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.keys == nil {
		n.keys = map[string]string{}
	}
	n.keys[node] = key
	n.wake()
}

func (n *news) wake() {
	select {
	case n.changed <- struct{}{}:
	default:
	}
}

func (n *news) take() (adverts map[string]catalog.Advertised, keys map[string]string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	adverts, keys = n.adverts, n.keys
	n.adverts, n.keys = nil, nil
	return adverts, keys
}

// again puts back what could not be told, unless there is something newer.
func (n *news) again(adverts map[string]catalog.Advertised, keys map[string]string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for node, a := range adverts {
		if _, newer := n.adverts[node]; !newer {
			if n.adverts == nil {
				n.adverts = map[string]catalog.Advertised{}
			}
			n.adverts[node] = a
		}
	}
	for node, key := range keys {
		if _, newer := n.keys[node]; !newer {
			if n.keys == nil {
				n.keys = map[string]string{}
			}
			n.keys[node] = key
		}
	}
}

// tellNews passes on what nodes say.
func (h *Hub) tellNews(ctx context.Context) {
	retry := time.NewTicker(renewAfter)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.news.changed:
			pause(ctx, debounce) // an agent that starts finds its engines one after the other
		case <-retry.C:
			h.Check(ctx) // a signal may have been lost
		}
		adverts, keys := h.news.take()
		for node, a := range adverts {
			if h.options.Advertised == nil || h.kept(ctx, node, h.options.Advertised(ctx, node, a)) {
				delete(adverts, node)
			}
		}
		for node, key := range keys {
			if h.options.Linked == nil || h.kept(ctx, node, h.options.Linked(ctx, node, key)) {
				delete(keys, node)
			}
		}
		h.news.again(adverts, keys)
	}
}

// kept says whether something was kept.
func (h *Hub) kept(ctx context.Context, node string, err error) bool {
	if err != nil {
		h.log.WarnContext(ctx, "what a node says could not be kept; it is tried again", "node", node, "error", err)
	}
	return err == nil
}
