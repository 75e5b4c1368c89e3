package load

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"shareai/bench/internal/mock"
)

func upstream(t *testing.T, b mock.Behaviour) string {
	t.Helper()
	s, err := mock.Listen("127.0.0.1:0", b)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve() }()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return s.URL() + "/v1/chat/completions"
}

func handler(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func mustRun(t *testing.T, o Options) *Result {
	t.Helper()
	if o.Duration == 0 {
		o.Duration = 20 * time.Second
	}
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestBody(t *testing.T) {
	for _, mode := range []Mode{Unary, Stream} {
		for _, size := range []int{300, 10_000, 100_000} {
			b := ChatBody("gpt-4o-mini", size, mode)
			var got struct {
				Model  string `json:"model"`
				Stream bool   `json:"stream"`
			}
			if err := json.Unmarshal(b, &got); err != nil || got.Model != "gpt-4o-mini" || got.Stream != (mode == Stream) {
				t.Errorf("%s %d: %v %+v", mode, size, err, got)
			}
			if len(b) != size {
				t.Errorf("%s: %d bytes, want %d", mode, len(b), size)
			}
			if bytes.Index(b, []byte(`"model"`)) < bytes.Index(b, []byte(`"messages"`)) {
				t.Errorf("%s %d: the model stands before the messages", mode, size)
			}
		}
	}
	if b := ChatBody("m", 1, Unary); !json.Valid(b) {
		t.Errorf("the smallest body is %s", b)
	}
}

func TestUnary(t *testing.T) {
	address := upstream(t, mock.Behaviour{Chunks: 1})
	r := mustRun(t, Options{URL: address, Body: ChatBody("m", 10_000, Unary), Conns: 4, Count: 200})
	if r.Sent != 200 || r.Answered != 200 || r.OK != 200 || r.Failures() != 0 || r.Latency.N() != 200 {
		t.Errorf("sent %d answered %d ok %d timed %d, failed: %s", r.Sent, r.Answered, r.OK, r.Latency.N(), r.FailedText())
	}
	if r.Chunks != 0 || r.First.N() != 0 || r.Lag.N() != 0 {
		t.Error("unary answers have chunks")
	}
}

func TestStreams(t *testing.T) {
	address := upstream(t, mock.Behaviour{Chunks: 20, Stamp: true})
	r := mustRun(t, Options{URL: address, Body: ChatBody("m", 300, Stream), Conns: 4, Count: 50, Chunks: 20})
	if r.OK != 50 || r.Failures() != 0 {
		t.Fatalf("ok %d, failed: %s", r.OK, r.FailedText())
	}
	// 20 with content, and one each for the role, the finish reason and the usage.
	if r.Chunks != 50*23 || r.First.N() != 50 || r.Lag.N() != 50*20 {
		t.Errorf("chunks %d, first %d, lag %d", r.Chunks, r.First.N(), r.Lag.N())
	}
	if r.Lag.Max() > 10*time.Second {
		t.Errorf("a chunk took %v", r.Lag.Max())
	}
}

func TestSentRequestIsAsGiven(t *testing.T) {
	seen := make(chan *http.Request, 1)
	bodies := make(chan []byte, 1)
	address := handler(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		seen <- r
		bodies <- body
		fmt.Fprint(w, `{"usage":{}}`)
	})
	body := ChatBody("m", 300, Unary)
	r := mustRun(t, Options{URL: address + "/v1/x?y=z", Header: http.Header{"Authorization": {"Bearer sk"}}, Body: body, Conns: 1, Count: 1})
	if r.OK != 1 {
		t.Fatal(r.FailedText())
	}
	req := <-seen
	got := []string{req.Method, req.RequestURI, req.Header.Get("Authorization"), req.Header.Get("Content-Type"), string(<-bodies)}
	if diff := cmp.Diff([]string{"POST", "/v1/x?y=z", "Bearer sk", "application/json", string(body)}, got); diff != "" {
		t.Error(diff)
	}
}

func TestFailuresAreNamedAndCounted(t *testing.T) {
	const events = "text/event-stream"
	answer := func(contentType, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			fmt.Fprint(w, body)
		}
	}
	abort := func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "half")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	for _, c := range []struct {
		name     string
		handler  http.HandlerFunc
		chunks   int
		answered uint64
		want     string
	}{
		{"error status", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }, 0, 3, "status 502"},
		{"usage left out", answer("application/json", "{}"), 0, 3, "no usage"},
		{"unary for a stream", answer("application/json", `{"usage":{}}`), 1, 3, "not the kind of answer asked for"},
		{"stream for unary", answer(events, "data: {\"usage\":{}}\n\ndata: [DONE]\n\n"), 0, 3, "not the kind of answer asked for"},
		{"stream without its end", answer(events, "data: {\"usage\":{}}\n\n"), 1, 3, "no [DONE]"},
		{"stream too short", answer(events, "data: {\"usage\":{}}\n\ndata: [DONE]\n\n"), 2, 3, "chunks missing"},
		{"stream without usage", answer(events, "data: {\"usage\":null}\n\ndata: [DONE]\n\n"), 1, 3, "no usage"},
		{"body cut", abort, 0, 0, "body ended early"},
		{"head cut", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 0, 0, "head ended early"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := mustRun(t, Options{URL: handler(t, c.handler), Conns: 1, Count: 3, Chunks: c.chunks})
			if diff := cmp.Diff(map[string]uint64{c.want: 3}, r.Failed); diff != "" {
				t.Error(diff)
			}
			if r.OK != 0 || r.Sent != 3 || r.Answered != c.answered || r.Latency.N() != 0 {
				t.Errorf("ok %d, sent %d, answered %d, timed %d", r.OK, r.Sent, r.Answered, r.Latency.N())
			}
		})
	}
}

