package routing

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"shareai/internal/account"
	"shareai/internal/catalog"
	"shareai/internal/fault"
	"shareai/internal/health"
	"shareai/internal/openai"
	"shareai/internal/snapshot"
)

// house compiles a small installation: three providers that serve one model, and a second model.
func house(t interface{ Fatal(...any) }, change func(*snapshot.Spec)) *snapshot.Snapshot {
	spec := snapshot.Spec{
		Organizations: []account.Organization{{Name: "acme"}},
		Projects:      []account.Project{{Organization: "acme", Name: "app"}},
		Providers: []catalog.Provider{
			{Name: "alpha", Dialect: catalog.Simulated, Region: "eu", Retention: "none"},
			{Name: "beta", Dialect: catalog.Simulated, Region: "us", Retention: "30d"},
			{Name: "gamma", Dialect: catalog.Simulated, Region: "eu"},
		},
		Models: []catalog.Model{
			{Name: "llama", Deployments: []catalog.Deployment{
				{Provider: "alpha", Model: "l", Weight: 3, Price: catalog.Price{Input: 10e9, Output: 10e9}},
				{Provider: "beta", Model: "l", Weight: 1, Price: catalog.Price{Input: 1e9, Output: 1e9}},
				{Provider: "gamma", Model: "l", Price: catalog.Price{Input: 20e9, Output: 20e9}},
			}},
			{Name: "qwen", Deployments: []catalog.Deployment{{Provider: "beta", Model: "q", Price: catalog.Price{Input: 2e9, Output: 2e9}}}},
		},
		Policies:      []catalog.Policy{{Name: "p"}},
		DefaultPolicy: "p",
		Routes:        []catalog.Route{{Name: "chat", Models: []string{"llama"}, Endpoints: []catalog.Endpoint{catalog.Chat}, Projects: []string{"app"}}},
	}
	if change != nil {
		change(&spec)
	}
	view, err := snapshot.Compile(spec)
	if err != nil {
		t.Fatal(err)
	}
	return view
}

// equivalents adds two models, and those that may stand in for llama.
func equivalents(s *snapshot.Spec, list ...catalog.Equivalent) {
	s.Models[0].Equivalents = list
	s.Models = append(s.Models,
		catalog.Model{Name: "mistral", Deployments: []catalog.Deployment{{Provider: "gamma", Model: "m"}}},
		catalog.Model{Name: "solo", Deployments: []catalog.Deployment{{Provider: "alpha", Model: "s"}}})
}

// dearEquivalents adds a dear one and a cheap one, and a ratio that only the cheap one keeps.
func dearEquivalents(s *snapshot.Spec) {
	equivalents(s, catalog.Equivalent{Model: "mistral", Grade: 0.9}, catalog.Equivalent{Model: "solo", Grade: 0.5})
	s.Models[2].Deployments[0].Price = catalog.Price{Input: 16e9, Output: 16e9}
	s.Models[3].Deployments[0].Price = catalog.Price{Input: 9e9, Output: 9e9}
	s.Policies[0].MaxPriceRatio, s.Policies[0].Equivalents = 1.5, catalog.EquivalentsAny
}

func ask(model string) Ask {
	return Ask{
		Principal: &account.Principal{
			Key:          &account.APIKey{Name: "k"},
			Project:      &account.Project{Organization: "acme", Name: "app"},
			Organization: &account.Organization{Name: "acme"},
		},
		Endpoint: catalog.Chat,
		Request:  &openai.Request{Model: model, PromptBytes: 400, MaxTokens: 100},
		Wish:     Wish{AllowFallbacks: true},
		Draw:     func() float64 { return 0 },
	}
}

// conditions is a view of deployments by the names under which their health is kept; the others are well.
type conditions map[string]health.View

func (c conditions) Look(id string) health.View {
	if v, ok := c[id]; ok {
		return v
	}
	return health.View{State: health.Closed, SuccessRate: 1}
}

func (conditions) Turn(string) float64 { return 0 }

func open(badness float64) health.View {
	return health.View{State: health.Open, Badness: badness, SuccessRate: 0.1}
}

func measured(latency time.Duration, rate float64) health.View {
	return health.View{State: health.Closed, Latency: [2]time.Duration{latency, latency}, SuccessRate: rate}
}

// verdicts writes a plan as "alpha beta:region ...".
func verdicts(p Plan) string {
	var words []string
	for _, c := range p.Candidates {
		w := c.Provider.Name
		if c.Origin != OfModel {
			w += "=" + string(c.Origin)
		}
		if c.Excluded != Kept {
			w += ":" + string(c.Excluded)
		}
		words = append(words, w)
	}
	return strings.Join(words, " ")
}

// planCase is a change of the house and of a request, and the plan that follows.
type planCase struct {
	name  string
	spec  func(*snapshot.Spec)
	model string
	ask   func(*Ask)
	want  string
}

