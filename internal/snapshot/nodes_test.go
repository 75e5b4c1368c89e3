package snapshot

import (
	"slices"
	"strings"
	"testing"
	"time"

	"shareai/internal/account"
	"shareai/internal/catalog"
)

// land is two organizations with a node each, beside a declared model.
func land(change func(*Spec)) Spec {
	spec := Spec{
		Organizations: []account.Organization{{Name: "acme"}, {Name: "rival"}},
		Projects:      []account.Project{{Organization: "acme", Name: "app"}, {Organization: "rival", Name: "app"}},
		Providers:     []catalog.Provider{{Name: "alpha", Dialect: catalog.Simulated}},
		Models: []catalog.Model{
			{Name: "llama-3.3-70b", Deployments: []catalog.Deployment{{Provider: "alpha", Model: "l"}}},
			{Name: "chat-model", Deployments: []catalog.Deployment{{Provider: "alpha", Model: "c"}}},
		},
		Routes: []catalog.Route{{Name: "chat", Models: []string{"chat-model"}}},
		Nodes: []catalog.Node{
			{ID: "node_a", Name: "laptop", Organization: "acme", Advertised: catalog.Advertised{Models: []catalog.NodeModel{
				{ID: "tiny:latest", Name: "tiny", Context: 2048},
				{ID: "llama3.3:70b", Name: "llama3.3:70b"},
			}}},
			{ID: "node_b", Name: "laptop", Organization: "rival", Advertised: catalog.Advertised{Models: []catalog.NodeModel{
				{ID: "tiny", Name: "tiny"}, {ID: "own", Name: "own"}, {ID: "chat", Name: "chat"},
			}}},
		},
	}
	if change != nil {
		change(&spec)
	}
	return spec
}

func compileLand(t *testing.T, change func(*Spec)) *Snapshot {
	t.Helper()
	view, err := Compile(land(change))
	if err != nil {
		t.Fatal(err)
	}
	return view
}

func idsOf(m *Model) []string {
	var ids []string
	for i := range m.Targets {
		ids = append(ids, m.Targets[i].HealthID)
	}
	return ids
}

func TestANodesModelsAreDeployments(t *testing.T) {
	view := compileLand(t, nil)
	for name, want := range map[string][]string{
		"tiny":          {"node_a/tiny:latest", "node_b/tiny"}, // a model that only nodes know
		"llama-3.3-70b": {"alpha/l", "node_a/llama3.3:70b"},    // the declared one, by what is known of the two names
	} {
		m, ok := view.Model(name)
		if !ok || !slices.Equal(idsOf(m), want) {
			t.Errorf("%s: %v %v, want %v", name, ok, idsOf(m), want)
		}
	}
	m, _ := view.Model("tiny")
	at := m.Targets[0]
	if at.ID != "node:laptop/tiny:latest" || at.Limits.Context != 2048 || at.Deployment.Price != (catalog.Price{}) || !at.Deployment.HasPrice() {
		t.Errorf("the target is %+v", at)
	}
	if p := at.Provider; p.Retention != "none" || p.Node != "node_a" || p.OpenTo("rival") || !p.OpenTo("acme") {
		t.Errorf("the provider is %+v", p)
	}
}

// R23: what a node serves exists for its own organization alone.
func TestNamesOfNodesArePrivate(t *testing.T) {
	view := compileLand(t, nil)
	for _, c := range []struct{ organization, names string }{
		{"acme", "chat chat-model llama-3.3-70b llama3.3:70b tiny tiny:latest"},
		{"rival", "chat chat-model llama-3.3-70b own tiny"},
		{"stranger", "chat chat-model llama-3.3-70b"},
	} {
		var open []string
		for _, name := range view.Names() {
			if r, _ := view.Route(name); r.OpenTo(c.organization, "app") {
				open = append(open, name)
			}
		}
		if got := strings.Join(open, " "); got != c.names {
			t.Errorf("%s sees %q, want %q", c.organization, got, c.names)
		}
	}
	if !view.Serves("acme", "node:laptop") || view.Serves("stranger", "node:laptop") || view.Serves("acme", "node:other") {
		t.Error("the names of nodes are not known to their own organization alone")
	}
}

// A node can not take a name from those who declared it.
func TestANodeTakesNoDeclaredName(t *testing.T) {
	view := compileLand(t, nil)
	r, _ := view.Route("chat")
	if len(r.Models) != 1 || r.Models[0].Name != "chat-model" {
		t.Errorf("the route leads to %v", r.Models)
	}
}

