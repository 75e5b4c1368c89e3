package control_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"shareai/internal/account"
	"shareai/internal/audit"
	"shareai/internal/catalog"
	"shareai/internal/control"
	"shareai/internal/enrol"
	"shareai/internal/snapshot"
)

// memoryNodes adds to memoryRows the tokens of nodes, as the store's conformance suite shows them to be.
type memoryNodes struct {
	*memoryRows
	tokens []catalog.NodeToken
}

func (m *memoryNodes) AddNodeToken(_ context.Context, t *catalog.NodeToken, acts ...audit.Act) error {
	m.tokens = slices.Insert(m.tokens, 0, *t)
	m.acts = append(m.acts, acts...)
	return m.failing
}

func (m *memoryNodes) NodeTokens(context.Context) ([]catalog.NodeToken, error) {
	return slices.Clone(m.tokens), m.failing
}

func (m *memoryNodes) FindNodeToken(_ context.Context, hash account.KeyHash) (catalog.NodeToken, bool, error) {
	for _, t := range m.tokens {
		if t.Hash == hash {
			return t, true, m.failing
		}
	}
	return catalog.NodeToken{}, false, m.failing
}

func (m *memoryNodes) RevokeNodeToken(_ context.Context, id string, now time.Time, acts ...audit.Act) error {
	for i := range m.tokens {
		if t := &m.tokens[i]; t.ID == id && t.RevokedAt.IsZero() {
			t.RevokedAt = now
			m.acts = append(m.acts, acts...)
			return nil
		}
	}
	return catalog.ErrNodeTokenSpent
}

func (m *memoryNodes) CommitNode(ctx context.Context, at int64, change snapshot.Change, acts ...audit.Act) (int64, error) {
	node := change.Put.Nodes[0]
	for i := range m.tokens {
		if t := &m.tokens[i]; t.ID == node.Token && t.StateAt(node.EnrolledAt) == catalog.NodeTokenOpen {
			revision, err := m.Commit(ctx, at, change, acts...)
			if err == nil {
				t.Used, t.UsedAt, t.NodeID = t.Used+1, node.EnrolledAt, node.ID
			}
			return revision, err
		}
	}
	return 0, catalog.ErrNodeTokenSpent
}

func (m *memoryNodes) Audit(_ context.Context, acts ...audit.Act) error {
	m.acts = append(m.acts, acts...)
	return m.failing
}

// nodeWorld is a control plane with nodes, whose clock is turned by hand.
type nodeWorld struct {
	*control.Control
	rows *memoryNodes
	now  time.Time
}

func newNodeWorld() *nodeWorld {
	w := &nodeWorld{rows: &memoryNodes{memoryRows: &memoryRows{revision: 1}}, now: now}
	w.rows.spec.Organizations = []account.Organization{{Name: "acme", Origin: account.FromDatabase}, {Name: "globex", Origin: account.FromDatabase}}
	w.Control = control.New(control.Options{
		Rows: w.rows, Nodes: w.rows, Log: w.rows, Now: func() time.Time { return w.now }, Actor: audit.Actor{Kind: audit.User, Name: "ana", From: "desk"},
	})
	return w
}

