package tunnel

import (
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"shareai/internal/cluster"
)

// One address, two replicas behind it: the agent links to both.
func TestTwoLinks(t *testing.T) {
	t.Parallel()
	in := install(t, 2)
	await(t, "the replicas know each other", func() bool { return in.replicas[0].hub.replicas.Load() == 2 && in.replicas[1].hub.replicas.Load() == 2 })
	a := in.run(t, in.keys.enrol(t, "n1"), http.HandlerFunc(echo))
	in.linked(t, "n1", 2)
	if links := a.dialer.Links(); len(links) != 2 || links[0].Replica == links[1].Replica {
		t.Errorf("links: %+v", links)
	}
}

// A third replica has no link, and reaches the node all the same. So does one that starts later, and an agent that has
// one link opens another when there is a second replica.
func TestMoreReplicas(t *testing.T) {
	t.Parallel()
	in := install(t, 1)
	a := in.run(t, in.keys.enrol(t, "n1"), http.HandlerFunc(echo))
	in.linked(t, "n1", 1)
	in.replicas = append(in.replicas, in.start(t, "later"))
	in.linked(t, "n1", 2)
	in.replicas = append(in.replicas, in.start(t, "third"))
	in.linked(t, "n1", 2)
	if links := a.dialer.Links(); len(links) != 2 {
		t.Errorf("links: %+v", links)
	}
	for _, r := range in.replicas {
		if status, text := ask(t, r.hub, "n1", "{}"); status != http.StatusOK || text != "{}" {
			t.Errorf("%s: %d %s", r.hub.options.Replica, status, text)
		}
	}
}

// Hints that are wrong cost a question each, and the node gets the request once.
func TestStaleHints(t *testing.T) {
	t.Parallel()
	in := install(t, 3)
	var served atomic.Int64
	in.run(t, in.keys.enrol(t, "n1"), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		served.Add(1)
		echo(w, r)
	}), func(o *DialerOptions) { o.Gateways = []string{in.replicas[0].server.URL} })
	in.linked(t, "n1", 1)
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = dead.Close()
	n := in.replicas[2].hub.known("n1")
	n.mu.Lock()
	wrong := append([]remote{
		{replica: "dead", peer: "http://" + dead.Addr().String()}, {replica: "r1", peer: in.replicas[1].server.URL}, {replica: "odd", peer: "::"},
	}, *n.remote.Load()...)
	n.remote.Store(&wrong)
	n.mu.Unlock()
	if status, text := ask(t, in.replicas[2].hub, "n1", "{}"); status != http.StatusOK || text != "{}" {
		t.Errorf("%d %s", status, text)
	}
	if served.Load() != 1 {
		t.Errorf("the node got it %d times", served.Load())
	}
	// No hint at all: the directory is asked.
	n.mu.Lock()
	n.remote.Store(&[]remote{})
	n.mu.Unlock()
	if status, _ := ask(t, in.replicas[2].hub, "n1", "{}"); status != http.StatusOK {
		t.Errorf("without hints: %d", status)
	}
}

// Many requests while links come and go: each one reaches the node once, or comes back as not dispatched or lost.
func TestNoSecondDispatch(t *testing.T) {
	t.Parallel()
	in := install(t, 2)
	var seen sync.Map
	var twice atomic.Int64
	a := in.run(t, in.keys.enrol(t, "n1"), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		if _, before := seen.LoadOrStore(string(body), true); before {
			twice.Add(1)
		}
		_, _ = w.Write(body)
	}))
	in.linked(t, "n1", 2)
	var all sync.WaitGroup
	stop := make(chan struct{})
	var answered atomic.Int64
	for worker := range 4 {
		all.Go(func() {
			node := in.replicas[worker%2].hub.Transport("n1")
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				body := strings.Repeat("x", worker+1) + " " + time.Now().String()
				response, err := node.RoundTrip(post(t.Context(), t, "/v1/chat/completions", body))
				if err != nil {
					if !errors.Is(err, ErrAway) && !errors.Is(err, ErrLost) {
						t.Errorf("%v", err)
					}
					pause(t.Context(), time.Millisecond)
					continue
				}
				_, err = io.ReadAll(response.Body)
				_ = response.Body.Close()
				if err == nil {
					answered.Add(1)
				}
			}
		})
	}
	for range 2 { // more would have the node rest
		before := answered.Load()
		await(t, "requests are answered", func() bool { return answered.Load() > before+50 })
		for _, l := range a.dialer.open() {
			_ = l.carrier.Close()
		}
	}
	before := answered.Load()
	await(t, "requests are answered", func() bool { return answered.Load() > before+50 })
	close(stop)
	all.Wait()
	if twice.Load() > 0 {
		t.Errorf("%d requests were dispatched twice", twice.Load())
	}
}

