package config

import (
	"net/url"
	"slices"
	"strings"
	"time"

	"shareai/internal/account"
)

// Accounts says how people become users and sign in.
type Accounts struct {
	SignUp   string // open, invited or closed; empty: invited
	URL      string // where people reach the console; empty: Boot.PublicURL
	Idle     time.Duration
	Lifetime time.Duration
	SSO      []SSO
}

// SSO is an OpenID provider.
type SSO struct {
	Name, Label, Issuer, ClientID string
	ClientSecret                  account.Secret
	Domains                       []string
	Organization                  string
	Role                          account.Role
	TrustEmails                   bool
}

// The bounds of sessions.
const maxSession = 365 * 24 * time.Hour

func (d *decoder) people(into *Accounts) reader {
	return func(v value) {
		d.mapping(v, fields{
			"sign_up": choice(d, &into.SignUp, "open", "invited", "closed"),
			"url":     unlessEmpty(d.site(&into.URL)),
			"sessions": func(v value) {
				d.mapping(v, fields{"idle": d.duration(&into.Idle, maxSession), "lifetime": d.duration(&into.Lifetime, maxSession)})
			},
			"sso": d.ways(&into.SSO),
		})
	}
}

// ways reads the OpenID providers, whose names stand in addresses.
func (d *decoder) ways(into *[]SSO) reader {
	return func(v value) {
		d.each(v, func(v value) {
			s := d.sso(v)
			if slices.ContainsFunc(*into, func(o SSO) bool { return o.Name == s.Name }) {
				d.complain(v, "", "has a name that another entry has already")
			}
			*into = append(*into, s)
		})
	}
}

func (d *decoder) sso(v value) SSO {
	s := SSO{Role: account.Viewer}
	d.mapping(v, fields{
		"name":          d.name(&s.Name),
		"label":         d.text(&s.Label),
		"issuer":        d.issuer(&s.Issuer),
		"client_id":     d.text(&s.ClientID),
		"client_secret": unlessEmpty(d.secret(&s.ClientSecret, 1)),
		"domains":       list(d, &s.Domains, d.item(d.text)),
		"organization":  d.name(&s.Organization),
		"role":          choice(d, &s.Role, account.Admin, account.Member, account.Viewer),
		"trust_emails":  d.boolean(&s.TrustEmails),
	}, "name", "issuer", "client_id")
	return s
}

// issuer reads the address of an OpenID provider, exactly as it calls itself.
func (d *decoder) issuer(into *string) reader {
	return func(v value) {
		text, ok := d.scalar(v)
		if !ok {
			return
		}
		u, err := url.Parse(text)
		if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Scheme != "https" && !(u.Scheme == "http" && loopbackName(u.Hostname())) {
			d.complain(v, "for example https://id.example.com; the service's own documentation says which", "must be an https:// URL")
			return
		}
		*into = text
	}
}

// loopbackName says whether a host is this machine, which a test may use without TLS.
func loopbackName(host string) bool {
	return host == "localhost" || strings.HasPrefix(host, "127.") || host == "::1"
}
