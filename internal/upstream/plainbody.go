package upstream

import (
	"errors"
	"io"
	"net/http"
	"sync/atomic"
)

// plainBody is one exchange over a connection, and the body of its response.
type plainBody struct {
	t    *plainTransport
	c    *plainConn
	stop func() bool // takes back what the context's end would do
	sent chan bool   // says once whether a large request was sent whole; nil for a small one
	over atomic.Bool // the connection is pooled or closed

	chunks   *dechunker // of a chunked body
	left     int64      // of a body with a length; -1: until the connection closes
	reusable bool
	err      error // what Read returns from now on
}

// response makes the response over this body. whole says that the request was sent in full.
func (b *plainBody) response(req *http.Request, h head, whole bool) *http.Response {
	resp := &http.Response{
		StatusCode: h.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: h.minor,
		Header: h.header, ContentLength: h.length, Close: !h.keepAlive, Request: req, Body: b,
	}
	b.left, b.reusable = h.length, h.keepAlive && whole
	switch {
	case h.chunked:
		b.chunks = &dechunker{}
	case h.length == 0:
		b.err = io.EOF
		b.end(true)
	}
	return resp
}

// Read implements io.Reader. A body that breaks off is an error; its end gives the connection back.
func (b *plainBody) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	n, err := b.read(p)
	if err == nil {
		return n, nil
	}
	b.end(errors.Is(err, io.EOF))
	b.err = err
	return n, err
}

func (b *plainBody) read(p []byte) (int, error) {
	switch {
	case b.chunks != nil:
		return b.readChunks(p)
	case b.left < 0:
		return b.c.Read(p)
	default:
		n, err := b.c.Read(p[:min(int64(len(p)), b.left)])
		b.left -= int64(n)
		if b.left == 0 {
			return n, io.EOF
		}
		return n, cut(err)
	}
}

// readChunks reads until there is data: what has come may be framing alone.
func (b *plainBody) readChunks(p []byte) (int, error) {
	for {
		got, err := b.c.Read(p)
		n, behind, malformed := b.chunks.strip(p[:got])
		switch {
		case malformed != nil:
			return n, malformed
		case b.chunks.over():
			b.reusable = b.reusable && behind == 0
			return n, io.EOF
		case n > 0 || err != nil:
			return n, cut(err)
		}
	}
}

// Close implements io.Closer. It closes the connection unless the body was read to its end.
func (b *plainBody) Close() error {
	b.end(false)
	return nil
}

// end parts from the connection: back to the pool after a complete exchange, closed otherwise. Only
// the first call does anything.
func (b *plainBody) end(complete bool) {
	if b.over.Swap(true) {
		return
	}
	if b.stop() && complete && b.reusable && b.wasSent() && b.c.drained() {
		b.t.put(b.c)
		return
	}
	_ = b.c.Close()
	if b.sent != nil {
		<-b.sent // closing has ended it; leave no goroutine behind
	}
}

// abandon closes the connection of an exchange that has no response, and says whether the whole request
// had been written to it.
func (b *plainBody) abandon() (whole bool) {
	b.over.Store(true)
	b.stop()
	_ = b.c.Close()
	return b.sent == nil || <-b.sent
}

// wasSent says whether the whole request has left. It must not wait: a server that has answered need
// not read the rest.
func (b *plainBody) wasSent() bool {
	if b.sent == nil {
		return true
	}
	select {
	case whole := <-b.sent:
		b.sent = nil
		return whole
	default:
		return false
	}
}
