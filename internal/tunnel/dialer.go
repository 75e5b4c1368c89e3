package tunnel

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Why a Dialer gives up.
var (
	// ErrRevoked says that the gateway has shut the node out.
	ErrRevoked = errors.New("the gateway has revoked this node")
	// ErrSuperseded says that a newer process uses the node's key, perhaps on another machine.
	ErrSuperseded = errors.New("a newer agent uses the key of this node")
)

// DialerOptions are what a Dialer needs.
type DialerOptions struct {
	// Gateways are the base URLs of the gateway: https://ai.example.com. One is enough; of several each is tried in turn.
	Gateways []string
	Identity Identity
	Boot     string       // of this process; empty: one is made
	Board    *Board       // what the node says of itself
	Engine   http.Handler // answers requests; their path is the engine's: /v1/chat/completions
	// Proxy says how to get out, as http.Transport's. nil: as the environment says (HTTPS_PROXY, NO_PROXY).
	Proxy   func(*http.Request) (*url.URL, error)
	RootCAs *x509.CertPool // nil: the system's
	// MaxAge is after how long a link makes way for a new one, give or take a third. So new replicas get their share, and
	// proxies that were told to stop can. 0: 90 min.
	MaxAge time.Duration
	// DrainTime bounds how long running requests are waited for, when a link makes way and at the end. 0: 10 min.
	DrainTime time.Duration
	Log       *slog.Logger // nil: nothing is logged
}

// Dialer is the agent's end: it keeps links to as many replicas as there are, but no more than two.
type Dialer struct {
	options DialerOptions
	log     *slog.Logger
	client  *http.Client
	next    atomic.Uint64 // of the gateways
	skew    atomic.Int64  // what the gateway's clock is ahead, nanoseconds
	asks    chan *rekey   // for whichever link takes it
	serving sync.WaitGroup

	mu       sync.Mutex
	identity Identity
	previous *Identity // until the new one was let in
	former   bool      // the next dial uses the previous one
	wanted   int       // links
	more     chan struct{}
	links    []*agentLink
	answers  map[string]chan control // of rekey questions
}

// maxLinks is to how many replicas a node links. Two let one die without the node being away; more would be links that
// nobody needs, since replicas forward to each other.
const maxLinks = 2

// NewDialer returns a dialer. Its Run does the work.
func NewDialer(options DialerOptions) (*Dialer, error) {
	if len(options.Gateways) == 0 || options.Board == nil || options.Engine == nil {
		return nil, errors.New("tunnel: Gateways, Board and Engine are required")
	}
	if options.Identity.Node == "" || options.Identity.Key == "" || len(options.Identity.Private) != ed25519.PrivateKeySize {
		return nil, errors.New("tunnel: the identity is not complete")
	}
	for _, gateway := range options.Gateways {
		if u, err := url.Parse(gateway); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return nil, fmt.Errorf("the gateway's URL has to look like https://ai.example.com, not like %q", gateway)
		}
	}
	options.Boot = cmp.Or(options.Boot, rand.Text())
	options.MaxAge = cmp.Or(options.MaxAge, 90*time.Minute)
	options.DrainTime = cmp.Or(options.DrainTime, 10*time.Minute)
	if options.Proxy == nil {
		options.Proxy = http.ProxyFromEnvironment
	}
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}
	return &Dialer{
		options: options, log: options.Log, client: newDialClient(&options), identity: options.Identity, wanted: 1,
		more: make(chan struct{}), asks: make(chan *rekey), answers: map[string]chan control{},
	}, nil
}

