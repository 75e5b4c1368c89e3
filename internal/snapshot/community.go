package snapshot

import (
	"cmp"
	"strings"

	"shareai/internal/account"
	"shareai/internal/catalog"
)

// lent is a name that a node has for a model, and for whom.
type lent struct {
	served *catalog.NodeModel
	model  *Model
	among  *catalog.Provider
}

// community makes a second provider of every node that is shared, for the organizations that take part. They come after
// all other deployments of their models: who orders nothing gets what is his own first.
func (c *compiler) community() {
	terms := &c.spec.Community
	if !terms.Enabled {
		return
	}
	members := c.members()
	for i := range c.spec.Nodes {
		n := &c.spec.Nodes[i]
		if c.view.nodes[n.ID] == nil || !n.Shared.Active() {
			continue
		}
		if c.view.shared[n.Shared.Handle] != nil {
			c.warn("node %s is not shared: another one has the handle %s", n.ID, n.Shared.Handle)
			continue
		}
		p := sharedProviderOf(n, members)
		c.view.shared[n.Shared.Handle] = p
		for j := range n.Advertised.Models {
			c.offered(p, n.Shared, &n.Advertised.Models[j])
		}
	}
}

// members are the organizations that take part. Of two declarations the first is in force, which is the file's.
func (c *compiler) members() map[string]bool {
	seen, members := map[string]bool{}, map[string]bool{}
	for i := range c.spec.Organizations {
		o := &c.spec.Organizations[i]
		if !seen[o.Name] && o.Community {
			members[o.Name] = true
		}
		seen[o.Name] = true
	}
	return members
}

func sharedProviderOf(n *catalog.Node, members map[string]bool) *catalog.Provider {
	p := providerOf(n)
	p.Name, p.Community, p.Among = n.Shared.ProviderName(), n.Shared.Handle, members
	p.Retention = cmp.Or(n.Shared.Retention, "unknown") // what holds for its owner was not promised to others
	p.Origin = account.FromDatabase
	return p
}

// offered makes a deployment of a model that is shared.
func (c *compiler) offered(p *catalog.Provider, share *catalog.NodeShare, served *catalog.NodeModel) {
	price := catalog.PriceOf(served.Name, share.Prices)
	switch {
	case !share.Offers(served.Name):
	case !c.spec.Community.Allows(&price):
		c.warn("the model %s of %s is not in use: its price is above the operator's limit", served.Name, p.Name)
	default:
		if m := c.advertised(p, served, price); m != nil {
			c.lent = append(c.lent, lent{served, m, p})
		}
	}
}

// lentNames lets members use the names of models that only shared nodes have. Nobody declared a policy for these names:
// they exist where the default one lets the community serve.
func (c *compiler) lentNames() {
	if c.view.fallback.Community != catalog.CommunityAllow {
		return
	}
	for _, l := range c.lent {
		for member := range l.among.Among {
			if l.among.OpenTo(member) {
				c.speaks(member, l.served, l.model)
			}
		}
	}
}

// Shared returns the provider that stands for a node which is shared, by its handle.
func (s *Snapshot) Shared(handle string) (*catalog.Provider, bool) {
	p, ok := s.shared[handle]
	return p, ok
}

// isCommunity says whether a name of a policy's order means shared nodes, which come and go as others do.
func isCommunity(name string) bool {
	rest, ok := strings.CutPrefix(name, catalog.CommunityPrefix)
	return ok && rest != ""
}