func checkPlans(t *testing.T, cases []planCase) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			a := ask(c.model)
			if c.ask != nil {
				c.ask(&a)
			}
			plan, err := Make(house(t, c.spec), a)
			if err != nil {
				t.Fatal(err)
			}
			if got := verdicts(plan); got != c.want {
				t.Errorf("plan %q, want %q", got, c.want)
			}
		})
	}
}

func policy(change func(*catalog.Policy)) func(*snapshot.Spec) {
	return func(s *snapshot.Spec) { change(&s.Policies[0]) }
}

func TestPlan(t *testing.T) {
	checkPlans(t, []planCase{
		{"as declared", nil, "llama", nil, "alpha beta gamma"},
		{"by the policy's order, the rest after", policy(func(p *catalog.Policy) { p.Order = []string{"gamma", "beta"} }), "llama", nil, "gamma beta alpha"},
		{"by cost", policy(func(p *catalog.Policy) { p.Strategy = catalog.Cheapest }), "llama", nil, "beta alpha gamma"},
		{"regions hold", policy(func(p *catalog.Policy) { p.Regions = []string{"eu"} }), "llama", nil, "alpha beta:region gamma"},
		{"an undeclared retention is unknown", policy(func(p *catalog.Policy) { p.Retention = []string{"none"} }), "llama", nil, "alpha beta:retention gamma:retention"},
		{"the ratio is measured by what the request rules out, not by an equivalent", func(s *snapshot.Spec) {
			dearEquivalents(s)
			s.Models[0].Capabilities = []catalog.Capability{}
		}, "llama", func(a *Ask) { a.Needs.Tools = true }, "alpha:capability beta:capability gamma:capability gamma=equivalent:price alpha=equivalent"},
		{"a wanted length does not raise the ceiling", func(s *snapshot.Spec) {
			dearEquivalents(s)
			s.Models[0].MaxOutput = 50
		}, "llama", nil, "alpha:max_output beta:max_output gamma:max_output gamma=equivalent:price alpha=equivalent"},
		{"a ceiling of the request does not raise the policy's", func(s *snapshot.Spec) {
			dearEquivalents(s)
			s.Models[2].Deployments[0].Price = catalog.Price{Input: 9e9, Output: 30e9}
		}, "llama", func(a *Ask) {
			a.Wish.Ignore = []string{"beta"}
			a.Wish.MaxPrice = &PriceCeiling{9e9, 100e9}
		}, "alpha:price beta:not_wanted gamma:price gamma=equivalent:price alpha=equivalent"},
		{"an equivalent is the measure where the operator's rules leave no other", func(s *snapshot.Spec) {
			dearEquivalents(s)
			s.Providers = append(s.Providers, catalog.Provider{Name: "delta", Dialect: catalog.Simulated, Region: "ch"})
			for i := range s.Models[3:] {
				s.Models[3+i].Deployments[0].Provider = "delta"
			}
			s.Policies[0].Regions = []string{"ch"}
		}, "llama", nil, "alpha:region beta:region gamma:region gamma=equivalent:region delta=equivalent"},
		{"a model that makes vectors writes no text", func(s *snapshot.Spec) {
			s.Models[0].Capabilities = []catalog.Capability{catalog.Embedding}
			s.Policies[0].Fallbacks = []string{"qwen"}
		}, "llama", nil, "alpha:capability beta:capability gamma:capability beta=policy"},
		{"price ratio is measured against the primary", policy(func(p *catalog.Policy) { p.MaxPriceRatio = 1.5 }), "llama", nil, "alpha beta gamma:price"},
		{"a primary that costs nothing sets no ceiling", func(s *snapshot.Spec) {
			s.Policies[0].MaxPriceRatio = 1.5
			s.Models[0].Deployments[0].Price = catalog.Price{}
		}, "llama", nil, "alpha beta gamma"},
		{"a fallback that costs nothing is below every ceiling", func(s *snapshot.Spec) {
			s.Policies[0].MaxPriceRatio = 1.5
			s.Models[0].Deployments[1].Price = catalog.Price{}
		}, "llama", nil, "alpha beta gamma:price"},
		{"attempts are bounded", policy(func(p *catalog.Policy) { p.Attempts.Total = 2 }), "llama", nil, "alpha beta gamma:attempts_total"},
		{"the policy's fallbacks come last, each once", policy(func(p *catalog.Policy) { p.Fallbacks = []string{"chat", "qwen", "qwen"} }), "llama", nil, "alpha beta gamma beta=policy"},
		{"regions hold for fallbacks too", policy(func(p *catalog.Policy) { p.Fallbacks = []string{"qwen"}; p.Regions = []string{"eu"} }), "llama", nil, "alpha beta:region gamma beta=policy:region"},
		{"a route is a name", nil, "chat", nil, "alpha beta gamma"},
		{"a pinned key", nil, "llama", func(a *Ask) { a.Principal.Key.Pin = account.Pin{Provider: "beta"} }, "alpha:not_pinned beta gamma:not_pinned"},
		{"a pinned request", nil, "llama", func(a *Ask) { a.Wish.Pin = account.Pin{Provider: "beta", Model: "l"} }, "alpha:not_pinned beta gamma:not_pinned"},
		{"a request's pin narrows the key's", func(s *snapshot.Spec) {
			s.Models[0].Deployments = append(s.Models[0].Deployments, catalog.Deployment{Provider: "beta", Model: "m"})
		}, "llama", func(a *Ask) {
			a.Principal.Key.Pin = account.Pin{Provider: "beta"}
			a.Wish.Pin = account.Pin{Provider: "beta", Model: "m"}
		}, "alpha:not_pinned beta:not_pinned gamma:not_pinned beta"},
		{"a key's pin is at least as narrow", nil, "llama", func(a *Ask) {
			a.Principal.Key.Pin = account.Pin{Provider: "beta", Model: "l"}
			a.Wish.Pin = account.Pin{Provider: "beta"}
		}, "alpha:not_pinned beta gamma:not_pinned"},
		{"only and ignore", nil, "llama", func(a *Ask) { a.Wish.Only = []string{"beta", "gamma"}; a.Wish.Ignore = []string{"beta"} }, "alpha:not_wanted beta:not_wanted gamma"},
		{"the request's order wins over the policy's", policy(func(p *catalog.Policy) { p.Order = []string{"gamma"} }), "llama", func(a *Ask) { a.Wish.Order = []string{"beta"} }, "beta gamma alpha"},
	})
}

