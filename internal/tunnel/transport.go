package tunnel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
)

var (
	// ErrAway says that the node has no link, here or at another replica. Nothing was dispatched.
	ErrAway = errors.New("the node is not linked")
	// ErrBusy says that the node takes no more requests at the moment. It has not begun this one.
	ErrBusy = errors.New("the node is busy")
	// ErrLost says that the link failed when the request had been dispatched, or may have been: before the answer, or in
	// the middle of it. It never wraps io.EOF.
	ErrLost = errors.New("the link to the node failed")
)

// Transport returns what sends requests to a node: over a link of this replica, or else by way of one other replica
// that has one. The path of the URL is the engine's (/v1/chat/completions); its host means nothing.
//
// A request is dispatched once at most. The error is ErrAway or ErrBusy when no engine has seen it. A request with a
// body should have GetBody, so that it can be sent over another link when the first one took nothing. Only the headers
// that a node needs are sent, and only those that an answer needs come back. Ending the request's context stops the
// engine.
func (h *Hub) Transport(node string) http.RoundTripper { return &transport{h, node} }

type transport struct {
	hub  *Hub
	node string
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	d := dispatch{request: r}
	defer d.release()
	response, err := t.hub.local(&d, t.node)
	if errors.Is(err, ErrAway) && d.again() {
		response, err = t.hub.throughPeers(&d, t.node)
	}
	return response, err
}

// dispatch is a request that is being brought to a node.
type dispatch struct {
	request *http.Request
	used    bool // the body was handed over, and closed by whoever had it
}

// again says whether the request can be sent: always before the body was handed over, and with GetBody after that too.
func (d *dispatch) again() bool {
	r := d.request
	return r.Context().Err() == nil && (!d.used || r.Body == nil || r.Body == http.NoBody || r.GetBody != nil)
}

// to returns the request with another URL and nothing but the headers that may be sent.
func (d *dispatch) to(ctx context.Context, u *url.URL) (*http.Request, error) {
	r := d.request
	out := &http.Request{
		Method: r.Method, URL: u, Header: allowed(r.Header, toNode), Body: r.Body, ContentLength: r.ContentLength,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Host: u.Host,
	}
	if d.used && r.GetBody != nil {
		body, err := r.GetBody()
		if err != nil {
			return nil, err
		}
		out.Body = body
	}
	d.used = true
	return out.WithContext(ctx), nil
}

// release closes the body if nobody else has done it.
func (d *dispatch) release() {
	if !d.used && d.request.Body != nil {
		_ = d.request.Body.Close()
	}
}

// local sends a request over a link of this replica. The error is ErrAway when none has taken it.
func (h *Hub) local(d *dispatch, id string) (*http.Response, error) {
	n := h.known(id)
	if n == nil {
		return nil, ErrAway
	}
	for {
		links := n.links.Load()
		response, err := h.over(*links, d)
		// A link may have made way for one that was not there yet when this began.
		if !errors.Is(err, ErrAway) || !d.again() || links == n.links.Load() {
			return response, err
		}
	}
}

// over sends a request over the first of the links that takes it, the newest first.
func (h *Hub) over(links []*link, d *dispatch) (*http.Response, error) {
	for _, l := range slices.Backward(links) {
		if l.leaving.Load() || !d.again() || l.client.Reserve() != nil {
			continue
		}
		response, err := l.roundTrip(d) //nolint:bodyclose // it is the caller's
		if !errors.Is(err, ErrAway) {
			return response, err
		}
	}
	return nil, ErrAway
}

// roundTrip sends a request for which a place is reserved.
func (l *link) roundTrip(d *dispatch) (*http.Response, error) {
	var wrote atomic.Bool
	trace := httptrace.ClientTrace{WroteHeaders: func() { wrote.Store(true) }}
	ctx := d.request.Context()
	u := &url.URL{Scheme: "http", Host: "node", Path: pathEngine + d.request.URL.Path}
	out, err := d.to(httptrace.WithClientTrace(ctx, &trace), u)
	if err != nil {
		l.client.Release()
		return nil, err
	}
	l.begin()
	response, err := l.client.RoundTrip(out)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		l.done()
		return nil, context.Cause(ctx)
	case !wrote.Load():
		l.done()
		return nil, ErrAway
	default:
		l.done()
		return nil, lost(err)
	}
	if isBusy(response) {
		_ = response.Body.Close()
		l.done()
		return nil, ErrBusy
	}
	response.Header = allowed(response.Header, fromNode)
	response.Trailer = nil
	response.Request = d.request
	response.Body = &answerBody{ReadCloser: response.Body, life: ctx, left: maxAnswer, done: l.done}
	return response, nil
}

// lost makes an ErrLost. The cause is kept as text: it may be, or wrap, io.EOF.
func lost(cause error) error { return fmt.Errorf("%w: %s", ErrLost, cause.Error()) }

func isBusy(r *http.Response) bool {
	return r.StatusCode == http.StatusTooManyRequests && r.Header.Get(HeaderBusy) != ""
}

var errTooLong = errors.New("the node's answer is too long")

// answerBody is the body of an answer.
type answerBody struct {
	io.ReadCloser
	life context.Context // of the request
	left int64
	once sync.Once
	done func()
}

// Read implements io.Reader. A body that breaks off gives an ErrLost, or what ended the request's context.
func (b *answerBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	switch {
	case b.left < 0:
		return n, errTooLong
	case err == nil:
		return n, nil
	case err == io.EOF: // one that is wrapped is not the end
		b.once.Do(b.done)
		return n, io.EOF
	case b.life.Err() != nil:
		return n, context.Cause(b.life)
	}
	return n, lost(err)
}

// Close implements io.Closer.
func (b *answerBody) Close() error {
	err := b.ReadCloser.Close()
	b.once.Do(b.done)
	return err
}
