// Package catalog says what can be asked for and where it is served: providers with their keys,
// models with their deployments and prices, routes and policies. The values are plain and the rules
// pure; snapshot compiles them into one consistent view.
package catalog

import (
	"slices"
	"time"

	"shareai/internal/account"
)

// Endpoint is a model endpoint of the OpenAI-compatible API.
type Endpoint string

// The endpoints.
const (
	Chat        Endpoint = "chat"
	Completions Endpoint = "completions"
	Embeddings  Endpoint = "embeddings"
	Responses   Endpoint = "responses"
	Messages    Endpoint = "messages"
)

// Endpoints lists every endpoint that a route may name.
var Endpoints = []Endpoint{Chat, Completions, Embeddings, Responses, Messages}

// Dialect is the wire format that a provider speaks.
type Dialect string

// The dialects.
const (
	OpenAI    Dialect = "openai"
	Azure     Dialect = "azure"
	Simulated Dialect = "simulated"
)

// Dialects lists every dialect that this version speaks.
var Dialects = []Dialect{OpenAI, Azure, Simulated}

// Provider serves models over one base URL.
type Provider struct {
	Name           string
	Dialect        Dialect
	BaseURL        string // absolute http or https URL; empty for the simulated dialect
	APIVersion     string // azure: the api-version query parameter
	Keys           []ProviderKey
	Region         string
	Retention      string // "none", "unknown" or a number of days such as "30d"
	PrivateNetwork bool   // the base URL may resolve to a loopback or private address
	OutputLimit    OutputLimit
	Prefill        PrefillForm
	Drained        bool // takes no new requests
	Probe          Probe
	Simulation     Simulation
	// Node is the id of the node that this stands for; empty for a provider that somebody declared. A node serves its
	// own Organization alone.
	Node         string
	Organization string
	// Community is the handle under which the node is shared; then it serves the organizations in Among instead, and not
	// its own, which has it without the community.
	Community string
	Among     map[string]bool
	Origin    account.Origin
}

// ProviderKey is a credential that a provider gave to us.
type ProviderKey struct {
	Name   string
	Secret account.Secret
	Weight int // share of the traffic among the provider's keys; 0 counts as 1
}

// OutputLimit is the name under which a provider takes the limit on output tokens. OpenAI and Azure
// refuse max_tokens for reasoning models; most other engines know only max_tokens, and some ignore
// max_completion_tokens without a word and answer at full length.
type OutputLimit string

// The forms of OutputLimit. The empty value means: as sent for Azure and api.openai.com, max_tokens
// everywhere else.
const (
	OutputLimitAsSent    OutputLimit = "as_sent"
	OutputLimitMaxTokens OutputLimit = "max_tokens"
)

// PrefillForm is how a provider is told to go on with the last assistant message instead of answering
// it. Only deployments with the capability prefill are asked to.
type PrefillForm string

// The forms of prefill. The empty value means PrefillTrailing.
const (
	PrefillTrailing PrefillForm = "trailing"               // a trailing assistant message is enough: llama.cpp, OpenRouter
	PrefillContinue PrefillForm = "continue_final_message" // vLLM and SGLang: a request member says so
	PrefillPrefix   PrefillForm = "prefix"                 // Mistral and DeepSeek: a member of the message
	PrefillPartial  PrefillForm = "partial"                // Moonshot and DashScope: another member of the message
)

// PrefillForms lists every form.
var PrefillForms = []PrefillForm{PrefillTrailing, PrefillContinue, PrefillPrefix, PrefillPartial}

// Probe says how a provider is asked whether it is there while no request tells. The zero value probes
// free of charge.
type Probe struct {
	Kind  ProbeKind     `json:"kind,omitempty"`  // empty: ProbeModels
	Every time.Duration `json:"every,omitempty"` // 0: DefaultProbeEvery
	// DailyCap bounds what canaries may cost in a UTC day, in nano-dollars; 0: no canary is sent.
	DailyCap int64 `json:"daily_cap_nano_usd,omitempty"`
}