// What the request itself says. // R10
func TestPlanOfAWish(t *testing.T) {
	checkPlans(t, []planCase{
		{"no fallbacks but the wanted order", nil, "llama", func(a *Ask) { a.Wish.AllowFallbacks = false; a.Wish.Order = []string{"gamma", "beta"} }, "gamma beta alpha:not_wanted"},
		{"no fallbacks waits for a primary that is away", nil, "llama", func(a *Ask) {
			a.Wish.AllowFallbacks = false
			a.Live = conditions{"alpha/l": open(1)}
		}, "alpha beta:not_wanted gamma:not_wanted"},
		{"one deployment of a provider", nil, "llama", func(a *Ask) { a.Wish.Only = []string{"beta/l", "alpha/other"} }, "alpha:not_wanted beta gamma:not_wanted"},
		{"no data collection", nil, "llama", func(a *Ask) { a.Wish.NoDataCollection = true }, "alpha beta:retention gamma:retention"},
		{"the request's price ceiling", nil, "llama", func(a *Ask) { a.Wish.MaxPrice = &PriceCeiling{Prompt: 10e9, Completion: 10e9} }, "alpha beta gamma:price"},
		{"either price can exceed it", nil, "llama", func(a *Ask) { a.Wish.MaxPrice = &PriceCeiling{Prompt: 100e9, Completion: 9e9} }, "alpha:price beta gamma:price"},
		{"the request's sort", nil, "llama", func(a *Ask) { a.Wish.Sort = catalog.Cheapest }, "beta alpha gamma"},
		{"no fallbacks leaves one", policy(func(p *catalog.Policy) { p.Fallbacks = []string{"qwen"} }), "llama", func(a *Ask) { a.Wish.AllowFallbacks = false }, "alpha beta:not_wanted gamma:not_wanted"},
	})
}

// Price ceilings and the condition of deployments. // R11, R32
func TestPlanByCondition(t *testing.T) {
	checkPlans(t, []planCase{
		{"nodes in an order change nothing", policy(func(p *catalog.Policy) { p.Order = []string{"node:*", "beta", "node:alpha"} }), "llama", nil, "beta alpha gamma"},
		{"a ratio below one keeps the primary", policy(func(p *catalog.Policy) { p.MaxPriceRatio = 0.5 }), "llama", nil, "alpha beta gamma:price"},
		{
			"the ceiling stays that of a primary whose circuit is open", policy(func(p *catalog.Policy) { p.MaxPriceRatio = 1.5 }), "llama",
			func(a *Ask) { a.Live = conditions{"alpha/l": open(1)} }, "alpha:circuit beta gamma:price",
		},
		{"and of one that is drained", func(s *snapshot.Spec) {
			s.Policies[0].MaxPriceRatio = 1.5
			s.Models[0].Deployments[0].Drained = true
		}, "llama", nil, "alpha:drained beta gamma:price"},
		{"an open circuit", nil, "llama", func(a *Ask) { a.Live = conditions{"beta/l": open(1)} }, "alpha beta:circuit gamma"},
		{"a half-open circuit is asked", nil, "llama", func(a *Ask) { a.Live = conditions{"alpha/l": {State: health.HalfOpen}} }, "alpha beta gamma"},
		{"the least bad of those with an open circuit", nil, "llama", func(a *Ask) {
			a.Live = conditions{"alpha/l": open(3), "beta/l": open(1), "gamma/l": open(2)}
		}, "alpha:circuit beta gamma:circuit"},
		{"but never against a rule", policy(func(p *catalog.Policy) { p.Regions = []string{"eu"} }), "llama", func(a *Ask) {
			a.Live = conditions{"alpha/l": open(3), "beta/l": open(1), "gamma/l": open(2)}
		}, "alpha:circuit beta:region gamma"},
		{"a preference does not bring back what is excluded", policy(func(p *catalog.Policy) { p.Order = []string{"beta"} }), "llama", func(a *Ask) {
			a.Wish.Order = []string{"beta"}
			a.Live = conditions{"beta/l": open(1)}
		}, "beta:circuit alpha gamma"},
		{"a drained provider", func(s *snapshot.Spec) { s.Providers[1].Drained = true }, "llama", nil, "alpha beta:drained gamma"},
	})
}

