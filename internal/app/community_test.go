package app

import (
	"encoding/json"
	"io"
	"math"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"shareai/internal/catalog"
	"shareai/internal/control"
	"shareai/internal/usage"
)

const communityFile = `
community: {enabled: true, fee: 0.1, max_price: {input: 200000, output: 400000}}
organizations:
  - name: acme
    projects:
      - name: app
        keys: [{name: main, secret: ` + apiKey + `, scopes: [inference, read]}]
  - name: rival
    community: true
    projects:
      - name: app
        keys: [{name: main, secret: ` + rivalKey + `, scopes: [inference, read]}]
  - name: outsider
    projects:
      - name: app
        keys: [{name: main, secret: ` + outsiderKey + `}]
providers:
  - {name: alpha, dialect: simulated}
models:
  - name: tiny
    deployments: [{provider: alpha, model: tiny}]
routes:
  - {name: secret, models: [tiny], policy: closed}
policies:
  - {name: open, strategy: order, order: ["community:*", alpha], community: allow}
  - {name: closed, strategy: order, order: ["community:*", alpha]}
default_policy: open
`

const outsiderKey = "sk-shareai-test-outsider-0123456789"

func withKey(key string) []string { return []string{"Authorization", "Bearer " + key} }

// R25: an organization shares its machine over a real link; another one that takes part is served by it, pays for it and
// sees so; nobody else's prompts come there; and the owner is credited, and thanked where he wants to be.
func TestACommunityNode(t *testing.T) {
	r := run(t, communityFile)
	var asked atomic.Int64
	engine := says("from the community")
	m := enrolled(t, r, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		engine(w, r)
	}, catalog.NodeModel{ID: "tiny:latest", Name: "tiny", Engine: "ollama"}, catalog.NodeModel{ID: "own", Name: "own", Engine: "ollama"})
	local, err := OpenLocal(t.Context(), r.settings)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = local.Close() }()
	offer := control.ShareRequest{
		Handle: "green-desk", DisplayName: `Green <b>Desk</b>`, Listed: true, Models: []string{"tiny"},
		Prices: []catalog.NodePrice{{Model: "*", Price: catalog.Price{Input: 100_001e9, Output: 200_000e9}}},
	}
	if _, err := local.Control.ShareNode(t.Context(), m.id, control.NodeFilter{}, offer); err != nil {
		t.Fatal(err)
	}
	ask := func(key, body string) answer {
		return send(t, http.MethodPost, r.url+"/v1/chat/completions", body, withKey(key)...)
	}
	got := r.becomes("the community answers", func() answer { return ask(rivalKey, askTiny) },
		func(a answer) bool { return a.header.Get("X-Shareai-Provider") == "community:green-desk" })
	if !strings.Contains(got.body, "from the community") || got.header.Get("X-Shareai-Deployment") != "community:green-desk/tiny:latest" || got.header.Get("X-Shareai-Cost") != "0.700003" {
		t.Errorf("%v %s", got.header, got.body)
	}
	before := asked.Load()
	closed := strings.Replace(askTiny, `"tiny"`, `"secret"`, 1)
	for _, a := range []answer{ask(rivalKey, closed), ask(outsiderKey, askTiny)} {
		if a.status != http.StatusOK || a.header.Get("X-Shareai-Provider") != "alpha" {
			t.Errorf("%d %v", a.status, a.header)
		}
	}
	if asked.Load() != before {
		t.Error("a prompt came to the node that nobody allowed it")
	}
	theirs := send(t, http.MethodGet, r.url+"/v1/models", "", withKey(rivalKey)...)
	if strings.Contains(theirs.body, `"id":"own"`) {
		t.Errorf("what is not shared is listed: %s", theirs.body)
	}
	ledgerHas(t, r, local, 1)
	contributorsSay(t, r)

	if _, err := local.Control.UnshareNode(t.Context(), m.id, control.NodeFilter{}); err != nil {
		t.Fatal(err)
	}
	r.becomes("it is not shared any more", func() answer { return ask(rivalKey, askTiny) },
		func(a answer) bool { return a.header.Get("X-Shareai-Provider") == "alpha" })
	r.becomes("nor is it listed", func() answer { return send(t, http.MethodGet, r.url+"/contributors.json", "") },
		func(a answer) bool { return a.body == "{\"contributors\":[]}\n" })
}

