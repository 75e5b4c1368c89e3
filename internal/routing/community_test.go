package routing

import (
	"math/rand/v2"
	"testing"

	"shareai/internal/account"
	"shareai/internal/catalog"
	"shareai/internal/fault"
	"shareai/internal/snapshot"
)

// withCommunity adds nodes that another organization shares, at the price of 1 and 2 dollars.
func withCommunity(handles ...string) func(*snapshot.Spec) {
	return func(s *snapshot.Spec) {
		withNodes("one")(s)
		s.Community.Enabled = true
		s.Organizations[0].Community = true
		s.Policies[0].Community, s.Policies[0].Attempts.Total = catalog.CommunityAllow, 9
		for _, h := range handles {
			s.Nodes = append(s.Nodes, catalog.Node{
				ID: "node_" + h, Name: h, Organization: "rival", Advertised: catalog.Advertised{Models: []catalog.NodeModel{{ID: "llama", Name: "llama"}, {ID: "lent", Name: "lent"}}},
				Shared: &catalog.NodeShare{Handle: h, Prices: []catalog.NodePrice{{Model: "*", Price: catalog.Price{Input: 1e9, Output: 2e9}}}},
			})
		}
	}
}

// R25: a prompt reaches nodes of others only where organization and policy both say so.
func TestTheCommunityInAPlan(t *testing.T) {
	good := Link{Up: true, Reliability: 0.9}
	up := here(links{"node_one": {Up: true}, "node_desk": good, "node_rack": {Up: true, Reliability: 0.5}})
	with := func(more func(*snapshot.Spec)) func(*snapshot.Spec) {
		return func(s *snapshot.Spec) {
			withCommunity("rack", "desk")(s)
			more(s)
		}
	}
	checkPlans(t, []planCase{
		{"after what is the organization's own", with(func(*snapshot.Spec) {}), "llama", up, "alpha beta gamma node:one community:desk community:rack"},
		{"before it where the policy says so", with(func(s *snapshot.Spec) { s.Policies[0].Order = []string{"community:rack", "node:*", "community:*"} }), "llama", up, "community:rack node:one community:desk alpha beta gamma"},
		{"own nodes are none of them", with(func(s *snapshot.Spec) { s.Policies[0].Order = []string{"node:*"} }), "llama", up, "node:one alpha beta gamma community:desk community:rack"},
		{"the policy does not let them", with(func(s *snapshot.Spec) { s.Policies[0].Community = catalog.Off }), "llama", up, "alpha beta gamma node:one community:rack:community community:desk:community"},
		{"nor by default", with(func(s *snapshot.Spec) { s.Policies[0].Community = "" }), "llama", up, "alpha beta gamma node:one community:rack:community community:desk:community"},
		{"the organization does not take part", with(func(s *snapshot.Spec) { s.Organizations[0].Community = false }), "llama", up, "alpha beta gamma node:one"},
		{"there is none", with(func(s *snapshot.Spec) { s.Community.Enabled = false }), "llama", up, "alpha beta gamma node:one"},
		{"away", with(func(*snapshot.Spec) {}), "llama", here(links{"node_one": {Up: true}, "node_rack": good}), "alpha beta gamma node:one community:rack community:desk:node_away"},
		{"pinned", with(func(*snapshot.Spec) {}), "llama", func(a *Ask) {
			up(a)
			a.Wish.Pin = account.Pin{Provider: "community:desk"}
		}, "alpha:not_pinned beta:not_pinned gamma:not_pinned node:one:not_pinned community:rack:not_pinned community:desk"},
		{"those who keep nothing", with(func(s *snapshot.Spec) {
			s.Nodes[2].Shared.Retention = "none"
			s.Policies[0].Retention = []string{"none"}
		}), "llama", up, "alpha beta:retention gamma:retention node:one community:rack community:desk:retention"},
	})
}

// No wish of a request opens what the policy keeps closed.
func TestAWishDoesNotOpenTheCommunity(t *testing.T) {
	view := house(t, func(s *snapshot.Spec) {
		withCommunity("desk")(s)
		s.Policies[0].Community = catalog.Off
	})
	for _, wish := range []Wish{
		{Pin: account.Pin{Provider: "community:desk"}},
		{Only: []string{"community:*"}, AllowFallbacks: true},
		{Order: []string{"community:desk"}, AllowFallbacks: true},
		{Only: []string{"community:desk/llama"}},
	} {
		a := ask("llama")
		a.Links, a.Wish = links{"node_desk": {Up: true, Reliability: 1}}, wish
		plan, err := Make(view, a)
		for c := range plan.Kept() {
			if c.Provider.Community != "" {
				t.Errorf("%+v sends the prompt to %s (%v)", wish, c.ID, err)
			}
		}
	}
	a := ask("llama")
	a.Wish.Only = []string{"community:nobody"}
	if _, err := Make(view, a); fault.From(err).Kind != fault.Invalid {
		t.Errorf("a handle that nobody has: %v", err)
	}
}

// R25: the more reliable a node, the more of the work it gets; a busy one gets less.
func TestPlacementFollowsReliability(t *testing.T) {
	view := house(t, func(s *snapshot.Spec) {
		withCommunity("steady", "flaky", "broken", "busy")(s)
		s.Policies[0].Order = []string{"community:*"}
	})
	random := rand.New(rand.NewPCG(25, 4))
	a := ask("llama")
	a.Draw = random.Float64
	a.Links = links{
		"node_steady": {Up: true, Reliability: 0.99}, "node_flaky": {Up: true, Reliability: 0.9}, "node_broken": {Up: true, Reliability: 0.5},
		"node_busy": {Up: true, Reliability: 0.99, Capacity: 4, Load: 3},
	}
	first := map[string]int{}
	const rounds = 4000
	for range rounds {
		plan, err := Make(view, a)
		if err != nil {
			t.Fatal(err)
		}
		first[plan.Candidates[0].Provider.Name]++
	}
	want := map[string]float64{"community:steady": 0.9606, "community:flaky": 0.6561, "community:broken": 0.0625, "community:busy": 0.2401}
	sum := 0.0
	for _, w := range want {
		sum += w
	}
	for name, w := range want {
		if got := float64(first[name]) / rounds; got < w/sum-0.04 || got > w/sum+0.04 {
			t.Errorf("%s is the first of %.3f, want %.3f", name, got, w/sum)
		}
	}
}

// Equal to the strategy only: a cheaper one goes first, be it less reliable.
func TestReliabilityDoesNotOverruleThePrice(t *testing.T) {
	view := house(t, func(s *snapshot.Spec) {
		withCommunity("dear", "cheap")(s)
		s.Policies[0].Strategy = catalog.Cheapest
		s.Nodes[3].Shared.Prices[0].Price.Output = 1
	})
	a := ask("lent")
	a.Draw = rand.New(rand.NewPCG(1, 1)).Float64
	a.Links = links{"node_dear": {Up: true, Reliability: 1}, "node_cheap": {Up: true, Reliability: 0.3}}
	for range 50 {
		plan, err := Make(view, a)
		if err != nil || plan.Candidates[0].Provider.Name != "community:cheap" {
			t.Fatalf("%v %v", plan.Candidates, err)
		}
	}
}
