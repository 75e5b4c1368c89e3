package account

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestASecretCanNotBePrinted(t *testing.T) {
	const canary = "canary-9f8e7d"
	s := NewSecret(canary)
	holder := struct {
		S Secret
		P *Secret
		M map[string]Secret
		u Secret
		n struct{ s Secret }
	}{S: s, P: &s, M: map[string]Secret{"k": s}, u: s, n: struct{ s Secret }{s}}
	var out strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb+" "+verb+" "+verb+"\n", s, holder, &holder)
	}
	j, err := json.Marshal(holder)
	if err != nil {
		t.Fatal(err)
	}
	out.Write(j)
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "secret", s, "holder", holder)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "secret", s, "holder", holder)
	for _, form := range []string{canary, fmt.Sprintf("%x", canary)} {
		if strings.Contains(out.String(), form) {
			t.Fatalf("the secret was printed:\n%s", out.String())
		}
	}
	if s.Reveal() != canary {
		t.Error("Reveal does not give the value")
	}
}

func TestKeyState(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name string
		key  APIKey
		want State
	}{
		{"never expires", APIKey{}, Active},
		{"expires later", APIKey{Expires: now.Add(time.Second)}, Active},
		{"expires now", APIKey{Expires: now}, Expired},
		{"revoked", APIKey{RevokedAt: now.Add(-time.Hour)}, Revoked},
		{"revoked and expired", APIKey{RevokedAt: now.Add(-time.Hour), Expires: now.Add(-time.Minute)}, Revoked},
	} {
		if got := c.key.StateAt(now); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func TestKeyAllows(t *testing.T) {
	for _, c := range []struct {
		models []string
		model  string
		want   bool
	}{
		{nil, "any", true},
		{[]string{"*"}, "meta/llama", true},
		{[]string{"gpt-4o"}, "gpt-4o", true},
		{[]string{"gpt-4o"}, "gpt-4o-mini", false},
		{[]string{"gpt-*"}, "gpt-4o-mini", true},
		{[]string{"gpt-*"}, "llama", false},
		{[]string{"a", "l*"}, "llama", true},
	} {
		k := APIKey{Models: c.models}
		if got := k.Allows(c.model); got != c.want {
			t.Errorf("models %q, model %q: %v", c.models, c.model, got)
		}
	}
}

func TestGeneratedKeys(t *testing.T) {
	a, b := GenerateKey(), GenerateKey()
	if a.Reveal() == b.Reveal() || len(a.Reveal()) < 40 {
		t.Fatal("generated keys are not random")
	}
	if h := Hint(a); strings.Contains(a.Reveal(), h) || len(h) > 25 {
		t.Errorf("hint %q", h)
	}
	if a.Hash() != HashKey(a.Reveal()) {
		t.Error("hashes differ")
	}
	if one, two := GenerateKeyID(), GenerateKeyID(); one == two {
		t.Error("key ids collide")
	}
}

func TestCheckName(t *testing.T) {
	for _, ok := range []string{"a", "acme", "my-app.v2", "a_b", strings.Repeat("a", 63)} {
		if err := CheckName(ok); err != nil {
			t.Errorf("%q: %v", ok, err)
		}
	}
	for _, bad := range []string{"", "-a", "a-", "A", "a b", "a/b", "é", strings.Repeat("a", 64)} {
		if CheckName(bad) == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestAProjectHasTheFirstShareThatItCarries(t *testing.T) {
	o := &Organization{Name: "acme", Shares: []Share{
		{Label: "environment", Value: "production", Share: 0.6}, {Label: "team", Value: "search", Share: 0.3},
	}}
	for _, c := range []struct {
		labels map[string]string
		want   Part
	}{
		{map[string]string{"team": "search", "environment": "production"}, Part{"acme", "environment=production", 600_000}},
		{map[string]string{"team": "search", "environment": "staging"}, Part{"acme", "team=search", 300_000}},
		{map[string]string{"team": "ads"}, Part{"acme", "", 100_000}},
		{nil, Part{"acme", "", 100_000}},
	} {
		if got := PartOf(o, &Project{Labels: c.labels}); got != c.want {
			t.Errorf("%v: %+v, want %+v", c.labels, got, c.want)
		}
	}
	if got := PartOf(&Organization{Name: "acme"}, &Project{}); got != (Part{"acme", "", 1_000_000}) {
		t.Errorf("without shares: %+v", got)
	}
	o.Shares = []Share{{Label: "team", Value: "a", Share: 0.1}, {Label: "team", Value: "b", Share: 0.2}, {Label: "team", Value: "c", Share: 0.7}}
	if got := PartOf(o, &Project{}); got.Millionths != 0 {
		t.Errorf("what nothing leaves: %+v", got)
	}
}
