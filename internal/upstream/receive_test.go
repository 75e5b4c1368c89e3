package upstream

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"shareai/internal/openai"
)

func TestWholeAnswer(t *testing.T) {
	eachTransport(t, func(t *testing.T, c *Client) {
		for _, contentType := range []string{"application/json", "Application/JSON; charset=UTF-8", "application/problem+json", "text/json"} {
			before := time.Now()
			url := serve(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("X-Upstream", "yes")
				answerWith(201, contentType, chatReply)(w, r)
			})
			call := newCall(t, url, chatRequest)
			told := 0
			call.OnHeaders = func() { told++ }
			answer, err := c.Do(t.Context(), call)
			if err != nil {
				t.Errorf("%s: %v", contentType, err)
				continue
			}
			if answer.Status != 201 || answer.Header.Get("X-Upstream") != "yes" || string(answer.Body) != chatReply || answer.Stream != nil || told != 1 {
				t.Errorf("%+v", answer)
			}
			if answer.HeadersAt.Before(before) || answer.HeadersAt.After(time.Now()) {
				t.Errorf("headers at %s", answer.HeadersAt)
			}
			answer.Close()
			answer.Close()
		}
	})
}

func TestAnswersThatAreNone(t *testing.T) {
	eachTransport(t, func(t *testing.T, c *Client) {
		for name, test := range map[string]struct {
			request, contentType, body, words string
		}{
			"HTML":               {chatRequest, "text/html; charset=utf-8", "<html><title>Sign in</title></html>", "HTML"},
			"text":               {chatRequest, "text/plain", "{}", "another content type"},
			"stream for unary":   {chatRequest, "text/event-stream", "data: [DONE]\n\n", "an event stream where JSON"},
			"HTML for a stream":  {streamRequest, "text/html", "<html>", "HTML where an event stream"},
			"unary for a stream": {streamRequest, "application/json", chatReply, "although a stream"},
			"junk for a stream":  {streamRequest, "application/json", "}", "although a stream"},
		} {
			url := serve(t, answerWith(200, test.contentType, test.body))
			e := failure(t.Context(), t, c, newCall(t, url, test.request))
			if e.Outcome != BadAnswer || e.Status != 200 || !strings.Contains(e.Message, test.words) || e.HeadersAt.IsZero() || e.Header == nil {
				t.Errorf("%s: %+v", name, e)
			}
		}
		url := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Accept-Encoding") != "" {
				t.Error("a compressed answer was asked for")
			}
			w.Header().Set("Content-Encoding", "gzip")
			answerWith(200, "application/json", "\x1f\x8b")(w, r)
		})
		if e := failure(t.Context(), t, c, newCall(t, url, chatRequest)); e.Outcome != BadAnswer || !strings.Contains(e.Message, "compressed") {
			t.Error(e)
		}
		none := serveRaw(t, answerEach("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"))
		if e := failure(t.Context(), t, c, newCall(t, none.url, chatRequest)); e.Outcome != BadAnswer || !strings.Contains(e.Message, "no content type") {
			t.Error(e)
		}
	})
}

// TestErrorInsteadOfAStream: status 200, JSON, and in it an error.
func TestErrorInsteadOfAStream(t *testing.T) {
	url := serve(t, answerWith(200, "application/json", `{"error":{"message":"slow down","type":"requests","code":"rate_limit_exceeded","param":null}}`))
	if e := failure(t.Context(), t, newClient(t, Options{}), newCall(t, url, streamRequest)); e.Outcome != RateLimited || e.Message != "slow down" {
		t.Error(e)
	}
}

func TestErrorAnswers(t *testing.T) {
	eachTransport(t, func(t *testing.T, c *Client) {
		url := serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", "7")
			w.Header().Set("X-Request-Id", "theirs")
			answerWith(429, "application/json", `{"error":{"message":"Key sk-abcdefgh12345678 is rate-limited.","type":"requests","code":"rate_limit_exceeded","param":"n"}}`)(w, r)
		})
		call := newCall(t, url, chatRequest)
		told := 0
		call.OnHeaders = func() { told++ }
		e := failure(t.Context(), t, c, call)
		if e.Outcome != RateLimited || e.Status != 429 || e.RetryAfter != 7*time.Second || e.Type != "requests" || e.Code != "rate_limit_exceeded" ||
			e.Param != "n" || e.Header.Get("X-Request-Id") != "theirs" || e.HeadersAt.IsZero() || told != 1 {
			t.Errorf("%+v", e)
		}
		if strings.Contains(e.Error(), "abcdefgh") {
			t.Errorf("a key is in the error: %v", e)
		}
		long := serve(t, answerWith(500, "text/plain", strings.Repeat("x", 4*maxErrorBody)))
		if e := failure(t.Context(), t, c, newCall(t, long, chatRequest)); e.Outcome != ServerError || len(e.Message) > 4<<10 {
			t.Errorf("%s with %d bytes of text", e.Outcome, len(e.Message))
		}
		cut := serveRaw(t, answerOnce("HTTP/1.1 503 Busy\r\nContent-Length: 100\r\n\r\nhalf a te"))
		if e := failure(t.Context(), t, c, newCall(t, cut.url, chatRequest)); e.Outcome != Overloaded || strings.Contains(e.Message, "half") {
			t.Error(e)
		}
	})
}

