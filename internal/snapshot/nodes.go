package snapshot

import (
	"cmp"
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

// Key returns a key of the node.
func (n *Node) Key(id string) (catalog.NodeKey, bool) {
	at := slices.IndexFunc(n.Keys, func(k catalog.NodeKey) bool { return k.ID == id })
	if at < 0 {
		return catalog.NodeKey{}, false
	}
	return n.Keys[at], true
}

// spoken is a name that nodes of an organization have for a model.
type spoken struct {
	name, organization string
	model              *Model
}

// spokenNames lets the organizations of nodes use the names that these have for models, where nobody declared them as
// something else.
func (c *compiler) spokenNames() {
	for _, s := range c.spoken {
		r := c.view.routes[s.name]
		if r == nil {
			r = c.plain(s.name, s.model)
			r.among = map[string]bool{}
			c.view.routes[s.name] = r
		}
		if r.among != nil && r.Models[0] == s.model {
			r.among[s.organization] = true
		}
	}
}

// nodes makes a provider of every node, and deployments of the models that it advertises. Nodes are rows, and what they
// advertise is their own word: nothing about them is a problem that could keep the rest from compiling.
func (c *compiler) nodes() {
	known := map[*families.Entry]*Model{}
	for _, m := range c.compiled {
		if e, ok := familyOf(m); ok && known[e] == nil {
			known[e] = m
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
			c.advertised(node, &n.Advertised.Models[j], known)
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

// advertised makes a deployment of a model that a node serves. It joins the declared model that has its name, or that
// is known to be the same; else it is a model of its own, for those whom the node serves.
func (c *compiler) advertised(node *Node, served *catalog.NodeModel, known map[*families.Entry]*Model) {
	if served.ID == "" || served.Name == "" {
		return
	}
	m := c.view.models[served.Name]
	if m == nil {
		if e, ok := families.Find(served.Name); ok {
			m = known[e]
		}
	}
	if m == nil {
		m = &Model{Model: &catalog.Model{Name: served.Name, Origin: account.FromDatabase}}
		c.view.models[served.Name] = m
		c.compiled = append(c.compiled, m)
	}
	d := &catalog.Deployment{
		Provider: node.Provider.Name, Model: served.ID, Price: node.price(served.Name), Priced: true,
		Context: served.Context, Capabilities: served.Capabilities,
	}
	t := newTarget(m.Model, d, node.Provider)
	t.HealthID = node.ID + "/" + served.ID
	m.Targets = append(m.Targets, t)
	c.deployed[t.ID] = true
	for _, name := range []string{m.Name, served.Name, served.ID} {
		c.spoken = append(c.spoken, spoken{name, node.Organization, m})
	}
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

// price is what a model costs on the node: its own price, that of all others, or nothing.
func (n *Node) price(model string) catalog.Price {
	var price catalog.Price
	for _, p := range n.Prices {
		if p.Model == model {
			return p.Price
		}
		if p.Model == "*" {
			price = p.Price
		}
	}
	return price
}

// isNode says whether a name of a policy's order means nodes rather than a provider. Which nodes there are differs by
// organization, and they come and go: a name without one is no mistake.
func isNode(name string) bool {
	rest, ok := strings.CutPrefix(name, catalog.NodePrefix)
	return ok && rest != ""
}
