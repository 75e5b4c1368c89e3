package adminapi

import (
	"time"

	"shareai/internal/catalog"
)

// Model is a model with its deployments, as the file declares it.
type Model struct {
	Name         string       `json:"name" maxLength:"128"`
	Context      int64        `json:"context,omitempty" minimum:"0" doc:"Tokens; missing: as the catalogue knows."`
	MaxOutput    int64        `json:"max_output,omitempty" minimum:"0"`
	Capabilities *[]string    `json:"capabilities,omitempty" nullable:"false" doc:"All of them; missing: as the catalogue knows."`
	Deployments  []Deployment `json:"deployments" nullable:"false" maxItems:"200"`
	Equivalents  []Equivalent `json:"equivalents,omitempty" nullable:"false" maxItems:"100"`
	Limits       *Limits      `json:"limits,omitempty"`
	Budgets      []Budget     `json:"budgets,omitempty" nullable:"false" maxItems:"20"`
	Managed
}

// Deployment is a model at a provider.
type Deployment struct {
	Provider     string    `json:"provider" maxLength:"63"`
	Model        string    `json:"model" maxLength:"400" doc:"The provider's own id of the model."`
	Weight       int       `json:"weight,omitempty" minimum:"0"`
	Price        *Price    `json:"price,omitempty" doc:"Missing: as the catalogue knows."`
	Context      int64     `json:"context,omitempty" minimum:"0" doc:"Where it differs from the model, as the next three."`
	MaxOutput    int64     `json:"max_output,omitempty" minimum:"0"`
	Capabilities *[]string `json:"capabilities,omitempty" nullable:"false"`
	Lacks        []string  `json:"lacks,omitempty" nullable:"false"`
	Drained      bool      `json:"drained,omitempty" doc:"It takes no new requests."`
	Capacity     *Capacity `json:"capacity,omitempty"`
}

// Capacity is what a deployment can take.
type Capacity struct {
	Concurrency int64 `json:"concurrency" minimum:"0"`
}

// Price is in US dollars per million tokens.
type Price struct {
	Input        float64     `json:"input" minimum:"0"`
	Output       float64     `json:"output" minimum:"0"`
	CachedInput  *float64    `json:"cached_input,omitempty" minimum:"0" doc:"Missing: as input."`
	CacheWrite   *float64    `json:"cache_write,omitempty" minimum:"0" doc:"Missing: as what it is a part of, here and below."`
	CacheWrite1h *float64    `json:"cache_write_1h,omitempty" minimum:"0"`
	Reasoning    *float64    `json:"reasoning,omitempty" minimum:"0"`
	AudioInput   *float64    `json:"audio_input,omitempty" minimum:"0"`
	AudioOutput  *float64    `json:"audio_output,omitempty" minimum:"0"`
	Request      *float64    `json:"request,omitempty" minimum:"0" doc:"US dollars for each answer."`
	Above        *PriceAbove `json:"above,omitempty" doc:"For longer prompts."`
}

// PriceAbove is the price of requests whose prompt has more than so many tokens.
type PriceAbove struct {
	Tokens int64 `json:"tokens"`
	PriceOf
}

// PriceOf is a price within another one.
type PriceOf struct {
	Input        float64  `json:"input" minimum:"0"`
	Output       float64  `json:"output" minimum:"0"`
	CachedInput  *float64 `json:"cached_input,omitempty" minimum:"0"`
	CacheWrite   *float64 `json:"cache_write,omitempty" minimum:"0"`
	CacheWrite1h *float64 `json:"cache_write_1h,omitempty" minimum:"0"`
	Reasoning    *float64 `json:"reasoning,omitempty" minimum:"0"`
	AudioInput   *float64 `json:"audio_input,omitempty" minimum:"0"`
	AudioOutput  *float64 `json:"audio_output,omitempty" minimum:"0"`
	Request      *float64 `json:"request,omitempty" minimum:"0"`
}

// Equivalent is a model that may stand in.
type Equivalent struct {
	Model string  `json:"model" maxLength:"128"`
	Grade float64 `json:"grade" minimum:"0" maximum:"1"`
}

// Route is a client-facing name.
type Route struct {
	Name      string   `json:"name" maxLength:"128"`
	Models    []string `json:"models" nullable:"false" maxItems:"100"`
	Endpoints []string `json:"endpoints,omitempty" nullable:"false" doc:"Missing: all."`
	Projects  []string `json:"projects,omitempty" nullable:"false" maxItems:"1000" doc:"PROJECT or ORGANIZATION/PROJECT; missing: all."`
	Policy    string   `json:"policy,omitempty" maxLength:"63" doc:"Missing: the default policy."`
	Managed
}

