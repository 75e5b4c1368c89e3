package routing

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"shareai/internal/account"
	"shareai/internal/catalog"
	"shareai/internal/fault"
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

// verdicts writes a plan as "alpha beta:region ...".
func verdicts(p Plan) string {
	var words []string
	for _, c := range p.Candidates {
		w := c.Provider.Name
		if c.Excluded != Kept {
			w += ":" + string(c.Excluded)
		}
		words = append(words, w)
	}
	return strings.Join(words, " ")
}

func TestPlan(t *testing.T) {
	policy := func(change func(*catalog.Policy)) func(*snapshot.Spec) {
		return func(s *snapshot.Spec) { change(&s.Policies[0]) }
	}
	for _, c := range []struct {
		name  string
		spec  func(*snapshot.Spec)
		model string
		ask   func(*Ask)
		want  string
	}{
		{"as declared", nil, "llama", nil, "alpha beta gamma"},
		{"by the policy's order, the rest after", policy(func(p *catalog.Policy) { p.Order = []string{"gamma", "beta"} }), "llama", nil, "gamma beta alpha"},
		{"by cost", policy(func(p *catalog.Policy) { p.Strategy = catalog.Cheapest }), "llama", nil, "beta alpha gamma"},
		{"regions hold", policy(func(p *catalog.Policy) { p.Regions = []string{"eu"} }), "llama", nil, "alpha beta:region gamma"},
		{"an undeclared retention is unknown", policy(func(p *catalog.Policy) { p.Retention = []string{"none"} }), "llama", nil, "alpha beta:retention gamma:retention"},
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
		{"the policy's fallbacks come last, each once", policy(func(p *catalog.Policy) { p.Fallbacks = []string{"chat", "qwen", "qwen"} }), "llama", nil, "alpha beta gamma beta"},
		{"regions hold for fallbacks too", policy(func(p *catalog.Policy) { p.Fallbacks = []string{"qwen"}; p.Regions = []string{"eu"} }), "llama", nil, "alpha beta:region gamma beta:region"},
		{"a route is a name", nil, "chat", nil, "alpha beta gamma"},
		{"a pinned key", nil, "llama", func(a *Ask) { a.Principal.Key.Pin = account.Pin{Provider: "beta"} }, "alpha:not_pinned beta gamma:not_pinned"},
		{"a pinned request", nil, "llama", func(a *Ask) { a.Wish.Pin = account.Pin{Provider: "beta", Model: "l"} }, "alpha:not_pinned beta gamma:not_pinned"},
		{"the key's pin wins", nil, "llama", func(a *Ask) {
			a.Principal.Key.Pin = account.Pin{Provider: "beta"}
			a.Wish.Pin = account.Pin{Provider: "alpha"}
		}, "alpha:not_pinned beta gamma:not_pinned"},
		{"only and ignore", nil, "llama", func(a *Ask) { a.Wish.Only = []string{"beta", "gamma"}; a.Wish.Ignore = []string{"beta"} }, "alpha:not_wanted beta:not_wanted gamma"},
		{"the request's order wins over the policy's", policy(func(p *catalog.Policy) { p.Order = []string{"gamma"} }), "llama", func(a *Ask) { a.Wish.Order = []string{"beta"} }, "beta gamma alpha"},
		{"no fallbacks leaves one", policy(func(p *catalog.Policy) { p.Fallbacks = []string{"qwen"} }), "llama", func(a *Ask) { a.Wish.AllowFallbacks = false }, "alpha beta:attempts_total gamma:attempts_total"},
	} {
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
		{"a pin to nowhere", "llama", func(a *Ask) { a.Wish.Pin = account.Pin{Provider: "delta"} }, fault.Invalid, "no_candidate"},
		{"a key that is pinned to nowhere", "llama", func(a *Ask) { a.Principal.Key.Pin = account.Pin{Provider: "delta"} }, fault.Unavailable, "no_candidate"},
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

// Filters hold whatever the policy and the request say: no kept candidate breaks one.
func TestNoKeptCandidateBreaksARule(t *testing.T) {
	names := []string{"alpha", "beta", "gamma"}
	rapid.Check(t, func(t *rapid.T) {
		subset := func(label string, of []string) []string {
			return slices.DeleteFunc(slices.Clone(of), func(string) bool { return !rapid.Bool().Draw(t, label) })
		}
		view := house(t, func(s *snapshot.Spec) {
			s.Policies[0] = catalog.Policy{
				Name:          "p",
				Strategy:      rapid.SampledFrom(catalog.Strategies).Draw(t, "strategy"),
				Order:         subset("order", names),
				Regions:       subset("regions", []string{"eu", "us"}),
				Retention:     subset("retention", []string{"none", "unknown", "30d"}),
				MaxPriceRatio: rapid.SampledFrom([]float64{0, 0.5, 1, 2.5}).Draw(t, "ratio"),
				Fallbacks:     subset("fallbacks", []string{"qwen", "chat"}),
				Attempts:      catalog.Attempts{Total: rapid.IntRange(1, 5).Draw(t, "total")},
			}
		})
		a := ask("llama")
		a.Wish.Only, a.Wish.Ignore = subset("only", names), subset("ignore", names)
		a.Draw = rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1)).Float64
		plan, _ := Make(view, a)
		kept, primary := 0, int64(-1)
		for _, c := range plan.Candidates {
			if c.Excluded != Kept {
				continue
			}
			kept++
			cost := c.Deployment.Price.Cost(estimate(a.Request))
			if primary < 0 {
				primary = cost
			}
			p := plan.Policy
			switch {
			case len(p.Regions) > 0 && !slices.Contains(p.Regions, c.Provider.Region),
				!acceptsRetention(p.Retention, c.Provider.Retention),
				len(a.Wish.Only) > 0 && !slices.Contains(a.Wish.Only, c.Provider.Name),
				slices.Contains(a.Wish.Ignore, c.Provider.Name),
				p.MaxPriceRatio >= 1 && float64(cost) > p.MaxPriceRatio*float64(primary):
				t.Fatalf("%s was kept under %+v and %+v", c.ID, p, a.Wish)
			}
		}
		if kept > plan.Policy.Attempts.Total {
			t.Fatalf("%d candidates kept, at most %d may be tried", kept, plan.Policy.Attempts.Total)
		}
	})
}

