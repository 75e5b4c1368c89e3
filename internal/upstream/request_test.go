package upstream

import (
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"shareai/internal/account"
	"shareai/internal/catalog"
)

func TestAddresses(t *testing.T) {
	for _, test := range []struct {
		dialect       catalog.Dialect
		base, version string
		endpoint      catalog.Endpoint
		want          string
	}{
		{catalog.OpenAI, "https://api.openai.com/v1", "", catalog.Chat, "https://api.openai.com/v1/chat/completions"},
		{catalog.OpenAI, "https://api.openai.com/v1/", "", catalog.Completions, "https://api.openai.com/v1/completions"},
		{catalog.OpenAI, " https://api.openai.com/v1// ", "", catalog.Embeddings, "https://api.openai.com/v1/embeddings"},
		{catalog.OpenAI, "http://10.0.0.7:8000", "", catalog.Chat, "http://10.0.0.7:8000/chat/completions"},
		{catalog.OpenAI, "http://[::1]:8000/", "", catalog.Chat, "http://[::1]:8000/chat/completions"},
		{catalog.OpenAI, "https://host.example/a%2Fb/v1?tenant=7#x", "", catalog.Chat, "https://host.example/a%2Fb/v1/chat/completions?tenant=7"},
		{catalog.OpenAI, "https://user:pass@host.example/v1", "", catalog.Chat, "https://host.example/v1/chat/completions"},
		{catalog.Azure, "https://acme.openai.azure.com", "", catalog.Chat, "https://acme.openai.azure.com/openai/deployments/alpha-large/chat/completions?api-version=2024-10-21"},
		{catalog.Azure, "https://acme.openai.azure.com/", "2025-01-01-preview", catalog.Embeddings, "https://acme.openai.azure.com/openai/deployments/alpha-large/embeddings?api-version=2025-01-01-preview"},
		{catalog.Azure, "https://acme.openai.azure.com/openai/", "2025-01-01-preview", catalog.Completions, "https://acme.openai.azure.com/openai/deployments/alpha-large/completions?api-version=2025-01-01-preview"},
		{catalog.Azure, "https://acme.openai.azure.com/openai/v1", "", catalog.Chat, "https://acme.openai.azure.com/openai/v1/chat/completions"},
		{catalog.Azure, "https://acme.openai.azure.com/openai/v1/", "preview", catalog.Chat, "https://acme.openai.azure.com/openai/v1/chat/completions?api-version=preview"},
		{catalog.Simulated, "", "", catalog.Chat, "simulated://alpha/chat/completions"},
	} {
		call := &Call{
			Target: Target{
				Provider:   &catalog.Provider{Name: "alpha", Dialect: test.dialect, BaseURL: test.base, APIVersion: test.version},
				Deployment: &catalog.Deployment{Model: "alpha-large"},
			},
			Endpoint: test.endpoint,
		}
		var book addressBook
		for range 2 { // made, then remembered
			got, err := book.find(dialects[test.dialect], call)
			if err != nil || got.String() != test.want {
				t.Errorf("%s %q: %v, %v, want %s", test.dialect, test.base, got, err, test.want)
			}
		}
	}
}

func TestDeploymentNamesAreEscaped(t *testing.T) {
	call := &Call{
		Target: Target{
			Provider:   &catalog.Provider{Dialect: catalog.Azure, BaseURL: "https://acme.openai.azure.com"},
			Deployment: &catalog.Deployment{Model: "../a/b?c#d e"},
		},
		Endpoint: catalog.Chat,
	}
	got, err := azure{}.address(call)
	if err != nil || got.EscapedPath() != "/openai/deployments/..%2Fa%2Fb%3Fc%23d%20e/chat/completions" {
		t.Errorf("%v, %v", got, err)
	}
}

