package tunnel

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// dialBy makes a dial by hand and returns how it was answered.
func dialBy(t *testing.T, r *replica, authorization string) (status int, reason string, header http.Header) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.server.URL+PathTunnel, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"Authorization": authorization, "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
		"Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Protocol": Subprotocol,
	} {
		request.Header.Set(name, value)
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	return response.StatusCode, response.Header.Get(headerReason), response.Header
}

func TestDialsThatAreRefused(t *testing.T) {
	t.Parallel()
	in := install(t, 1)
	r := in.replicas[0]
	id := in.keys.enrol(t, "n1")
	other := in.keys.enrol(t, "n2")
	gone := in.keys.enrol(t, "n3")
	in.keys.revoke("n3")
	with := func(change func(*Identity)) Identity {
		changed := id
		change(&changed)
		return changed
	}
	now := time.Now()
	sign := func(id Identity, at time.Time) string { return id.authorization("b", at) }
	for name, test := range map[string]struct {
		authorization string
		status        int
		reason        string
		told          bool
	}{
		"nothing":          {"", 401, reasonMalformed, false},
		"an API key":       {"Bearer sk-1", 401, reasonMalformed, false},
		"another key":      {sign(with(func(i *Identity) { i.Private = other.Private }), now), 401, reasonSignature, true},
		"another audience": {sign(with(func(i *Identity) { i.Audience = "elsewhere" }), now), 401, reasonAudience, true},
		"another node":     {sign(with(func(i *Identity) { i.Node = "n2" }), now), 401, reasonUnknown, false},
		"a key not known":  {sign(with(func(i *Identity) { i.Key = "nkey_x" }), now), 401, reasonUnknown, false},
		"old":              {sign(id, now.Add(-clockSkew-2*time.Second)), 401, reasonClock, false},
		"from the future":  {sign(id, now.Add(clockSkew+2*time.Second)), 401, reasonClock, false},
		"revoked":          {sign(gone, now), 403, reasonRevoked, true},
	} {
		status, reason, header := dialBy(t, r, test.authorization)
		if status != test.status || reason != test.reason {
			t.Errorf("%s: %d %s", name, status, reason)
		}
		if reason == reasonClock {
			if _, err := http.ParseTime(header.Get("Date")); err != nil {
				t.Errorf("%s: the answer has no date: %v", name, err)
			}
		}
		select {
		case refusal := <-r.refusals:
			if !test.told || refusal.Reason != test.reason || !strings.HasPrefix(refusal.Node, "n") || refusal.Remote == "" {
				t.Errorf("%s: somebody was told %+v", name, refusal)
			}
		default:
			if test.told {
				t.Errorf("%s: nobody was told", name)
			}
		}
	}
}

// An assertion is good once, whichever replica sees it first.
func TestReplayedAssertion(t *testing.T) {
	t.Parallel()
	nonces := new(onceForAll)
	in := install(t, 2, func(o *HubOptions) { o.Nonces = nonces })
	assertion := func() string { id := in.keys.enrol(t, "n1"); return id.authorization("b", time.Now()) }()
	if status, _, _ := dialBy(t, in.replicas[0], assertion); status != http.StatusSwitchingProtocols {
		t.Fatalf("status %d", status)
	}
	for _, r := range in.replicas {
		if status, reason, _ := dialBy(t, r, assertion); status != 401 || reason != reasonReplayed {
			t.Errorf("the second time: %d %s", status, reason)
		}
		if refusal := receive(t, "somebody is told", r.refusals); refusal.Reason != reasonReplayed || refusal.Node != "n1" {
			t.Errorf("%+v", refusal)
		}
		dialBy(t, r, assertion)
		if len(r.refusals) > 0 {
			t.Error("the same was told twice within a minute")
		}
	}
	// While the replicas can not ask each other, links still come up.
	nonces.fail()
	id := in.keys.enrol(t, "n2")
	if status, _, _ := dialBy(t, in.replicas[0], id.authorization("b", time.Now())); status != http.StatusSwitchingProtocols {
		t.Errorf("status %d", status)
	}
}

