package load

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// client is one connection at a time, and what it needs to read answers.
type client struct {
	*run
	conn   net.Conn // nil between connections
	forget func() bool
	in     *bufio.Reader // what arrives, head and body
	lines  *bufio.Reader // the body of a stream, line by line
	body   bytes.Buffer  // a unary body
}

// outcome is how one request ended.
type outcome struct {
	failed   string // the kind of failure; "" is success
	answered bool   // an answer arrived to its end
	chunks   int
}

// exchange sends one request and reads its answer.
func (c *client) exchange(ctx context.Context, due time.Time) outcome {
	if c.conn == nil {
		if err := c.connect(ctx); err != nil {
			return outcome{failed: kind("connect", err)}
		}
	}
	if err := c.conn.SetDeadline(time.Now().Add(c.Timeout)); err != nil {
		return outcome{failed: kind("write", err)}
	}
	if _, err := c.conn.Write(c.request); err != nil {
		return outcome{failed: kind("write", err)}
	}
	resp, err := http.ReadResponse(c.in, nil) //nolint:bodyclose // read drains it; the connection is ours
	if err != nil {
		return outcome{failed: kind("head", err)}
	}
	out := c.read(resp, due)
	if resp.Close {
		c.close()
	}
	return out
}

func (c *client) connect(ctx context.Context) error {
	dialer := net.Dialer{Timeout: c.Timeout}
	conn, err := dialer.DialContext(ctx, "tcp", c.addr)
	if err != nil {
		return err
	}
	c.conn = conn
	c.forget = context.AfterFunc(ctx, func() { conn.Close() })
	if c.in == nil {
		c.in, c.lines = bufio.NewReader(nil), bufio.NewReader(nil)
	}
	c.in.Reset(conn)
	return nil
}

func (c *client) close() {
	if c.conn != nil {
		c.forget()
		c.conn.Close()
		c.conn = nil
	}
}

// read takes in the whole body and judges the answer.
func (c *client) read(resp *http.Response, due time.Time) outcome {
	streaming := strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream")
	var got content
	var err error
	if streaming {
		got, err = c.readStream(resp.Body, due)
	} else {
		c.body.Reset()
		_, err = c.body.ReadFrom(resp.Body)
		got.usage = bytes.Contains(c.body.Bytes(), usageKey)
	}
	out := outcome{chunks: got.chunks, answered: err == nil}
	switch {
	case err != nil:
		out.failed = kind("body", err)
	case resp.StatusCode != http.StatusOK:
		out.failed = "status " + strconv.Itoa(resp.StatusCode)
	case streaming != (c.Chunks > 0):
		out.failed = "not the kind of answer asked for"
	case streaming && !got.done:
		out.failed = "no [DONE]"
	case got.chunks < c.Chunks:
		out.failed = "chunks missing"
	case !got.usage:
		out.failed = "no usage"
	}
	return out
}

// content is what was found in a body.
type content struct {
	chunks      int
	usage, done bool
}

var (
	dataField = []byte("data:")
	doneData  = []byte("[DONE]")
	usageKey  = []byte(`"usage":`)
	usageOpen = []byte(`"usage":{`) // chunks before the last may say "usage":null
)

func (c *client) readStream(body io.Reader, due time.Time) (got content, err error) {
	c.lines.Reset(body)
	for {
		line, err := c.lines.ReadSlice('\n')
		if err == io.EOF {
			return got, nil
		}
		if err != nil {
			return got, err
		}
		data, found := bytes.CutPrefix(line, dataField)
		if !found {
			continue
		}
		if data = bytes.TrimSpace(data); bytes.Equal(data, doneData) {
			got.done = true
			continue
		}
		if got.chunks == 0 {
			c.result.First.Add(time.Since(due))
		}
		got.chunks++
		got.usage = got.usage || bytes.Contains(data, usageOpen)
		if sent, stamped := stamp(data); stamped {
			c.result.Lag.Add(time.Since(sent))
		}
	}
}

// stamp finds "@" and 19 digits of Unix nanoseconds.
func stamp(data []byte) (sent time.Time, found bool) {
	const digits = 19
	_, after, found := bytes.Cut(data, []byte("@"))
	if !found || len(after) < digits {
		return sent, false
	}
	ns, err := strconv.ParseInt(string(after[:digits]), 10, 64)
	return time.Unix(0, ns), err == nil
}

// kind names a failure by where it happened and its class.
func kind(where string, err error) string {
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, net.ErrClosed):
		return where + " broken off"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return where + " timeout"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return where + " ended early"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return where + " reset"
	case errors.Is(err, syscall.ECONNREFUSED):
		return where + " refused"
	}
	return where + " malformed"
}
