package snapshot

import (
	"errors"
	"strings"
	"testing"
	"time"

	"shareai/internal/account"
	"shareai/internal/catalog"
)

// sound is a Spec without a problem, all of it from the file.
func sound() Spec {
	return Spec{
		Organizations: []account.Organization{{Name: "acme", Origin: account.FromFile}},
		Projects:      []account.Project{{Organization: "acme", Name: "app", Origin: account.FromFile}},
		Keys: []account.APIKey{
			{ID: "key_1", Name: "ci", Organization: "acme", Project: "app", Hash: account.HashKey("one"), Origin: account.FromFile},
		},
		Providers: []catalog.Provider{
			{Name: "alpha", Dialect: catalog.OpenAI, BaseURL: "https://a.example/v1", Origin: account.FromFile},
			{Name: "beta", Dialect: catalog.Simulated, Origin: account.FromFile},
		},
		Models: []catalog.Model{
			{Name: "llama", Deployments: []catalog.Deployment{{Provider: "alpha", Model: "l"}, {Provider: "beta", Model: "l"}}, Origin: account.FromFile},
			{Name: "qwen", Deployments: []catalog.Deployment{{Provider: "beta", Model: "q"}}, Origin: account.FromFile},
		},
		Policies:      []catalog.Policy{{Name: "careful", Fallbacks: []string{"later"}, Order: []string{"beta", "node:*"}, Origin: account.FromFile}},
		Routes:        []catalog.Route{{Name: "later", Models: []string{"qwen"}, Policy: "careful", Origin: account.FromFile}},
		DefaultPolicy: "careful",
	}
}

func TestCompileResolvesEveryReference(t *testing.T) {
	view, err := Compile(sound())
	if err != nil {
		t.Fatal(err)
	}
	p, ok := view.Principal(account.HashKey("one"))
	if !ok || p.Key.Name != "ci" || p.Project.Name != "app" || p.Organization.Name != "acme" {
		t.Errorf("principal %+v", p)
	}
	if got := strings.Join(view.Names(), " "); got != "later llama qwen" {
		t.Errorf("names %q", got)
	}
	route, _ := view.Route("llama")
	if len(route.Models[0].Targets) != 2 || route.Models[0].Targets[0].ID != "alpha/l" || route.Models[0].Targets[1].Provider.Name != "beta" {
		t.Errorf("targets %+v", route.Models[0].Targets)
	}
	if route.Policy.Attempts.Total != catalog.DefaultAttempts {
		t.Error("a policy in force has its defaults")
	}
	if len(route.Fallbacks) != 1 || route.Fallbacks[0].Name != "qwen" {
		t.Errorf("a fallback that names a route declared later: %+v", route.Fallbacks)
	}
}

func TestCompileOfNothing(t *testing.T) {
	view, err := Compile(Spec{})
	if err != nil || len(view.Names()) != 0 {
		t.Fatalf("%v, %v", view, err)
	}
}

