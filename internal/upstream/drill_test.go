package upstream

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"shareai/internal/catalog"
)

// countingProvider answers, whole or as a stream of four tokens, and counts how often it was asked.
func countingProvider(t *testing.T) (url string, asked *atomic.Int32) {
	asked = new(atomic.Int32)
	return serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		body, _ := io.ReadAll(r.Body)
		if !strings.Contains(string(body), `"stream":true`) {
			answerWith(http.StatusOK, "application/json", chatReply)(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		for _, delta := range []string{`"role":"assistant","content":""`, `"content":"one"`, `"content":" two"`, `"content":" three"`, `"content":" four"`} {
			_, _ = io.WriteString(w, `data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{`+delta+`},"finish_reason":null}]}`+"\n\n")
			w.(http.Flusher).Flush()
		}
		_, _ = io.WriteString(w, `data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`+"\n\ndata: [DONE]\n\n")
	}), asked
}

// outcomeOfAnswer is the outcome as attempt sees it: what cannot be read is a bad answer.
func outcomeOfAnswer(got saidBy) Outcome {
	var e *Error
	switch {
	case errors.As(got.err, &e):
		return e.Outcome
	case isMalformed(got.err):
		return BadAnswer
	case got.err == nil && got.finish == "":
		return NoFinish
	default:
		return OK
	}
}

// A drill looks like the real thing: through the same client, over real HTTP and with a simulated provider.
func TestDrillsFailAsProvidersDo(t *testing.T) {
	for _, c := range []struct {
		fault           catalog.DrillFault
		whole, streamed Outcome
		retryAfter      time.Duration
		text            string // of the stream, before it fails
		asked           int32  // times that the provider was asked, of both
	}{
		{fault: catalog.DrillBlackhole, whole: HeadersTimeout, streamed: HeadersTimeout},
		{fault: catalog.DrillServer, whole: ServerError, streamed: ServerError},
		{fault: catalog.DrillBusy, whole: Overloaded, streamed: Overloaded},
		{fault: catalog.DrillLimited, whole: RateLimited, streamed: RateLimited, retryAfter: time.Second},
		{fault: catalog.DrillSlow, whole: HeadersTimeout, streamed: HeadersTimeout},
		{fault: catalog.DrillCut, whole: Broken, streamed: Broken, text: "one two three", asked: 2},
		{fault: catalog.DrillBadChunk, whole: BadAnswer, streamed: BadAnswer},
	} {
		t.Run(string(c.fault), func(t *testing.T) {
			t.Parallel()
			client := newClient(t, Options{})
			url, asked := countingProvider(t)
			for request, want := range map[string]Outcome{chatRequest: c.whole, streamRequest: c.streamed} {
				call := newCall(t, url, request)
				call.Drill = &catalog.Drill{ID: "drill_1", Fault: c.fault}
				patience := 10 * time.Second
				if want == HeadersTimeout {
					patience = 20 * time.Millisecond
				}
				ctx, cancel := context.WithTimeoutCause(t.Context(), patience, HeadersTimeout)
				got := ask(ctx, t, client, call)
				cancel()
				if outcome := outcomeOfAnswer(got); outcome != want {
					t.Errorf("%s: %s, want %s: %v", request, outcome, want, got.err)
				}
				var e *Error
				if errors.As(got.err, &e) && e.RetryAfter != c.retryAfter {
					t.Errorf("Retry-After %s", e.RetryAfter)
				}
				if request == streamRequest && got.text != c.text || got.finish != "" {
					t.Errorf("before it broke it said %q, and finished with %q", got.text, got.finish)
				}
			}
			if asked.Load() != c.asked {
				t.Errorf("the provider was asked %d times, want %d", asked.Load(), c.asked)
			}
		})
	}
}

// However short the answer is, a cut never lets it look finished.
func TestACutHidesEveryEnd(t *testing.T) {
	for tokens := 1; tokens <= 5; tokens++ {
		for _, fault := range []catalog.Fault{catalog.NoFault, catalog.FaultNoFinish} {
			call := simulatedCall(t, catalog.Simulation{Tokens: tokens, Fault: fault}, streamRequest)
			call.Drill = &catalog.Drill{Fault: catalog.DrillCut}
			got := ask(t.Context(), t, newClient(t, Options{}), call)
			if outcomeOfAnswer(got) != Broken || got.finish != "" {
				t.Errorf("%d tokens, %q: %+v", tokens, fault, got)
			}
		}
	}
}

// A cut of what has failed by itself leaves the failure as it was.
func TestACutLeavesFailuresAlone(t *testing.T) {
	call := simulatedCall(t, catalog.Simulation{Fault: catalog.FaultLimited}, streamRequest)
	call.Drill = &catalog.Drill{Fault: catalog.DrillCut}
	if e := failure(t.Context(), t, newClient(t, Options{}), call); e.Outcome != RateLimited || e.Message != "The simulated provider is rate-limited." {
		t.Error(e, e.Message)
	}
}

// The head of a stream comes at once, its first token not at all: the attempt's own deadline ends it, the
// caller's leaving does, and when nobody has one, the connection breaks after a minute.
func TestASilentDrillEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(Options{})
		begin := func(ctx context.Context) *Answer {
			call := simulatedCall(t, catalog.Simulation{}, streamRequest)
			call.Drill = &catalog.Drill{Fault: catalog.DrillSlow}
			start := time.Now()
			answer, err := c.Do(ctx, call)
			if err != nil || answer.HeadersAt != start {
				t.Fatalf("%v, headers at %v", err, answer)
			}
			return answer
		}
		ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Second, FirstTokenTimeout)
		defer cancel()
		if _, err := begin(ctx).Stream.Next(); !errors.Is(err, FirstTokenTimeout) {
			t.Error(err)
		}
		start := time.Now()
		if _, err := begin(t.Context()).Stream.Next(); !errors.Is(err, Broken) || time.Since(start) != silenceTime {
			t.Errorf("%v after %s", err, time.Since(start))
		}
		body := newSilence(t.Context())
		time.AfterFunc(time.Second, func() { _ = body.Close() })
		start = time.Now()
		if _, err := body.Read(nil); err == nil || time.Since(start) != time.Second {
			t.Errorf("%v, %s after a read whose body was closed", err, time.Since(start))
		}
	})
}
