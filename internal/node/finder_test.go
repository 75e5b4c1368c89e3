package node

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	netstat "github.com/shirou/gopsutil/v4/net"

	"shareai/internal/account"
	"shareai/internal/catalog"
)

// pages is a server with a fixed answer for each path; what is not there is 404.
func pages(t *testing.T, answers map[string]string) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, ok := answers[r.Method+" "+r.URL.Path]
		if body, _ := io.ReadAll(r.Body); len(body) > 0 {
			if special, found := answers[r.Method+" "+r.URL.Path+" "+string(body)]; found {
				text, ok = special, true
			}
		}
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, text)
	}))
	t.Cleanup(s.Close)
	return s
}

// fixture is a recorded answer.
func fixture(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// look is a first look at a server.
func look(t *testing.T, s *httptest.Server) *engine {
	t.Helper()
	p := newProber()
	t.Cleanup(p.client.CloseIdleConnections)
	e, err := p.look(t.Context(), address{origin: s.URL}, "")
	if err != nil {
		t.Fatal(err)
	}
	e.name = string(e.kind)
	return e
}

// R22: the engines that there are, by their own words.
func TestEnginesAreTold(t *testing.T) {
	for _, c := range []struct {
		name    string
		answers map[string]string
		want    catalog.Advertised
		slots   int
	}{
		{"Ollama", map[string]string{
			"GET /": "Ollama is running", "GET /v1/models": fixture(t, "ollama/models.json"), "GET /api/version": `{"version":"0.17.4"}`,
			"GET /api/tags": fixture(t, "ollama/api-tags.json"), "GET /api/ps": fixture(t, "ollama/api-ps.json"),
			`POST /api/show {"model":"tiny-chat:latest"}`:  fixture(t, "ollama/api-show.json"),
			`POST /api/show {"model":"tiny-embed:latest"}`: `{"capabilities":["embedding"],"model_info":{"general.architecture":"bert","bert.context_length":512}}`,
		}, catalog.Advertised{
			Engines: []catalog.NodeEngine{{Name: "ollama", Kind: "ollama", Version: "0.17.4"}},
			Models: []catalog.NodeModel{
				{ID: "tiny-chat:latest", Name: "tiny-chat", Engine: "ollama", Context: 2048, Capabilities: []catalog.Capability{catalog.JSONSchema, catalog.Logprobs, catalog.Tools}},
				{ID: "tiny-embed:latest", Name: "tiny-embed", Engine: "ollama", Context: 512, Capabilities: []catalog.Capability{catalog.Embedding}},
			},
		}, 4},
		{"Ollama with a large model, one of its cloud, and an old one", map[string]string{
			"GET /": "Ollama is running", "GET /v1/models": `{"data":[{"id":"big:8b"}]}`,
			"GET /api/tags":                     `{"models":[{"name":"big:8b","digest":"1"},{"name":"huge:cloud","digest":"2","remote_host":"https://ollama.com"},{"name":"old","digest":"3"}]}`,
			`POST /api/show {"model":"big:8b"}`: `{"capabilities":["completion","vision","thinking"],"model_info":{"general.architecture":"q","q.context_length":131072}}`,
			`POST /api/show {"model":"old"}`:    `{}`,
		}, catalog.Advertised{
			Engines: []catalog.NodeEngine{{Name: "ollama", Kind: "ollama"}},
			Models: []catalog.NodeModel{
				{ID: "big:8b", Name: "big:8b", Engine: "ollama", Context: 4096, Capabilities: []catalog.Capability{catalog.JSONSchema, catalog.Logprobs, catalog.Reasoning, catalog.Vision}},
				{ID: "old", Name: "old", Engine: "ollama"},
			},
		}, 4},
		{"llama.cpp", map[string]string{
			"GET /v1/models": `{"object":"list","data":[{"id":"/models/Qwen-Q4.gguf","owned_by":"llamacpp","meta":{"n_ctx_train":32768}}]}`,
			"GET /props":     `{"default_generation_settings":{"n_ctx":8192},"total_slots":3,"modalities":{"vision":true,"audio":false},"chat_template":"{% if tools %}","build_info":"b6000"}`,
			"GET /api/tags":  `{"models":[]}`,
		}, catalog.Advertised{
			Engines: []catalog.NodeEngine{{Name: "llama.cpp", Kind: "llama.cpp", Version: "b6000"}},
			Models: []catalog.NodeModel{{
				ID: "/models/Qwen-Q4.gguf", Name: "Qwen-Q4", Engine: "llama.cpp", Context: 8192,
				Capabilities: []catalog.Capability{catalog.JSONSchema, catalog.Logprobs, catalog.Tools, catalog.Vision},
			}},
		}, 3},
		{"vLLM", map[string]string{
			"GET /v1/models": `{"object":"list","data":[{"id":"meta-llama/Llama-3.2-1B","owned_by":"vllm","max_model_len":16384},{"id":"lora","owned_by":"vllm","parent":"meta-llama/Llama-3.2-1B"}]}`,
			"GET /version":   `{"version":"0.11.0"}`,
		}, catalog.Advertised{
			Engines: []catalog.NodeEngine{{Name: "vllm", Kind: "vllm", Version: "0.11.0"}},
			Models: []catalog.NodeModel{
				{ID: "lora", Name: "lora", Engine: "vllm"},
				{ID: "meta-llama/Llama-3.2-1B", Name: "meta-llama/Llama-3.2-1B", Engine: "vllm", Context: 16384},
			},
		}, 32},
		{"LM Studio", map[string]string{
			"GET /": `{"error":"Unexpected endpoint"}`, "GET /props": `{"error":"Unexpected endpoint"}`,
			"GET /v1/models": `{"data":[{"id":"qwen-vl","owned_by":"organization_owner"}]}`,
			"GET /api/v0/models": `{"data":[{"id":"qwen-vl","type":"vlm","max_context_length":32768,"loaded_context_length":16384,"state":"loaded","capabilities":["tool_use"]},
				{"id":"nomic","type":"embeddings","max_context_length":2048},{"id":"cold","type":"llm","max_context_length":131072,"state":"not-loaded"}]}`,
		}, catalog.Advertised{
			Engines: []catalog.NodeEngine{{Name: "lmstudio", Kind: "lmstudio"}},
			Models: []catalog.NodeModel{
				{ID: "cold", Name: "cold", Engine: "lmstudio", Context: 4096, Capabilities: []catalog.Capability{catalog.JSONSchema}},
				{ID: "nomic", Name: "nomic", Engine: "lmstudio", Context: 2048, Capabilities: []catalog.Capability{catalog.Embedding}},
				{ID: "qwen-vl", Name: "qwen-vl", Engine: "lmstudio", Context: 16384, Capabilities: []catalog.Capability{catalog.JSONSchema, catalog.Tools, catalog.Vision}},
			},
		}, 4},
		{"any other", map[string]string{
			"GET /v1/models": `{"data":[{"id":"a","context_length":1000},{"id":""},{"id":"b\u0000"},{"id":"a"}]}`,
		}, catalog.Advertised{
			Engines: []catalog.NodeEngine{{Name: "openai", Kind: "openai"}},
			Models:  []catalog.NodeModel{{ID: "a", Name: "a", Engine: "openai", Context: 1000}},
		}, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := look(t, pages(t, c.answers))
			if diff := cmp.Diff(c.want, advertised("", []*engine{e})); diff != "" || e.slots != c.slots {
				t.Errorf("%d slots, -want +got:\n%s", e.slots, diff)
			}
		})
	}
}