// ProbeKind is what a probe does.
type ProbeKind string

// The kinds of probes.
const (
	ProbeOff    ProbeKind = "off"
	ProbeModels ProbeKind = "models" // GET /models: free of charge
	ProbeTCP    ProbeKind = "tcp"    // connect, and TLS where the provider has it: free of charge
	ProbeCanary ProbeKind = "canary" // a real request of a few tokens: paid for
)

// ProbeKinds lists every kind.
var ProbeKinds = []ProbeKind{ProbeOff, ProbeModels, ProbeTCP, ProbeCanary}

// DefaultProbeEvery is how often a provider is probed.
const DefaultProbeEvery = 30 * time.Second

// Simulation describes a provider that lives in the process: what it answers is made from the
// request alone, so that the same request gets the same text.
type Simulation struct {
	Latency         time.Duration `json:"latency,omitempty"`           // before the first token
	TokensPerSecond float64       `json:"tokens_per_second,omitempty"` // 0: as fast as possible
	Tokens          int           `json:"tokens,omitempty"`            // length of an answer; 0: 32
	Fault           Fault         `json:"fault,omitempty"`
	FaultShare      float64       `json:"fault_share,omitempty"` // share of requests that fail, 0 to 1; 0 with a fault set: all
}

// Fault is a way in which a simulated provider fails.
type Fault string

// The faults. NoFault is the zero value.
const (
	NoFault       Fault = ""
	FaultRefused  Fault = "refused"          // the connection is refused
	FaultHang     Fault = "hang"             // nothing is ever answered
	FaultServer   Fault = "500"              // 500 with OpenAI's error shape
	FaultBusy     Fault = "503"              // 503 at once
	FaultLimited  Fault = "429"              // 429 with Retry-After
	FaultKey      Fault = "401"              // the provider key is rejected
	FaultCut      Fault = "cut"              // the answer breaks off half-way
	FaultNoFinish Fault = "no_finish"        // a stream ends cleanly without a finish_reason
	FaultInBand   Fault = "error_event"      // a stream carries an error event after its first content
	FaultSlow     Fault = "slow_first_token" // the head of a stream at once, and nothing after it
	FaultBadChunk Fault = "bad_chunk"        // a malformed event, and nothing after it
)

// Faults lists every fault.
var Faults = []Fault{
	FaultRefused, FaultHang, FaultServer, FaultBusy, FaultLimited, FaultKey, FaultCut, FaultNoFinish, FaultInBand,
	FaultSlow, FaultBadChunk,
}

// Capability is something a model can do beyond plain text.
type Capability string

// The capabilities.
const (
	Tools      Capability = "tools"
	JSONSchema Capability = "json_schema"
	Vision     Capability = "vision"
	Audio      Capability = "audio"
	Reasoning  Capability = "reasoning"
	Prefill    Capability = "prefill" // goes on with a trailing assistant message
	Embedding  Capability = "embeddings"
	Choices    Capability = "n"        // more than one choice
	Logprobs   Capability = "logprobs" // log probabilities of tokens
)

// Capabilities lists the capabilities that a model may declare.
var Capabilities = []Capability{Tools, JSONSchema, Vision, Audio, Reasoning, Prefill, Embedding, Choices, Logprobs}

// CapabilitySet is a set of capabilities; the zero value is empty.
type CapabilitySet uint16

// SetOf makes a set; unknown words are left out.
func SetOf(list ...Capability) CapabilitySet {
	var s CapabilitySet
	for _, c := range list {
		if i := slices.Index(Capabilities, c); i >= 0 {
			s |= 1 << i
		}
	}
	return s
}

// Has says whether all of want is in the set.
func (s CapabilitySet) Has(want CapabilitySet) bool { return s&want == want }