// Replicas prove themselves to each other.
func TestPeersAreChecked(t *testing.T) {
	t.Parallel()
	in := install(t, 1)
	hub := in.replicas[0].hub
	in.run(t, in.keys.enrol(t, "n1"), http.HandlerFunc(echo))
	in.linked(t, "n1", 1)
	path := PathPeer + "n1/v1/chat/completions"
	stranger := &Hub{options: HubOptions{PeerSecret: []byte("guess")}}
	ask := func(proof string) int {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, in.replicas[0].server.URL+path, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set(headerPeer, proof)
		response, err := http.DefaultTransport.RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		return response.StatusCode
	}
	now := time.Now()
	good := hub.peerProof(http.MethodPost, path, now)
	for name, proof := range map[string]string{
		"nothing": "", "rubbish": "a.b.c", "another secret": stranger.peerProof(http.MethodPost, path, now),
		"another method": hub.peerProof(http.MethodGet, path, now), "another node": hub.peerProof(http.MethodPost, PathPeer+"n2/v1/chat/completions", now),
		"old": hub.peerProof(http.MethodPost, path, now.Add(-2*clockSkew)), "cut": good[:len(good)-1],
	} {
		if status := ask(proof); status != http.StatusForbidden {
			t.Errorf("%s: %d", name, status)
		}
	}
	if status := ask(good); status != http.StatusOK {
		t.Errorf("a replica: %d", status)
	}
	if status := ask(good); status != http.StatusForbidden {
		t.Errorf("a replica's words, repeated: %d", status)
	}
}

// An agent that ends says so, finishes what it has begun, and only then goes.
func TestAgentDrains(t *testing.T) {
	t.Parallel()
	in := install(t, 2)
	next := make(chan struct{})
	a := in.run(t, in.keys.enrol(t, "n1"), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for range 2 {
			_, _ = io.WriteString(w, "chunk")
			_ = http.NewResponseController(w).Flush()
			<-next
		}
	}))
	in.linked(t, "n1", 2)
	var answers []*http.Response
	for _, r := range in.replicas {
		response, err := r.hub.Transport("n1").RoundTrip(post(t.Context(), t, "/v1/chat/completions", "{}"))
		if err != nil {
			t.Fatal(err)
		}
		answers = append(answers, response)
	}
	a.stop()
	for _, r := range in.replicas {
		await(t, "it is not sent anything more", func() bool { return !r.hub.Look("n1").Linked })
		if _, err := r.hub.Transport("n1").RoundTrip(post(t.Context(), t, "/v1/chat/completions", "{}")); !errors.Is(err, ErrAway) {
			t.Errorf("a request to an agent that is leaving: %v", err)
		}
	}
	for range 4 {
		next <- struct{}{}
	}
	for _, response := range answers {
		if text, err := io.ReadAll(response.Body); err != nil || string(text) != "chunkchunk" {
			t.Errorf("%q, %v", text, err)
		}
		_ = response.Body.Close()
	}
	if err := receive(t, "the agent ends", a.ended); err != nil {
		t.Error(err)
	}
}

