package adminapi_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"shareai/internal/account"
	"shareai/internal/adminapi"
	"shareai/internal/audit"
	"shareai/internal/control"
	"shareai/internal/enrol"
)

// links say that every node is linked.
type links struct{}

func (links) NodeLink(string) adminapi.NodeLink {
	return adminapi.NodeLink{Linked: true, Capacity: 4, InFlight: 1, Idle: "serving"}
}

// into reads an answer of a status.
func into[T any](t *testing.T, a answer, status int) T {
	t.Helper()
	var v T
	if a.status != status {
		t.Fatalf("%d %s, want %d", a.status, a.body, status)
	}
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		t.Fatalf("%v: %s", err, a.body)
	}
	return v
}

// enrolled makes a node by a token of the API.
func (s *stage) enrolled(t *testing.T, key, name string, seed byte) adminapi.Node {
	t.Helper()
	made := into[adminapi.NodeToken](t, s.call(t, "POST /api/v1/node-tokens", key, `{"region":"eu","labels":{"team":"search"}}`), 201)
	r := enrol.Request{Token: made.Secret, Name: name, Hostname: "desk"}
	r.Sign(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize)))
	uses := control.New(control.Options{Rows: s.rows, Nodes: s.rows, Log: s.rows, File: s.keeper.File})
	e, err := uses.EnrolNode(t.Context(), r, "192.0.2.7")
	if err != nil {
		t.Fatal(err)
	}
	return into[adminapi.Node](t, s.call(t, "GET /api/v1/nodes/"+e.Node.ID, key, ""), 200)
}

