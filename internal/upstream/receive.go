package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"shareai/internal/openai"
)

// MaxBody bounds a unary answer in bytes.
const MaxBody = 64 << 20

// maxErrorBody is how much of an error's body is read: texts are cut far shorter.
const maxErrorBody = 64 << 10

// receive makes an answer of a response, or says why it is none. When it does, the response's body is
// closed.
func receive(ctx context.Context, call *Call, resp *http.Response) (*Answer, *Error) {
	answer := &Answer{Status: resp.StatusCode, Header: resp.Header}
	kind := contentKind(resp.Header)
	switch {
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		return nil, refusal(ctx, resp)
	case kind == eventStream && call.Request.Stream:
		answer.Stream = NewStream(ctx, resp.Body)
		return answer, nil
	case kind != jsonText:
		_ = resp.Body.Close()
		return nil, unexpected(resp, kind, call.Request.Stream)
	}
	defer resp.Body.Close()
	body, err := readWhole(heard(resp.Body, call.OnBytes), resp.ContentLength, MaxBody)
	switch {
	case errors.Is(err, errTooLong):
		return nil, badAnswer(resp, "The provider's answer is longer than 64 MiB.")
	case err != nil:
		return nil, broken(ctx, err)
	case call.Request.Stream:
		return nil, notStreamed(resp, body)
	}
	answer.Body = body
	return answer, nil
}

// heard is a body of which every piece is told.
func heard(body io.Reader, tell func()) io.Reader {
	if tell == nil {
		return body
	}
	return &heardBody{body, tell}
}

type heardBody struct {
	io.Reader
	tell func()
}

func (h *heardBody) Read(p []byte) (int, error) {
	n, err := h.Reader.Read(p)
	if n > 0 {
		h.tell()
	}
	return n, err
}

// refusalTime is how long the body of a refusal may take. The status has said what matters.
const refusalTime = 2 * time.Second

// refusal reads an answer that is no 2xx.
func refusal(ctx context.Context, resp *http.Response) *Error {
	defer resp.Body.Close()
	if resp.StatusCode < 400 {
		return badAnswer(resp, fmt.Sprintf("The provider answered with status %d, a redirect. Redirects are not followed: correct the provider's base_url.", resp.StatusCode))
	}
	late := time.AfterFunc(refusalTime, func() { _ = resp.Body.Close() })
	body, err := readWhole(resp.Body, -1, maxErrorBody)
	late.Stop()
	if ctx.Err() != nil {
		return ended(ctx)
	}
	if err != nil && !errors.Is(err, errTooLong) {
		body = nil // half a text explains less than the status
	}
	if resp.Header.Get("Date") == "" { // a Retry-After may be a date, counted from this one
		resp.Header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	}
	return Classify(openai.ParseError(resp.StatusCode, resp.Header, body))
}

// notStreamed is a JSON answer to a request for a stream: an error under status 200, or an engine
// that does not know streams.
func notStreamed(resp *http.Response, body []byte) *Error {
	if reply, err := openai.ParseReply(body); err == nil && reply.Err != nil {
		return Classify(reply.Err)
	}
	return badAnswer(resp, "The provider answered with one JSON text although a stream was asked for.")
}

func unexpected(resp *http.Response, kind content, stream bool) *Error {
	wanted := "JSON"
	if stream {
		wanted = "an event stream"
	}
	return badAnswer(resp, fmt.Sprintf("The provider answered with %s where %s was expected.", kind, wanted))
}

func badAnswer(resp *http.Response, message string) *Error {
	return &Error{Outcome: BadAnswer, Status: resp.StatusCode, Message: message}
}

// broken is the error of a connection that failed; when the context has ended, that is why.
func broken(ctx context.Context, err error) *Error {
	if ctx.Err() != nil {
		return ended(ctx)
	}
	var known *Error
	var bad badHeadError
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &bad):
		return &Error{Outcome: BadAnswer, Message: "The provider's answer is not valid HTTP.", Cause: err}
	}
	return &Error{Outcome: Broken, Message: "The connection to the provider broke.", Cause: err}
}

