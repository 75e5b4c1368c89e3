package cli_test

import (
	"net/http"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// served is `served PROVIDER KEY SPAN`: within the span a chat request with the key to demo-chat is answered by
// the provider.
func served(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: served PROVIDER KEY SPAN")
	}
	await(ts, args[0], args[2], func() string {
		r, err := http.NewRequest(http.MethodPost, ts.Getenv("URL")+"/v1/chat/completions",
			strings.NewReader(`{"model": "demo-chat", "max_tokens": 1, "messages": [{"role": "user", "content": "Hello!"}]}`))
		ts.Check(err)
		r.Header.Set("Authorization", "Bearer "+args[1])
		answer, err := http.DefaultClient.Do(r)
		ts.Check(err)
		_ = answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			ts.Fatalf("status %d", answer.StatusCode)
		}
		return answer.Header.Get("X-Shareai-Provider")
	})
}