// Policy says how failover is done. Durations are written as 500ms, 2s or 5m.
type Policy struct {
	Name                string     `json:"name" maxLength:"63"`
	Strategy            string     `json:"strategy,omitempty" enum:"order,cost,latency,weighted"`
	Order               []string   `json:"order,omitempty" nullable:"false" maxItems:"200"`
	Equivalents         string     `json:"equivalents,omitempty" enum:"off,closest,any"`
	Fallbacks           []string   `json:"fallbacks,omitempty" nullable:"false" maxItems:"100"`
	MaxPriceRatio       float64    `json:"max_price_ratio,omitempty" minimum:"0"`
	Regions             []string   `json:"regions,omitempty" nullable:"false" maxItems:"100"`
	Retention           []string   `json:"retention,omitempty" nullable:"false" maxItems:"20"`
	OnContentFilter     string     `json:"on_content_filter,omitempty" enum:"return,fallback"`
	FailoverOn          []string   `json:"failover_on,omitempty" nullable:"false" maxItems:"20"`
	Hedge               string     `json:"hedge,omitempty" enum:"off,p95"`
	HoldToolCalls       string     `json:"hold_tool_calls,omitempty" enum:"auto,off"`
	Attempts            *Attempts  `json:"attempts,omitempty"`
	Deadlines           *Deadlines `json:"deadlines,omitempty"`
	Resume              string     `json:"resume,omitempty" enum:"auto,off"`
	Cache               *CacheFor  `json:"cache,omitempty"`
	LogContent          bool       `json:"log_content,omitempty"`
	OnLimitStoreFailure string     `json:"on_limit_store_failure,omitempty" enum:"allow,reject"`
	Managed
}

// Attempts bound tries.
type Attempts struct {
	Total         int `json:"total,omitempty" minimum:"0"`
	PerDeployment int `json:"per_deployment,omitempty" minimum:"0"`
}

// Deadlines bound waiting.
type Deadlines struct {
	Connect    string `json:"connect,omitempty"`
	Headers    string `json:"headers,omitempty"`
	FirstToken string `json:"first_token,omitempty"`
	Idle       string `json:"idle,omitempty"`
	Total      string `json:"total,omitempty"`
}

// CacheFor is how long answers are kept.
type CacheFor struct {
	TTL          string `json:"ttl,omitempty"`
	StaleIfError string `json:"stale_if_error,omitempty"`
}

func words[T ~string](list []T) []string {
	if list == nil {
		return nil
	}
	all := make([]string, len(list))
	for i, w := range list {
		all[i] = string(w)
	}
	return all
}

func wordsOrNone[T ~string](list []T) *[]string {
	if list == nil {
		return nil
	}
	all := words(list)
	return &all
}

func span(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return d.String()
}

func viewModel(m *catalog.Model) Model {
	v := Model{
		Name: m.Name, Context: m.Context, MaxOutput: m.MaxOutput, Capabilities: wordsOrNone(m.Capabilities), Deployments: make([]Deployment, len(m.Deployments)),
		Managed: Managed{string(m.Origin)},
	}
	for i := range m.Deployments {
		v.Deployments[i] = viewDeployment(&m.Deployments[i])
	}
	for _, e := range m.Equivalents {
		v.Equivalents = append(v.Equivalents, Equivalent(e))
	}
	if m.Limits.Any() {
		limits := Limits(m.Limits)
		v.Limits = &limits
	}
	if len(m.Budgets) > 0 {
		v.Budgets = viewBudgets(m.Budgets)
	}
	return v
}

func viewDeployment(d *catalog.Deployment) Deployment {
	v := Deployment{
		Provider: d.Provider, Model: d.Model, Weight: d.Weight, Context: d.Context, MaxOutput: d.MaxOutput,
		Capabilities: wordsOrNone(d.Capabilities), Lacks: words(d.Lacks), Drained: d.Drained,
	}
	if d.HasPrice() {
		p := viewPrice(d.Price)
		v.Price = &Price{
			Input: p.Input, Output: p.Output, CachedInput: p.CachedInput, CacheWrite: p.CacheWrite, CacheWrite1h: p.CacheWrite1h, Reasoning: p.Reasoning,
			AudioInput: p.AudioInput, AudioOutput: p.AudioOutput, Request: p.Request,
		}
		if d.Price.Above != nil {
			v.Price.Above = &PriceAbove{Tokens: d.Price.Above.Tokens, PriceOf: viewPrice(d.Price.Above.Price)}
		}
	}
	if d.Capacity.Concurrency > 0 {
		v.Capacity = &Capacity{d.Capacity.Concurrency}
	}
	return v
}

// viewPrice is a price without that of longer prompts.
func viewPrice(p catalog.Price) PriceOf {
	own := func(nano int64) *float64 {
		switch dollars := usd(max(nano, 0)); nano {
		case 0:
			return nil
		default:
			return &dollars
		}
	}
	v := PriceOf{
		Input: usd(p.Input), Output: usd(p.Output), CacheWrite: own(p.CacheWrite), CacheWrite1h: own(p.CacheWrite1h), Reasoning: own(p.Reasoning),
		AudioInput: own(p.AudioInput), AudioOutput: own(p.AudioOutput), Request: own(p.Request),
	}
	cached := usd(p.CachedInput)
	v.CachedInput = &cached
	return v
}

