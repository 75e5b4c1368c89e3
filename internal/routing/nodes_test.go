package routing

import (
	"math/rand/v2"
	"strings"
	"testing"

	"shareai/internal/account"
	"shareai/internal/catalog"
	"shareai/internal/fault"
	"shareai/internal/snapshot"
)

// links are nodes by id; the others are away.
type links map[string]Link

func (l links) Link(node string) Link { return l[node] }

// withNodes adds nodes of acme that serve llama, and one of another organization.
func withNodes(names ...string) func(*snapshot.Spec) {
	return func(s *snapshot.Spec) {
		models := catalog.Advertised{Models: []catalog.NodeModel{{ID: "llama", Name: "llama"}, {ID: "own", Name: "own"}}}
		for _, n := range names {
			s.Nodes = append(s.Nodes, catalog.Node{ID: "node_" + n, Name: n, Organization: "acme", Advertised: models})
		}
		s.Organizations = append(s.Organizations, account.Organization{Name: "rival"})
		s.Nodes = append(s.Nodes, catalog.Node{ID: "node_rival", Name: "theirs", Organization: "rival", Advertised: models})
	}
}

func here(l links) func(*Ask) { return func(a *Ask) { a.Links = l } }

// R23, and the tiers of a policy.
func TestNodesInAPlan(t *testing.T) {
	up := links{"node_one": {Up: true}, "node_two": {Up: true}, "node_rival": {Up: true}}
	ordered := func(order ...string) func(*snapshot.Spec) {
		return func(s *snapshot.Spec) {
			withNodes("one", "two")(s)
			s.Policies[0].Order = order
		}
	}
	checkPlans(t, []planCase{
		{"after what is declared", withNodes("one"), "llama", here(up), "alpha beta gamma node:one"},
		{"as the primary", ordered("node:*"), "llama", here(up), "node:one node:two alpha beta gamma"},
		{"one before all others", ordered("node:two", "alpha", "node:*"), "llama", here(up), "node:two alpha node:one beta gamma"},
		{"away", ordered("node:*"), "llama", here(links{"node_two": {Up: true}}), "node:one:node_away node:two alpha beta gamma"},
		{"without links", ordered("node:*"), "llama", nil, "node:one:node_away node:two:node_away alpha beta gamma"},
		{"at rest", ordered("node:*"), "llama", here(links{"node_one": {Up: true, Resting: true}, "node_two": {Up: true}}), "node:one:node_resting node:two alpha beta gamma"},
		{"only they have it", withNodes("one"), "own", here(up), "node:one"},
		{"what the request ignores", ordered("node:*"), "llama", func(a *Ask) { a.Links = up; a.Wish.Ignore = []string{"node:*"} }, "node:one:not_wanted node:two:not_wanted alpha beta gamma"},
		{"what the request wants", ordered(), "llama", func(a *Ask) { a.Links = up; a.Wish.Only = []string{"node:two"} }, "alpha:not_wanted beta:not_wanted gamma:not_wanted node:one:not_wanted node:two"},
		{"the cheapest cost nothing", func(s *snapshot.Spec) {
			withNodes("one")(s)
			s.Policies[0].Strategy = catalog.Cheapest
		}, "llama", here(up), "node:one beta alpha gamma"},
		{"full ones come last", ordered("node:*"), "llama", here(links{"node_one": {Up: true, Capacity: 2, Load: 2}, "node_two": {Up: true, Capacity: 2, Load: 1}}), "node:two alpha beta gamma node:one"},
	})
}

// Many plans spread over nodes by their load, and never go to a busier one of the two that are drawn.
func TestLoadIsSpread(t *testing.T) {
	view := house(t, func(s *snapshot.Spec) {
		withNodes("one", "two", "three")(s)
		s.Policies[0].Order = []string{"node:*"}
	})
	first := map[string]int{}
	random := rand.New(rand.NewPCG(1, 2))
	a := ask("llama")
	a.Draw = random.Float64
	a.Links = links{
		"node_one": {Up: true, Capacity: 10, Load: 9}, "node_two": {Up: true, Capacity: 10, Load: 1}, "node_three": {Up: true, Capacity: 10, Load: 5},
	}
	for range 3000 {
		plan, err := Make(view, a)
		if err != nil {
			t.Fatal(err)
		}
		first[plan.Candidates[0].Provider.Name]++
	}
	// Of three pairs, the least loaded wins two and the middle one the third.
	if first["node:one"] != 0 || first["node:two"] < 1850 || first["node:three"] < 850 {
		t.Errorf("first were %v", first)
	}
}

func TestANodeThatIsAwayIsWaitedFor(t *testing.T) {
	a := ask("own")
	_, err := Make(house(t, withNodes("one")), a)
	e := fault.From(err)
	if e.Kind != fault.Unavailable || e.RetryAfter == 0 || !strings.Contains(e.Message, "not connected") {
		t.Errorf("%+v", e)
	}
	a.Principal.Organization.Name, a.Principal.Project.Organization = "stranger", "stranger"
	if _, err := Make(house(t, withNodes("one")), a); fault.From(err).Kind != fault.NotFound {
		t.Errorf("to another organization: %v", err)
	}
}

// A request may name nodes of its own organization, and no others.
func TestNamesOfNodesInARequest(t *testing.T) {
	for name, known := range map[string]bool{"node:one": true, "node:*": true, "node:one/llama": true, "node:theirs": false, "node:none": false} {
		a := ask("llama")
		a.Wish.Order = []string{name}
		_, err := Make(house(t, withNodes("one")), a)
		if (err == nil) != known {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), "theirs,") {
			t.Errorf("the refusal names another organization's node: %v", err)
		}
	}
}
