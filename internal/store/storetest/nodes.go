package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"shareai/internal/account"
	"shareai/internal/catalog"
	"shareai/internal/snapshot"
	"shareai/internal/store"
)

// tokenTime is when the tokens of the tests were made.
var tokenTime = time.Date(2026, 11, 22, 10, 30, 0, 123456000, time.UTC)

func nodeToken(id string, uses int) catalog.NodeToken {
	return catalog.NodeToken{
		ID: id, Hash: account.HashKey(id + canary), Organization: "acme", Name: "laptop", Labels: map[string]string{"it's": "\x00ü"},
		Region: "eu", CreatedAt: tokenTime, CreatedBy: "ana", Expires: tokenTime.Add(time.Hour), Uses: uses,
	}
}

func addToken(t *testing.T, s *store.Store, token catalog.NodeToken) {
	t.Helper()
	if err := s.AddNodeToken(t.Context(), &token, act("token "+token.ID)); err != nil {
		t.Fatal(err)
	}
}

// enrolment is the change that a token makes.
func enrolment(token, node string, at time.Time) snapshot.Change {
	return snapshot.Change{Put: snapshot.Spec{Nodes: []catalog.Node{{ID: node, Name: node, Organization: "acme", Token: token, EnrolledAt: at}}}}
}

func testNodeTokens(t *testing.T, d Database) {
	s := d.Open(t)
	first, second := nodeToken("ntok_1", 1), nodeToken("ntok_2", 5)
	second.CreatedAt = second.CreatedAt.Add(time.Second)
	addToken(t, s, first)
	addToken(t, s, second)
	s = d.Open(t)
	tokens, err := s.NodeTokens(t.Context())
	if diff := cmp.Diff([]catalog.NodeToken{second, first}, tokens); err != nil || diff != "" {
		t.Fatalf("%v\n%s", err, diff)
	}
	found, ok, err := s.FindNodeToken(t.Context(), first.Hash)
	if diff := cmp.Diff(first, found); err != nil || !ok || diff != "" {
		t.Errorf("by its hash: %v %v\n%s", ok, err, diff)
	}
	if _, ok, err := s.FindNodeToken(t.Context(), account.HashKey("another")); ok || err != nil {
		t.Errorf("by another hash: %v %v", ok, err)
	}
	if err := s.AddNodeToken(t.Context(), &first, act("again")); err == nil {
		t.Error("one token was added twice")
	}
	revoked := tokenTime.Add(time.Minute)
	if err := s.RevokeNodeToken(t.Context(), first.ID, revoked, act("revoke")); err != nil {
		t.Error(err)
	}
	for _, id := range []string{first.ID, "ntok_3"} {
		if err := s.RevokeNodeToken(t.Context(), id, revoked.Add(1), act("again")); !errors.Is(err, catalog.ErrNodeTokenSpent) {
			t.Errorf("revoke %s: %v", id, err)
		}
	}
	if found, _, _ := s.FindNodeToken(t.Context(), first.Hash); !found.RevokedAt.Equal(revoked) {
		t.Errorf("revoked at %s", found.RevokedAt)
	}
	later := nodeToken("ntok_4", 1)
	later.CreatedAt = tokenTime.AddDate(0, 2, 0)
	later.Expires = later.CreatedAt.Add(time.Minute)
	addToken(t, s, later)
	if tokens, err := s.NodeTokens(t.Context()); err != nil || len(tokens) != 1 {
		t.Errorf("%d tokens are kept for ever: %v", len(tokens), err)
	}
	unbroken(t, s, 4) // three were added and one was revoked
	if strings.Contains(string(d.Bytes(t)), canary) {
		t.Error("a token can be read in the database")
	}
}