// List returns the capabilities of the set, in the order of Capabilities.
func (s CapabilitySet) List() []Capability {
	var list []Capability
	for i, c := range Capabilities {
		if s&(1<<i) != 0 {
			list = append(list, c)
		}
	}
	return list
}

// Model is a canonical model: one name for the same weights wherever they are served.
type Model struct {
	Name      string `json:"name"`
	Context   int64  `json:"context,omitempty"`    // tokens; 0: unknown
	MaxOutput int64  `json:"max_output,omitempty"` // tokens; 0: unknown
	// Capabilities is complete where it is not nil: a list without entries says text, and nothing else.
	Capabilities []Capability     `json:"capabilities,omitzero"`
	Deployments  []Deployment     `json:"deployments"`
	Equivalents  []Equivalent     `json:"equivalents,omitempty"`
	Limits       account.Limits   `json:"limits,omitzero"`
	Budgets      []account.Budget `json:"budgets,omitempty"`
	Created      int64            `json:"created,omitempty"` // seconds since the epoch, for /v1/models
	Origin       account.Origin   `json:"-"`
}

// Deployment is a model as one provider serves it.
type Deployment struct {
	Provider string `json:"provider"`
	Model    string `json:"model"`            // the provider's own id of the model
	Weight   int    `json:"weight,omitempty"` // share under the weighted strategy; 0 counts as 1
	Price    Price  `json:"price"`
	Priced   bool   `json:"priced,omitempty"` // Price holds although it is zero: the deployment costs nothing
	// Context, MaxOutput and Capabilities say where the deployment differs from its model; zero, for
	// Capabilities nil: as the model.
	Context      int64        `json:"context,omitempty"`
	MaxOutput    int64        `json:"max_output,omitempty"`
	Capabilities []Capability `json:"capabilities,omitzero"`
	Lacks        []Capability `json:"lacks,omitempty"`   // what the model can do and this deployment can not
	Drained      bool         `json:"drained,omitempty"` // takes no new requests
	Capacity     Capacity     `json:"capacity,omitzero"`
}

// Capacity is what a deployment can serve. Zero: nobody knows.
type Capacity struct {
	Concurrency int64 `json:"concurrency,omitempty"` // requests at the same time
}

// OpenTo says whether an organization may use what the provider serves.
func (p *Provider) OpenTo(organization string) bool {
	if p.Community != "" {
		return organization != p.Organization && p.Among[organization]
	}
	return p.Organization == "" || p.Organization == organization
}

// HasPrice says whether a price was declared, be it zero. Without one the catalogue's counts, if it has one.
func (d *Deployment) HasPrice() bool { return d.Priced || d.Price != Price{} }

// ID names the deployment in headers, records and metrics.
func (d *Deployment) ID() string { return d.Provider + "/" + d.Model }

// Equivalent is another model that may stand in, with a grade from 0 to 1.
type Equivalent struct {
	Model string  `json:"model"`
	Grade float64 `json:"grade"`
}

// Route maps a client-facing name to models and a policy.
type Route struct {
	Name      string         `json:"name"`
	Models    []string       `json:"models"`
	Endpoints []Endpoint     `json:"endpoints,omitempty"` // none: all
	Projects  []string       `json:"projects,omitempty"`  // "project" or "organization/project"; "*" or none: all
	Policy    string         `json:"policy,omitempty"`    // empty: the default policy
	Origin    account.Origin `json:"-"`
}

// Serves says whether the route answers an endpoint.
func (r *Route) Serves(e Endpoint) bool {
	if len(r.Endpoints) == 0 {
		return true
	}
	for _, have := range r.Endpoints {
		if have == e {
			return true
		}
	}
	return false
}

// OpenTo says whether a project may use the route.
func (r *Route) OpenTo(organization, project string) bool {
	if len(r.Projects) == 0 {
		return true
	}
	for _, p := range r.Projects {
		if p == "*" || p == project || p == organization+"/"+project {
			return true
		}
	}
	return false
}
