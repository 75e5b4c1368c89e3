package adminapi_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"shareai/internal/account"
	"shareai/internal/adminapi"
	"shareai/internal/usage"
)

func TestAnAPIKeyFromCreationToRevocation(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	got := s.as(t, "member@acme", "POST /api/v1/keys", `{"name":"laptop","project":"app","models":["chat"],"limits":{"requests_per_minute":5},"budgets":[{"period":"day","usd":1.5}]}`)
	made := decode[adminapi.Key](t, got, 201)
	if made.Secret == "" || made.State != "active" || made.Limits.RequestsPerMinute != 5 || len(made.Budgets) != 1 || made.Budgets[0].USD != 1.5 || fmt.Sprint(made.Scopes) != "[inference]" {
		t.Fatalf("%s", got.body)
	}
	if p, ok := s.keeper.Current().Principal(account.HashKey(made.Secret)); !ok || p.Project.Name != "app" {
		t.Error("it is not in force when the answer is out")
	}
	for _, what := range []string{"GET /api/v1/keys?project=app&limit=500", "GET /api/v1/keys/" + made.ID} {
		if got := s.as(t, "viewer@acme", what, ""); !strings.Contains(got.body, made.ID) || strings.Contains(got.body, made.Secret) {
			t.Errorf("%s: %s", what, got.body)
		}
		if got := s.as(t, "owner@globex", what, ""); strings.Contains(got.body, made.ID) {
			t.Errorf("another organization sees %s", got.body)
		}
	}
	for _, what := range []string{"GET /api/v1/keys/", "PATCH /api/v1/keys/", "DELETE /api/v1/keys/"} {
		s.as(t, "owner@globex", what+made.ID, "{}").refusedWith(t, 404, "key_not_found")
	}
	changed := decode[adminapi.Key](t, s.as(t, "member@acme", "PATCH /api/v1/keys/"+made.ID, `{"limits":{"concurrency":2}}`), 200)
	if changed.Limits != (adminapi.Limits{Concurrency: 2}) || len(changed.Budgets) != 1 {
		t.Errorf("%+v", changed)
	}
	s.as(t, "member@acme", "PATCH /api/v1/keys/key_drills", `{"limits":{}}`).refusedWith(t, 409, "managed_by_file")
	s.as(t, "member@acme", "DELETE /api/v1/keys/key_drills", "").refusedWith(t, 409, "managed_by_file")
	if revoked := decode[adminapi.Key](t, s.as(t, "member@acme", "DELETE /api/v1/keys/"+made.ID, ""), 200); revoked.State != "revoked" {
		t.Errorf("%+v", revoked)
	}
	s.call(t, "GET /api/v1/me", made.Secret, "").refusedWith(t, 401, "revoked_api_key")
	s.as(t, "member@acme", "POST /api/v1/keys", `{"name":"x"}`).refusedWith(t, 400, "project_required")
	s.as(t, "member@acme", "POST /api/v1/keys", `{"name":"x","project":"app","scopes":["everything"]}`).refusedWith(t, 400, "invalid_scope")
	s.as(t, "member@acme", "POST /api/v1/keys", `{"name":"x","project":"app","budgets":[{"period":"window","usd":1}]}`).refusedWith(t, 400, "invalid_value")
	s.as(t, "member@acme", "POST /api/v1/keys", `{"name":"x","project":"nowhere"}`).refusedWith(t, 404, "project_not_found")
}

// Nobody makes, or takes over, a key that may do more than he himself.
func TestKeysAreNoWayUp(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	for token, may := range map[string]map[string]bool{
		"member@acme": {"inference": true, "drills": true, "read": true, "admin": false},
		"admin@acme":  {"inference": true, "drills": true, "read": true, "admin": true},
	} {
		for scope, ok := range may {
			got := s.as(t, token, "POST /api/v1/keys", `{"name":"`+token[:3]+"-"+scope+`","project":"app","scopes":["`+scope+`"]}`)
			if (got.status == 201) != ok {
				t.Errorf("%s makes a key with %s: %d %s", token, scope, got.status, got.body)
			}
		}
	}
	s.as(t, "member@acme", "PATCH /api/v1/keys/key_administration", `{}`).refusedWith(t, 403, "missing_role")
	s.as(t, "member@acme", "DELETE /api/v1/keys/key_administration", "").refusedWith(t, 403, "missing_role")
}

