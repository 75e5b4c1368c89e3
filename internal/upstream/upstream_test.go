package upstream

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"go.uber.org/goleak"

	"shareai/internal/account"
	"shareai/internal/catalog"
	"shareai/internal/openai"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const chatRequest = `{"messages":[{"role":"user","content":"hi"}],"model":"chat"}`

const chatReply = `{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}`

// newCall is a chat call to a provider on this machine.
func newCall(t testing.TB, baseURL, body string) *Call {
	t.Helper()
	request, err := openai.ParseRequest([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return &Call{
		Target: Target{
			Provider:   &catalog.Provider{Name: "alpha", Dialect: catalog.OpenAI, BaseURL: baseURL, PrivateNetwork: true},
			Deployment: &catalog.Deployment{Provider: "alpha", Model: "alpha-large"},
			Key:        catalog.ProviderKey{Name: "main", Secret: account.NewSecret("sk-alpha-secret")},
		},
		Endpoint: catalog.Chat, Request: request, RequestID: "req-1",
	}
}

func newClient(t testing.TB, options Options) *Client {
	t.Helper()
	c := New(options)
	t.Cleanup(c.Close)
	return c
}

// serve is an upstream that is down when the test ends.
func serve(t testing.TB, handler http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL
}

func answerWith(status int, contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

// failure is the error of a call that must fail.
func failure(t testing.TB, c *Client, ctx context.Context, call *Call) *Error {
	t.Helper()
	answer, err := c.Do(ctx, call)
	if err == nil {
		answer.Close()
		t.Fatal("the call succeeded")
	}
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("error is a %T: %v", err, err)
	}
	return e
}
