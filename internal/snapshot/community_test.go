package snapshot

import (
	"slices"
	"strings"
	"testing"
	"time"

	"shareai/internal/account"
	"shareai/internal/catalog"
)

// commons is land with the first node shared, and three organizations that take part.
func commons(change func(*Spec)) func(*Spec) {
	return func(s *Spec) {
		s.Community = catalog.CommunityTerms{Enabled: true, MaxPrice: &catalog.CommunityPrice{Input: 100, Output: 200}}
		s.Organizations[0].Community, s.Organizations[1].Community = true, true
		s.Organizations = append(s.Organizations, account.Organization{Name: "outsider"})
		s.Projects = append(s.Projects, account.Project{Organization: "outsider", Name: "app"})
		s.Policies = []catalog.Policy{{Name: "open", Community: catalog.CommunityAllow, Order: []string{"community:*", "community:gone"}}}
		s.DefaultPolicy = "open"
		s.Nodes[0].Region = "eu"
		s.Nodes[0].Shared = &catalog.NodeShare{
			Handle: "desk", Since: time.Unix(1, 0),
			Prices: []catalog.NodePrice{{Model: "*", Price: catalog.Price{Input: 10, Output: 20, CachedInput: 10}}},
		}
		if change != nil {
			change(s)
		}
	}
}

// R25: a shared node is a second provider, after all others, with the owner's prices and nothing that was not declared.
func TestASharedNode(t *testing.T) {
	t.Parallel()
	view := compileLand(t, commons(nil))
	tiny, _ := view.Model("tiny")
	if got := strings.Join(idsOf(tiny), " "); got != "node_a/tiny:latest node_b/tiny node_a/tiny:latest" {
		t.Fatalf("tiny is served by %s", got)
	}
	target := tiny.Targets[2]
	p := target.Provider
	if target.ID != "community:desk/tiny:latest" || p.Retention != "unknown" || p.Region != "eu" || p.Node != "node_a" || target.HealthID != "node_a/tiny:latest" || target.Deployment.Price.Output != 20 {
		t.Errorf("%+v %+v", p, target)
	}
	for organization, open := range map[string]bool{"acme": false, "rival": true, "outsider": false, "": false} {
		if p.OpenTo(organization) != open || view.Serves(organization, "community:desk") != open {
			t.Errorf("open to %q: %v", organization, !open)
		}
		if route, _ := view.Route("tiny:latest"); organization != "" && route.OpenTo(organization, "app") != (organization != "outsider") {
			t.Errorf("the name is there for %q: %v", organization, organization == "outsider")
		}
	}
}

func TestWhatIsNotShared(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Spec){
		"there is no community":     func(s *Spec) { s.Community.Enabled = false },
		"never shared":              func(s *Spec) { s.Nodes[0].Shared = nil },
		"ended":                     func(s *Spec) { s.Nodes[0].Shared.EndedAt = time.Unix(2, 0) },
		"revoked":                   func(s *Spec) { s.Nodes[0].RevokedAt = time.Unix(2, 0) },
		"another model":             func(s *Spec) { s.Nodes[0].Shared.Models = []string{"llama*"} },
		"too dear on the way in":    func(s *Spec) { s.Community.MaxPrice.Input = 9 },
		"too dear on the way out":   func(s *Spec) { s.Community.MaxPrice.Output = 19 },
		"its organization is gone":  func(s *Spec) { s.Nodes[0].Organization = "nobody" },
		"the handle is another one": func(s *Spec) { s.Nodes[1].Shared, s.Nodes[0].Shared = s.Nodes[0].Shared, nil },
	} {
		view := compileLand(t, commons(change))
		if m, ok := view.Model("tiny"); ok && slices.ContainsFunc(m.Targets, func(t Target) bool { return t.ID == "community:desk/tiny:latest" }) {
			t.Errorf("%s: it is offered", name)
		}
	}
	closed := compileLand(t, commons(func(s *Spec) { s.Policies[0].Community = ""; s.Nodes[1].Advertised = catalog.Advertised{} }))
	if route, ok := closed.Route("tiny:latest"); !ok || route.OpenTo("rival", "app") {
		t.Error("a name exists where the default policy lets nobody use it")
	}
}

// What the file says of an organization is in force, whatever its row says.
func TestTheFileDecidesAboutMembers(t *testing.T) {
	t.Parallel()
	view := compileLand(t, commons(func(s *Spec) {
		s.Organizations[1].Community, s.Organizations[1].Origin = false, account.FromFile
		s.Organizations = append(s.Organizations, account.Organization{Name: "rival", Community: true, Origin: account.FromDatabase})
	}))
	if p, ok := view.Shared("desk"); !ok || p.OpenTo("rival") {
		t.Error("a row opened what the file keeps closed")
	}
}
