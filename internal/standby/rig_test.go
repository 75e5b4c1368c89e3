package standby

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"shareai/internal/account"
)

const (
	vendorKey  = "vendor-canary-1a2b3c4d5e"
	shareaiKey = "shareai-canary-6f7a8b9c0d"

	chatPath    = "/v1/chat/completions"
	chatBody    = `{"model": "gpt-x","messages":[{"role":"user","content":"hi"}]}`
	chatStream  = `{"model":"gpt-x","stream":true,"messages":[{"role":"user","content":"hi"}]}`
	vendorReply = `{ "id":"v-1", "object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"by the vendor"},"finish_reason":"stop"}],"x":1.0}` + "\n"
	ownReply    = `{"id":"g-1","object":"chat.completion","model":"ours","choices":[{"index":0,"message":{"role":"assistant","content":"by the gateway"},"finish_reason":"stop"}]}`

	roleEvent   = `data: {"id":"v","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}` + "\n\n"
	textEvent   = `data: {"id":"v","choices":[{"index":0,"delta":{"content":"by the vendor"},"finish_reason":null}]}` + "\n\n"
	finishEvent = `data: {"id":"v","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}` + "\n\n"
	errorEvent  = `data: {"error":{"message":"overloaded","type":"server_error","code":null}}` + "\n\n"
	doneEvent   = "data: [DONE]\n\n"
	wholeStream = ": hello\r\n\r\n" + roleEvent + textEvent + ": still here\n\n" + finishEvent + doneEvent
	ownStream   = `data: {"id":"g","choices":[{"index":0,"delta":{"content":"by the gateway"},"finish_reason":null}]}` + "\n\n" +
		`data: {"id":"g","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}` + "\n\n" + doneEvent
)

// far is a server on the far side of the stand-by. It writes down all that it gets.
type far struct {
	*httptest.Server
	handler atomic.Pointer[http.HandlerFunc]
	asked   atomic.Int64
	mu      sync.Mutex
	seen    bytes.Buffer
	bodies  []string
	paths   []string
}

func newFar(t *testing.T, h http.HandlerFunc) *far {
	t.Helper()
	f := &far{}
	f.set(h)
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.asked.Add(1)
		body, _ := io.ReadAll(r.Body)
		f.mu.Lock()
		fmt.Fprintf(&f.seen, "%s %s\n", r.Method, r.RequestURI)
		_ = r.Header.Write(&f.seen)
		f.seen.Write(body)
		f.bodies, f.paths = append(f.bodies, string(body)), append(f.paths, r.RequestURI)
		f.mu.Unlock()
		r.Body = io.NopCloser(bytes.NewReader(body))
		(*f.handler.Load())(w, r)
	}))
	t.Cleanup(func() {
		f.CloseClientConnections()
		f.Close()
	})
	return f
}

func (f *far) set(h http.HandlerFunc) { f.handler.Store(&h) }

func (f *far) saw() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seen.String()
}

// rig is a stand-by between a vendor and a gateway.
type rig struct {
	t       *testing.T
	vendor  *far
	gateway *far
	front   *httptest.Server
	standby *Standby
	log     *safeBuffer
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func newRig(t *testing.T, change ...func(*Options)) *rig {
	t.Helper()
	r := &rig{t: t, vendor: newFar(t, vendorWell), gateway: newFar(t, gatewayWell), log: &safeBuffer{}}
	o := Options{
		Primary: address(t, r.vendor.URL+"/v1"), Gateway: address(t, r.gateway.URL), Key: account.NewSecret(shareaiKey),
		Models: map[string]string{"gpt-mapped": "ours"}, Log: slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, f := range change {
		f(&o)
	}
	r.standby = New(o)
	r.front = httptest.NewServer(r.standby)
	t.Cleanup(func() {
		r.front.CloseClientConnections()
		r.front.Close()
		r.standby.Close()
	})
	return r
}

func address(t testing.TB, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// impatient has deadlines that a test can wait for.
func impatient(o *Options) {
	o.Timeouts = Timeouts{Headers: 100 * time.Millisecond, FirstToken: 100 * time.Millisecond, Idle: 100 * time.Millisecond, Answer: 100 * time.Millisecond}
}

func vendorWell(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	w.Header().Set("X-Vendor", "1")
	switch {
	case strings.HasPrefix(r.URL.Path, "/v1/models"):
		reply(w, http.StatusOK, "application/json", `{"object":"list","data":[{"id":"vendor-model"}]}`)
	case bytes.Contains(body, []byte(`"stream":true`)):
		events(w, wholeStream)
	default:
		reply(w, http.StatusOK, "application/json", vendorReply)
	}
}

func gatewayWell(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	w.Header().Set("X-Shareai-Provider", "beta")
	switch {
	case r.Header.Get("Authorization") != "Bearer "+shareaiKey:
		reply(w, http.StatusUnauthorized, "application/json", `{"error":{"message":"wrong key"}}`)
	case strings.HasPrefix(r.URL.Path, "/v1/models"):
		reply(w, http.StatusOK, "application/json", `{"object":"list","data":[{"id":"ours"}]}`)
	case bytes.Contains(body, []byte(`"stream":true`)):
		events(w, ownStream)
	default:
		reply(w, http.StatusOK, "application/json", ownReply)
	}
}

func reply(w http.ResponseWriter, status int, kind, body string) {
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

// status answers like a provider that can not.
func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		reply(w, code, "application/json", fmt.Sprintf(`{"error":{"message":"vendor says %d"}}`, code))
	}
}

// events sends the text as a stream, and ends it cleanly.
func events(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	_, _ = io.WriteString(w, text)
	_ = http.NewResponseController(w).Flush()
}

// cut sends the text as a stream, and breaks the connection.
func cut(w http.ResponseWriter, text string) {
	events(w, text)
	panic(http.ErrAbortHandler)
}

// hang sends the text as a stream, and then nothing until it is given up.
func hang(w http.ResponseWriter, r *http.Request, text string) {
	if text != "" {
		events(w, text)
	}
	<-r.Context().Done()
}

// got is what the client got.
type got struct {
	status int
	way    string
	header http.Header
	body   string
	err    error // of reading the body: it was cut
}

func (r *rig) ask(body string) got { return r.do(r.request(http.MethodPost, chatPath, body)) }

func (r *rig) request(method, path, body string) *http.Request {
	r.t.Helper()
	q, err := http.NewRequestWithContext(r.t.Context(), method, r.front.URL+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	q.Header.Set("Authorization", "Bearer "+vendorKey)
	q.Header.Set("Content-Type", "application/json")
	return q
}

func (r *rig) do(q *http.Request) got {
	r.t.Helper()
	response, err := http.DefaultTransport.RoundTrip(q)
	if err != nil {
		r.t.Error(err)
		return got{err: err}
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	return got{response.StatusCode, response.Header.Get(Header), response.Header, string(body), err}
}

func (g got) check(t *testing.T, status int, way, body string) {
	t.Helper()
	if g.err != nil || g.status != status || g.way != way || g.body != body {
		t.Errorf("%d by %q, %v:\n%s\nwant %d by %q:\n%s", g.status, g.way, g.err, g.body, status, way, body)
	}
}

// serveUntil runs Serve until stop is called, which returns what it returned.
func serveUntil(t *testing.T, serve func(ctx context.Context) error) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx) }()
	return func() error {
		cancel()
		return <-ended
	}
}
