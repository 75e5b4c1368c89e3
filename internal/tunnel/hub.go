package tunnel

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"shareai/internal/catalog"
	"shareai/internal/cluster"
)

// Keys knows the public keys of nodes. It is asked with every dial and after every change of the configuration, and
// has to answer from memory: links come up while the database is away.
type Keys interface {
	// NodeKey returns a key of a node. The error is ErrUnknownNode or ErrRevokedNode.
	NodeKey(node, key string) (ed25519.PublicKey, error)
}

var (
	// ErrUnknownNode says that there is no such node, or that it has no such key. It may be known a moment later: a
	// replica learns of an enrolment with its next snapshot.
	ErrUnknownNode = errors.New("the node, or its key, is not known")
	// ErrRevokedNode says that the node, or its key, was shut out for good.
	ErrRevokedNode = errors.New("the node is revoked")
)

// Refusal is a dial that somebody should hear of: with a signature that does not match, a replayed assertion, a revoked
// key, or a key that another machine uses as well.
type Refusal struct {
	Reason string // signature, audience, replayed, revoked, superseded, flapping
	Node   string
	Key    string
	Boot   string // of the agent's process
	Remote string // address, of a proxy where there is one
}

// HubOptions are what a Hub needs.
type HubOptions struct {
	Keys      Keys              // required
	Audience  string            // of this installation, as the enrolment told it to the nodes; required
	Replica   string            // unique name of this replica; required
	Directory cluster.Directory // nil: this replica is the only one
	// Nonces tells replayed assertions among replicas. While it does not answer, and when it is nil, only those that
	// this replica has seen are known.
	Nonces cluster.Once
	// PeerURL is where other replicas reach this one's ServePeer: http://10.0.0.7:8080. Empty: they can not.
	PeerURL string
	// PeerSecret is known to all replicas of the installation and to nobody else. Empty: no hops between replicas.
	PeerSecret []byte
	// HandshakesPerSecond is how many signatures are checked, with a burst of one second. 0: 200 for each CPU.
	HandshakesPerSecond int
	// DrainTime bounds how long a link that takes no new requests may go on with running ones. 0: 10 min.
	DrainTime time.Duration
	Log       *slog.Logger // nil: nothing is logged

	// Advertised is told what a node serves, once it has a link and whenever that changes. After an error it is
	// told again some seconds later. It is called by one goroutine. nil: nobody wants to know.
	Advertised func(ctx context.Context, node string, a catalog.Advertised) error
	// Rekey accepts a further key of a node and returns its id. nil: keys can not be replaced.
	Rekey func(ctx context.Context, node string, key ed25519.PublicKey) (id string, err error)
	// Linked is told by which key a node has come in, so that those which that one replaced can be removed. It is called
	// by the goroutine that Advertised has. nil: nobody wants to know.
	Linked func(ctx context.Context, node, key string) error
	// Refused is told of refusals, of the same kind and node once a minute, before the answer. nil: nobody wants to know.
	Refused func(ctx context.Context, r Refusal)
}

// Hub is the gateway's end of all links: it takes them in, and sends requests over them. The methods are for many
// goroutines.
type Hub struct {
	options    HubOptions
	log        *slog.Logger
	peers      *http.Transport
	limiter    bucket
	nonces     cluster.MemoryOnce
	nodes      sync.Map       // id → *node
	closing    sync.Mutex     // orders begin and Drain
	background sync.WaitGroup // of dials and links
	told       reports
	news       news
	dirty      chan struct{} // the directory should hear something
	// replicas is how many there are, as the directory says.
	replicas atomic.Int64
	draining atomic.Bool
}

// NewHub returns a hub. Its Run has to be called as well.
func NewHub(options HubOptions) (*Hub, error) {
	if options.Keys == nil || options.Audience == "" || options.Replica == "" {
		return nil, errors.New("tunnel: Keys, Audience and Replica are required")
	}
	options.DrainTime = cmp.Or(options.DrainTime, 10*time.Minute)
	options.HandshakesPerSecond = cmp.Or(options.HandshakesPerSecond, 200*runtime.GOMAXPROCS(0))
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}
	if options.Directory == nil {
		options.Directory = new(cluster.MemoryDirectory)
	}
	h := &Hub{
		options: options, log: options.Log, peers: newPeerTransport(),
		limiter: newBucket(options.HandshakesPerSecond),
		news:    news{changed: make(chan struct{}, 1)},
		dirty:   make(chan struct{}, 1),
	}
	h.replicas.Store(1)
	return h, nil
}

// Run keeps the directory up to date and tells what nodes say, until ctx ends.
func (h *Hub) Run(ctx context.Context) {
	var both sync.WaitGroup
	both.Go(func() { h.keepDirectory(ctx) })
	both.Go(func() { h.tellNews(ctx) })
	both.Wait()
}

