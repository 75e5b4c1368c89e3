package app

import (
	"crypto/rand"
	"fmt"
	"os"
	"strings"
	"testing"
)

// budgeted returns a file in which the requests of model good have a budget at one scope.
func budgeted(baseURL, scope, organization string, nano int64) string {
	budgets := fmt.Sprintf("budgets: [{period: month, usd: %d.%09d}]", nano/1e9, nano%1e9)
	text := strings.Replace(yaml(baseURL, "good", "other"), "name: acme", "name: "+organization, 1)
	text = strings.Replace(text, "- name: app\n", "- name: app\n        labels: {team: search}\n", 1)
	project := "      - name: app\n"
	switch scope {
	case "organization":
		return strings.Replace(text, "    projects:\n", "    "+budgets+"\n    projects:\n", 1)
	case "label":
		return strings.Replace(text, "    projects:\n", "    label_limits: [{label: team, value: search, "+budgets+"}]\n    projects:\n", 1)
	case "project":
		return strings.Replace(text, project, project+"        "+budgets+"\n", 1)
	case "key":
		return strings.Replace(text, "{name: ci, ", "{name: ci, "+budgets+", ", 1)
	default:
		return strings.Replace(text, "{name: good, ", "{name: good, "+budgets+", ", 1)
	}
}

// What was spent before a restart is known after it, to the nano-dollar: one less than the budget admits, all of it
// does not. With Redis it is known to a replica with an empty one.
func TestABudgetOutlivesARestart(t *testing.T) { // R29
	provider := newServer(t, newProvider(t))
	sample := run(t, yaml(provider, "good"))
	cost := nanoOf(t, sample.ask("POST", "/v1/chat/completions", chat("good")))
	for _, redis := range []string{"", os.Getenv("SHAREAI_TEST_REDIS")} {
		for _, scope := range []string{"organization", "label", "project", "key", "model"} {
			name := scope
			if redis != "" {
				if scope == "model" {
					continue // belongs to nobody, so that runs of this test would share it
				}
				name += " with Redis"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				organization := "o" + strings.ToLower(rand.Text())
				shared := func(s *Settings) { s.Redis = redis }
				file := budgeted(provider, scope, organization, 3*cost)
				first := run(t, file, shared)
				for range 3 {
					if a := first.ask("POST", "/v1/chat/completions", chat("good")); a.status != 200 {
						t.Fatalf("%d %s", a.status, a.body)
					}
				}
				if a := first.ask("POST", "/v1/chat/completions", chat("good")); a.status != 402 {
					t.Fatalf("%d %s", a.status, a.body)
				}
				if err := first.Stop(); err != nil {
					t.Fatal(err)
				}
				for _, try := range []struct{ nano, want int64 }{{3 * cost, 402}, {3*cost + 1, 200}} {
					nano, want := try.nano, int(try.want)
					// Another database of the same Redis knows nothing.
					again := run(t, budgeted(provider, scope, organization, nano), func(s *Settings) {
						if s.DataDir = first.settings.DataDir; redis != "" {
							s.Redis = strings.TrimSuffix(redis, "/0") + "/" + map[int]string{402: "5", 200: "6"}[want]
						}
					})
					if a := again.ask("POST", "/v1/chat/completions", chat("good")); a.status != want {
						t.Errorf("with a budget of %d after %d: %d %s", nano, 3*cost, a.status, a.body)
					}
					if err := again.Stop(); err != nil {
						t.Fatal(err)
					}
				}
			})
		}
	}
}

// nanoOf reads the cost of an answer.
func nanoOf(t *testing.T, a answer) int64 {
	t.Helper()
	_, fraction, _ := strings.Cut(a.header.Get("X-Shareai-Cost"), ".")
	nano := int64(0)
	if _, err := fmt.Sscanf((fraction + "000000000")[:9], "%d", &nano); err != nil || nano == 0 {
		t.Fatalf("cost %q: %v", a.header.Get("X-Shareai-Cost"), err)
	}
	return nano
}
