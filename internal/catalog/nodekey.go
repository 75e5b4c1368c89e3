package catalog

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"slices"
	"time"
)

// KeyOf returns a key by which the node may say who it is. Of two keys both hold until the newer one is used, however long
// that takes: a machine that never got to know it, because it was switched off just then, comes back with the older one.
// A node that is revoked has none.
func (n *Node) KeyOf(id string) (NodeKey, bool) {
	at := slices.IndexFunc(n.Keys, func(k NodeKey) bool { return k.ID == id })
	if at < 0 || n.Revoked() {
		return NodeKey{}, false
	}
	return n.Keys[at], true
}

// Fingerprint is by what people tell keys apart: the SHA-256, as OpenSSH writes it.
func (k NodeKey) Fingerprint() string {
	sum := sha256.Sum256(k.Public)
	return "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:])
}

// NodeTokenState is what a token is worth.
type NodeTokenState string

// The states of a token.
const (
	NodeTokenOpen    NodeTokenState = "open"
	NodeTokenUsed    NodeTokenState = "used" // by as many machines as it is for
	NodeTokenExpired NodeTokenState = "expired"
	NodeTokenRevoked NodeTokenState = "revoked"
)

// StateAt returns the token's state at a moment.
func (t *NodeToken) StateAt(now time.Time) NodeTokenState {
	switch {
	case !t.RevokedAt.IsZero():
		return NodeTokenRevoked
	case t.Used >= t.Uses:
		return NodeTokenUsed
	case !now.Before(t.Expires):
		return NodeTokenExpired
	default:
		return NodeTokenOpen
	}
}

// ErrNodeTokenSpent is the error of using a token that is used up, expired or revoked meanwhile.
var ErrNodeTokenSpent = errors.New("the token can not be used any more")
