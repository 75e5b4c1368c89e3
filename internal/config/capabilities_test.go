package config

import (
	"encoding/json"
	"strings"
	"testing"

	"shareai/internal/catalog"
)

// A list without entries is a statement, and is so wherever the declaration is kept.
func TestNoCapabilitiesAtAll(t *testing.T) {
	t.Parallel()
	f, err := parse("x.yaml", []byte(`
providers: [{name: alpha, dialect: simulated}]
models:
  - {name: m, capabilities: [], deployments: [{provider: alpha, model: a, capabilities: []}, {provider: alpha, model: b}]}
  - {name: n, deployments: [{provider: alpha, model: a}]}
`), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range f.Spec.Models {
		row, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		var back catalog.Model
		if err := json.Unmarshal(row, &back); err != nil {
			t.Fatal(err)
		}
		for _, m := range []catalog.Model{m, back} {
			if said := m.Name == "m"; (m.Capabilities != nil) != said || (m.Deployments[0].Capabilities != nil) != said || len(m.Capabilities) != 0 {
				t.Errorf("%+v", m)
			}
			if m.Name == "m" && m.Deployments[1].Capabilities != nil {
				t.Errorf("%+v", m.Deployments[1])
			}
		}
	}
}

func TestNoFailuresAtAll(t *testing.T) {
	t.Parallel()
	_, err := parse("x.yaml", []byte("policies: [{name: p, failover_on: []}]"), func(string) (string, bool) { return "", false })
	if err == nil || !strings.Contains(err.Error(), "leave the field out for all classes") {
		t.Errorf("%v", err)
	}
}