func TestCallsThatHaveNoAddress(t *testing.T) {
	c := newClient(t, Options{})
	for name, spoil := range map[string]func(*Call){
		"no base URL":    func(c *Call) { c.Provider.BaseURL = "" },
		"no scheme":      func(c *Call) { c.Provider.BaseURL = "api.alpha.example/v1" },
		"another scheme": func(c *Call) { c.Provider.BaseURL = "ftp://api.alpha.example" },
		"no host":        func(c *Call) { c.Provider.BaseURL = "http:///v1" },
		"endpoint":       func(c *Call) { c.Endpoint = catalog.Responses },
	} {
		call := newCall(t, "http://127.0.0.1:1", chatRequest)
		spoil(call)
		if e := failure(t.Context(), t, c, call); e.Outcome != NotFound {
			t.Errorf("%s: %v", name, e)
		}
	}
	call := newCall(t, "http://127.0.0.1:1", chatRequest)
	call.Provider.Dialect = "klingon"
	if e := failure(t.Context(), t, c, call); e.Outcome != ClientError {
		t.Error(e)
	}
	call = newCall(t, "http://127.0.0.1:1", chatRequest)
	call.Key.Secret = account.NewSecret("sk-canary\n")
	if e := failure(t.Context(), t, c, call); e.Outcome != KeyRejected || strings.Contains(e.Error(), "canary") {
		t.Error(e)
	}
}

func TestAddressBookIsBounded(t *testing.T) {
	var book addressBook
	for i := range 3 * maxAddresses / 2 {
		call := newCall(t, "http://127.0.0.1", chatRequest)
		call.Deployment.Model = strings.Repeat("x", i%97) + string(rune('a'+i%26)) + strings.Repeat("y", i/97)
		if _, err := book.find(openAI{}, call); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(book.known); n > maxAddresses {
		t.Errorf("%d addresses are kept", n)
	}
}

// sent is what an upstream received.
type sent struct {
	path   string
	header http.Header
	body   string
}

// send makes the call and returns what the upstream received of it.
func send(t *testing.T, change func(*Call), request string) sent {
	t.Helper()
	got := make(chan sent, 1)
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- sent{r.URL.RequestURI(), r.Header, string(body)}
		if strings.Contains(r.Header.Get("Accept"), "event-stream") {
			answerWith(200, "text/event-stream", "data: [DONE]\n\n")(w, r)
			return
		}
		answerWith(200, "application/json", chatReply)(w, r)
	})
	call := newCall(t, url+"/v1", request)
	if change != nil {
		change(call)
	}
	answer, err := newClient(t, Options{UserAgent: "shareai/1.2.3"}).Do(t.Context(), call)
	if err != nil {
		t.Fatal(err)
	}
	answer.Close()
	return <-got
}

