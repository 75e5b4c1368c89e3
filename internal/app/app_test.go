package app

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"shareai/internal/store"
	"shareai/internal/usage"
)

// apiKey is declared by every test's file.
const apiKey = "sk-shareai-test-0123456789abcdef"

// limit bounds what should take a moment; a test that needs it has failed.
const limit = 20 * time.Second

// output is a log that many goroutines write and a test reads.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

func (o *output) logger() *slog.Logger { return slog.New(slog.NewTextHandler(o, nil)) }

// running is an instance under test.
type running struct {
	*Instance
	t    *testing.T
	dir  string
	file string
	log  *output
	url  string // of the API
}

// run starts an instance in a directory of its own.
func run(t *testing.T, yaml string, more ...func(*Settings)) *running {
	t.Helper()
	r := &running{t: t, dir: t.TempDir(), log: &output{}}
	s := Settings{
		Listen: "127.0.0.1:0", DataDir: filepath.Join(r.dir, "data"), Version: "1.2.3-test", Stderr: r.log,
		Log: LogSettings{Level: slog.LevelDebug},
	}
	if yaml != "" {
		r.file = filepath.Join(r.dir, "shareai.yaml")
		s.ConfigFile = r.file
		r.write(yaml)
	}
	for _, m := range more {
		m(&s)
	}
	var err error
	if r.Instance, err = Start(t.Context(), s); err != nil {
		t.Fatalf("Start: %v\n%s", err, r.log)
	}
	t.Cleanup(func() {
		if err := r.Stop(); err != nil {
			t.Errorf("Stop: %v", err)
		}
		if t.Failed() {
			t.Logf("log:\n%s", r.log)
		}
	})
	r.url = "http://" + r.Addresses().API
	return r
}

// write replaces the configuration file as a deployment tool does: at once.
func (r *running) write(yaml string) {
	r.t.Helper()
	next := r.file + ".next"
	if err := os.WriteFile(next, []byte(yaml), 0o600); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Rename(next, r.file); err != nil {
		r.t.Fatal(err)
	}
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   string
}

// ask sends a request with the API key.
func (r *running) ask(method, path, body string, header ...string) answer {
	r.t.Helper()
	return send(r.t, method, r.url+path, body, append([]string{"Authorization", "Bearer " + apiKey}, header...)...)
}

func send(t *testing.T, method, url, body string, header ...string) answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	return answer{response.StatusCode, response.Header, string(text)}
}

// client keeps no connections, so that none outlive a test.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// object reads a JSON answer.
func (a answer) object(t *testing.T) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(a.body), &m); err != nil {
		t.Fatalf("status %d: %v in %q", a.status, err, a.body)
	}
	return m
}

// text reads a string inside a JSON answer: text("error", "code").
func (a answer) text(t *testing.T, path ...string) string {
	t.Helper()
	var at any = a.object(t)
	for _, name := range path {
		m, _ := at.(map[string]any)
		at = m[name]
	}
	s, _ := at.(string)
	return s
}

// eventually waits until something holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for !holds() {
		select {
		case <-deadline.C:
			t.Fatalf("not in time: %s", what)
		case <-look.C:
		}
	}
}

// record waits until the record of a request is stored.
func (r *running) record(id string) usage.Record {
	r.t.Helper()
	rows, err := store.Open(r.t.Context(), store.Options{DataDir: filepath.Join(r.dir, "data")})
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	var found usage.Record
	eventually(r.t, "record "+id, func() bool {
		found, err = rows.Record(r.t.Context(), id)
		return err == nil
	})
	return found
}

// fakeProvider is an OpenAI-compatible server. What it does with a request depends on the model.
type fakeProvider struct {
	*httptest.Server
	next chan struct{} // lets a slow stream go on
	left chan struct{} // a client of a slow stream has left
}

func newProvider(t *testing.T) *fakeProvider {
	t.Helper()
	p := &fakeProvider{next: make(chan struct{}), left: make(chan struct{}, 100)}
	p.Server = httptest.NewServer(p)
	t.Cleanup(p.Close)
	return p
}

