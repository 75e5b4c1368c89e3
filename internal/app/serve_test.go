package app

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"shareai/internal/catalog"
)

func TestARequestGoesAllTheWay(t *testing.T) { // R1, R10, R37
	provider := newProvider(t)
	r := run(t, yaml(provider.URL, "good"))

	got := r.ask(http.MethodPost, "/v1/chat/completions", hello)
	if got.status != http.StatusOK || !strings.Contains(got.body, `"content":"hello"`) {
		t.Fatalf("status %d: %s", got.status, got.body)
	}
	if got.text(t, "model") != "good" || got.header.Get("X-Shareai-Provider") != "alpha" || got.header.Get("X-Shareai-Cost") != "0.00002" {
		t.Errorf("header %v, body %s", got.header, got.body)
	}
	record := r.record(got.header.Get("X-Request-Id"))
	if record.Organization != "acme" || record.Project != "app" || record.Model != "good" || record.Deployment != "alpha/good" ||
		record.Tokens != (catalog.Tokens{Prompt: 10, Completion: 5}) || record.Cost != 20_000 || record.Status != 200 || len(record.Attempts) != 1 {
		t.Errorf("record %+v", record)
	}
}

func TestAStreamGoesAllTheWay(t *testing.T) { // R1
	provider := newProvider(t)
	r := run(t, yaml(provider.URL, "good"))
	next, _ := r.events(streamed("good"))
	var said strings.Builder
	last := ""
	for data := next(); data != ""; data = next() {
		last = data
		for _, word := range []string{"one ", "two ", "three "} {
			if strings.Contains(data, word) {
				said.WriteString(word)
			}
		}
	}
	if said.String() != "one two three " || last != "[DONE]" {
		t.Errorf("said %q, last event %q", said.String(), last)
	}
}

func TestEveryEndpointIsServed(t *testing.T) { // R1, R2, R3
	provider := newProvider(t)
	r := run(t, yaml(provider.URL, "good"))
	for _, c := range []struct{ method, path, body, want string }{
		{"POST", "/v1/chat/completions", chat("simulated"), `"finish_reason":`},
		{"POST", "/v1/chat/completions", streamed("simulated"), "data: [DONE]"},
		{"POST", "/v1/completions", `{"model":"simulated","prompt":"hi"}`, `"object":"text_completion"`},
		{"POST", "/v1/embeddings", `{"model":"good","input":"hi"}`, `"embedding":[0.5,-0.25]`},
		{"GET", "/v1/models", "", `"id":"good"`},
		{"GET", "/v1/models/good", "", `"object":"model"`},
	} {
		if got := r.ask(c.method, c.path, c.body); got.status != http.StatusOK || !strings.Contains(got.body, c.want) {
			t.Errorf("%s %s: status %d: %s", c.method, c.path, got.status, got.body)
		}
	}
}

func TestWhatIsWrongIsSaid(t *testing.T) { // R4
	provider := newProvider(t)
	r := run(t, yaml(provider.URL, "good"))
	narrow := []string{"Authorization", "Bearer sk-shareai-narrow-0123456789"}
	for _, c := range []struct {
		name, method, path, body string
		header                   []string
		status                   int
		code                     string
	}{
		{"no key", "POST", "/v1/chat/completions", hello, []string{"Authorization", ""}, 401, "missing_api_key"},
		{"unknown key", "POST", "/v1/chat/completions", hello, []string{"Authorization", "Bearer sk-nobody-0123456789"}, 401, "invalid_api_key"},
		{"model not allowed", "POST", "/v1/chat/completions", hello, narrow, 403, "model_not_allowed"},
		{"unknown model", "POST", "/v1/chat/completions", chat("other"), nil, 404, "model_not_found"},
		{"unknown path of the API", "POST", "/v1/other", hello, nil, 404, "unknown_url"},
		{"unknown path of administration", "GET", "/api/v1/other", "", nil, 404, "unknown_url"},
		{"unknown path", "GET", "/other", "", nil, 404, "unknown_url"},
		{"wrong method", "GET", "/v1/chat/completions", "", nil, 405, "method_not_allowed"},
		{"wrong method of a page", "POST", "/metrics", "{}", nil, 405, "method_not_allowed"},
		{"wrong type", "POST", "/v1/chat/completions", hello, []string{"Content-Type", "text/plain"}, 415, "unsupported_content_type"},
		{"malformed", "POST", "/v1/chat/completions", `{"model":`, nil, 400, ""},
	} {
		got := r.ask(c.method, c.path, c.body, c.header...)
		code := got.text(t, "error", "code")
		if got.status != c.status || c.code != "" && code != c.code {
			t.Errorf("%s: status %d, code %s: %s", c.name, got.status, code, got.body)
		}
		if got.text(t, "error", "message") == "" || got.text(t, "error", "request_id") != got.header.Get("X-Request-Id") {
			t.Errorf("%s: not the shape of an error: %s", c.name, got.body)
		}
	}
	for name, head := range map[string]string{
		"a body that is announced too large": "Content-Length: 33554433\r\n",
	} {
		if got := raw(t, r, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+apiKey+"\r\nContent-Type: application/json\r\n"+head+"\r\n"); !strings.HasPrefix(got, "HTTP/1.1 413 ") {
			t.Errorf("%s: %q", name, got)
		}
	}
	huge := "GET /v1/models HTTP/1.1\r\nHost: x\r\nX-Long: " + strings.Repeat("x", 80<<10) + "\r\n\r\n"
	if got := raw(t, r, huge); !strings.HasPrefix(got, "HTTP/1.1 431 ") {
		t.Errorf("80 KiB of headers: %q", got)
	}
}

