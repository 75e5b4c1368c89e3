package gateway

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"shareai/internal/attempt"
	"shareai/internal/usage"
)

// faulty is a Runner with a defect.
type faulty struct {
	run func() (attempt.Answer, error)
}

func (f faulty) Run(context.Context, *attempt.Work) (attempt.Answer, error) { return f.run() }

// A defect of ours is one request's trouble: it gets an error in OpenAI's shape and a record.
func TestAPanicIsOneRequestsTrouble(t *testing.T) {
	s := newStand(t, nil, newEngine(t, saying(200, reply)))
	g := s.gateway
	working := g.Runner
	g.Runner = faulty{func() (attempt.Answer, error) { panic("sk-secret-0123456789 went wrong") }}
	resp, body := s.post(t, "/v1/chat/completions", hi)
	if f := parseFailure(t, body); resp.StatusCode != 500 || f.Error.Code != "internal_error" || strings.Contains(body, "sk-secret") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	if r := s.book.last(t); r.Status != 500 || r.Code != "internal_error" {
		t.Errorf("record %+v", r)
	}
	g.Runner = working
	if resp, _ := s.post(t, "/v1/chat/completions", hi); resp.StatusCode != 200 {
		t.Errorf("the next request: %d", resp.StatusCode)
	}
}

// spoiled is an observer that panics, which happens after a stream has begun.
type spoiled struct{}

func (spoiled) Observe(*usage.Record) { panic("observer") }

// A panic in mid-answer cuts the connection: a clean end would pass half an answer off as a whole one.
func TestAPanicInMidStreamCutsIt(t *testing.T) {
	s := newStand(t, nil, newEngine(t, streaming(helloChunk, finishChunk, "[DONE]")))
	s.gateway.Observers = []Observer{spoiled{}}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+"/v1/chat/completions", strings.NewReader(hiStream))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+s.key)
	resp, err := s.Client().Do(r)
	if err != nil {
		return // cut before the head was flushed
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err == nil || strings.Contains(string(body), "[DONE]") {
		t.Errorf("the stream ended cleanly: %s", body)
	}
}
