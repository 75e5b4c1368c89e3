package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"time"

	"shareai/internal/catalog"
	"shareai/internal/egress"
)

// Options configure a Client. The zero value is good for production.
type Options struct {
	// Nodes carries requests to nodes. Nil: none can be reached.
	Nodes Nodes
	// UserAgent is sent with every request; empty: "shareai".
	UserAgent string
	// RootCAs are the certificate authorities to trust; nil: the system's.
	RootCAs *x509.CertPool
	// Resolver looks names up; nil: the system's.
	Resolver *net.Resolver
	// IdlePerHost is how many unused connections to one host are kept; 0: 1024.
	IdlePerHost int
	// IdleTimeout is how long an unused connection is kept; 0: 90 s. Plain HTTP
	// keeps it 4 s at most: see plainIdle.
	IdleTimeout time.Duration
}

func (o Options) withDefaults() Options {
	if o.UserAgent == "" {
		o.UserAgent = "shareai"
	}
	if o.IdlePerHost == 0 {
		o.IdlePerHost = 1024
	}
	if o.IdleTimeout == 0 {
		o.IdleTimeout = 90 * time.Second
	}
	return o
}

// Nodes carries requests over the links that nodes have opened.
type Nodes interface {
	// Node is the way to the node with this id. An error of its RoundTrip is an *Error with the outcome NodeAway or
	// NodeBusy where the node has not begun; any other says that the exchange broke.
	Node(id string) http.RoundTripper
}

// Client speaks to deployments. It is safe for concurrent use.
type Client struct {
	userAgent string
	nodes     Nodes
	addresses addressBook
	// Providers that may live on a private network share no connection with those that may not: what
	// one may reach must not be handed to the other.
	public, private *lane
}

// New makes a client.
func New(options Options) *Client {
	options = options.withDefaults()
	return &Client{
		userAgent: options.UserAgent,
		nodes:     options.Nodes,
		public:    newLane(egress.PublicOnly(), options),
		private:   newLane(egress.AnywhereBut, options),
	}
}

// Close closes the connections that are not in use; the others are closed when their call ends.
func (c *Client) Close() {
	c.public.close()
	c.private.close()
}

// Do sends the call and returns the answer: complete for a unary call, from its head on for a stream.
// It returns as soon as ctx ends; a stream ends with ctx too, so that ctx must live as long as
// the answer is read. The error is an *Error.
func (c *Client) Do(ctx context.Context, call *Call) (*Answer, error) {
	req, failure := c.request(ctx, call)
	if failure != nil {
		return nil, failure
	}
	carrier := c.carrier(call)
	if call.Drill != nil {
		carrier = drilled{next: carrier, fault: call.Drill.Fault, stream: call.Request.Stream}
	}
	resp, err := carrier.RoundTrip(req)
	if err != nil {
		return nil, broken(ctx, err)
	}
	at := time.Now()
	if call.OnHeaders != nil {
		call.OnHeaders()
	}
	answer, failure := receive(ctx, call, resp)
	if failure != nil {
		failure.Header, failure.HeadersAt = resp.Header, at
		return nil, failure
	}
	answer.HeadersAt = at
	return answer, nil
}

// carrier is what takes a call's request to its provider.
func (c *Client) carrier(call *Call) http.RoundTripper {
	switch {
	case call.Provider.Dialect == catalog.Simulated:
		return simulation{call.Provider}
	case call.Provider.Node != "" && c.nodes == nil:
		return nowhere{}
	case call.Provider.Node != "":
		return c.nodes.Node(call.Provider.Node)
	case call.Provider.PrivateNetwork:
		return c.private
	default:
		return c.public
	}
}

// nowhere is the way to a node where there are no links.
type nowhere struct{}

// RoundTrip implements http.RoundTripper.
func (nowhere) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, &Error{Outcome: NodeAway, Message: "The node is not connected."}
}

// lane carries requests under one guard, each by the transport of its scheme.
type lane struct {
	out    *outlet
	plain  carrier
	secure carrier
}

// carrier is a transport with a pool.
type carrier interface {
	http.RoundTripper
	CloseIdleConnections()
}

func newLane(allow egress.Guard, options Options) *lane {
	out := newEgress(allow, options.Resolver, &tls.Config{
		MinVersion:         tls.VersionTLS12,
		RootCAs:            options.RootCAs,
		NextProtos:         []string{"h2", "http/1.1"},
		ClientSessionCache: tls.NewLRUClientSessionCache(256),
	})
	l := &lane{out: out, secure: newTransport(out, options)}
	l.plain = l.secure
	if canProbe {
		l.plain = newPlainTransport(out.dial, options)
	}
	return l
}

// RoundTrip implements http.RoundTripper.
func (l *lane) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme == "http" {
		return l.plain.RoundTrip(req)
	}
	return l.secure.RoundTrip(req)
}

func (l *lane) close() {
	l.plain.CloseIdleConnections()
	l.secure.CloseIdleConnections()
}

// maxHead bounds the head of an answer in bytes.
const maxHead = 64 << 10

// newTransport is net/http's transport over our dialer: for https, with HTTP/2 where the provider has it.
func newTransport(out *outlet, options Options) *http.Transport {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	return &http.Transport{
		Proxy:                  nil, // a proxy would dial for us, unchecked
		DialContext:            out.dial,
		DialTLSContext:         out.dialTLS,
		Protocols:              &protocols,
		DisableCompression:     true,
		MaxIdleConns:           4 * options.IdlePerHost,
		MaxIdleConnsPerHost:    options.IdlePerHost,
		IdleConnTimeout:        options.IdleTimeout,
		MaxResponseHeaderBytes: maxHead,
		HTTP2: &http.HTTP2Config{
			// A connection that many streams share must be found dead before their deadlines pass.
			SendPingTimeout: 15 * time.Second,
			PingTimeout:     10 * time.Second,
			// What a provider may send ahead of a slow client, for each stream.
			MaxReceiveBufferPerStream: 1 << 20,
		},
	}
}
