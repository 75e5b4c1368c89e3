package config

import (
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"shareai/internal/account"
)

// Boot is what the process needs before anything else. It is read at the start only.
type Boot struct {
	Listen      string         // host:port of the public listener
	AdminListen string         // host:port of console, admin API and metrics; empty: the public listener
	DataDir     string         // directory, relative to the working directory
	Database    account.Secret // postgres URL, which may contain a password; empty: SQLite in DataDir
	Redis       account.Secret // redis URL, which may contain a password; empty: memory
	SecretsKey  account.Secret // seals provider keys; empty: generated once into DataDir
	Retention   Retention
	Accounts    Accounts
	// PublicURL is where users and nodes reach the gateway; empty: where they happen to ask.
	PublicURL string
	// PeerURL is where other replicas reach this one's public listener; empty: they can not.
	PeerURL   string
	Downloads string // directory with the programs that /install.sh installs; empty: this program alone
}

// Retention says how long data is kept that grows with every request. Zero: for ever.
type Retention struct {
	Records time.Duration // whole days: usage records with their contents, and sums by the hour
}

// The defaults of Boot.
const (
	DefaultListen  = "127.0.0.1:8080"
	DefaultDataDir = "./data"
)

func defaultBoot() Boot { return Boot{Listen: DefaultListen, DataDir: DefaultDataDir} }

// bootFields are the fields of Boot. An empty text stands for the default.
func (d *decoder) bootFields(b *Boot) fields {
	return fields{
		"listen":       unlessEmpty(d.address(&b.Listen)),
		"admin_listen": unlessEmpty(d.address(&b.AdminListen)),
		"data_dir":     unlessEmpty(d.text(&b.DataDir)),
		"database":     unlessEmpty(d.service(&b.Database, "postgres://user:password@host/database", "postgres", "postgresql")),
		"redis":        unlessEmpty(d.service(&b.Redis, "redis://host:6379/0", "redis", "rediss")),
		"secrets_key":  unlessEmpty(d.secret(&b.SecretsKey, account.MinKeyLength)),
		"retention":    d.retention(&b.Retention),
		"accounts":     d.people(&b.Accounts),
		"public_url":   unlessEmpty(d.site(&b.PublicURL)),
		"peer_url":     unlessEmpty(d.site(&b.PeerURL)),
		"downloads":    unlessEmpty(d.text(&b.Downloads)),
	}
}

func (d *decoder) retention(r *Retention) reader {
	return func(v value) {
		d.mapping(v, fields{"records": unlessEmpty(d.days(&r.Records))})
	}
}

// days reads a number of days such as 90d.
func (d *decoder) days(into *time.Duration) reader {
	return func(v value) {
		text, ok := d.scalar(v)
		if !ok {
			return
		}
		if !daysForm.MatchString(text) {
			d.complain(v, "for example 90d; leave it out to keep them for ever", "must be a number of days")
			return
		}
		n, _ := strconv.Atoi(strings.TrimSuffix(text, "d")) // at most four digits
		*into = time.Duration(n) * 24 * time.Hour
	}
}

var daysForm = regexp.MustCompile(`^[1-9][0-9]{0,3}d$`)

func unlessEmpty(read reader) reader {
	return func(v value) {
		if v.kind != scalar || v.broken || v.text != "" {
			read(v)
		}
	}
}

// address reads host:port.
func (d *decoder) address(into *string) reader {
	return func(v value) {
		text, ok := d.scalar(v)
		if !ok {
			return
		}
		_, port, err := net.SplitHostPort(text)
		if n, bad := strconv.ParseUint(port, 10, 16); err != nil || bad != nil || n > 65535 {
			d.complain(v, "for example "+DefaultListen+", or :8080 for every interface", "must be a host and a port")
			return
		}
		*into = text
	}
}

// site reads the address of a gateway: scheme and host, which stand in scripts and links as they are.
func (d *decoder) site(into *string) reader {
	return func(v value) {
		text, ok := d.scalar(v)
		if !ok {
			return
		}
		if !siteForm.MatchString(text) {
			d.complain(v, "for example https://ai.example.com", "must be http:// or https:// with a host, and nothing after it")
			return
		}
		*into = strings.TrimSuffix(text, "/")
	}
}

var siteForm = regexp.MustCompile(`^https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?/?$`)

// IsSite says whether a text is the address of a gateway: http:// or https:// with a host, and nothing after it.
func IsSite(text string) bool { return siteForm.MatchString(text) }

// service reads the URL of a database or the like. It may contain a password.
func (d *decoder) service(into *account.Secret, example string, schemes ...string) reader {
	return func(v value) {
		text, ok := d.scalar(v)
		if !ok {
			return
		}
		d.remember(text)
		u, err := url.Parse(text)
		if err != nil || !slices.Contains(schemes, u.Scheme) || u.Opaque != "" {
			d.complain(v, "for example "+example, "must be a %s:// URL", schemes[0])
			return
		}
		*into = account.NewSecret(text)
	}
}
