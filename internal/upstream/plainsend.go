package upstream

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
)

// errSend is a failure of the connection while a request was sent; an answer may have come all the same.
var errSend = errors.New("the request could not be sent")

// inlineBody is the largest request that is written before the answer is read. A larger one could fill
// the buffers of both systems while the server, which has answered already, waits for us to read.
const inlineBody = 128 << 10

// send writes the request: at once when it is small, beside the reading of the answer when it is not.
func (b *plainBody) send(req *http.Request) error {
	if req.ContentLength <= inlineBody {
		return b.c.write(req)
	}
	b.sent = make(chan bool, 1)
	go func() {
		err := b.c.write(req)
		if err != nil && !errors.Is(err, errSend) {
			_ = b.c.Close() // our own half request gets no answer that is worth waiting for
		}
		b.sent <- err == nil
	}()
	return nil
}

// write writes head and body, in one system call when they are small.
func (c *plainConn) write(req *http.Request) error {
	defer req.Body.Close()
	w := gatherers.Get().(*gatherer)
	defer w.release()
	w.to = c.Conn
	if err := w.head(req); err != nil {
		return err
	}
	start := w.total
	if _, err := io.Copy(w, req.Body); err != nil {
		return w.fail(err)
	}
	if got := w.total - start; got != req.ContentLength {
		return fmt.Errorf("plain transport: a body of %d bytes was announced with %d", got, req.ContentLength)
	}
	return w.fail(w.flush())
}

// gatherer collects small writes and joins them with the next large one in one system call.
type gatherer struct {
	to      io.Writer
	buf     []byte
	pair    [2][]byte
	vector  net.Buffers
	total   int64 // bytes accepted
	failure error // of the connection
}

const gatherSize = 16 << 10

var gatherers = sync.Pool{New: func() any { return &gatherer{buf: make([]byte, 0, gatherSize)} }}

func (w *gatherer) release() {
	*w = gatherer{buf: w.buf[:0]}
	gatherers.Put(w)
}

// Write implements io.Writer. It does not keep p.
func (w *gatherer) Write(p []byte) (int, error) {
	if len(w.buf)+len(p) <= cap(w.buf) {
		w.buf = append(w.buf, p...)
		w.total += int64(len(p))
		return len(p), nil
	}
	w.pair = [2][]byte{w.buf, p}
	w.vector = w.pair[:]
	_, w.failure = w.vector.WriteTo(w.to)
	w.buf, w.pair = w.buf[:0], [2][]byte{}
	if w.failure != nil {
		return 0, w.failure
	}
	w.total += int64(len(p))
	return len(p), nil
}

func (w *gatherer) flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	_, w.failure = w.to.Write(w.buf)
	w.buf = w.buf[:0]
	return w.failure
}

// fail marks an error of the connection as errSend; others (of the body) stay what they are.
func (w *gatherer) fail(err error) error {
	if err == nil || w.failure == nil {
		return err
	}
	return fmt.Errorf("%w: %w", errSend, w.failure)
}

var errHeader = errors.New("plain transport: a header contains characters that can not be sent")

// head writes the request line and the headers.
func (w *gatherer) head(req *http.Request) error {
	target := req.URL.RequestURI()
	host := req.Host
	if host == "" {
		host = req.URL.Host
	}
	if !validTarget(target) || target[0] != '/' || !validTarget(host) {
		return errHeader
	}
	b := w.buf
	b = append(b, "POST "...)
	b = append(b, target...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, host...)
	b = append(b, "\r\nContent-Length: "...)
	b = strconv.AppendInt(b, req.ContentLength, 10)
	b = append(b, "\r\n"...)
	for name, values := range req.Header {
		for _, value := range values {
			if !validName(name) || !validValue(value) || framing(name) {
				return errHeader
			}
			b = append(b, name...)
			b = append(b, ": "...)
			b = append(b, value...)
			b = append(b, "\r\n"...)
		}
	}
	b = append(b, "\r\n"...)
	w.buf = b
	w.total = int64(len(w.buf))
	return nil
}

// framing says whether a header is the transport's own to set.
func framing(name string) bool {
	switch name {
	case "Host", "Content-Length", "Transfer-Encoding", "Connection", "Trailer", "Upgrade", "Te":
		return true
	default:
		return false
	}
}

// validTarget says whether s may stand in a request line or as a host: visible ASCII alone.
func validTarget(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return s != ""
}

// validValue says whether s may be the value of a header: no control character but the tab.
func validValue(s string) bool {
	for i := range len(s) {
		if (s[i] < ' ' && s[i] != '\t') || s[i] == 0x7f {
			return false
		}
	}
	return true
}

// validName says whether s is a token, as the name of a header must be.
func validName(s string) bool {
	for i := range len(s) {
		if !token[s[i]] {
			return false
		}
	}
	return s != ""
}

// token are the bytes of RFC 9110's token.
var token = func() (table [256]bool) {
	for _, c := range []byte("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") {
		table[c] = true
	}
	return table
}()