func TestHeadersUpstream(t *testing.T) {
	got := send(t, func(c *Call) { c.Traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01" }, chatRequest)
	want := http.Header{
		"Content-Type": {"application/json"}, "Accept": {"application/json"}, "User-Agent": {"shareai/1.2.3"},
		"X-Request-Id": {"req-1"}, "Traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
		"Authorization": {"Bearer sk-alpha-secret"}, "Content-Length": got.header["Content-Length"],
	}
	if diff := cmp.Diff(want, got.header); diff != "" {
		t.Error(diff)
	}
	got = send(t, func(c *Call) { c.Provider.Dialect = catalog.Azure }, chatRequest)
	if got.header.Get("Api-Key") != "sk-alpha-secret" || got.header.Get("Authorization") != "" {
		t.Errorf("azure: %v", slices.Sorted(maps.Keys(got.header)))
	}
	got = send(t, func(c *Call) { c.Key, c.RequestID = catalog.ProviderKey{}, "" }, streamRequest)
	if got.header.Get("Authorization") != "" || got.header.Get("X-Request-Id") != "" || !strings.HasPrefix(got.header.Get("Accept"), "text/event-stream") {
		t.Errorf("without a key: %v", slices.Sorted(maps.Keys(got.header)))
	}
}

func TestBodyUpstream(t *testing.T) {
	azureDialect := func(c *Call) { c.Provider.Dialect = catalog.Azure }
	limit := func(l catalog.OutputLimit) func(*Call) { return func(c *Call) { c.Provider.OutputLimit = l } }
	for _, test := range []struct {
		name          string
		change        func(*Call)
		request, want string
	}{
		{
			"the model alone", nil,
			`{ "model" : "chat", "messages":[{"role":"user","content":"h\u00e9 😀"}], "big":12345678901234567890, "x":{"model":"chat"} }`,
			`{ "model" : "alpha-large", "messages":[{"role":"user","content":"h\u00e9 😀"}], "big":12345678901234567890, "x":{"model":"chat"} }`,
		},
		{
			"the gateway's own members", nil,
			`{"model":"chat","fallbacks":["a"],"messages":[],"models":["b"],"provider":{"order":["x"]}}`,
			`{"model":"alpha-large","messages":[]}`,
		},
		{
			"usage of a stream", nil, `{"model":"chat","messages":[],"stream":true}`,
			`{"model":"alpha-large","messages":[],"stream":true,"stream_options":{"include_usage":true}}`,
		},
		{
			"other stream options", nil, `{"model":"chat","messages":[],"stream":true,"stream_options":{"include_obfuscation":false,"include_usage":false}}`,
			`{"model":"alpha-large","messages":[],"stream":true,"stream_options":{"include_obfuscation":false,"include_usage":true}}`,
		},
		{"output limit", nil, `{"model":"chat","messages":[],"max_completion_tokens":5}`, `{"model":"alpha-large","messages":[],"max_tokens":5}`},
		{"both limits", nil, `{"model":"chat","max_tokens":9,"messages":[],"max_completion_tokens":5}`, `{"model":"alpha-large","messages":[],"max_tokens":5}`},
		{"no newer limit", nil, `{"model":"chat","max_tokens":9,"messages":[],"max_completion_tokens":null}`, `{"model":"alpha-large","max_tokens":9,"messages":[]}`},
		{"older limit", nil, `{"model":"chat","max_tokens":9,"messages":[]}`, `{"model":"alpha-large","max_tokens":9,"messages":[]}`},
		{"azure as sent", azureDialect, `{"model":"chat","messages":[],"max_completion_tokens":5}`, `{"model":"alpha-large","messages":[],"max_completion_tokens":5}`},
		{"azure, older", azureDialect, `{"model":"chat","messages":[],"max_tokens":5}`, `{"model":"alpha-large","messages":[],"max_tokens":5}`},
		{"azure, both", azureDialect, `{"model":"chat","max_tokens":9,"messages":[],"max_completion_tokens":5}`, `{"model":"alpha-large","messages":[],"max_completion_tokens":5}`},
		{"as sent", limit(catalog.OutputLimitAsSent), `{"model":"chat","messages":[],"max_completion_tokens":5}`, `{"model":"alpha-large","messages":[],"max_completion_tokens":5}`},
		{"max_tokens", func(c *Call) { azureDialect(c); limit(catalog.OutputLimitMaxTokens)(c) }, `{"model":"chat","messages":[],"max_completion_tokens":5}`, `{"model":"alpha-large","messages":[],"max_tokens":5}`},
	} {
		if got := send(t, test.change, test.request); got.body != test.want {
			t.Errorf("%s:\ngot  %s\nwant %s", test.name, got.body, test.want)
		}
	}
}

func TestOutputLimitFollowsTheHost(t *testing.T) {
	for host, want := range map[string]bool{"api.openai.com": true, "API.OpenAI.com.": true, "api.openai.com.evil.example": false, "localhost": false} {
		if got := asSent(&catalog.Provider{Dialect: catalog.OpenAI}, host); got != want {
			t.Errorf("%s: %v", host, got)
		}
	}
}
