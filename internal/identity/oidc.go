package identity

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"shareai/internal/account"
	"shareai/internal/audit"
	"shareai/internal/fault"
)

// Provider is an OpenID provider at which users sign in.
type Provider struct {
	Name         string // in addresses
	Label        string // for people; empty: Name
	Issuer       string // https://…, where its discovery document is
	ClientID     string
	ClientSecret account.Secret // empty: a public client
	// Domains are those of the e-mail addresses that may sign in; none: all.
	Domains []string
	// Organization is the one that whoever signs in for the first time joins, as Role; empty: he has to be a user
	// already, or sign-up has to be open.
	Organization string
	Role         account.Role
	// TrustEmails takes every address for verified, for providers that do not say.
	TrustEmails bool
}

// provider is one whose discovery document is read at its first use: one that is away at the start is no reason not
// to start.
type provider struct {
	Provider
	mu    sync.Mutex
	found *oidc.Provider
}

func (p *provider) discover(ctx context.Context) (*oidc.Provider, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.found != nil {
		return p.found, nil
	}
	found, err := oidc.NewProvider(ctx, p.Issuer)
	if err != nil {
		return nil, fault.New(fault.Upstream, "sso_unavailable", "The sign-in service "+p.Name+" can not be reached, or is not what the configuration says. Try again; if it stays so, ask the operator.").Because(err)
	}
	p.found = found
	return found, nil
}

// Providers lists what users can sign in with.
func (i *Identity) Providers() []Provider { return slices.Clone(i.o.Providers) }

// Journey is a sign-in at a provider that is under way. It is kept by the browser alone, in a cookie: what the provider
// and the browser carry through addresses is derived from Secret, which nobody else sees.
type Journey struct {
	Provider string
	Next     string // the page of the console to go on with; begins with a slash
	// Link says, by the session's id, that a signed-in user wants to add this way of signing in to his account.
	Link   string
	Secret account.Secret
}

// Encode is the value of the cookie.
func (j Journey) Encode() account.Secret {
	text := url.Values{"p": {j.Provider}, "n": {j.Next}, "l": {j.Link}, "s": {j.Secret.Reveal()}}.Encode()
	return account.NewSecret(base64.RawURLEncoding.EncodeToString([]byte(text)))
}

// ReadJourney reads a cookie.
func ReadJourney(cookie account.Secret) (Journey, error) {
	text, err := base64.RawURLEncoding.DecodeString(cookie.Reveal())
	values, unreadable := url.ParseQuery(string(text))
	if errors.Join(err, unreadable) != nil || values.Get("s") == "" {
		return Journey{}, astray()
	}
	return Journey{Provider: values.Get("p"), Next: values.Get("n"), Link: values.Get("l"), Secret: account.NewSecret(values.Get("s"))}, nil
}

func astray() error {
	return fault.New(fault.Invalid, "sso_expired", "This sign-in was begun in another browser, or too long ago. Begin again.")
}