func TestWhatIsNoEngine(t *testing.T) {
	p := newProber()
	t.Cleanup(p.client.CloseIdleConnections)
	ours := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Shareai-Provider", "x")
		_, _ = io.WriteString(w, `{"data":[{"id":"a"}]}`)
	}))
	defer ours.Close()
	elsewhere := pages(t, map[string]string{"GET /v1/models": `{"data":[{"id":"a"}]}`})
	redirect := httptest.NewServer(http.RedirectHandler(elsewhere.URL+"/v1/models", http.StatusFound))
	defer redirect.Close()
	for name, s := range map[string]*httptest.Server{
		"a gateway of ours": ours, "a redirect": redirect, "a web server": pages(t, map[string]string{"GET /v1/models": "<html>"}),
		"some API": pages(t, map[string]string{"GET /v1/models": `{"items":[]}`}),
	} {
		if e, err := p.look(t.Context(), address{origin: s.URL}, ""); err == nil {
			t.Errorf("%s passed for an engine: %+v", name, e)
		}
	}
}

// hunt is a finder that sees the given servers on loopback.
func hunt(t *testing.T, s Settings, seen *atomic.Pointer[[]netip.AddrPort], gateways ...string) *finder {
	t.Helper()
	s.Log = slog.New(slog.DiscardHandler)
	s.listeners = func(context.Context) ([]netip.AddrPort, error) { return *seen.Load(), nil }
	given, err := parseAddresses(s.Engines)
	if err != nil {
		t.Fatal(err)
	}
	f := newFinder(&s, given, gateways)
	t.Cleanup(f.prober.client.CloseIdleConnections)
	return f
}

