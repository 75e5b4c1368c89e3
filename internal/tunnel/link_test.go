package tunnel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"shareai/internal/catalog"
)

func TestUnary(t *testing.T) {
	t.Parallel()
	in := install(t, 1)
	in.run(t, in.keys.enrol(t, "n1"), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, "%s %s ", r.Method, r.URL.Path)
		echo(w, r)
	}))
	in.linked(t, "n1", 1)
	if status, text := ask(t, in.replicas[0].hub, "n1", `{"a":1}`); status != http.StatusOK || text != `POST /v1/chat/completions {"a":1}` {
		t.Errorf("%d %s", status, text)
	}
}

// An embeddings request and its answer are megabytes each.
func TestLargeBodies(t *testing.T) {
	t.Parallel()
	in := install(t, 2)
	in.run(t, in.keys.enrol(t, "n1"), http.HandlerFunc(echo), func(o *DialerOptions) { o.Gateways = []string{in.replicas[0].server.URL} })
	in.linked(t, "n1", 1)
	body := strings.Repeat("0123456789abcdef", 8<<20/16)
	for _, r := range in.replicas { // its own link, and by way of the other replica
		if status, text := ask(t, r.hub, "n1", body); status != http.StatusOK || text != body {
			t.Errorf("%s: status %d, %d bytes of %d", r.hub.options.Replica, status, len(text), len(body))
		}
	}
}

// A chunk arrives before the next one is sent.
func TestStream(t *testing.T) {
	t.Parallel()
	in := install(t, 2)
	next := make(chan struct{})
	in.run(t, in.keys.enrol(t, "n1"), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for n := range 3 {
			_, _ = fmt.Fprintf(w, "data: %d\n\n", n)
			_ = http.NewResponseController(w).Flush()
			select {
			case <-next:
			case <-r.Context().Done():
			}
		}
	}), func(o *DialerOptions) { o.Gateways = []string{in.replicas[0].server.URL} })
	in.linked(t, "n1", 1)
	for _, r := range in.replicas {
		response, err := r.hub.Transport("n1").RoundTrip(post(t.Context(), t, "/v1/chat/completions", `{"stream":true}`))
		if err != nil {
			t.Fatal(err)
		}
		for n := range 3 {
			chunk := make([]byte, 9)
			if _, err := io.ReadFull(response.Body, chunk); err != nil || string(chunk) != fmt.Sprintf("data: %d\n\n", n) {
				t.Fatalf("chunk %d: %q, %v", n, chunk, err)
			}
			next <- struct{}{}
		}
		if rest, err := io.ReadAll(response.Body); err != nil || len(rest) > 0 {
			t.Errorf("after the last chunk: %q, %v", rest, err)
		}
		_ = response.Body.Close()
		if v := r.hub.Look("n1"); v.InFlight != 0 {
			t.Errorf("%d in flight", v.InFlight)
		}
	}
}

func TestHeadersThatPass(t *testing.T) {
	t.Parallel()
	in := install(t, 2)
	seen := make(chan http.Header, 2)
	in.run(t, in.keys.enrol(t, "n1"), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Header.Clone()
		for name, value := range map[string]string{
			"Content-Type": "application/json", "Retry-After": "3", HeaderStage: "started", "Set-Cookie": "a=b", "Location": "https://evil.example",
			"X-Shareai-Cost": "0", headerReason: "link", "Server": "engine",
		} {
			w.Header().Set(name, value)
		}
		w.WriteHeader(http.StatusTemporaryRedirect)
	}), func(o *DialerOptions) { o.Gateways = []string{in.replicas[0].server.URL} })
	in.linked(t, "n1", 1)
	for _, r := range in.replicas {
		request := post(t.Context(), t, "/v1/chat/completions", "{}")
		for name, value := range map[string]string{
			"Authorization": "Bearer sk-secret", "Cookie": "a=b", "X-Api-Key": "sk-secret", headerTrace: "00-1-2-01", HeaderRequestID: "req_1",
			HeaderDeadline: "1000", "X-Forwarded-For": "10.1.1.1", "Idempotency-Key": "k",
		} {
			request.Header.Set(name, value)
		}
		response, err := r.hub.Transport("n1").RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		got := <-seen
		for _, added := range []string{"Content-Length", "Accept-Encoding", "User-Agent"} { // by the HTTP client, about itself
			got.Del(added)
		}
		want := http.Header{"Content-Type": {"application/json"}, headerTrace: {"00-1-2-01"}, HeaderRequestID: {"req_1"}, HeaderDeadline: {"1000"}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: the node got (-want +got)\n%s", r.hub.options.Replica, diff)
		}
		want = http.Header{"Content-Type": {"application/json"}, "Retry-After": {"3"}, HeaderStage: {"started"}}
		if diff := cmp.Diff(want, response.Header); diff != "" || response.StatusCode != http.StatusTemporaryRedirect {
			t.Errorf("%s: status %d, the caller got (-want +got)\n%s", r.hub.options.Replica, response.StatusCode, diff)
		}
	}
}

