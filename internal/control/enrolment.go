package control

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"shareai/internal/account"
	"shareai/internal/audit"
	"shareai/internal/catalog"
	"shareai/internal/enrol"
	"shareai/internal/fault"
	"shareai/internal/snapshot"
)

// Enrolled is a machine that has become a node.
type Enrolled struct {
	Node catalog.Node
	Key  catalog.NodeKey
}

// The bounds of what a machine says of itself, in characters.
const (
	maxHostname = 253
	maxWord     = 64 // names of systems, versions
	maxNodeName = 58 // leaves room for a number
)

// EnrolNode makes a machine a node. from is its address. A token makes as many nodes as it is for, whoever asks at the
// same time; a machine that asks again with the same key, because it did not get the answer, gets it.
func (c *Control) EnrolNode(ctx context.Context, r enrol.Request, from string) (Enrolled, error) {
	if !enrol.IsToken(r.Token) {
		return Enrolled{}, unknownToken()
	}
	if err := r.Verify(); err != nil {
		return Enrolled{}, fault.New(fault.Invalid, "invalid_proof",
			"The proof is not the signature of the public key over this request. Update the agent.").About("proof")
	}
	e := enrolling{
		Control: c, request: r, now: c.now(), hash: account.HashKey(r.Token),
		who: audit.Actor{Kind: audit.Node, ID: account.GenerateID("node_"), Name: plainText(r.Name, maxWord), From: from},
	}
	commit := func(ctx context.Context, at int64, change snapshot.Change, acts ...audit.Act) (int64, error) {
		revision, err := c.o.Nodes.CommitNode(ctx, at, change, acts...)
		if errors.Is(err, catalog.ErrNodeTokenSpent) { // since it was looked at
			return 0, snapshot.ErrStale
		}
		return revision, err
	}
	err := c.changeBy(audit.WithActor(ctx, e.who), commit, act{"node.enrol", &e.who.ID}, func(declared snapshot.Spec) (*snapshot.Change, error) {
		return e.decide(ctx, &declared)
	})
	if err != nil {
		if e.refused != nil {
			c.logRefusal(ctx, e.who, e.refused)
		}
		return Enrolled{}, err
	}
	return e.result, nil
}

// enrolling is one machine's wish to become a node.
type enrolling struct {
	*Control
	request enrol.Request
	now     time.Time
	hash    account.KeyHash
	who     audit.Actor

	result  Enrolled
	refused *refusal // why not
}

func (e *enrolling) decide(ctx context.Context, declared *snapshot.Spec) (*snapshot.Change, error) {
	token, ok, err := e.o.Nodes.FindNodeToken(ctx, e.hash)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, e.refuse("unknown token", "", unknownToken())
	}
	owner, key := nodeWithKey(declared.Nodes, e.request.PublicKey)
	switch state := token.StateAt(e.now); {
	case state == catalog.NodeTokenRevoked:
		return nil, e.refuse("revoked token", token.ID, fault.New(fault.Unauthenticated, "enrolment_token_revoked",
			"This token was withdrawn. Ask for another one.").About("token"))
	case owner != nil && owner.Token == token.ID && !owner.Revoked() && e.now.Before(token.Expires):
		e.result = Enrolled{Node: *owner, Key: key}
		return nil, nil
	case state == catalog.NodeTokenUsed:
		return nil, e.refuse("used token", token.ID, fault.New(fault.Unauthenticated, "enrolment_token_used",
			"This token was used by another machine already. Ask for another one; if nobody you know used it, tell who made it.").About("token"))
	case state == catalog.NodeTokenExpired:
		return nil, e.refuse("expired token", token.ID, fault.New(fault.Unauthenticated, "enrolment_token_expired",
			"This token has expired: a token holds for a few minutes. Ask for another one.").About("token"))
	case owner != nil && owner.Revoked():
		return nil, e.refuse("key of a revoked node", owner.ID, fault.New(fault.Forbidden, "node_key_refused",
			"The key of this machine is that of a node which was revoked. Remove the key file, so that the agent makes another one.").About("public_key"))
	case owner != nil:
		return nil, e.refuse("key of another node", owner.ID, fault.New(fault.Conflict, "node_key_in_use",
			"The key of this machine is that of a node already. If this is that node, start the agent without a token; if the disk was copied, remove the key file, so that the agent makes another one.").About("public_key"))
	}
	node, err := e.node(&token, declared)
	if err != nil {
		return nil, err
	}
	e.result = Enrolled{Node: node, Key: node.Keys[0]}
	return &snapshot.Change{Put: snapshot.Spec{Nodes: []catalog.Node{node}}}, nil
}

