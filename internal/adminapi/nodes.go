package adminapi

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"shareai/internal/account"
	"shareai/internal/catalog"
	"shareai/internal/control"
	"shareai/internal/fault"
)

// Nodes are the use cases of nodes.
type Nodes interface {
	ListNodes(ctx context.Context, f control.NodeFilter) ([]catalog.Node, error)
	FindNode(ctx context.Context, ref string, among control.NodeFilter) (catalog.Node, error)
	RevokeNode(ctx context.Context, ref string, among control.NodeFilter) (catalog.Node, error)
	RenameNode(ctx context.Context, ref, name string, among control.NodeFilter) (catalog.Node, error)
}

// NodeRouting are the use cases by which requests come to nodes or not.
type NodeRouting interface {
	DrainNode(ctx context.Context, ref string, among control.NodeFilter) (catalog.Node, error)
	ResumeNode(ctx context.Context, ref string, among control.NodeFilter) (catalog.Node, error)
	SetNodePrices(ctx context.Context, ref string, among control.NodeFilter, prices []catalog.NodePrice) (catalog.Node, error)
}

// NodeLinks tell how nodes are doing at the moment, as far as this replica knows.
type NodeLinks interface {
	NodeLink(id string) NodeLink
}

// NodeLink is how a node is doing.
type NodeLink struct {
	Linked   bool       `json:"linked" doc:"The node is connected, to this replica or another one."`
	Draining bool       `json:"draining,omitempty" doc:"The machine takes no new requests: its owner stops or updates it."`
	Capacity int        `json:"capacity" doc:"How many requests it takes at once; 0: none, for the moment."`
	InFlight int        `json:"in_flight" doc:"How many run on it."`
	Queued   int        `json:"queued" doc:"How many wait on it."`
	Idle     string     `json:"idle_state,omitempty" doc:"Why the capacity is what it is, in a word: serving, waiting, busy."`
	Speed    float64    `json:"tokens_per_second,omitempty" doc:"As the node measures it."`
	LastSeen *time.Time `json:"last_seen,omitempty" doc:"When it last said something; missing: not since this replica started."`
}

// NodeState is what a node is.
type NodeState string

// The states of a node.
const (
	NodeActive  NodeState = "active"
	NodeDrained NodeState = "drained"
	NodeRevoked NodeState = "revoked"
)

// Node is a node as the API shows it.
type Node struct {
	ID           string            `json:"id" example:"node_k3w7q2m5x4c6a2zt7d5b"`
	Name         string            `json:"name"`
	Organization string            `json:"organization"`
	State        NodeState         `json:"state" enum:"active,drained,revoked" doc:"active; drained: takes no new requests until it is resumed; revoked: shut out for good."`
	Link         *NodeLink         `json:"link,omitempty" doc:"How it is doing at the moment; missing where that is not known."`
	Labels       map[string]string `json:"labels,omitempty"`
	Region       string            `json:"region,omitempty"`
	Machine      NodeMachine       `json:"machine"`
	Engines      []NodeEngine      `json:"engines" nullable:"false"`
	Models       []NodeModel       `json:"models" nullable:"false" doc:"What it serves, as it last said."`
	Prices       []NodePrice       `json:"prices" nullable:"false" doc:"What it costs; a model without a price costs nothing."`
	Keys         []NodeKey         `json:"keys" nullable:"false" doc:"By which it proves who it is; two while one replaces the other."`
	Enrolled     time.Time         `json:"enrolled"`
	EnrolledBy   string            `json:"enrolled_by,omitempty" doc:"Who made the token."`
	TokenID      string            `json:"token_id,omitempty" doc:"By which it was enrolled."`
	Share        *NodeShare        `json:"share,omitempty" doc:"How it is shared with the community; missing: it never was."`
	Revoked      *time.Time        `json:"revoked,omitempty"`
}

// NodeMachine is what the machine said of itself when it was enrolled, and the version of its agent.
type NodeMachine struct {
	Hostname     string `json:"hostname,omitempty"`
	OS           string `json:"os,omitempty"`
	Arch         string `json:"arch,omitempty"`
	AgentVersion string `json:"agent_version,omitempty"`
}

// NodeEngine is a server of models on the node's machine.
type NodeEngine struct {
	Name    string `json:"name"`
	Kind    string `json:"kind"`
	Version string `json:"version,omitempty"`
}

// NodeModel is a model that a node serves.
type NodeModel struct {
	Name         string   `json:"name" doc:"That clients send."`
	ID           string   `json:"id" doc:"By which its engine knows it."`
	Engine       string   `json:"engine,omitempty"`
	Context      int64    `json:"context,omitempty" doc:"Tokens; missing: not known."`
	Capabilities []string `json:"capabilities,omitempty"`
}