func TestBusyAndAway(t *testing.T) {
	t.Parallel()
	in := install(t, 2)
	in.run(t, in.keys.enrol(t, "n1"), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(HeaderBusy, "1")
		http.Error(w, "busy", http.StatusTooManyRequests)
	}), func(o *DialerOptions) { o.Gateways = []string{in.replicas[0].server.URL} })
	in.linked(t, "n1", 1)
	for _, r := range in.replicas {
		if _, err := r.hub.Transport("n1").RoundTrip(post(t.Context(), t, "/v1/chat/completions", "{}")); !errors.Is(err, ErrBusy) {
			t.Errorf("a busy node: %v", err)
		}
		if _, err := r.hub.Transport("n2").RoundTrip(post(t.Context(), t, "/v1/chat/completions", "{}")); !errors.Is(err, ErrAway) {
			t.Errorf("a node that never linked: %v", err)
		}
		if v := r.hub.Look("n2"); v != (View{}) {
			t.Errorf("a node that never linked: %+v", v)
		}
	}
}

func TestCancelReachesTheEngine(t *testing.T) {
	t.Parallel()
	in := install(t, 2)
	began, ended := make(chan struct{}), make(chan struct{})
	in.run(t, in.keys.enrol(t, "n1"), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/streamed" {
			_ = http.NewResponseController(w).Flush()
		}
		began <- struct{}{}
		<-r.Context().Done()
		ended <- struct{}{}
	}), func(o *DialerOptions) { o.Gateways = []string{in.replicas[0].server.URL} })
	in.linked(t, "n1", 1)
	for _, r := range in.replicas {
		for _, path := range []string{"/v1/streamed", "/v1/unary"} {
			ctx, cancel := context.WithCancel(t.Context())
			failed := make(chan error, 1)
			go func() {
				response, err := r.hub.Transport("n1").RoundTrip(post(ctx, t, path, "{}"))
				if err == nil {
					_, err = io.ReadAll(response.Body)
					_ = response.Body.Close()
				}
				failed <- err
			}()
			receive(t, "the engine begins", began)
			cancel()
			receive(t, "the engine is told", ended)
			if err := receive(t, "the caller gets an error", failed); !errors.Is(err, context.Canceled) {
				t.Errorf("%s at %s: %v", path, r.hub.options.Replica, err)
			}
		}
		// A caller that closes the body has left too.
		response, err := r.hub.Transport("n1").RoundTrip(func() *http.Request {
			go func() { <-began }()
			return post(t.Context(), t, "/v1/streamed", "{}")
		}())
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		receive(t, "the engine is told", ended)
	}
}

