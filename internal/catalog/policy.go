package catalog

import (
	"time"

	"shareai/internal/account"
)

// Strategy is how the deployments of a model are ordered.
type Strategy string

// The strategies.
const (
	Ordered  Strategy = "order"    // as the policy's order says, then as declared
	Cheapest Strategy = "cost"     // by price
	Fastest  Strategy = "latency"  // by measured latency
	Weighted Strategy = "weighted" // by weight, drawn anew for each request
)

// Strategies lists every strategy.
var Strategies = []Strategy{Ordered, Cheapest, Fastest, Weighted}

// Policy says how a request is routed and how far the gateway goes to have it answered.
type Policy struct {
	Name            string         `json:"name"`
	Strategy        Strategy       `json:"strategy,omitempty"`
	Order           []string       `json:"order,omitempty"`             // provider names, most wanted first
	Equivalents     string         `json:"equivalents,omitempty"`       // off, closest, any
	Fallbacks       []string       `json:"fallbacks,omitempty"`         // further models or routes, in order
	MaxPriceRatio   float64        `json:"max_price_ratio,omitempty"`   // of the primary's price; 0: no ceiling
	Regions         []string       `json:"regions,omitempty"`           // none: all
	Retention       []string       `json:"retention,omitempty"`         // accepted retentions; none: all
	OnContentFilter string         `json:"on_content_filter,omitempty"` // return, fallback
	FailoverOn      []FailureClass `json:"failover_on,omitempty"`       // none: every class
	Hedge           string         `json:"hedge,omitempty"`             // off, p95
	HoldToolCalls   string         `json:"hold_tool_calls,omitempty"`   // auto, off
	Attempts        Attempts       `json:"attempts,omitzero"`
	Deadlines       Deadlines      `json:"deadlines,omitzero"`
	Resume          string         `json:"resume,omitempty"` // auto, off
	Cache           Cache          `json:"cache,omitzero"`
	LogContent      bool           `json:"log_content,omitempty"`
	// OnLimitStoreFailure says what happens to requests under limits while Redis is away: allow, reject.
	OnLimitStoreFailure string `json:"on_limit_store_failure,omitempty"`
	// Community says whether nodes of other organizations may see the prompts: off, allow.
	Community string         `json:"community,omitempty"`
	Origin    account.Origin `json:"-"`
}

// FailureClass is a kind of failure after which a policy lets another deployment try.
type FailureClass string

// The classes.
const (
	FailConnect     FailureClass = "connect"      // no connection: refused, DNS, TLS, timeout
	FailTimeout     FailureClass = "timeout"      // connected, but too slow
	FailRateLimit   FailureClass = "rate_limit"   // 429
	FailQuota       FailureClass = "quota"        // the provider's account is out of money
	FailKey         FailureClass = "key"          // 401, 403
	FailOverloaded  FailureClass = "overloaded"   // 503, 529
	FailServerError FailureClass = "server_error" // other 5xx, a broken connection
	FailNotFound    FailureClass = "not_found"    // the provider does not know the model
	FailBadAnswer   FailureClass = "bad_answer"   // not what the API promises, empty, an error inside a 200
	FailContext     FailureClass = "context"      // too long for the model: a larger one may take it
)

// FailureClasses lists every class.
var FailureClasses = []FailureClass{
	FailConnect, FailTimeout, FailRateLimit, FailQuota, FailKey, FailOverloaded, FailServerError, FailNotFound, FailBadAnswer, FailContext,
}

// The words of Policy.Equivalents, Hedge, HoldToolCalls, Resume and OnContentFilter.
const (
	EquivalentsOff     = "off"     // the model that was asked for, or none
	EquivalentsClosest = "closest" // then the best-graded equivalent that can serve the request
	EquivalentsAny     = "any"     // then every equivalent, best grade first
	Off                = "off"
	Auto               = "auto"
	HedgeP95           = "p95" // a second attempt after the deployment's own p95
	FilterReturn       = "return"
	FilterFallback     = "fallback"
	LimitsAllow        = "allow" // each replica counts for itself
	LimitsReject       = "reject"
	CommunityAllow     = "allow"
)

// Attempts bounds how often a request is tried.
type Attempts struct {
	Total         int `json:"total,omitempty"`          // 0: 5
	PerDeployment int `json:"per_deployment,omitempty"` // 0: 2
}

// Deadlines bound the stages of an attempt; Total bounds the whole request. Zero means the default.
type Deadlines struct {
	Connect    time.Duration `json:"connect,omitempty"`     // name look-up, TCP and TLS
	Headers    time.Duration `json:"headers,omitempty"`     // from the request's last byte to the answer's headers
	FirstToken time.Duration `json:"first_token,omitempty"` // streams: from the start of the attempt to the first content
	Idle       time.Duration `json:"idle,omitempty"`        // streams: between two events
	Total      time.Duration `json:"total,omitempty"`       // the whole request, all attempts
}

// Cache says how long an answer may be served again.
type Cache struct {
	TTL          time.Duration `json:"ttl,omitempty"`
	StaleIfError time.Duration `json:"stale_if_error,omitempty"`
}

// The defaults of a policy's zero values.
const (
	DefaultAttempts       = 5
	DefaultPerDeployment  = 2
	DefaultConnect        = 2 * time.Second
	DefaultStreamHeaders  = 30 * time.Second
	DefaultFirstToken     = 30 * time.Second
	DefaultIdle           = 30 * time.Second
	DefaultTotal          = 5 * time.Minute
	DefaultPolicyName     = "default"
	DefaultPolicyStrategy = Ordered
)

// WithDefaults returns the policy with its zero values filled in. Headers stays zero when it was not
// set, because its default depends on the mode: engines send the headers of a unary answer only when
// the whole answer is ready.
func (p Policy) WithDefaults() Policy {
	fill(&p.Strategy, DefaultPolicyStrategy)
	fill(&p.Equivalents, "closest")
	fill(&p.OnContentFilter, "return")
	fill(&p.Resume, "auto")
	fill(&p.OnLimitStoreFailure, LimitsAllow)
	fill(&p.Hedge, Off)
	fill(&p.Community, Off)
	fill(&p.HoldToolCalls, Auto)
	fill(&p.Attempts.Total, DefaultAttempts)
	fill(&p.Attempts.PerDeployment, DefaultPerDeployment)
	fill(&p.Deadlines.Connect, DefaultConnect)
	fill(&p.Deadlines.FirstToken, DefaultFirstToken)
	fill(&p.Deadlines.Idle, DefaultIdle)
	fill(&p.Deadlines.Total, DefaultTotal)
	return p
}

func fill[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
