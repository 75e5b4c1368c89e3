package adminapi_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"shareai/internal/account"
	"shareai/internal/adminapi"
	"shareai/internal/audit"
	"shareai/internal/catalog"
	"shareai/internal/control"
	"shareai/internal/enrol"
	"shareai/internal/fault"
	"shareai/internal/snapshot"
	"shareai/internal/store"
	"shareai/internal/store/storetest"
)

// doors let machines in over a real store.
type doors struct {
	http.Handler
	*control.Control
	keeper *snapshot.Keeper
	rows   *store.Store
	log    bytes.Buffer
}

func newDoors(t *testing.T, database storetest.Database) *doors {
	t.Helper()
	rows := database.Open(t)
	d := &doors{rows: rows}
	file := snapshot.Spec{Organizations: []account.Organization{{Name: "acme", Origin: account.FromFile}}}
	log := slog.New(slog.NewTextHandler(&d.log, nil))
	var err error
	if d.keeper, err = snapshot.NewKeeper(t.Context(), rows, file, log); err != nil {
		t.Fatal(err)
	}
	d.Control = control.New(control.Options{Rows: rows, Nodes: rows, Log: rows, File: func() snapshot.Spec { return file }, Logger: log})
	d.Handler = adminapi.NewEnrolment(adminapi.EnrolmentOptions{
		Nodes: d, Snapshots: d.keeper, Audience: "inst_test", GatewayURLs: []string{"https://ai.example"}, Log: log,
	})
	return d
}

