package adminapi

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"shareai/internal/account"
	"shareai/internal/fault"
	"shareai/internal/identity"
)

// The cookies. Those of a gateway that is reached by https have a prefix that makes browsers refuse them from any
// other host and without TLS. Without TLS there is a session only on this machine, or where the operator says by
// an http:// public_url that his network may see it.
const (
	secureCookie  = "__Host-shareai"
	plainCookie   = "shareai_session"
	secureJourney = "__Host-shareai-sso"
	plainJourney  = "shareai_sso"
)

// journeyTime is how long a sign-in elsewhere may take.
const journeyTime = 10 * time.Minute

// transport is how safely a browser reached the gateway.
type transport byte

const (
	unsafe  transport = iota // by the network, without TLS
	local                    // on this machine, or as the operator wants it
	secured                  // by TLS, here or at a proxy
)

func (a *API) transport(r *http.Request) transport {
	public := ""
	if a.Identity != nil {
		public = a.Identity.PublicURL()
	}
	switch {
	case r.TLS != nil || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https"):
		return secured
	case loopback(r.Host):
		return local
	case strings.HasPrefix(public, "https://"): // behind a proxy that does not say so
		return secured
	case strings.HasPrefix(public, "http://"):
		return local
	default:
		return unsafe
	}
}

// loopback says whether an address of the browser's is this machine.
func loopback(authority string) bool {
	name, _, err := net.SplitHostPort(authority)
	if err != nil {
		name = strings.Trim(authority, "[]")
	}
	ip, err := netip.ParseAddr(name)
	return name == "localhost" || strings.HasSuffix(name, ".localhost") || err == nil && ip.IsLoopback()
}

// cookie reads one of two cookies: only the one that fits the way here counts.
func (a *API) cookie(r *http.Request, secure, plain string) account.Secret {
	name := plain
	if a.transport(r) == secured {
		name = secure
	}
	if c, err := r.Cookie(name); err == nil {
		return account.NewSecret(c.Value)
	}
	return account.Secret{}
}

// sessionToken is what a browser sends of a session.
func (a *API) sessionToken(r *http.Request) account.Secret {
	return a.cookie(r, secureCookie, plainCookie)
}

// bake makes a cookie; an empty value takes it away.
func (a *API) bake(ctx context.Context, secure, plain string, value account.Secret, age time.Duration) string {
	c := &http.Cookie{Name: plain, Value: value.Reveal(), Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode, MaxAge: int(age.Seconds())}
	if a.transport(requestOf(ctx)) == secured {
		c.Name, c.Secure = secure, true
	}
	if value.Empty() {
		c.MaxAge = -1
	}
	return c.String()
}

// sessionCookie is the cookie of a session that began.
func (a *API) sessionCookie(ctx context.Context, s *identity.Started) string {
	return a.bake(ctx, secureCookie, plainCookie, s.Token, time.Until(s.Session.Expires))
}

// refuseUnsafe refuses to let a session begin that others could take over on its way.
func (a *API) refuseUnsafe(ctx context.Context) error {
	if a.transport(requestOf(ctx)) != unsafe {
		return nil
	}
	return fault.New(fault.Forbidden, "insecure_connection",
		"Signing in needs https, or a browser on the gateway's own machine. Put a proxy with TLS before it, or set accounts.public_url to an http:// address where the network is trusted.")
}

type requestKey struct{}

// requestOf is the request of a context that ServeHTTP made.
func requestOf(ctx context.Context) *http.Request {
	r, _ := ctx.Value(requestKey{}).(*http.Request)
	return r
}

// client is the browser or program that calls.
func (a *API) client(ctx context.Context) identity.Client {
	r := requestOf(ctx)
	return identity.Client{From: host(r.RemoteAddr), Agent: r.UserAgent(), Token: a.sessionToken(r)}
}
