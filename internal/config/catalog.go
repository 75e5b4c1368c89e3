package config

import (
	"math"
	"net/url"
	"regexp"
	"strings"
	"time"

	"shareai/internal/account"
	"shareai/internal/catalog"
)

// The bounds of the catalog's numbers.
const (
	mostWeight    = 1_000_000
	mostTokens    = 1_000_000_000
	mostAttempts  = 100
	mostRatio     = 1_000_000
	longestDelay  = 24 * time.Hour
	longestCached = 365 * 24 * time.Hour
	leastProbe    = time.Second
)

var (
	regionShape = shape{
		regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`), "must be a short lower-case name", "for example eu or us-east-1",
	}
	retentionShape = shape{
		regexp.MustCompile(`^(none|unknown|[1-9][0-9]{0,3}d)$`), "must be none, unknown or a number of days", "for example 30d",
	}
	// modelShape is that of canonical models and routes, the names that clients send.
	modelShape = shape{
		regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._:/@+-]{0,126}[A-Za-z0-9])?$`),
		"must have 1 to 128 letters, digits and . _ : / @ + - and begin and end with a letter or digit", "",
	}
	versionShape = shape{regexp.MustCompile(`^[A-Za-z0-9.-]{1,40}$`), "must be an API version", "for example 2024-10-21"}
	// foreignShape is that of other people's model ids.
	foreignShape = shape{regexp.MustCompile(`^\S{1,256}$`), "must have 1 to 256 characters without spaces", ""}
	orderShape   = shape{
		regexp.MustCompile(`^(node:[A-Za-z0-9*?._-]{1,64}|community:[a-z0-9*-]{1,64}|[a-z0-9][a-z0-9._-]{0,62})$`), "must be the name of a provider, node:NAME or community:HANDLE", `"node:*" is every node`,
	}
	scopeShape = shape{
		regexp.MustCompile(`^(\*|[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*)?)$`), "must be a project", `"*", project or organization/project`,
	}
)

func (d *decoder) provider(v value) catalog.Provider {
	p := catalog.Provider{Origin: account.FromFile}
	d.mapping(v, fields{
		"name":            d.name(&p.Name),
		"dialect":         d.dialect(&p.Dialect),
		"base_url":        d.baseURL(&p.BaseURL),
		"api_version":     d.shaped(versionShape)(&p.APIVersion),
		"keys":            list(d, &p.Keys, d.providerKey),
		"region":          unlessEmpty(d.shaped(regionShape)(&p.Region)),
		"retention":       unlessEmpty(d.shaped(retentionShape)(&p.Retention)),
		"private_network": d.boolean(&p.PrivateNetwork),
		"output_limit":    choice(d, &p.OutputLimit, catalog.OutputLimitAsSent, catalog.OutputLimitMaxTokens),
		"prefill":         choice(d, &p.Prefill, catalog.PrefillForms...),
		"drained":         d.boolean(&p.Drained),
		"probe":           d.probe(&p.Probe),
		"simulated":       d.simulation(&p.Simulation),
	}, "name", "dialect")
	if p.Dialect != "" {
		d.matching(v, p.Dialect)
	}
	return p
}

// matching checks that a provider has the fields that its dialect needs, and none that it ignores.
func (d *decoder) matching(v value, dialect catalog.Dialect) {
	given := func(name string) bool { f := v.field(name); return f != nil && f.kind != null }
	only := func(field string, allowed bool, hint string) {
		if given(field) && !allowed {
			f := value{node: v.field(field), what: field}
			d.complain(f, hint, "has no meaning for the dialect %s", dialect)
		}
	}
	if dialect != catalog.Simulated && !given("base_url") {
		d.complain(v, "for example https://api.provider.example/v1", "needs the field base_url")
	}
	only("base_url", dialect != catalog.Simulated, "remove it: a simulated provider lives in the gateway")
	only("api_version", dialect == catalog.Azure, "remove it, or use the dialect azure")
	only("simulated", dialect == catalog.Simulated, "remove it, or use the dialect simulated")
}

// laterDialects are part of the format, but this version does not speak them.
var laterDialects = []catalog.Dialect{"anthropic", "gemini", "bedrock"}