// View is how a node is doing, as far as this replica knows.
type View struct {
	Linked   bool // requests can be sent: over a link of this replica, or of another one
	Local    bool // over one of this replica
	Draining bool // the node takes no new requests
	Capacity int  // how many requests it takes at once; 0: none, for the moment
	// InFlight is how many run there: what the node said, and at least what this replica has sent.
	InFlight        int
	Queued          int
	Idle            string // why Capacity is what it is
	TokensPerSecond float64
	LastSeen        time.Time // when it last said something to any replica; zero: not since this one has started
}

// Look returns how a node is doing. It costs a look into a map and takes no lock.
func (h *Hub) Look(id string) View {
	n := h.known(id)
	if n == nil {
		return View{}
	}
	return n.look()
}

// NodeStatus is a node as this replica sees it.
type NodeStatus struct {
	Node string
	View
	Links []LinkStatus
}

// LinkStatus is a link.
type LinkStatus struct {
	ID      string // empty: held by another replica
	Replica string // that holds it
	Boot    string // of the agent's process
	Opened  time.Time
	Leaving bool // takes no new requests
	Running int  // requests
}

// Nodes returns all nodes that were seen since the start, by id.
func (h *Hub) Nodes() []NodeStatus {
	var all []NodeStatus
	h.nodes.Range(func(_, value any) bool {
		all = append(all, value.(*node).status(h.options.Replica))
		return true
	})
	slices.SortFunc(all, func(a, b NodeStatus) int { return strings.Compare(a.Node, b.Node) })
	return all
}

// known returns a node that was seen before, or nil.
func (h *Hub) known(id string) *node {
	value, ok := h.nodes.Load(id)
	if !ok {
		return nil
	}
	return value.(*node)
}

// node returns a node, as one that was never seen if need be.
func (h *Hub) node(id string) *node {
	if n := h.known(id); n != nil {
		return n
	}
	value, _ := h.nodes.LoadOrStore(id, newNode(id))
	return value.(*node)
}

// Check closes the links of nodes whose key is not known any more. It is to be called when the configuration has
// changed.
func (h *Hub) Check(ctx context.Context) {
	h.nodes.Range(func(_, value any) bool {
		n := value.(*node)
		for _, l := range n.open() {
			if _, err := h.options.Keys.NodeKey(l.node.id, l.key); err != nil {
				h.log.InfoContext(ctx, "a link is closed because its key is not valid any more", "node", n.id, "key", l.key, "link", l.id, "cause", err)
				l.end(err)
			}
		}
		return true
	})
}

// Drain lets no new links in and asks all agents to link to other replicas. It does not wait.
func (h *Hub) Drain(ctx context.Context) {
	h.closing.Lock()
	before := h.draining.Swap(true)
	h.closing.Unlock()
	if before {
		return
	}
	for _, l := range h.openLinks() {
		l.tell(control{Op: opDrain})
	}
}

// Close drains, waits until no request runs over a link any more, or ctx ends, and closes all links.
func (h *Hub) Close(ctx context.Context) error {
	h.Drain(ctx)
	var err error
	for _, l := range h.openLinks() {
		select {
		case <-l.quiet():
		case <-l.carrier.closed:
		case <-ctx.Done():
			err = fmt.Errorf("close links: %w", ctx.Err())
		}
		l.end(errClosing)
	}
	// Nobody is let in any more; these were, a moment ago.
	h.nodes.Range(func(_, value any) bool {
		for _, l := range value.(*node).all() {
			l.end(errClosing)
		}
		return true
	})
	h.background.Wait()
	h.withdrawAll(context.WithoutCancel(ctx))
	h.peers.CloseIdleConnections()
	return err
}

// begin counts something that Close waits for, unless that has been called.
func (h *Hub) begin() bool {
	h.closing.Lock()
	defer h.closing.Unlock()
	if h.draining.Load() {
		return false
	}
	h.background.Add(1)
	return true
}

// openLinks returns all links of this replica.
func (h *Hub) openLinks() []*link {
	var all []*link
	h.nodes.Range(func(_, value any) bool {
		all = append(all, value.(*node).open()...)
		return true
	})
	return all
}

// refuse answers a dial with the reason for which it is not let in.
func (h *Hub) refuse(w http.ResponseWriter, status int, reason, text string) {
	w.Header().Set(headerReason, reason)
	http.Error(w, text, status)
}

// report tells of a refusal, unless the same was told within the minute.
func (h *Hub) report(r *http.Request, reason string, s *signed) {
	refusal := Refusal{Reason: reason, Node: s.Node, Key: s.Key, Boot: s.Boot, Remote: r.RemoteAddr}
	if !h.told.first(refusal.Node+" "+reason, time.Now()) {
		return
	}
	h.log.WarnContext(r.Context(), "a node's dial was refused", "reason", reason, "node", s.Node, "key", s.Key, "boot", s.Boot, "remote", r.RemoteAddr)
	if h.options.Refused != nil {
		h.options.Refused(r.Context(), refusal)
	}
}

// newID returns an id that nobody guesses.
func newID() string { return rand.Text() }