// NodePrice is what a model costs on a node, in USD per million tokens.
type NodePrice struct {
	Model       string  `json:"model" minLength:"1" maxLength:"128" doc:"The name of a model, or * for every other one."`
	Input       float64 `json:"input" minimum:"0" maximum:"1000000" doc:"USD per million tokens of the prompt."`
	Output      float64 `json:"output" minimum:"0" maximum:"1000000" doc:"USD per million tokens of the answer."`
	CachedInput float64 `json:"cached_input,omitempty" minimum:"0" maximum:"1000000" doc:"USD per million tokens of the prompt that were cached."`
}

// NodeKey is a public key of a node.
type NodeKey struct {
	ID          string    `json:"id"`
	Fingerprint string    `json:"fingerprint" doc:"SHA-256 of the public key, as OpenSSH writes it."`
	Created     time.Time `json:"created"`
}

// NodeList is a list of nodes.
type NodeList struct {
	Nodes []Node `json:"nodes" nullable:"false" doc:"By their ids."`
	NextCursor
}

// ViewNode is a node as the API shows it, without its link.
func ViewNode(n *catalog.Node) Node {
	v := Node{
		ID: n.ID, Name: n.Name, Organization: n.Organization, State: NodeActive, Labels: n.Labels, Region: n.Region,
		Machine: NodeMachine{Hostname: n.Machine.Hostname, OS: n.Machine.OS, Arch: n.Machine.Arch, AgentVersion: n.Advertised.AgentVersion},
		Engines: []NodeEngine{}, Models: []NodeModel{}, Prices: []NodePrice{}, Keys: []NodeKey{},
		Enrolled: n.EnrolledAt, EnrolledBy: n.EnrolledBy, TokenID: n.Token, Share: ViewNodeShare(n.Shared),
	}
	switch {
	case n.Revoked():
		v.State, v.Revoked = NodeRevoked, &n.RevokedAt
	case n.Drained:
		v.State = NodeDrained
	}
	for _, e := range n.Advertised.Engines {
		v.Engines = append(v.Engines, NodeEngine{Name: e.Name, Kind: e.Kind, Version: e.Version})
	}
	for _, m := range n.Advertised.Models {
		model := NodeModel{Name: m.Name, ID: m.ID, Engine: m.Engine, Context: m.Context}
		for _, c := range m.Capabilities {
			model.Capabilities = append(model.Capabilities, string(c))
		}
		v.Models = append(v.Models, model)
	}
	for _, p := range n.Prices {
		v.Prices = append(v.Prices, NodePrice{Model: p.Model, Input: perMillion(p.Price.Input), Output: perMillion(p.Price.Output), CachedInput: perMillion(p.Price.CachedInput)})
	}
	for _, k := range n.Keys {
		v.Keys = append(v.Keys, NodeKey{ID: k.ID, Fingerprint: k.Fingerprint(), Created: k.CreatedAt})
	}
	return v
}

// perMillion is a price in USD.
func perMillion(nano int64) float64 { return float64(nano) / 1e9 }

type (
	nodeAnswer struct{ Body Node }
	nodesAsked struct {
		State string `query:"state" enum:"active,all" default:"active" doc:"Which ones: those that are not revoked, or all."`
		Page
	}
	nodesAnswer struct{ Body NodeList }
	nodeAsked   struct {
		Node string `path:"node" maxLength:"100" doc:"Its id, or its name."`
	}
	nodeName struct {
		Node string `path:"node" maxLength:"100" doc:"Its id, or its name."`
		Body struct {
			Name string `json:"name" minLength:"1" maxLength:"63" doc:"Policies that name the node do not follow."`
		}
	}
	nodePrices struct {
		Node string `path:"node" maxLength:"100" doc:"Its id, or its name."`
		Body struct {
			Prices []NodePrice `json:"prices" nullable:"false" maxItems:"500" doc:"All of them: what is missing costs nothing from now on."`
		}
	}
)

func (a *API) addNodes() {
	tags := []string{"Nodes"}
	const path = "/api/v1/nodes/{node}"
	operation(a, huma.Operation{
		OperationID: "list-nodes", Method: http.MethodGet, Path: "/api/v1/nodes", Tags: tags,
		Summary: "List nodes", Description: "Lists the organization's own machines that serve models.",
	}, account.ReadNodes, a.listNodes)
	operation(a, huma.Operation{
		OperationID: "get-node", Method: http.MethodGet, Path: path, Tags: tags,
		Summary: "Get a node", Description: "Shows a node, and how it is doing as far as this replica knows.",
	}, account.ReadNodes, a.getNode)
	operation(a, huma.Operation{
		OperationID: "revoke-node", Method: http.MethodDelete, Path: path, Tags: tags,
		Summary:     "Revoke a node",
		Description: "Shuts a node out for good: its links are closed within two seconds, and its key is refused. The machine can be enrolled again with a new token and a new key.",
	}, account.WriteNodes, a.revokeNode)
	operation(a, huma.Operation{
		OperationID: "rename-node", Method: http.MethodPut, Path: path + "/name", Tags: tags,
		Summary: "Rename a node", Description: "Gives a node another name, which is unique in its organization.",
	}, account.WriteNodes, a.renameNode)
	operation(a, huma.Operation{
		OperationID: "set-node-prices", Method: http.MethodPut, Path: path + "/prices", Tags: tags,
		Summary: "Set the prices of a node", Description: "Replaces what the node's models cost.",
	}, account.WriteNodes, a.setNodePrices)
	operation(a, huma.Operation{
		OperationID: "drain-node", Method: http.MethodPost, Path: path + "/drain", Tags: tags,
		Summary: "Drain a node", Description: "Keeps new requests away from a node. Those that run on it end by themselves.",
	}, account.WriteNodes, a.drainNode)
	operation(a, huma.Operation{
		OperationID: "resume-node", Method: http.MethodPost, Path: path + "/resume", Tags: tags,
		Summary: "Resume a node", Description: "Lets a node that was drained take requests again.",
	}, account.WriteNodes, a.resumeNode)
}

