package tunnel

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"shareai/internal/catalog"
)

var (
	errClosing    = errors.New("the replica is stopping")
	errSuperseded = errors.New("a newer process of the node has linked")
	errSilent     = errors.New("the node has said nothing for too long")
)

// link is the gateway's end of one connection.
type link struct {
	id      string
	hub     *Hub
	node    *node
	key     string
	boot    string
	seen    int64 // when any replica first saw this boot, microseconds
	opened  time.Time
	carrier *carrier
	client  *http.ClientConn
	ready   chan struct{} // closed once the link is usable
	leaving atomic.Bool   // takes no new requests
	rekeys  atomic.Bool   // one is being answered
	running atomic.Int64
	telling sync.Mutex // messages go one after the other
	mu      sync.Mutex
	idle    chan struct{}   // closed when running falls to 0; nil: nobody waits
	life    context.Context // ends with the link
	stop    context.CancelCauseFunc
}

// newClient makes the client of the HTTP/2 that the agent serves.
func newClient(ctx context.Context, conn net.Conn) (*http.ClientConn, error) {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{
		Protocols:          &protocols,
		DisableCompression: true,
		// What a node may send as headers.
		MaxResponseHeaderBytes: maxHeaders,
		DialContext:            func(context.Context, string, string) (net.Conn, error) { return conn, nil },
		HTTP2: &http.HTTP2Config{
			// Times the streams that nobody reads is the memory that they cost here. The window of the connection stays at
			// its default of 1 GiB: with less, streams that nobody reads would hold up all others.
			MaxReceiveBufferPerStream: 256 << 10,
			// The default of 1 MiB lets one frame hold a slow link for as long as it takes.
			MaxReadFrameSize: 16 << 10,
			// The default is no pings at all, and a peer that died in silence is never noticed. Less than 3 s would lose
			// living peers that are busy.
			SendPingTimeout: pingAfter,
			PingTimeout:     pingTimeout,
			// One connection is all there is.
			StrictMaxConcurrentRequests: true,
		},
	}
	return transport.NewClientConn(ctx, "http", "node:80")
}

// serve runs a link until it ends.
func (h *Hub) serve(l *link, c *carrier) {
	ctx := l.life
	l.carrier = c
	defer func() { _ = c.Close() }()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	client, err := newClient(ctx, c)
	if err != nil {
		l.node.forget(l)
		return
	}
	l.client = client
	defer func() { _ = client.Close() }()
	err = l.follow(ctx)
	select {
	case <-l.ready:
	default:
		l.node.forget(l)
		h.log.WarnContext(ctx, "a node linked and did not say what it is", "node", l.node.id, "link", l.id, "error", err)
		return
	}
	how := endingLost
	if cause := context.Cause(ctx); cause != nil {
		err, how = cause, endingClean
	} else if l.leaving.Load() || l.node.look().Draining {
		// The agent ends its events first and its requests later: to close now would cut them.
		how = endingClean
		l.leaving.Store(true)
		l.awaitEnd(ctx)
	}
	_ = client.Close()
	l.node.remove(l, how)
	h.wakeDirectory()
	h.log.InfoContext(ctx, "a link has ended", "node", l.node.id, "link", l.id, "after", time.Since(l.opened).Round(time.Millisecond), "error", err)
}

// awaitEnd waits for the agent to close, which it does when its requests have ended.
func (l *link) awaitEnd(ctx context.Context) {
	limit := time.NewTimer(l.hub.options.DrainTime)
	defer limit.Stop()
	select {
	case <-l.carrier.closed:
	case <-limit.C:
	case <-ctx.Done():
	}
}

// end closes the link at once, for a reason of this end.
func (l *link) end(cause error) {
	l.stop(cause) // which closes the connection, and with it everything that runs there
}

// follow reads the stream of events until it ends.
func (l *link) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	patience := time.AfterFunc(firstEventWithin, func() { cancel(errSilent) })
	defer patience.Stop()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://node"+pathEvents, nil)
	if err != nil {
		return err
	}
	response, err := l.client.RoundTrip(request)
	if err != nil {
		return fmt.Errorf("ask for events: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("ask for events: status %d", response.StatusCode)
	}
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(make([]byte, 0, 4<<10), maxEvent)
	for lines.Scan() {
		patience.Reset(silentAfter)
		read := time.Now()
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return fmt.Errorf("read an event: %w", err)
		}
		if err := e.check(); err != nil {
			return fmt.Errorf("read an event: %w", err)
		}
		l.take(ctx, &e)
		if e.Leaving {
			return nil // and the end of the request says that it was heard
		}
		pause(ctx, restAfter(len(lines.Bytes()))-time.Since(read))
	}
	if cause := context.Cause(ctx); errors.Is(cause, errSilent) {
		return cause
	}
	return lines.Err()
}

// restAfter is how long after an event the next one is read: a node may not keep the gateway busy with many, nor with long
// ones. One of the greatest length costs some milliseconds, and comes once a second at most.
func restAfter(bytes int) time.Duration {
	return max(eventPause, time.Second*time.Duration(bytes)/maxEvent)
}