func TestProjectsAndTheOrganization(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	made := decode[adminapi.Project](t, s.as(t, "admin@acme", "POST /api/v1/projects", `{"name":"lab","labels":{"team":"search"},"limits":{"concurrency":3}}`), 201)
	if made.Labels["team"] != "search" || made.ManagedBy != "database" {
		t.Errorf("%+v", made)
	}
	s.as(t, "admin@acme", "POST /api/v1/projects", `{"name":"lab"}`).refusedWith(t, 409, "project_exists")
	s.as(t, "admin@acme", "POST /api/v1/projects", `{"name":"Not A Name"}`).refusedWith(t, 400, "invalid_name")
	changed := decode[adminapi.Project](t, s.as(t, "admin@acme", "PATCH /api/v1/projects/lab", `{"budgets":[{"period":"month","usd":10,"alert_at":[0.5],"on_exceed":"alert"}]}`), 200)
	if len(changed.Budgets) != 1 || changed.Limits.Concurrency != 3 || changed.Labels["team"] != "search" {
		t.Errorf("%+v", changed)
	}
	s.as(t, "admin@acme", "PATCH /api/v1/projects/app", `{}`).refusedWith(t, 409, "managed_by_file")
	s.as(t, "admin@acme", "PATCH /api/v1/organization", `{}`).refusedWith(t, 409, "managed_by_file")
	s.as(t, "admin@globex", "PATCH /api/v1/projects/lab", `{}`).refusedWith(t, 404, "project_not_found")
	var names []string
	for next := ""; ; {
		page := decode[adminapi.ProjectList](t, s.as(t, "viewer@acme", "GET /api/v1/projects?limit=1&cursor="+next, ""), 200)
		for _, p := range page.Projects {
			names = append(names, p.Name)
		}
		if next = page.Next; next == "" {
			break
		}
	}
	if fmt.Sprint(names) != "[app lab web]" {
		t.Errorf("%v", names)
	}
	if o := decode[adminapi.Organization](t, s.as(t, "viewer@globex", "GET /api/v1/organization", ""), 200); o.Name != "globex" || o.Operator {
		t.Errorf("%+v", o)
	}
}

func TestRequestsAndUsage(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	record := func(id, organization, project string, cost int64) usage.Record {
		return usage.Record{
			ID: id, Start: time.Now().Add(-time.Minute).UnixMicro(), Duration: 1500, Organization: organization, Project: project, KeyID: "key_inference", Endpoint: "chat",
			Requested: "chat", Model: "=chat", Provider: "alpha", Deployment: "alpha/a", Status: 200, Cost: cost,
			Attempts:   []usage.Attempt{{Provider: "alpha", Deployment: "alpha/a", Model: "chat", Outcome: "ok", Status: 200, Duration: 1400, Cost: cost}},
			Candidates: []usage.Candidate{{Deployment: "alpha/a", Model: "chat"}, {Deployment: "beta/b", Model: "chat", Reason: "region"}},
			Content:    &usage.Content{Request: []byte("what was asked"), Answer: []byte("said \xff")},
		}
	}
	err := s.rows.InsertRecords(t.Context(), []usage.Record{
		record("req_1", "acme", "app", 1_500_000_000), record("req_2", "acme", "web", 1), record("req_3", "globex", "app", 5),
	})
	if err != nil {
		t.Fatal(err)
	}
	first := decode[adminapi.RequestList](t, s.as(t, "viewer@acme", "GET /api/v1/requests?limit=1", ""), 200)
	second := decode[adminapi.RequestList](t, s.as(t, "viewer@acme", "GET /api/v1/requests?limit=1&cursor="+first.Next, ""), 200)
	if len(first.Requests) != 1 || first.Requests[0].ID != "req_2" || len(second.Requests) != 1 || second.Requests[0].ID != "req_1" || second.Requests[0].CostUSD != "1.5" {
		t.Errorf("%+v, %+v", first, second)
	}
	if got := decode[adminapi.RequestList](t, s.as(t, "viewer@acme", "GET /api/v1/requests?project=app&outcome=failed", ""), 200); len(got.Requests) != 0 {
		t.Errorf("%+v", got)
	}
	s.as(t, "viewer@acme", "GET /api/v1/requests?cursor=eHh4", "").refusedWith(t, 400, "invalid_cursor")
	s.as(t, "viewer@acme", "GET /api/v1/requests/req_3", "").refusedWith(t, 404, "record_not_found")
	s.as(t, "owner@globex", "GET /api/v1/requests/req_1", "").refusedWith(t, 404, "record_not_found")
	trace := decode[adminapi.Trace](t, s.as(t, "viewer@acme", "GET /api/v1/requests/req_1", ""), 200)
	if len(trace.Timeline) != 1 || trace.Timeline[0].DurationMS != 1.4 || len(trace.Candidates) != 2 || trace.Candidates[1].Excluded != "region" || trace.Content != nil {
		t.Errorf("%+v", trace)
	}
	if trace := decode[adminapi.Trace](t, s.as(t, "admin@acme", "GET /api/v1/requests/req_1", ""), 200); trace.Content == nil || trace.Content.Answer != "said \uFFFD" {
		t.Errorf("%+v", trace.Content)
	}
	report := decode[adminapi.UsageReport](t, s.as(t, "viewer@acme", "GET /api/v1/usage?by=project,model", ""), 200)
	if len(report.Rows) != 2 || report.Rows[0].Values["project"] != "acme/app" || report.Rows[0].CostUSD != "1.5" || report.Rows[1].Requests != 1 {
		t.Errorf("%+v", report)
	}
	s.as(t, "viewer@acme", "GET /api/v1/usage?by=organization", "").refusedWith(t, 400, "invalid_value")
	s.as(t, "viewer@acme", "GET /api/v1/usage?by=weather", "").refusedWith(t, 400, "invalid_dimension")
	s.as(t, "viewer@acme", "GET /api/v1/usage?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", "").refusedWith(t, 400, "invalid_value")
	file := s.as(t, "viewer@acme", "GET /api/v1/usage/export?by=model", "")
	if !strings.HasPrefix(file.header.Get("Content-Type"), "text/csv") || !strings.HasPrefix(file.body, "model,requests,") || !strings.Contains(file.body, "\n'=chat,2,") {
		t.Errorf("%v %s", file.header, file.body)
	}
	if file := s.as(t, "viewer@acme", "GET /api/v1/usage/export?format=json", ""); !json.Valid([]byte(file.body)) || !strings.Contains(file.header.Get("Content-Disposition"), ".json") {
		t.Errorf("%v %s", file.header, file.body)
	}
	if got := s.as(t, "viewer@acme", "GET /api/v1/prompts", ""); got.status != 200 {
		t.Errorf("%d %s", got.status, got.body)
	}
}

