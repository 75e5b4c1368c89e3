package control

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"shareai/internal/account"
	"shareai/internal/audit"
	"shareai/internal/catalog"
	"shareai/internal/fault"
	"shareai/internal/snapshot"
)

// NodeRows are the tokens of nodes in the store, which are no part of what is declared.
type NodeRows interface {
	// AddNodeToken adds a token, and logs that.
	AddNodeToken(ctx context.Context, t *catalog.NodeToken, acts ...audit.Act) error
	// NodeTokens returns every token, the newest first.
	NodeTokens(ctx context.Context) ([]catalog.NodeToken, error)
	// FindNodeToken returns the token that has a hash; false: there is none.
	FindNodeToken(ctx context.Context, hash account.KeyHash) (catalog.NodeToken, bool, error)
	// RevokeNodeToken ends a token, and logs that. The error is catalog.ErrNodeTokenSpent when it is revoked already.
	RevokeNodeToken(ctx context.Context, id string, now time.Time, acts ...audit.Act) error
	// CommitNode is Rows.Commit for a change that adds one node, and uses its token in the same transaction. The
	// error is catalog.ErrNodeTokenSpent, and nothing is changed, when the token can not be used.
	CommitNode(ctx context.Context, at int64, change snapshot.Change, acts ...audit.Act) (int64, error)
}

// Log is the audit log.
type Log interface {
	Audit(ctx context.Context, acts ...audit.Act) error
}

// The codes that tell a node which is gone.
const (
	nodeNotFound = "node_not_found"
	nodeRevoked  = "node_revoked"
)

// maxNodes bounds the nodes of one organization that are not revoked.
const maxNodes = 1000

// NodeFilter selects nodes and tokens. An empty field matches everything.
type NodeFilter struct{ Organization string }

func (f NodeFilter) matches(organization string) bool {
	return f.Organization == "" || f.Organization == organization
}

// ListNodes returns nodes, revoked ones included, by organization and name.
func (c *Control) ListNodes(ctx context.Context, f NodeFilter) ([]catalog.Node, error) {
	rows, _, err := c.o.Rows.Load(ctx)
	if err != nil {
		return nil, fault.From(err)
	}
	nodes := slices.DeleteFunc(slices.Clone(rows.Nodes), func(n catalog.Node) bool { return !f.matches(n.Organization) })
	slices.SortFunc(nodes, func(a, b catalog.Node) int {
		return cmp.Or(strings.Compare(a.Organization, b.Organization), strings.Compare(a.Name, b.Name), a.EnrolledAt.Compare(b.EnrolledAt))
	})
	return nodes, nil
}

// FindNode returns the node of those that the filter matches which ref means: by its id, its name, or
// organization/name. A node that is revoked has only its id.
func (c *Control) FindNode(ctx context.Context, ref string, among NodeFilter) (catalog.Node, error) {
	rows, _, err := c.o.Rows.Load(ctx)
	if err != nil {
		return catalog.Node{}, fault.From(err)
	}
	return findNode(rows.Nodes, ref, among)
}

func findNode(nodes []catalog.Node, ref string, among NodeFilter) (catalog.Node, error) {
	name := strings.TrimPrefix(ref, catalog.NodePrefix)
	var found []*catalog.Node
	for i := range nodes {
		n := &nodes[i]
		switch {
		case !among.matches(n.Organization):
		case n.ID == ref:
			return *n, nil
		case !n.Revoked() && (n.Name == name || nodeAddress(n) == name):
			found = append(found, n)
		}
	}
	switch len(found) {
	case 0:
		return catalog.Node{}, fault.New(fault.NotFound, nodeNotFound,
			"There is no such node. Give its id (node_…) or its name; nodes list shows both.").About("node")
	case 1:
		return *found[0], nil
	default:
		places := make([]string, len(found))
		for i, n := range found {
			places[i] = nodeAddress(n)
		}
		slices.Sort(places)
		return catalog.Node{}, fault.New(fault.Conflict, "node_ambiguous",
			"Several organizations have a node of this name. Say which: "+strings.Join(places, ", ")+".").About("node")
	}
}

// nodeAddress is organization/name.
func nodeAddress(n *catalog.Node) string { return n.Organization + "/" + n.Name }

