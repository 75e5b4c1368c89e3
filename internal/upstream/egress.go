package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"syscall"
	"time"

	"shareai/internal/catalog"
	"shareai/internal/egress"
)

// outlet opens every connection that leaves for a provider.
type outlet struct {
	dialer net.Dialer
	tls    *tls.Config
}

// newEgress makes a dialer that asks the guard about the address it is about to connect to.
func newEgress(allow egress.Guard, resolver *net.Resolver, config *tls.Config) *outlet {
	return &outlet{dialer: net.Dialer{Resolver: resolver, Control: allow.Control}, tls: config}
}

// dial opens a TCP connection. Its error is an *Error.
func (e *outlet) dial(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := connecting(ctx)
	defer cancel()
	conn, err := e.dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, dialError(ctx, err)
	}
	return conn, nil
}

// dialTLS opens a TLS connection; the deadline covers the handshake. Its error is an *Error.
func (e *outlet) dialTLS(ctx context.Context, network, address string) (net.Conn, error) {
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
	case errors.Is(err, egress.ErrRefused):
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
