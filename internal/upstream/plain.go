package upstream

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// plainTransport carries requests over HTTP/1.1 without TLS, in the caller's own goroutine:
// net/http's transport hands every request through two goroutines of the connection, which costs more than all
// else that a gateway does for a small request.
//
// It is an http.RoundTripper for what this package needs: POST with a body of known length. It does not
// follow redirects, decompress, use proxies or send trailers. The body of its responses may be
// closed while another goroutine reads from it; a body that is read to its end gives its connection back.
//
// A pooled connection may have been closed by the server a moment ago. When it fails before the last byte
// of the request was written to it, the request is sent once more, on a fresh connection. A request that
// was written whole may have been carried out, and is never sent again.
type plainTransport struct {
	dial        func(ctx context.Context, network, address string) (net.Conn, error)
	idlePerHost int
	idleTimeout time.Duration

	mu     sync.Mutex
	idle   map[string][]*plainConn // by address; the one used last stands last
	sweep  *time.Timer             // runs while there are idle connections
	closed bool                    // nothing is kept any more
}

// plainConn is one connection. One goroutine uses it at a time.
type plainConn struct {
	net.Conn
	address string
	r       *bufio.Reader // while a head is read, and as long as it holds what came behind it; else nil
	head    []byte        // scratch of the head reader
	probe   *probe
	since   time.Time // idle since
	abort   func()
}

// plainBuffer is the size of the buffer that heads are read through.
const plainBuffer = 4 << 10

// readers read heads. Bodies go without: a connection that is idle, or waits for a slow stream, has none.
var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, plainBuffer) }}

func newPlainTransport(dial func(ctx context.Context, network, address string) (net.Conn, error), options Options) *plainTransport {
	return &plainTransport{
		dial:        dial,
		idlePerHost: options.IdlePerHost,
		idleTimeout: min(options.IdleTimeout, plainIdle),
		idle:        make(map[string][]*plainConn),
	}
}

// plainIdle bounds how long an idle connection may still be used. Engines commonly close theirs after five
// seconds; a request that meets such an end is lost, for it can not be known whether it was read.
const plainIdle = 4 * time.Second

// staleError is a failure before the first byte of an answer.
type staleError struct {
	cause  error
	unsent bool // the request was not written whole
}

func (e *staleError) Error() string { return "no answer came: " + e.cause.Error() }

func (e *staleError) Unwrap() error { return e.cause }

