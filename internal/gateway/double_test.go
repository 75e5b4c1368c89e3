package gateway

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"shareai/internal/account"
	"shareai/internal/attempt"
	"shareai/internal/catalog"
	"shareai/internal/health"
	"shareai/internal/snapshot"
	"shareai/internal/upstream"
	"shareai/internal/usage"
)

// engine is a provider over real HTTP that answers as the test says and keeps what it was sent.
type engine struct {
	*httptest.Server
	mu       sync.Mutex
	answer   http.HandlerFunc
	bodies   []string
	requests []*http.Request
	gone     chan struct{} // closed when a request's client left before its answer ended
}

func newEngine(t *testing.T, answer http.HandlerFunc) *engine {
	e := &engine{answer: answer, gone: make(chan struct{}, 16)}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		e.mu.Lock()
		e.bodies = append(e.bodies, string(body))
		e.requests = append(e.requests, r)
		answer := e.answer
		e.mu.Unlock()
		answer(w, r)
		if r.Context().Err() != nil {
			e.gone <- struct{}{}
		}
	}))
	t.Cleanup(e.Close)
	return e
}

func (e *engine) calls() int { e.mu.Lock(); defer e.mu.Unlock(); return len(e.bodies) }

// body is the first request's body.
func (e *engine) body() string { e.mu.Lock(); defer e.mu.Unlock(); return e.bodies[0] }

// header is the first request's header.
func (e *engine) header() http.Header { e.mu.Lock(); defer e.mu.Unlock(); return e.requests[0].Header }

// saying answers every request with a fixed JSON body.
func saying(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// streaming answers with events, each flushed by itself. "CUT" breaks the connection, "WAIT" blocks
// until the client leaves.
func streaming(events ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for _, e := range events {
			switch e {
			case "CUT":
				panic(http.ErrAbortHandler)
			case "WAIT":
				<-r.Context().Done()
				return
			}
			_, _ = io.WriteString(w, "data: "+e+"\n\n")
			w.(http.Flusher).Flush()
		}
	}
}

// Chunks of a stream as engines send them.
const (
	roleChunk   = `{"id":"chatcmpl-7","object":"chat.completion.chunk","created":1,"model":"l","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}`
	helloChunk  = `{"id":"chatcmpl-7","object":"chat.completion.chunk","created":1,"model":"l","choices":[{"index":0,"delta":{"role":"assistant","content":"Hello"},"finish_reason":null}]}`
	worldChunk  = `{"id":"chatcmpl-7","object":"chat.completion.chunk","created":1,"model":"l","choices":[{"index":0,"delta":{"role":"assistant","content":" world"},"finish_reason":null}]}`
	finishChunk = `{"id":"chatcmpl-7","object":"chat.completion.chunk","created":1,"model":"l","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":"stop"}]}`
	usageChunk  = `{"id":"chatcmpl-7","object":"chat.completion.chunk","created":1,"model":"l","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":2,"total_tokens":12,"prompt_tokens_details":{"cached_tokens":4}}}`

	reply = `{"id":"chatcmpl-7","object":"chat.completion","created":1,"model":"l","choices":[{"index":0,"message":{"role":"assistant","content":"Hello world"},"finish_reason":"stop"}],"usage":{"prompt_tokens":10,"completion_tokens":2,"total_tokens":12},"zeta":{"big":12345678901234567890123}}`
)

// book is a journal in memory.
type book struct {
	mu      sync.Mutex
	records []usage.Record
	full    error
	changed chan struct{}
}

func (b *book) Append(r *usage.Record) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.records = append(b.records, *r)
	b.changed <- struct{}{}
	return nil
}

func (b *book) Ready() error { b.mu.Lock(); defer b.mu.Unlock(); return b.full }

// last waits for the next record.
func (b *book) last(t *testing.T) usage.Record {
	t.Helper()
	select {
	case <-b.changed:
	case <-time.After(10 * time.Second):
		t.Fatal("no record came")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.records[len(b.records)-1]
}

// none fails when a record was kept.
func (b *book) none(t *testing.T) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.records) > 0 {
		t.Errorf("a record was kept: %+v", b.records[0])
	}
}

// fixed is a running configuration that does not change.
type fixed struct {
	view  *snapshot.Snapshot
	stale bool
}

func (f *fixed) Current() *snapshot.Snapshot { return f.view }
func (f *fixed) Stale() bool                 { return f.stale }

const testKey = "sk-test-0123456789abcdef"

// stand is a gateway between a test and one or more engines.
type stand struct {
	*httptest.Server
	gateway *Gateway
	book    *book
	config  *fixed
	key     string
}