// newDialClient returns the client that makes the upgrade.
func newDialClient(options *DialerOptions) *http.Client {
	// Through an HTTP/2 front the upgrade would be refused.
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	dialer := net.Dialer{
		Timeout: handshakeTime, Control: keepQueueShort,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: tcpKeepAlive, Interval: tcpKeepAlive, Count: 3},
	}
	return &http.Client{
		Transport: &http.Transport{
			Proxy: options.Proxy, DialContext: dialer.DialContext, Protocols: &protocols, TLSHandshakeTimeout: 10 * time.Second,
			TLSClientConfig:        &tls.Config{RootCAs: options.RootCAs, NextProtos: []string{"http/1.1"}, MinVersion: tls.VersionTLS12},
			MaxResponseHeaderBytes: maxHeaders, DisableKeepAlives: true,
		},
		// Whoever can redirect a dial would get an assertion.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Run keeps the links until ctx ends or the gateway shuts the node out: the error is nil, ErrRevoked or ErrSuperseded.
// Before it returns it lets running requests finish, within DrainTime.
func (d *Dialer) Run(ctx context.Context) error {
	inner, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var slots sync.WaitGroup
	for slot := range maxLinks {
		slots.Go(func() {
			if err := d.keep(inner, slot); err != nil {
				cancel(err)
			}
		})
	}
	slots.Wait()
	d.serving.Wait()
	if cause := context.Cause(inner); ctx.Err() == nil && cause != nil {
		return cause
	}
	return nil
}

// DialerLink is a link as the agent sees it.
type DialerLink struct {
	Replica string // of the gateway
	Gateway string // URL
	Opened  time.Time
	Leaving bool
	Running int // requests
}

// Links returns the links that are open, the oldest first.
func (d *Dialer) Links() []DialerLink {
	d.mu.Lock()
	defer d.mu.Unlock()
	links := make([]DialerLink, 0, len(d.links))
	for _, l := range d.links {
		links = append(links, DialerLink{
			Replica: l.replica, Gateway: l.gateway, Opened: l.opened, Leaving: l.isLeaving(), Running: int(l.running.Load()),
		})
	}
	return links
}

// Rotate asks the gateway to accept a new key, over a link that the present key has opened, and returns the identity
// with it. It is in use once it was given to Adopt, which has to wait until it is stored: the gateway forgets the
// present key with the first dial that uses the new one.
func (d *Dialer) Rotate(ctx context.Context) (Identity, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return Identity{}, fmt.Errorf("make a key: %w", err)
	}
	identity := d.current()
	question := &rekey{ID: newID(), Public: public, Proof: ed25519.Sign(private, rekeyProof(identity.Node, public))}
	answers := make(chan control, 1)
	d.mu.Lock()
	d.answers[question.ID] = answers
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		delete(d.answers, question.ID)
		d.mu.Unlock()
	}()
	select {
	case d.asks <- question:
	case <-ctx.Done():
		return Identity{}, fmt.Errorf("ask for a new key: no link is open: %w", ctx.Err())
	}
	select {
	case answer := <-answers:
		if answer.Error != "" || answer.Key == "" {
			return Identity{}, fmt.Errorf("ask for a new key: %s", cmp.Or(answer.Error, "the gateway gave it no id"))
		}
		identity.Key, identity.Private = answer.Key, private
		return identity, nil
	case <-ctx.Done():
		return Identity{}, fmt.Errorf("ask for a new key: %w", ctx.Err())
	}
}

// Adopt uses another identity from now on. Links that the former one opened make way for new ones.
func (d *Dialer) Adopt(identity Identity) {
	d.mu.Lock()
	defer d.mu.Unlock()
	previous := d.identity
	d.previous, d.identity = &previous, identity
	for _, l := range d.links {
		l.requestRenewal()
	}
}

// current returns the identity to dial with.
func (d *Dialer) current() Identity {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.former && d.previous != nil {
		return *d.previous
	}
	return d.identity
}

// answered passes the gateway's answer to whoever asked.
func (d *Dialer) answered(c control) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if waiting, ok := d.answers[c.ID]; ok {
		delete(d.answers, c.ID)
		waiting <- c
	}
}

// setReplicas says how many replicas there are.
func (d *Dialer) setReplicas(count int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	wanted := min(max(count, 1), maxLinks)
	if wanted > d.wanted {
		close(d.more)
		d.more = make(chan struct{})
	}
	d.wanted = wanted
}