// derive makes a value for a purpose. It depends on everything of the journey, so that no two can be mixed.
func (j Journey) derive(purpose string) string {
	mac := hmac.New(sha256.New, []byte(j.Secret.Reveal()))
	for _, part := range []string{purpose, j.Provider, j.Next, j.Link} {
		_, _ = mac.Write([]byte(part + "\x00")) // a hash takes everything
	}
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// callback is where the provider sends the browser back to.
func (i *Identity) callback(name string) string {
	return i.o.PublicURL + "/api/v1/auth/sso/" + url.PathEscape(name) + "/callback"
}

// provider finds what a journey goes to.
func (i *Identity) provider(ctx context.Context, name string) (*provider, *oidc.Provider, *oauth2.Config, error) {
	p, ok := i.providers[name]
	if !ok || i.o.PublicURL == "" {
		return nil, nil, nil, fault.New(fault.NotFound, "sso_not_found", "There is no such way to sign in.")
	}
	found, err := p.discover(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	return p, found, &oauth2.Config{
		ClientID: p.ClientID, ClientSecret: p.ClientSecret.Reveal(), Endpoint: found.Endpoint(), RedirectURL: i.callback(name),
		Scopes: []string{oidc.ScopeOpenID, "email", "profile"},
	}, nil
}

// StartSSO begins a sign-in at a provider: where to send the browser, and what it has to keep.
func (i *Identity) StartSSO(ctx context.Context, name, next, link string) (string, Journey, error) {
	ctx = oidc.ClientContext(ctx, i.o.Client)
	if !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.ContainsAny(next, "\\\r\n") {
		next = "/"
	}
	j := Journey{Provider: name, Next: next, Link: link, Secret: newToken()}
	_, _, config, err := i.provider(ctx, name)
	if err != nil {
		return "", Journey{}, err
	}
	return config.AuthCodeURL(j.derive("state"), oidc.Nonce(j.derive("nonce")), oauth2.S256ChallengeOption(j.derive("verifier"))), j, nil
}

// Return is what a provider sent the browser back with.
type Return struct {
	Name, State, Code, Refusal string
}

// FinishSSO ends a sign-in at a provider. in is who is signed in already, or nil.
func (i *Identity) FinishSSO(ctx context.Context, j Journey, r Return, in *account.SignedIn, client Client) (Started, error) {
	ctx = oidc.ClientContext(ctx, i.o.Client)
	if subtle.ConstantTimeCompare([]byte(j.derive("state")), []byte(r.State)) != 1 || j.Provider != r.Name {
		return Started{}, astray()
	}
	if r.Refusal != "" {
		return Started{}, fault.New(fault.Unauthenticated, "sso_refused", "The sign-in service did not let you in.").Because(errors.New(r.Refusal))
	}
	p, c, err := i.redeem(ctx, j, r.Code)
	if err != nil {
		return Started{}, err
	}
	if j.Link != "" {
		if in == nil || in.Session.ID != j.Link {
			return Started{}, astray()
		}
		return i.link(ctx, in, c, client)
	}
	u, err := i.o.Users.User(ctx, account.UserRef{Subject: c.subject})
	switch {
	case err == nil && !u.DisabledAt.IsZero():
		return Started{}, fault.New(fault.Unauthenticated, "user_disabled", "This account is disabled. Ask an admin.")
	case err == nil:
		return i.begin(ctx, account.UserRef{ID: u.ID}, client, "sso:"+p.Name, func(*account.UserRecord) error { return nil })
	case !errors.Is(err, account.ErrNoUser):
		return Started{}, explain(err)
	}
	return i.welcome(ctx, &p.Provider, c, client)
}

// claims are what a provider says of a person.
type claims struct {
	subject account.Subject
	email   string
	name    string
}

// redeem turns a code into what the provider says.
func (i *Identity) redeem(ctx context.Context, j Journey, code string) (*provider, claims, error) {
	p, found, config, err := i.provider(ctx, j.Provider)
	if err != nil {
		return nil, claims{}, err
	}
	failed := func(err error) (*provider, claims, error) {
		return nil, claims{}, fault.New(fault.Unauthenticated, "sso_failed", "What the sign-in service answered could not be verified. Begin again; if it stays so, ask the operator.").Because(err)
	}
	token, err := config.Exchange(ctx, code, oauth2.VerifierOption(j.derive("verifier")))
	if err != nil {
		var refused *oauth2.RetrieveError
		if errors.As(err, &refused) { // its text has the provider's whole answer
			err = errors.New("the token endpoint refused: " + refused.ErrorCode)
		}
		return failed(err)
	}
	raw, _ := token.Extra("id_token").(string)
	verified, err := found.VerifierContext(ctx, &oidc.Config{ClientID: p.ClientID}).Verify(ctx, raw)
	if err != nil {
		return failed(err)
	}
	if subtle.ConstantTimeCompare([]byte(verified.Nonce), []byte(j.derive("nonce"))) != 1 {
		return failed(errors.New("the nonce is another one"))
	}
	var said struct {
		Email    string `json:"email"`
		Verified any    `json:"email_verified"` // some send a text
		Name     string `json:"name"`
	}
	if err := verified.Claims(&said); err != nil {
		return failed(err)
	}
	c := claims{subject: account.Subject{Issuer: verified.Issuer, Subject: verified.Subject}}
	if c.name, err = personName(said.Name); err != nil {
		c.name = ""
	}
	if said.Verified == true || said.Verified == "true" || p.TrustEmails {
		c.email, _ = address(said.Email)
	}
	return p, c, nil
}

// welcome lets somebody in whom this provider has not sent before.
func (i *Identity) welcome(ctx context.Context, p *Provider, c claims, client Client) (Started, error) {
	if c.email == "" {
		return Started{}, fault.New(fault.Forbidden, "sso_no_email", "The sign-in service tells no verified e-mail address of you. Ask the operator.")
	}
	_, domain, _ := strings.Cut(c.email, "@")
	if len(p.Domains) > 0 && !slices.ContainsFunc(p.Domains, func(d string) bool { return strings.EqualFold(d, domain) }) {
		return Started{}, fault.New(fault.Forbidden, "sso_domain", "E-mail addresses of "+domain+" may not sign in here.")
	}
	if err := i.refuseBeforeSetup(ctx); err != nil {
		return Started{}, err
	}
	known, err := i.o.Users.User(ctx, account.UserRef{Email: c.email})
	if err == nil {
		return i.adopt(ctx, p, known, c, client)
	}
	if !errors.Is(err, account.ErrNoUser) {
		return Started{}, explain(err)
	}
	if i.o.SignUp == SignUpClosed || i.o.SignUp == SignUpInvited && p.Organization == "" {
		return Started{}, fault.New(fault.Forbidden, "sign_up_closed", "You have no account here. Ask an admin for an invitation.")
	}
	u := account.UserRecord{
		User:     account.User{ID: account.GenerateID("user_"), Email: c.email, Name: c.name, CreatedAt: i.now()},
		Subjects: []account.Subject{c.subject},
	}
	var change account.UserChange
	if p.Organization != "" {
		change.PutMemberships = []account.Membership{{Organization: p.Organization, Role: p.Role}}
	}
	return i.join(ctx, u, change, joining{"sso:" + p.Name, client})
}

// adopt adds a provider to a user with the same address. One who has a password or another provider has to do so
// himself: that nobody else made the account under his address is not known.
func (i *Identity) adopt(ctx context.Context, p *Provider, u account.UserRecord, c claims, client Client) (Started, error) {
	if !u.Password.Empty() || len(u.Subjects) > 0 || !u.DisabledAt.IsZero() {
		return Started{}, fault.New(fault.Conflict, "sso_not_linked", "You have an account with this address. Sign in with your password, then add this way of signing in under your account.")
	}
	return i.begin(ctx, account.UserRef{ID: u.ID}, client, "sso:"+p.Name, func(u *account.UserRecord) error {
		u.Subjects = append(u.Subjects, c.subject)
		return nil
	})
}

// link adds a provider to the user who is signed in. His session goes on under a new token.
func (i *Identity) link(ctx context.Context, in *account.SignedIn, c claims, client Client) (Started, error) {
	switch owner, err := i.o.Users.User(ctx, account.UserRef{Subject: c.subject}); {
	case err == nil && owner.ID != in.User.ID:
		return Started{}, fault.New(fault.Conflict, "sso_taken", "Another user signs in this way.")
	case err != nil && !errors.Is(err, account.ErrNoUser):
		return Started{}, explain(err)
	}
	return i.begin(ctx, account.UserRef{ID: in.User.ID}, client, in.Session.Method, func(u *account.UserRecord) error {
		if !slices.Contains(u.Subjects, c.subject) {
			u.Subjects = append(u.Subjects, c.subject)
		}
		return nil
	})
}

// Unlink takes a way of signing in from a user. The last one stays.
func (i *Identity) Unlink(ctx context.Context, userID, name string) error {
	p, ok := i.providers[name]
	if !ok {
		return fault.New(fault.NotFound, "sso_not_found", "There is no such way to sign in.")
	}
	return i.revise(ctx, account.UserRef{ID: userID}, func(u *account.UserRecord) (account.UserChange, []audit.Act, error) {
		left := slices.DeleteFunc(slices.Clone(u.Subjects), func(s account.Subject) bool { return s.Issuer == p.Issuer })
		if len(left) == 0 && u.Password.Empty() {
			return account.UserChange{}, nil, fault.New(fault.Conflict, "last_way_in", "This is your only way to sign in. Set a password first.")
		}
		u.Subjects = left
		act := i.act(ctx, "user.unlink", u.ID)
		act.After = view{"provider": name}.encode()
		return account.UserChange{}, []audit.Act{act}, nil
	})
}