func (d *decoder) dialect(into *catalog.Dialect) reader {
	return func(v value) {
		for _, later := range laterDialects {
			if v.kind == scalar && v.text == string(later) {
				d.complain(v, "use openai with the provider's OpenAI-compatible endpoint, if it has one", "%s is not in this version", later)
				return
			}
		}
		choice(d, into, catalog.Dialects...)(v)
	}
}

// baseURL reads an http or https URL. It may not contain credentials: it is shown to people.
func (d *decoder) baseURL(into *string) reader {
	return func(v value) {
		text, ok := d.scalar(v)
		if !ok {
			return
		}
		u, err := url.Parse(text)
		switch {
		case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || strings.ContainsFunc(text, isSpace):
			d.complain(v, "for example https://api.provider.example/v1", "must be an http:// or https:// URL")
		case u.User != nil:
			d.complain(v, "put the credential into keys", "must not contain a user name or password")
		case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
			d.complain(v, "remove everything from the first ? or #; api_version has a field of its own", "must not contain a query or fragment")
		default:
			*into = strings.TrimRight(text, "/")
		}
	}
}

func isSpace(r rune) bool { return r == ' ' || r == '\t' }

func (d *decoder) providerKey(v value) catalog.ProviderKey {
	var k catalog.ProviderKey
	d.mapping(v, fields{
		"name":   d.name(&k.Name),
		"secret": d.secret(&k.Secret, 1),
		"weight": integer(d, &k.Weight, mostWeight),
	}, "name", "secret")
	return k
}

// probe reads how a provider is probed. What costs money is sent only where somebody has said how much.
func (d *decoder) probe(into *catalog.Probe) reader {
	return func(v value) {
		var usd float64
		d.mapping(v, fields{
			"kind": choice(d, &into.Kind, catalog.ProbeKinds...),
			"every": func(v value) {
				d.duration(&into.Every, longestDelay)(v)
				if into.Every > 0 && into.Every < leastProbe {
					d.complain(v, "", "must be 0s or at least %s", leastProbe)
				}
			},
			"daily_cap_usd": d.number(&usd, span{0, mostBudget, false}),
		})
		into.DailyCap = int64(math.Round(usd * 1e9))
		d.capping(v, into.Kind)
	}
}

// capping checks that a cap stands where something costs money, and nowhere else.
func (d *decoder) capping(v value, kind catalog.ProbeKind) {
	said, most := v.field("kind"), v.field("daily_cap_usd")
	unclear := said != nil && said.kind != null && kind == "" // it was complained about
	switch canary := kind == catalog.ProbeCanary; {
	case canary && (most == nil || most.kind == null):
		d.complain(v, "US dollars in a day, for example daily_cap_usd: 0.10", "needs the field daily_cap_usd: a canary is a request that is paid for")
	case !canary && !unclear && most != nil && most.kind != null:
		d.complain(value{node: most, what: "daily_cap_usd"}, "remove it, or use the kind canary", "has no meaning for probes that are free of charge")
	}
}

func (d *decoder) simulation(into *catalog.Simulation) reader {
	return func(v value) {
		d.mapping(v, fields{
			"latency":           d.duration(&into.Latency, longestDelay),
			"tokens_per_second": d.number(&into.TokensPerSecond, span{0, 1_000_000, false}),
			"tokens":            integer(d, &into.Tokens, 1_000_000),
			"fault":             unlessEmpty(choice(d, &into.Fault, catalog.Faults...)),
			"fault_share":       d.number(&into.FaultShare, span{0, 1, false}),
		})
	}
}

func (d *decoder) model(v value) catalog.Model {
	m := catalog.Model{Origin: account.FromFile}
	d.mapping(v, fields{
		"name":         d.shaped(modelShape)(&m.Name),
		"context":      integer(d, &m.Context, mostTokens),
		"max_output":   integer(d, &m.MaxOutput, mostTokens),
		"capabilities": d.capabilities(&m.Capabilities),
		"deployments":  list(d, &m.Deployments, d.deployment),
		"limits":       d.limits(&m.Limits),
		"budgets":      list(d, &m.Budgets, d.budget),
		"equivalents": list(d, &m.Equivalents, func(v value) (e catalog.Equivalent) {
			d.mapping(v, fields{
				"model": d.shaped(modelShape)(&e.Model),
				"grade": d.number(&e.Grade, span{0, 1, false}),
			}, "model", "grade")
			return e
		}),
	}, "name")
	return m
}