// content is what a head says about its body, in words.
type content string

const (
	eventStream content = "an event stream"
	jsonText    content = "JSON"
	encoded     content = "a compressed body"
	noContent   content = "no content type"
	html        content = "HTML"
	otherText   content = "another content type"
)

func contentKind(h http.Header) content {
	if encoding := h.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return encoded
	}
	switch value := h.Get("Content-Type"); value { // the usual spellings need no parser
	case "application/json", "application/json; charset=utf-8":
		return jsonText
	case "text/event-stream", "text/event-stream; charset=utf-8":
		return eventStream
	case "":
		return noContent
	default:
		kind, _, _ := mime.ParseMediaType(value)
		switch {
		case kind == "application/json" || kind == "text/json" || strings.HasSuffix(kind, "+json"):
			return jsonText
		case kind == "text/event-stream":
			return eventStream
		case kind == "text/html":
			return html
		default:
			return otherText
		}
	}
}

var errTooLong = errors.New("body is too long")

// readWhole reads to the end of a body, at most limit bytes; a longer one gives what was read and
// errTooLong. length is what the head announced, -1 when it did not. It is not trusted with more than 1 MiB:
// memory is taken for bytes that came.
func readWhole(body io.Reader, length int64, limit int) ([]byte, error) {
	if length > int64(limit) {
		return nil, errTooLong
	}
	room := 4 << 10
	if length >= 0 {
		room = int(min(length, 1<<20)) + 1 // one more: the end is seen without growing
	}
	buf := make([]byte, 0, room)
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := body.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case len(buf) > limit:
			return buf[:limit], errTooLong
		case err == io.EOF:
			return buf, nil
		case err != nil:
			return buf, err
		}
	}
}

// Stream is the events of an answer as they come. One goroutine reads it.
type Stream struct {
	ctx    context.Context
	body   io.ReadCloser
	events *openai.SSEReader
	done   bool // [DONE] has come
	over   bool // the events have ended, well or badly
	closed bool
}

// NewStream reads the events of a body. The body is closed with the answer that owns the stream; ctx is what
// its errors are explained by.
func NewStream(ctx context.Context, body io.ReadCloser) *Stream {
	return &Stream{ctx: ctx, body: body, events: openai.NewSSEReader(body)}
}

// Next returns the next event; its data is valid until the next call. io.EOF is the clean end of
// the connection, which says nothing about whether the answer is finished. Any other error is an
// *Error: Broken, BadAnswer, or what ended the context.
func (s *Stream) Next() (openai.Event, error) {
	event, err := s.events.Next()
	if err == nil {
		s.done = s.done || openai.IsDone(event.Data)
		return event, nil
	}
	s.over = true
	switch {
	case errors.Is(err, io.EOF):
		return openai.Event{}, io.EOF
	case errors.Is(err, openai.ErrEventTooLong):
		return openai.Event{}, &Error{Outcome: BadAnswer, Message: "An event of the provider's stream is too long.", Cause: err}
	default:
		return openai.Event{}, broken(s.ctx, err)
	}
}

// Buffered is the number of bytes of whole events that Next can return without waiting for the network.
func (s *Stream) Buffered() int { return s.events.Buffered() }

// lastWait is how long the end of a stream may come after its [DONE].
const lastWait = 10 * time.Millisecond

func (s *Stream) close() {
	if s.closed {
		return
	}
	s.closed = true
	if s.done && !s.over && s.ctx.Err() == nil {
		// A body that is read to its end gives its connection back; a closed one loses it.
		timer := time.AfterFunc(lastWait, func() { _ = s.body.Close() })
		_, _ = io.CopyN(io.Discard, s.body, 4<<10)
		timer.Stop()
	}
	_ = s.body.Close()
	s.events.Release()
}