func (d *doors) token(t *testing.T) account.Secret {
	t.Helper()
	made, err := d.CreateNodeToken(t.Context(), control.NodeTokenRequest{Organization: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	return made.Secret
}

// knock sends a body to a handler, from an address.
func knock(t *testing.T, h http.Handler, from, body string, change ...func(*http.Request)) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, enrol.Path, strings.NewReader(body))
	r.RemoteAddr = from
	r.Header.Set("Content-Type", "application/json")
	for _, c := range change {
		c(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// machine is the request of a machine with a key of its own.
func machine(t *testing.T, token string, seed byte) string {
	t.Helper()
	r := enrol.Request{Token: token, Name: "laptop", AgentVersion: "1.0", Hostname: "desk", OS: "linux", Arch: "amd64"}
	r.Sign(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize)))
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestEnrolment(t *testing.T) {
	t.Parallel()
	d := newDoors(t, storetest.SQLite(t))
	token := d.token(t).Reveal()
	w := knock(t, d, "192.0.2.7:5", machine(t, token, 1))
	var got enrol.Answer
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != http.StatusCreated || w.Header().Get("Cache-Control") != "no-store" {
		t.Fatalf("%d %s %v", w.Code, w.Body, err)
	}
	node, known := d.keeper.Current().Node(got.NodeID)
	if !known || got.Name != "laptop" || got.Organization != "acme" || got.Audience != "inst_test" || got.GatewayURLs[0] != "https://ai.example" {
		t.Errorf("known: %v, %+v", known, got)
	}
	if known && node.Keys[0].ID != got.KeyID {
		t.Errorf("key %q, want %q", got.KeyID, node.Keys[0].ID)
	}
	if again := knock(t, d, "192.0.2.7:5", machine(t, token, 1)); again.Body.String() != w.Body.String() {
		t.Errorf("asked again: %s", again.Body)
	}
	thief := knock(t, d, "198.51.100.9:5", machine(t, token, 2))
	if thief.Code != http.StatusUnauthorized || !strings.Contains(thief.Body.String(), `"code":"enrolment_token_used"`) || !strings.Contains(thief.Body.String(), `"request_id":"req_`) {
		t.Errorf("the thief got %d %s", thief.Code, thief.Body)
	}
	for where, text := range map[string]string{"the answer": w.Body.String() + thief.Body.String(), "the log": d.log.String()} {
		if strings.Contains(text, token) {
			t.Errorf("the token is in %s", where)
		}
	}
}

// Nothing that a stranger sends is repeated, and nothing of it gets further than it should.
func TestEnrolmentOfStrangers(t *testing.T) {
	t.Parallel()
	d := newDoors(t, storetest.SQLite(t))
	token := d.token(t).Reveal()
	good := machine(t, token, 1)
	as := func(change func(*http.Request)) []func(*http.Request) { return []func(*http.Request){change} }
	for name, c := range map[string]struct {
		body   string
		change []func(*http.Request)
		status int
		code   string
	}{
		"GET":              {"", as(func(r *http.Request) { r.Method = http.MethodGet }), 405, "method_not_allowed"},
		"a form":           {good, as(func(r *http.Request) { r.Header.Set("Content-Type", "application/x-www-form-urlencoded") }), 415, "unsupported_media_type"},
		"nothing":          {"", nil, 400, "invalid_request"},
		"no object":        {`["` + token + `"]`, nil, 400, "invalid_request"},
		"too much":         {strings.Replace(good, "{", "{"+strings.Repeat(" ", enrol.MaxRequest), 1), nil, 413, "request_too_large"},
		"more":             {good + good, nil, 400, "invalid_request"},
		"an unknown field": {strings.Replace(good, "{", `{"admin":true,`, 1), nil, 400, "invalid_request"},
		"another case":     {strings.Replace(good, `"token"`, `"Token"`, 1), nil, 400, "invalid_request"},
		"twice":            {strings.Replace(good, "{", `{"token":"`+token+`",`, 1), nil, 400, "invalid_request"},
		"a bad key":        {strings.Replace(good, `"public_key":"`, `"public_key":"*`, 1), nil, 400, "invalid_request"},
		"deep":             {strings.Repeat("[", 4000), nil, 400, "invalid_request"},
		"a bad proof":      {strings.Replace(good, `"laptop"`, `"other"`, 1), nil, 400, "invalid_proof"},
		"a broken token":   {machine(t, token+"\n", 1), nil, 401, "enrolment_token_unknown"},
		"another token":    {machine(t, enrol.GenerateToken().Reveal(), 1), nil, 401, "enrolment_token_unknown"},
	} {
		w := knock(t, d, "192.0.2."+fmt.Sprint(len(name))+":5", c.body, c.change...)
		if w.Code != c.status || !strings.Contains(w.Body.String(), `"code":"`+c.code+`"`) {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
		if strings.Contains(w.Body.String(), token) || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s: %s %s", name, w.Header(), w.Body)
		}
		if (c.status == http.StatusMethodNotAllowed) != (w.Header().Get("Allow") == http.MethodPost) {
			t.Errorf("%s: Allow %q", name, w.Header().Get("Allow"))
		}
	}
	if strings.Contains(d.log.String(), token) {
		t.Error("the token is in the log")
	}
	if w := knock(t, d, "192.0.2.7:5", good); w.Code != http.StatusCreated {
		t.Errorf("the token was used up by all that: %d %s", w.Code, w.Body)
	}
}

// enrollerFunc stands for the use cases.
type enrollerFunc func(from string) error

func (f enrollerFunc) EnrolNode(_ context.Context, _ enrol.Request, from string) (control.Enrolled, error) {
	return control.Enrolled{Node: catalog.Node{ID: "node_1"}}, f(from)
}

// stale is a replica that can not take changes over at the moment.
type stale struct{}

func (stale) Current() *snapshot.Snapshot     { return nil }
func (stale) Stale() bool                     { return true }
func (stale) Refresh(_ context.Context) error { return fmt.Errorf("away") }

func TestEnrolmentIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		h := adminapi.NewEnrolment(adminapi.EnrolmentOptions{
			Nodes: enrollerFunc(func(string) error { asked++; return nil }), Snapshots: stale{}, Log: slog.New(slog.DiscardHandler),
		})
		for i := range 40 {
			knock(t, h, fmt.Sprintf("[2001:db8::%x]:5", i), "{}") // one owner
		}
		w := knock(t, h, "[2001:db8::ffff]:5", "{}")
		if asked != 30 || w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") != "1" {
			t.Errorf("one owner of addresses asked %d times; then %d", asked, w.Code)
		}
		if w := knock(t, h, "192.0.2.7:5", "{}"); w.Code != http.StatusCreated || !strings.Contains(w.Body.String(), `"gateway_urls":[]`) {
			t.Errorf("another: %d %s", w.Code, w.Body)
		}
		for i := range 200 {
			knock(t, h, fmt.Sprintf("203.0.113.%d:5", i), "{}")
		}
		if w := knock(t, h, "192.0.2.8:5", "{}"); w.Code != http.StatusTooManyRequests || asked != 100 {
			t.Errorf("all of them asked %d times; then %d", asked, w.Code)
		}
		time.Sleep(10 * time.Second) // of the bubble's clock
		if w := knock(t, h, "192.0.2.8:5", "{}"); w.Code != http.StatusCreated {
			t.Errorf("later: %d", w.Code)
		}
	})
}

