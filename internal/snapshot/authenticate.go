package snapshot

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"shareai/internal/account"
	"shareai/internal/fault"
)

// Authenticate finds out who is asking, by the Authorization header. When the snapshot may be behind,
// which stale says, an unknown key is not called wrong: 401 would make clients throw a good key away.
func (s *Snapshot) Authenticate(header http.Header, stale func() bool) (*account.Principal, error) {
	key, err := bearer(header)
	if err != nil {
		return nil, err
	}
	principal, known := s.Principal(account.HashKey(key))
	if !known {
		if stale() {
			e := fault.New(fault.Unavailable, "key_not_verifiable", "This API key is not known here, and the database can not be asked at the moment. Try again shortly.")
			e.RetryAfter = retrySoon
			return nil, e
		}
		return nil, fault.New(fault.Unauthenticated, "invalid_api_key", "This API key is not known. Check that it is complete, or create one with `shareai keys create`.")
	}
	switch k := principal.Key; k.StateAt(time.Now()) {
	case account.Expired:
		return nil, fault.New(fault.Unauthenticated, "expired_api_key", fmt.Sprintf("This API key (%s) expired on %s. Create a new one.", k.Name, k.Expires.UTC().Format(time.DateTime+" UTC")))
	case account.Revoked:
		return nil, fault.New(fault.Unauthenticated, "revoked_api_key", fmt.Sprintf("This API key (%s) was revoked. Create a new one.", k.Name))
	}
	return principal, nil
}

// retrySoon is the Retry-After of a condition that passes by itself within seconds.
const retrySoon = 2 * time.Second

// bearer takes the API key out of the Authorization header. The scheme is case-insensitive (RFC 9110).
func bearer(header http.Header) (string, error) {
	value := header["Authorization"]
	if len(value) == 0 || value[0] == "" {
		return "", fault.New(fault.Unauthenticated, "missing_api_key", "No API key was sent. Send it as the header `Authorization: Bearer YOUR_KEY`.")
	}
	scheme, key, _ := strings.Cut(value[0], " ")
	if key = strings.TrimSpace(key); !strings.EqualFold(scheme, "Bearer") || key == "" {
		return "", fault.New(fault.Unauthenticated, "invalid_api_key", "The Authorization header has another form than `Bearer YOUR_KEY`.")
	}
	return key, nil
}

// Require refuses a principal whose key lacks a scope.
func Require(p *account.Principal, scope account.Scope) error {
	if p.Key.May(scope) {
		return nil
	}
	return fault.New(fault.Forbidden, "missing_scope", fmt.Sprintf(
		"This API key (%s) lacks the scope %s. Use a key that has it; `shareai keys create --scope %s` makes one.", p.Key.Name, scope, scope))
}