func testNodeTokenUses(t *testing.T, d Database) {
	s := d.Open(t)
	addToken(t, s, nodeToken("ntok_1", 2))
	addToken(t, s, nodeToken("ntok_revoked", 1))
	if err := s.RevokeNodeToken(t.Context(), "ntok_revoked", tokenTime); err != nil {
		t.Fatal(err)
	}
	now := tokenTime.Add(time.Minute)
	for i, c := range []struct {
		token string
		at    time.Time
		want  error
	}{
		{"ntok_1", now, nil},
		{"ntok_1", tokenTime.Add(time.Hour), catalog.ErrNodeTokenSpent},
		{"ntok_unknown", now, catalog.ErrNodeTokenSpent},
		{"ntok_revoked", now, catalog.ErrNodeTokenSpent},
		{"ntok_1", now, nil},
		{"ntok_1", now, catalog.ErrNodeTokenSpent},
	} {
		before, at := load(t, s)
		_, err := s.CommitNode(t.Context(), at, enrolment(c.token, fmt.Sprintf("node_%d", i), c.at), act("enrol"))
		if !errors.Is(err, c.want) {
			t.Errorf("%d: %v, want %v", i, err, c.want)
		}
		if after, revision := load(t, s); err != nil && (revision != at || len(after.Nodes) != len(before.Nodes)) {
			t.Errorf("%d: something was changed", i)
		}
	}
	if _, err := s.CommitNode(t.Context(), 1, enrolment("ntok_1", "node_x", now)); !errors.Is(err, snapshot.ErrStale) {
		t.Errorf("at an old revision: %v", err)
	}
	token, _, err := s.FindNodeToken(t.Context(), nodeToken("ntok_1", 2).Hash)
	if err != nil || token.Used != 2 || token.NodeID != "node_4" || !token.UsedAt.Equal(now) {
		t.Errorf("%+v, %v", token, err)
	}
	if spec, _ := load(t, s); len(spec.Nodes) != 2 || spec.Nodes[0].Token != "ntok_1" {
		t.Errorf("nodes: %+v", spec.Nodes)
	}
	unbroken(t, s, 4)
}

// testNodeTokenRace lets machines ask several replicas with one token, while others change what is declared.
func testNodeTokenRace(t *testing.T, d Database) {
	const replicas, machines, uses = 3, 4, 2
	s := d.Open(t)
	addToken(t, s, nodeToken("ntok_1", uses))
	var won atomic.Int64
	var group sync.WaitGroup
	for r := range replicas {
		s := d.Open(t)
		group.Go(func() {
			if err := auditSomehow(t.Context(), s, fmt.Sprintf("other-%d", r)); err != nil {
				t.Error(err)
			}
		})
		for m := range machines {
			group.Go(func() {
				switch err := enrolSomehow(t.Context(), s, fmt.Sprintf("node_%d_%d", r, m)); {
				case err == nil:
					won.Add(1)
				case !errors.Is(err, catalog.ErrNodeTokenSpent):
					t.Error(err)
				}
			})
		}
	}
	group.Wait()
	spec, _ := load(t, s)
	if won.Load() != uses || len(spec.Nodes) != uses {
		t.Errorf("%d machines won and %d nodes are there, of a token for %d", won.Load(), len(spec.Nodes), uses)
	}
	unbroken(t, s, 1+replicas+uses)
}

// enrolSomehow uses the token at whatever the revision is.
func enrolSomehow(ctx context.Context, s *store.Store, node string) error {
	for {
		at, err := s.Revision(ctx)
		if err != nil {
			return err
		}
		if _, err := s.CommitNode(ctx, at, enrolment("ntok_1", node, tokenTime), act("enrol")); !errors.Is(err, snapshot.ErrStale) {
			return err
		}
	}
}

func testNodeNames(t *testing.T, d Database) {
	s := d.Open(t)
	node := func(id, organization string, revoked time.Time) snapshot.Change {
		return snapshot.Change{Put: snapshot.Spec{Nodes: []catalog.Node{{ID: id, Name: "laptop", Organization: organization, RevokedAt: revoked}}}}
	}
	commit(t, s, node("node_1", "acme", time.Time{}))
	commit(t, s, node("node_2", "globex", time.Time{}))
	_, at := load(t, s)
	if _, err := s.Commit(t.Context(), at, node("node_3", "acme", time.Time{})); err == nil {
		t.Error("an organization has two nodes of one name")
	}
	commit(t, s, node("node_1", "acme", tokenTime))
	commit(t, s, node("node_3", "acme", time.Time{}))
	if spec, _ := load(t, s); len(spec.Nodes) != 3 {
		t.Errorf("%d nodes", len(spec.Nodes))
	}
}

func testInstallation(t *testing.T, d Database) {
	const replicas = 4
	ids := make([]string, replicas)
	var group sync.WaitGroup
	for r := range replicas {
		s := d.Open(t)
		group.Go(func() {
			var err error
			if ids[r], err = s.Installation(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	again, err := d.Open(t).Installation(t.Context())
	for _, id := range ids {
		if id != again || !strings.HasPrefix(id, "inst_") || err != nil {
			t.Errorf("%q and %q: %v", id, again, err)
		}
	}
	if other, err := d.Another(t).Open(t).Installation(t.Context()); err != nil || other == again {
		t.Errorf("another installation: %q, %v", other, err)
	}
}