func (d *decoder) deployment(v value) catalog.Deployment {
	var dep catalog.Deployment
	d.mapping(v, fields{
		"provider": d.name(&dep.Provider),
		"model":    d.shaped(foreignShape)(&dep.Model),
		"weight":   integer(d, &dep.Weight, mostWeight),
		"price":    d.price(&dep),

		"context":      integer(d, &dep.Context, mostTokens),
		"max_output":   integer(d, &dep.MaxOutput, mostTokens),
		"capabilities": d.capabilities(&dep.Capabilities),
		"lacks":        list(d, &dep.Lacks, d.capability),
		"drained":      d.boolean(&dep.Drained),
		"capacity":     d.capacity(&dep.Capacity),
	}, "provider", "model")
	return dep
}

func (d *decoder) capacity(into *catalog.Capacity) reader {
	return func(v value) {
		d.mapping(v, fields{"concurrency": integer(d, &into.Concurrency, mostLimit)}, "concurrency")
	}
}

// capabilities reads a list that says all, even where it has no entries: text, and nothing else.
func (d *decoder) capabilities(into *[]catalog.Capability) reader {
	return func(v value) {
		*into = []catalog.Capability{}
		list(d, into, d.capability)(v)
	}
}

func (d *decoder) capability(v value) (c catalog.Capability) {
	choice(d, &c, catalog.Capabilities...)(v)
	return c
}

// price reads what a deployment charges.
func (d *decoder) price(of *catalog.Deployment) reader {
	return func(v value) {
		of.Priced = true
		d.mapping(v, d.prices(&of.Price))
		d.settlePrice(v, &of.Price)
	}
}

// prices are the fields of a price, in USD per million tokens.
func (d *decoder) prices(into *catalog.Price) fields {
	return fields{
		"input":          d.perMillion(&into.Input),
		"output":         d.perMillion(&into.Output),
		"cached_input":   d.perMillion(&into.CachedInput),
		"cache_write":    d.ownPrice(&into.CacheWrite),
		"cache_write_1h": d.ownPrice(&into.CacheWrite1h),
		"reasoning":      d.ownPrice(&into.Reasoning),
		"audio_input":    d.ownPrice(&into.AudioInput),
		"audio_output":   d.ownPrice(&into.AudioOutput),
		"request":        d.perMillion(&into.Request), // nano-dollars are a billionth as well
		"above":          d.above(&into.Above),
	}
}

// settlePrice fills in what was not said: cached input costs as much as any, a request as much as a shorter one.
func (d *decoder) settlePrice(v value, p *catalog.Price) {
	if f := v.field("cached_input"); f == nil || f.kind == null {
		p.CachedInput = p.Input
	}
	if p.Above != nil && p.Above.Request == 0 && v.field("above").field("request") == nil {
		p.Above.Request = p.Request
	}
}

// above reads the price of longer prompts.
func (d *decoder) above(into **catalog.Above) reader {
	return func(v value) {
		a := &catalog.Above{}
		*into = a
		known := d.prices(&a.Price)
		known["tokens"] = integer(d, &a.Tokens, mostTokens)
		d.mapping(v, known, "tokens", "input", "output")
		d.settlePrice(v, &a.Price)
		if next := a.Above; next != nil && next.Tokens <= a.Tokens {
			inner := value{node: v.field("above"), path: v.path, what: v.what}
			d.complain(inner, "", "must have more tokens than the one that it stands in, which has %d", a.Tokens)
		}
	}
}

// ownPrice reads the price of a kind of tokens that would otherwise cost what others do.
func (d *decoder) ownPrice(into *int64) reader {
	read := d.perMillion(into)
	return func(v value) {
		if read(v); *into == 0 {
			*into = catalog.Free
		}
	}
}