func TestTimeoutIsAFailure(t *testing.T) {
	release := make(chan struct{})
	address := handler(t, func(_ http.ResponseWriter, r *http.Request) { <-release })
	defer close(release)
	r := mustRun(t, Options{URL: address, Conns: 1, Count: 1, Timeout: 20 * time.Millisecond})
	if r.FailedText() != "1 × head timeout" {
		t.Error(r.FailedText())
	}
}

func TestOpenLoopShowsTheQueue(t *testing.T) {
	address := upstream(t, mock.Behaviour{Chunks: 1, Latency: 5 * time.Millisecond})
	// One connection serves at most 200 requests a second. At 1,000 the last of 40
	// is due after 39 ms and answered after 200 ms at the earliest.
	r := mustRun(t, Options{URL: address, Body: ChatBody("m", 300, Unary), Conns: 1, Rate: 1000, Count: 40})
	if r.OK != 40 || r.Latency.Max() < 160*time.Millisecond {
		t.Errorf("%d ok, longest latency %v", r.OK, r.Latency.Max())
	}
}

func TestDurationEndsTheRun(t *testing.T) {
	address := upstream(t, mock.Behaviour{Chunks: 1})
	for _, rate := range []float64{0, 200} {
		r := mustRun(t, Options{URL: address, Body: ChatBody("m", 300, Unary), Conns: 2, Rate: rate, Duration: 50 * time.Millisecond})
		if r.OK == 0 || r.OK != r.Sent || r.Wall > 10*time.Second {
			t.Errorf("rate %v: %d of %d in %v", rate, r.OK, r.Sent, r.Wall)
		}
		if rate > 0 && r.Sent != 10 {
			t.Errorf("%d requests at 200/s in 50 ms, want 10", r.Sent)
		}
	}
}

func TestCancelBreaksOffWhatIsUnderWay(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	address := handler(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	r, err := Run(ctx, Options{URL: address, Conns: 1, Duration: time.Minute, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if r.Sent != 1 || r.FailedText() != "1 × head broken off" {
		t.Errorf("sent %d: %s", r.Sent, r.FailedText())
	}
}

func TestRefusedOptions(t *testing.T) {
	good := Options{URL: "http://127.0.0.1:1", Conns: 1, Duration: time.Second, Timeout: time.Second}
	for name, change := range map[string]func(*Options){
		"another host":   func(o *Options) { o.URL = "http://192.0.2.1:80" },
		"a name":         func(o *Options) { o.URL = "http://example.com:80" },
		"TLS":            func(o *Options) { o.URL = "https://127.0.0.1:1" },
		"no port":        func(o *Options) { o.URL = "http://127.0.0.1" },
		"no address":     func(o *Options) { o.URL = url.PathEscape("%") },
		"no connections": func(o *Options) { o.Conns = 0 },
		"no end":         func(o *Options) { o.Duration = 0 },
		"no timeout":     func(o *Options) { o.Timeout = 0 },
	} {
		o := good
		change(&o)
		if _, err := Run(t.Context(), o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
