package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"code.dny.dev/ssrf"

	"shareai/internal/catalog"
)

// guard says whether an address may be dialled: nil, or why not.
type guard func(netip.Addr) error

var errRefused = errors.New("address refused")

// never are the addresses that no provider can have a reason to live at: cloud metadata services and
// their like, which hand out credentials to whoever can reach them, and what is no single host.
var never = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("169.254.0.0/16"),         // metadata of nearly every cloud, task and pod credentials
	netip.MustParsePrefix("168.63.129.16/32"),       // Azure's platform endpoint
	netip.MustParsePrefix("100.100.100.200/32"),     // Alibaba Cloud
	netip.MustParsePrefix("192.0.0.192/32"),         // Oracle Cloud
	netip.MustParsePrefix("224.0.0.0/3"),            // multicast, reserved, broadcast
	netip.MustParsePrefix("::/128"),                 // unspecified
	netip.MustParsePrefix("64:ff9b:1::/48"),         // local NAT64: where the IPv4 address stands in it is anyone's choice
	netip.MustParsePrefix("2001::/32"),              // Teredo
	netip.MustParsePrefix("fd00:ec2::/32"),          // Amazon
	netip.MustParsePrefix("fd20:ce::/32"),           // Google
	netip.MustParsePrefix("fd00:42::42/128"),        // Scaleway
	netip.MustParsePrefix("fd00:c1::a9fe:a9fe/128"), // Oracle Cloud
	netip.MustParsePrefix("fe80::a9fe:a9fe/128"),    // OpenStack
	netip.MustParsePrefix("ff00::/8"),               // multicast
}

// embeddings are the IPv6 prefixes whose addresses carry an IPv4 address, and the byte at which it stands.
var embeddings = []struct {
	prefix netip.Prefix
	at     int
}{
	{netip.MustParsePrefix("::/96"), 12},
	{netip.MustParsePrefix("::ffff:0:0:0/96"), 12}, // SIIT
	{netip.MustParsePrefix("64:ff9b::/96"), 12},    // NAT64
	{netip.MustParsePrefix("2002::/16"), 2},        // 6to4
}

// publicOnly lets only addresses of the public internet pass.
func publicOnly() guard {
	public := ssrf.New(ssrf.WithAnyPort())
	return func(addr netip.Addr) error {
		if err := anywhereBut(addr); err != nil {
			return err
		}
		if err := public.SafeAddr(addr); err != nil {
			return fmt.Errorf("%w: %w", errRefused, err)
		}
		return nil
	}
}

// anywhereBut lets every address pass but those in never, also when it hides in an IPv6 address.
func anywhereBut(addr netip.Addr) error {
	addr = addr.WithZone("").Unmap()
	for _, prefix := range never {
		if prefix.Contains(addr) {
			return fmt.Errorf("%w: %s lies in %s", errRefused, addr, prefix)
		}
	}
	if addr == netip.IPv6Loopback() {
		return nil // the one address of ::/96 that carries nothing
	}
	for _, e := range embeddings {
		if e.prefix.Contains(addr) {
			b := addr.As16()
			return anywhereBut(netip.AddrFrom4([4]byte(b[e.at : e.at+4])))
		}
	}
	return nil
}

// egress opens every connection that leaves for a provider.
type egress struct {
	dialer net.Dialer
	tls    *tls.Config
}

// newEgress makes a dialer that asks the guard about the address it is about to connect to. That is
// after the name was resolved, so that neither the spelling of a host nor a name server that
// changes its mind gets past it.
func newEgress(allow guard, resolver *net.Resolver, config *tls.Config) *egress {
	return &egress{
		dialer: net.Dialer{
			Resolver: resolver,
			Control: func(_, address string, _ syscall.RawConn) error {
				to, err := netip.ParseAddrPort(address)
				if err != nil {
					return fmt.Errorf("%w: %w", errRefused, err)
				}
				return allow(to.Addr())
			},
		},
		tls: config,
	}
}

// dial opens a TCP connection. Its error is an *Error.
func (e *egress) dial(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := connecting(ctx)
	defer cancel()
	conn, err := e.dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, dialError(ctx, err)
	}
	return conn, nil
}

// dialTLS opens a TLS connection; the deadline covers the handshake. Its error is an *Error.
func (e *egress) dialTLS(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := connecting(ctx)
	defer cancel()
	raw, err := e.dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, dialError(ctx, err)
	}
	config := e.tls.Clone()
	if config.ServerName, _, err = net.SplitHostPort(address); err == nil {
		conn := tls.Client(raw, config)
		if err = conn.HandshakeContext(ctx); err == nil {
			return conn, nil
		}
	}
	_ = raw.Close()
	if ctx.Err() != nil {
		return nil, dialError(ctx, err)
	}
	return nil, &Error{Outcome: TLSFailed, Message: "The TLS handshake with the provider failed.", Cause: err}
}

// connectPlan travels in the context of a request to the dialer. http.Transport dials in a goroutine
// of its own, under a context that keeps the request's values but neither its end nor any deadline.
type connectPlan struct {
	call    context.Context // the request's own
	timeout time.Duration
}

type connectKey struct{}

// withConnect says how long a connection for requests under the context may take to open; 0 is
// catalog.DefaultConnect.
func withConnect(ctx context.Context, timeout time.Duration) context.Context {
	if timeout <= 0 {
		timeout = catalog.DefaultConnect
	}
	return context.WithValue(ctx, connectKey{}, &connectPlan{call: ctx, timeout: timeout})
}

// connecting is the context to dial under: it ends with the connect deadline or the request.
func connecting(ctx context.Context) (context.Context, context.CancelFunc) {
	plan, ok := ctx.Value(connectKey{}).(*connectPlan)
	if !ok {
		return context.WithTimeout(ctx, catalog.DefaultConnect)
	}
	ctx, cancel := context.WithTimeout(ctx, plan.timeout)
	stop := context.AfterFunc(plan.call, cancel)
	return ctx, func() {
		stop()
		cancel()
	}
}

// dialError classifies why there is no connection.
func dialError(ctx context.Context, err error) *Error {
	e := &Error{Outcome: ConnectFailed, Message: "The provider could not be reached.", Cause: err}
	var dns *net.DNSError
	switch {
	case errors.Is(err, errRefused):
		e.Outcome = RefusedAddress
		e.Message = "The provider's base_url leads to an address that the gateway must not reach; private_network: true allows private ones."
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		e.Outcome, e.Message = ConnectTimeout, "The provider could not be reached in time."
	case errors.As(err, &dns):
		e.Outcome, e.Message = DNSFailed, "The name of the provider's host does not resolve."
	case errors.Is(err, syscall.ECONNREFUSED):
		e.Message = "The provider refused the connection."
	}
	return e
}
