package standby

import (
	"net/http"
	"strconv"
	"time"

	"shareai/internal/fault"
	"shareai/internal/openai"
)

// stallTime is how long a write may wait for the client to read.
const stallTime = 60 * time.Second

// clientWriter answers the client. Everything it is given leaves at once.
type clientWriter struct {
	http.ResponseWriter
	controller *http.ResponseController
	deadline   time.Time
	failed     error // of a write: the client is gone
}

func newClientWriter(w http.ResponseWriter) *clientWriter {
	return &clientWriter{ResponseWriter: w, controller: http.NewResponseController(w)}
}

// A connection without deadlines or a second direction has none to set.

func (c *clientWriter) limitReading(limit time.Duration) {
	_ = c.controller.SetReadDeadline(time.Now().Add(limit))
}
func (c *clientWriter) liftReading() { _ = c.controller.SetReadDeadline(time.Time{}) }
func (c *clientWriter) duplex()      { _ = c.controller.EnableFullDuplex() }

// begin writes the head of an answer.
func (c *clientWriter) begin(a *answer) {
	h := c.Header()
	for name, values := range endToEnd(a.response.Header) {
		h[name] = values
	}
	h.Set(Header, a.way)
	c.extend()
	c.WriteHeader(a.response.StatusCode)
}

// send writes a piece of the body and flushes it.
func (c *clientWriter) send(p []byte) error {
	c.extend()
	if _, c.failed = c.Write(p); c.failed == nil {
		c.failed = c.controller.Flush()
	}
	return c.failed
}

func (c *clientWriter) trailer(t http.Header) {
	for name, values := range t {
		c.Header()[http.TrailerPrefix+name] = values
	}
}

// extend moves the write deadline ahead when a good part of it has passed.
func (c *clientWriter) extend() {
	if now := time.Now(); c.deadline.Sub(now) < stallTime/2 {
		c.deadline = now.Add(stallTime)
		_ = c.controller.SetWriteDeadline(c.deadline)
	}
}

// fail answers with an error of the stand-by's own.
func (c *clientWriter) fail(err error) {
	e := fault.From(err)
	body := openai.AppendError(nil, e, "")
	h := c.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	c.extend()
	c.WriteHeader(e.HTTPStatus())
	_, _ = c.Write(body)
}