// nodesOf are those of the caller's organization.
func nodesOf(caller *Caller) control.NodeFilter {
	return control.NodeFilter{Organization: caller.Organization}
}

// view is a node with its link.
func (a *API) viewNode(n *catalog.Node) Node {
	v := ViewNode(n)
	if a.NodeLinks != nil && !n.Revoked() {
		link := a.NodeLinks.NodeLink(n.ID)
		v.Link = &link
	}
	return v
}

func (a *API) listNodes(ctx context.Context, caller *Caller, in *nodesAsked) (*nodesAnswer, error) {
	nodes, err := a.Nodes.ListNodes(ctx, nodesOf(caller))
	if err != nil {
		return nil, err
	}
	kept := nodes[:0]
	for i := range nodes {
		if in.State == "all" || !nodes[i].Revoked() {
			kept = append(kept, nodes[i])
		}
	}
	page, next, err := pageOf(kept, in.Page, func(n *catalog.Node) string { return n.ID })
	if err != nil {
		return nil, err
	}
	out := &nodesAnswer{Body: NodeList{Nodes: make([]Node, len(page)), NextCursor: next}}
	for i := range page {
		out.Body.Nodes[i] = a.viewNode(&page[i])
	}
	return out, nil
}

func (a *API) getNode(ctx context.Context, caller *Caller, in *nodeAsked) (*nodeAnswer, error) {
	node, err := a.Nodes.FindNode(ctx, in.Node, nodesOf(caller))
	if err != nil {
		return nil, err
	}
	return &nodeAnswer{Body: a.viewNode(&node)}, nil
}

func (a *API) revokeNode(ctx context.Context, caller *Caller, in *nodeAsked) (*nodeAnswer, error) {
	node, err := a.Nodes.RevokeNode(ctx, in.Node, nodesOf(caller))
	return a.nodeChanged(ctx, &node, err)
}

func (a *API) renameNode(ctx context.Context, caller *Caller, in *nodeName) (*nodeAnswer, error) {
	node, err := a.Nodes.RenameNode(ctx, in.Node, in.Body.Name, nodesOf(caller))
	return a.nodeChanged(ctx, &node, err)
}

func (a *API) setNodePrices(ctx context.Context, caller *Caller, in *nodePrices) (*nodeAnswer, error) {
	prices, err := readNodePrices(in.Body.Prices)
	if err != nil {
		return nil, err
	}
	node, err := a.NodeRouting.SetNodePrices(ctx, in.Node, nodesOf(caller), prices)
	return a.nodeChanged(ctx, &node, err)
}

// readNodePrices reads prices in USD.
func readNodePrices(said []NodePrice) ([]catalog.NodePrice, error) {
	prices := make([]catalog.NodePrice, len(said))
	for i, p := range said {
		own := &prices[i]
		own.Model = p.Model
		for usd, into := range map[*float64]*int64{&p.Input: &own.Price.Input, &p.Output: &own.Price.Output, &p.CachedInput: &own.Price.CachedInput} {
			var err error
			if *into, err = catalog.NanoPerMillion(*usd); err != nil {
				return nil, fault.New(fault.Invalid, "invalid_price", "The price of "+p.Model+": "+err.Error()+".").About("prices")
			}
		}
	}
	return prices, nil
}

func (a *API) drainNode(ctx context.Context, caller *Caller, in *nodeAsked) (*nodeAnswer, error) {
	node, err := a.NodeRouting.DrainNode(ctx, in.Node, nodesOf(caller))
	return a.nodeChanged(ctx, &node, err)
}

func (a *API) resumeNode(ctx context.Context, caller *Caller, in *nodeAsked) (*nodeAnswer, error) {
	node, err := a.NodeRouting.ResumeNode(ctx, in.Node, nodesOf(caller))
	return a.nodeChanged(ctx, &node, err)
}

// nodeChanged answers with a node that was changed, once this replica goes by it.
func (a *API) nodeChanged(ctx context.Context, n *catalog.Node, err error) (*nodeAnswer, error) {
	if err != nil {
		return nil, err
	}
	if err := a.Snapshots.Refresh(ctx); err != nil {
		a.Log.WarnContext(ctx, "a node's change is stored and not in force here yet", "node", n.ID, "error", err)
	}
	return &nodeAnswer{Body: a.viewNode(n)}, nil
}