func names(engines []*engine) string {
	var list []string
	for _, e := range engines {
		list = append(list, fmt.Sprintf("%s:%d", e.name, len(e.models)))
	}
	return strings.Join(list, " ")
}

// only leaves out what happens to run on the usual ports of the machine of the test.
func only(engines []*engine, servers ...*httptest.Server) []*engine {
	var kept []*engine
	for _, e := range engines {
		for _, s := range servers {
			if e.address.origin == s.URL {
				kept = append(kept, e)
			}
		}
	}
	return kept
}

func place(s *httptest.Server) netip.AddrPort {
	return netip.MustParseAddrPort(s.Listener.Addr().String())
}

func TestFinderNoticesComingAndGoing(t *testing.T) {
	one := pages(t, map[string]string{"GET /v1/models": `{"data":[{"id":"a"}]}`})
	var asked atomic.Int64
	stranger := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		http.NotFound(w, r)
	}))
	defer stranger.Close()
	gateway := pages(t, map[string]string{"GET /v1/models": `{"data":[{"id":"a"}]}`})
	var seen atomic.Pointer[[]netip.AddrPort]
	seen.Store(&[]netip.AddrPort{place(one), place(stranger), place(gateway)})
	f := hunt(t, Settings{Discover: DiscoverAll}, &seen, gateway.URL)

	for range 3 {
		if got := names(only(f.scan(t.Context()), one, stranger, gateway)); !strings.HasSuffix(got, ":1") || strings.Contains(got, " ") {
			t.Fatalf("found %q", got)
		}
	}
	if asked.Load() != 1 {
		t.Errorf("a server that is no engine was asked %d times", asked.Load())
	}
	name := names(only(f.list(), one))
	at := one.Listener.Addr().String()
	one.CloseClientConnections()
	one.Close()
	seen.Store(&[]netip.AddrPort{place(stranger)})
	if got := only(f.scan(t.Context()), one); len(got) != 0 {
		t.Errorf("an engine that is gone: %s", names(got))
	}
	l, err := net.Listen("tcp", at)
	if err != nil {
		t.Skipf("the port was taken by somebody else: %v", err)
	}
	again := &http.Server{Handler: one.Config.Handler}
	go func() { _ = again.Serve(l) }()
	defer func() { _ = again.Close() }()
	seen.Store(&[]netip.AddrPort{netip.MustParseAddrPort(at)})
	if got := names(only(f.scan(t.Context()), one)); got != name {
		t.Errorf("it came back as %q, was %q", got, name)
	}
}

func TestEnginesThatAreNamed(t *testing.T) {
	wantsKey := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer let-me-in" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if r.URL.Path == "/below/v1/models" {
			_, _ = io.WriteString(w, `{"data":[{"id":"same"}]}`)
			return
		}
		http.NotFound(w, r)
	}))
	defer wantsKey.Close()
	other := pages(t, map[string]string{"GET /v1/models": `{"data":[{"id":"same"}]}`})
	var seen atomic.Pointer[[]netip.AddrPort]
	seen.Store(&[]netip.AddrPort{place(other), place(wantsKey)})
	f := hunt(t, Settings{Discover: DiscoverOff, Engines: []EngineAddress{
		{URL: wantsKey.URL + "/below/v1", Name: "mine", Key: account.NewSecret("let-me-in")}, {URL: other.URL + "/v1/"}, {URL: "http://127.0.0.1:1"},
	}}, &seen)
	engines := f.scan(t.Context())
	if got := names(engines); got != "mine:1 openai:1" {
		t.Fatalf("found %q", got)
	}
	if missing := f.missing(); len(missing) != 1 || !strings.Contains(missing[0], "nothing listens there") {
		t.Errorf("missing: %q", missing)
	}
	var ids []string
	for _, m := range advertised("", engines).Models {
		ids = append(ids, m.ID)
	}
	if diff := cmp.Diff([]string{"same", "openai/same"}, ids); diff != "" {
		t.Error(diff)
	}
	for name, engine := range map[string]string{"same": "mine", "openai/same": "openai", "mine/same": "mine"} {
		if at, ok := find(engines, name); !ok || at.engine.name != engine {
			t.Errorf("%s was found at %+v", name, at.engine)
		}
	}
	if _, ok := find(engines, "other"); ok {
		t.Error("a model was found that nobody has")
	}
}

