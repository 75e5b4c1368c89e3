package app

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

var setupLink = regexp.MustCompile(`http://127\.0\.0\.1:\d+/setup#token=(\S+)`)

// Without a configuration and a user, the terminal has a link that makes the first owner, once.
func TestTheFirstOwnerComesByTheTerminal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	start := func() (*Instance, *output) {
		t.Helper()
		out := &output{}
		i, err := Start(t.Context(), Settings{Listen: "127.0.0.1:0", DataDir: dir, Stderr: out, Program: "shareai"})
		if err != nil {
			t.Fatal(err)
		}
		return i, out
	}
	i, out := start()
	link := setupLink.FindStringSubmatch(out.String())
	if link == nil {
		t.Fatalf("no link: %s", out)
	}
	send := func(path, body, cookie string) (*http.Response, string) {
		t.Helper()
		method := http.MethodGet
		if body != "" {
			method = http.MethodPost
		}
		r, err := http.NewRequestWithContext(t.Context(), method, "http://"+i.Addresses().API+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		if cookie != "" {
			r.Header.Set("Cookie", cookie)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		var said struct{ Kind, Error any }
		_ = json.NewDecoder(resp.Body).Decode(&said)
		cookie, _, _ = strings.Cut(resp.Header.Get("Set-Cookie"), ";")
		return resp, cookie
	}
	setup := `{"token":"` + link[1] + `","email":"ana@acme.example","password":"four words in a row","organization":"acme"}`
	resp, cookie := send("/api/v1/setup", setup, "")
	if resp.StatusCode != http.StatusCreated || cookie == "" {
		t.Fatalf("%d", resp.StatusCode)
	}
	if resp, _ := send("/api/v1/setup", setup, ""); resp.StatusCode != http.StatusNotFound {
		t.Errorf("the link works again: %d", resp.StatusCode)
	}
	if resp, _ := send("/api/v1/providers", `{"name":"gamma","dialect":"simulated"}`, cookie); resp.StatusCode != http.StatusCreated {
		t.Errorf("the owner may not add a provider: %d", resp.StatusCode)
	}
	if err := i.Stop(); err != nil {
		t.Fatal(err)
	}
	again, out := start()
	defer func() { _ = again.Stop() }()
	if setupLink.MatchString(out.String()) {
		t.Errorf("there is a user, and a link all the same: %s", out)
	}
	i = again
	if resp, _ := send("/api/v1/me", "", cookie); resp.StatusCode != http.StatusOK {
		t.Errorf("the session did not survive: %d", resp.StatusCode)
	}
}
