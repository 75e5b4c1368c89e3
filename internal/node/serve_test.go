package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"shareai/internal/account"
	"shareai/internal/tunnel"
)

// kitchen is a server in front of an engine of the test's.
type kitchen struct {
	*server
	front  *httptest.Server
	engine *httptest.Server
	spent  atomic.Int64
	failed atomic.Int64
}

const (
	asked     = `{"model":"tiny","messages":[{"role":"user","content":"hello there"}]}`
	streaming = `{"model":"tiny","stream":true,"messages":[{"role":"user","content":"hello there"}]}`
)

// cook starts both. The engine serves the models tiny:latest (chat) and vectors (embeddings).
func cook(t *testing.T, h http.HandlerFunc) *kitchen {
	t.Helper()
	k := &kitchen{engine: httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // net/http tells of a client that has left only when there is nothing more to read
		r.Body = io.NopCloser(bytes.NewReader(body))
		h(w, r)
	}))}
	t.Cleanup(k.engine.Close)
	list := []*engine{{
		address: address{origin: k.engine.URL, key: account.NewSecret("engine-key")}, kind: Ollama, name: "ollama", slots: 4,
		models: []model{{id: "tiny:latest", chats: true}, {id: "vectors", embeds: true}},
	}}
	var engines atomic.Pointer[[]*engine]
	engines.Store(&list)
	transport := engineTransport()
	t.Cleanup(transport.CloseIdleConnections)
	k.server = &server{
		gate: newGate(func() {}), engines: &engines, transport: transport, log: slog.New(slog.DiscardHandler),
		spend: func(n int64) { k.spent.Add(n) }, failed: func() { k.failed.Add(1) },
	}
	k.gate.set(4)
	k.front = httptest.NewServer(k.server)
	t.Cleanup(k.front.Close)
	return k
}

// send sends a request and returns the answer with its body; err is that of reading the body.
func (k *kitchen) send(t *testing.T, path, body string) (response *http.Response, text string, err error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, k.front.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer user-key")
	r.Header.Set("Cookie", "session=user")
	r.Header.Set("X-Other", "user")
	response, err = http.DefaultClient.Do(r)
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = response.Body.Close() }()
	all, err := io.ReadAll(response.Body)
	return response, string(all), err
}