func TestTheAuditLogByTheAPI(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	for _, name := range []string{"one", "two", "three"} {
		decode[adminapi.Project](t, s.as(t, "admin@acme", "POST /api/v1/projects", `{"name":"`+name+`"}`), 201)
	}
	page := decode[adminapi.AuditList](t, s.as(t, "admin@acme", "GET /api/v1/audit?limit=2&act=project.&actor=user_admin", ""), 200)
	if len(page.Entries) != 2 || page.Entries[0].Subject != "acme/three" || page.Entries[0].Kind != "member" || page.Entries[0].From != "127.0.0.1" || page.Next == "" {
		t.Fatalf("%+v", page)
	}
	rest := decode[adminapi.AuditList](t, s.as(t, "admin@acme", "GET /api/v1/audit?limit=2&cursor="+page.Next, ""), 200)
	if len(rest.Entries) != 1 || rest.Entries[0].Subject != "acme/one" || rest.Next != "" {
		t.Errorf("%+v", rest)
	}
	if check := decode[adminapi.AuditCheck](t, s.as(t, "admin@acme", "POST /api/v1/audit/verify", ""), 200); !check.Unbroken || check.Entries != 3 {
		t.Errorf("%+v", check)
	}
	if file := s.as(t, "admin@acme", "GET /api/v1/audit/export", ""); strings.Count(file.body, "\n") != 3 || !strings.Contains(file.body, `"hash":`) {
		t.Errorf("%d %s", file.status, file.body)
	}
}

