package app

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"shareai/internal/store"
	"shareai/internal/store/storetest"
)

// The canaries: one for each slot of the configuration that takes a secret.
const (
	canary         = "canary7f3e9c"
	canaryAPIKey   = canary + "-apikey-0123456789"
	canaryProvider = canary + "-providerkey-0123456789"
	canarySealing  = canary + "-secretskey-0123456789"
	canaryDatabase = canary + "-databasepassword"
	canaryRedis    = canary + "-redispassword"
	canaryUserinfo = canary + "-userinfo"
)

// haul is everything that came out of a gateway, by where it came from.
type haul struct {
	mu   sync.Mutex
	text map[string]string
}

func (h *haul) add(where, text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.text[where] += text + "\n"
}

// search fails for each canary that is found. The API's own echo of nothing but names is fine.
func (h *haul) search(t *testing.T) {
	t.Helper()
	for where, text := range h.text {
		if at := strings.Index(text, canary); at >= 0 {
			t.Errorf("%s: …%s…", where, text[max(at-100, 0):min(at+150, len(text))])
		}
	}
}

// TestNoSecretEverComesOut puts a canary into every slot of the configuration, lets everything that can
// go wrong go wrong, and searches all that comes out.
func TestNoSecretEverComesOut(t *testing.T) { // R33
	for _, format := range []string{"text", "json"} {
		t.Run(format, func(t *testing.T) { canaries(t, format) })
	}
}

func canaries(t *testing.T, format string) {
	found := &haul{text: map[string]string{}}
	defer found.search(t)
	collector := newServer(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		found.add("traces", string(body))
	}))
	provider := httptest.NewServer(&careless{})
	defer provider.Close()

	file := strings.NewReplacer(apiKey, canaryAPIKey, "provider-secret-main", canaryProvider).Replace(yaml(provider.URL, failing...))
	redis := "127.0.0.1:1"
	options := func(s *Settings) { s.Log.Format, s.OTLPEndpoint = format, collector }
	if !testing.Short() {
		u, err := url.Parse(storetest.Postgres(t).Options.Database)
		if err != nil {
			t.Fatal(err)
		}
		u.User = url.UserPassword(u.User.Username(), canaryDatabase) // a server that trusts takes any
		file += "database: " + u.String() + "\n"
		if u, err = url.Parse(os.Getenv("SHAREAI_TEST_REDIS")); err != nil || u.Host == "" {
			t.Fatal("SHAREAI_TEST_REDIS is not set: run make test, or scripts/services.sh run go test …")
		}
		redis = u.Host
	}
	file += "secrets_key: " + canarySealing + "\nredis: redis://user:" + canaryRedis + "@" + redis + "/0\n"
	r := run(t, file, options)
	ids := requests(t, r, found)
	mistakes(t, r, file, found)

	for _, path := range []string{"/metrics", "/readyz", "/healthz", "/", "/v1/models", "/api/v1/keys"} {
		got := send(t, "GET", r.url+path, "", "Authorization", "Bearer "+canaryAPIKey)
		found.add("GET "+path, fmt.Sprint(got.header)+got.body)
	}
	if err := r.Stop(); err != nil {
		t.Error(err)
	}
	found.add("log", r.log.String())
	records(t, r, ids, found)
	files(t, r, found)
	for _, where := range []string{"log", "traces", "records", "GET /metrics", "error bodies"} {
		if len(found.text[where]) < 100 {
			t.Errorf("nothing to search in: %s", where)
		}
	}
}

// failing are the models whose provider does something careless with the key.
var failing = []string{"status-400", "status-401", "status-404", "status-429", "status-500", "html", "event", "cut", "fine"}

// careless is a provider whose errors repeat everything that it was sent, in every form.
type careless struct{}

// ServeHTTP implements http.Handler.
func (careless) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var asked struct{ Model string }
	_ = json.NewDecoder(r.Body).Decode(&asked)
	sent := r.Header.Get("Authorization")
	key := strings.TrimPrefix(sent, "Bearer ")
	text := fmt.Sprintf(`bad key %s; Authorization: %s; {"api_key":"%s"}; api-key=%s; https://user:%s@host/`, key, sent, key, key, key)
	failure, _ := json.Marshal(map[string]any{"error": map[string]any{"message": text, "type": text, "code": text, "param": key}})
	w.Header().Set("X-Echo", sent)
	var status int
	switch {
	case asked.Model == "fine":
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"id":"1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"hello"},"finish_reason":"stop"}]}`)
	case asked.Model == "html":
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<html>"+text+"</html>")
	case asked.Model == "event":
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = fmt.Fprintf(w, chunk, `{"content":"hello"}`, "null")
		_, _ = fmt.Fprintf(w, "data: %s\n\n", failure)
	case asked.Model == "cut":
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = fmt.Fprintf(w, chunk, `{"content":"hello"}`, "null")
	default:
		_, _ = fmt.Sscanf(asked.Model, "status-%d", &status)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = w.Write(failure)
	}
}

