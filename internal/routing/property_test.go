package routing

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"shareai/internal/account"
	"shareai/internal/catalog"
	"shareai/internal/health"
	"shareai/internal/openai"
	"shareai/internal/snapshot"
)

// subset draws some of a list, in its order.
func subset[T any](t *rapid.T, label string, of []T) []T {
	return slices.DeleteFunc(slices.Clone(of), func(T) bool { return !rapid.Bool().Draw(t, label) })
}

func pick[T any](t *rapid.T, label string, of ...T) T { return rapid.SampledFrom(of).Draw(t, label) }

// mostly draws a list that is empty half of the time: a filter that nothing passes hides the others.
func mostly[T any](t *rapid.T, label string, of []T) []T {
	if rapid.Bool().Draw(t, label+" at all") {
		return subset(t, label, of)
	}
	return nil
}

var (
	providerNames = []string{"alpha", "beta", "gamma", "delta"}
	modelNames    = []string{"llama", "qwen", "mistral"}
	capabilities  = []catalog.Capability{catalog.Tools, catalog.Vision, catalog.JSONSchema, catalog.Choices}
)

// drawSpec draws an installation. Prices differ, so that sorting by price has one outcome.
func drawSpec(t *rapid.T) snapshot.Spec {
	s := snapshot.Spec{
		Organizations: []account.Organization{{Name: "acme"}},
		Projects:      []account.Project{{Organization: "acme", Name: "app"}},
		DefaultPolicy: "p",
		Policies: []catalog.Policy{{
			Name:          "p",
			Strategy:      rapid.SampledFrom(catalog.Strategies).Draw(t, "strategy"),
			Order:         subset(t, "order", append(slices.Clone(providerNames), "node:*")),
			Equivalents:   pick(t, "equivalents", "", catalog.EquivalentsOff, catalog.EquivalentsClosest, catalog.EquivalentsAny),
			Fallbacks:     subset(t, "fallbacks", []string{"qwen", "chat", "mistral"}),
			Regions:       mostly(t, "regions", []string{"eu", "us"}),
			Retention:     mostly(t, "retention", []string{"none", "unknown", "30d"}),
			MaxPriceRatio: pick(t, "ratio", 0, 0.5, 1, 2.5),
			Attempts:      catalog.Attempts{Total: rapid.IntRange(1, 8).Draw(t, "total")},
		}},
		Routes: []catalog.Route{{Name: "chat", Models: []string{"llama", "mistral"}}},
	}
	for _, name := range providerNames {
		s.Providers = append(s.Providers, catalog.Provider{
			Name: name, Dialect: catalog.Simulated, Region: pick(t, "region", "", "eu", "us"),
			Retention: pick(t, "kept", "", "none", "30d"), Drained: rapid.IntRange(0, 9).Draw(t, "drained") == 0,
		})
	}
	prices := rapid.Permutation([]int64{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}).Draw(t, "prices")
	for _, name := range modelNames {
		m := catalog.Model{Name: name, Context: pick[int64](t, "context", 0, 1000, 100_000), Capabilities: mostly(t, "capabilities", capabilities)}
		for _, p := range append(subset(t, "served by", providerNames[1:]), "alpha") {
			price := prices[0] * 1e9
			prices = append(prices[1:], prices[0])
			m.Deployments = append(m.Deployments, catalog.Deployment{
				Provider: p, Model: pick(t, "id", name, "shared"), Weight: rapid.IntRange(0, 3).Draw(t, "weight"),
				Price: catalog.Price{Input: price, Output: price}, MaxOutput: pick[int64](t, "max output", 0, 50),
				Lacks: subset(t, "lacks", capabilities[3:]),
			})
		}
		grades := rapid.Permutation([]float64{0.1, 0.5, 0.9}).Draw(t, "grades")
		for i, other := range modelNames {
			if other != name && rapid.Bool().Draw(t, "equivalent") {
				m.Equivalents = append(m.Equivalents, catalog.Equivalent{Model: other, Grade: grades[i]})
			}
		}
		s.Models = append(s.Models, m)
	}
	return s
}