func TestRetryAfter(t *testing.T) {
	now := time.Now().UTC()
	for name, test := range map[string]struct {
		set  func(http.Header)
		want time.Duration
	}{
		"seconds":        {func(h http.Header) { h.Set("Retry-After", "3") }, 3 * time.Second},
		"milliseconds":   {func(h http.Header) { h.Set("Retry-After-Ms", "250"); h.Set("Retry-After", "1") }, 250 * time.Millisecond},
		"date":           {func(h http.Header) { h.Set("Retry-After", now.Add(time.Hour).Format(http.TimeFormat)) }, time.Hour},
		"date, no clock": {func(h http.Header) { h["Date"] = nil; h.Set("Retry-After", now.Add(time.Hour).Format(http.TimeFormat)) }, time.Hour},
		"past":           {func(h http.Header) { h.Set("Retry-After", now.Add(-time.Hour).Format(http.TimeFormat)) }, 0},
		"nonsense":       {func(h http.Header) { h.Set("Retry-After", "soon") }, 0},
		"none":           {func(http.Header) {}, 0},
	} {
		url := serve(t, func(w http.ResponseWriter, r *http.Request) {
			test.set(w.Header())
			answerWith(503, "application/json", `{}`)(w, r)
		})
		e := failure(t.Context(), t, newClient(t, Options{}), newCall(t, url, chatRequest))
		if off := e.RetryAfter - test.want; off < -3*time.Second || off > 3*time.Second || (test.want < time.Minute && off != 0) {
			t.Errorf("%s: %s, want %s", name, e.RetryAfter, test.want)
		}
	}
}

func TestReadWholeIsBounded(t *testing.T) {
	for _, length := range []int64{-1, 0, 5, 10} {
		got, err := readWhole(strings.NewReader("0123456789"), length, 10)
		if err != nil || string(got) != "0123456789" {
			t.Errorf("length %d: %q, %v", length, got, err)
		}
	}
	if got, err := readWhole(strings.NewReader("0123456789x"), -1, 10); !errors.Is(err, errTooLong) || string(got) != "0123456789" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := readWhole(strings.NewReader("x"), 11, 10); !errors.Is(err, errTooLong) {
		t.Error(err)
	}
	got, err := readWhole(strings.NewReader("x"), 1<<40, 1<<50)
	if err != nil || cap(got) > 2<<20 {
		t.Errorf("%d bytes were taken for one: %v", cap(got), err)
	}
}

// TestStreamEvents also proves that events are given out as they come, not when the answer ends.
func TestStreamEvents(t *testing.T) {
	eachTransport(t, func(t *testing.T, c *Client) {
		next := make(chan struct{})
		url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
			for _, event := range []string{"data: {\"n\":1}\n\n", ": ping\n\ndata: {\"n\":2}\n\ndata: {\"n\":3}\n\n", "data: [DONE]\n\n"} {
				_, _ = io.WriteString(w, event)
				w.(http.Flusher).Flush()
				<-next
			}
		})
		answer, err := c.Do(t.Context(), newCall(t, url, streamRequest))
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Close()
		for _, want := range []string{`{"n":1}`, `{"n":2}`, `{"n":3}`, `[DONE]`} {
			event, err := answer.Stream.Next()
			if err != nil || string(event.Data) != want {
				t.Fatalf("%q, %v, want %s", event.Data, err, want)
			}
			if buffered := answer.Stream.Buffered() > 0; buffered != (want == `{"n":2}`) {
				t.Errorf("after %s: buffered %v", want, buffered)
			}
			if want != `{"n":2}` {
				next <- struct{}{}
			}
		}
		for range 2 {
			if _, err := answer.Stream.Next(); !errors.Is(err, io.EOF) {
				t.Errorf("the end: %v", err)
			}
		}
	})
}