// Who else is considered, and when. // R6, R8
func TestPlanBeyondTheModel(t *testing.T) {
	checkPlans(t, []planCase{
		{"an equivalent comes before the policy's fallbacks", func(s *snapshot.Spec) {
			equivalents(s, catalog.Equivalent{Model: "mistral", Grade: 0.9})
			s.Policies[0].Fallbacks = []string{"qwen"}
		}, "llama", nil, "alpha beta gamma gamma=equivalent beta=policy"},
		{"the closest equivalent alone", func(s *snapshot.Spec) {
			equivalents(s, catalog.Equivalent{Model: "qwen", Grade: 0.8}, catalog.Equivalent{Model: "mistral", Grade: 0.9})
		}, "llama", nil, "alpha beta gamma gamma=equivalent"},
		{"the closest that can serve", func(s *snapshot.Spec) {
			equivalents(s, catalog.Equivalent{Model: "mistral", Grade: 0.9}, catalog.Equivalent{Model: "qwen", Grade: 0.8})
		}, "llama", func(a *Ask) { a.Live = conditions{"gamma/m": open(1)} }, "alpha beta gamma gamma=equivalent:circuit beta=equivalent"},
		{"any equivalent", func(s *snapshot.Spec) {
			equivalents(s, catalog.Equivalent{Model: "mistral", Grade: 0.9}, catalog.Equivalent{Model: "qwen", Grade: 0.8})
			s.Policies[0].Equivalents = catalog.EquivalentsAny
		}, "llama", nil, "alpha beta gamma gamma=equivalent beta=equivalent"},
		{"no equivalent", func(s *snapshot.Spec) {
			equivalents(s, catalog.Equivalent{Model: "mistral", Grade: 0.9})
			s.Policies[0].Equivalents = catalog.EquivalentsOff
		}, "llama", nil, "alpha beta gamma"},
		{"vectors of another model are worth nothing", func(s *snapshot.Spec) {
			equivalents(s, catalog.Equivalent{Model: "mistral", Grade: 0.9})
		}, "llama", func(a *Ask) { a.Endpoint = catalog.Embeddings }, "alpha beta gamma"},
		{"nothing further is considered than may be tried", func(s *snapshot.Spec) {
			equivalents(s, catalog.Equivalent{Model: "mistral", Grade: 0.9})
			s.Policies[0].Attempts.Total = 3
		}, "llama", nil, "alpha beta gamma"},
		{"the equivalents of several models by grade", func(s *snapshot.Spec) {
			equivalents(s, catalog.Equivalent{Model: "solo", Grade: 0.5})
			s.Models[1].Equivalents = []catalog.Equivalent{{Model: "mistral", Grade: 0.6}, {Model: "llama", Grade: 0.9}}
			s.Policies[0].Equivalents = catalog.EquivalentsAny
			s.Policies[0].Attempts.Total = 9
			s.Routes[0].Models = []string{"llama", "qwen"}
		}, "chat", nil, "alpha beta gamma beta gamma=equivalent alpha=equivalent"},
		{"the request's fallbacks come last", func(s *snapshot.Spec) {
			equivalents(s)
			s.Policies[0].Fallbacks = []string{"qwen"}
		}, "llama", func(a *Ask) {
			a.Wish.Fallbacks = []Fallback{{"mistral", "models"}, {"chat", "fallbacks"}, {"llama", "fallbacks"}}
		}, "alpha beta gamma beta=policy gamma=request"},
		{"a fallback that the key may not use", func(s *snapshot.Spec) { equivalents(s) }, "llama", func(a *Ask) {
			a.Principal.Key.Models = []string{"llama", "qwen"}
			a.Wish.Fallbacks = []Fallback{{"mistral", "models"}, {"qwen", "models"}}
		}, "alpha beta gamma beta=request gamma=request:key"},
		{"a name that the key may use opens what another closes", func(s *snapshot.Spec) { equivalents(s) }, "qwen", func(a *Ask) {
			a.Principal.Key.Models = []string{"qwen", "chat"}
			a.Wish.Fallbacks = []Fallback{{"llama", "models"}, {"chat", "models"}}
		}, "beta alpha=request beta=request gamma=request"},
		{"the policy's own fallbacks are the operator's choice", policy(func(p *catalog.Policy) { p.Fallbacks = []string{"qwen"} }), "chat", func(a *Ask) {
			a.Principal.Key.Models = []string{"chat"}
		}, "alpha beta gamma beta=policy"},
		{"a deployment is a candidate once", func(s *snapshot.Spec) {
			equivalents(s)
			s.Models[1].Deployments = append(s.Models[1].Deployments, s.Models[0].Deployments...)
			s.Policies[0].Fallbacks = []string{"qwen"}
		}, "llama", nil, "alpha beta gamma beta=policy"},
	})
}