func (d *decoder) perMillion(into *int64) reader {
	return func(v value) {
		usd := -1.0
		d.number(&usd, span{0, catalog.MaxUSDPerMillion, false})(v)
		if nano, err := catalog.NanoPerMillion(usd); err == nil {
			*into = nano
		}
	}
}

func (d *decoder) route(v value) catalog.Route {
	r := catalog.Route{Origin: account.FromFile}
	d.mapping(v, fields{
		"name":   d.shaped(modelShape)(&r.Name),
		"models": list(d, &r.Models, d.item(d.shaped(modelShape))),
		"endpoints": list(d, &r.Endpoints, func(v value) (e catalog.Endpoint) {
			choice(d, &e, catalog.Endpoints...)(v)
			return e
		}),
		"projects": list(d, &r.Projects, d.item(d.shaped(scopeShape))),
		"policy":   unlessEmpty(d.name(&r.Policy)),
	}, "name", "models")
	return r
}

func (d *decoder) policy(v value) catalog.Policy {
	p := catalog.Policy{Origin: account.FromFile}
	d.mapping(v, fields{
		"name":              d.name(&p.Name),
		"strategy":          choice(d, &p.Strategy, catalog.Strategies...),
		"order":             list(d, &p.Order, d.item(d.shaped(orderShape))),
		"equivalents":       choice(d, &p.Equivalents, catalog.EquivalentsOff, catalog.EquivalentsClosest, catalog.EquivalentsAny),
		"fallbacks":         list(d, &p.Fallbacks, d.item(d.shaped(modelShape))),
		"max_price_ratio":   d.number(&p.MaxPriceRatio, span{0, mostRatio, false}),
		"regions":           list(d, &p.Regions, d.item(d.shaped(regionShape))),
		"retention":         list(d, &p.Retention, d.item(d.shaped(retentionShape))),
		"on_content_filter": choice(d, &p.OnContentFilter, catalog.FilterReturn, catalog.FilterFallback),
		"failover_on": func(v value) {
			list(d, &p.FailoverOn, func(v value) (c catalog.FailureClass) {
				choice(d, &c, catalog.FailureClasses...)(v)
				return c
			})(v)
			if v.kind == sequence && len(v.items) == 0 {
				d.complain(v, "leave the field out for all classes", "names no failure")
			}
		},
		"hedge":                  choice(d, &p.Hedge, catalog.Off, catalog.HedgeP95),
		"hold_tool_calls":        choice(d, &p.HoldToolCalls, catalog.Auto, catalog.Off),
		"attempts":               d.attempts(&p.Attempts),
		"deadlines":              d.deadlines(&p.Deadlines),
		"resume":                 choice(d, &p.Resume, catalog.Auto, catalog.Off),
		"cache":                  d.cache(&p.Cache),
		"log_content":            d.boolean(&p.LogContent),
		"community":              choice(d, &p.Community, catalog.Off, catalog.CommunityAllow),
		"on_limit_store_failure": choice(d, &p.OnLimitStoreFailure, catalog.LimitsAllow, catalog.LimitsReject),
	}, "name")
	return p
}

func (d *decoder) attempts(into *catalog.Attempts) reader {
	return func(v value) {
		d.mapping(v, fields{
			"total":          integer(d, &into.Total, mostAttempts),
			"per_deployment": integer(d, &into.PerDeployment, mostAttempts),
		})
	}
}

func (d *decoder) deadlines(into *catalog.Deadlines) reader {
	return func(v value) {
		d.mapping(v, fields{
			"connect":     d.duration(&into.Connect, longestDelay),
			"headers":     d.duration(&into.Headers, longestDelay),
			"first_token": d.duration(&into.FirstToken, longestDelay),
			"idle":        d.duration(&into.Idle, longestDelay),
			"total":       d.duration(&into.Total, longestDelay),
		})
	}
}

func (d *decoder) cache(into *catalog.Cache) reader {
	return func(v value) {
		d.mapping(v, fields{
			"ttl":            d.duration(&into.TTL, longestCached),
			"stale_if_error": d.duration(&into.StaleIfError, longestCached),
		})
	}
}