func TestASlowEngineIsNotGone(t *testing.T) {
	var slow atomic.Bool
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if slow.Load() {
			panic(http.ErrAbortHandler)
		}
		_, _ = io.WriteString(w, `{"data":[{"id":"a"}]}`)
	}))
	defer s.Close()
	var seen atomic.Pointer[[]netip.AddrPort]
	seen.Store(&[]netip.AddrPort{})
	f := hunt(t, Settings{Discover: DiscoverOff, Engines: []EngineAddress{{URL: s.URL}}}, &seen)
	f.scan(t.Context())
	slow.Store(true)
	for n, want := range []int{1, 1, 0} {
		if got := f.scan(t.Context()); len(got) != want {
			t.Errorf("after %d failures there are %d engines, want %d", n+1, len(got), want)
		}
	}
	slow.Store(false)
	if got := f.scan(t.Context()); len(got) != 1 {
		t.Error("it did not come back")
	}
}

func TestListenersOfThisMachine(t *testing.T) {
	s := pages(t, nil)
	list, err := loopbackListeners(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, l := range list {
		found = found || l == place(s)
		if !l.Addr().IsLoopback() {
			t.Errorf("%s is not on loopback", l)
		}
	}
	if !found {
		t.Errorf("%s is not among %v", place(s), list)
	}
}

func TestPlainNames(t *testing.T) {
	for id, want := range map[string]string{
		"tiny:latest": "tiny", "llama3:8b": "llama3:8b", "/models/a/Qwen-Q4.gguf": "Qwen-Q4", `C:\models\x.gguf`: "x",
		"big-00001-of-00003.gguf": "big", "meta-llama/Llama": "meta-llama/Llama", ":latest": ":latest",
	} {
		if got := plainName(id); got != want {
			t.Errorf("%q is %q, want %q", id, got, want)
		}
	}
}

func TestAddresses(t *testing.T) {
	for given, want := range map[string]string{
		"http://127.0.0.1:11434": "http://127.0.0.1:11434", "http://localhost:8000/v1": "http://localhost:8000", "https://box.lan/llm/v1/": "https://box.lan/llm",
	} {
		if a, err := parseAddress(EngineAddress{URL: given}); err != nil || a.url("") != want {
			t.Errorf("%s is %s, %v", given, a.url(""), err)
		}
	}
	for _, given := range []string{"", "127.0.0.1:11434", "ftp://x", "http://user:secret@box", "http://x?key=secret"} {
		if _, err := parseAddress(EngineAddress{URL: given}); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", given, err)
		}
	}
	for url, want := range map[string]uint16{"http://localhost:8080": 8080, "https://127.0.0.1": 443, "http://[::1]:9": 9, "https://ai.example.com:8080": 0, "": 0} {
		if got := localPort(url); got != want {
			t.Errorf("the local port of %q is %d, want %d", url, got, want)
		}
	}
}

// ownListeners are the TCP listeners of this process.
func ownListeners(t *testing.T) ([]netip.AddrPort, error) {
	t.Helper()
	connections, err := netstat.ConnectionsPidWithContext(t.Context(), "tcp", int32(os.Getpid()))
	var list []netip.AddrPort
	for i := range connections {
		if c := &connections[i]; strings.EqualFold(c.Status, "LISTEN") {
			list = append(list, netip.AddrPortFrom(netip.MustParseAddr(c.Laddr.IP), uint16(c.Laddr.Port)))
		}
	}
	return list, err
}