// ServeHTTP implements http.Handler.
func (p *fakeProvider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var asked struct {
		Model  string `json:"model"`
		Stream bool   `json:"stream"`
	}
	_ = json.Unmarshal(body, &asked)
	w.Header().Set("Content-Type", "application/json")
	switch {
	case asked.Model == "echo-500" || asked.Model == "echo-401":
		// A careless provider: everything it was sent stands in its error.
		status := map[string]int{"echo-500": 500, "echo-401": 401}[asked.Model]
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{
			"message": "failed with Authorization: " + r.Header.Get("Authorization") + " api-key=" + strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ") + " for " + string(body),
			"type":    "server_error", "code": r.Header.Get("Authorization"),
		}})
	case strings.HasSuffix(r.URL.Path, "/embeddings"):
		_, _ = io.WriteString(w, `{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.5,-0.25]}],"model":"e","usage":{"prompt_tokens":2,"total_tokens":2}}`)
	case asked.Stream:
		p.stream(w, r, asked.Model)
	default:
		_, _ = io.WriteString(w, `{"id":"1","object":"chat.completion","created":1,"model":"theirs","choices":[{"index":0,"message":{"role":"assistant","content":"hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}}`)
	}
}

const chunk = `data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"theirs","choices":[{"index":0,"delta":%s,"finish_reason":%s}]}` + "\n\n"

// stream sends three words; a slow one waits to be told before each but the first.
func (p *fakeProvider) stream(w http.ResponseWriter, r *http.Request, model string) {
	w.Header().Set("Content-Type", "text/event-stream")
	_, _ = fmt.Fprintf(w, chunk, `{"role":"assistant","content":""}`, "null")
	for i, word := range []string{"one", "two", "three"} {
		if model == "slow" && i > 0 {
			select {
			case <-p.next:
			case <-r.Context().Done():
				p.left <- struct{}{}
				return
			}
		}
		_, _ = fmt.Fprintf(w, chunk, `{"content":"`+word+` "}`, "null")
		w.(http.Flusher).Flush()
	}
	_, _ = fmt.Fprintf(w, chunk, `{}`, `"stop"`)
	_, _ = io.WriteString(w, "data: [DONE]\n\n")
}

// yaml declares a key and a provider with these deployments as models of the same name.
func yaml(baseURL string, models ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `
organizations:
  - name: acme
    projects:
      - name: app
        keys:
          - {name: ci, secret: %s}
          - {name: narrow, secret: sk-shareai-narrow-0123456789, models: ["only-*"]}
providers:
  - {name: alpha, dialect: openai, base_url: "%s/v1", private_network: true, keys: [{name: main, secret: provider-secret-main}]}
  - {name: sim, dialect: simulated}
default_policy: plain
policies:
  - {name: plain, attempts: {total: 1}}
models:
`, apiKey, baseURL)
	for _, m := range models {
		fmt.Fprintf(&b, "  - {name: %s, deployments: [{provider: alpha, model: %s, price: {input: 1, output: 2}}]}\n", m, m)
	}
	b.WriteString("  - {name: simulated, deployments: [{provider: sim, model: words, price: {input: 1, output: 2}}]}\n")
	return b.String()
}

const hello = `{"model":"good","messages":[{"role":"user","content":"hi"}]}`

func chat(model string) string { return strings.Replace(hello, "good", model, 1) }

func streamed(model string) string {
	return strings.Replace(chat(model), `"messages"`, `"stream":true,"stream_options":{"include_usage":true},"messages"`, 1)
}

// events opens a stream and returns its data lines one by one.
func (r *running) events(body string, header ...string) (next func() string, leave func()) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), limit)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+apiKey)
	request.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := client.Do(request)
	if err != nil {
		r.t.Fatal(err)
	}
	lines := bufio.NewScanner(response.Body)
	leave = func() { cancel(); _ = response.Body.Close() }
	r.t.Cleanup(leave)
	return func() string {
		for lines.Scan() {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				return data
			}
		}
		return ""
	}, leave
}

// count is how many records are stored, seen after the instance has stopped.
func (r *running) count(t *testing.T) int64 {
	t.Helper()
	rows, err := store.Open(t.Context(), store.Options{DataDir: filepath.Join(r.dir, "data")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	sums, err := rows.Usage(t.Context(), store.UsageQuery{})
	if err != nil || len(sums) != 1 {
		t.Fatalf("usage %+v, %v", sums, err)
	}
	return sums[0].Requests
}

// await reads a stream up to an event that contains a text.
func await(t *testing.T, next func() string, text string) {
	t.Helper()
	for data := next(); !strings.Contains(data, text); data = next() {
		if data == "" {
			t.Fatalf("the stream ended before %q", text)
		}
	}
}