func TestServeAsksTheEngine(t *testing.T) {
	k := cook(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.URL.Path != "/v1/chat/completions" || string(body) != strings.Replace(asked, "tiny", "tiny:latest", 1) {
			t.Errorf("the engine got %s %s", r.URL.Path, body)
		}
		if r.Header.Get("Cookie")+r.Header.Get("X-Other") != "" || r.Header.Get("Authorization") != "Bearer engine-key" {
			t.Errorf("the engine got %v", r.Header)
		}
		for _, name := range []string{"Set-Cookie", "Location", "Server", "X-Any", tunnel.HeaderBusy, "Access-Control-Allow-Origin"} {
			w.Header().Set(name, "1")
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"choices":[{"index":0,"message":{"content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":7,"completion_tokens":5}}`)
	})
	response, text, err := k.send(t, "/v1/chat/completions", asked)
	if err != nil || response.StatusCode != 200 || !strings.Contains(text, `"hi"`) {
		t.Fatalf("%v %v %s", err, response, text)
	}
	for name := range response.Header {
		switch name {
		case "Content-Type", "Content-Length", "Date":
		default:
			t.Errorf("the header %s came through", name)
		}
	}
	if k.spent.Load() != 12 {
		t.Errorf("%d tokens were counted", k.spent.Load())
	}
}

func TestServeRefuses(t *testing.T) {
	k := cook(t, func(_ http.ResponseWriter, r *http.Request) { t.Errorf("the engine was asked: %s", r.URL) })
	long := `{"model":"tiny","x":"` + strings.Repeat("x", 64<<20) + `"}`
	for _, c := range []struct {
		name, path, body string
		status           int
		code             string
	}{
		{"another path", "/v1/models", asked, 404, "unknown_url"},
		{"the engine's own API", "/api/pull", asked, 404, "unknown_url"},
		{"a path with dots", "/v1/chat/completions/../../../api/pull", asked, 404, "unknown_url"},
		{"an encoded path", "/v1/chat%2Fcompletions", asked, 404, "unknown_url"},
		{"encoded dots", "/v1/%2e%2e/api/pull", asked, 404, "unknown_url"},
		{"two slashes", "//v1/chat/completions", asked, 404, "unknown_url"},
		{"a slash behind", "/v1/chat/completions/", asked, 404, "unknown_url"},
		{"an unknown model", "/v1/chat/completions", `{"model":"other","messages":[]}`, 404, "model_not_found"},
		{"embeddings of a chat model", "/v1/embeddings", `{"model":"tiny","input":"x"}`, 400, "unsupported_endpoint"},
		{"chat with an embedding model", "/v1/chat/completions", `{"model":"vectors","messages":[]}`, 400, "unsupported_endpoint"},
		{"no model", "/v1/chat/completions", `{"messages":[]}`, 400, ""},
		{"no JSON", "/v1/chat/completions", `hello`, 400, ""},
		{"two models", "/v1/chat/completions", `{"model":"tiny","model":"other"}`, 400, ""},
		{"too long", "/v1/chat/completions", long, 413, "request_too_large"},
	} {
		response, text, err := k.send(t, c.path, c.body)
		if err != nil && c.status == 413 {
			continue // the server may close the connection before everything was sent
		}
		if err != nil || response.StatusCode != c.status || !strings.Contains(text, c.code) || response.Header.Get(tunnel.HeaderBusy) != "" {
			t.Errorf("%s: %v %v %.200s", c.name, err, response, text)
		}
	}
	request := httptest.NewRequest(http.MethodGet, "/v1/chat/completions", http.NoBody)
	recorder := httptest.NewRecorder()
	k.ServeHTTP(recorder, request)
	if recorder.Code != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d", recorder.Code)
	}
	endless := httptest.NewRequest(http.MethodPost, "/v1/chat/completions", io.LimitReader(neverEnding('x'), 65<<20))
	endless.ContentLength = -1
	recorder = httptest.NewRecorder()
	k.ServeHTTP(recorder, endless)
	if recorder.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("a long body of unknown length: %d", recorder.Code)
	}
}

// However many requests a gateway begins, what the machine holds of them has a bound.
func TestBodiesAreBounded(t *testing.T) {
	k := cook(t, func(_ http.ResponseWriter, r *http.Request) { t.Errorf("the engine was asked: %s", r.URL) })
	arrived := make(chan *http.Response)
	slow, finish := io.Pipe()
	begin := func(length int64) *http.Response {
		r := httptest.NewRequest(http.MethodPost, "/v1/chat/completions", slow)
		r.ContentLength = length
		w := httptest.NewRecorder()
		k.ServeHTTP(w, r)
		return w.Result()
	}
	for range 8 {
		go func() { arrived <- begin(-1) }()
	}
	wait(t, "all begin", func() bool { return k.held.Load() == maxBodies })
	if w := begin(1); w.StatusCode != http.StatusTooManyRequests || w.Header.Get(tunnel.HeaderBusy) != "1" {
		t.Errorf("one more: %d", w.StatusCode)
	}
	_ = finish.Close()
	for range 8 {
		<-arrived
	}
	if held := k.held.Load(); held != 0 {
		t.Errorf("%d bytes are held for nobody", held)
	}
}

type neverEnding byte

func (b neverEnding) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(b)
	}
	return len(p), nil
}

func TestServeIsBusy(t *testing.T) {
	started, end := make(chan struct{}, 9), make(chan struct{})
	k := cook(t, func(w http.ResponseWriter, _ *http.Request) {
		started <- struct{}{}
		<-end
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"choices":[]}`)
	})
	k.gate.set(1)
	results := make(chan int, 2)
	for range 2 { // one runs, one waits
		go func() {
			response, _, err := k.send(t, "/v1/chat/completions", asked)
			if err != nil {
				results <- 0
				return
			}
			results <- response.StatusCode
		}()
	}
	<-started
	wait(t, "one waits", func() bool { return k.gate.load().queued == 1 })
	response, text, err := k.send(t, "/v1/chat/completions", asked)
	if err != nil || response.StatusCode != 429 || response.Header.Get(tunnel.HeaderBusy) != "1" || !strings.Contains(text, "node_busy") {
		t.Errorf("%v %v %s", err, response, text)
	}
	close(end)
	if a, b := <-results, <-results; a != 200 || b != 200 {
		t.Errorf("%d %d", a, b)
	}
	k.gate.set(0)
	if response, _, _ := k.send(t, "/v1/chat/completions", asked); response.Header.Get(tunnel.HeaderBusy) != "1" {
		t.Error("a node that does not serve does not say so")
	}
}