func TestPlanRefuses(t *testing.T) {
	for _, c := range []struct {
		name  string
		model string
		ask   func(*Ask)
		kind  fault.Kind
		code  string
	}{
		{"an unknown model", "gpt-nine", nil, fault.NotFound, "model_not_found"},
		{"a model outside the key's list", "llama", func(a *Ask) { a.Principal.Key.Models = []string{"qwen"} }, fault.Forbidden, "model_not_allowed"},
		{"another project's route", "chat", func(a *Ask) { a.Principal.Project = &account.Project{Organization: "acme", Name: "web"} }, fault.NotFound, "model_not_found"},
		{"an endpoint that the route does not serve", "chat", func(a *Ask) { a.Endpoint = catalog.Embeddings }, fault.Invalid, "endpoint_not_supported"},
		{"a fallback that does not exist", "llama", func(a *Ask) { a.Wish.Fallbacks = []Fallback{{"gpt-nine", "models"}} }, fault.Invalid, "model_not_found"},
		{"another project's route as a fallback", "llama", func(a *Ask) {
			a.Principal.Project = &account.Project{Organization: "acme", Name: "web"}
			a.Wish.Fallbacks = []Fallback{{"chat", "fallbacks"}}
		}, fault.Invalid, "model_not_found"},
		{"a fallback that does not serve the endpoint", "llama", func(a *Ask) {
			a.Endpoint = catalog.Embeddings
			a.Wish.Fallbacks = []Fallback{{"chat", "fallbacks"}}
		}, fault.Invalid, "endpoint_not_supported"},
		{"a pin to nowhere", "llama", func(a *Ask) { a.Wish.Pin = account.Pin{Provider: "delta"} }, fault.Invalid, "invalid_value"},
		{"an order of nowhere", "llama", func(a *Ask) { a.Wish.Order = []string{"alpha", "delta/l"} }, fault.Invalid, "invalid_value"},
		{"only of nowhere", "llama", func(a *Ask) { a.Wish.Only = []string{"alpha", "delta"} }, fault.Invalid, "invalid_value"},
		{"nowhere ignored", "llama", func(a *Ask) { a.Wish.Ignore = []string{"delta"} }, fault.Invalid, "invalid_value"},
		{"a key that is pinned to nowhere", "llama", func(a *Ask) { a.Principal.Key.Pin = account.Pin{Provider: "delta"} }, fault.Forbidden, "model_not_allowed"},
		{"a key that is pinned elsewhere", "qwen", func(a *Ask) { a.Principal.Key.Pin = account.Pin{Provider: "alpha"} }, fault.Forbidden, "model_not_allowed"},
		{"a key that is pinned to another model", "qwen", func(a *Ask) { a.Principal.Key.Pin = account.Pin{Provider: "beta", Model: "l"} }, fault.Forbidden, "model_not_allowed"},
		{"a pin against the key's", "llama", func(a *Ask) {
			a.Principal.Key.Pin, a.Wish.Pin = account.Pin{Provider: "beta"}, account.Pin{Provider: "alpha"}
		}, fault.Invalid, "invalid_value"},
		{"a pin to another model than the key's", "llama", func(a *Ask) {
			a.Principal.Key.Pin, a.Wish.Pin = account.Pin{Provider: "beta", Model: "l"}, account.Pin{Provider: "beta", Model: "q"}
		}, fault.Invalid, "invalid_value"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := ask(c.model)
			if c.ask != nil {
				c.ask(&a)
			}
			_, err := Make(house(t, nil), a)
			e := fault.From(err)
			if err == nil || e.Kind != c.kind || e.Code != c.code || e.Message == "" {
				t.Fatalf("%+v", err)
			}
		})
	}
}

