package tunnel

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

const (
	peerContext = "shareai-peer-v1\n"
	peerConnect = time.Second // between replicas of one installation
)

// newPeerTransport returns the client of other replicas: HTTP/1.1, because each request then has a connection of its own
// and none can hold up another, over the port that is there anyway.
func newPeerTransport() *http.Transport {
	dialer := net.Dialer{
		Timeout: peerConnect, Control: endDeadConnections,
		// A replica that dies in silence is noticed within ten seconds also while nothing is sent to it.
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 4 * time.Second, Interval: 2 * time.Second, Count: 3},
	}
	return &http.Transport{
		DialContext: dialer.DialContext, DisableCompression: true, MaxIdleConnsPerHost: 256, IdleConnTimeout: 30 * time.Second,
		TLSHandshakeTimeout: 5 * time.Second, MaxResponseHeaderBytes: maxHeaders,
	}
}

// throughPeers sends a request by way of another replica. The error is ErrAway when none has taken it.
func (h *Hub) throughPeers(d *dispatch, id string) (*http.Response, error) {
	if len(h.options.PeerSecret) == 0 {
		return nil, ErrAway
	}
	if n := h.known(id); n != nil {
		for _, r := range n.holders() {
			response, err := h.throughPeer(d, n, r)
			if !errors.Is(err, ErrAway) || !d.again() {
				return response, err
			}
		}
	}
	// The hints were wrong, or there are none yet. The directory may know better.
	for _, r := range h.lookup(d.request.Context(), id) {
		response, err := h.throughPeer(d, h.node(id), r)
		if !errors.Is(err, ErrAway) || !d.again() {
			return response, err
		}
	}
	return nil, ErrAway
}

// throughPeer asks one replica.
func (h *Hub) throughPeer(d *dispatch, n *node, r remote) (*http.Response, error) {
	u, err := url.Parse(r.peer)
	if err != nil || u.Host == "" {
		n.notHeld(r)
		return nil, ErrAway
	}
	u.Path = strings.TrimSuffix(u.Path, "/") + PathPeer + n.id + d.request.URL.Path
	ctx := d.request.Context()
	var connected atomic.Bool
	trace := httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }}
	out, err := d.to(httptrace.WithClientTrace(ctx, &trace), u)
	if err != nil {
		return nil, err
	}
	out.Header.Set(headerPeer, h.peerProof(out.Method, u.EscapedPath(), time.Now()))
	n.running.Add(1)
	response, err := h.peers.RoundTrip(out)
	if err != nil {
		n.running.Add(-1)
		switch {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case !connected.Load(): // nothing was sent
			n.notHeld(r)
			return nil, ErrAway
		}
		return nil, lost(err)
	}
	failed := func(err error) (*http.Response, error) {
		_ = response.Body.Close()
		n.running.Add(-1)
		return nil, err
	}
	switch {
	case response.StatusCode == http.StatusMisdirectedRequest:
		n.notHeld(r)
		return failed(ErrAway)
	case isBusy(response):
		return failed(ErrBusy)
	case response.Header.Get(headerReason) != "": // not the node's answer
		return failed(fmt.Errorf("%w: replica %s says %s", ErrLost, r.replica, response.Header.Get(headerReason)))
	}
	response.Header = allowed(response.Header, fromNode)
	response.Trailer = nil
	response.Request = d.request
	response.Body = &answerBody{ReadCloser: response.Body, life: ctx, left: maxAnswer, done: func() { n.running.Add(-1) }}
	return response, nil
}

// peerProof is the header by which a replica proves that it is one.
func (h *Hub) peerProof(method, path string, now time.Time) string {
	at := strconv.FormatInt(now.Unix(), 10)
	nonce := rand.Text()
	return at + "." + nonce + "." + base64.RawURLEncoding.EncodeToString(h.peerMAC(method, path, at, nonce))
}

func (h *Hub) peerMAC(method, path, at, nonce string) []byte {
	mac := hmac.New(sha256.New, h.options.PeerSecret)
	_, _ = io.WriteString(mac, peerContext+strings.Join([]string{method, path, at, nonce}, "\n"))
	return mac.Sum(nil)
}

// isPeer says whether a replica asks.
func (h *Hub) isPeer(r *http.Request) bool {
	parts := strings.Split(r.Header.Get(headerPeer), ".")
	if len(h.options.PeerSecret) == 0 || len(parts) != 3 {
		return false
	}
	mac, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil || !hmac.Equal(mac, h.peerMAC(r.Method, r.URL.EscapedPath(), parts[0], parts[1])) {
		return false
	}
	at, err := strconv.ParseInt(parts[0], 10, 64)
	if off := time.Since(time.Unix(at, 0)); err != nil || off > clockSkew || off < -clockSkew {
		return false
	}
	first, _ := h.nonces.First(r.Context(), "peer "+parts[1], 2*clockSkew)
	return first
}

// ServePeer answers other replicas: PathPeer NODE/v1/…. It sends over links of this replica only, so that there is one
// hop at most, and answers 421 when there is none: then nothing was dispatched.
func (h *Hub) ServePeer(w http.ResponseWriter, r *http.Request) {
	if !h.isPeer(r) {
		h.refuse(w, http.StatusForbidden, reasonSignature, "This is for replicas of the installation.")
		return
	}
	id, path, ok := strings.Cut(strings.TrimPrefix(r.URL.Path, PathPeer), "/")
	if !ok {
		http.NotFound(w, r)
		return
	}
	// The whole body, before anything is sent: a body that is being relayed while the answer begins is closed by net/http's
	// server under the hands of its client, which cuts streams.
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		h.refuse(w, http.StatusBadRequest, reasonMalformed, "The body could not be read.")
		return
	}
	inner := r.Clone(r.Context())
	inner.URL = &url.URL{Path: "/" + path}
	inner.Body, inner.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	inner.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	if len(body) == 0 {
		inner.Body = http.NoBody
	}
	d := dispatch{request: inner}
	response, err := h.local(&d, id)
	switch {
	case err == nil:
		relay(w, response)
	case errors.Is(err, ErrAway):
		h.refuse(w, http.StatusMisdirectedRequest, reasonAway, "This replica has no link to the node.")
	case errors.Is(err, ErrBusy):
		w.Header().Set(HeaderBusy, "1")
		h.refuse(w, http.StatusTooManyRequests, reasonBusy, "The node is busy.")
	default:
		h.refuse(w, http.StatusBadGateway, reasonLink, "The link to the node failed.")
	}
}

// relay copies an answer and flushes every piece. An answer that breaks off is broken off here too: its end must not
// look like one.
func relay(w http.ResponseWriter, response *http.Response) {
	defer response.Body.Close()
	for name, values := range response.Header {
		w.Header()[name] = values
	}
	if response.ContentLength >= 0 {
		w.Header().Set("Content-Length", strconv.FormatInt(response.ContentLength, 10))
	}
	w.WriteHeader(response.StatusCode)
	flush := http.NewResponseController(w).Flush
	if response.ContentLength < 0 {
		_ = flush()
	}
	buffer := make([]byte, 16<<10)
	for {
		n, err := response.Body.Read(buffer)
		if n > 0 {
			if _, err := w.Write(buffer[:n]); err != nil {
				return
			}
			if response.ContentLength < 0 {
				_ = flush()
			}
		}
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			panic(http.ErrAbortHandler)
		}
	}
}
