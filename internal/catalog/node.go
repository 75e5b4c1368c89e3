package catalog

import (
	"crypto/ed25519"
	"time"

	"shareai/internal/account"
)

// NodePrefix begins the names under which policies, headers and records know nodes: "node:laptop" is one node,
// "node:*" any of them.
const NodePrefix = "node:"

// Node is a machine of an organization that serves models over a link which it opened itself.
type Node struct {
	ID           string // stable and not secret: node_...
	Name         string // unique among the nodes of its organization that are not revoked
	Organization string
	Labels       map[string]string
	Region       string // as of a provider
	Retention    string // as of a provider; empty: "none", what is asked stays on the owner's hardware
	Keys         []NodeKey
	Advertised   Advertised
	Prices       []NodePrice // none: the node costs its owner nothing
	Drained      bool        // takes no new requests
	EnrolledAt   time.Time
	EnrolledBy   string // who made the token, in words
	Token        string // id of the token by which it was enrolled
	Machine      NodeMachine
	Shared       *NodeShare // nil: it never was
	RevokedAt    time.Time  // zero: not revoked
}

// ProviderName is the name of the node where a provider's would stand.
func (n *Node) ProviderName() string { return NodePrefix + n.Name }

// Revoked says whether the node has been shut out.
func (n *Node) Revoked() bool { return !n.RevokedAt.IsZero() }

// NodeKey is a public key by which a node proves who it is. While a key is being replaced a node has two, the newer
// one last.
type NodeKey struct {
	ID        string            `json:"id"` // nkey_...
	Public    ed25519.PublicKey `json:"public"`
	CreatedAt time.Time         `json:"created_at"`
}

// NodeMachine is what the machine said of itself when it was enrolled.
type NodeMachine struct {
	Hostname string `json:"hostname,omitempty"`
	OS       string `json:"os,omitempty"`
	Arch     string `json:"arch,omitempty"`
}

// Advertised is what a node says that it can serve. It is kept, so that the models of a node that is away stay known.
type Advertised struct {
	AgentVersion string       `json:"agent_version,omitempty"`
	Engines      []NodeEngine `json:"engines,omitempty"`
	Models       []NodeModel  `json:"models,omitempty"`
}

// NodeEngine is a server of models on the node's machine.
type NodeEngine struct {
	Name    string `json:"name"` // unique on the node: "ollama", "llama.cpp-2"
	Kind    string `json:"kind"` // ollama, llama.cpp, vllm, lmstudio, openai
	Version string `json:"version,omitempty"`
}

// NodeModel is a model that an engine serves.
type NodeModel struct {
	ID           string       `json:"id"`   // by which the agent knows it; unique on the node
	Name         string       `json:"name"` // without what only the engine needs: "tiny" for "tiny:latest"
	Engine       string       `json:"engine"`
	Context      int64        `json:"context,omitempty"` // tokens; 0: unknown
	Capabilities []Capability `json:"capabilities,omitzero"`
}

// NodePrice is what a model on a node costs.
type NodePrice struct {
	Model string `json:"model"` // NodeModel.Name; "*" for every other
	Price Price  `json:"price"`
}

// NodeToken lets a machine become a node, once, or several machines when it was made for them.
type NodeToken struct {
	ID           string // ntok_...
	Hash         account.KeyHash
	Organization string
	Name         string // of the node to be; empty: the machine says
	Labels       map[string]string
	Region       string
	CreatedAt    time.Time
	CreatedBy    string
	Expires      time.Time
	Uses         int       // how many machines it is for
	Used         int       // how many it has made a node
	UsedAt       time.Time // the last time; zero: not used
	NodeID       string    // that used it last
	RevokedAt    time.Time // zero: not revoked
}