// requests makes everything fail and returns the ids of the requests.
func requests(t *testing.T, r *running, found *haul) []string {
	t.Helper()
	var ids []string
	good := []string{"Authorization", "Bearer " + canaryAPIKey, "Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
	for _, model := range failing {
		for _, body := range []string{chat(model), streamed(model)} {
			got := send(t, "POST", r.url+"/v1/chat/completions", body, good...)
			if model == "fine" && got.status != 200 && body == chat(model) {
				t.Errorf("the key does not work: %d %s", got.status, got.body)
			}
			found.add("error bodies", fmt.Sprint(got.status, got.header)+got.body)
			ids = append(ids, got.header.Get("X-Request-Id"))
		}
	}
	for _, c := range []struct{ path, body, authorization string }{
		{"/v1/chat/completions", `{"model": "` + "x", "Bearer " + canaryAPIKey},
		{"/v1/chat/completions", chat("unknown"), "Bearer " + canaryAPIKey},
		{"/v1/chat/completions", hello, "Bearer " + canaryAPIKey + "-mistyped"},
		{"/v1/chat/completions", hello, "Basic " + canaryAPIKey},
		{"/v1/embeddings", hello, "Bearer " + canaryAPIKey},
		{"/v1/nothing", "", "Bearer " + canaryAPIKey},
	} {
		got := send(t, "POST", r.url+c.path, c.body, "Authorization", c.authorization)
		found.add("error bodies", fmt.Sprint(got.status, got.header)+got.body)
	}
	return ids
}

// mistakes makes mistakes in the file, next to and inside of the secrets.
func mistakes(t *testing.T, r *running, good string, found *haul) {
	t.Helper()
	bad := map[string]string{
		"credentials in base_url":     strings.Replace(good, "http://127", "http://user:"+canaryUserinfo+"@127", 1),
		"a token in base_url":         strings.Replace(good, "http://127", "http://"+canaryUserinfo+"@127", 1),
		"a secret as a name":          strings.Replace(good, "name: main, secret: "+canaryProvider, "name: "+canaryProvider+", secret: x y", 1),
		"a secret as a field":         good + canaryProvider + ": 1\n",
		"a secret that is a list":     strings.Replace(good, "secret: "+canaryProvider, "secret: ["+canaryProvider+"]", 1),
		"a short secrets_key":         strings.Replace(good, canarySealing, canary, 1),
		"redis that is no URL":        strings.Replace(good, "redis://user:", "user:", 1),
		"a database of another kind":  good + "\n---\n" + "database: mysql://u:" + canaryDatabase + "@h/x\n",
		"the same key twice":          strings.Replace(good, "sk-shareai-narrow-0123456789", canaryAPIKey, 1),
		"YAML that breaks off":        good + "organizations: [{name: \"" + canaryAPIKey + "\n",
		"a secret in place of a list": strings.Replace(good, "keys: [{name: main, secret: "+canaryProvider+"}]", "keys: "+canaryProvider, 1),
	}
	for name, yaml := range bad {
		r.write(yaml)
		err := r.Reload()
		if err == nil {
			t.Errorf("%s: no mistake was found", name)
			continue
		}
		found.add("config errors", name+": "+err.Error())
		ready := send(t, "GET", r.url+"/readyz", "")
		found.add("readyz", ready.body)
	}
	for name, s := range map[string]Settings{
		"database": {Database: "postgres://user:" + canaryDatabase + "@127.0.0.1:1/x?connect_timeout=2"},
		"redis":    {Redis: "redis://:" + canaryRedis + "@127.0.0.1:x/0"},
		"otlp":     {OTLPEndpoint: "http://user:" + canaryUserinfo + "@127.0.0.1:1"},
	} {
		log := &output{}
		s.Listen, s.DataDir, s.Stderr, s.Log.Level = "127.0.0.1:0", t.TempDir(), log, -4
		instance, err := Start(t.Context(), s)
		if err == nil {
			t.Errorf("%s: it started", name)
			_ = instance.Stop()
			continue
		}
		found.add("start errors", name+": "+err.Error()+log.String())
	}
}

// records adds what the store has kept of the requests.
func records(t *testing.T, r *running, ids []string, found *haul) {
	t.Helper()
	boot := r.reloader.boot
	rows, err := store.Open(t.Context(), store.Options{Database: boot.Database.Reveal(), DataDir: boot.DataDir, SecretsKey: boot.SecretsKey})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	for _, id := range ids {
		record, err := rows.Record(t.Context(), id)
		if err != nil {
			t.Errorf("record %s: %v", id, err)
			continue
		}
		found.add("records", fmt.Sprintf("%+v", record))
	}
}

// files adds everything in the data directory.
func files(t *testing.T, r *running, found *haul) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(r.dir, "data"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		found.add("file "+d.Name(), string(bytes.ToValidUTF8(text, []byte("?"))))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
