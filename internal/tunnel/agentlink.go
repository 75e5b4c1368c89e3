package tunnel

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

// agentLink is the agent's end of one connection.
type agentLink struct {
	dialer  *Dialer
	id      string
	replica string
	gateway string
	opened  time.Time
	carrier *carrier
	server  *http.Server
	running atomic.Int64
	once    sync.Once
	leaving chan struct{} // closed when it takes no new requests
	renew   chan struct{} // another link should take its place
	inUse   chan struct{} // closed when the gateway has said so
	use     sync.Once
	heard   chan struct{} // closed when the gateway knows that the link is leaving
	hear    sync.Once
}

// dialError is a dial that the gateway answered, but not with a link.
type dialError struct {
	status     int
	reason     string
	text       string
	retryAfter time.Duration
}

func (e *dialError) Error() string {
	return fmt.Sprintf("the gateway answered with status %d: %s", e.status, e.text)
}

// dial opens a link and serves it. replaces is the id of the link whose place it takes, if there is one.
func (d *Dialer) dial(ctx context.Context, replaces string) (*agentLink, error) {
	identity := d.current()
	address := d.tunnelURL()
	header := http.Header{}
	header.Set("Authorization", identity.authorization(d.options.Boot, time.Now().Add(time.Duration(d.skew.Load()))))
	if replaces != "" {
		header.Set(headerReplaces, replaces)
	}
	bounded, cancel := context.WithTimeout(ctx, handshakeTime)
	defer cancel()
	//nolint:bodyclose // the library closes it, or has read it
	socket, response, err := websocket.Dial(bounded, address, &websocket.DialOptions{
		HTTPClient: d.client, HTTPHeader: header, Subprotocols: []string{Subprotocol}, CompressionMode: websocket.CompressionDisabled,
	})
	if err != nil {
		return nil, d.refused(response, identity.Key, err)
	}
	if socket.Subprotocol() != Subprotocol {
		_ = socket.CloseNow()
		return nil, fmt.Errorf("%s does not answer like a gateway: is a proxy in between that does not pass WebSockets on?", address)
	}
	replicas, _ := strconv.Atoi(response.Header.Get(headerReplicas))
	l := &agentLink{
		dialer: d, id: response.Header.Get(headerLink), replica: response.Header.Get(headerReplica), gateway: address, opened: time.Now(),
		// The end of ctx is the beginning of the end: what runs goes on.
		carrier: newCarrier(context.WithoutCancel(ctx), socket),
		leaving: make(chan struct{}), renew: make(chan struct{}, 1), inUse: make(chan struct{}), heard: make(chan struct{}),
	}
	l.server = l.newServer(context.WithoutCancel(ctx))
	d.opened(l, identity)
	d.serving.Go(func() { l.serve(ctx) })
	d.setReplicas(replicas)
	d.log.InfoContext(ctx, "linked to the gateway", "gateway", address, "replica", l.replica, "link", l.id)
	return l, nil
}

// refused makes an error of an answer.
func (d *Dialer) refused(response *http.Response, key string, err error) error {
	if response == nil || response.StatusCode == http.StatusSwitchingProtocols {
		return fmt.Errorf("dial the gateway: %w", err)
	}
	text, _ := io.ReadAll(io.LimitReader(response.Body, 512))
	e := &dialError{
		status: response.StatusCode, reason: response.Header.Get(headerReason), text: strings.TrimSpace(string(text)),
	}
	if seconds, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil && seconds > 0 {
		e.retryAfter = min(time.Duration(seconds)*time.Second, maxRetryAfter)
	}
	switch e.reason {
	case reasonClock:
		if date, err := http.ParseTime(response.Header.Get("Date")); err == nil {
			d.skew.Store(int64(time.Until(date)))
		}
	case reasonUnknown:
		d.unknown(key)
	case reasonRevoked:
		return fmt.Errorf("%w: %s", ErrRevoked, e.text)
	case reasonSuperseded:
		return fmt.Errorf("%w: %s", ErrSuperseded, e.text)
	}
	return e
}

// newServer returns the HTTP/2 server of one connection.
func (l *agentLink) newServer(ctx context.Context) *http.Server {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+pathEvents, l.serveEvents)
	mux.HandleFunc("POST "+pathControl, l.serveControl)
	engine := http.StripPrefix(pathEngine, l.dialer.options.Engine)
	mux.HandleFunc(pathEngine+"/", func(w http.ResponseWriter, r *http.Request) {
		l.running.Add(1)
		defer l.running.Add(-1)
		engine.ServeHTTP(w, r)
	})
	return &http.Server{
		Handler: mux, Protocols: &protocols, ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: maxHeaders,
		ErrorLog:    slog.NewLogLogger(l.dialer.log.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return ctx },
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: maxStreams,
			// The window of the connection has to be at least that of a stream times the number of streams: bodies that an
			// engine does not read hold up all others otherwise. With the default, 1 MiB for both, one such body is enough.
			MaxReceiveBufferPerConnection: 1 << 30,
			MaxReceiveBufferPerStream:     1 << 20,
			MaxReadFrameSize:              16 << 10,
			// The agent has to notice a dead gateway as well; the default is no pings.
			SendPingTimeout: pingAfter,
			PingTimeout:     pingTimeout,
		},
	}
}

