package gateway

import (
	"net/http"
	"time"
)

// clientWriter writes to the client: it counts what was sent, and gives a client that does not read a
// limited time.
type clientWriter struct {
	w          http.ResponseWriter
	header     http.Header
	controller *http.ResponseController
	deadline   time.Time
	sent       int64
	began      bool // the status line is out
}

// stallTime is how long a write may wait for the client to read.
const stallTime = 60 * time.Second

func newClientWriter(w http.ResponseWriter) *clientWriter {
	return &clientWriter{w: w, header: w.Header(), controller: http.NewResponseController(w)}
}

// lift takes the bound on reading the request away. A transport without deadlines has none to lift.
func (c *clientWriter) lift() { _ = c.controller.SetReadDeadline(time.Time{}) }

func (c *clientWriter) begin(status int) {
	c.began = true
	c.extend()
	c.w.WriteHeader(status)
}

func (c *clientWriter) write(p []byte) error {
	c.extend()
	n, err := c.w.Write(p)
	c.sent += int64(n)
	return err
}

func (c *clientWriter) flush() error { return c.controller.Flush() }

// extend moves the write deadline ahead, but only when a good part of it has passed: a stream writes
// hundreds of times within one.
func (c *clientWriter) extend() {
	now := time.Now()
	if c.deadline.Sub(now) < stallTime/2 {
		c.deadline = now.Add(stallTime)
		_ = c.controller.SetWriteDeadline(c.deadline)
	}
}