func TestCompileSaysWhatIsWrong(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(*Spec)
		path  string
		says  string
	}{
		{"unknown provider", func(s *Spec) { s.Models[0].Deployments[1].Provider = "gamma" }, "models.llama.deployments.1.provider", "the providers are alpha, beta"},
		{"unknown model in a route", func(s *Spec) { s.Routes[0].Models = []string{"nope"} }, "routes.later.models.0", "the models are llama, qwen"},
		{"a route without a model", func(s *Spec) { s.Routes[0].Models = nil }, "routes.later.models", "no model"},
		{"unknown policy", func(s *Spec) { s.Routes[0].Policy = "nope" }, "routes.later.policy", "the policies are careful"},
		{"unknown default policy", func(s *Spec) { s.DefaultPolicy = "nope" }, "default_policy", "the policies are careful"},
		{"unknown provider in an order", func(s *Spec) { s.Policies[0].Order = []string{"gamma"} }, "policies.careful.order.0", "no provider"},
		{"unknown fallback", func(s *Spec) { s.Policies[0].Fallbacks = []string{"gone"} }, "policies.careful.fallbacks.0", "no model or route"},
		{"unknown equivalent", func(s *Spec) { s.Models[0].Equivalents = []catalog.Equivalent{{Model: "gone"}} }, "models.llama.equivalents.0.model", "no model"},
		{"unknown strategy", func(s *Spec) { s.Policies[0].Strategy = "best" }, "policies.careful.strategy", "use order, cost, latency, weighted"},
		{"unknown word for equivalents", func(s *Spec) { s.Policies[0].Equivalents = "all" }, "policies.careful.equivalents", "use off, closest, any"},
		{"unknown word for a content filter", func(s *Spec) { s.Policies[0].OnContentFilter = "ignore" }, "policies.careful.on_content_filter", "use return, fallback"},
		{"unknown hedge", func(s *Spec) { s.Policies[0].Hedge = "p50" }, "policies.careful.hedge", "use off, p95"},
		{"unknown word for tool calls", func(s *Spec) { s.Policies[0].HoldToolCalls = "on" }, "policies.careful.hold_tool_calls", "use auto, off"},
		{"unknown word for resume", func(s *Spec) { s.Policies[0].Resume = "yes" }, "policies.careful.resume", "use auto, off"},
		{"unknown class of failures", func(s *Spec) { s.Policies[0].FailoverOn = []catalog.FailureClass{"timeout", "bad luck"} }, "policies.careful.failover_on.1", `there is no failover_on "bad luck"`},
		{"unknown form of prefill", func(s *Spec) { s.Providers[0].Prefill = "suffix" }, "providers.alpha.prefill", "continue_final_message"},
		{"unknown probe", func(s *Spec) { s.Providers[0].Probe.Kind = "ping" }, "providers.alpha.probe.kind", "use off, models, tcp, canary"},
		{"unknown dialect", func(s *Spec) { s.Providers[0].Dialect = "smoke" }, "providers.alpha.dialect", "this version speaks"},
		{"no base URL", func(s *Spec) { s.Providers[0].BaseURL = "" }, "providers.alpha.base_url", "needs a base_url"},
		{"a label with two shares", func(s *Spec) {
			s.Organizations[0].Shares = []account.Share{{Label: "team", Value: "a", Share: 0.1}, {Label: "team", Value: "a", Share: 0.2}}
		}, "organizations.acme.shares.1", "team=a has two shares"},
		{"shares above 1", func(s *Spec) {
			s.Organizations[0].Shares = []account.Share{{Label: "team", Value: "a", Share: 0.7}, {Label: "team", Value: "b", Share: 0.3}, {Label: "team", Value: "c", Share: 0.1}}
		}, "organizations.acme.shares.2", "more than 1 together"},
		{"a label bounded twice", func(s *Spec) {
			l := account.LabelLimits{Label: "team", Value: "search"}
			s.Organizations[0].LabelLimits = []account.LabelLimits{l, {Label: "team", Value: "ads"}, l}
		}, "organizations.acme.label_limits.2", "team=search is bounded twice"},
		{"unknown word for lost limits", func(s *Spec) { s.Policies[0].OnLimitStoreFailure = "open" }, "policies.careful.on_limit_store_failure", "use allow, reject"},
		{"a deployment twice", func(s *Spec) {
			s.Models[0].Deployments = append(s.Models[0].Deployments, s.Models[0].Deployments[0])
		}, "models.llama.deployments.2", "has the deployment alpha/l twice"},
		{"its own equivalent", func(s *Spec) { s.Models[0].Equivalents = []catalog.Equivalent{{Model: "llama", Grade: 1}} }, "models.llama.equivalents.0.model", "its own equivalent"},
		{"a model twice in a route", func(s *Spec) { s.Routes[0].Models = []string{"qwen", "llama", "qwen"} }, "routes.later.models.2", `names the model "qwen" twice`},
		{"an answer longer than the context", func(s *Spec) { s.Models[0].Context, s.Models[0].MaxOutput = 10, 11 }, "models.llama.max_output", "more than the context of 10"},
		{"a deployment's answer longer than the model's context", func(s *Spec) {
			s.Models[0].Context, s.Models[0].Deployments[1].MaxOutput = 10, 11
		}, "models.llama.deployments.1.max_output", "more than the context of 10"},
		{"no deployment", func(s *Spec) { s.Models[1].Deployments = nil }, "models.qwen.deployments", "no deployment"},
		{"twice in the file", func(s *Spec) { s.Models = append(s.Models, s.Models[0]) }, "models.llama", "declared twice"},
		{"in the file and in the database", func(s *Spec) {
			s.Providers = append(s.Providers, catalog.Provider{Name: "beta", Dialect: catalog.Simulated, Origin: account.FromDatabase})
		}, "providers.beta", "in the configuration file and in the database"},
		{"two keys with one secret", func(s *Spec) {
			k := s.Keys[0]
			k.Name = "other"
			s.Keys = append(s.Keys, k)
		}, "organizations.acme.projects.app.keys.other.secret", "the same secret"},
		{"a pin to an unknown provider", func(s *Spec) { s.Keys[0].Pin.Provider = "gamma" }, "organizations.acme.projects.app.keys.ci.pin.provider", "no provider"},
		{"a file's project without its organization", func(s *Spec) { s.Projects[0].Organization = "gone" }, "organizations.gone", "does not exist"},
	} {
		t.Run(c.name, func(t *testing.T) {
			spec := sound()
			c.spoil(&spec)
			_, err := Compile(spec)
			var problems Problems
			if !errors.As(err, &problems) || len(problems) == 0 {
				t.Fatalf("error %v", err)
			}
			if problems[0].Path() != c.path || !strings.Contains(problems.Error(), c.says) {
				t.Errorf("%s\nwant %s: …%s…", problems, c.path, c.says)
			}
		})
	}
}