// serve answers the gateway until the connection ends.
func (l *agentLink) serve(ctx context.Context) {
	defer l.dialer.closed(l)
	_ = l.server.Serve(&single{carrier: l.carrier, accepted: make(chan struct{}, 1), closed: make(chan struct{})})
	// After a Shutdown the connection is still there.
	<-l.carrier.closed
	_ = l.server.Close()
	l.dialer.log.InfoContext(ctx, "a link to the gateway has ended", "replica", l.replica, "link", l.id, "after", time.Since(l.opened).Round(time.Millisecond))
}

// leave takes no new requests, waits for the running ones until ctx ends, and closes.
func (l *agentLink) leave(ctx context.Context) {
	l.once.Do(func() { close(l.leaving) })
	select {
	case <-l.heard:
		// A request for which the link was chosen just before may be a moment behind. HTTP/2 would refuse it.
		pause(ctx, lastRequests)
	case <-l.carrier.closed:
	case <-time.After(2 * hearWithin): // the gateway never asked for events
	case <-ctx.Done():
	}
	_ = l.server.Shutdown(ctx)
	_ = l.server.Close()
	_ = l.carrier.Close()
}

func (l *agentLink) isLeaving() bool {
	select {
	case <-l.leaving:
		return true
	default:
		return false
	}
}

// requestRenewal asks for a link that takes the place of this one.
func (l *agentLink) requestRenewal() {
	select {
	case l.renew <- struct{}{}:
	default:
	}
}

// serveEvents is the stream of what the node says of itself: whenever that changes, though not more often than once in
// debounce, and with every heartbeat.
func (l *agentLink) serveEvents(w http.ResponseWriter, r *http.Request) {
	board := l.dialer.options.Board
	out := json.NewEncoder(w)
	flush := http.NewResponseController(w).Flush
	beat := time.NewTimer(heartbeat)
	defer beat.Stop()
	w.Header().Set("Content-Type", "application/x-ndjson")
	var told uint64 // number of the models that the gateway knows
	var question *rekey
	for {
		state, models, sequence, changed := board.read()
		e := event{
			Version: 1, Sequence: sequence, Boot: l.dialer.options.Boot, Capacity: state.Capacity, InFlight: state.InFlight,
			Queued: state.Queued, Idle: state.Idle, TokensPerSecond: state.TokensPerSecond, Draining: state.Draining,
			Leaving: l.isLeaving(), Rekey: question,
		}
		// Before the agent has looked around it says nothing of its models: the gateway keeps what it knows of them.
		if models != told {
			e.Advertised, told = &state.Advertised, models
		}
		if out.Encode(&e) != nil || flush() != nil {
			return
		}
		if e.Leaving {
			l.awaitHeard(r.Context())
			return
		}
		beat.Reset(heartbeat)
		if question = l.awaitNews(r.Context(), changed, beat.C); r.Context().Err() != nil {
			return
		}
	}
}

// awaitHeard waits until the gateway has ended the stream of events, which says that it sends no more requests.
func (l *agentLink) awaitHeard(ctx context.Context) {
	limit := time.NewTimer(hearWithin)
	defer limit.Stop()
	select {
	case <-ctx.Done():
	case <-limit.C:
	}
	l.hear.Do(func() { close(l.heard) })
}

// awaitNews returns when there is something to say: a question, when that is what it is.
func (l *agentLink) awaitNews(ctx context.Context, changed <-chan struct{}, beat <-chan time.Time) *rekey {
	sent := time.Now()
	select {
	case <-changed:
		timer := time.NewTimer(debounce - time.Since(sent))
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-l.leaving:
		case <-ctx.Done():
		}
	case <-beat:
	case <-l.leaving:
	case question := <-l.dialer.asks:
		return question
	case <-ctx.Done():
	}
	return nil
}

// serveControl does what the gateway says.
func (l *agentLink) serveControl(w http.ResponseWriter, r *http.Request) {
	var c control
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxControl)).Decode(&c); err != nil {
		http.Error(w, "not a message", http.StatusBadRequest)
		return
	}
	if c.Replicas > 0 {
		l.dialer.setReplicas(c.Replicas)
	}
	switch c.Op {
	case opOpen:
		l.use.Do(func() { close(l.inUse) })
	case opDrain:
		l.requestRenewal()
	case opReplicas: // all that it says was said above
	case opRekey:
		l.dialer.answered(c)
	default:
		http.NotFound(w, r)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// single is a listener of one connection, which ends with it.
type single struct {
	carrier  *carrier
	accepted chan struct{}
	once     sync.Once
	closed   chan struct{}
}

// Accept implements net.Listener.
func (s *single) Accept() (net.Conn, error) {
	select {
	case s.accepted <- struct{}{}:
		return s.carrier, nil
	case <-s.carrier.closed:
		return nil, net.ErrClosed
	case <-s.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (s *single) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

// Addr implements net.Listener.
func (s *single) Addr() net.Addr { return s.carrier.LocalAddr() }
