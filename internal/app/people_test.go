package app

import (
	"encoding/json"
	"io"
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

// The console's admin sees the plan of the real planner for a policy that is not saved.
func TestAPlanIsPreviewed(t *testing.T) {
	t.Parallel()
	out := &output{}
	i, err := Start(t.Context(), Settings{Listen: "127.0.0.1:0", DataDir: t.TempDir(), Stderr: out})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = i.Stop() }()
	cookie := ""
	send := func(path, body string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+i.Addresses().API+"/api/v1/"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Cookie", cookie)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		if set := resp.Header.Get("Set-Cookie"); set != "" {
			cookie, _, _ = strings.Cut(set, ";")
		}
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(text)
	}
	token := setupLink.FindStringSubmatch(out.String())[1]
	for _, c := range [][2]string{
		{"setup", `{"token":"` + token + `","email":"ana@acme.example","password":"four words in a row","organization":"acme"}`},
		{"providers", `{"name":"alpha","dialect":"simulated","region":"us"}`},
		{"providers", `{"name":"beta","dialect":"simulated","region":"eu"}`},
		{"models", `{"name":"chat","deployments":[{"provider":"alpha","model":"a"},{"provider":"beta","model":"b"}]}`},
	} {
		if status, said := send(c[0], c[1]); status != http.StatusCreated {
			t.Fatalf("%s: %d %s", c[0], status, said)
		}
	}
	plan := func(policy string) string {
		t.Helper()
		status, said := send("plan", `{"request":{"model":"chat","messages":[{"role":"user","content":"hi"}]},"policy":`+policy+`,"route":{"name":"chat","models":["chat"],"policy":"p"}}`)
		if status != http.StatusOK {
			t.Fatalf("%d %s", status, said)
		}
		var p struct {
			Candidates []struct{ Deployment, Excluded string }
		}
		if err := json.Unmarshal([]byte(said), &p); err != nil {
			t.Fatal(err)
		}
		var order []string
		for _, c := range p.Candidates {
			order = append(order, strings.TrimSuffix(c.Deployment+" "+c.Excluded, " "))
		}
		return strings.Join(order, ", ")
	}
	if got := plan(`{"name":"p","order":["beta","alpha"]}`); got != "beta/b, alpha/a" {
		t.Errorf("by order: %s", got)
	}
	if got := plan(`{"name":"p","regions":["eu"]}`); !strings.Contains(got, "alpha/a region") {
		t.Errorf("by region: %s", got)
	}
}