// RoundTrip implements http.RoundTripper.
func (t *plainTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	address, err := plainAddress(req)
	if err != nil {
		return nil, err
	}
	ctx := req.Context()
	if ctx.Err() != nil { // what would stop the exchange runs beside it and may come too late
		return nil, context.Cause(ctx)
	}
	if conn := t.take(address); conn != nil {
		resp, err := t.exchange(conn, req)
		var stale *staleError
		if !errors.As(err, &stale) || !stale.unsent || ctx.Err() != nil || req.GetBody == nil {
			return resp, err
		}
		again := *req
		if again.Body, err = req.GetBody(); err != nil {
			return nil, err
		}
		req = &again
	}
	raw, err := t.dial(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return t.exchange(newPlainConn(raw, address), req)
}

// plainAddress checks that the request is one that this transport can carry, and returns host and port.
func plainAddress(req *http.Request) (string, error) {
	switch {
	case req.URL.Scheme != "http":
		return "", fmt.Errorf("plain transport: scheme %q", req.URL.Scheme)
	case req.Method != http.MethodPost || req.Body == nil || req.ContentLength < 0:
		return "", errors.New("plain transport: only POST with a body of known length")
	}
	port := req.URL.Port()
	if port != "" && req.URL.Host != "" && req.URL.Host[0] != '[' {
		return req.URL.Host, nil
	}
	if port == "" {
		port = "80"
	}
	return net.JoinHostPort(req.URL.Hostname(), port), nil
}

func newPlainConn(raw net.Conn, address string) *plainConn {
	c := &plainConn{Conn: raw, address: address, probe: newProbe(raw)}
	past := time.Unix(1, 0)
	c.abort = func() { _ = raw.SetDeadline(past) }
	return c
}

// Read gives what came behind the head, and after that what comes over the connection.
func (c *plainConn) Read(p []byte) (int, error) {
	if c.r == nil {
		return c.Conn.Read(p)
	}
	n, err := c.r.Read(p)
	c.drained()
	return n, err
}

// drained says whether nothing is left of what came with a head; then its reader is given back.
func (c *plainConn) drained() bool {
	if c.r != nil && c.r.Buffered() == 0 {
		c.r.Reset(nil)
		readers.Put(c.r)
		c.r = nil
	}
	return c.r == nil
}

// exchange sends the request and reads the head of the answer. It owns the connection: whatever comes
// of it, the connection is closed, pooled, or belongs to the response's body.
func (t *plainTransport) exchange(c *plainConn, req *http.Request) (*http.Response, error) {
	b := &plainBody{t: t, c: c, stop: context.AfterFunc(req.Context(), c.abort)}
	err := b.send(req)
	whole := err == nil
	if whole || errors.Is(err, errSend) {
		// A server may answer before it has read the request, and stop reading: its answer counts.
		var h head
		if h, err = c.readHead(); err == nil {
			return b.response(req, h, whole), nil
		}
	}
	whole = b.abandon() && whole
	if stale, ok := errors.AsType[*staleError](err); ok {
		stale.unsent = !whole
	}
	return nil, err
}

// take returns an idle connection, or nil. The one used last is taken first: a server closes first
// what has been idle for long.
func (t *plainTransport) take(address string) *plainConn {
	for {
		c := t.pop(address)
		if c == nil {
			return nil
		}
		if time.Since(c.since) < t.idleTimeout && c.probe.silent() {
			return c
		}
		_ = c.Close()
	}
}

func (t *plainTransport) pop(address string) *plainConn {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := t.idle[address]
	if len(list) == 0 {
		return nil
	}
	last := len(list) - 1
	c := list[last]
	list[last] = nil
	t.idle[address] = list[:last]
	return c
}

// put makes a connection available.
func (t *plainTransport) put(c *plainConn) {
	c.since = time.Now()
	t.mu.Lock()
	list := t.idle[c.address]
	full := t.closed || len(list) >= t.idlePerHost
	if !full {
		t.idle[c.address] = append(list, c)
		if t.sweep == nil {
			t.sweep = time.AfterFunc(t.idleTimeout, t.expire)
		}
	}
	t.mu.Unlock()
	if full {
		_ = c.Close()
	}
}

// expire closes what has been idle for too long, and comes back as long as anything is idle.
func (t *plainTransport) expire() {
	var old []*plainConn
	now := time.Now()
	t.mu.Lock()
	for address, list := range t.idle {
		n := 0
		for n < len(list) && now.Sub(list[n].since) >= t.idleTimeout {
			n++
		}
		old = append(old, list[:n]...)
		if n == len(list) {
			delete(t.idle, address)
		} else {
			t.idle[address] = append([]*plainConn(nil), list[n:]...)
		}
	}
	t.sweep = nil
	if len(t.idle) > 0 {
		t.sweep = time.AfterFunc(t.idleTimeout, t.expire)
	}
	t.mu.Unlock()
	for _, c := range old {
		_ = c.Close()
	}
}

// CloseIdleConnections closes the connections that are not in use, and from now on each one after its
// exchange.
func (t *plainTransport) CloseIdleConnections() {
	t.mu.Lock()
	t.closed = true
	idle := t.idle
	t.idle = make(map[string][]*plainConn)
	if t.sweep != nil {
		t.sweep.Stop()
		t.sweep = nil
	}
	t.mu.Unlock()
	for _, list := range idle {
		for _, c := range list {
			_ = c.Close()
		}
	}
}
