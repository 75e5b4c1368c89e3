package mock

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"
)

func start(t *testing.T) *Server {
	t.Helper()
	b, err := ParseBehaviour(nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Listen("127.0.0.1:0", b)
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
	return s
}

func call(t *testing.T, method, address, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(got)
}

func TestWholeAnswersAreValidJSON(t *testing.T) {
	s := start(t)
	for _, c := range []struct {
		method, path, contains string
	}{
		{"POST", "/v1/chat/completions", `"finish_reason":"stop"`},
		{"POST", "/v1/chat/completions", `"total_tokens":160`},
		{"POST", "/v1/embeddings", `"embedding":[0.01234567,`},
		{"GET", "/v1/models", `"gpt-4o-mini"`},
	} {
		status, body := call(t, c.method, s.URL()+c.path, `{"messages":[],"model":"gpt-4o-mini"}`)
		if status != 200 || !json.Valid([]byte(body)) || !strings.Contains(body, c.contains) {
			t.Errorf("%s %s: %d %s", c.method, c.path, status, body)
		}
	}
	if _, body := call(t, "POST", s.URL()+"/v1/chat/completions", `{}`); len(body) < 900 || len(body) > 1400 {
		t.Errorf("the fixed answer has %d bytes, want about 1 kB", len(body))
	}
	if status, _ := call(t, "GET", s.URL()+"/elsewhere", ""); status != 404 {
		t.Errorf("an unknown address: %d", status)
	}
}

func TestStream(t *testing.T) {
	s := start(t)
	if status, body := call(t, "GET", s.URL()+"/_mock/set?chunks=3&stamp=true", ""); status != 200 {
		t.Fatal(body)
	}
	for _, c := range []struct {
		request string
		events  int
		usage   bool
	}{
		{`{"stream":true}`, 6, false},
		{`{"stream": true, "stream_options": {"include_usage": true}}`, 7, true},
	} {
		_, body := call(t, "POST", s.URL()+"/v1/chat/completions", c.request)
		var events []string
		for lines := bufio.NewScanner(strings.NewReader(body)); lines.Scan(); {
			if data, found := strings.CutPrefix(lines.Text(), "data: "); found {
				events = append(events, data)
			}
		}
		if len(events) != c.events || events[len(events)-1] != "[DONE]" {
			t.Fatalf("%d events, want %d:\n%s", len(events), c.events, body)
		}
		for _, e := range events[:len(events)-1] {
			if !json.Valid([]byte(e)) {
				t.Errorf("not JSON: %s", e)
			}
		}
		if strings.Contains(body, `"completion_tokens":3`) != c.usage {
			t.Errorf("usage in %s", body)
		}
		if got := len(regexp.MustCompile(`"@\d{19} "`).FindAllString(body, -1)); got != 3 {
			t.Errorf("%d time stamps in %s", got, body)
		}
	}
}

func TestLatencyAndGapsTakeTheirTime(t *testing.T) {
	s := start(t)
	if status, body := call(t, "GET", s.URL()+"/_mock/set?latency=20ms&gap=10ms&chunks=4", ""); status != 200 {
		t.Fatal(body)
	}
	begin := time.Now()
	call(t, "POST", s.URL()+"/v1/chat/completions", `{"stream":true}`)
	if took := time.Since(begin); took < 60*time.Millisecond {
		t.Errorf("20 ms and 4 gaps of 10 ms took %v", took)
	}
}

func TestBadSettingsAreRefusedAndChangeNothing(t *testing.T) {
	s := start(t)
	before := s.current.Load()
	for _, q := range []string{"chunks=0", "chunks=x", "gap=5", "latency=-1s", "speed=9"} {
		if status, _ := call(t, "GET", s.URL()+"/_mock/set?"+q, ""); status != 400 {
			t.Errorf("%s: status %d", q, status)
		}
	}
	if s.current.Load() != before {
		t.Error("a refused setting changed the behaviour")
	}
	if b, err := ParseBehaviour(url.Values{}); err != nil || b != (Behaviour{Chunks: 100}) {
		t.Errorf("fresh: %+v %v", b, err)
	}
}

func TestLoopbackOnly(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:0", ":0", "192.0.2.1:0", "localhost"} {
		if s, err := Listen(addr, Behaviour{Chunks: 1}); err == nil {
			_ = s.Close()
			t.Errorf("%s was accepted", addr)
		}
	}
}
