package app

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

const rehearsalKey = "sk-shareai-rehearsal-0123456789"

// twoProviders serve the model both: alpha first, then a simulated one.
func twoProviders(baseURL string) string {
	file := yaml(baseURL, "good") + `
  - {name: both, deployments: [{provider: alpha, model: good, price: {input: 1, output: 2}}, {provider: sim, model: words, price: {input: 1, output: 2}}]}
`
	file = strings.Replace(file, "attempts: {total: 1}", "order: [alpha, sim]", 1)
	return strings.Replace(file, "          - {name: narrow", "          - {name: rehearsal, secret: "+rehearsalKey+", scopes: [drills]}\n          - {name: narrow", 1)
}

// drill sends a request to the API for administration.
func drill(t *testing.T, method, url, body string) answer {
	t.Helper()
	return send(t, method, url, body, "Authorization", "Bearer "+rehearsalKey)
}

// R18: a drill is seen by the next request, in its record and in the metrics, and ends by itself.
func TestADrillGoesAllTheWay(t *testing.T) {
	provider := newProvider(t)
	r := run(t, twoProviders(provider.URL), func(s *Settings) { s.AdminListen = "127.0.0.1:0" })
	admin := "http://" + r.Addresses().Admin + "/api/v1/drills"
	served := func() answer {
		t.Helper()
		got := r.ask(http.MethodPost, "/v1/chat/completions", chat("both"))
		if got.status != http.StatusOK {
			t.Fatalf("%d %s", got.status, got.body)
		}
		return got
	}
	if got := served(); got.header.Get("X-Shareai-Provider") != "alpha" {
		t.Fatalf("before: %v", got.header)
	}
	if got := drill(t, http.MethodGet, r.url+"/api/v1/drills", ""); got.status != http.StatusNotFound {
		t.Errorf("administration is open on the API's listener: %d %s", got.status, got.body)
	}
	started := drill(t, http.MethodPost, admin, `{"provider":"alpha","fault":"503","for":"3s"}`)
	if started.status != http.StatusCreated || started.header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%d %v %s", started.status, started.header, started.body)
	}
	got := served()
	if got.header.Get("X-Shareai-Provider") != "sim" {
		t.Errorf("in the drill: %v", got.header)
	}
	id := started.text(t, "id")
	record := r.record(got.header.Get("X-Request-Id"))
	if record.Drill != id || len(record.Attempts) != 2 || record.Attempts[0].Drill != id || record.Attempts[0].Outcome != "overloaded" || record.Attempts[1].Drill != "" {
		t.Errorf("record of drill %s: %+v", id, record)
	}
	if metrics := send(t, http.MethodGet, "http://"+r.Addresses().Admin+"/metrics", "").body; !strings.Contains(metrics, `shareai_attempts_total{deployment="alpha/good",drill="true"`) {
		t.Errorf("the metrics do not know of the drill:\n%s", metrics)
	}
	eventually(t, "the drill ends by itself", func() bool { return served().header.Get("X-Shareai-Provider") == "alpha" })
	if list := drill(t, http.MethodGet, admin+"?state=all", ""); !strings.Contains(list.body, `"state":"ended"`) {
		t.Errorf("%s", list.body)
	}
}

// R18: every replica knows of a drill, and of its end, in time.
func TestADrillReachesAllReplicas(t *testing.T) {
	_, address, _ := postgres(t)
	provider := newProvider(t)
	a, b := run(t, twoProviders(provider.URL), onPostgres(address)), run(t, twoProviders(provider.URL), onPostgres(address))
	servedBy := func(want string) {
		t.Helper()
		begin := time.Now()
		for _, r := range []*running{a, b} {
			eventually(t, "it is served by "+want, func() bool {
				return r.ask(http.MethodPost, "/v1/chat/completions", chat("both")).header.Get("X-Shareai-Provider") == want
			})
		}
		if took := time.Since(begin); took > tolerance {
			t.Errorf("it took %s until all were served by %s", took, want)
		}
	}
	servedBy("alpha")
	started := drill(t, http.MethodPost, a.url+"/api/v1/drills", `{"provider":"alpha","fault":"5xx"}`)
	if started.status != http.StatusCreated {
		t.Fatalf("%d %s", started.status, started.body)
	}
	servedBy("sim")
	if got := drill(t, http.MethodDelete, b.url+"/api/v1/drills/"+started.text(t, "id"), ""); got.status != http.StatusOK {
		t.Fatalf("%d %s", got.status, got.body)
	}
	servedBy("alpha")
}