func TestTheCatalogue(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	do := func(what, body string) answer { t.Helper(); return s.as(t, "admin@acme", what, body) }
	made := decode[adminapi.Provider](t, do("POST /api/v1/providers", `{"name":"gamma","dialect":"openai","base_url":"https://gamma.example/v1/","region":"eu","probe":{"kind":"models","every":"1m"}}`), 201)
	if made.BaseURL != "https://gamma.example/v1" || made.ManagedBy != "database" || made.Probe.Every != "1m0s" {
		t.Errorf("%+v", made)
	}
	withKey := decode[adminapi.Provider](t, do("POST /api/v1/providers/gamma/keys", `{"name":"main","secret":"`+canary+`","weight":2}`), 200)
	if len(withKey.Keys) != 1 || withKey.Keys[0].Weight != 2 {
		t.Errorf("%+v", withKey)
	}
	do("POST /api/v1/providers/gamma/keys", `{"name":"main","secret":"`+canary+` x"}`).refusedWith(t, 400, "invalid_value")
	// As it was shown, it may be sent back; its keys stay.
	shown := do("GET /api/v1/providers/gamma", "")
	replaced := decode[adminapi.Provider](t, do("PUT /api/v1/providers/gamma", strings.Replace(shown.body, `"eu"`, `"us"`, 1)), 200)
	if replaced.Region != "us" || len(replaced.Keys) != 1 {
		t.Errorf("%+v", replaced)
	}
	if spec, _, err := s.rows.Load(t.Context()); err != nil || len(spec.Providers) != 1 || spec.Providers[0].Keys[0].Secret.Reveal() != canary {
		t.Error("the provider's key is not stored")
	}
	if drained := decode[adminapi.Provider](t, do("POST /api/v1/providers/gamma/drain", ""), 200); !drained.Drained {
		t.Errorf("%+v", drained)
	}
	if resumed := decode[adminapi.Provider](t, do("POST /api/v1/providers/gamma/resume", ""), 200); resumed.Drained {
		t.Errorf("%+v", resumed)
	}
	for what, body := range map[string]string{
		"PUT /api/v1/providers/alpha":               `{"name":"alpha","dialect":"simulated"}`,
		"DELETE /api/v1/providers/alpha":            "",
		"POST /api/v1/providers/alpha/keys":         `{"name":"main","secret":"x"}`,
		"POST /api/v1/providers/alpha/drain":        "",
		"DELETE /api/v1/models/chat":                "",
		"PUT /api/v1/models/chat":                   `{"name":"chat","deployments":[{"provider":"alpha","model":"a"}]}`,
		"DELETE /api/v1/providers/alpha/keys/other": "",
	} {
		do(what, body).refusedWith(t, 409, "managed_by_file")
	}
	for body, says := range map[string]string{
		`{"name":"delta","dialect":"openai"}`:                                               "needs the field base_url",
		`{"name":"delta","dialect":"openai","base_url":"ftp://x"}`:                          "must be an http:// or https:// URL",
		`{"name":"delta","dialect":"openai","base_url":"https://u:` + canary + `@x"}`:       "must not contain a user name or password",
		`{"name":"Delta!","dialect":"simulated"}`:                                           "is not a name",
		`{"name":"delta","dialect":"openai","base_url":"https://x/${SHAREAI_SECRETS_KEY}"}`: "",
	} {
		if got := do("POST /api/v1/providers", body); says != "" && (got.status != 400 || !strings.Contains(got.body, says)) {
			t.Errorf("%s: %d %s", body, got.status, got.body)
		}
	}
	do("POST /api/v1/models", `{"name":"meta/llama","deployments":[{"provider":"gamma","model":"llama","price":{"input":0.5,"output":1,"cached_input":0,"reasoning":0}}],"capabilities":[]}`)
	model := decode[adminapi.Model](t, do("GET /api/v1/models/meta%2Fllama", ""), 200)
	price := model.Deployments[0].Price
	if price == nil || price.Input != 0.5 || *price.CachedInput != 0 || price.Reasoning == nil || *price.Reasoning != 0 || price.CacheWrite != nil || model.Capabilities == nil {
		t.Errorf("%+v %+v", model, price)
	}
	do("DELETE /api/v1/providers/gamma", "").refusedWith(t, 400, "invalid_change") // a model needs it
	do("POST /api/v1/models", `{"name":"x","deployments":[{"provider":"nowhere","model":"x"}]}`).refusedWith(t, 400, "invalid_change")
	do("POST /api/v1/models", `{"name":"meta/llama","deployments":[]}`).refusedWith(t, 409, "model_exists")
	do("PUT /api/v1/models/other", `{"name":"meta/llama","deployments":[]}`).refusedWith(t, 400, "invalid_value")
	policy := decode[adminapi.Policy](t, do("POST /api/v1/policies", `{"name":"careful","strategy":"cost","attempts":{"total":3},"deadlines":{"connect":"2s"},"max_price_ratio":1.2}`), 201)
	if policy.Deadlines.Connect != "2s" || policy.MaxPriceRatio != 1.2 {
		t.Errorf("%+v", policy)
	}
	do("POST /api/v1/policies", `{"name":"p","deadlines":{"connect":"2"}}`).refusedWith(t, 400, "invalid_value")
	do("POST /api/v1/routes", `{"name":"fast","models":["nowhere"]}`).refusedWith(t, 400, "invalid_change")
	route := decode[adminapi.Route](t, do("POST /api/v1/routes", `{"name":"fast","models":["chat"],"policy":"careful"}`), 201)
	if route.Policy != "careful" {
		t.Errorf("%+v", route)
	}
	if _, ok := s.keeper.Current().Route("fast"); !ok {
		t.Error("the route is not in force when the answer is out")
	}
	do("DELETE /api/v1/policies/careful", "").refusedWith(t, 400, "invalid_change")
	decode[adminapi.DefaultPolicy](t, do("PUT /api/v1/default-policy", `{"policy":"careful"}`), 200)
	do("PUT /api/v1/default-policy", `{"policy":"nowhere"}`).refusedWith(t, 404, "policy_not_found")
	if got := do("DELETE /api/v1/routes/fast", ""); got.status != http.StatusNoContent {
		t.Errorf("%d %s", got.status, got.body)
	}
	if got := s.as(t, "viewer@globex", "GET /api/v1/models", ""); got.status != 200 || !strings.Contains(got.body, "meta/llama") {
		t.Errorf("%d %s", got.status, got.body)
	}
}