// What one organization's node calls its models takes no name from another's, and changes nothing of what was declared.
func TestANodeHarmsNobodyElse(t *testing.T) {
	hostile := func(s *Spec) {
		s.Nodes[0].Advertised.Models = []catalog.NodeModel{
			{ID: "own", Name: "junk"}, {ID: "tiny", Name: "bait"}, {ID: "gpt-4o", Name: "chat-model"},
		}
	}
	view := compileLand(t, hostile)
	for _, c := range []struct{ organization, name, model string }{
		{"rival", "own", "own"}, {"rival", "tiny", "tiny"}, {"acme", "own", "junk"}, {"acme", "tiny", "bait"},
	} {
		r, ok := view.RouteOf(c.organization, c.name)
		if !ok || !r.OpenTo(c.organization, "app") || r.Models[0].Name != c.model || r.Policy == nil {
			t.Errorf("%s of %s: %v, want the model %s", c.name, c.organization, r, c.model)
		}
	}
	if r, ok := view.RouteOf("stranger", "own"); ok && r.OpenTo("stranger", "app") {
		t.Error("a stranger may use a node's name")
	}
	equivalents := func(change func(*Spec), of string) (names []string) {
		m, _ := compileLand(t, func(s *Spec) {
			s.Models = append(s.Models, catalog.Model{Name: "gpt-4.1", Deployments: []catalog.Deployment{{Provider: "alpha", Model: "g"}}})
			change(s)
		}).Model(of)
		for _, e := range m.Equivalents {
			names = append(names, e.Name)
		}
		return names
	}
	crowd := func(s *Spec) {
		for _, name := range []string{"gpt-4o", "gpt-4o-2024-08-06", "chatgpt-4o-latest", "qwen2.5-72b-instruct", "llama-3.1-70b-instruct"} {
			s.Nodes[0].Advertised.Models = append(s.Nodes[0].Advertised.Models, catalog.NodeModel{ID: name, Name: name})
		}
	}
	for _, model := range []string{"chat-model", "llama-3.3-70b", "gpt-4.1"} {
		before := equivalents(func(s *Spec) { s.Nodes = nil }, model)
		for _, change := range []func(*Spec){hostile, crowd} {
			if after := equivalents(change, model); !slices.Equal(before, after) {
				t.Errorf("a node makes the equivalents of %s %q, which were %q", model, after, before)
			}
		}
	}
}

// Nothing that is declared hangs on a node: it could not be revoked, and could not change what it serves.
func TestNothingDeclaredNeedsANode(t *testing.T) {
	for path, change := range map[string]func(*Spec){
		"routes.mine.models[0]":                  func(s *Spec) { s.Routes = append(s.Routes, catalog.Route{Name: "mine", Models: []string{"own"}}) },
		"policies.p.fallbacks[0]":                func(s *Spec) { s.Policies = []catalog.Policy{{Name: "p", Fallbacks: []string{"own"}}} },
		"models.chat-model.equivalents[0].model": func(s *Spec) { s.Models[1].Equivalents = []catalog.Equivalent{{Model: "own", Grade: 1}} },
	} {
		_, err := Compile(land(change))
		if err == nil || !strings.Contains(err.Error(), "own") {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestNodesThatAreNotInUse(t *testing.T) {
	view := compileLand(t, func(s *Spec) {
		s.Nodes[0].RevokedAt = time.Unix(1, 0)
		s.Nodes[1].Organization = "gone"
		s.Nodes = append(s.Nodes,
			catalog.Node{ID: "node_c", Name: "twin", Organization: "acme"},
			catalog.Node{ID: "node_d", Name: "twin", Organization: "acme", Advertised: catalog.Advertised{Models: []catalog.NodeModel{{ID: "x", Name: "x"}}}})
	})
	for _, id := range []string{"node_a", "node_b", "node_d"} {
		if _, ok := view.Node(id); ok {
			t.Errorf("%s is in use", id)
		}
	}
	if _, ok := view.Node("node_c"); !ok {
		t.Error("node_c is not in use")
	}
	if _, ok := view.Route("tiny"); ok || len(view.Warnings) != 2 {
		t.Errorf("route %v, warnings %q", ok, view.Warnings)
	}
}

func TestPricesOfANode(t *testing.T) {
	own, others := catalog.Price{Input: 1}, catalog.Price{Input: 2}
	view := compileLand(t, func(s *Spec) {
		s.Nodes[1].Prices = []catalog.NodePrice{{Model: "*", Price: others}, {Model: "own", Price: own}}
	})
	for name, want := range map[string]catalog.Price{"own": own, "tiny": others} {
		m, _ := view.Model(name)
		if got := m.Targets[len(m.Targets)-1].Deployment.Price; got != want {
			t.Errorf("%s costs %+v, want %+v", name, got, want)
		}
	}
}

// A key may be pinned to a node of its own organization, and outlives it as it outlives a provider.
func TestAKeyPinnedToANode(t *testing.T) {
	pinned := func(organization, node string) Spec {
		return land(func(s *Spec) {
			s.Keys = []account.APIKey{{
				ID: "key_1", Name: "k", Organization: organization, Project: "app", Hash: account.HashKey("sk-not-a-real-secret"),
				Pin: account.Pin{Provider: "node:" + node}, Origin: account.FromDatabase,
			}}
		})
	}
	for _, c := range []struct {
		organization, node string
		inUse              bool
	}{{"acme", "laptop", true}, {"acme", "desktop", false}} {
		view, err := Compile(pinned(c.organization, c.node))
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := view.Principal(account.HashKey("sk-not-a-real-secret")); ok != c.inUse {
			t.Errorf("pinned to %s: in use %v", c.node, ok)
		}
	}
}