// A cut answer never looks like a whole one: not when the engine fails, and not when the agent is gone.
func TestCutAnswerIsAnError(t *testing.T) {
	t.Parallel()
	for name, cut := range map[string]func(a *agent){
		"engine": nil,
		"connection": func(a *agent) {
			for _, l := range a.dialer.open() {
				_ = l.carrier.Close()
			}
		},
	} {
		for at := range 2 { // its own link, and by way of the other replica
			t.Run(fmt.Sprint(name, " ", at), func(t *testing.T) {
				t.Parallel()
				testCut(t, at, cut)
			})
		}
	}
}

func testCut(t *testing.T, at int, cut func(*agent)) {
	in := install(t, 2)
	fail := make(chan struct{}, 1)
	a := in.run(t, in.keys.enrol(t, "n1"), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "data: 1\n\n")
		_ = http.NewResponseController(w).Flush()
		select {
		case <-fail:
		case <-r.Context().Done():
		}
		panic(http.ErrAbortHandler)
	}), func(o *DialerOptions) { o.Gateways = []string{in.replicas[0].server.URL} })
	in.linked(t, "n1", 1)
	response, err := in.replicas[at].hub.Transport("n1").RoundTrip(post(t.Context(), t, "/v1/chat/completions", "{}"))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if _, err := io.ReadFull(response.Body, make([]byte, 9)); err != nil {
		t.Fatal(err)
	}
	if cut != nil {
		cut(a)
	} else {
		fail <- struct{}{}
	}
	if _, err := io.ReadAll(response.Body); !errors.Is(err, ErrLost) || errors.Is(err, io.EOF) {
		t.Errorf("a cut answer ended with %v", err)
	}
}

// What is not read holds up nobody else.
func TestStalledStreamsHoldUpNobody(t *testing.T) {
	t.Parallel()
	const stalled = 300
	size := 512 << 10 // more than a stream's window at the gateway
	if testing.Short() {
		size = 300 << 10
	}
	in := install(t, 1)
	release := make(chan struct{})
	var began atomic.Int64
	filled := make([]byte, size)
	in.run(t, in.keys.enrol(t, "n1"), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v1/stalled-upload": // its body is not read
			began.Add(1)
			select {
			case <-release:
			case <-r.Context().Done():
			}
		case "/v1/stalled-answer": // which nobody reads
			began.Add(1)
			_, _ = w.Write(filled)
		default:
			echo(w, r)
		}
	}))
	in.linked(t, "n1", 1)
	node := in.replicas[0].hub.Transport("n1")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var all sync.WaitGroup
	defer all.Wait()
	defer close(release)
	defer cancel()
	body := bytes.Repeat([]byte("u"), 2<<20) // more than a stream's window at the agent
	for n := range 2 * stalled {
		all.Go(func() {
			path, sent := "/v1/stalled-answer", []byte("{}")
			if n%2 == 0 {
				path, sent = "/v1/stalled-upload", body
			}
			r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://node"+path, bytes.NewReader(sent))
			if err != nil {
				t.Error(err)
				return
			}
			response, err := node.RoundTrip(r)
			if err == nil {
				<-ctx.Done()
				_ = response.Body.Close()
			}
		})
	}
	await(t, "all of them have begun", func() bool { return began.Load() == 2*stalled })
	neighbour := strings.Repeat("n", 200<<10)
	for range 20 {
		start := time.Now()
		if status, text := ask(t, in.replicas[0].hub, "n1", neighbour); status != http.StatusOK || text != neighbour {
			t.Fatalf("status %d, %d bytes", status, len(text))
		}
		// Stuck is for ever, or until a ping fails. A second is a machine with something else to do.
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("a neighbour took %v", took)
		}
	}
	if v := in.replicas[0].hub.Look("n1"); v.InFlight < 2*stalled {
		t.Errorf("%d in flight", v.InFlight)
	}
}