// A replica that stops lets its streams finish, and the node is not away for a moment.
func TestReplicaDrains(t *testing.T) {
	t.Parallel()
	in := install(t, 3)
	next := make(chan struct{})
	in.run(t, in.keys.enrol(t, "n1"), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/streamed" {
			echo(w, r)
			return
		}
		_, _ = io.WriteString(w, "chunk")
		_ = http.NewResponseController(w).Flush()
		<-next
		_, _ = io.WriteString(w, "chunk")
	}))
	in.linked(t, "n1", 2)
	at := 0
	for n, r := range in.replicas {
		if r.hub.Look("n1").Local {
			at = n
		}
	}
	stopping, other := in.replicas[at].hub, in.replicas[(at+1)%3].hub
	response, err := stopping.Transport("n1").RoundTrip(post(t.Context(), t, "/v1/streamed", "{}"))
	if err != nil {
		t.Fatal(err)
	}
	closed := make(chan error, 1)
	go func() { closed <- stopping.Close(t.Context()) }()
	await(t, "the agent links elsewhere", func() bool {
		local := 0
		for n, r := range in.replicas {
			if n != at && r.hub.Look("n1").Local {
				local++
			}
		}
		return local == 2
	})
	if status, _ := ask(t, other, "n1", "{}"); status != http.StatusOK {
		t.Errorf("meanwhile: %d", status)
	}
	if len(closed) > 0 {
		t.Fatal("it did not wait for its stream")
	}
	next <- struct{}{}
	if text, err := io.ReadAll(response.Body); err != nil || string(text) != "chunkchunk" {
		t.Errorf("%q, %v", text, err)
	}
	_ = response.Body.Close()
	if err := receive(t, "the replica is closed", closed); err != nil {
		t.Error(err)
	}
	if status, reason, header := dialBy(t, in.replicas[at], ""); status != http.StatusServiceUnavailable || reason != reasonDraining || header.Get("Retry-After") == "" {
		t.Errorf("a dial after that: %d %s", status, reason)
	}
	await(t, "the directory has the others", func() bool {
		held, err := in.directory.Lookup(t.Context(), "n1")
		return err == nil && len(held) == 2 && held[0].Replica != stopping.options.Replica && held[1].Replica != stopping.options.Replica
	})
}

// Links make way for younger ones without anybody noticing.
func TestLinksAreRenewed(t *testing.T) {
	t.Parallel()
	in := install(t, 1)
	a := in.run(t, in.keys.enrol(t, "n1"), http.HandlerFunc(echo), func(o *DialerOptions) { o.MaxAge = 60 * time.Millisecond })
	in.linked(t, "n1", 1)
	hub := in.replicas[0].hub
	seen := map[string]bool{}
	await(t, "there were five links", func() bool {
		for _, l := range a.dialer.open() {
			seen[l.id] = true
		}
		if status, text := ask(t, hub, "n1", "{}"); status != http.StatusOK || text != "{}" {
			t.Errorf("%d %s", status, text)
		}
		return len(seen) >= 5
	})
	if len(in.replicas[0].refusals) > 0 {
		t.Errorf("somebody was told: %+v", <-in.replicas[0].refusals)
	}
}

// A replica that dies is not missed.
func TestReplicaDies(t *testing.T) {
	t.Parallel()
	in := install(t, 2)
	in.run(t, in.keys.enrol(t, "n1"), http.HandlerFunc(echo))
	in.linked(t, "n1", 2)
	await(t, "both are in the directory", func() bool {
		held, err := in.directory.Lookup(t.Context(), "n1")
		return err == nil && len(held) == 2
	})
	dead := in.replicas[0].hub.openLinks()
	for _, l := range dead {
		_ = l.carrier.Close()
	}
	if status, _ := ask(t, in.replicas[1].hub, "n1", "{}"); status != http.StatusOK {
		t.Errorf("by the other one: %d", status)
	}
	// Until it has noticed, a request may be lost on the way: whether it was dispatched nobody knows.
	await(t, "it has noticed", func() bool {
		return !slices.ContainsFunc(in.replicas[0].hub.openLinks(), func(l *link) bool { return slices.Contains(dead, l) })
	})
	if status, _ := ask(t, in.replicas[0].hub, "n1", "{}"); status != http.StatusOK {
		t.Errorf("by the one that lost its link: %d", status)
	}
}

