package identity

import (
	"testing"
	"time"

	"shareai/internal/account"
)

// CodeAt is what an authenticator shows.
func CodeAt(t *testing.T, secret account.Secret, at time.Time) string {
	t.Helper()
	code, err := totpCode(secret, at.Unix()/totpPeriod)
	if err != nil {
		t.Fatal(err)
	}
	return code
}