// raw sends bytes and returns the first line of what comes back.
func raw(t *testing.T, r *running, request string) string {
	t.Helper()
	c, err := net.Dial("tcp", r.Addresses().API)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	go func() { _, _ = io.WriteString(c, request) }() // the server may answer before it has read all
	var line strings.Builder
	one := make([]byte, 1)
	for {
		if _, err := c.Read(one); err != nil || one[0] == '\r' {
			return line.String()
		}
		line.Write(one)
	}
}

func TestTheClientsLeavingStopsTheProvider(t *testing.T) {
	provider := newProvider(t)
	r := run(t, yaml(provider.URL, "slow"))
	next, leave := r.events(streamed("slow"))
	await(t, next, "one")
	leave()
	<-provider.left
}

func TestAFailoverIsSeenInMetricsAndRecord(t *testing.T) { // R5, R37
	provider := newProvider(t)
	file := yaml(provider.URL, "echo-500") + `
  - name: both
    deployments:
      - {provider: alpha, model: echo-500, price: {input: 1, output: 2}}
      - {provider: sim, model: words, price: {input: 1, output: 2}}
`
	file = strings.Replace(file, "attempts: {total: 1}", "order: [alpha, sim]", 1)
	r := run(t, file)
	got := r.ask(http.MethodPost, "/v1/chat/completions", chat("both"))
	if got.status != http.StatusOK || got.header.Get("X-Shareai-Provider") != "sim" {
		t.Fatalf("status %d by %s: %s", got.status, got.header.Get("X-Shareai-Provider"), got.body)
	}
	if record := r.record(got.header.Get("X-Request-Id")); len(record.Attempts) < 2 || record.Attempts[0].Outcome != "server_error" {
		t.Errorf("attempts %+v", record.Attempts)
	}
	metrics := r.ask(http.MethodGet, "/metrics", "").body
	for _, line := range []string{
		`shareai_requests_total{drill="",endpoint="chat",model="both",provider="sim",status="200"} 1`,
		`shareai_attempts_total{deployment="sim/words",drill="",kind="first",model="both",outcome="ok",provider="sim"} 1`,
		`shareai_attempts_total{deployment="alpha/echo-500",drill="",kind="first",model="both",outcome="server_error",provider="alpha"}`,
		`shareai_build_info{`,
		`shareai_config_failing 0`,
	} {
		if !strings.Contains(metrics, line) {
			t.Errorf("metrics lack %s", line)
		}
	}
}

func TestHealthAndHomeOnOneListener(t *testing.T) {
	r := run(t, yaml("http://127.0.0.1:1", "good"))
	if got := r.ask("GET", "/healthz", ""); got.status != 200 || got.text(t, "status") != "ok" {
		t.Errorf("healthz: %d %s", got.status, got.body)
	}
	if got := r.ask("GET", "/readyz", ""); got.status != 200 || got.text(t, "status") != "ready" {
		t.Errorf("readyz: %d %s", got.status, got.body)
	}
	home := send(t, "GET", r.url+"/", "")
	for _, part := range []string{"1.2.3-test", "curl " + r.url + "/v1/chat/completions", "/healthz"} {
		if !strings.Contains(home.body, part) {
			t.Errorf("the home page lacks %q", part)
		}
	}
	if home.status != 200 || strings.Contains(home.body, "<script") || strings.Contains(home.body, "good") {
		t.Errorf("home: %d %s", home.status, home.body)
	}
}

