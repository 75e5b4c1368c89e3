package alert

import (
	"slices"
	"time"

	"shareai/internal/account"
)

// Settings are what the configuration says of alerts.
type Settings struct {
	Every     time.Duration // how often everything is looked at
	Receivers []Receiver
	Rules     Rules
}

// Receiver is somebody who is told. Exactly one of Webhook, Slack and Email is set.
type Receiver struct {
	Name           string   `json:"name"`
	Only           []Rule   `json:"rules,omitempty"` // none: all
	PrivateNetwork bool     `json:"private_network,omitempty"`
	Webhook        *Webhook `json:"webhook,omitempty"`
	Slack          *Slack   `json:"slack,omitempty"`
	Email          *Email   `json:"email,omitempty"`
}

// Webhook receives signed JSON. A URL may carry a token and is a secret too.
type Webhook struct {
	URL    account.Secret `json:"url"`
	Secret account.Secret `json:"secret"` // signs; whsec_ and base64, or the bytes as they are
}

// SecretPrefix begins a signing secret in the form of Standard Webhooks: base64 follows.
const SecretPrefix = "whsec_"

// Slack receives what Slack's incoming webhooks do.
type Slack struct {
	URL account.Secret `json:"url"`
}

// Email is sent by SMTP.
type Email struct {
	Host     string         `json:"host"`
	Port     int            `json:"port"`
	TLS      string         `json:"tls"` // one of the words below
	Username string         `json:"username,omitempty"`
	Password account.Secret `json:"password"`
	From     string         `json:"from"`
	To       []string       `json:"to"`
}

// The words of Email.TLS.
const (
	StartTLS    = "starttls" // required, on a connection that begins without
	ImplicitTLS = "tls"      // from the first byte
	NoTLS       = "none"
)

// Kind names the way to the receiver.
func (r *Receiver) Kind() string {
	switch {
	case r.Webhook != nil:
		return "webhook"
	case r.Slack != nil:
		return "slack"
	default:
		return "email"
	}
}

// Secrets are what must not be seen of the receiver.
func (r *Receiver) Secrets() []account.Secret {
	switch {
	case r.Webhook != nil:
		return []account.Secret{r.Webhook.URL, r.Webhook.Secret}
	case r.Slack != nil:
		return []account.Secret{r.Slack.URL}
	default:
		return []account.Secret{r.Email.Password}
	}
}

// Wants says whether the receiver is told of a rule.
func (r *Receiver) Wants(rule Rule) bool { return len(r.Only) == 0 || slices.Contains(r.Only, rule) }

// Receiver finds one by its name.
func (s *Settings) Receiver(name string) (*Receiver, bool) {
	for i := range s.Receivers {
		if s.Receivers[i].Name == name {
			return &s.Receivers[i], true
		}
	}
	return nil, false
}

// Rules are the rules with their numbers. A rule that is off is not looked at.
type Rules struct {
	Budget       BudgetRule `json:"budget"`
	Fallbacks    RiseRule   `json:"fallbacks"`
	FallbackCost RiseRule   `json:"fallback_cost"`
	ProviderDown DownRule   `json:"provider_down"`
	ModelDown    DownRule   `json:"model_down"`
	NodeGone     DownRule   `json:"node_gone"`
	ErrorRate    ErrorRule  `json:"error_rate"`
}

// BudgetRule tells of the thresholds that budgets declare, and of a budget that is used up.
type BudgetRule struct {
	Off bool `json:"off,omitempty"`
}

// DownRule tells of what is away.
type DownRule struct {
	Off   bool          `json:"off,omitempty"`
	After time.Duration `json:"after"` // for so long
}

// RiseRule tells of a part of the requests, or of their cost, that has risen.
type RiseRule struct {
	Off    bool          `json:"off,omitempty"`
	Window time.Duration `json:"window"`
	Share  float64       `json:"share"`  // the least share that is bad
	Factor float64       `json:"factor"` // and the least multiple of the share of the past day
	// The floor below which nothing is bad: a number of requests, or nano-dollars.
	Least int64 `json:"least"`
}

// ErrorRule tells of requests that fail.
type ErrorRule struct {
	Off         bool          `json:"off,omitempty"`
	Window      time.Duration `json:"window"`
	Share       float64       `json:"share"`
	MinRequests int64         `json:"min_requests"` // fewer in the window are never bad
	Of          []Scope       `json:"of"`
}

// Scope is what requests are counted by.
type Scope string

// The scopes.
const (
	OfAll   Scope = "all"
	OfModel Scope = "model"
	OfRoute Scope = "route"
)

// Scopes lists every scope.
var Scopes = []Scope{OfAll, OfModel, OfRoute}

// Defaults are in force where nothing is declared.
func Defaults() Settings {
	return Settings{
		Every: 15 * time.Second,
		Rules: Rules{
			Fallbacks:    RiseRule{Window: 10 * time.Minute, Share: 0.05, Factor: 3, Least: 20},
			FallbackCost: RiseRule{Window: time.Hour, Share: 0.1, Factor: 3, Least: 1e9},
			ProviderDown: DownRule{After: time.Minute},
			ModelDown:    DownRule{After: 30 * time.Second},
			NodeGone:     DownRule{After: 5 * time.Minute},
			ErrorRate:    ErrorRule{Window: 5 * time.Minute, Share: 0.1, MinRequests: 20, Of: slices.Clone(Scopes)},
		},
	}
}

// Pace is how soon a rule speaks, and says that it is over: what was bad for long enough has to be well for as long. A
// rate is that of its window already, so that it speaks at once.
func (r *Rules) Pace(rule Rule) Pace {
	switch rule {
	case ProviderDown:
		return even(r.ProviderDown.After)
	case ModelDown:
		return even(r.ModelDown.After)
	case NodeGone:
		return even(r.NodeGone.After)
	case Fallbacks:
		return Pace{Calm: r.Fallbacks.Window}
	case FallbackCost:
		return Pace{Calm: r.FallbackCost.Window}
	case ErrorRate:
		return Pace{Calm: r.ErrorRate.Window}
	default:
		return Pace{}
	}
}

func even(span time.Duration) Pace { return Pace{After: span, Calm: span} }