const chunk = `data: {"choices":[{"index":0,"delta":{"content":"one "},"finish_reason":%s}]}` + "\n\n"

// A stream that is cut, in whichever way, never ends cleanly; one that came to its end does.
func TestStreams(t *testing.T) {
	killed, err := os.ReadFile("testdata/ollama/runner-killed.sse")
	if err != nil {
		t.Fatal(err)
	}
	going, last := fmt.Sprintf(chunk, "null"), fmt.Sprintf(chunk, `"stop"`)
	usage := `data: {"choices":[],"usage":{"prompt_tokens":4,"completion_tokens":2}}` + "\n\n"
	cut := func(w http.ResponseWriter) {
		connection, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_ = connection.(*net.TCPConn).SetLinger(0)
			_ = connection.Close()
		}
	}
	for _, c := range []struct {
		name   string
		events string
		then   func(http.ResponseWriter)
		whole  bool
		tokens int64
	}{
		{"a whole one", going + last + usage + "data: [DONE]\n\n", nil, true, 6},
		{"without [DONE]", going + last, nil, true, 6},
		{"with an error of the engine's", going + `data: {"error":{"message":"out of memory"}}` + "\n\n", nil, true, 5},
		{"Ollama's runner dies", string(killed), nil, false, 0},
		{"cut before its end", going + going, cut, false, 0},
		{"cut in the middle of a line", going + `data: {"cho`, cut, false, 0},
		{"a clean end that is none", going + going, nil, false, 0},
		{"nothing at all", "", nil, false, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := cook(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/event-stream")
				_, _ = io.WriteString(w, c.events)
				_ = http.NewResponseController(w).Flush()
				if c.then != nil {
					c.then(w)
				}
			})
			response, text, err := k.send(t, "/v1/chat/completions", streaming)
			switch {
			case response == nil:
				t.Fatalf("no answer: %v", err)
			case c.whole && (err != nil || text != c.events):
				t.Errorf("%v after %q", err, text)
			case !c.whole && err == nil:
				t.Errorf("it ended cleanly: %q", text)
			case !c.whole && !strings.HasPrefix(c.events, text):
				t.Errorf("something was added: %q", text)
			}
			if c.whole && k.spent.Load() != c.tokens {
				t.Errorf("%d tokens were counted, want %d", k.spent.Load(), c.tokens)
			}
			if (k.failed.Load() == 0) != c.whole {
				t.Errorf("%d failures of the engine were noticed", k.failed.Load())
			}
			wait(t, "its place is free", func() bool { return k.gate.load().running == 0 })
		})
	}
}

func TestStreamsAreNotHeldBack(t *testing.T) {
	next := make(chan struct{})
	k := cook(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_ = http.NewResponseController(w).Flush()
		for range 3 {
			<-next
			_, _ = fmt.Fprintf(w, chunk, "null")
			_ = http.NewResponseController(w).Flush()
		}
		<-next
		_, _ = io.WriteString(w, "data: [DONE]\n\n")
	})
	response, err := http.Post(k.front.URL+"/v1/chat/completions", "application/json", strings.NewReader(streaming)) // comes with the engine's head
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	buffer := make([]byte, len(fmt.Sprintf(chunk, "null")))
	for range 3 {
		next <- struct{}{}
		if _, err := io.ReadFull(response.Body, buffer); err != nil {
			t.Fatal(err)
		}
	}
	close(next)
}

// Whoever leaves stops the engine at once.
func TestCancelReachesTheEngine(t *testing.T) {
	started, ended := make(chan struct{}), make(chan time.Time, 1)
	k := cook(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = fmt.Fprintf(w, chunk, "null")
		_ = http.NewResponseController(w).Flush()
		close(started)
		<-r.Context().Done()
		ended <- time.Now()
	})
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, k.front.URL+"/v1/chat/completions", strings.NewReader(streaming))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	<-started
	at := time.Now()
	cancel()
	t.Logf("the engine knew after %v", (<-ended).Sub(at))
	wait(t, "its place is free", func() bool { return k.gate.load().running == 0 })
	if k.failed.Load() != 0 {
		t.Error("somebody's leaving passed for a failure of the engine")
	}
}

