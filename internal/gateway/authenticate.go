package gateway

import (
	"net/http"
	"time"

	"shareai/internal/account"
	"shareai/internal/snapshot"
)

// retrySoon is the Retry-After of conditions that pass by themselves within seconds.
const retrySoon = 2 * time.Second

// authenticate finds out who is asking, and whether his key is for model requests.
func authenticate(view *snapshot.Snapshot, stale func() bool, header http.Header) (*account.Principal, error) {
	principal, err := view.Authenticate(header, stale)
	if err != nil {
		return nil, err
	}
	if err := snapshot.Require(principal, account.ScopeInference); err != nil {
		return nil, err
	}
	return principal, nil
}