// take does what an event says.
func (l *link) take(ctx context.Context, e *event) {
	e.Boot = l.boot
	if e.Rekey != nil {
		l.rekey(ctx, e.Rekey)
	}
	if l.node.apply(l, e) {
		l.hub.news.advertised(l.node.id, *e.Advertised)
	}
	select {
	case <-l.ready:
	default:
		l.open(ctx)
	}
	l.hub.wakeDirectory()
}

// open makes the link usable, which it is from its first event on.
func (l *link) open(ctx context.Context) {
	close(l.ready)
	for _, older := range l.node.add(l) {
		l.hub.log.WarnContext(ctx, "a newer process of a node has linked; the older one's link is closed", "node", l.node.id, "link", older.id)
		older.end(errSuperseded)
	}
	l.tell(control{Op: opOpen})
	l.hub.news.linked(l.node.id, l.key)
	l.hub.log.InfoContext(ctx, "a node has linked", "node", l.node.id, "link", l.id, "key", l.key)
	// The hub may have begun to drain, or the key may have gone, before this link could be seen.
	if l.hub.draining.Load() {
		l.tell(control{Op: opDrain})
	}
	if _, err := l.hub.options.Keys.NodeKey(l.node.id, l.key); err != nil {
		l.end(err)
	}
}

// rekey answers the node's question for a further key.
func (l *link) rekey(ctx context.Context, r *rekey) {
	if l.rekeys.Swap(true) {
		return // the node asks again
	}
	go func() {
		defer l.rekeys.Store(false)
		answer := control{Op: opRekey, ID: r.ID}
		switch {
		case l.hub.options.Rekey == nil:
			answer.Error = "this gateway does not replace keys"
		case len(r.Public) != ed25519.PublicKeySize || !ed25519.Verify(r.Public, rekeyProof(l.node.id, r.Public), r.Proof):
			answer.Error = "the new key was not proved"
		default:
			id, err := l.hub.options.Rekey(ctx, l.node.id, r.Public)
			if err != nil {
				l.hub.log.WarnContext(ctx, "a new key of a node was not accepted", "node", l.node.id, "error", err)
				answer.Error = "the gateway could not accept the key now"
			}
			answer.Key = id
		}
		l.send(ctx, answer)
	}()
}

// tell sends a message without waiting.
func (l *link) tell(c control) { go l.send(l.life, c) }

// send sends a message. That it did not arrive is not reported: the link is about to end then.
func (l *link) send(ctx context.Context, c control) {
	l.telling.Lock()
	defer l.telling.Unlock()
	ctx, cancel := context.WithTimeout(ctx, pingAfter+pingTimeout)
	defer cancel()
	// As of now, so that the last message has the last number: it may have changed while the link was opening.
	c.Replicas = int(l.hub.replicas.Load())
	body, err := json.Marshal(c)
	if err != nil {
		return
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://node"+pathControl, bytes.NewReader(body))
	if err != nil {
		return
	}
	response, err := l.client.RoundTrip(request)
	if err != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, response.Body, maxControl)
	_ = response.Body.Close()
}

// begin and done count requests.
func (l *link) begin() {
	l.running.Add(1)
	l.node.running.Add(1)
}

func (l *link) done() {
	l.node.running.Add(-1)
	if l.running.Add(-1) > 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.idle != nil && l.running.Load() == 0 {
		close(l.idle)
		l.idle = nil
	}
}

// quiet returns a channel that is closed when no request is running.
func (l *link) quiet() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.running.Load() == 0 {
		now := make(chan struct{})
		close(now)
		return now
	}
	if l.idle == nil {
		l.idle = make(chan struct{})
	}
	return l.idle
}

// Bounds of what a node may say of itself.
const (
	maxModels   = 2000
	maxEngines  = 100
	maxText     = 512
	maxNumber   = 1_000_000
	maxFeatures = 64
)

var errTooMuch = errors.New("it is longer than a node may say")

// check says whether an event is within bounds: a node is somebody else's machine.
func (e *event) check() error {
	for _, number := range []int{e.Capacity, e.InFlight, e.Queued} {
		if number < 0 || number > maxNumber {
			return errors.New("a number is out of range")
		}
	}
	if len(e.Idle) > maxText || e.Advertised != nil && !withinBounds(e.Advertised) {
		return errTooMuch
	}
	return nil
}

func withinBounds(a *catalog.Advertised) bool {
	if len(a.Models) > maxModels || len(a.Engines) > maxEngines || len(a.AgentVersion) > maxText {
		return false
	}
	for _, engine := range a.Engines {
		if len(engine.Name) > maxText || len(engine.Kind) > maxText || len(engine.Version) > maxText {
			return false
		}
	}
	for i := range a.Models {
		m := &a.Models[i]
		if len(m.ID) > maxText || len(m.Name) > maxText || len(m.Engine) > maxText || len(m.Capabilities) > maxFeatures || m.Context < 0 {
			return false
		}
	}
	return true
}