func (w *nodeWorld) token(t *testing.T, r control.NodeTokenRequest) control.CreatedNodeToken {
	t.Helper()
	if r.Organization == "" {
		r.Organization = "acme"
	}
	made, err := w.CreateNodeToken(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// private is the key of a machine.
func private(seed byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
}

func asks(token account.Secret, name string, seed byte) enrol.Request {
	r := enrol.Request{Token: token.Reveal(), Name: name, Hostname: "Desk.local", OS: "linux", Arch: "amd64", AgentVersion: "1.0"}
	r.Sign(private(seed))
	return r
}

func (w *nodeWorld) enrol(t *testing.T, r enrol.Request) control.Enrolled {
	t.Helper()
	e, err := w.EnrolNode(t.Context(), r, "192.0.2.7")
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// node enrols a machine with a token of its own.
func (w *nodeWorld) node(t *testing.T, name string, seed byte) catalog.Node {
	t.Helper()
	return w.enrol(t, asks(w.token(t, control.NodeTokenRequest{}).Secret, name, seed)).Node
}

func (w *nodeWorld) acts() []string {
	names := make([]string, len(w.rows.acts))
	for i, a := range w.rows.acts {
		names[i] = a.Name
	}
	return names
}

func TestAMachineBecomesANode(t *testing.T) {
	t.Parallel()
	w := newNodeWorld()
	made := w.token(t, control.NodeTokenRequest{Labels: map[string]string{"team": "search"}, Region: "eu"})
	if !enrol.IsToken(made.Secret.Reveal()) || made.Token.Hash != made.Secret.Hash() || made.Token.Expires.Sub(now) != 15*time.Minute {
		t.Errorf("token: %+v", made.Token)
	}
	w.now = now.Add(time.Minute)
	e := w.enrol(t, asks(made.Secret, "My Laptop", 1))
	want := catalog.Node{
		ID: e.Node.ID, Name: "my-laptop", Organization: "acme", Labels: map[string]string{"team": "search"}, Region: "eu",
		Keys:       []catalog.NodeKey{{ID: e.Key.ID, Public: private(1).Public().(ed25519.PublicKey), CreatedAt: w.now}},
		Advertised: catalog.Advertised{AgentVersion: "1.0"},
		EnrolledAt: w.now, EnrolledBy: "ana", Token: made.Token.ID,
		Machine: catalog.NodeMachine{Hostname: "Desk.local", OS: "linux", Arch: "amd64"},
	}
	if diff := cmp.Diff([]catalog.Node{want}, w.rows.spec.Nodes); diff != "" {
		t.Errorf("stored:\n%s", diff)
	}
	tokens, err := w.ListNodeTokens(t.Context(), control.NodeFilter{Organization: "acme"})
	if err != nil || len(tokens) != 1 || tokens[0].StateAt(w.now) != catalog.NodeTokenUsed || tokens[0].NodeID != e.Node.ID {
		t.Errorf("tokens: %+v, %v", tokens, err)
	}
	enrolled := w.rows.acts[1]
	if enrolled.Name != "node.enrol" || enrolled.Subject != e.Node.ID || enrolled.Who != (audit.Actor{Kind: audit.Node, ID: e.Node.ID, Name: "My Laptop", From: "192.0.2.7"}) {
		t.Errorf("logged: %+v", enrolled)
	}
	for _, a := range w.rows.acts {
		text := fmt.Sprintf("%s %s %s %s", a.Name, a.Subject, a.Before, a.After)
		if hash := made.Secret.Hash(); strings.Contains(text, made.Secret.Reveal()) || strings.Contains(text, fmt.Sprintf("%x", hash[:8])) {
			t.Errorf("a secret is in the audit log: %s", text)
		}
	}
}

// A machine that did not get the answer asks again; nobody else gets anything for the same token.
func TestATokenIsForOneMachine(t *testing.T) {
	t.Parallel()
	w := newNodeWorld()
	made := w.token(t, control.NodeTokenRequest{})
	first := w.enrol(t, asks(made.Secret, "laptop", 1))
	again := w.enrol(t, asks(made.Secret, "laptop", 1))
	if diff := cmp.Diff(first, again); diff != "" || len(w.rows.spec.Nodes) != 1 {
		t.Errorf("asked again:\n%s", diff)
	}
	thief := asks(made.Secret, "laptop", 2)
	_, err := w.EnrolNode(t.Context(), thief, "198.51.100.9")
	wantFault(t, err, "enrolment_token_used", "another machine", "Ask for another one")
	if diff := cmp.Diff([]string{"node_token.create", "node.enrol", "node.enrol.refuse"}, w.acts()); diff != "" {
		t.Fatalf("acts:\n%s", diff)
	}
	stolen := w.rows.acts[2]
	if stolen.Subject != made.Token.ID || stolen.Who.From != "198.51.100.9" || !strings.Contains(string(stolen.After), `"reason":"used token","key":"SHA256:`) {
		t.Errorf("logged: %+v %s", stolen, stolen.After)
	}
	w.now = made.Token.Expires
	_, err = w.EnrolNode(t.Context(), asks(made.Secret, "laptop", 1), "")
	wantFault(t, err, "enrolment_token_used")
}

func TestWhoIsNotEnrolled(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		prepare func(*testing.T, *nodeWorld, *enrol.Request)
		code    string
		logged  string // the reason in the audit log; empty: it is not logged
	}{
		"no token": {func(_ *testing.T, _ *nodeWorld, r *enrol.Request) { r.Token = "" }, "enrolment_token_unknown", ""},
		"something else": {func(_ *testing.T, _ *nodeWorld, r *enrol.Request) {
			r.Token = account.GenerateKey().Reveal()
			r.Sign(private(9))
		}, "enrolment_token_unknown", ""},
		"a token of nobody": {func(_ *testing.T, _ *nodeWorld, r *enrol.Request) {
			r.Token = enrol.GenerateToken().Reveal()
			r.Sign(private(9))
		}, "enrolment_token_unknown", "unknown token"},
		"an expired token": {func(_ *testing.T, w *nodeWorld, _ *enrol.Request) { w.now = w.now.Add(15 * time.Minute) }, "enrolment_token_expired", "expired token"},
		"a revoked token": {func(t *testing.T, w *nodeWorld, r *enrol.Request) {
			if _, err := w.RevokeNodeToken(t.Context(), r.Token, control.NodeFilter{}); err != nil {
				t.Fatal(err)
			}
		}, "enrolment_token_revoked", "revoked token"},
		"a changed name": {func(_ *testing.T, _ *nodeWorld, r *enrol.Request) { r.Name = "other" }, "invalid_proof", ""},
		"a key without proof": {func(_ *testing.T, _ *nodeWorld, r *enrol.Request) {
			r.PublicKey = private(3).Public().(ed25519.PublicKey)
		}, "invalid_proof", ""},
		"a cloned disk": {func(t *testing.T, w *nodeWorld, r *enrol.Request) {
			w.node(t, "first", 3)
			r.Sign(private(3))
		}, "node_key_in_use", "key of another node"},
		"the key of a revoked node": {func(t *testing.T, w *nodeWorld, r *enrol.Request) {
			if _, err := w.RevokeNode(t.Context(), w.node(t, "first", 3).ID, control.NodeFilter{}); err != nil {
				t.Fatal(err)
			}
			r.Sign(private(3))
		}, "node_key_refused", "key of a revoked node"},
		"an organization that is gone": {func(_ *testing.T, w *nodeWorld, _ *enrol.Request) { w.rows.spec.Organizations = nil }, "organization_not_found", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newNodeWorld()
			r := asks(w.token(t, control.NodeTokenRequest{}).Secret, "laptop", 9)
			c.prepare(t, w, &r)
			before := len(w.rows.spec.Nodes)
			_, err := w.EnrolNode(t.Context(), r, "192.0.2.7")
			wantFault(t, err, c.code)
			if len(w.rows.spec.Nodes) != before {
				t.Error("it is a node now")
			}
			last := w.rows.acts[len(w.rows.acts)-1]
			if logged := last.Name == "node.enrol.refuse"; logged != (c.logged != "") || logged && !strings.Contains(string(last.After), `"reason":"`+c.logged+`"`) {
				t.Errorf("logged: %s %s", last.Name, last.After)
			}
		})
	}
}

func TestTheNamesOfNodes(t *testing.T) {
	t.Parallel()
	w := newNodeWorld()
	w.node(t, "laptop", 1)
	long := strings.Repeat("a", 80)
	for i, c := range []struct{ asked, want string }{
		{"laptop", "laptop-2"},
		{"Laptop", "laptop-3"},
		{"", "desk"},
		{"…", "desk-2"},
		{"../../etc", "etc"},
		{"ann's\nbox", "ann-s-box"},
		{long, long[:58]},
		{long, long[:58] + "-2"},
	} {
		if n := w.node(t, c.asked, byte(10+i)); n.Name != c.want || account.CheckName(n.Name) != nil {
			t.Errorf("%q became %q, want %q", c.asked, n.Name, c.want)
		}
	}
	fixed := w.token(t, control.NodeTokenRequest{Name: "gpu"})
	if n := w.enrol(t, asks(fixed.Secret, "mine", 40)).Node; n.Name != "gpu" {
		t.Errorf("the token's name: %q", n.Name)
	}
	_, err := w.CreateNodeToken(t.Context(), control.NodeTokenRequest{Organization: "acme", Name: "gpu"})
	wantFault(t, err, "node_exists")
	late := w.token(t, control.NodeTokenRequest{Name: "late"})
	if _, err := w.RenameNode(t.Context(), "gpu", "late", control.NodeFilter{}); err != nil {
		t.Fatal(err)
	}
	_, err = w.EnrolNode(t.Context(), asks(late.Secret, "", 41), "")
	wantFault(t, err, "node_exists", "late")
	if _, err := w.RevokeNode(t.Context(), "late", control.NodeFilter{}); err != nil {
		t.Fatal(err)
	}
	if n := w.enrol(t, asks(late.Secret, "", 41)).Node; n.Name != "late" {
		t.Errorf("after the other was revoked: %q", n.Name)
	}
	fleet := w.token(t, control.NodeTokenRequest{Name: "fleet", Uses: 3})
	for i, want := range []string{"fleet", "fleet-2", "fleet-3"} {
		if n := w.enrol(t, asks(fleet.Secret, "mine", byte(50+i))).Node; n.Name != want {
			t.Errorf("of a fleet: %q, want %q", n.Name, want)
		}
	}
	_, err = w.EnrolNode(t.Context(), asks(fleet.Secret, "", 60), "")
	wantFault(t, err, "enrolment_token_used")
}

func TestTokensAreBounded(t *testing.T) {
	t.Parallel()
	w := newNodeWorld()
	for name, c := range map[string]struct {
		change func(*control.NodeTokenRequest)
		code   string
	}{
		"too long":        {func(r *control.NodeTokenRequest) { r.For = 15*time.Minute + 1 }, "invalid_time"},
		"in the past":     {func(r *control.NodeTokenRequest) { r.For = -1 }, "invalid_time"},
		"too many":        {func(r *control.NodeTokenRequest) { r.Uses = 1001 }, "invalid_uses"},
		"less than none":  {func(r *control.NodeTokenRequest) { r.Uses = -1 }, "invalid_uses"},
		"a bad name":      {func(r *control.NodeTokenRequest) { r.Name = "A b" }, "invalid_name"},
		"a bad region":    {func(r *control.NodeTokenRequest) { r.Region = "EU" }, "invalid_region"},
		"a bad label":     {func(r *control.NodeTokenRequest) { r.Labels = map[string]string{"a b": ""} }, "invalid_labels"},
		"a control label": {func(r *control.NodeTokenRequest) { r.Labels = map[string]string{"a": "\x1b[2J"} }, "invalid_labels"},
		"nobody's":        {func(r *control.NodeTokenRequest) { r.Organization = "nobody" }, "organization_not_found"},
	} {
		r := control.NodeTokenRequest{Organization: "acme"}
		c.change(&r)
		made, err := w.CreateNodeToken(t.Context(), r)
		if !made.Secret.Empty() {
			t.Errorf("%s: made", name)
		}
		wantFault(t, err, c.code)
	}
	for range 100 {
		w.token(t, control.NodeTokenRequest{})
	}
	_, err := w.CreateNodeToken(t.Context(), control.NodeTokenRequest{Organization: "acme"})
	wantFault(t, err, "too_many_tokens")
	w.token(t, control.NodeTokenRequest{Organization: "globex"})
	w.now = w.now.Add(time.Hour)
	w.token(t, control.NodeTokenRequest{})
	if _, err := w.CreateNodeToken(t.Context(), control.NodeTokenRequest{}); err != nil || !slices.ContainsFunc(w.rows.spec.Organizations, func(o account.Organization) bool { return o.Name == "default" }) {
		t.Errorf("of nobody in particular: %v", err)
	}
}

func TestRevokingAToken(t *testing.T) {
	t.Parallel()
	w := newNodeWorld()
	made := w.token(t, control.NodeTokenRequest{})
	_, err := w.RevokeNodeToken(t.Context(), made.Token.ID, control.NodeFilter{Organization: "globex"})
	wantFault(t, err, "node_token_not_found")
	for range 2 {
		token, err := w.RevokeNodeToken(t.Context(), made.Token.ID, control.NodeFilter{Organization: "acme"})
		if err != nil || !token.RevokedAt.Equal(now) {
			t.Errorf("%+v, %v", token, err)
		}
	}
	if diff := cmp.Diff([]string{"node_token.create", "node_token.revoke"}, w.acts()); diff != "" {
		t.Errorf("acts:\n%s", diff)
	}
}

func TestAdministeringANode(t *testing.T) {
	t.Parallel()
	w := newNodeWorld()
	ctx, all := t.Context(), control.NodeFilter{}
	laptop, other := w.node(t, "laptop", 1), w.node(t, "other", 2)
	theirs := w.enrol(t, asks(w.token(t, control.NodeTokenRequest{Organization: "globex"}).Secret, "other", 3)).Node
	_, err := w.DrainNode(ctx, "other", all)
	wantFault(t, err, "node_ambiguous", "acme/other", "globex/other")
	for _, ref := range []string{"globex/other", theirs.ID, "node:globex/other"} {
		if n, err := w.FindNode(ctx, ref, all); err != nil || n.ID != theirs.ID {
			t.Errorf("%s: %s, %v", ref, n.ID, err)
		}
	}
	if n, err := w.DrainNode(ctx, "other", control.NodeFilter{Organization: "acme"}); err != nil || n.ID != other.ID || !n.Drained {
		t.Errorf("drained: %+v, %v", n, err)
	}
	for _, ref := range []string{theirs.ID, "globex/other", "nobody", ""} {
		_, err := w.RevokeNode(ctx, ref, control.NodeFilter{Organization: "acme"})
		wantFault(t, err, "node_not_found")
	}
	acts := len(w.rows.acts)
	_, err = w.DrainNode(ctx, other.ID, all) // once more
	if n, again := w.ResumeNode(ctx, other.ID, all); err != nil || again != nil || n.Drained || len(w.rows.acts) != acts+1 {
		t.Errorf("resumed: %+v, %v %v", n, err, again)
	}
	_, err = w.RenameNode(ctx, "laptop", "other", control.NodeFilter{Organization: "acme"})
	wantFault(t, err, "node_exists")
	_, err = w.RenameNode(ctx, "laptop", "A b", all)
	wantFault(t, err, "invalid_name")
	prices := []catalog.NodePrice{{Model: "tiny", Price: catalog.Price{Input: 1e9}}, {Model: "*"}}
	if n, err := w.SetNodePrices(ctx, "laptop", all, prices); err != nil || n.Prices[0].Model != "*" || n.Prices[1].Price.Input != 1e9 {
		t.Errorf("priced: %+v, %v", n, err)
	}
	for code, bad := range map[string][]catalog.NodePrice{
		"invalid_model":   {{Model: "a b"}},
		"invalid_price":   {{Model: "a", Price: catalog.Price{Output: -1}}},
		"invalid_prices":  {{Model: "a"}, {Model: "a"}},
		"too_many_prices": make([]catalog.NodePrice, 501),
	} {
		_, err := w.SetNodePrices(ctx, "laptop", all, bad)
		wantFault(t, err, code)
	}
	for range 2 {
		if n, err := w.RevokeNode(ctx, laptop.ID, all); err != nil || !n.RevokedAt.Equal(now) || len(n.Keys) != 1 {
			t.Errorf("revoked: %+v, %v", n, err)
		}
	}
	_, err = w.DrainNode(ctx, laptop.ID, all)
	wantFault(t, err, "node_revoked")
	_, err = w.FindNode(ctx, "laptop", all)
	wantFault(t, err, "node_not_found")
	if nodes, err := w.ListNodes(ctx, control.NodeFilter{Organization: "acme"}); err != nil || len(nodes) != 2 || nodes[0].ID != laptop.ID {
		t.Errorf("listed: %+v, %v", nodes, err)
	}
	for _, a := range w.rows.acts[acts:] {
		if a.Who.Name != "ana" || a.Before == nil || a.After == nil {
			t.Errorf("%s by %+v: %s → %s", a.Name, a.Who, a.Before, a.After)
		}
	}
}

func TestReplacingAKey(t *testing.T) {
	t.Parallel()
	w := newNodeWorld()
	ctx := t.Context()
	node := w.node(t, "laptop", 1)
	w.node(t, "other", 2)
	public := func(seed byte) ed25519.PublicKey { return private(seed).Public().(ed25519.PublicKey) }
	keys := func() (ids []string) {
		for _, k := range w.rows.spec.Nodes[0].Keys {
			ids = append(ids, k.ID)
		}
		return ids
	}
	_, err := w.RekeyNode(ctx, node.ID, public(2))
	wantFault(t, err, "node_key_in_use")
	_, err = w.RekeyNode(ctx, node.ID, public(2)[:31])
	wantFault(t, err, "invalid_key")
	unused, err := w.RekeyNode(ctx, node.ID, public(3))
	if err != nil {
		t.Fatal(err)
	}
	if same, err := w.RekeyNode(ctx, node.ID, public(3)); err != nil || same.ID != unused.ID {
		t.Errorf("asked again: %+v, %v", same, err)
	}
	first := node.Keys[0].ID
	if diff := cmp.Diff([]string{first, unused.ID}, keys()); diff != "" {
		t.Errorf("both hold:\n%s", diff)
	}
	next, err := w.RekeyNode(ctx, node.ID, public(4))
	if err != nil || !slices.Equal(keys(), []string{first, next.ID}) {
		t.Errorf("the one that was never used stays: %v, %v", keys(), err)
	}
	for _, k := range []string{first, unused.ID} {
		if err := w.NodeKeyUsed(ctx, node.ID, k); err != nil || len(keys()) != 2 {
			t.Errorf("use of %s: %v, %v", k, keys(), err)
		}
	}
	if err := w.NodeKeyUsed(ctx, node.ID, next.ID); err != nil || !slices.Equal(keys(), []string{next.ID}) {
		t.Errorf("use of the new one: %v, %v", keys(), err)
	}
	// The machine is switched off before it learns of its new key, for however long.
	_, err = w.RekeyNode(ctx, node.ID, public(5))
	w.now = w.now.Add(1000 * time.Hour)
	final, again := w.RekeyNode(ctx, node.ID, public(6))
	if err != nil || again != nil || !slices.Equal(keys(), []string{next.ID, final.ID}) {
		t.Errorf("the one in force stays: %v, %v %v", keys(), err, again)
	}
	if got := w.acts(); !slices.Contains(got, "node.rekey") || !slices.Contains(got, "node.rekey.done") {
		t.Errorf("acts: %v", got)
	}
	if _, err := w.RevokeNode(ctx, node.ID, control.NodeFilter{}); err != nil {
		t.Fatal(err)
	}
	_, err = w.RekeyNode(ctx, node.ID, public(7))
	wantFault(t, err, "node_revoked")
	var code string
	for i := range 30 {
		if _, err = w.RekeyNode(ctx, w.rows.spec.Nodes[1].ID, public(byte(100+i))); err != nil {
			code = err.Error()
			break
		}
	}
	wantFault(t, err, "node_changes_too_often")
	if code == "" {
		t.Error("a node may fill the log with keys")
	}
}

func TestWhatANodeAdvertises(t *testing.T) {
	t.Parallel()
	w := newNodeWorld()
	ctx := t.Context()
	node := w.node(t, "laptop", 1)
	said := catalog.Advertised{AgentVersion: "1.1", Models: []catalog.NodeModel{{ID: "tiny:latest", Name: "tiny", Context: 4096}}}
	for range 3 {
		if err := w.AdvertiseNode(ctx, node.ID, said); err != nil {
			t.Fatal(err)
		}
	}
	if got := w.rows.spec.Nodes[0].Advertised; len(got.Models) != 1 || got.Models[0].Name != "tiny" {
		t.Errorf("stored: %+v", got)
	}
	if diff := cmp.Diff([]string{"node_token.create", "node.enrol", "node.advertise"}, w.acts()); diff != "" {
		t.Errorf("what does not change is stored again:\n%s", diff)
	}
	if a := w.rows.acts[2]; a.Who.Kind != audit.Node || a.Who.ID != node.ID {
		t.Errorf("by %+v", a.Who)
	}
	flaps := 0
	for i := range 100 {
		said.Models[0].Context = int64(i)
		err := w.AdvertiseNode(ctx, node.ID, said)
		if err == nil {
			flaps++
			continue
		}
		wantFault(t, err, "node_changes_too_often")
	}
	if flaps != 9 {
		t.Errorf("%d changes at once, with the one before", flaps)
	}
	w.now = w.now.Add(30 * time.Second)
	if err := w.AdvertiseNode(ctx, node.ID, said); err != nil {
		t.Errorf("later: %v", err)
	}
	wantFault(t, w.AdvertiseNode(ctx, node.ID, catalog.Advertised{}), "node_changes_too_often")
	acts := len(w.rows.acts)
	for _, gone := range []string{"node_nobody", node.ID} {
		if err := w.AdvertiseNode(ctx, gone, said); err != nil {
			t.Errorf("of a node that is gone: %v", err)
		}
		if _, err := w.RevokeNode(ctx, node.ID, control.NodeFilter{}); err != nil {
			t.Fatal(err)
		}
	}
	if got := w.acts()[acts:]; !slices.Equal(got, []string{"node.revoke"}) {
		t.Errorf("a node that is gone: %v", got)
	}
}

// Whatever a node says, the declarations compile and the row stays small.
func TestANodeThatMeansHarm(t *testing.T) {
	t.Parallel()
	word := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{
		"tiny", "gpt-4o", "*", "node:*", "../../v1", "a\x00b", "\u202egpt", strings.Repeat("x", 5000), "alpha/model", "\xff\xfe", " ",
	}))
	rapid.Check(t, func(rt *rapid.T) {
		w := newNodeWorld()
		w.rows.spec.Nodes = []catalog.Node{{ID: "node_1", Name: "laptop", Organization: "acme"}}
		w.rows.spec.Providers = []catalog.Provider{{Name: "alpha", Dialect: catalog.Simulated, Origin: account.FromDatabase}}
		w.rows.spec.Models = []catalog.Model{{Name: "gpt-4o", Origin: account.FromDatabase, Deployments: []catalog.Deployment{{Provider: "alpha", Model: "m"}}}}
		said := catalog.Advertised{AgentVersion: word.Draw(rt, "version")}
		for range rapid.SampledFrom([]int{0, 3, 40}).Draw(rt, "engines") {
			said.Engines = append(said.Engines, catalog.NodeEngine{Name: word.Draw(rt, "engine"), Kind: word.Draw(rt, "kind"), Version: word.Draw(rt, "v")})
		}
		for range rapid.SampledFrom([]int{0, 3, 40}).Draw(rt, "models") {
			said.Models = append(said.Models, catalog.NodeModel{
				ID: word.Draw(rt, "id"), Name: word.Draw(rt, "name"), Engine: word.Draw(rt, "of"), Context: rapid.Int64().Draw(rt, "context"),
				Capabilities: []catalog.Capability{catalog.Tools, catalog.Capability(word.Draw(rt, "capability"))},
			})
		}
		for i := range rapid.SampledFrom([]int{0, 700}).Draw(rt, "many") {
			said.Models = append(said.Models, catalog.NodeModel{ID: fmt.Sprint("m-", i), Name: "m"})
		}
		if err := w.AdvertiseNode(context.Background(), "node_1", said); err != nil {
			rt.Fatal(err)
		}
		if _, err := snapshot.Compile(w.rows.spec); err != nil {
			rt.Fatalf("the declarations are broken: %v", err)
		}
		stored := w.rows.spec.Nodes[0].Advertised
		text, err := json.Marshal(stored)
		if err != nil || len(stored.Models) > 500 || len(stored.Engines) > 32 || len(text) > 600<<10 {
			rt.Fatalf("%d models, %d engines, %d bytes: %v", len(stored.Models), len(stored.Engines), len(text), err)
		}
		if again := control.WellFormed(stored); !control.SameAdvertised(&again, &stored) {
			rt.Fatalf("what is stored is not well-formed:\n%s", cmp.Diff(stored, again))
		}
		ids := map[string]bool{}
		for _, m := range stored.Models {
			if ids[m.ID] {
				rt.Fatalf("two models are %q", m.ID)
			}
			ids[m.ID] = true
		}
		for _, a := range w.rows.acts {
			if len(a.After) > 64<<10 {
				rt.Fatalf("%d bytes in the audit log", len(a.After))
			}
		}
	})
}