// newStand puts a gateway in front of engines, which serve the model "llama" in order.
func newStand(t *testing.T, change func(*snapshot.Spec), engines ...*engine) *stand {
	t.Helper()
	spec := snapshot.Spec{
		Organizations: []account.Organization{{Name: "acme"}},
		Projects:      []account.Project{{Organization: "acme", Name: "app"}},
		Keys:          []account.APIKey{{ID: "key_1", Name: "ci", Organization: "acme", Project: "app", Hash: account.HashKey(testKey)}},
		Policies:      []catalog.Policy{{Name: "p"}},
		DefaultPolicy: "p",
		Models:        []catalog.Model{{Name: "llama"}},
	}
	for i, e := range engines {
		name := string(rune('a' + i))
		spec.Providers = append(spec.Providers, catalog.Provider{
			Name: name, Dialect: catalog.OpenAI, BaseURL: e.URL + "/v1", PrivateNetwork: true,
			Keys: []catalog.ProviderKey{{Name: "main", Secret: account.NewSecret("sk-provider-secret")}},
		})
		spec.Models[0].Deployments = append(spec.Models[0].Deployments, catalog.Deployment{
			Provider: name, Model: "l", Price: catalog.Price{Input: 1_000_000_000, Output: 2_000_000_000, CachedInput: 100_000_000},
		})
	}
	if change != nil {
		change(&spec)
	}
	view, err := snapshot.Compile(spec)
	if err != nil {
		t.Fatal(err)
	}
	s := &stand{book: &book{changed: make(chan struct{}, 4096)}, config: &fixed{view: view}, key: testKey}
	client := upstream.New(upstream.Options{})
	t.Cleanup(client.Close)
	board := health.NewBoard(health.Options{})
	s.gateway = New(Options{
		Snapshots: s.config, Live: board, Runner: attempt.NewEngine(client, board, func() float64 { return 0 }), Journal: s.book,
		Draw: func() float64 { return 0 }, Log: slog.New(slog.DiscardHandler),
	})
	s.Server = httptest.NewServer(s.gateway.Handler())
	t.Cleanup(s.Close)
	return s
}

const (
	hi            = `{"model":"llama","messages":[{"role":"user","content":"hi"}]}`
	hiStream      = `{"model":"llama","messages":[{"role":"user","content":"hi"}],"stream":true}`
	hiStreamUsage = `{"model":"llama","messages":[{"role":"user","content":"hi"}],"stream":true,"stream_options":{"include_usage":true}}`
)

// post sends a body to an endpoint and reads the whole answer.
func (s *stand) post(t *testing.T, path, body string, change ...func(*http.Request)) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+s.key)
	for _, c := range change {
		c(r)
	}
	return s.do(t, r)
}

func (s *stand) do(t *testing.T, r *http.Request) (*http.Response, string) {
	t.Helper()
	resp, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("answer of %d: %v after %q", resp.StatusCode, err, body)
	}
	return resp, string(body)
}

// failure is OpenAI's error envelope with our additions.
type failure struct {
	Error struct {
		Message, Type, Code, Param string
		RequestID                  string `json:"request_id"`
		Attempts                   []struct {
			Provider, Model, Outcome string
			Status                   int
			MS                       int64
		}
	}
}

func parseFailure(t *testing.T, body string) failure {
	t.Helper()
	var f failure
	if err := json.Unmarshal([]byte(body), &f); err != nil || f.Error.Message == "" || f.Error.Type == "" || f.Error.RequestID == "" {
		t.Fatalf("not an error envelope: %v in %s", err, body)
	}
	return f
}

// events splits a stream into the data of its events.
func events(t *testing.T, body string) []string {
	t.Helper()
	var list []string
	for _, block := range strings.Split(strings.TrimSuffix(body, "\n\n"), "\n\n") {
		data, ok := strings.CutPrefix(block, "data: ")
		if !ok || strings.Contains(data, "\n") {
			t.Fatalf("not an event: %q", block)
		}
		list = append(list, data)
	}
	return list
}

// text joins the content of all chunks.
func text(t *testing.T, list []string) string {
	t.Helper()
	all := ""
	for _, data := range list {
		var c struct {
			Choices []struct{ Delta struct{ Content string } }
		}
		if data == "[DONE]" {
			continue
		}
		if err := json.Unmarshal([]byte(data), &c); err != nil {
			t.Fatalf("%v in %s", err, data)
		}
		for _, choice := range c.Choices {
			all += choice.Delta.Content
		}
	}
	return all
}

// cancelled is a context that the test ends.
func cancelled(t *testing.T) (context.Context, context.CancelFunc) {
	return context.WithCancel(t.Context())
}