// refuse keeps why, for the audit log.
func (e *enrolling) refuse(reason, subject string, f *fault.Error) error {
	key := catalog.NodeKey{Public: e.request.PublicKey}
	e.refused = &refusal{act: "node.enrol.refuse", reason: reason, subject: subject, key: key.Fingerprint(), hostname: plainText(e.request.Hostname, maxHostname)}
	return f
}

// unknownToken is all that is said of a token that is not kept: whoever sends it may be anybody.
func unknownToken() *fault.Error {
	return fault.New(fault.Unauthenticated, "enrolment_token_unknown",
		"This token is not known here. It is long expired, of another gateway, or not complete: a token holds for a few minutes. Ask for another one.").About("token")
}

// nodeWithKey finds the node, be it revoked, that a public key is of.
func nodeWithKey(nodes []catalog.Node, public ed25519.PublicKey) (*catalog.Node, catalog.NodeKey) {
	for i := range nodes {
		for _, k := range nodes[i].Keys {
			if bytes.Equal(k.Public, public) {
				return &nodes[i], k
			}
		}
	}
	return nil, catalog.NodeKey{}
}

// node is what the machine becomes.
func (e *enrolling) node(token *catalog.NodeToken, declared *snapshot.Spec) (catalog.Node, error) {
	if !hasOrganization(*declared, token.Organization) {
		return catalog.Node{}, missing("organization", token.Organization)
	}
	name, err := e.name(token, declared.Nodes)
	if err != nil {
		return catalog.Node{}, err
	}
	return catalog.Node{
		ID: e.who.ID, Name: name, Organization: token.Organization, Labels: token.Labels, Region: token.Region,
		Keys: []catalog.NodeKey{{
			ID: account.GenerateID("nkey_"), Public: slices.Clone(ed25519.PublicKey(e.request.PublicKey)), CreatedAt: e.now,
		}},
		Advertised: catalog.Advertised{AgentVersion: plainText(e.request.AgentVersion, maxWord)},
		EnrolledAt: e.now, EnrolledBy: token.CreatedBy, Token: token.ID,
		Machine: catalog.NodeMachine{
			Hostname: plainText(e.request.Hostname, maxHostname), OS: plainText(e.request.OS, maxWord), Arch: plainText(e.request.Arch, maxWord),
		},
	}, nil
}

// name is that of the token, or what the machine asks for, with a number where another node has it.
func (e *enrolling) name(token *catalog.NodeToken, nodes []catalog.Node) (string, error) {
	taken := map[string]bool{}
	for i := range nodes {
		if n := &nodes[i]; n.Organization == token.Organization && !n.Revoked() {
			taken[n.Name] = true
		}
	}
	if len(taken) >= maxNodes {
		return "", fault.New(fault.Conflict, "too_many_nodes", fmt.Sprintf(
			"The organization has %d nodes, which is as many as it can have. Revoke some that are not in use.", maxNodes))
	}
	host, _, _ := strings.Cut(e.request.Hostname, ".")
	wanted := token.Name
	for _, other := range []string{e.request.Name, host, "node"} {
		if wanted == "" {
			wanted = nodeName(other)
		}
	}
	if !taken[wanted] {
		return wanted, nil
	}
	if token.Name != "" && token.Uses == 1 {
		return "", fault.New(fault.Conflict, "node_exists", "Another node is named "+token.Name+
			" already, which is the name that this token gives. Rename or revoke that node and try again, or ask for a token with another name.").About("token")
	}
	wanted = nodeName(wanted[:min(len(wanted), maxNodeName)])
	for n := 2; ; n++ {
		if name := fmt.Sprintf("%s-%d", wanted, n); !taken[name] {
			return name, nil
		}
	}
}

// nodeName makes a name of what a machine calls itself; empty: nothing is left of it.
func nodeName(text string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '.', r == '_', r == '-':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		default:
			return '-'
		}
	}, text)
	const ends = "._-"
	name = strings.TrimLeft(name, ends)
	return strings.TrimRight(name[:min(len(name), maxNodeName)], ends)
}
