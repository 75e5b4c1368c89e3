package gateway

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"shareai/internal/fault"
	"shareai/internal/openai"
)

const (
	// MaxBody is the largest request body that is accepted, in bytes.
	MaxBody = 32 << 20
	// maxBodiesInFlight bounds the memory of all request bodies together, in bytes.
	maxBodiesInFlight = 1 << 30
	// bodyTime is how long a client may take to send its body.
	bodyTime = 60 * time.Second
)

// readRequest reads the whole body, before any upstream is called: routing and a second attempt need
// it, and net/http may close a body that is still being read once an answer is flushed. release gives
// the memory back and is never nil.
func (g *Gateway) readRequest(out *clientWriter, r *http.Request) (request *openai.Request, release func(), err error) {
	release = func() {}
	if r.Method != http.MethodPost {
		return nil, release, wrongMethod(r, http.MethodPost)
	}
	if err := checkType(r.Header); err != nil {
		return nil, release, err
	}
	size := r.ContentLength
	if size > MaxBody {
		return nil, release, errTooLarge
	}
	reserved := size
	if size < 0 {
		reserved = MaxBody // a chunked body does not say how long it will be
	}
	if !g.bodies.take(reserved) {
		e := fault.New(fault.Unavailable, "overloaded", "The gateway is holding as many request bodies as it may. Try again shortly.")
		e.RetryAfter = retrySoon
		return nil, release, e
	}
	release = func() { g.bodies.give(reserved) }
	out.readBy(time.Now().Add(bodyTime))
	body, err := readBody(r.Body, size)
	out.readBy(time.Time{})
	if err != nil {
		return nil, release, err
	}
	request, err = openai.ParseRequest(body)
	if err != nil {
		// The body's size belongs into the record even when its content does not parse.
		return &openai.Request{Body: body}, release, err
	}
	return request, release, nil
}

// readBody reads a body of the given size, or of an unknown one when size is negative.
func readBody(from io.Reader, size int64) ([]byte, error) {
	var body []byte
	var err error
	if size >= 0 {
		body = make([]byte, size)
		_, err = io.ReadFull(from, body)
	} else if body, err = io.ReadAll(io.LimitReader(from, MaxBody+1)); len(body) > MaxBody {
		return nil, errTooLarge
	}
	switch {
	case err == nil:
		return body, nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		e := fault.New(fault.Timeout, "request_timeout", fmt.Sprintf("The request body did not arrive within %s. Send it again.", bodyTime))
		e.Status = http.StatusRequestTimeout
		return nil, e
	default:
		return nil, fault.New(fault.Invalid, "incomplete_body", "The request body ended before it was complete. Send it again, with the right Content-Length.").Because(err)
	}
}

func checkType(header http.Header) error {
	if encoding := header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return fault.New(fault.UnsupportedMedia, "unsupported_content_encoding", "The request body is compressed. Send it without Content-Encoding.")
	}
	value := header.Get("Content-Type")
	if value == "" || value == "application/json" { // nearly every request
		return nil
	}
	if kind, _, err := mime.ParseMediaType(value); err != nil || kind != "application/json" {
		return fault.New(fault.UnsupportedMedia, "unsupported_content_type", "The body must be JSON. Send it with the header `Content-Type: application/json`.")
	}
	return nil
}

// bodyBudget bounds the bytes that request bodies hold at once.
type bodyBudget struct {
	limit int64
	used  atomic.Int64
}

func (b *bodyBudget) take(n int64) bool {
	if b.used.Add(n) > b.limit {
		b.used.Add(-n)
		return false
	}
	return true
}

func (b *bodyBudget) give(n int64) { b.used.Add(-n) }