// A link takes so many streams; one more is not kept waiting.
func TestFullLink(t *testing.T) {
	t.Parallel()
	in := install(t, 1)
	in.run(t, in.keys.enrol(t, "n1"), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	in.linked(t, "n1", 1)
	node := in.replicas[0].hub.Transport("n1")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for n := 0; ; n++ {
		response, err := node.RoundTrip(post(ctx, t, "/v1/chat/completions", "{}"))
		if errors.Is(err, ErrAway) && n >= maxStreams-1 { // one is the stream of events
			break
		}
		if err != nil || n > maxStreams {
			t.Fatalf("request %d: %v", n, err)
		}
		defer response.Body.Close()
	}
}

// What a node says is seen at once, and what it advertises is passed on once.
func TestState(t *testing.T) {
	t.Parallel()
	adverts := make(chan catalog.Advertised, 10)
	in := install(t, 1, func(o *HubOptions) {
		fails := true
		o.Advertised = func(_ context.Context, _ string, a catalog.Advertised) error {
			if fails = !fails; !fails {
				return errors.New("the database is away")
			}
			adverts <- a
			return nil
		}
	})
	a := in.run(t, in.keys.enrol(t, "n1"), http.HandlerFunc(echo))
	in.linked(t, "n1", 1)
	n := in.replicas[0].hub.known("n1")
	n.mu.Lock()
	if n.told {
		t.Error("an agent that has not looked around yet takes back what it served")
	}
	n.mu.Unlock()
	first := catalog.Advertised{AgentVersion: "1", Models: []catalog.NodeModel{{ID: "tiny:latest", Name: "tiny"}}}
	a.board.Update(func(s *State) { s.Advertised = first })
	if diff := cmp.Diff(first, receive(t, "the models are passed on", adverts)); diff != "" {
		t.Errorf("advertised (-want +got)\n%s", diff)
	}
	for n := range 3 {
		a.board.Update(func(s *State) { s.Capacity, s.InFlight, s.Queued, s.Idle, s.Draining = n+1, n, n, "busy", n == 2 })
		await(t, "the state is seen", func() bool {
			v := in.replicas[0].hub.Look("n1")
			return v.Capacity == n+1 && v.InFlight == n && v.Queued == n && v.Idle == "busy" && v.Draining == (n == 2) && v.Linked && v.Local
		})
	}
	if len(adverts) > 0 {
		t.Errorf("the models were passed on again: %+v", <-adverts)
	}
	status := in.replicas[0].hub.Nodes()
	if len(status) != 1 || status[0].Node != "n1" || len(status[0].Links) != 1 || status[0].LastSeen.IsZero() {
		t.Errorf("status: %+v", status)
	}
}

// However long its events are, a node keeps the gateway busy for a small part of the time.
func TestRestAfterAnEvent(t *testing.T) {
	t.Parallel()
	for bytes, want := range map[int]time.Duration{100: eventPause, maxEvent / 2: time.Second / 2, maxEvent: time.Second} {
		if got := restAfter(bytes); got != want {
			t.Errorf("%d bytes: %s, want %s", bytes, got, want)
		}
	}
}

// A node that says too much, or nothing, is not a node.
func TestEventBounds(t *testing.T) {
	t.Parallel()
	many := make([]catalog.NodeModel, maxModels+1)
	for name, e := range map[string]event{
		"negative":      {Capacity: -1},
		"huge number":   {InFlight: maxNumber + 1},
		"long word":     {Idle: strings.Repeat("x", maxText+1)},
		"many models":   {Advertised: &catalog.Advertised{Models: many}},
		"long name":     {Advertised: &catalog.Advertised{Models: []catalog.NodeModel{{Name: strings.Repeat("x", maxText+1)}}}},
		"long engine":   {Advertised: &catalog.Advertised{Engines: []catalog.NodeEngine{{Kind: strings.Repeat("x", maxText+1)}}}},
		"long version":  {Advertised: &catalog.Advertised{AgentVersion: strings.Repeat("x", maxText+1)}},
		"below nothing": {Advertised: &catalog.Advertised{Models: []catalog.NodeModel{{Context: -1}}}},
	} {
		if e.check() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := (&event{Capacity: 8, Advertised: &catalog.Advertised{Models: many[:maxModels]}}).check(); err != nil {
		t.Error(err)
	}
}