// R16: weights are shares of the traffic, within 1 % over 10,000 requests.
func TestWeightsAreShares(t *testing.T) {
	view := house(t, func(s *snapshot.Spec) { s.Policies[0].Strategy = catalog.Weighted })
	random := rand.New(rand.NewPCG(1, 2))
	first := map[string]float64{}
	const n = 40_000
	for range n {
		a := ask("llama")
		a.Draw = random.Float64
		plan, err := Make(view, a)
		if err != nil {
			t.Fatal(err)
		}
		first[plan.Candidates[0].Provider.Name]++
	}
	for provider, want := range map[string]float64{"alpha": 0.6, "beta": 0.2, "gamma": 0.2} {
		if got := first[provider] / n; got < want-0.01 || got > want+0.01 {
			t.Errorf("%s came first in %.3f of the plans, want %.2f", provider, got, want)
		}
	}
}

func TestReadWish(t *testing.T) {
	body := func(provider string) *openai.Request {
		r, err := openai.ParseRequest(fmt.Appendf(nil, `{"model":"m","messages":[],"provider":%s}`, provider))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	w, err := ReadWish(body(`{"order":["a"],"only":["a","b"],"ignore":["c"],"allow_fallbacks":false,"sort":"price"}`), http.Header{PinHeader: {"alpha/meta/llama"}})
	if err != nil || w.AllowFallbacks || w.Order[0] != "a" || len(w.Only) != 2 || w.Ignore[0] != "c" || w.Pin != (account.Pin{Provider: "alpha", Model: "meta/llama"}) {
		t.Errorf("%+v, %v", w, err)
	}
	if w, err := ReadWish(body(`"some engine's own field"`), nil); err != nil || !w.AllowFallbacks {
		t.Errorf("a string: %+v, %v", w, err)
	}
	if _, err := ReadWish(body(`{"order":"alpha"}`), nil); err == nil || fault.From(err).Param != "provider" {
		t.Errorf("a wrong type: %v", err)
	}
}