func drawAsk(t *rapid.T) Ask {
	a := ask(pick(t, "model", "llama", "chat", "qwen"))
	a.Endpoint = pick(t, "endpoint", catalog.Chat, catalog.Chat, catalog.Embeddings)
	a.Request.PromptBytes = pick(t, "prompt", 10, 4000, 1_000_000)
	a.Request.MaxTokens = pick[int64](t, "max tokens", 0, 20, 100)
	a.Request.N = pick(t, "n", 1, 1, 2)
	a.Needs = openai.Needs{Tools: rapid.IntRange(0, 3).Draw(t, "tools") == 0, Vision: rapid.IntRange(0, 3).Draw(t, "vision") == 0}
	if rapid.Bool().Draw(t, "tokenizer") {
		tokens := rapid.Int64Range(0, 2000).Draw(t, "tokens")
		a.Count = func(string) int64 { return tokens }
	}
	a.Principal.Key.Models = mostly(t, "allowed", []string{"qwen", "mistral", "chat", "llama"})
	if len(a.Principal.Key.Models) > 0 {
		a.Principal.Key.Models = append(a.Principal.Key.Models, a.Request.Model)
	}
	a.Wish = Wish{
		Order: mostly(t, "wanted order", providerNames), Only: mostly(t, "only", append([]string{"beta/shared"}, providerNames...)),
		Ignore: mostly(t, "ignore", providerNames[2:]), AllowFallbacks: rapid.IntRange(0, 4).Draw(t, "fallbacks") > 0,
		Sort:             pick(t, "sort", "", "", catalog.Cheapest, catalog.Fastest),
		NoDataCollection: rapid.IntRange(0, 4).Draw(t, "collection") == 0,
	}
	for _, name := range subset(t, "named", []string{"mistral", "qwen", "chat"}) {
		a.Wish.Fallbacks = append(a.Wish.Fallbacks, Fallback{name, "models"})
	}
	if rapid.IntRange(0, 3).Draw(t, "ceiling") == 0 {
		a.Wish.MaxPrice = &PriceCeiling{rapid.Int64Range(0, 12e9).Draw(t, "prompt price"), rapid.Int64Range(0, 12e9).Draw(t, "completion price")}
	}
	a.Wish.Pin = pick(t, "pin", account.Pin{}, account.Pin{}, account.Pin{}, account.Pin{Provider: "alpha"}, account.Pin{Provider: "beta", Model: "shared"})
	a.Principal.Key.Pin = pick(t, "key's pin", account.Pin{}, account.Pin{}, account.Pin{}, account.Pin{Provider: "alpha"})
	if rapid.Bool().Draw(t, "live") {
		a.Live = drawConditions(t)
	}
	if rapid.IntRange(0, 3).Draw(t, "drill") == 0 {
		a.Drills = []*catalog.Drill{{ID: "drill_1", Provider: "beta"}}
	}
	a.Draw = rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1)).Float64
	return a
}

func drawConditions(t *rapid.T) conditions {
	c := conditions{}
	for _, p := range providerNames {
		for _, m := range append([]string{"shared"}, modelNames...) {
			c[p+"/"+m] = health.View{
				State: pick(t, "state", health.Closed, health.Closed, health.HalfOpen, health.Open), Badness: rapid.Float64Range(0, 1).Draw(t, "badness"),
				Latency: [2]time.Duration{0, time.Duration(rapid.IntRange(0, 3).Draw(t, "latency")) * time.Second}, SuccessRate: rapid.Float64Range(0, 1).Draw(t, "rate"),
			}
		}
	}
	return c
}