// What the owner takes back is cut, and not ended.
func TestTheGraceIsOver(t *testing.T) {
	started := make(chan struct{}, 1)
	k := cook(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.Header.Get("Accept"), "event-stream") {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = fmt.Fprintf(w, chunk, "null")
			_ = http.NewResponseController(w).Flush()
		}
		started <- struct{}{}
		<-r.Context().Done()
	})
	response, err := http.Post(k.front.URL+"/v1/chat/completions", "application/json", strings.NewReader(streaming))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	<-started
	k.gate.set(0)
	k.gate.cut()
	if text, err := io.ReadAll(response.Body); err == nil {
		t.Errorf("the stream ended cleanly: %s", text)
	}
	k.gate.set(1)
	go func() {
		<-started
		k.gate.cut()
	}()
	response, text, err := k.send(t, "/v1/chat/completions", asked)
	if err != nil || response.StatusCode != 503 || !strings.Contains(text, "node_leaving") {
		t.Errorf("%v %v %s", err, response, text)
	}
}

func TestEnginesThatMisbehave(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { t.Errorf("a redirect was followed to %s", r.URL) }))
	defer other.Close()
	for _, c := range []struct {
		name   string
		engine http.HandlerFunc
		status int
		text   string
	}{
		{"a redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
		}, 502, "engine_failed"},
		{"a cut answer", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, `{"choices":[`)
		}, 502, "engine_failed"},
		{"compression that nobody asked for", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Encoding", "br") }, 502, "engine_failed"},
		{"its own refusal", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"error":{"message":"no messages"}}`)
		}, 400, "no messages"},
		{"its own overload", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(http.StatusServiceUnavailable)
		}, 503, ""},
	} {
		k := cook(t, c.engine)
		response, text, err := k.send(t, "/v1/chat/completions", asked)
		if err != nil || response.StatusCode != c.status || !strings.Contains(text, c.text) || strings.Contains(text, "127.0.0.1") {
			t.Errorf("%s: %v %v %s", c.name, err, response, text)
		}
	}
	k := cook(t, nil)
	k.engine.Close()
	response, text, err := k.send(t, "/v1/chat/completions", asked)
	if err != nil || response.StatusCode != 502 || strings.Contains(text, "127.0.0.1") || k.failed.Load() != 1 {
		t.Errorf("nobody there: %v %v %s", err, response, text)
	}
}

func TestTheDeadlineOfTheGateway(t *testing.T) {
	k := cook(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/chat/completions", strings.NewReader(asked))
	r.Header.Set(tunnel.HeaderDeadline, "20")
	recorder := httptest.NewRecorder()
	k.ServeHTTP(recorder, r)
	if recorder.Code != http.StatusGatewayTimeout {
		t.Errorf("%d %s", recorder.Code, recorder.Body)
	}
}

func TestEmbeddings(t *testing.T) {
	k := cook(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/embeddings" {
			t.Errorf("asked for %s", r.URL.Path)
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"object":"list","data":[{"index":0,"embedding":[1,2]}],"usage":{"prompt_tokens":3,"total_tokens":3}}`)
	})
	response, text, err := k.send(t, "/v1/embeddings", `{"model":"vectors","input":"x"}`)
	if err != nil || response.StatusCode != 200 || !strings.Contains(text, "[1,2]") || k.spent.Load() != 3 {
		t.Errorf("%v %v %s, %d tokens", err, response, text, k.spent.Load())
	}
}

var errAny = errors.New("any")

func TestErrorsOfTheAgentSayNothingOfTheMachine(t *testing.T) {
	w := httptest.NewRecorder()
	refuse(w, "req_1", errEngine.Because(fmt.Errorf("dial tcp 127.0.0.1:11434: %w", errAny)))
	if text := w.Body.String(); strings.Contains(text, "11434") || !strings.Contains(text, "req_1") {
		t.Error(text)
	}
}