// changeNode changes one node that is not revoked. change says whether there is anything to do.
func (c *Control) changeNode(ctx context.Context, name, ref string, among NodeFilter, change func(*catalog.Node, []catalog.Node) (bool, error)) (catalog.Node, error) {
	var node catalog.Node
	err := c.change(ctx, act{name, &node.ID}, func(declared snapshot.Spec) (*snapshot.Change, error) {
		var err error
		if node, err = findNode(declared.Nodes, ref, among); err != nil {
			return nil, err
		}
		if node.Revoked() {
			return nil, fault.New(fault.Conflict, nodeRevoked,
				"The node "+nodeAddress(&node)+" is revoked, which is for good. Enrol the machine again with a new token.").About("node")
		}
		if do, err := change(&node, declared.Nodes); err != nil || !do {
			return nil, err
		}
		return &snapshot.Change{Put: snapshot.Spec{Nodes: []catalog.Node{node}}}, nil
	})
	if err != nil {
		return catalog.Node{}, err
	}
	return node, nil
}

// RevokeNode shuts a node out for good and returns it. One that is revoked already stays as it is. Its keys stay known,
// so that whoever comes with one of them again is refused.
func (c *Control) RevokeNode(ctx context.Context, ref string, among NodeFilter) (catalog.Node, error) {
	if node, err := c.FindNode(ctx, ref, among); err != nil || node.Revoked() {
		return node, err
	}
	return c.changeNode(ctx, "node.revoke", ref, among, func(n *catalog.Node, _ []catalog.Node) (bool, error) {
		n.RevokedAt = c.now()
		return true, nil
	})
}

// RenameNode gives a node another name. Policies that name it do not follow.
func (c *Control) RenameNode(ctx context.Context, ref, name string, among NodeFilter) (catalog.Node, error) {
	if err := checkName("node", name); err != nil {
		return catalog.Node{}, err
	}
	return c.changeNode(ctx, "node.rename", ref, among, func(n *catalog.Node, all []catalog.Node) (bool, error) {
		if n.Name == name {
			return false, nil
		}
		if nodeNamed(all, n.Organization, name) {
			return false, exists("node", name)
		}
		n.Name = name
		return true, nil
	})
}

func nodeNamed(nodes []catalog.Node, organization, name string) bool {
	return slices.ContainsFunc(nodes, func(n catalog.Node) bool {
		return n.Organization == organization && n.Name == name && !n.Revoked()
	})
}

// DrainNode keeps new requests away from a node; those that it has, it finishes.
func (c *Control) DrainNode(ctx context.Context, ref string, among NodeFilter) (catalog.Node, error) {
	return c.changeNode(ctx, "node.drain", ref, among, func(n *catalog.Node, _ []catalog.Node) (bool, error) {
		do := !n.Drained
		n.Drained = true
		return do, nil
	})
}

// ResumeNode ends what DrainNode began.
func (c *Control) ResumeNode(ctx context.Context, ref string, among NodeFilter) (catalog.Node, error) {
	return c.changeNode(ctx, "node.resume", ref, among, func(n *catalog.Node, _ []catalog.Node) (bool, error) {
		do := n.Drained
		n.Drained = false
		return do, nil
	})
}

// SetNodePrices replaces what the models of a node cost. An empty list: nothing.
func (c *Control) SetNodePrices(ctx context.Context, ref string, among NodeFilter, prices []catalog.NodePrice) (catalog.Node, error) {
	if err := checkNodePrices(prices); err != nil {
		return catalog.Node{}, err
	}
	prices = slices.Clone(prices)
	slices.SortFunc(prices, func(a, b catalog.NodePrice) int { return strings.Compare(a.Model, b.Model) })
	return c.changeNode(ctx, "node.price", ref, among, func(n *catalog.Node, _ []catalog.Node) (bool, error) {
		do := !slices.Equal(n.Prices, prices)
		n.Prices = prices
		return do, nil
	})
}

func checkNodePrices(prices []catalog.NodePrice) error {
	if len(prices) > maxNodeModels {
		return fault.New(fault.Invalid, "too_many_prices", "A node has at most 500 prices.").About("prices")
	}
	const most = catalog.MaxUSDPerMillion * 1_000_000_000
	seen := map[string]bool{}
	for _, p := range prices {
		if p.Model != "*" && !nodeModelName.MatchString(p.Model) {
			return fault.New(fault.Invalid, "invalid_model", "A price is for the name of a model, or for \"*\", every other one.").About("prices")
		}
		if seen[p.Model] {
			return fault.New(fault.Invalid, "invalid_prices", "The model "+p.Model+" has two prices.").About("prices")
		}
		seen[p.Model] = true
		for _, nano := range []int64{p.Price.Input, p.Price.Output, p.Price.CachedInput} {
			if nano < 0 || nano > most {
				return fault.New(fault.Invalid, "invalid_price",
					"The price of "+p.Model+" is not between 0 and 1000000 USD per million tokens.").About("prices")
			}
		}
	}
	return nil
}

// now is the moment as rows hold it.
func (c *Control) now() time.Time { return c.o.Now().UTC().Truncate(time.Microsecond) }