func TestEnrolmentThatFails(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	h := adminapi.NewEnrolment(adminapi.EnrolmentOptions{
		Nodes: enrollerFunc(func(from string) error {
			if from != "192.0.2.7" {
				return fmt.Errorf("from %q", from)
			}
			return fault.New(fault.Unavailable, "database_unavailable", "Try again.")
		}),
		Snapshots: stale{}, Log: slog.New(slog.NewTextHandler(&log, nil)),
	})
	w := knock(t, h, "192.0.2.7:5", "{}")
	if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "database_unavailable") || !strings.Contains(log.String(), "request_id=req_") {
		t.Errorf("%d %s; log: %s", w.Code, w.Body, log.String())
	}
}

// What machines did is in the audit log, and no secret is.
func TestEnrolmentIsAudited(t *testing.T) {
	t.Parallel()
	d := newDoors(t, storetest.SQLite(t))
	token := d.token(t).Reveal()
	knock(t, d, "192.0.2.7:5", machine(t, token, 1))
	knock(t, d, "198.51.100.9:5", machine(t, token, 2))
	var said []string
	err := d.rows.EachAudit(t.Context(), time.Time{}, func(r audit.Row) error {
		e, err := r.Entry()
		said = append(said, string(e.Who.Kind)+" "+e.Act+" "+e.From)
		if strings.Contains(r.Body, token) {
			t.Errorf("a secret: %s", r.Body)
		}
		return err
	})
	want := " node_token.create |node node.enrol 192.0.2.7|node node.enrol.refuse 198.51.100.9"
	if err != nil || strings.Join(said, "|") != want {
		t.Errorf("%v: %s", err, strings.Join(said, "|"))
	}
}

// Machines race for one token through two replicas; on PostgreSQL they are really at once.
func TestARaceForAToken(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(*testing.T) storetest.Database{"SQLite": storetest.SQLite, "PostgreSQL": storetest.Postgres} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if testing.Short() && name == "PostgreSQL" {
				t.Skip("needs a PostgreSQL server")
			}
			database := open(t)
			replicas := []*doors{newDoors(t, database), newDoors(t, database)}
			token := replicas[0].token(t).Reveal()
			codes := make([]int, 8)
			var group sync.WaitGroup
			for i := range codes {
				body := machine(t, token, byte(i+1))
				group.Go(func() { codes[i] = knock(t, replicas[i%2], fmt.Sprintf("192.0.2.%d:5", i), body).Code })
			}
			group.Wait()
			slices.Sort(codes)
			if codes[0] != http.StatusCreated || codes[1] != http.StatusUnauthorized || codes[len(codes)-1] != http.StatusUnauthorized {
				t.Errorf("answers %v", codes)
			}
			spec, _, err := replicas[1].rows.Load(t.Context())
			if len(spec.Nodes) != 1 || err != nil {
				t.Errorf("%d nodes: %v", len(spec.Nodes), err)
			}
			if head, err := replicas[1].rows.VerifyAudit(t.Context(), audit.Head{}); err != nil || head.Entries < 3 {
				t.Errorf("audit log: %+v, %v", head, err)
			}
			if everything := string(database.Bytes(t)); strings.Contains(everything, token) || !strings.Contains(everything, spec.Nodes[0].Token) {
				t.Error("the token can be read in the database, or nothing can")
			}
		})
	}
}
