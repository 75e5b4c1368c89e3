package gateway

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"shareai/internal/snapshot"
)

// atOnce sends everything in one write, as a network does that delivers late.
func atOnce(events string, then string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, events)
		w.(http.Flusher).Flush()
		if then == "WAIT" {
			<-r.Context().Done()
		}
	}
}

// What is buffered but is no chunk must neither stop the clock nor hold back what came before it.
func TestASilentStreamEndsWhateverItsLastEventWas(t *testing.T) {
	for name, last := range map[string]string{
		"not JSON":        "data: {\"broken\n\n",
		"an empty ping":   "event: ping\ndata:\n\n",
		"a named comment": "event: ping\ndata: {}\n\n",
	} {
		t.Run(name, func(t *testing.T) {
			e := newEngine(t, atOnce("data: "+helloChunk+"\n\n"+last, "WAIT"))
			s := newStand(t, func(s *snapshot.Spec) { s.Policies[0].Deadlines.Idle = 200 * time.Millisecond }, e)
			_, body := s.post(t, "/v1/chat/completions", hiStream)
			list := events(t, body)
			if f := parseFailure(t, list[len(list)-1]); f.Error.Code != "stream_interrupted" || text(t, list[:len(list)-1]) != "Hello" {
				t.Errorf("%s", body)
			}
			if r := s.book.last(t); r.Attempts[0].Outcome != "idle_timeout" {
				t.Errorf("attempts %+v", r.Attempts)
			}
		})
	}
}

// With n choices asked for, one that finished is no whole answer when the connection breaks.
func TestACutBetweenChoicesIsNotFinished(t *testing.T) {
	e := newEngine(t, streaming(helloChunk, finishChunk, "CUT"))
	s := newStand(t, nil, e)
	_, body := s.post(t, "/v1/chat/completions", strings.Replace(hiStream, `"stream"`, `"n":2,"stream"`, 1))
	if strings.Contains(body, "[DONE]") || !strings.Contains(body, "stream_interrupted") {
		t.Errorf("%s", body)
	}
	// An engine that ignores n says [DONE]: that is its whole answer.
	e.answer = streaming(helloChunk, finishChunk, "[DONE]")
	if _, body := s.post(t, "/v1/chat/completions", strings.Replace(hiStream, `"stream"`, `"n":2,"stream"`, 1)); !strings.Contains(body, "[DONE]") {
		t.Errorf("%s", body)
	}
}

func TestALargeFirstChunkIsContent(t *testing.T) {
	big := strings.Repeat("x", maxTestChunk)
	s := newStand(t, nil, newEngine(t, streaming(strings.Replace(helloChunk, "Hello", big, 1), finishChunk, "[DONE]")))
	if _, body := s.post(t, "/v1/chat/completions", hiStream); !strings.Contains(body, big) || !strings.Contains(body, "[DONE]") {
		t.Errorf("%.300s", body)
	}
}

const maxTestChunk = 3 << 20

// The first token is waited for from the start of the attempt, not from its headers.
func TestTheFirstTokenCountsFromTheStart(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"late headers":          func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"headers, then nothing": streaming(roleChunk, "WAIT"),
	} {
		t.Run(name, func(t *testing.T) {
			first, second := newEngine(t, answer), newEngine(t, streaming(helloChunk, finishChunk, "[DONE]"))
			s := newStand(t, func(s *snapshot.Spec) {
				s.Policies[0].Deadlines.Headers, s.Policies[0].Deadlines.FirstToken = time.Minute, 200*time.Millisecond
			}, first, second)
			s.post(t, "/v1/chat/completions", hiStream)
			if a := s.book.last(t).Attempts; a[0].Outcome != "first_token_timeout" || a[0].Duration > 5_000_000 || a[1].Outcome != "ok" {
				t.Errorf("attempts %+v", a)
			}
		})
	}
}

// Usage reaches the client once, wherever the engine put it.
func TestUsageIsSentOnce(t *testing.T) {
	const usage = `,"usage":{"prompt_tokens":10,"completion_tokens":2,"total_tokens":12}}`
	with := func(chunk string) string { return strings.TrimSuffix(chunk, "}") + usage }
	s := newStand(t, nil, newEngine(t, streaming(with(helloChunk), with(finishChunk), "[DONE]")))
	_, body := s.post(t, "/v1/chat/completions", hiStreamUsage)
	if n := strings.Count(body, `"prompt_tokens":10`); n != 1 {
		t.Errorf("usage %d times: %s", n, body)
	}
	if r := s.book.last(t); r.Tokens.Estimated || r.Tokens.Prompt != 10 {
		t.Errorf("tokens %+v", r.Tokens)
	}
}

func TestANamedErrorEventIsAnError(t *testing.T) {
	e := newEngine(t, atOnce("event: error\ndata: {\"message\":\"the engine is out of memory\",\"code\":500}\n\n", ""))
	s := newStand(t, nil, e)
	s.post(t, "/v1/chat/completions", hiStream)
	if a := s.book.last(t).Attempts[0]; a.Outcome != "server_error" || !strings.Contains(a.Message, "out of memory") {
		t.Errorf("attempt %+v", a)
	}
}

// Different failures are not summed up as one.
func TestMixedFailures(t *testing.T) {
	busy, broken := saying(429, `{}`), saying(500, `{}`)
	for i, order := range [][2]http.HandlerFunc{{busy, broken}, {broken, busy}} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			s := newStand(t, nil, newEngine(t, order[0]), newEngine(t, order[1]))
			if resp, body := s.post(t, "/v1/chat/completions", hi); resp.StatusCode != 502 {
				t.Errorf("%d %s", resp.StatusCode, body)
			}
		})
	}
}
