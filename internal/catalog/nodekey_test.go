package catalog

import (
	"strings"
	"testing"
	"time"
)

func TestKeysOfANode(t *testing.T) {
	t.Parallel()
	made := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	old, young := NodeKey{ID: "nkey_old", CreatedAt: made.Add(-time.Hour)}, NodeKey{ID: "nkey_young", CreatedAt: made}
	one, two := Node{Keys: []NodeKey{old}}, Node{Keys: []NodeKey{old, young}}
	revoked := two
	revoked.RevokedAt = made
	for _, c := range []struct {
		name string
		node *Node
		key  string
		now  time.Time
		want bool
	}{
		{"the only one", &one, "nkey_old", made.Add(1000 * time.Hour), true},
		{"one that is not there", &one, "nkey_young", made, false},
		{"no name", &one, "", made, false},
		{"the newer of two", &two, "nkey_young", made, true},
		{"the older at first", &two, "nkey_old", made.Add(NodeKeyOverlap - 1), true},
		{"the older at last", &two, "nkey_old", made.Add(NodeKeyOverlap), false},
		{"the newer at last", &two, "nkey_young", made.Add(NodeKeyOverlap), true},
		{"of a revoked node", &revoked, "nkey_young", made, false},
	} {
		if key, ok := c.node.KeyAt(c.key, c.now); ok != c.want || ok && key.ID != c.key {
			t.Errorf("%s: %v %v", c.name, key.ID, ok)
		}
	}
	if a, b := (NodeKey{Public: []byte("a")}).Fingerprint(), (NodeKey{Public: []byte("b")}).Fingerprint(); a == b || !strings.HasPrefix(a, "SHA256:") {
		t.Errorf("fingerprints %s and %s", a, b)
	}
}

func TestStatesOfANodeToken(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for want, token := range map[NodeTokenState]NodeToken{
		NodeTokenOpen:    {Uses: 2, Used: 1, Expires: now.Add(1)},
		NodeTokenUsed:    {Uses: 1, Used: 1, Expires: now},
		NodeTokenExpired: {Uses: 1, Expires: now},
		NodeTokenRevoked: {Uses: 1, Used: 1, Expires: now, RevokedAt: now},
	} {
		if got := token.StateAt(now); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
