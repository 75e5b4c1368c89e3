package adminapi_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"shareai/internal/audit"
)

func TestWhatAKeyDoesIsLogged(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	if got := s.call(t, "POST /api/v1/drills", drillsKey, `{"provider": "alpha", "fault": "503"}`); got.status != http.StatusCreated {
		t.Fatalf("%d %s", got.status, got.body)
	}
	if got := s.call(t, "POST /api/v1/drills", inferenceKey, `{"provider": "alpha", "fault": "503"}`); got.status != http.StatusForbidden {
		t.Fatalf("%d %s", got.status, got.body)
	}
	var got []audit.Who
	err := s.rows.EachAudit(t.Context(), time.Time{}, func(r audit.Row) error {
		e, err := r.Entry()
		got = append(got, e.Who)
		if e.Act != "drill.start" || e.From != "127.0.0.1" || e.Before != nil || len(e.After) == 0 {
			t.Errorf("%s", r.Body)
		}
		return err
	})
	if diff := cmp.Diff([]audit.Who{{Kind: audit.APIKey, ID: "key_drills", Name: "drills"}}, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}
