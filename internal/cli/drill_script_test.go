package cli_test

import (
	"net/http"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// served is `served PROVIDER KEY SPAN`: within the span a chat request with the key to demo-chat is answered by
// the provider.
func served(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: served PROVIDER KEY SPAN")
	}
	span, err := time.ParseDuration(args[2])
	ts.Check(err)
	end := time.After(span)
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		r, err := http.NewRequest(http.MethodPost, ts.Getenv("URL")+"/v1/chat/completions",
			strings.NewReader(`{"model": "demo-chat", "max_tokens": 1, "messages": [{"role": "user", "content": "Hello!"}]}`))
		ts.Check(err)
		r.Header.Set("Authorization", "Bearer "+args[1])
		answer, err := http.DefaultClient.Do(r)
		ts.Check(err)
		_ = answer.Body.Close()
		got := answer.Header.Get("X-Shareai-Provider")
		if answer.StatusCode != http.StatusOK {
			ts.Fatalf("status %d", answer.StatusCode)
		}
		if got == args[0] {
			return
		}
		select {
		case <-end:
			ts.Fatalf("still %s after %s", got, span)
		case <-again.C:
		}
	}
}