// Anybody can be refused as often as he likes: the audit log stays readable, and says how much it leaves out.
func TestRefusalsDoNotFillTheLog(t *testing.T) {
	t.Parallel()
	w := newNodeWorld()
	used := w.token(t, control.NodeTokenRequest{})
	w.enrol(t, asks(used.Secret, "laptop", 1))
	for i := range 200 {
		for _, token := range []account.Secret{enrol.GenerateToken(), used.Secret} {
			if _, err := w.EnrolNode(t.Context(), asks(token, "", byte(2+i%100)), "198.51.100.9"); err == nil {
				t.Fatal("enrolled")
			}
		}
		w.LogNodeRefusal(t.Context(), control.NodeRefusal{Node: fmt.Sprint("node_\x1b", i), Reason: "signature", From: "198.51.100.9"})
	}
	if n := len(w.rows.acts); n != 2+1+1+20 {
		t.Errorf("%d acts", n) // one of the unknown tokens, one of the used one, 20 nodes
	}
	w.now = w.now.Add(time.Hour)
	w.LogNodeRefusal(t.Context(), control.NodeRefusal{Node: "node_1", Reason: "signature", From: "198.51.100.9"})
	last := w.rows.acts[len(w.rows.acts)-1]
	if string(last.After) != `{"reason":"signature","not_logged":180}` || last.Name != "node.link.refuse" || last.Subject != "node_1" {
		t.Errorf("%s %s", last.Name, last.After)
	}
}

// A store that goes away is not a token that is unknown.
func TestTheStoreIsAway(t *testing.T) {
	t.Parallel()
	w := newNodeWorld()
	made := w.token(t, control.NodeTokenRequest{})
	w.rows.failing = errors.New("away")
	_, err := w.EnrolNode(t.Context(), asks(made.Secret, "", 1), "")
	wantFault(t, err, "internal_error")
	w.rows.failing = nil
	w.enrol(t, asks(made.Secret, "", 1))
}