// awaitWanted waits until a link with this number is wanted.
func (d *Dialer) awaitWanted(ctx context.Context, slot int) error {
	for {
		d.mu.Lock()
		wanted, more := d.wanted, d.more
		d.mu.Unlock()
		if slot < wanted {
			return ctx.Err()
		}
		select {
		case <-more:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// keep keeps one link. The error is one to give up for.
func (d *Dialer) keep(ctx context.Context, slot int) error {
	var back backoff
	for d.awaitWanted(ctx, slot) == nil {
		l, err := d.dial(ctx, "")
		if err == nil {
			opened := time.Now()
			err = d.hold(ctx, l)
			if time.Since(opened) >= healthyAfter {
				back = backoff{}
			}
		}
		if errors.Is(err, ErrRevoked) || errors.Is(err, ErrSuperseded) {
			return err
		}
		if ctx.Err() == nil {
			wait := back.next(err)
			d.log.InfoContext(ctx, "no link to the gateway; dialling again", "error", err, "wait", wait.Round(time.Millisecond))
			pause(ctx, wait)
		}
	}
	return nil
}

var errLinkLost = errors.New("the link was lost")

// hold serves a link, and those that take its place, until there is none.
func (d *Dialer) hold(ctx context.Context, l *agentLink) error {
	for {
		// Give or take a third: links that were opened at once do not make way at once.
		age := time.NewTimer(d.options.MaxAge*2/3 + jitter(d.options.MaxAge*2/3))
		select {
		case <-ctx.Done():
			age.Stop()
			d.options.Board.Update(func(s *State) { s.Draining = true })
			d.retire(ctx, l)
			return nil
		case <-l.carrier.closed:
			age.Stop()
			return errLinkLost
		case <-l.renew:
			age.Stop()
		case <-age.C:
		}
		next, err := d.replace(ctx, l)
		if err != nil {
			return err
		}
		if next != nil {
			former := l
			d.serving.Go(func() { d.retire(ctx, former) })
			l = next
		}
	}
}

// replace dials until a link has taken the place of l, or there is no place any more: l is closed, or ctx ended.
func (d *Dialer) replace(ctx context.Context, l *agentLink) (*agentLink, error) {
	var back backoff
	for {
		next, err := d.dial(ctx, l.id)
		if err == nil {
			// The gateway sends nothing over the new link before it knows its state, and something over the old one until
			// then.
			select {
			case <-next.inUse:
			case <-next.carrier.closed:
			case <-l.carrier.closed:
			}
			return next, nil
		}
		if errors.Is(err, ErrRevoked) || errors.Is(err, ErrSuperseded) {
			return nil, err
		}
		timer := time.NewTimer(back.next(err))
		select {
		case <-timer.C:
			continue
		case <-l.carrier.closed:
		case <-ctx.Done():
		}
		timer.Stop()
		return nil, nil //nolint:nilnil // hold looks again at what has happened
	}
}

// retire lets a link finish what is running on it, and closes it.
func (d *Dialer) retire(ctx context.Context, l *agentLink) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.options.DrainTime)
	defer cancel()
	l.leave(ctx)
}

const (
	minBackoff   = 250 * time.Millisecond
	maxBackoff   = 30 * time.Second
	healthyAfter = 30 * time.Second
	renewLater   = 5 * time.Second
	// maxRetryAfter bounds what a gateway may ask for.
	maxRetryAfter = 5 * time.Minute
)

// backoff grows with every failure. Its waits are anything up to what it has grown to, so that agents that lost
// the gateway together do not come back together.
type backoff struct{ failures int }

func (b *backoff) next(err error) time.Duration {
	most := min(minBackoff<<min(b.failures, 16), maxBackoff)
	b.failures++
	var refused *dialError
	if !errors.As(err, &refused) {
		return jitter(most)
	}
	switch refused.reason {
	case reasonClock:
		return jitter(minBackoff) // the clock has been corrected
	case reasonDuplicate:
		most = min(most, 5*time.Second) // the load balancer chose the same replica: it chooses anew
	case reasonVersion:
		most = maxBackoff
	}
	return refused.retryAfter + jitter(most)
}

// jitter returns anything from nothing to d.
func jitter(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return mathrand.N(d)
}

// opened notes a link, closed that it is gone.
func (d *Dialer) opened(l *agentLink, identity Identity) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.links = append(d.links, l)
	d.former = false
	if identity.Key == d.identity.Key {
		d.previous = nil
		return
	}
	// The key was replaced while this dial was under way, or this replica had not heard of the new one.
	time.AfterFunc(renewLater, l.requestRenewal)
}

func (d *Dialer) closed(l *agentLink) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.links = slices.DeleteFunc(d.links, func(o *agentLink) bool { return o == l })
}

// unknown is called when the gateway does not know a key. One that was just accepted may not have reached every
// replica: the former one is still good then, and both are tried in turn.
func (d *Dialer) unknown(key string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.former = d.previous != nil && d.identity.Key == key
}

// tunnelURL returns the address of the next gateway.
func (d *Dialer) tunnelURL() string {
	n := d.next.Add(1) - 1
	return strings.TrimSuffix(d.options.Gateways[n%uint64(len(d.options.Gateways))], "/") + PathTunnel
}