// broken says which rule a candidate breaks, written without a look at the rules: empty when it breaks
// none.
func broken(p *catalog.Policy, a *Ask, c *Candidate) string {
	w := a.Wish
	d, provider := c.Deployment, c.Provider
	is := func(name string) bool { return name == provider.Name || name == provider.Name+"/"+d.Model }
	model := c.Model
	has := func(x catalog.Capability) bool {
		return model.Capabilities == nil || slices.Contains(model.Capabilities, x)
	}
	retention := provider.Retention
	if retention == "" {
		retention = "unknown"
	}
	pinned := func(pin account.Pin) bool {
		return pin.Provider != "" && (pin.Provider != provider.Name || pin.Model != "" && pin.Model != d.Model)
	}
	switch {
	case len(p.Regions) > 0 && !slices.Contains(p.Regions, provider.Region):
		return "region"
	case len(p.Retention) > 0 && !slices.Contains(p.Retention, retention), w.NoDataCollection && retention != "none":
		return "retention"
	case len(w.Only) > 0 && !slices.ContainsFunc(w.Only, is):
		return "only"
	case slices.ContainsFunc(w.Ignore, is):
		return "ignore"
	case !w.AllowFallbacks && (c.Origin != OfModel || len(w.Order) > 0 && !slices.ContainsFunc(w.Order, is)):
		return "allow_fallbacks"
	case pinned(a.Principal.Key.Pin), pinned(w.Pin):
		return "pin"
	case w.MaxPrice != nil && (d.Price.Input > w.MaxPrice.Prompt || d.Price.Output > w.MaxPrice.Completion):
		return "max_price"
	case a.Needs.Tools && !has(catalog.Tools), a.Needs.Vision && !has(catalog.Vision), a.Endpoint == catalog.Embeddings && !has(catalog.Embedding):
		return "capability"
	case a.Request.N > 1 && slices.Contains(d.Lacks, catalog.Choices):
		return "n"
	case a.Endpoint != catalog.Embeddings && d.MaxOutput > 0 && a.Request.MaxTokens > d.MaxOutput:
		return "max_output"
	case model.Context > 0 && int64(a.Request.PromptBytes) > 10*model.Context+4:
		return "context"
	case c.Origin == OfEquivalent && (p.Equivalents == catalog.EquivalentsOff || a.Endpoint == catalog.Embeddings):
		return "equivalents"
	case c.Origin == OfRequest && !allowedByName(a, model.Name):
		return "key"
	case provider.Drained:
		return "drained"
	default:
		return ""
	}
}

// allowedByName says whether the request names the model, or a route to it, by a name that the key may use.
func allowedByName(a *Ask, model string) bool {
	return slices.ContainsFunc(a.Wish.Fallbacks, func(f Fallback) bool {
		leads := f.Model == model || f.Model == "chat" && model != "qwen"
		return leads && a.Principal.Key.Allows(f.Model)
	})
}

// Filters hold whatever the policy and the request say: no kept candidate breaks one, nor does one that
// only its circuit excludes, because it may be the last resort. // R7, R31, R32, R33
func TestNoKeptCandidateBreaksARule(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		view, err := snapshot.Compile(drawSpec(t))
		if err != nil {
			t.Fatal(err)
		}
		a := drawAsk(t)
		plan, refused := Make(view, a)
		if refused != nil && plan.Policy == nil { // before anything was planned: two pins that contradict each other
			return
		}
		kept := 0
		var seen []string
		for i := range plan.Candidates {
			c := &plan.Candidates[i]
			if slices.Contains(seen, c.ID) {
				t.Fatalf("%s is there twice", c.ID)
			}
			seen = append(seen, c.ID)
			if c.Excluded != Kept && c.Excluded != CircuitOpen {
				continue
			}
			if why := broken(plan.Policy, &a, c); why != "" {
				t.Fatalf("%s breaks %s", c.ID, why)
			}
			if (c.Drill != nil) != (len(a.Drills) > 0 && c.Provider.Name == "beta") || (c.Drill != nil) != (c.HealthID != c.ID) {
				t.Fatalf("%s has the drill %+v and the health of %s", c.ID, c.Drill, c.HealthID)
			}
			if c.Excluded == Kept {
				kept++
			}
		}
		if kept > plan.Policy.Attempts.Total {
			t.Fatalf("%d candidates kept, at most %d may be tried", kept, plan.Policy.Attempts.Total)
		}
		if (kept == 0) != (refused != nil) {
			t.Fatalf("%d kept, error %v", kept, refused)
		}
		checkRatio(t, &plan, &a)
	})
}