// What a request needs is a rule for every deployment whose abilities are known. // R7
func TestNeeds(t *testing.T) {
	for _, c := range []struct {
		name string
		spec func(*snapshot.Spec)
		ask  func(*Ask)
		want string
	}{
		{"tools", nil, func(a *Ask) { a.Needs.Tools = true }, "alpha beta:capability gamma"},
		{"several", nil, func(a *Ask) { a.Needs.Tools, a.Needs.Vision = true, true }, "alpha:capability beta:capability gamma"},
		{"audio", nil, func(a *Ask) { a.Needs.Audio = true }, "alpha:capability beta:capability gamma"},
		{"a schema", nil, func(a *Ask) { a.Needs.JSONSchema, a.Needs.JSONMode = true, true }, "alpha:capability beta gamma"},
		{"any JSON", nil, func(a *Ask) { a.Needs.JSONMode = true }, "alpha beta gamma"},
		{"reasoning", nil, func(a *Ask) { a.Needs.Reasoning = true }, "alpha:capability beta:capability gamma"},
		{
			"what is known to lack counts without a list", func(s *snapshot.Spec) { s.Models[0].Deployments[2].Lacks = []catalog.Capability{catalog.Tools} },
			func(a *Ask) { a.Needs.Tools = true }, "alpha beta:capability gamma:capability",
		},
		{
			"several choices, only where they are known to lack", func(s *snapshot.Spec) { s.Models[0].Deployments[0].Lacks = []catalog.Capability{catalog.Choices} },
			func(a *Ask) { a.Request.N = 2 }, "alpha:capability beta gamma",
		},
		{
			"log probabilities too", func(s *snapshot.Spec) { s.Models[0].Deployments[1].Lacks = []catalog.Capability{catalog.Logprobs} },
			func(a *Ask) { a.Needs.Logprobs = true }, "alpha beta:capability gamma",
		},
		{"embeddings", nil, func(a *Ask) { a.Endpoint = catalog.Embeddings }, "alpha:capability beta:capability gamma"},
		{"a longer answer", nil, func(a *Ask) { a.Request.MaxTokens = 1001 }, "alpha:max_output beta gamma"},
		{"just long enough", nil, func(a *Ask) { a.Request.MaxTokens = 1000 }, "alpha beta gamma"},
		{"a prompt that surely fits", nil, func(a *Ask) { a.Request.PromptBytes = 4 * 5300; a.Count = nil }, "alpha beta gamma"},
		{"a prompt that surely does not", nil, func(a *Ask) { a.Request.PromptBytes = 10*8900 + 4 }, "alpha:context_length beta gamma"},
		{"in doubt, without a tokenizer, it is tried", nil, func(a *Ask) { a.Request.PromptBytes = 4 * 9000 }, "alpha beta gamma"},
		{"the tokenizer is asked from 60 % on", nil, func(a *Ask) {
			a.Request.PromptBytes, a.Count = 4*5400, func(string) int64 { return 9400 }
		}, "alpha:context_length beta gamma"},
		{"and not below", nil, func(a *Ask) {
			a.Request.PromptBytes, a.Count = 4*5300, func(string) int64 { return 9400 }
		}, "alpha beta gamma"},
		{"up to 250 %", nil, func(a *Ask) {
			a.Request.PromptBytes, a.Count = 4*22_000, func(string) int64 { return 5000 }
		}, "alpha beta gamma"},
		{"and not above", nil, func(a *Ask) {
			a.Request.PromptBytes, a.Count = 4*22_300, func(string) int64 { return 5000 }
		}, "alpha:context_length beta gamma"},
		{"in doubt the tokenizer excludes", nil, func(a *Ask) {
			a.Request.PromptBytes, a.Count = 4*8900, func(string) int64 { return 9400 }
		}, "alpha:context_length beta gamma"},
		{"in doubt the tokenizer keeps, with a margin", nil, func(a *Ask) {
			a.Request.PromptBytes, a.Count = 4*8900, func(string) int64 { return 9300 }
		}, "alpha beta gamma"},
		{"the wanted answer needs room as well", nil, func(a *Ask) { a.Request.PromptBytes, a.Request.MaxTokens = 4, 50_001 }, "alpha:max_output beta:context_length gamma"},
		{"of several inputs each has the context to itself", func(s *snapshot.Spec) { s.Models[0].Deployments[0].Capabilities = nil }, func(a *Ask) {
			a.Endpoint, a.Request = catalog.Embeddings, request(`{"model":"llama","input": ["a","b"]}`)
			a.Request.PromptBytes = 1_000_000
		}, "alpha beta:capability gamma"},
		{"one input has not", func(s *snapshot.Spec) { s.Models[0].Deployments[0].Capabilities = nil }, func(a *Ask) {
			a.Endpoint, a.Request = catalog.Embeddings, request(`{"model":"llama","input":"a"}`)
			a.Request.PromptBytes = 1_000_000
		}, "alpha:context_length beta:capability gamma"},
		{"a prompt of tokens is one prompt", nil, func(a *Ask) {
			a.Endpoint, a.Request = catalog.Completions, request(`{"model":"llama","prompt":[ 1,2]}`)
			a.Request.PromptBytes = 1_000_000
		}, "alpha:context_length beta:context_length gamma"},
		{"prompts of tokens are several", nil, func(a *Ask) {
			a.Endpoint, a.Request = catalog.Completions, request(`{"model":"llama","prompt":[[1,2],[3]]}`)
			a.Request.PromptBytes = 1_000_000
		}, "alpha beta gamma"},
	} {
		t.Run(c.name, func(t *testing.T) {
			view := house(t, func(s *snapshot.Spec) {
				d := s.Models[0].Deployments
				d[0].Context, d[0].MaxOutput, d[0].Capabilities = 9000, 1000, []catalog.Capability{catalog.Tools}
				d[1].Context, d[1].Capabilities = 50_000, []catalog.Capability{catalog.JSONSchema}
				if c.spec != nil {
					c.spec(s)
				}
			})
			a := ask("llama")
			c.ask(&a)
			plan, err := Make(view, a)
			if err != nil {
				t.Fatal(err)
			}
			if got := verdicts(plan); got != c.want {
				t.Errorf("plan %q, want %q", got, c.want)
			}
		})
	}
}