func TestOtherVersions(t *testing.T) {
	t.Parallel()
	in := install(t, 1)
	id := in.keys.enrol(t, "n1")
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, in.replicas[0].server.URL+PathTunnel, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", id.authorization("b", time.Now()))
	request.Header.Set("Sec-WebSocket-Protocol", "shareai.h2.v0, other")
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(response.Body)
	_ = response.Body.Close()
	if response.StatusCode != http.StatusUpgradeRequired || !strings.Contains(string(text), Subprotocol) {
		t.Errorf("%d %s", response.StatusCode, text)
	}
}

// A clock that is wrong is set right by the gateway's.
func TestClockIsCorrected(t *testing.T) {
	t.Parallel()
	in := install(t, 1)
	in.run(t, in.keys.enrol(t, "n1"), http.HandlerFunc(echo), func(o *DialerOptions) {
		o.Board.Update(func(s *State) { s.Capacity = 1 })
	}).dialer.skew.Store(int64(time.Hour)) // the first dial may be made before or after this: both have to end well
	in.linked(t, "n1", 1)
	late, err := NewDialer(DialerOptions{
		Gateways: []string{in.front.URL}, Identity: in.keys.enrol(t, "n2"), Board: new(Board), Engine: http.HandlerFunc(echo),
	})
	if err != nil {
		t.Fatal(err)
	}
	late.skew.Store(int64(-time.Hour))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- late.Run(ctx) }()
	in.linked(t, "n2", 1)
	if skew := time.Duration(late.skew.Load()).Abs(); skew > 5*time.Second {
		t.Errorf("the clock is %v off", skew)
	}
	cancel()
	if err := receive(t, "the agent ends", ended); err != nil {
		t.Error(err)
	}
}

// A revoked node is cut off at once, in the middle of what it does, and does not come back.
func TestRevoke(t *testing.T) {
	t.Parallel()
	in := install(t, 1)
	hub := in.replicas[0].hub
	a := in.run(t, in.keys.enrol(t, "n1"), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	in.linked(t, "n1", 1)
	response, err := hub.Transport("n1").RoundTrip(post(t.Context(), t, "/v1/chat/completions", "{}"))
	if err != nil {
		t.Fatal(err)
	}
	hub.Check(t.Context()) // nothing has changed: nothing happens
	if v := hub.Look("n1"); !v.Linked {
		t.Fatal("not linked any more")
	}
	in.keys.revoke("n1")
	start := time.Now()
	hub.Check(t.Context())
	if _, err := io.ReadAll(response.Body); !errors.Is(err, ErrLost) {
		t.Errorf("what was running: %v", err)
	}
	_ = response.Body.Close()
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
	if err := receive(t, "the agent gives up", a.ended); !errors.Is(err, ErrRevoked) {
		t.Errorf("the agent: %v", err)
	}
	await(t, "the node is away", func() bool { return !hub.Look("n1").Linked })
	if refusal := receive(t, "somebody is told", in.replicas[0].refusals); refusal.Reason != reasonRevoked {
		t.Errorf("%+v", refusal)
	}
}

// A copied key: the newer agent wins, the older one is told to stop, and somebody hears of it, be they at one replica
// or at two.
func TestClonedKey(t *testing.T) {
	t.Parallel()
	for name, at := range map[string][2]int{"at one replica": {0, 0}, "at two": {0, 1}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := install(t, at[1]+1)
			id := in.keys.enrol(t, "n1")
			toward := func(n int) func(*DialerOptions) {
				return func(o *DialerOptions) { o.Gateways = []string{in.replicas[n].server.URL} }
			}
			older := in.run(t, id, http.HandlerFunc(echo), toward(at[0]))
			in.linked(t, "n1", 1)
			newer := in.run(t, id, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "newer") }), toward(at[1]))
			if err := receive(t, "the older one stops", older.ended); !errors.Is(err, ErrSuperseded) {
				t.Errorf("the older one: %v", err)
			}
			refusal := receive(t, "somebody is told", in.replicas[at[0]].refusals)
			if refusal.Reason != reasonSuperseded || refusal.Node != "n1" || refusal.Boot != older.dialer.options.Boot {
				t.Errorf("%+v", refusal)
			}
			for _, r := range in.replicas {
				if _, text := ask(t, r.hub, "n1", "{}"); text != "newer" {
					t.Errorf("%s: %s answers", r.hub.options.Replica, text)
				}
			}
			if len(newer.ended) > 0 {
				t.Errorf("the newer one ended: %v", <-newer.ended)
			}
		})
	}
}