func TestTokensByTheAPI(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	answered := s.call(t, "POST /api/v1/node-tokens", adminKey, `{"name":"gpu","for":"5m","uses":2}`)
	made := into[adminapi.NodeToken](t, answered, 201)
	if !enrol.IsToken(made.Secret) || made.State != "open" || made.Organization != "acme" || made.Expires.Sub(made.Created) != 5*time.Minute || made.Uses != 2 {
		t.Errorf("made: %+v", made)
	}
	if !strings.Contains(made.CreatedBy, "administration") || answered.header.Get("Cache-Control") != "no-store" {
		t.Errorf("by %q, %s", made.CreatedBy, answered.header)
	}
	list := s.call(t, "GET /api/v1/node-tokens", readKey, "")
	if got := into[adminapi.NodeTokenList](t, list, 200); len(got.Tokens) != 1 || got.Tokens[0].ID != made.ID || strings.Contains(list.body, made.Secret) {
		t.Errorf("listed: %s", list.body)
	}
	if got := into[adminapi.NodeTokenList](t, s.call(t, "GET /api/v1/node-tokens?state=all", otherOrgAdmin, ""), 200); len(got.Tokens) != 0 {
		t.Errorf("another organization sees %+v", got)
	}
	if got := s.call(t, "DELETE /api/v1/node-tokens/"+made.ID, otherOrgAdmin, ""); got.status != 404 {
		t.Errorf("another organization: %d %s", got.status, got.body)
	}
	if got := into[adminapi.NodeToken](t, s.call(t, "DELETE /api/v1/node-tokens/"+made.ID, adminKey, ""), 200); got.State != "revoked" || got.Secret != "" {
		t.Errorf("revoked: %+v", got)
	}
	for body, code := range map[string]string{
		`{"for":"1h"}`: "invalid_time", `{"for":"soon"}`: "invalid_value", `{"uses":0.5}`: "invalid_request", `{"name":"A b"}`: "invalid_name",
		`{"organization":"globex"}`: "invalid_request", `{"secret":"` + canary + `"}`: "invalid_request",
	} {
		if got := s.call(t, "POST /api/v1/node-tokens", adminKey, body); got.status != 400 || !strings.Contains(got.body, code) || strings.Contains(got.body, canary) {
			t.Errorf("%s: %d %s", body, got.status, got.body)
		}
	}
	err := s.rows.EachAudit(t.Context(), time.Time{}, func(r audit.Row) error {
		if strings.Contains(r.Body, made.Secret) || !strings.Contains(r.Body, `"kind":"api_key"`) {
			t.Errorf("logged: %s", r.Body)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestNodesByTheAPI(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	node := s.enrolled(t, adminKey, "laptop", 1)
	if node.Name != "laptop" || node.State != "active" || node.Region != "eu" || node.Link == nil || node.Link.Capacity != 4 || len(node.Keys) != 1 || node.Machine.Hostname != "desk" {
		t.Errorf("enrolled: %+v", node)
	}
	theirs := s.enrolled(t, otherOrgAdmin, "laptop", 2)
	for _, ref := range []string{theirs.ID, "nobody"} {
		for _, what := range []string{"GET /api/v1/nodes/" + ref, "DELETE /api/v1/nodes/" + ref, "POST /api/v1/nodes/" + ref + "/drain", "POST /api/v1/nodes/" + ref + "/resume"} {
			if got := s.call(t, what, adminKey, ""); got.status != 404 {
				t.Errorf("%s: %d %s", what, got.status, got.body)
			}
		}
	}
	at := "/api/v1/nodes/laptop"
	if got := into[adminapi.Node](t, s.call(t, "POST "+at+"/drain", adminKey, ""), 200); got.State != "drained" {
		t.Errorf("drained: %+v", got)
	}
	if n, ok := s.keeper.Current().Node(node.ID); !ok || !n.Drained {
		t.Error("this replica does not go by it when the answer is there")
	}
	if got := into[adminapi.Node](t, s.call(t, "POST "+at+"/resume", adminKey, ""), 200); got.State != "active" {
		t.Errorf("resumed: %+v", got)
	}
	priced := into[adminapi.Node](t, s.call(t, "PUT "+at+"/prices", adminKey, `{"prices":[{"model":"tiny","input":0.25,"output":1.5,"cached_input":0.01},{"model":"*","input":0,"output":0}]}`), 200)
	if len(priced.Prices) != 2 || priced.Prices[1] != (adminapi.NodePrice{Model: "tiny", Input: 0.25, Output: 1.5, CachedInput: 0.01}) {
		t.Errorf("priced: %+v", priced.Prices)
	}
	for body, code := range map[string]string{
		`{"prices":[{"model":"a","input":-1,"output":0}]}`: "invalid_request", `{"prices":[{"model":"a b","input":1,"output":0}]}`: "invalid_model",
		`{"prices":[{"model":"a","input":1e9,"output":0}]}`: "invalid_request", `{}`: "invalid_request",
	} {
		if got := s.call(t, "PUT "+at+"/prices", adminKey, body); got.status != 400 || !strings.Contains(got.body, code) {
			t.Errorf("%s: %d %s", body, got.status, got.body)
		}
	}
	if got := into[adminapi.Node](t, s.call(t, "PUT "+at+"/name", adminKey, `{"name":"workstation"}`), 200); got.Name != "workstation" || got.ID != node.ID {
		t.Errorf("renamed: %+v", got)
	}
	s.enrolled(t, adminKey, "second", 3)
	first := into[adminapi.NodeList](t, s.call(t, "GET /api/v1/nodes?limit=1", readKey, ""), 200)
	rest := into[adminapi.NodeList](t, s.call(t, "GET /api/v1/nodes?limit=1&cursor="+first.Next, readKey, ""), 200)
	if len(first.Nodes) != 1 || len(rest.Nodes) != 1 || first.Nodes[0].ID == rest.Nodes[0].ID || rest.Next != "" {
		t.Errorf("pages: %+v, %+v", first, rest)
	}
	revoked := into[adminapi.Node](t, s.call(t, "DELETE /api/v1/nodes/"+node.ID, adminKey, ""), 200)
	if revoked.State != "revoked" || revoked.Revoked == nil || revoked.Link != nil {
		t.Errorf("revoked: %+v", revoked)
	}
	if _, ok := s.keeper.Current().Node(node.ID); ok {
		t.Error("it is revoked and known")
	}
	if got := into[adminapi.NodeList](t, s.call(t, "GET /api/v1/nodes", readKey, ""), 200); len(got.Nodes) != 1 {
		t.Errorf("active: %+v", got)
	}
	if got := into[adminapi.NodeList](t, s.call(t, "GET /api/v1/nodes?state=all", readKey, ""), 200); len(got.Nodes) != 2 {
		t.Errorf("all: %+v", got)
	}
}

// The members of a node's organization see it; what administers it is for its admins.
func TestNodesAreForAdmins(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.enrolled(t, adminKey, "laptop", 1)
	for _, role := range account.Roles {
		session := string(role) + "@acme"
		if got := s.as(t, session, "GET /api/v1/nodes", ""); got.status != 200 || !strings.Contains(got.body, "laptop") {
			t.Errorf("%s sees %d %s", role, got.status, got.body)
		}
		got := s.as(t, session, "POST /api/v1/node-tokens", "{}")
		if may := role.Includes(account.Admin); may != (got.status == 201) {
			t.Errorf("%s makes a token: %d %s", role, got.status, got.body)
		}
	}
}