func request(body string) *openai.Request {
	r, err := openai.ParseRequest([]byte(body))
	if err != nil {
		panic(err)
	}
	return r
}

// Counting is slow: each vocabulary counts once.
func TestAVocabularyCountsOnce(t *testing.T) {
	var asked []string
	a := ask("llama")
	a.Request.PromptBytes = 4 * 8900
	a.Count = func(family string) int64 { asked = append(asked, family); return 10 }
	l := lengthOf(&a)
	for _, family := range []string{"x", "y", "x", "", "", "y", "a", "b", "c"} {
		l.exceeds(&snapshot.Limits{Context: 9000, Tokenizer: family})
	}
	l.exceeds(&snapshot.Limits{Context: 1_000_000, Tokenizer: "not asked"})
	if diff := cmp.Diff([]string{"x", "y", "", "a", "b", "c"}, asked); diff != "" {
		t.Error(diff)
	}
}

// A drill concerns what it is about, under a health of its own. // R18
func TestDrills(t *testing.T) {
	a := ask("llama")
	a.Drills = []*catalog.Drill{{ID: "drill_1", Deployment: "beta/l"}, {ID: "drill_2", Region: "us"}, {ID: "drill_3", Provider: "gamma"}}
	a.Live = conditions{"drill:drill_3|gamma/l": open(1), "beta/l": open(1)}
	plan, err := Make(house(t, nil), a)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range plan.Candidates {
		line := c.HealthID + " " + string(c.Excluded)
		if c.Drill != nil {
			line += " " + c.Drill.ID
		}
		got = append(got, line)
	}
	want := []string{"alpha/l ", "drill:drill_1|beta/l  drill_1", "drill:drill_3|gamma/l circuit drill_3"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// The refusal of a request says what is missing and who can change it.
func TestNothingLeft(t *testing.T) {
	checkRefusals(t, []refusal{
		{
			"too long", nil, func(a *Ask) { a.Request.PromptBytes = 1_000_000 },
			fault.Error{Kind: fault.Invalid, Code: "context_length_exceeded", Param: "messages"},
			"about 250001 tokens and asks for an answer of up to 100, and the largest context that may serve it has 9000 (alpha/l)",
		},
		{
			"too long, counted", nil, func(a *Ask) { a.Request.PromptBytes = 40_000; a.Count = func(string) int64 { return 12_345 } },
			fault.Error{Kind: fault.Invalid, Code: "context_length_exceeded", Param: "messages"},
			"about 12345 tokens",
		},
		{
			"too much", nil, func(a *Ask) { a.Request = request(`{"model":"llama","max_completion_tokens":1001}`) },
			fault.Error{Kind: fault.Invalid, Code: "no_candidate", Param: "max_completion_tokens"},
			"no deployment of \"llama\" that may serve it gives more than 1000 (alpha/l). Lower max_completion_tokens.",
		},
		{
			"incapable", nil, func(a *Ask) { a.Needs.Vision = true },
			fault.Error{Kind: fault.Invalid, Code: "no_candidate", Param: "messages"},
			"alpha/l lacks vision, and offers tools",
		},
		{
			"the policy's retention", func(s *snapshot.Spec) { s.Providers[0].Retention = "30d"; s.Policies[0].Retention = []string{"none"} },
			func(a *Ask) { a.Wish.NoDataCollection = true },
			fault.Error{Kind: fault.Unavailable, Code: "no_candidate", Param: "model", RetryAfter: retryPolicy},
			"the policy \"p\"",
		},
		{
			"drained", func(s *snapshot.Spec) { s.Models[0].Deployments[0].Drained = true }, func(*Ask) {},
			fault.Error{Kind: fault.Unavailable, Code: "no_candidate", Param: "model", RetryAfter: retryPolicy},
			"alpha/l: drained",
		},
		{
			"what can not serve is not worth waiting for", func(s *snapshot.Spec) { s.Models[0].Deployments[0].Drained = true }, func(a *Ask) { a.Needs.Vision = true },
			fault.Error{Kind: fault.Invalid, Code: "no_candidate", Param: "messages"},
			"vision",
		},
		{"a fallback that would do comes back", func(s *snapshot.Spec) {
			s.Models[1].Deployments[0].Drained = true
			s.Policies[0].Fallbacks = []string{"qwen"}
		}, func(a *Ask) { a.Needs.Vision = true }, fault.Error{Kind: fault.Unavailable, Code: "no_candidate", Param: "model", RetryAfter: retryPolicy}, "alpha/l: capability, beta/q: drained"},
	})
}

// What the request's own choice leaves out is said by the member or header that does.
func TestNothingWanted(t *testing.T) {
	checkRefusals(t, []refusal{
		{
			"too dear", nil, func(a *Ask) { a.Wish.MaxPrice = &PriceCeiling{} },
			fault.Error{Kind: fault.Invalid, Code: "no_candidate", Param: MaxPriceHeader},
			"The cheapest is alpha/l, at 10 US dollars per million tokens of the prompt and 10 of the answer (alpha/l: price)",
		},
		{
			"too dear by the body", func(s *snapshot.Spec) {
				s.Models[0].Deployments = append(s.Models[0].Deployments, catalog.Deployment{Provider: "beta", Model: "l", Price: catalog.Price{Input: 1e9, Output: 2.5e9}})
			}, func(a *Ask) {
				a.Request = request(`{"model":"llama","provider":{"max_price":{"prompt":0.5}}}`)
				a.Wish.MaxPrice = &PriceCeiling{0.5e9, 100e9}
			},
			fault.Error{Kind: fault.Invalid, Code: "no_candidate", Param: "provider.max_price"},
			"The cheapest is beta/l, at 1 US dollars per million tokens of the prompt and 2.5 of the answer",
		},
		{
			"only another", nil, func(a *Ask) {
				a.Request = request(`{"model":"llama","provider":{"only":["beta"]}}`)
				a.Wish.Only = []string{"beta"}
			},
			fault.Error{Kind: fault.Invalid, Code: "no_candidate", Param: "provider.only"},
			`provider.only leaves out every deployment that may serve "llama"`,
		},
		{
			"ignored", nil, func(a *Ask) { a.Wish.Ignore = []string{"alpha"} },
			fault.Error{Kind: fault.Invalid, Code: "no_candidate", Param: IgnoreHeader},
			"leaves out every deployment",
		},
		{
			"pinned elsewhere", nil, func(a *Ask) { a.Wish.Pin = account.Pin{Provider: "beta"} },
			fault.Error{Kind: fault.Invalid, Code: "no_candidate", Param: PinHeader},
			`pinned to beta, where "llama" is not served`,
		},
		{
			"another region", func(s *snapshot.Spec) { s.Policies[0].Regions = []string{"us", "ch"} }, func(*Ask) {},
			fault.Error{Kind: fault.Unavailable, Code: "no_candidate", Param: "model", RetryAfter: retryPolicy},
			"The policy admits the regions us, ch. Whoever runs the gateway can change that",
		},
		{
			"functions", func(s *snapshot.Spec) { s.Models[0].Capabilities = []catalog.Capability{} }, func(a *Ask) {
				a.Request, a.Needs.Tools = request(`{"model":"llama","functions":[{"name":"f"}]}`), true
			},
			fault.Error{Kind: fault.Invalid, Code: "no_candidate", Param: "functions"},
			"alpha/l lacks tools",
		},
		{
			"vectors only", func(s *snapshot.Spec) { s.Models[0].Capabilities = []catalog.Capability{catalog.Embedding} }, func(*Ask) {},
			fault.Error{Kind: fault.Invalid, Code: "no_candidate", Param: "model"},
			`"llama" makes embeddings only`,
		},
		{
			"data collection", func(s *snapshot.Spec) { s.Providers[0].Retention = "30d" }, func(a *Ask) { a.Wish.NoDataCollection = true },
			fault.Error{Kind: fault.Invalid, Code: "no_candidate", Param: DataCollectionHeader},
			"alpha/l: retention",
		},
	})
}

// refusal is a change of a house with one deployment and of a request, and the error that follows.
type refusal struct {
	name string
	spec func(*snapshot.Spec)
	ask  func(*Ask)
	want fault.Error
	says string
}

func checkRefusals(t *testing.T, cases []refusal) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			view := house(t, func(s *snapshot.Spec) {
				m := &s.Models[0]
				m.Deployments = m.Deployments[:1]
				m.Context, m.MaxOutput, m.Capabilities = 9000, 1000, []catalog.Capability{catalog.Tools}
				if c.spec != nil {
					c.spec(s)
				}
			})
			a := ask("llama")
			c.ask(&a)
			plan, err := Make(view, a)
			if err == nil {
				t.Fatal("planned: " + verdicts(plan))
			}
			got := *fault.From(err)
			if !strings.Contains(got.Message, c.says) {
				t.Errorf("message %q, want …%s…", got.Message, c.says)
			}
			got.Message = ""
			if got != c.want {
				t.Errorf("%+v, want %+v", got, c.want)
			}
			if len(plan.Candidates) == 0 {
				t.Error("the trace has no candidates")
			}
		})
	}
}