// ledgerHas checks who owes whom for requests of 700003 nano-dollars thousandfold.
func ledgerHas(t *testing.T, r *running, local *Local, least int64) {
	t.Helper()
	end := time.Now().Add(limit)
	var balances map[string]int64
	for {
		var err error
		if balances, err = local.Store.CommunityAccounts(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(balances) > 0 || time.Now().After(end) {
			break
		}
		<-time.After(10 * time.Millisecond)
	}
	const cost = 700_003_000
	n := -balances["organization:rival"] / cost
	if n < least || balances["organization:rival"] != -n*cost || balances["operator"] != n*cost/10 || balances["organization:acme"] != n*cost-n*cost/10 {
		t.Errorf("the accounts are %v", balances)
	}
	var statement usage.CommunityStatement
	statement, err := local.Store.CommunityStatement(t.Context(), "acme", 0, math.MaxInt64)
	if err != nil || len(statement.Lines) != 1 || statement.Lines[0].Requests != n || statement.Lines[0].PromptTokens != 3*n {
		t.Errorf("%+v %v", statement, err)
	}
	mine := r.ask(http.MethodGet, "/api/v1/community/statement?format=csv", "")
	if mine.status != http.StatusOK || !strings.Contains(mine.body, ",green-desk,tiny,") || !strings.Contains(mine.header.Get("Content-Disposition"), "community-") {
		t.Errorf("%d %s", mine.status, mine.body)
	}
	theirs := send(t, http.MethodGet, r.url+"/api/v1/community/statement", "", withKey(rivalKey)...)
	if !strings.Contains(theirs.body, `"lines":[],"earned_usd":"0","net_usd":"0","spent_usd":"0.7`) {
		t.Errorf("%d %s", theirs.status, theirs.body)
	}
}

func contributorsSay(t *testing.T, r *running) {
	t.Helper()
	text := r.becomes("the contributor is listed", func() answer { return send(t, http.MethodGet, r.url+"/contributors.json", "") },
		func(a answer) bool { return strings.Contains(a.body, "green-desk") })
	var list struct{ Contributors []contributor }
	if err := json.Unmarshal([]byte(text.body), &list); err != nil || len(list.Contributors) != 1 {
		t.Fatalf("%v %s", err, text.body)
	}
	if c := list.Contributors[0]; c.Tokens == 0 || c.Tokens%5 != 0 || len(c.Models) != 1 || c.Models[0] != "tiny" || c.Reliability != nil || c.Since != time.Now().UTC().Format(time.DateOnly) {
		t.Errorf("%+v", c)
	}
	page := send(t, http.MethodGet, r.url+"/contributors", "")
	if page.status != http.StatusOK || !strings.Contains(page.body, "Green &lt;b&gt;Desk&lt;/b&gt;") || strings.Contains(page.body, "<script") {
		t.Errorf("%d %s", page.status, page.body)
	}
	if h := page.header; !strings.HasPrefix(h.Get("Content-Security-Policy"), "default-src 'none'; style-src 'sha256-") || h.Get("Cache-Control") != "public, max-age=60" {
		t.Errorf("%v", h)
	}
	for _, what := range []string{`<html lang="en">`, "<caption", `scope="col"`, `scope="row"`, "<main>"} {
		if !strings.Contains(page.body, what) {
			t.Errorf("the page has no %s", what)
		}
	}
	if strings.Contains(page.body, "acme") || strings.Contains(text.body, "acme") {
		t.Error("the page tells whose the node is")
	}
}

// Without a community there is no page, and who did not consent is on none.
func TestContributorsConsent(t *testing.T) {
	r := run(t, strings.Replace(communityFile, "enabled: true", "enabled: false", 1))
	if a := send(t, http.MethodGet, r.url+"/contributors", ""); a.status != http.StatusNotFound {
		t.Errorf("%d %s", a.status, a.body)
	}
	r = run(t, communityFile)
	m := enrolled(t, r, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") }, catalog.NodeModel{ID: "tiny:latest", Name: "tiny", Engine: "ollama"})
	local, err := OpenLocal(t.Context(), r.settings)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = local.Close() }()
	if _, err := local.Control.ShareNode(t.Context(), m.id, control.NodeFilter{}, control.ShareRequest{Handle: "shy-desk"}); err != nil {
		t.Fatal(err)
	}
	r.becomes("the node is shared", func() answer {
		return send(t, http.MethodPost, r.url+"/v1/chat/completions", askTiny, withKey(rivalKey)...)
	}, func(a answer) bool { return a.header.Get("X-Shareai-Attempts") == "2" }) // its engine answers nonsense
	if a := send(t, http.MethodGet, r.url+"/contributors", ""); a.status != http.StatusOK || strings.Contains(a.body, "shy-desk") || !strings.Contains(a.body, "Nobody is listed yet") {
		t.Errorf("%d %s", a.status, a.body)
	}
}