func TestStreamIsCanceledWithItsContext(t *testing.T) {
	eachTransport(t, func(t *testing.T, c *Client) {
		gone := make(chan struct{})
		url := serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "data: {}\n\n")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
			close(gone)
		})
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		answer, err := c.Do(ctx, newCall(t, url, streamRequest))
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Close()
		if _, err := answer.Stream.Next(); err != nil {
			t.Fatal(err)
		}
		why := errors.New("the client left")
		cancel(why)
		var e *Error
		if _, err = answer.Stream.Next(); !errors.As(err, &e) || e.Outcome != Canceled || !errors.Is(err, why) {
			t.Errorf("%v", err)
		}
		<-gone
	})
}

func TestClosingAStreamStopsTheUpstream(t *testing.T) {
	eachTransport(t, func(t *testing.T, c *Client) {
		gone := make(chan struct{})
		url := serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "data: {}\n\n")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
			close(gone)
		})
		answer, err := c.Do(t.Context(), newCall(t, url, streamRequest))
		if err != nil {
			t.Fatal(err)
		}
		answer.Close()
		answer.Close()
		<-gone
	})
}

// TestConnectionsOfStreamsAreUsedAgain when the reader stops at [DONE], as one does.
func TestConnectionsOfStreamsAreUsedAgain(t *testing.T) {
	const streams = 20
	eachTransport(t, func(t *testing.T, c *Client) {
		server := serveRaw(t, func(conn net.Conn, r *bufio.Reader) {
			for readRequest(r) {
				half := strings.Index(wholeStream, "0\r\n\r\n")
				_, _ = io.WriteString(conn, wholeStream[:half])
				_, _ = io.WriteString(conn, wholeStream[half:])
			}
		})
		for range streams {
			answer, err := c.Do(t.Context(), newCall(t, server.url, streamRequest))
			if err != nil {
				t.Fatal(err)
			}
			for {
				event, err := answer.Stream.Next()
				if err != nil {
					t.Fatal(err)
				}
				if openai.IsDone(event.Data) {
					break
				}
			}
			answer.Close()
		}
		// Not exactly one: on a busy machine the end may come later than it is waited for.
		if n := server.accepted.Load(); n >= streams {
			t.Errorf("%d connections for as many streams", n)
		}
	})
}

// TestDoneButNotOver has an upstream that says [DONE] and keeps the connection open: closing does not wait
// for it.
func TestDoneButNotOver(t *testing.T) {
	eachTransport(t, func(t *testing.T, c *Client) {
		var gone atomic.Bool
		closed := make(chan struct{})
		server := serveRaw(t, func(conn net.Conn, r *bufio.Reader) {
			answerOnce(strings.TrimSuffix(wholeStream, "0\r\n\r\n"))(conn, r)
			_, _ = io.Copy(io.Discard, r)
			gone.Store(true)
			close(closed)
		})
		answer, err := c.Do(t.Context(), newCall(t, server.url, streamRequest))
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if _, err := answer.Stream.Next(); err != nil {
				t.Fatal(err)
			}
		}
		answer.Close()
		<-closed
	})
}

// TestStreamOverTLS has HTTP/2 carry a stream, and cancels it.
func TestStreamOverTLS(t *testing.T) {
	gone := make(chan struct{})
	url, roots := serveTLS(t, func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil || r.ProtoMajor != 2 {
			t.Errorf("%s: %v", r.Proto, err)
		}
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: {}\n\n")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		close(gone)
	})
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	answer, err := newClient(t, Options{RootCAs: roots}).Do(ctx, newCall(t, url, streamRequest))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Close()
	if event, err := answer.Stream.Next(); err != nil || string(event.Data) != "{}" {
		t.Fatalf("%s, %v", event.Data, err)
	}
	cancel(IdleTimeout)
	if _, err := answer.Stream.Next(); !errors.Is(err, IdleTimeout) {
		t.Error(err)
	}
	<-gone
}

func TestEventsThatAreTooLong(t *testing.T) {
	url := serve(t, answerWith(200, "text/event-stream", "data: "+strings.Repeat("x", openai.MaxEventBytes+1)+"\n\n"))
	answer, err := newClient(t, Options{}).Do(t.Context(), newCall(t, url, streamRequest))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Close()
	var e *Error
	if _, err := answer.Stream.Next(); !errors.As(err, &e) || e.Outcome != BadAnswer {
		t.Error(err)
	}
}
