package upstream

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"shareai/internal/catalog"
	"shareai/internal/openai"
)

// drilled stands in the place of a call's carrier and fails as a drill says. What is above it does not
// know: the request has been built, deadlines count, the answer is read and classified like any other.
// Only a cut calls the provider, and pays for what it said.
type drilled struct {
	next   http.RoundTripper
	fault  catalog.DrillFault
	stream bool // the call asks for one
}

// RoundTrip implements http.RoundTripper.
func (d drilled) RoundTrip(req *http.Request) (*http.Response, error) {
	if d.fault == catalog.DrillCut {
		return d.cut(req)
	}
	if req.Body != nil {
		_ = req.Body.Close()
	}
	if err := req.Context().Err(); err != nil {
		return nil, context.Cause(req.Context())
	}
	switch d.fault {
	case catalog.DrillServer, catalog.DrillBusy, catalog.DrillLimited:
		return drillFailures[d.fault].response(req), nil
	case catalog.DrillBadChunk:
		return malformed(req, d.stream), nil
	case catalog.DrillSlow:
		return silent(req, d.stream)
	default:
		return nil, hang(req.Context())
	}
}

// drillFailures are the faults that are an answer.
var drillFailures = map[catalog.DrillFault]simulatedFailure{
	catalog.DrillServer:  {status: 500, kind: "server_error", message: "A drill makes this provider fail."},
	catalog.DrillBusy:    {status: 503, kind: "server_error", code: "overloaded", message: "A drill makes this provider overloaded."},
	catalog.DrillLimited: {status: 429, kind: "requests", code: "rate_limit_exceeded", message: "A drill makes this provider limit its rate.", retryAfter: "1"},
}

// hang waits until somebody has had enough.
func hang(ctx context.Context) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

// malformed is an answer that begins well and ends within its first JSON text.
func malformed(req *http.Request, stream bool) *http.Response {
	const half = `{"id":"chatcmpl-0","object":"chat.completion","choices":[{"index":0,"message":{"role":"assist`
	kind, text := "application/json", []byte(half)
	if stream {
		kind, text = "text/event-stream", openai.AppendEvent(nil, text)
	}
	return response(req, http.StatusOK, kind, io.NopCloser(bytes.NewReader(text)))
}

// silent is an answer whose first token does not come: a stream has its head, a unary answer has nothing.
func silent(req *http.Request, stream bool) (*http.Response, error) {
	if !stream {
		return nil, hang(req.Context())
	}
	return response(req, http.StatusOK, "text/event-stream", newSilence(req.Context())), nil
}

// silenceTime is how long a stream stays silent before its connection breaks: what stands between
// machines on the internet commonly gives up by then.
const silenceTime = 60 * time.Second

// silence is the body of a stream that has begun and says nothing.
type silence struct {
	ctx   context.Context
	close context.CancelFunc
}

func newSilence(ctx context.Context) *silence {
	s := new(silence)
	s.ctx, s.close = context.WithCancel(ctx)
	return s
}

// Read implements io.Reader.
func (s *silence) Read([]byte) (int, error) {
	if err := pause(s.ctx, silenceTime); err != nil {
		return 0, err
	}
	return 0, io.ErrUnexpectedEOF
}

// Close implements io.Closer. A Read that waits returns.
func (s *silence) Close() error {
	s.close()
	return nil
}

// cut is the provider's own answer, broken off half-way. One that is an error stays whole.
func (d drilled) cut(req *http.Request) (*http.Response, error) {
	resp, err := d.next.RoundTrip(req)
	if err != nil || resp.StatusCode != http.StatusOK {
		return resp, err
	}
	if d.stream && contentKind(resp.Header) == eventStream {
		resp.Body = &cutStream{body: resp.Body, events: openai.NewSSEReader(resp.Body)}
		return resp, nil
	}
	body, err := readWhole(resp.Body, resp.ContentLength, MaxBody)
	_ = resp.Body.Close()
	if err != nil && !errors.Is(err, errTooLong) {
		return nil, err
	}
	resp.ContentLength = -1
	resp.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body[:len(body)/2]), cutOff{}))
	return resp, nil
}

// cutAfter is the number of events with content that pass before a stream is cut.
const cutAfter = 3

// cutStream passes the first events of a stream on, and never its end.
type cutStream struct {
	body   io.ReadCloser
	close  sync.Once
	events *openai.SSEReader
	chunk  openai.Chunk
	passed int // events with content
	buf    []byte
}

// Read implements io.Reader.
func (s *cutStream) Read(p []byte) (int, error) {
	if len(s.buf) == 0 {
		if err := s.advance(); err != nil {
			_ = s.Close() // nobody waits for the rest: the provider need not go on
			return 0, err
		}
	}
	n := copy(p, s.buf)
	s.buf = s.buf[n:]
	return n, nil
}

// Close implements io.Closer.
func (s *cutStream) Close() (err error) {
	s.close.Do(func() { err = s.body.Close() })
	return err
}

// advance takes the next event over, or breaks off.
func (s *cutStream) advance() error {
	if s.passed == cutAfter {
		return io.ErrUnexpectedEOF
	}
	event, err := s.events.Next()
	switch {
	case errors.Is(err, io.EOF) || err == nil && openai.IsDone(event.Data):
		return io.ErrUnexpectedEOF
	case err != nil:
		return err
	}
	if openai.ParseChunk(event.Data, &s.chunk) == nil {
		for i := range s.chunk.Choices {
			if s.chunk.Choices[i].FinishReason != "" {
				return io.ErrUnexpectedEOF
			}
		}
		if s.chunk.Content {
			s.passed++
		}
	}
	s.buf = openai.AppendEvent(s.buf[:0], event.Data)
	return nil
}
