package config

import (
	"encoding/base64"
	"math"
	"net/mail"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"shareai/internal/account"
	"shareai/internal/alert"
)

// The bounds of the numbers of alerts.
const (
	leastEvery    = time.Second
	leastWindow   = time.Minute
	longestEvery  = time.Hour
	longestWindow = 24 * time.Hour
	mostCounted   = 1_000_000_000
	mostFactor    = 1_000_000
	leastSigning  = 16 // characters of a secret that signs
	mostPort      = 65535
)

var hostShape = shape{
	regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|[0-9A-Fa-f:.]{2,45})$`), "must be the name or address of a mail server", "for example smtp.example.com",
}

// alerts reads who is told of what. What is left out has its default.
func (d *decoder) alerts(into *alert.Settings) reader {
	return func(v value) {
		*into = alert.Defaults()
		d.mapping(v, fields{
			"every":     d.atLeast(&into.Every, leastEvery, longestEvery),
			"receivers": list(d, &into.Receivers, d.receiver),
			"rules":     d.rules(&into.Rules),
		})
		if into.Every == 0 {
			into.Every = alert.Defaults().Every
		}
	}
}

// atLeast reads a time span that has a least value.
func (d *decoder) atLeast(into *time.Duration, least, most time.Duration) reader {
	return func(v value) {
		given := *into
		d.duration(&given, most)(v)
		if given < least {
			d.complain(v, "", "must be at least %s", least)
			return
		}
		*into = given
	}
}

func (d *decoder) receiver(v value) alert.Receiver {
	var r alert.Receiver
	d.mapping(v, fields{
		"name":            d.name(&r.Name),
		"rules":           list(d, &r.Only, d.rule),
		"private_network": d.boolean(&r.PrivateNetwork),
		"webhook":         d.webhook(&r.Webhook),
		"slack":           d.slack(&r.Slack),
		"email":           d.email(&r.Email),
	}, "name")
	if ways := countFields(v, "webhook", "slack", "email"); v.kind == mapping && ways != 1 {
		d.complain(v, "a receiver for each", "needs one of webhook, slack and email")
	}
	if r.Webhook == nil && r.Slack == nil && r.Email == nil {
		r.Slack = &alert.Slack{} // there is a problem already; nobody may trip over it
	}
	return r
}

func countFields(v value, names ...string) (n int) {
	for _, name := range names {
		if v.field(name) != nil {
			n++
		}
	}
	return n
}

func (d *decoder) rule(v value) (rule alert.Rule) {
	choice(d, &rule, alert.RuleNames...)(v)
	return rule
}

func (d *decoder) webhook(into **alert.Webhook) reader {
	return func(v value) {
		w := &alert.Webhook{}
		*into = w
		d.mapping(v, fields{"url": d.secretURL(&w.URL), "secret": d.signing(&w.Secret)}, "url", "secret")
	}
}

func (d *decoder) slack(into **alert.Slack) reader {
	return func(v value) {
		s := &alert.Slack{}
		*into = s
		d.mapping(v, fields{"url": d.secretURL(&s.URL)}, "url")
	}
}

// secretURL reads a URL that may have a token in it.
func (d *decoder) secretURL(into *account.Secret) reader {
	return func(v value) {
		text, ok := d.scalar(v)
		if !ok {
			return
		}
		d.remember(text)
		u, err := url.Parse(text)
		switch {
		case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || strings.ContainsFunc(text, isSpace):
			d.complain(v, "for example https://hooks.example.com/alerts", "must be an http:// or https:// URL")
		case u.User != nil:
			d.complain(v, "", "must not contain a user name or password")
		default:
			*into = account.NewSecret(text)
		}
	}
}

// signing reads the secret that signs webhooks. In the form of Standard Webhooks it has to be base64.
func (d *decoder) signing(into *account.Secret) reader {
	return func(v value) {
		d.secret(into, leastSigning)(v)
		encoded, prefixed := strings.CutPrefix(into.Reveal(), alert.SecretPrefix)
		if _, err := base64.StdEncoding.DecodeString(encoded); prefixed && err != nil {
			d.complain(v, "generate one with: echo whsec_$(openssl rand -base64 32)", "begins with whsec_ and must go on in base64")
		}
	}
}

func (d *decoder) email(into **alert.Email) reader {
	return func(v value) {
		e := &alert.Email{Port: 587, TLS: alert.StartTLS}
		*into = e
		d.mapping(v, fields{
			"host":     d.shaped(hostShape)(&e.Host),
			"port":     integer(d, &e.Port, mostPort),
			"tls":      choice(d, &e.TLS, alert.StartTLS, alert.ImplicitTLS, alert.NoTLS),
			"username": unlessEmpty(d.text(&e.Username)),
			"password": unlessEmpty(d.secret(&e.Password, 1)),
			"from":     d.mailbox(&e.From),
			"to":       list(d, &e.To, d.item(d.mailbox)),
		}, "host", "tls", "from", "to")
		switch username, password := given(v, "username"), given(v, "password"); {
		case username != password:
			d.complain(v, "", "needs both username and password, or neither")
		case password && e.TLS == alert.NoTLS:
			d.complain(v, "use tls: starttls or tls: tls", "would send its password without encryption")
		}
	}
}

// given says whether a field has a value, right or wrong.
func given(v value, name string) bool {
	f := v.field(name)
	return f != nil && (f.broken || f.text != "")
}

func (d *decoder) mailbox(into *string) reader {
	return func(v value) {
		text, ok := d.scalar(v)
		if !ok {
			return
		}
		if _, err := mail.ParseAddress(text); err != nil {
			d.complain(v, "for example alerts@example.com or Alerts <alerts@example.com>", "must be an e-mail address")
			return
		}
		*into = text
	}
}

func (d *decoder) rules(r *alert.Rules) reader {
	return func(v value) {
		d.mapping(v, fields{
			"budget":        d.switched(&r.Budget.Off, fields{}),
			"fallbacks":     d.rise(&r.Fallbacks, fields{"min_requests": integer(d, &r.Fallbacks.Least, mostCounted)}),
			"fallback_cost": d.rise(&r.FallbackCost, fields{"usd": d.usd(&r.FallbackCost.Least)}),
			"provider_down": d.downFor(&r.ProviderDown),
			"model_down":    d.downFor(&r.ModelDown),
			"node_gone":     d.downFor(&r.NodeGone),
			"error_rate": d.switched(&r.ErrorRate.Off, fields{
				"window":       d.atLeast(&r.ErrorRate.Window, leastWindow, longestWindow),
				"share":        d.number(&r.ErrorRate.Share, span{0, 1, true}),
				"min_requests": integer(d, &r.ErrorRate.MinRequests, mostCounted),
				"of":           d.scopes(&r.ErrorRate.Of),
			}),
		})
	}
}

// switched reads a rule that can be switched off.
func (d *decoder) switched(off *bool, more fields) reader {
	return func(v value) {
		on := !*off
		more["enabled"] = d.boolean(&on)
		d.mapping(v, more)
		*off = !on
	}
}

func (d *decoder) downFor(r *alert.DownRule) reader {
	return d.switched(&r.Off, fields{"after": d.duration(&r.After, longestWindow)})
}

func (d *decoder) rise(r *alert.RiseRule, more fields) reader {
	more["window"] = d.atLeast(&r.Window, leastWindow, longestWindow)
	more["share"] = d.number(&r.Share, span{0, 1, true})
	more["factor"] = d.number(&r.Factor, span{1, mostFactor, false})
	return d.switched(&r.Off, more)
}

func (d *decoder) usd(into *int64) reader {
	return func(v value) {
		var usd float64
		d.number(&usd, span{0, mostBudget, false})(v)
		*into = int64(math.Round(usd * 1e9))
	}
}

// scopes reads a list that replaces the default.
func (d *decoder) scopes(into *[]alert.Scope) reader {
	return func(v value) {
		*into = nil
		d.each(v, func(item value) {
			var scope alert.Scope
			if choice(d, &scope, alert.Scopes...)(item); scope != "" && !slices.Contains(*into, scope) {
				*into = append(*into, scope)
			}
		})
	}
}
