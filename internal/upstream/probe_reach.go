package upstream

import (
	"context"
	"net"
	"net/http"
	"net/url"

	"shareai/internal/catalog"
)

// modelsPath is the list of models below a base URL: the one thing that every OpenAI-compatible API gives
// away for nothing.
const modelsPath = "/models"

// Probe asks free of charge whether a provider is there. It is when it answers below 500, even with
// 404: not every engine has a list of models; a TCP probe is content with a connection, and a TLS handshake for https.
// The error is an *Error, whose Status is 0 when there was no answer; 401 and 403 are errors too, of a
// provider that is there and does not take the key.
func (c *Client) Probe(ctx context.Context, target Target, kind catalog.ProbeKind) error {
	provider := target.Provider
	if provider.Dialect == catalog.Simulated {
		return simulation{provider}.probe(ctx)
	}
	address, err := modelsAddress(provider)
	if err != nil {
		return &Error{Outcome: NotFound, Status: http.StatusNotFound, Message: "The probe can not be addressed: " + err.Error() + ".", Cause: err}
	}
	way := c.public
	if provider.PrivateNetwork {
		way = c.private
	}
	if kind == catalog.ProbeTCP {
		return failureOf(way.knock(withConnect(ctx, 0), address))
	}
	return failureOf(c.list(withConnect(ctx, 0), way, address, target))
}

// failureOf keeps a nil *Error from becoming an error that is not nil.
func failureOf(f *Error) error {
	if f == nil {
		return nil
	}
	return f
}

func modelsAddress(p *catalog.Provider) (base *url.URL, err error) {
	if p.Dialect == catalog.Azure {
		base, err = azure{}.base(p)
	} else {
		base, err = baseURL(p.BaseURL)
	}
	if err != nil {
		return nil, err
	}
	return below(base, modelsPath)
}

// knock opens a connection and closes it.
func (l *lane) knock(ctx context.Context, address *url.URL) *Error {
	dial, port := l.out.dial, "80"
	if address.Scheme == "https" {
		dial, port = l.out.dialTLS, "443"
	}
	if given := address.Port(); given != "" {
		port = given
	}
	conn, err := dial(ctx, "tcp", net.JoinHostPort(address.Hostname(), port))
	if err != nil {
		return broken(ctx, err)
	}
	_ = conn.Close()
	return nil
}

// list asks for the list of models and reads none of it.
func (c *Client) list(ctx context.Context, way *lane, address *url.URL, target Target) *Error {
	req := (&http.Request{
		Method: http.MethodGet, URL: address, Host: address.Host,
		Header: http.Header{"Accept": {"application/json"}, "User-Agent": {c.userAgent}},
		Proto:  "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}).WithContext(ctx)
	if secret := target.Key.Secret; !secret.Empty() {
		name, value := dialects[target.Provider.Dialect].credential(secret.Reveal())
		if !validValue(value) {
			return &Error{Outcome: KeyRejected, Status: http.StatusUnauthorized, Message: "The provider key contains characters that can not be sent in a header."}
		}
		req.Header.Set(name, value)
	}
	resp, err := way.secure.RoundTrip(req) // net/http's transport: the plain one is for requests with a body
	if err != nil {
		return broken(ctx, err)
	}
	switch status := resp.StatusCode; {
	case status == http.StatusUnauthorized, status == http.StatusForbidden,
		status >= 500 && status != http.StatusNotImplemented:
		return refusal(ctx, resp)
	}
	_ = resp.Body.Close()
	return nil
}

// probe is Probe of a simulated provider: one whose every connection fails is not there.
func (s simulation) probe(ctx context.Context) error {
	settings := &s.provider.Simulation
	if settings.FaultShare > 0 && settings.FaultShare < 1 {
		return nil
	}
	switch settings.Fault {
	case catalog.FaultRefused:
		return &Error{Outcome: ConnectFailed, Message: "The provider refused the connection."}
	case catalog.FaultHang:
		<-ctx.Done()
		return ended(ctx)
	default:
		return nil
	}
}
