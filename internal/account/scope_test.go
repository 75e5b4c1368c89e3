package account

import (
	"strings"
	"testing"
)

func TestScopes(t *testing.T) {
	for _, c := range []struct {
		scopes            []Scope
		inference, drills bool
	}{
		{nil, true, false},
		{[]Scope{ScopeInference}, true, false},
		{[]Scope{ScopeDrills}, false, true},
		{Scopes, true, true},
	} {
		k := &APIKey{Scopes: c.scopes}
		if k.May(ScopeInference) != c.inference || k.May(ScopeDrills) != c.drills {
			t.Errorf("%v: inference %t, drills %t", c.scopes, k.May(ScopeInference), k.May(ScopeDrills))
		}
	}
	for _, s := range Scopes {
		if err := CheckScope(s); err != nil {
			t.Error(err)
		}
	}
	if err := CheckScope("everything"); err == nil || !strings.Contains(err.Error(), "drills") {
		t.Errorf("an unknown scope: %v", err)
	}
}
