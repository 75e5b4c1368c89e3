package tunnel

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"shareai/internal/cluster"
)

// patience is how long a test waits for what must happen. What takes that long has failed.
const patience = time.Minute

// keyring is the Keys of tests.
type keyring struct {
	mu      sync.Mutex
	keys    map[string]ed25519.PublicKey
	revoked map[string]bool
}

func newKeyring() *keyring {
	return &keyring{keys: map[string]ed25519.PublicKey{}, revoked: map[string]bool{}}
}

// fixed makes an identity that is the same in every process.
func (k *keyring) fixed(node string) Identity {
	private := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	k.add(node, "nkey_"+node, private.Public().(ed25519.PublicKey))
	return Identity{Node: node, Key: "nkey_" + node, Audience: "test", Private: private}
}

func (k *keyring) NodeKey(node, key string) (ed25519.PublicKey, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.revoked[node] {
		return nil, ErrRevokedNode
	}
	public, ok := k.keys[node+" "+key]
	if !ok {
		return nil, ErrUnknownNode
	}
	return public, nil
}

func (k *keyring) add(node, key string, public ed25519.PublicKey) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys[node+" "+key] = public
}

func (k *keyring) remove(node, key string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.keys, node+" "+key)
}

func (k *keyring) revoke(node string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.revoked[node] = true
}

// enrol makes an identity that the keyring knows.
func (k *keyring) enrol(t testing.TB, node string) Identity {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	k.add(node, "nkey_"+node, public)
	return Identity{Node: node, Key: "nkey_" + node, Audience: "test", Private: private}
}

// installation is a number of replicas with a load balancer in front.
type installation struct {
	keys      *keyring
	directory cluster.Directory
	replicas  []*replica
	front     *httptest.Server
	turn      atomic.Int64
}

type replica struct {
	hub      *Hub
	server   *httptest.Server
	refusals chan Refusal
	stop     context.CancelFunc
	stopped  chan struct{}
}

// install starts replicas. change may set further options of each.
func install(t testing.TB, count int, change ...func(*HubOptions)) *installation {
	t.Helper()
	in := &installation{
		keys: newKeyring(), directory: new(cluster.MemoryDirectory),
	}
	for n := range count {
		in.replicas = append(in.replicas, in.start(t, "r"+string(rune('0'+n)), change...))
	}
	in.front = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := in.turn.Add(1) - 1
		in.replicas[int(n)%len(in.replicas)].server.Config.Handler.ServeHTTP(w, r)
	}))
	t.Cleanup(in.front.Close)
	return in
}

// start starts a replica.
func (in *installation) start(t testing.TB, name string, change ...func(*HubOptions)) *replica {
	t.Helper()
	r := &replica{refusals: make(chan Refusal, 100), stopped: make(chan struct{})}
	mux := http.NewServeMux()
	r.server = httptest.NewServer(mux)
	options := HubOptions{
		Keys: in.keys, Audience: "test", Replica: name, Directory: in.directory, PeerURL: r.server.URL, PeerSecret: []byte("secret"),
		Log: testLog(t, name),
		Refused: func(_ context.Context, refusal Refusal) {
			select {
			case r.refusals <- refusal:
			default:
			}
		},
	}
	for _, c := range change {
		c(&options)
	}
	hub, err := NewHub(options)
	if err != nil {
		t.Fatal(err)
	}
	r.hub = hub
	mux.Handle("GET "+PathTunnel, hub)
	mux.HandleFunc(PathPeer, hub.ServePeer)
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	r.stop = stop
	go func() {
		defer close(r.stopped)
		hub.Run(ctx)
	}()
	t.Cleanup(func() {
		ended, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
		cancel() // what still runs is not waited for
		_ = hub.Close(ended)
		stop()
		<-r.stopped
		r.server.CloseClientConnections()
		r.server.Close()
	})
	return r
}

// testLog is what -v shows when TUNNEL_LOG is set.
func testLog(t testing.TB, name string) *slog.Logger {
	t.Helper()
	if os.Getenv("TUNNEL_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("at", name)
}

// agent is a running dialer.
type agent struct {
	dialer *Dialer
	board  *Board
	stop   context.CancelFunc
	ended  chan error
}

// run starts an agent.
func (in *installation) run(t testing.TB, identity Identity, engine http.Handler, change ...func(*DialerOptions)) *agent {
	t.Helper()
	a := &agent{board: new(Board), ended: make(chan error, 1)}
	a.board.Update(func(s *State) { s.Capacity, s.Idle = 64, "serving" })
	options := DialerOptions{
		Gateways: []string{in.front.URL}, Identity: identity, Board: a.board, Engine: engine, Log: testLog(t, identity.Node),
	}
	for _, c := range change {
		c(&options)
	}
	dialer, err := NewDialer(options)
	if err != nil {
		t.Fatal(err)
	}
	a.dialer = dialer
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	a.stop = stop
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.ended <- dialer.Run(ctx)
	}()
	t.Cleanup(func() {
		stop()
		for _, l := range dialer.open() {
			_ = l.carrier.Close()
		}
		<-done
	})
	return a
}

// open returns the links, for tests that treat them badly.
func (d *Dialer) open() []*agentLink {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.links)
}

// await waits until a condition holds. It is for what can not be waited for otherwise, because it happens in the
// other end's own time.
func await(t testing.TB, what string, holds func() bool) {
	t.Helper()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-limit.C:
			t.Fatalf("it did not come to pass within %v: %s", patience, what)
		}
	}
}

// linked waits until all replicas know the node, and so many of them hold a link.
func (in *installation) linked(t testing.TB, node string, holders int) {
	t.Helper()
	await(t, node+" is linked", func() bool {
		local := 0
		for _, r := range in.replicas {
			v := r.hub.Look(node)
			if !v.Linked {
				return false
			}
			if v.Local {
				local++
			}
		}
		return local == holders
	})
}

func post(ctx context.Context, t testing.TB, path, body string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://node"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	return r
}

// ask sends a request and reads the whole answer.
func ask(t testing.TB, h *Hub, node, body string) (int, string) {
	t.Helper()
	response, err := h.Transport(node).RoundTrip(post(t.Context(), t, "/v1/chat/completions", body))
	if err != nil {
		t.Fatalf("ask %s: %v", node, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("read the answer of %s: %v", node, err)
	}
	return response.StatusCode, string(text)
}

// receive waits for a value.
func receive[T any](t testing.TB, what string, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience):
		t.Fatalf("it did not come to pass within %v: %s", patience, what)
		panic("unreachable")
	}
}

// echo answers with what it was asked.
func echo(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.Copy(w, r.Body)
}
