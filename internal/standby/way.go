package standby

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
	"time"

	"shareai/internal/account"
	"shareai/internal/openai"
)

// way is one of the two ways that a request can take.
type way struct {
	name      string
	rewriter  rewriter
	transport *http.Transport
	timeouts  Timeouts
}

// rewriter makes the request that goes a way out of the one that came.
type rewriter interface {
	// rewrite returns the request without a context, and its head and body free to be changed.
	rewrite(q *question) *http.Request
}

func newWay(name string, to rewriter, t Timeouts) *way {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	dialer := net.Dialer{Timeout: t.Connect}
	return &way{name: name, rewriter: to, timeouts: t, transport: &http.Transport{
		Proxy:                  http.ProxyFromEnvironment, // as SDKs do
		DialContext:            dialer.DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(0)},
		TLSHandshakeTimeout:    t.Connect,
		Protocols:              &protocols,
		DisableCompression:     true, // the client gets what it asked for
		MaxIdleConns:           512,
		MaxIdleConnsPerHost:    256,
		IdleConnTimeout:        30 * time.Second,
		MaxResponseHeaderBytes: 256 << 10,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 10 * time.Second},
	}}
}

// send sends the request and returns the head of the answer. ctx must live as long as its body is read.
func (w *way) send(ctx context.Context, q *question) (*http.Response, *failure) {
	request := w.rewriter.rewrite(q).WithContext(ctx)
	response, err := w.transport.RoundTrip(request)
	if err != nil {
		return nil, &failure{reason: reasonOf(ctx, err, noConnection)}
	}
	return response, nil
}

// connectionHeaders are those that concern one connection and not the request.
var connectionHeaders = [...]string{
	"Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Trailer",
	"Transfer-Encoding", "Upgrade", "Expect",
}

// endToEnd is a copy of a head without what concerns the connection.
func endToEnd(h http.Header) http.Header {
	h = h.Clone()
	for _, line := range h["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			h.Del(textproto.TrimString(name))
		}
	}
	for _, name := range connectionHeaders {
		h.Del(name)
	}
	return h
}

// toPrimary sends requests on as they are.
type toPrimary struct{ base *url.URL }

func (t toPrimary) rewrite(q *question) *http.Request {
	u := *q.head.URL
	u.Scheme, u.Host = t.base.Scheme, t.base.Host
	if base := strings.TrimSuffix(t.base.EscapedPath(), "/"); base != "" {
		if path, ok := strings.CutPrefix(u.EscapedPath(), "/v1"); ok && (path == "" || path[0] == '/') {
			u.RawPath = base + path
			u.Path = strings.TrimSuffix(t.base.Path, "/") + strings.TrimPrefix(u.Path, "/v1")
		}
	}
	r := outgoing(q.head.Method, &u, endToEnd(q.head.Header))
	body, size := q.reader()
	r.ContentLength = size
	if size != 0 {
		r.Body = io.NopCloser(body)
	}
	if q.netted {
		r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(q.body)), nil }
		// What can not be read can not be judged: the answer comes as it is, to be looked at.
		r.Header.Set("Accept-Encoding", "identity")
		allowRepeat(r.Header)
	}
	return r
}

// outgoing is a request that adds nothing to its head.
func outgoing(method string, u *url.URL, h http.Header) *http.Request {
	if _, ok := h["User-Agent"]; !ok {
		h["User-Agent"] = nil // or net/http puts in its own
	}
	return &http.Request{Method: method, URL: u, Header: h, Host: u.Host, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
}

// allowRepeat lets the transport send a request once more on a fresh connection when an old one turns out to
// be closed before any of the answer has come. The header is a sign for net/http and is not sent.
func allowRepeat(h http.Header) {
	if h.Get("X-Idempotency-Key") == "" {
		h["X-Idempotency-Key"] = []string{}
	}
}

// toGateway sends requests to a ShareAI gateway.
type toGateway struct {
	base   string
	key    account.Secret
	models map[string]string
}

func newToGateway(o Options) toGateway {
	base := *o.Gateway
	base.RawQuery, base.Fragment = "", ""
	return toGateway{
		base: strings.TrimSuffix(strings.TrimSuffix(base.String(), "/"), "/v1"),
		key:  o.Key, models: o.Models,
	}
}

// forGateway are the headers that the gateway has a use for. Nothing else goes there: a provider may want its
// key in any header.
var forGateway = [...]string{"Accept", "Idempotency-Key", "Traceparent", "Tracestate", "User-Agent"}

func (t toGateway) rewrite(q *question) *http.Request {
	u, err := url.Parse(t.base + q.head.URL.EscapedPath())
	if err != nil { // both were parsed before
		u = &url.URL{}
	}
	h := http.Header{}
	for _, name := range forGateway {
		if values := q.head.Header[name]; len(values) > 0 {
			h[name] = values
		}
	}
	for name, values := range q.head.Header {
		if strings.HasPrefix(name, "X-Shareai-") {
			h[name] = values
		}
	}
	h.Set("Authorization", "Bearer "+t.key.Reveal())
	h.Set("Accept-Encoding", "identity")
	allowRepeat(h)
	r := outgoing(q.head.Method, u, h)
	if q.request == nil {
		return r
	}
	h.Set("Content-Type", "application/json") // it was parsed, whatever the client calls it
	body := openai.NewBody(q.body)
	if name, ok := t.models[q.request.Model]; ok {
		body = q.request.Edit(openai.SetString("model", name))
	}
	r.ContentLength, r.Body = body.Len(), body.Reader()
	r.GetBody = func() (io.ReadCloser, error) { return body.Reader(), nil }
	return r
}

// reasonOf says why something did not work: that the context ended, or else another reason.
func reasonOf(ctx context.Context, err error, other reason) reason {
	var why reason
	var timeout net.Error
	switch {
	case errors.As(context.Cause(ctx), &why):
		return why
	case ctx.Err() != nil:
		return clientLeft
	case errors.As(err, &timeout) && timeout.Timeout():
		return tooSlow
	default:
		return other
	}
}
