package adminapi_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"shareai/internal/account"
	"shareai/internal/adminapi"
	"shareai/internal/catalog"
	"shareai/internal/control"
	"shareai/internal/identity"
	"shareai/internal/snapshot"
	"shareai/internal/store"
	"shareai/internal/store/storetest"
)

// canary stands wherever a secret could be sent by mistake. No answer may contain it.
const canary = "sk-canary-5e1b7f60"

// stage is the API over a real store, a real keeper and real use cases.
type stage struct {
	*httptest.Server
	keeper *snapshot.Keeper
	rows   *store.Store
	people *identity.Identity
	log    bytes.Buffer
}

// The keys of the stage.
const (
	drillsKey    = "key-of-app-for-drills"
	inferenceKey = "key-of-app-for-inference"
	otherProject = "key-of-web-for-drills"
	otherOrg     = "key-of-globex-for-drills"
	expiredKey   = "key-of-app-that-is-over"
	revokedKey   = "key-of-app-that-is-revoked"

	adminKey      = "key-of-app-for-administration"
	readKey       = "key-of-app-for-reading"
	otherOrgAdmin = "key-of-globex-for-administration"
)

func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{rows: storetest.SQLite(t).Open(t)}
	log := slog.New(slog.NewTextHandler(&s.log, nil))
	key := func(name, secret, organization, project string, scopes ...account.Scope) account.APIKey {
		return account.APIKey{
			ID: "key_" + name, Name: name, Organization: organization, Project: project, Hash: account.HashKey(secret), Scopes: scopes, Origin: account.FromFile,
		}
	}
	file := snapshot.Spec{
		Community:     catalog.CommunityTerms{Enabled: true, Fee: 100_000, MaxPrice: &catalog.CommunityPrice{Input: 1e9, Output: 2e9}},
		Organizations: []account.Organization{{Name: "acme", Operator: true, Origin: account.FromFile}, {Name: "globex", Origin: account.FromFile}},
		Projects: []account.Project{
			{Organization: "acme", Name: "app", Origin: account.FromFile},
			{Organization: "acme", Name: "web", Origin: account.FromFile},
			{Organization: "globex", Name: "app", Origin: account.FromFile},
		},
		Keys: []account.APIKey{
			key("drills", drillsKey, "acme", "app", account.ScopeDrills), key("inference", inferenceKey, "acme", "app"),
			key("web", otherProject, "acme", "web", account.ScopeInference, account.ScopeDrills), key("globex", otherOrg, "globex", "app", account.ScopeDrills),
			key("administration", adminKey, "acme", "app", account.ScopeAdmin), key("reading", readKey, "acme", "app", account.ScopeRead),
			key("administration-of-globex", otherOrgAdmin, "globex", "app", account.ScopeAdmin),
			key("expired", expiredKey, "acme", "app", account.ScopeDrills), key("revoked", revokedKey, "acme", "app", account.ScopeDrills),
		},
		Providers: []catalog.Provider{
			{Name: "alpha", Dialect: catalog.Simulated, Region: "eu", Origin: account.FromFile},
			{Name: "beta", Dialect: catalog.Simulated, Origin: account.FromFile},
		},
		Models: []catalog.Model{{Name: "chat", Origin: account.FromFile, Deployments: []catalog.Deployment{{Provider: "alpha", Model: "a"}, {Provider: "beta", Model: "b"}}}},
	}
	file.Keys[len(file.Keys)-2].Expires, file.Keys[len(file.Keys)-1].RevokedAt = time.Unix(1, 0), time.Unix(1, 0)
	var err error
	if s.keeper, err = snapshot.NewKeeper(t.Context(), s.rows, file, log); err != nil {
		t.Fatal(err)
	}
	uses := control.New(control.Options{Rows: s.rows, Nodes: s.rows, Log: s.rows, File: func() snapshot.Spec { return file }, Logger: log})
	s.people = identity.New(identity.Options{Users: s.rows, Sessions: s.rows, Organizations: uses, SignUp: identity.SignUpOpen, Logger: log})
	api, err := adminapi.New(adminapi.Options{
		Snapshots: s.keeper, Identity: s.people, Sessions: people{s.people}, Log: log,
		Keys: uses, Tenants: uses, Records: s.rows, Audit: s.rows, Alerts: s.rows, Catalog: uses, Routing: planner{}, Drills: uses, Nodes: uses, NodeRouting: uses, NodeTokens: uses, NodeLinks: links{}, Community: uses, CommunityLedger: s.rows,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Server = httptest.NewServer(api)
	t.Cleanup(func() {
		s.Close()
		if strings.Contains(s.log.String(), canary) {
			t.Error("the log has a secret")
		}
	})
	return s
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   string
}

// call is "METHOD /path", the API key and the body.
func (s *stage) call(t *testing.T, what, key, body string) answer {
	t.Helper()
	return s.send(t, what, key, "application/json", body)
}

func (s *stage) send(t *testing.T, what, key, contentType, body string) answer {
	t.Helper()
	header := http.Header{}
	if key != "" {
		header.Set("Authorization", "Bearer "+key)
	}
	if contentType != "" {
		header.Set("Content-Type", contentType)
	}
	return s.sendWith(t, what, body, header)
}

func (s *stage) sendWith(t *testing.T, what, body string, header http.Header) answer {
	t.Helper()
	method, path, _ := strings.Cut(what, " ")
	r, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header = header
	resp, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(resp.Body); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(text.String(), canary) {
		t.Errorf("%s: the answer repeats a secret: %s", what, text.String())
	}
	return answer{status: resp.StatusCode, header: resp.Header, body: text.String()}
}

// refusedWith checks status, code and form of an error.
func (a answer) refusedWith(t *testing.T, status int, code string) {
	t.Helper()
	var e struct {
		Error struct {
			Message, Type, Code string
			RequestID           string `json:"request_id"`
		}
	}
	err := json.Unmarshal([]byte(a.body), &e)
	if err != nil || a.status != status || e.Error.Code != code {
		t.Errorf("got %d %s (%v), want %d %s", a.status, a.body, err, status, code)
		return
	}
	if e.Error.Message == "" || e.Error.Type == "" || e.Error.RequestID != a.header.Get("X-Request-Id") || !strings.HasPrefix(a.header.Get("Content-Type"), "application/json") {
		t.Errorf("not our form: %v %s", a.header, a.body)
	}
}

func decode[T any](t *testing.T, a answer, status int) (out T) {
	t.Helper()
	if a.status != status {
		t.Fatalf("got %d %s, want %d", a.status, a.body, status)
	}
	d := json.NewDecoder(strings.NewReader(a.body))
	d.DisallowUnknownFields()
	if err := d.Decode(&out); err != nil {
		t.Fatalf("%v: %s", err, a.body)
	}
	return out
}

func TestADrillFromStartToEnd(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	started := decode[adminapi.Drill](t, s.call(t, "POST /api/v1/drills", drillsKey, `{"key":"inference","provider":"alpha","fault":"slow_first_token","share":0.5,"for":"90s"}`), 201)
	if started.Organization != "acme" || started.Project != "app" || started.KeyID != "key_inference" || started.Provider != "alpha" ||
		started.Fault != "slow_first_token" || started.Share != 0.5 || started.Ends.Sub(started.Starts) != 90*time.Second ||
		started.State != adminapi.DrillRunning || !strings.Contains(started.By, "key_drills") {
		t.Errorf("%+v", started)
	}
	// It is in force here before the answer is out, for this key and for no other.
	if d := s.keeper.Current().Drills("key_inference"); len(d) != 1 || d[0].ID != started.ID {
		t.Errorf("in force: %+v", d)
	}
	for _, id := range []string{"key_drills", "key_web", "key_globex"} {
		if d := s.keeper.Current().Drills(id); d != nil {
			t.Errorf("%s is drilled too: %+v", id, d)
		}
	}
	list := decode[adminapi.DrillList](t, s.call(t, "GET /api/v1/drills", drillsKey, ""), 200)
	if len(list.Drills) != 1 || list.Drills[0] != started {
		t.Errorf("%+v", list)
	}
	stopped := decode[adminapi.Drill](t, s.call(t, "DELETE /api/v1/drills/"+started.ID, drillsKey, ""), 200)
	if stopped.State != adminapi.DrillStopped || stopped.Stopped == nil || s.keeper.Current().Drills("key_inference") != nil {
		t.Errorf("%+v, in force %v", stopped, s.keeper.Current().Drills("key_inference"))
	}
	if again := decode[adminapi.Drill](t, s.call(t, "DELETE /api/v1/drills/"+started.ID, drillsKey, ""), 200); !again.Stopped.Equal(*stopped.Stopped) {
		t.Errorf("stopped again: %+v", again)
	}
	if list := s.call(t, "GET /api/v1/drills", drillsKey, ""); list.body != `{"drills":[]}`+"\n" {
		t.Errorf("%s", list.body)
	}
	if list := decode[adminapi.DrillList](t, s.call(t, "GET /api/v1/drills?state=all", drillsKey, ""), 200); len(list.Drills) != 1 {
		t.Errorf("%+v", list)
	}
}

// What belongs to another project does not exist, whichever organization it is of.
func TestOthersDrillsAreOutOfReach(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	mine := decode[adminapi.Drill](t, s.call(t, "POST /api/v1/drills", drillsKey, `{"region":"eu","fault":"cut"}`), 201)
	for _, key := range []string{otherProject, otherOrg} {
		s.call(t, "DELETE /api/v1/drills/"+mine.ID, key, "").refusedWith(t, 404, "drill_not_found")
		if list := decode[adminapi.DrillList](t, s.call(t, "GET /api/v1/drills?state=all", key, ""), 200); len(list.Drills) != 0 {
			t.Errorf("%s sees %+v", key, list)
		}
		s.call(t, "POST /api/v1/drills", key, `{"key":"inference","provider":"alpha","fault":"cut"}`).refusedWith(t, 400, "key_not_found")
		s.call(t, "POST /api/v1/drills", key, `{"key":"key_inference","provider":"alpha","fault":"cut"}`).refusedWith(t, 400, "key_not_found")
	}
	s.call(t, "POST /api/v1/drills", otherProject, `{"project":"app","provider":"alpha","fault":"cut"}`).refusedWith(t, 404, "project_not_found")
	if d := s.keeper.Current().Drills("key_inference"); len(d) != 1 || !d[0].Stopped.IsZero() {
		t.Errorf("%+v", d)
	}
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	for _, c := range []struct {
		body, code string
		status     int
		says       string
	}{
		{``, "invalid_request", 400, "body"},
		{`{"provider":"` + canary, "invalid_request", 400, "JSON"},
		{`"` + canary + `"`, "invalid_request", 400, "object"},
		{`[]`, "invalid_request", 400, "object"},
		{`{}`, "invalid_request", 400, "fault"},
		{`{"Provider":"alpha","fault":"5xx"}`, "invalid_request", 400, "Provider"},
		{`{"provider":"beta","Provider":"alpha","fault":"5xx"}`, "invalid_request", 400, "Provider"},
		{`{"provider":"beta","provider":"alpha","fault":"5xx"}`, "invalid_request", 400, "twice"},
		{`{"provider":"alpha"}`, "invalid_request", 400, "fault"},
		{`{"provider":"alpha","fault":"` + canary + `"}`, "invalid_request", 400, "blackhole"},
		{`{"provider":"alpha","fault":"5xx","secret":"` + canary + `"}`, "invalid_request", 400, "secret"},
		{`{"provider":{"name":"` + canary + `"},"fault":"5xx"}`, "invalid_request", 400, "provider"},
		{`{"provider":"alpha","fault":"5xx","share":0}`, "invalid_request", 400, "share"},
		{`{"provider":"alpha","fault":"5xx","share":1.5}`, "invalid_request", 400, "share"},
		{`{"provider":"alpha","fault":"5xx","share":"` + canary + `"}`, "invalid_request", 400, "share"},
		{`{"provider":"alpha","fault":"5xx","for":"a while"}`, "invalid_value", 400, "90s"},
		{`{"provider":"alpha","fault":"5xx","for":"-5m"}`, "invalid_value", 400, "90s"},
		{`{"provider":"alpha","fault":"5xx","for":"25h"}`, "invalid_drill", 400, "24 hours"},
		{`{"provider":"alpha","region":"eu","fault":"5xx"}`, "invalid_drill", 400, "one thing"},
		{`{"fault":"5xx"}`, "invalid_drill", 400, "one thing"},
		{`{"provider":"gamma","fault":"5xx"}`, "provider_not_found", 400, "alpha, beta"},
		{`{"provider":"alpha","fault":"5xx","key":"` + canary + `"}`, "key_not_found", 400, "acme/app"},
		{`{"provider":"` + strings.Repeat("x", 65<<10) + `","fault":"5xx"}`, "request_too_large", 413, "64 KiB"},
		{strings.Repeat("[", 15<<10), "invalid_request", 400, ""},
	} {
		got := s.call(t, "POST /api/v1/drills", drillsKey, c.body)
		got.refusedWith(t, c.status, c.code)
		if !strings.Contains(got.body, c.says) {
			t.Errorf("%.60s: the answer does not say %q: %s", c.body, c.says, got.body)
		}
	}
	form := s.send(t, "POST /api/v1/drills", drillsKey, "application/x-www-form-urlencoded", "provider=alpha&fault=5xx")
	form.refusedWith(t, 415, "unsupported_media_type")
	s.send(t, "POST /api/v1/drills", drillsKey, "text/plain", `{"provider":"alpha","fault":"5xx"}`).refusedWith(t, 415, "unsupported_media_type")
	s.call(t, "GET /api/v1/drills?state=old", drillsKey, "").refusedWith(t, 400, "invalid_request")
	s.call(t, "DELETE /api/v1/drills/drill_unknown", drillsKey, "").refusedWith(t, 404, "drill_not_found")
	s.call(t, "DELETE /api/v1/drills/"+strings.Repeat("x", 200), drillsKey, "").refusedWith(t, 400, "invalid_request")
	s.call(t, "GET /api/v1/nothing", drillsKey, "").refusedWith(t, 404, "unknown_url")
	s.call(t, "GET /api/docs", "", "").refusedWith(t, 404, "unknown_url")
	s.call(t, "GET /schemas/Drill", "", "").refusedWith(t, 404, "unknown_url")
	put := s.call(t, "PUT /api/v1/drills", drillsKey, "{}")
	put.refusedWith(t, 405, "method_not_allowed")
	if put.header.Get("Allow") != "GET, POST" {
		t.Errorf("Allow: %s", put.header.Get("Allow"))
	}
	if spec, _, err := s.rows.Load(t.Context()); err != nil || len(spec.Drills) != 0 {
		t.Errorf("something was stored: %+v, %v", spec.Drills, err)
	}
}

// A database that is away makes no drill, and no secret of its own is told.
func TestTheDatabaseIsAway(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	if err := s.rows.Close(); err != nil {
		t.Fatal(err)
	}
	for what, body := range map[string]string{
		"POST /api/v1/drills": `{"provider":"alpha","fault":"5xx"}`, "GET /api/v1/drills": "", "DELETE /api/v1/drills/drill_unknown": "",
	} {
		got := s.call(t, what, drillsKey, body)
		if got.status != 500 && got.status != 503 {
			t.Errorf("%s: %d %s", what, got.status, got.body)
		}
		if strings.Contains(got.body, "sql") {
			t.Errorf("%s tells what is inside: %s", what, got.body)
		}
	}
	if !strings.Contains(s.log.String(), "start-drill") {
		t.Errorf("the log does not say it: %s", s.log.String())
	}
}

var update = flag.Bool("update", false, "write docs/openapi.json")

const document = "../../docs/openapi.json"

func TestTheDocumentIsKept(t *testing.T) {
	s := newStage(t)
	served := s.call(t, "GET /api/openapi.json", "", "")
	if served.status != 200 || served.header.Get("Content-Type") != "application/json" {
		t.Fatalf("%d %v", served.status, served.header)
	}
	if *update {
		if err := os.WriteFile(document, []byte(served.body), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	kept, err := os.ReadFile(document)
	if err != nil || string(kept) != served.body {
		t.Errorf("docs/openapi.json is out of date (%v): run go generate ./internal/adminapi", err)
	}
}

// The document says what is the case: its version, no foreign links, every reference resolves, lists are
// lists, and faults are those that exist.
func TestTheDocumentIsSound(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	text := s.call(t, "GET /api/openapi.json", "", "").body
	var d struct {
		OpenAPI    string
		Components struct {
			Schemas map[string]struct {
				Properties map[string]struct {
					Type any
					Enum []string
				}
			}
		}
	}
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(d.OpenAPI, "3.1") || strings.Contains(text, "$schema") || strings.Contains(text, "problem+json") || strings.Contains(text, "http://") || strings.Contains(text, "https://") {
		t.Errorf("version %s, or something that is not ours: %s", d.OpenAPI, text)
	}
	for _, reference := range strings.Split(text, `"#/components/schemas/`)[1:] {
		name, _, _ := strings.Cut(reference, `"`)
		if _, ok := d.Components.Schemas[name]; !ok {
			t.Errorf("%s is not described", name)
		}
	}
	faults := make([]string, len(catalog.DrillFaults))
	for i, f := range catalog.DrillFaults {
		faults[i] = string(f)
	}
	for _, name := range []string{"Drill", "DrillStart"} {
		if got := d.Components.Schemas[name].Properties["fault"].Enum; !slices.Equal(got, faults) {
			t.Errorf("%s has the faults %v", name, got)
		}
	}
	if got := fmt.Sprint(d.Components.Schemas["DrillList"].Properties["drills"].Type); got != "array" {
		t.Errorf("the list is %s", got)
	}
}