// checkRatio holds the kept candidates against the primary: the first that nothing but its condition
// keeps away. Exploring may put another one before it. Where the request rules out all of the route's own models,
// the first counts that the operator's rules admit.
func checkRatio(t *rapid.T, plan *Plan, a *Ask) {
	ratio := plan.Policy.MaxPriceRatio
	var costs []int64 // of primaries that are possible
	own := slices.ContainsFunc(plan.Candidates, func(c Candidate) bool { return c.Origin == OfModel && c.Excluded.awaits() })
	for i := range plan.Candidates {
		c := &plan.Candidates[i]
		operators := *a
		operators.Wish = Wish{AllowFallbacks: true, Pin: a.Wish.Pin}
		operators.Request, operators.Needs, operators.Endpoint = &openai.Request{}, openai.Needs{}, catalog.Chat
		if why := broken(plan.Policy, &operators, c); !own && len(costs) == 0 && c.Origin == OfModel && (why == "" || why == "drained") {
			costs = append(costs, c.Deployment.Price.Cost(estimate(a.Request)))
		}
	}
	explored := a.Wish.Sort == catalog.Fastest || a.Wish.Sort == "" && plan.Policy.Strategy == catalog.Fastest
	for i := range plan.Candidates {
		c := &plan.Candidates[i]
		if c.Excluded.awaits() && (explored || len(costs) == 0) {
			costs = append(costs, c.Deployment.Price.Cost(estimate(a.Request)))
		}
	}
	if ratio == 0 {
		return
	}
	for _, primary := range costs {
		dearer := 0
		for i := range plan.Candidates {
			c := &plan.Candidates[i]
			cost := c.Deployment.Price.Cost(estimate(a.Request))
			if (c.Excluded == Kept || c.Excluded == CircuitOpen) && primary > 0 && float64(cost) > ratio*float64(primary) {
				dearer++
			}
		}
		if dearer == 0 || dearer == 1 && ratio < 1 { // the primary itself
			return
		}
	}
	if len(costs) > 0 {
		t.Fatalf("a fallback costs more than %v of the primary", ratio)
	}
}

// The order of declarations that have no order changes no verdict.
func TestVerdictsDoNotDependOnTheOrderOfDeclaration(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		spec, a := drawSpec(t), drawAsk(t)
		spec.Policies[0].Strategy, spec.Policies[0].Order, a.Wish.Sort = catalog.Cheapest, nil, ""
		for i := range spec.Models { // a deployment that is there twice is itself a matter of order
			for j := range spec.Models[i].Deployments {
				spec.Models[i].Deployments[j].Model = fmt.Sprint(i, "-", j)
			}
		}
		before := verdictsByID(t, spec, a)
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "shuffle"), 2))
		p := &spec.Policies[0]
		shuffle(random, p.Regions)
		shuffle(random, p.Retention)
		shuffle(random, a.Wish.Only)
		shuffle(random, a.Wish.Ignore)
		shuffle(random, a.Principal.Key.Models)
		shuffle(random, spec.Providers)
		shuffle(random, spec.Models)
		for i := range spec.Models {
			shuffle(random, spec.Models[i].Deployments)
			shuffle(random, spec.Models[i].Equivalents)
		}
		if diff := cmp.Diff(before, verdictsByID(t, spec, a)); diff != "" {
			t.Fatal(diff)
		}
	})
}

func shuffle[T any](random *rand.Rand, list []T) {
	random.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
}

func verdictsByID(t *rapid.T, spec snapshot.Spec, a Ask) map[string]Reason {
	view, err := snapshot.Compile(spec)
	if err != nil {
		t.Fatal(err)
	}
	plan, _ := Make(view, a)
	found := map[string]Reason{}
	for _, c := range plan.Candidates {
		found[c.ID] = c.Excluded
	}
	return found
}