func TestCompileDoubts(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Spec)
		says   string // the one warning; empty: none
	}{
		{"nothing", func(*Spec) {}, ""},
		{"a pin to a deployment", func(s *Spec) { s.Keys[0].Pin = account.Pin{Provider: "alpha", Model: "l"} }, ""},
		{"a pin to none", func(s *Spec) { s.Keys[0].Pin = account.Pin{Provider: "alpha", Model: "q"} }, "acme/app/ci is pinned to alpha/q"},
		{"models of a key", func(s *Spec) { s.Keys[0].Models = []string{"llama", "later", "no-such-*", "q?en"} }, ""},
		{"an unknown model of a key", func(s *Spec) { s.Keys[0].Models = []string{"llama", "lama"} }, "may use lama"},
		{"a key that is revoked", func(s *Spec) { s.Keys[0].Models, s.Keys[0].RevokedAt = []string{"lama"}, time.Unix(1, 0) }, ""},
		{"projects of a route", func(s *Spec) { s.Routes[0].Projects = []string{"*", "app", "acme/app"} }, ""},
		{"an unknown project of a route", func(s *Spec) { s.Routes[0].Projects = []string{"acme/web"} }, "open to the project acme/web"},
		{"regions", func(s *Spec) { s.Providers[0].Region = "eu"; s.Policies[0].Regions = []string{"eu"} }, ""},
		{"an empty region", func(s *Spec) { s.Providers[0].Region = "eu"; s.Policies[0].Regions = []string{"eu", "us"} }, "the region us"},
		{"retention", func(s *Spec) { s.Policies[0].Retention = []string{"unknown"} }, ""},
		{"a retention of nobody", func(s *Spec) { s.Policies[0].Retention = []string{"none"} }, "the retention none"},
	} {
		spec := sound()
		c.change(&spec)
		view, err := Compile(spec)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if all := strings.Join(view.Warnings, "; "); (all == "") != (c.says == "") || !strings.Contains(all, c.says) {
			t.Errorf("%s: %q, want …%s…", c.name, all, c.says)
		}
	}
}

func TestARowMayOutliveItsOwner(t *testing.T) {
	spec := sound()
	spec.Keys = append(spec.Keys, account.APIKey{ID: "key_2", Organization: "acme", Project: "gone", Hash: account.HashKey("two"), Origin: account.FromDatabase})
	view, err := Compile(spec)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := view.Principal(account.HashKey("two")); ok {
		t.Error("a key without a project authenticates")
	}
	if len(view.Warnings) != 1 || !strings.Contains(view.Warnings[0], "key_2") {
		t.Errorf("warnings %q", view.Warnings)
	}
}

func TestARevokedKeyFreesItsName(t *testing.T) {
	spec := sound()
	spec.Keys[0].RevokedAt = time.Unix(1, 0)
	spec.Keys = append(spec.Keys, account.APIKey{ID: "key_2", Name: "ci", Organization: "acme", Project: "app", Hash: account.HashKey("two"), Origin: account.FromFile})
	if _, err := Compile(spec); err != nil {
		t.Fatal(err)
	}
}

// keys create without sight of the file makes rows that the file declares too.
func TestTheFileWinsOverRowsOfTheSameName(t *testing.T) {
	rows := Spec{
		Organizations: []account.Organization{{Name: "acme", Origin: account.FromDatabase}},
		Projects: []account.Project{
			{Organization: "acme", Name: "app", Origin: account.FromDatabase},
			{Organization: "acme", Name: "web", Origin: account.FromDatabase},
		},
		Keys: []account.APIKey{
			{ID: "key_2", Name: "ci", Organization: "acme", Project: "app", Hash: account.HashKey("two"), Origin: account.FromDatabase},
			{ID: "key_3", Name: "ci", Organization: "acme", Project: "web", Hash: account.HashKey("three"), Origin: account.FromDatabase},
		},
	}
	view, err := Compile(Join(sound(), rows))
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"one", "two", "three"} {
		p, ok := view.Principal(account.HashKey(secret))
		if !ok || p.Organization.Origin != account.FromFile {
			t.Errorf("key %s: %+v", secret, p)
		}
		if ok && p.Project.Name == "app" && p.Project.Origin != account.FromFile {
			t.Errorf("key %s: the project is the database's", secret)
		}
	}
	if len(view.Warnings) != 1 || !strings.Contains(view.Warnings[0], "key_2") {
		t.Errorf("warnings %q", view.Warnings)
	}
}

func TestARowMayOutliveTheProviderOfItsPin(t *testing.T) {
	spec := sound()
	row := account.APIKey{
		ID: "key_2", Name: "two", Organization: "acme", Project: "app", Hash: account.HashKey("two"),
		Pin: account.Pin{Provider: "gone"}, Origin: account.FromDatabase,
	}
	revoked := row
	revoked.ID, revoked.Hash, revoked.RevokedAt = "key_3", account.HashKey("three"), time.Unix(1, 0)
	spec.Keys = append(spec.Keys, row, revoked)
	view, err := Compile(spec)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := view.Principal(row.Hash); ok {
		t.Error("a key whose provider is gone authenticates")
	}
	if _, ok := view.Principal(revoked.Hash); !ok {
		t.Error("a revoked key is not known as such any more")
	}
	if len(view.Warnings) != 1 || !strings.Contains(view.Warnings[0], "key_2") {
		t.Errorf("warnings %q", view.Warnings)
	}
}
