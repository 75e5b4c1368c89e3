package gateway

import (
	"net/http"
	"testing"

	"shareai/internal/account"
	"shareai/internal/snapshot"
)

// A key that is for something else opens none of the model endpoints, and costs nothing. // R27
func TestAKeyNeedsTheScopeInference(t *testing.T) {
	const drillsKey, bothKey = "sk-drills-0123456789", "sk-both-0123456789"
	e := newEngine(t, saying(200, reply))
	s := newStand(t, func(s *snapshot.Spec) {
		for secret, scopes := range map[string][]account.Scope{drillsKey: {account.ScopeDrills}, bothKey: account.Scopes} {
			s.Keys = append(s.Keys, account.APIKey{ID: secret, Name: secret, Organization: "acme", Project: "app", Hash: account.HashKey(secret), Scopes: scopes})
		}
	}, e)
	for _, c := range []struct{ method, path string }{
		{"POST", "/v1/chat/completions"}, {"POST", "/v1/completions"}, {"POST", "/v1/embeddings"}, {"GET", "/v1/models"}, {"GET", "/v1/models/llama"},
	} {
		resp, body := s.post(t, c.path, hi, func(r *http.Request) {
			r.Method = c.method
			r.Header.Set("Authorization", "Bearer "+drillsKey)
		})
		if f := parseFailure(t, body); resp.StatusCode != 403 || f.Error.Code != "missing_scope" || f.Error.Type != "permission_error" {
			t.Errorf("%s: %d %s", c.path, resp.StatusCode, body)
		}
	}
	if e.calls() != 0 {
		t.Errorf("a provider was called %d times", e.calls())
	}
	if resp, body := s.post(t, "/v1/chat/completions", hi, func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+bothKey) }); resp.StatusCode != 200 {
		t.Errorf("with both scopes: %d %s", resp.StatusCode, body)
	}
}