// The key is replaced over the link, both hold until the new one was used, and no request fails.
func TestRotation(t *testing.T) {
	t.Parallel()
	used := make(chan string, 10)
	in := install(t, 2)
	for _, r := range in.replicas {
		r.hub.options.Rekey = func(_ context.Context, node string, key ed25519.PublicKey) (string, error) {
			in.keys.add(node, "nkey_new", key)
			return "nkey_new", nil
		}
		r.hub.options.Linked = func(_ context.Context, _, key string) error {
			used <- key
			return nil
		}
	}
	a := in.run(t, in.keys.enrol(t, "n1"), http.HandlerFunc(echo))
	in.linked(t, "n1", 2)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	fresh, err := a.dialer.Rotate(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if fresh.Key != "nkey_new" || fresh.Node != "n1" || fresh.Audience != "test" {
		t.Errorf("%+v", fresh)
	}
	a.dialer.Adopt(fresh)
	for receive(t, "the new key is used", used) != "nkey_new" {
	}
	await(t, "both links have the new key", func() bool {
		links := 0
		for _, r := range in.replicas {
			for _, l := range r.hub.openLinks() {
				if l.key == "nkey_new" && !l.leaving.Load() {
					links++
				}
			}
		}
		return links == 2
	})
	in.keys.remove("n1", "nkey_n1")
	for _, r := range in.replicas {
		r.hub.Check(t.Context())
		if status, _ := ask(t, r.hub, "n1", "{}"); status != http.StatusOK {
			t.Errorf("%s: %d", r.hub.options.Replica, status)
		}
	}
}

// A new key that a replica has not heard of yet does not lock the node out.
func TestNewKeyThatIsNotKnownYet(t *testing.T) {
	t.Parallel()
	in := install(t, 1)
	id := in.keys.enrol(t, "n1")
	a := in.run(t, id, http.HandlerFunc(echo))
	in.linked(t, "n1", 1)
	fresh := in.keys.enrol(t, "n2")
	fresh.Node, fresh.Key = "n1", "nkey_late"
	a.dialer.Adopt(fresh)
	for _, l := range a.dialer.open() {
		_ = l.carrier.Close() // now it has to dial
	}
	await(t, "it dials with the former key", func() bool {
		links := in.replicas[0].hub.openLinks()
		return len(links) == 1 && links[0].key == id.Key
	})
	in.keys.add("n1", "nkey_late", fresh.Private.Public().(ed25519.PublicKey))
	await(t, "it dials with the new one", func() bool {
		links := in.replicas[0].hub.openLinks()
		return len(links) == 1 && links[0].key == "nkey_late"
	})
}

// Keys are not given to those who can not show that they have them.
func TestRekeyNeedsProof(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{}, 1)
	in := install(t, 1, func(o *HubOptions) {
		o.Rekey = func(context.Context, string, ed25519.PublicKey) (string, error) {
			asked <- struct{}{}
			return "k", nil
		}
	})
	id := in.keys.enrol(t, "n1")
	a := in.run(t, id, http.HandlerFunc(echo))
	in.linked(t, "n1", 1)
	answers := make(chan control, 1)
	a.dialer.mu.Lock()
	a.dialer.answers["q"] = answers
	a.dialer.mu.Unlock()
	stolen := in.keys.enrol(t, "n2")
	a.dialer.asks <- &rekey{ID: "q", Public: stolen.Private.Public().(ed25519.PublicKey), Proof: make([]byte, 64)}
	if answer := receive(t, "the gateway answers", answers); answer.Error == "" || answer.Key != "" {
		t.Errorf("%+v", answer)
	}
	if len(asked) > 0 {
		t.Error("the key was accepted")
	}
}

var _ cluster.Once = (*onceForAll)(nil)
