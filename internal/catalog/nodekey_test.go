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
		want bool
	}{
		{"the only one", &one, "nkey_old", true},
		{"one that is not there", &one, "nkey_young", false},
		{"no name", &one, "", false},
		{"the newer of two", &two, "nkey_young", true},
		{"the older of two", &two, "nkey_old", true},
		{"of a revoked node", &revoked, "nkey_young", false},
	} {
		if key, ok := c.node.KeyOf(c.key); ok != c.want || ok && key.ID != c.key {
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
