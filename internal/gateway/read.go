package gateway

import (
	"bytes"
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
	// firstRoom is what a body gets before a byte of it has come, in bytes: nearly every body fits.
	firstRoom = 64 << 10
	// BodyTime is how long a client may take to send its body. Whoever serves the Handler sets it as the
	// server's ReadTimeout; the gateway lifts it when the body is there.
	BodyTime = 60 * time.Second
)

// readRequest reads the whole body, before any upstream is called: routing and a second attempt need
// it, and net/http may close a body that is still being read once an answer is flushed. What it keeps
// in memory is taken from held, which the caller gives back.
func (g *Gateway) readRequest(out *clientWriter, r *http.Request, held *holding) (*openai.Request, error) {
	if r.Method != http.MethodPost {
		return nil, wrongMethod(r, http.MethodPost)
	}
	if err := checkType(r.Header); err != nil {
		return nil, err
	}
	if r.ContentLength > MaxBody {
		return nil, errTooLarge
	}
	body, err := readBody(r.Body, r.ContentLength, held)
	out.lift() // the server's time to read a request would end a long stream
	if err != nil {
		return nil, err
	}
	request, err := openai.ParseRequest(body)
	if err != nil {
		// The body's size belongs into the record even when its content does not parse.
		return &openai.Request{Body: body}, err
	}
	return request, nil
}

// readBody reads a body of the given size, or of an unknown one when size is negative. Its buffer
// grows with what arrives: a client that announces much and sends little holds little.
func readBody(from io.Reader, size int64, held *holding) ([]byte, error) {
	whole := size
	if size < 0 {
		whole = MaxBody + 1
	}
	var body []byte
	for int64(len(body)) < whole {
		if len(body) == cap(body) {
			room := min(whole, max(firstRoom, 2*int64(cap(body))))
			if !held.resize(room) {
				return nil, errOverloaded
			}
			body = append(make([]byte, 0, room), body...)
		}
		n, err := from.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		switch {
		case err == nil || int64(len(body)) == whole:
		case size < 0 && errors.Is(err, io.EOF):
			body = bytes.Clone(body) // it is kept until the answer ends: keep no more than there is
			held.resize(int64(len(body)))
			return body, nil
		default:
			return nil, brokenBody(err)
		}
	}
	if size < 0 {
		return nil, errTooLarge
	}
	return body, nil
}

// brokenBody is the answer to a body that did not arrive whole.
func brokenBody(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		e := fault.New(fault.Timeout, "request_timeout", fmt.Sprintf("The request body did not arrive within %s. Send it again.", BodyTime))
		e.Status = http.StatusRequestTimeout
		return e
	}
	return fault.New(fault.Invalid, "incomplete_body", "The request body ended before it was complete. Send it again, with the right Content-Length.").Because(err)
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
	if b.used.Add(n) > b.limit && n > 0 {
		b.used.Add(-n)
		return false
	}
	return true
}

func (b *bodyBudget) give(n int64) { b.used.Add(-n) }

// holding is one request's part of the budget.
type holding struct {
	budget *bodyBudget
	size   int64
}

// resize makes the part n bytes large; false when the budget has no room for that, and then nothing
// has changed. Growing smaller always succeeds.
func (h *holding) resize(n int64) bool {
	if !h.budget.take(n - h.size) {
		return false
	}
	h.size = n
	return true
}

// free gives everything back.
func (h *holding) free() {
	h.budget.give(h.size)
	h.size = 0
}