// A node whose link is lost again and again rests.
func TestFlappingNode(t *testing.T) {
	t.Parallel()
	in := install(t, 1)
	a := in.run(t, in.keys.enrol(t, "n1"), http.HandlerFunc(echo))
	for range maxLosses + 1 {
		in.linked(t, "n1", 1)
		former := in.replicas[0].hub.openLinks()[0]
		for _, l := range a.dialer.open() {
			_ = l.carrier.Close()
		}
		await(t, "the link is gone", func() bool { return !slices.Contains(in.replicas[0].hub.openLinks(), former) })
	}
	if refusal := receive(t, "somebody is told", in.replicas[0].refusals); refusal.Reason != reasonFlapping {
		t.Errorf("%+v", refusal)
	}
}

func TestTooManyDials(t *testing.T) {
	t.Parallel()
	in := install(t, 1, func(o *HubOptions) { o.HandshakesPerSecond = 2 })
	id := in.keys.enrol(t, "n1")
	refused := 0
	for range 4 {
		status, reason, header := dialBy(t, in.replicas[0], id.authorization("b", time.Now()))
		if status == http.StatusServiceUnavailable {
			refused++
			if reason != reasonBusy || header.Get("Retry-After") == "" || header.Get("Retry-After") == "0" {
				t.Errorf("%s, Retry-After %q", reason, header.Get("Retry-After"))
			}
		}
	}
	if refused == 0 {
		t.Error("all were let in")
	}
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	var b backoff
	for n, milliseconds := range []int{250, 500, 1000, 2000, 4000, 8000, 16000, 30000, 30000} {
		most := time.Duration(milliseconds) * time.Millisecond
		for range 50 {
			again := b
			if wait := again.next(io.EOF); wait < 0 || wait > most {
				t.Fatalf("failure %d: %v", n, wait)
			}
		}
		b.next(io.EOF)
	}
	for range 50 {
		again := b
		if wait := again.next(&dialError{retryAfter: time.Minute}); wait < time.Minute || wait > 90*time.Second {
			t.Fatalf("with Retry-After: %v", wait)
		}
		if wait := again.next(&dialError{reason: reasonClock}); wait > minBackoff {
			t.Fatalf("after the clock was set: %v", wait)
		}
	}
}

// onceForAll is the Once of several replicas.
type onceForAll struct {
	first map[string]bool
	away  bool
}

func (o *onceForAll) First(_ context.Context, name string, _ time.Duration) (bool, error) {
	if o.away {
		return false, errors.New("away")
	}
	if o.first == nil {
		o.first = map[string]bool{}
	}
	before := o.first[name]
	o.first[name] = true
	return !before, nil
}

func (o *onceForAll) fail() { o.away = true }

func FuzzAssertion(f *testing.F) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	id := Identity{Node: "n", Key: "k", Audience: "a", Private: private}
	now := time.Now()
	good := id.authorization("b", now)
	f.Add(good)
	f.Add("Node .")
	f.Add("Node e30.AAAA")
	f.Add(strings.Replace(good, ".", ".=", 1))
	f.Add(good + "\n")
	body, _ := json.Marshal(Assertion{Version: 2})
	f.Add("Node " + base64.RawURLEncoding.EncodeToString(body) + "." + strings.Repeat("A", 86))
	f.Fuzz(func(t *testing.T, header string) {
		s, err := parseAssertion(header)
		if err != nil {
			return
		}
		if s.Node == "" || s.Key == "" || s.Nonce == "" || s.Boot == "" || len(s.Node) > maxName || s.Version != 1 {
			t.Errorf("accepted %+v", s.Assertion)
		}
		// One spelling of one assertion: whatever verifies was signed as it stands.
		if s.verify(public, "a", now) == nil && header != good {
			t.Errorf("%q verifies", header)
		}
	})
}
