package snapshot

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"shareai/internal/account"
	"shareai/internal/catalog"
	"shareai/internal/families"
)

// Node is a node with what stands for it where a provider would.
type Node struct {
	*catalog.Node
	Provider *catalog.Provider
}

// spoken is a name that nodes of an organization have for a model.
type spoken struct {
	name, organization string
	model              *Model
}

// spokenNames lets the organizations of nodes use the names that these have for models, where nobody declared them as
// something else.
func (c *compiler) spokenNames() {
	c.lentNames()
	for _, s := range c.spoken {
		r := c.view.routes[s.name]
		if r == nil {
			r = c.plain(s.name, s.model)
			r.among = map[string]bool{}
			c.view.routes[s.name] = r
		}
		switch at := [2]string{s.organization, s.name}; {
		case r.among == nil || r.among[s.organization] || c.view.others[at] != nil:
		case r.Models[0] == s.model:
			r.among[s.organization] = true
		default: // somebody else's node has the name for another model, which takes it from nobody
			other := c.plain(s.name, s.model)
			other.among = map[string]bool{s.organization: true}
			c.view.others[at] = other
		}
	}
}

// speaks lets an organization use the names that a node has for a model.
func (c *compiler) speaks(organization string, served *catalog.NodeModel, m *Model) {
	for _, name := range []string{m.Name, served.Name, served.ID} {
		c.spoken = append(c.spoken, spoken{name, organization, m})
	}
}

// nodes makes a provider of every node, and deployments of the models that it advertises. Nodes are rows, and what they
// advertise is their own word: nothing about them is a problem that could keep the rest from compiling.
func (c *compiler) nodes() {
	c.written = maps.Clone(c.view.models)
	c.known = map[*families.Entry]*Model{}
	for _, m := range c.compiled {
		if e, ok := familyOf(m); ok && c.known[e] == nil {
			c.known[e] = m
		}
	}
	for i := range c.spec.Nodes {
		n := &c.spec.Nodes[i]
		if n.Revoked() {
			c.view.revoked[n.ID] = true
			continue
		}
		if _, ok := c.hasOrganization(n.Organization); !ok {
			c.warn("node %s is not in use: organization %s does not exist any more", n.ID, n.Organization)
			continue
		}
		place := [2]string{n.Organization, n.Name}
		if c.view.served[place] != nil {
			c.warn("node %s is not in use: its organization has another one named %s", n.ID, n.Name)
			continue
		}
		node := &Node{Node: n, Provider: providerOf(n)}
		c.view.nodes[n.ID], c.view.served[place] = node, node
		for j := range n.Advertised.Models {
			served := &n.Advertised.Models[j]
			if m := c.advertised(node.Provider, served, catalog.PriceOf(served.Name, n.Prices)); m != nil {
				c.speaks(n.Organization, served, m)
			}
		}
	}
}

func (c *compiler) hasOrganization(name string) (*account.Organization, bool) {
	at := slices.IndexFunc(c.spec.Organizations, func(o account.Organization) bool { return o.Name == name })
	if at < 0 {
		return nil, false
	}
	return &c.spec.Organizations[at], true
}

// NodeAddress is the address of the engines of a node, whichever it is: the link leads to one node only, so that the
// host means nothing.
const NodeAddress = "http://node/v1"

func providerOf(n *catalog.Node) *catalog.Provider {
	return &catalog.Provider{
		Name: n.ProviderName(), Dialect: catalog.OpenAI, BaseURL: NodeAddress,
		Region: n.Region, Retention: cmp.Or(n.Retention, "none"),
		OutputLimit: catalog.OutputLimitMaxTokens, Drained: n.Drained,
		Probe: catalog.Probe{Kind: catalog.ProbeOff}, // its link tells
		Node:  n.ID, Organization: n.Organization, Origin: account.FromDatabase,
	}
}

// advertised makes a deployment of a model that a node serves, and returns that model; nil: it has no name. It joins the
// declared model that has its name, or that is known to be the same; else it is a model of its own, for those whom the
// node serves.
func (c *compiler) advertised(at *catalog.Provider, served *catalog.NodeModel, price catalog.Price) *Model {
	if served.ID == "" || served.Name == "" {
		return nil
	}
	m := c.view.models[served.Name]
	if m == nil {
		if e, ok := families.Find(served.Name); ok {
			m = c.known[e]
		}
	}
	if m == nil {
		m = &Model{Model: &catalog.Model{Name: served.Name, Origin: account.FromDatabase}}
		c.view.models[served.Name] = m
		c.compiled = append(c.compiled, m)
	}
	d := &catalog.Deployment{
		Provider: at.Name, Model: served.ID, Price: price, Priced: true,
		Context: served.Context, Capabilities: served.Capabilities,
	}
	t := newTarget(m.Model, d, at)
	t.HealthID = at.Node + "/" + served.ID // the machine is as well for one organization as for another
	m.Targets = append(m.Targets, t)
	c.deployed[t.ID] = true
	return m
}

// familyOf finds a declared model on the map of well-known ones.
func familyOf(m *Model) (*families.Entry, bool) {
	if e, ok := families.Find(m.Name); ok {
		return e, true
	}
	for i := range m.Targets {
		if e, ok := families.Find(m.Targets[i].Deployment.Model); ok {
			return e, true
		}
	}
	return nil, false
}

// isNode says whether a name of a policy's order means nodes rather than a provider. Which nodes there are differs by
// organization, and they come and go: a name without one is no mistake.
func isNode(name string) bool {
	rest, ok := strings.CutPrefix(name, catalog.NodePrefix)
	return ok && rest != ""
}
