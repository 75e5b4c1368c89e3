package control

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"slices"

	"shareai/internal/account"
	"shareai/internal/catalog"
	"shareai/internal/fault"
)

// RekeyNode gives a node a further key and returns it. The caller has seen the proof that the node has the private key.
// The key in force stays beside it until NodeKeyUsed; a further key that was never used gives way. Asking again for the same key changes nothing.
func (c *Control) RekeyNode(ctx context.Context, id string, public ed25519.PublicKey) (catalog.NodeKey, error) {
	if len(public) != ed25519.PublicKeySize {
		return catalog.NodeKey{}, fault.New(fault.Invalid, "invalid_key", "The public key is not one of Ed25519.").About("public")
	}
	key := catalog.NodeKey{ID: account.GenerateID("nkey_"), Public: slices.Clone(public), CreatedAt: c.now()}
	_, err := c.changeNode(byNode(ctx, id), "node.rekey", id, NodeFilter{}, func(n *catalog.Node, all []catalog.Node) (bool, error) {
		for _, k := range n.Keys {
			if bytes.Equal(k.Public, public) {
				key = k
				return false, nil
			}
		}
		if owner, _ := nodeWithKey(all, public); owner != nil {
			return false, fault.New(fault.Conflict, "node_key_in_use", "The key is that of another node. Make another one.").About("public")
		}
		if wait := c.paces.Take("key of "+n.ID, c.o.Now()); wait > 0 {
			e := fault.New(fault.RateLimited, "node_changes_too_often", "The node changes its key too often.")
			e.RetryAfter = wait
			return false, e
		}
		n.Keys = append(slices.Clone(n.Keys[:min(len(n.Keys), 1)]), key) // of two, the first is the one that was used
		return true, nil
	})
	if err != nil {
		return catalog.NodeKey{}, err
	}
	return key, nil
}

// NodeKeyUsed says that a node proved who it is by a key. When it is the newer one of two, the older one ends. There is
// no need to say it of a node that has one key, and of one that is revoked it means nothing.
func (c *Control) NodeKeyUsed(ctx context.Context, id, key string) error {
	_, err := c.changeNode(byNode(ctx, id), "node.rekey.done", id, NodeFilter{}, func(n *catalog.Node, _ []catalog.Node) (bool, error) {
		newest := len(n.Keys) - 1
		if newest < 1 || n.Keys[newest].ID != key {
			return false, nil
		}
		n.Keys = n.Keys[newest:]
		return true, nil
	})
	return unlessGone(err)
}