func viewRoute(r *catalog.Route) Route {
	return Route{Name: r.Name, Models: r.Models, Endpoints: words(r.Endpoints), Projects: r.Projects, Policy: r.Policy, Managed: Managed{string(r.Origin)}}
}

func viewPolicy(p *catalog.Policy) Policy {
	v := Policy{
		Name: p.Name, Strategy: string(p.Strategy), Order: p.Order, Equivalents: p.Equivalents, Fallbacks: p.Fallbacks, MaxPriceRatio: p.MaxPriceRatio,
		Regions: p.Regions, Retention: p.Retention, OnContentFilter: p.OnContentFilter, FailoverOn: words(p.FailoverOn), Hedge: p.Hedge, HoldToolCalls: p.HoldToolCalls,
		Resume: p.Resume, LogContent: p.LogContent, OnLimitStoreFailure: p.OnLimitStoreFailure, Managed: Managed{string(p.Origin)},
	}
	if p.Attempts != (catalog.Attempts{}) {
		v.Attempts = &Attempts{p.Attempts.Total, p.Attempts.PerDeployment}
	}
	if d := p.Deadlines; d != (catalog.Deadlines{}) {
		v.Deadlines = &Deadlines{span(d.Connect), span(d.Headers), span(d.FirstToken), span(d.Idle), span(d.Total)}
	}
	if p.Cache != (catalog.Cache{}) {
		v.Cache = &CacheFor{span(p.Cache.TTL), span(p.Cache.StaleIfError)}
	}
	return v
}

// Provider is a provider, as the file declares it. Its keys are added and removed one by one.
type Provider struct {
	Name           string            `json:"name" maxLength:"63"`
	Dialect        string            `json:"dialect" enum:"openai,azure,simulated"`
	BaseURL        string            `json:"base_url,omitempty" maxLength:"500"`
	APIVersion     string            `json:"api_version,omitempty" maxLength:"40"`
	Region         string            `json:"region,omitempty" maxLength:"40"`
	Retention      string            `json:"retention,omitempty" maxLength:"20"`
	PrivateNetwork bool              `json:"private_network,omitempty"`
	OutputLimit    string            `json:"output_limit,omitempty" enum:"as_sent,max_tokens"`
	Prefill        string            `json:"prefill,omitempty" enum:"trailing,continue_final_message,prefix,partial"`
	Drained        bool              `json:"drained,omitempty" doc:"It takes no new requests."`
	Probe          *Probe            `json:"probe,omitempty"`
	Simulated      *Simulation       `json:"simulated,omitempty"`
	Keys           []ProviderKeyView `json:"keys,omitempty" nullable:"false" readOnly:"true"`
	Managed
}

// Probe is how it is found out whether a provider is there.
type Probe struct {
	Kind        string  `json:"kind,omitempty" enum:"off,models,tcp,canary"`
	Every       string  `json:"every,omitempty"`
	DailyCapUSD float64 `json:"daily_cap_usd,omitempty" minimum:"0" doc:"What canaries may cost in a day."`
}

// Simulation is how a simulated provider behaves.
type Simulation struct {
	Latency         string  `json:"latency,omitempty"`
	TokensPerSecond float64 `json:"tokens_per_second,omitempty" minimum:"0"`
	Tokens          int     `json:"tokens,omitempty" minimum:"0"`
	Fault           string  `json:"fault,omitempty"`
	FaultShare      float64 `json:"fault_share,omitempty" minimum:"0" maximum:"1"`
}

// ProviderKeyView is a provider's key without its secret.
type ProviderKeyView struct {
	Name   string `json:"name"`
	Weight int    `json:"weight,omitempty"`
}

func viewProvider(p *catalog.Provider) Provider {
	v := Provider{
		Name: p.Name, Dialect: string(p.Dialect), BaseURL: p.BaseURL, APIVersion: p.APIVersion, Region: p.Region, Retention: p.Retention, PrivateNetwork: p.PrivateNetwork,
		OutputLimit: string(p.OutputLimit), Prefill: string(p.Prefill), Drained: p.Drained, Managed: Managed{string(p.Origin)},
	}
	for _, k := range p.Keys {
		v.Keys = append(v.Keys, ProviderKeyView{k.Name, k.Weight})
	}
	if p.Probe != (catalog.Probe{}) {
		v.Probe = &Probe{string(p.Probe.Kind), span(p.Probe.Every), usd(p.Probe.DailyCap)}
	}
	if s := p.Simulation; s != (catalog.Simulation{}) {
		v.Simulated = &Simulation{span(s.Latency), s.TokensPerSecond, s.Tokens, string(s.Fault), s.FaultShare}
	}
	return v
}