func TestTheHomePagesPolicyAllowsItsStyleAndNothingElse(t *testing.T) {
	r := run(t, "")
	home := send(t, "GET", r.url+"/", "", "X-Forwarded-Proto", "https")
	policy := home.header.Get("Content-Security-Policy")
	_, rest, _ := strings.Cut(home.body, "<style>")
	style, _, _ := strings.Cut(rest, "</style>")
	if want := "style-src 'sha256-" + sha256Base64(style) + "'"; !strings.Contains(policy, want) {
		t.Errorf("policy %q, the style needs %q", policy, want)
	}
	for _, want := range []string{"default-src 'none'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"} {
		if !strings.Contains(policy, want) {
			t.Errorf("policy %q lacks %q", policy, want)
		}
	}
	if home.header.Get("X-Content-Type-Options") != "nosniff" || !strings.Contains(home.body, "curl https://") {
		t.Errorf("header %v\n%s", home.header, home.body)
	}
	if got := send(t, "GET", r.url+"/", "", "Host", `x"><script>alert(1)</script>`); strings.Contains(got.body, "<script") {
		t.Errorf("the Host header is not escaped:\n%s", got.body)
	}
}

func TestAdministrationCanHaveAListenerOfItsOwn(t *testing.T) {
	r := run(t, yaml("http://127.0.0.1:1", "good"), func(s *Settings) { s.AdminListen = "127.0.0.1:0" })
	admin := "http://" + r.Addresses().Admin
	for _, c := range []struct {
		path                string
		onAPI, onManagement int
	}{
		{"/healthz", 200, 200},
		{"/readyz", 200, 200},
		{"/", 404, 200},
		{"/metrics", 404, 200},
		{"/v1/models", 200, 404},
		{"/api/v1/keys", 404, 401},
		{"/debug/pprof/", 404, 404},
	} {
		if got := r.ask("GET", c.path, ""); got.status != c.onAPI {
			t.Errorf("%s on the API's listener: %d", c.path, got.status)
		}
		if got := send(t, "GET", admin+c.path, ""); got.status != c.onManagement {
			t.Errorf("%s on the listener for administration: %d", c.path, got.status)
		}
	}
	if home := send(t, "GET", admin+"/", ""); !strings.Contains(home.body, "curl "+r.url+"/v1/") {
		t.Errorf("the home page does not name the API's address:\n%s", home.body)
	}
}

func TestAPanicEndsOneRequestOnly(t *testing.T) {
	r := run(t, "")
	s := r.site
	s.api = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("boom Bearer abcdef123456") })
	server := newServer(t, s.public())
	if _, err := client.Get(server + "/v1/x"); err == nil {
		t.Error("a panic behind /v1 was answered")
	}
	page := newServer(t, s.page(func(http.ResponseWriter, *http.Request) { panic("boom") }))
	if got := send(t, "GET", page, ""); got.status != 500 || got.text(t, "error", "code") != "internal_error" {
		t.Errorf("a panic in a page: %d %s", got.status, got.body)
	}
	if got := send(t, "GET", server+"/healthz", ""); got.status != 200 {
		t.Errorf("healthz after panics: %d", got.status)
	}
	if log := r.log.String(); strings.Count(log, "panic in a request") != 2 || strings.Contains(log, "abcdef123456") {
		t.Errorf("log:\n%s", log)
	}
}

func TestWithoutConfigurationTheTerminalSaysWhatToDo(t *testing.T) {
	r := run(t, "", func(s *Settings) { s.Program = "bin/shareai" })
	log := r.log.String()
	for _, part := range []string{
		"http://" + r.Addresses().API + "/v1",
		"bin/shareai keys create --name first --data-dir ",
		"bin/shareai serve --config shareai.yaml",
		"base_url: https://",
	} {
		if !strings.Contains(log, part) {
			t.Errorf("the terminal lacks %q:\n%s", part, log)
		}
	}
	if got := r.ask("GET", "/v1/models", ""); got.status != 401 {
		t.Errorf("models without any key: %d", got.status)
	}
}

func TestAMachinesLogAndAConfiguredGatewayGetNoWelcome(t *testing.T) {
	machine := run(t, "", func(s *Settings) { s.Log.Format = "json" })
	configured := run(t, yaml("http://127.0.0.1:1", "good"))
	for _, r := range []*running{machine, configured} {
		if strings.Contains(r.log.String(), "keys create") {
			t.Errorf("a welcome:\n%s", r.log)
		}
	}
	for line := range strings.Lines(machine.log.String()) {
		if !strings.HasPrefix(line, "{") {
			t.Errorf("not JSON: %s", line)
		}
	}
}

func TestTheWelcomesFileIsValid(t *testing.T) {
	r := run(t, "")
	text := r.welcomeText(r.reloader.boot)
	_, rest, _ := strings.Cut(text, "start it with that file:\n\n")
	example, _, _ := strings.Cut(rest, "\n\n")
	var file strings.Builder
	for line := range strings.Lines(example) {
		file.WriteString(strings.TrimPrefix(line, "     "))
	}
	configured := run(t, file.String(), func(s *Settings) {
		s.Getenv = func(name string) (string, bool) { return "provider-key-from-env", name == "OPENAI_API_KEY" }
	})
	if names := configured.reloader.keeper.Current().Names(); fmt.Sprint(names) != "[gpt-4o-mini]" {
		t.Errorf("models %v", names)
	}
}
