package app

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"shareai/internal/account"
	"shareai/internal/audit"
	"shareai/internal/control"
	"shareai/internal/store/storetest"
)

// audited is the audit log of the gateway: as text, and as entries.
func (r *running) audited() (string, []audit.Entry) {
	r.t.Helper()
	local, err := OpenLocal(r.t.Context(), Settings{DataDir: filepath.Join(r.dir, "data"), Stderr: r.log})
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = local.Close() }()
	var text strings.Builder
	var entries []audit.Entry
	err = local.Store.EachAudit(r.t.Context(), time.Time{}, func(row audit.Row) error {
		text.WriteString(row.Line())
		e, err := row.Entry()
		entries = append(entries, e)
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := local.Store.VerifyAudit(r.t.Context(), audit.Head{}); err != nil {
		r.t.Error(err)
	}
	return text.String(), entries
}

func TestWhatTheFileDoesIsLogged(t *testing.T) {
	first := yaml("http://127.0.0.1:1", "first")
	r := run(t, first)
	reload := func(text string) {
		t.Helper()
		r.write(text)
		_ = r.Reload() // the watch may be faster; then this changes nothing
	}
	second := strings.Replace(yaml("http://127.0.0.1:1", "first", "second"), "provider-secret-main", "provider-secret-next", 1)
	reload(second)
	reload(second) // no act
	reload(second + "nonsense: canary-4c5d6e\n")
	text, entries := r.audited()
	if len(entries) != 3 { // whether the watch noticed as well or not
		t.Fatalf("%s", text)
	}
	for i, name := range []string{"file.start", "file.reload", "file.refuse"} {
		e := entries[i]
		if e.Act != name || e.Who != (audit.Who{Kind: audit.File, Name: "file"}) || e.From != r.file {
			t.Errorf("entry %d: %+v", i+1, e)
		}
	}
	for _, part := range []string{`"models":2`, `"second":{`, `"secrets_changed":{"provider key `, `"problems":["` + r.file} {
		if !strings.Contains(text, part) {
			t.Errorf("the log lacks %s:\n%s", part, text)
		}
	}
	for _, secret := range []string{"provider-secret", apiKey, "canary-4c5d6e"} {
		if strings.Contains(text, secret) {
			t.Errorf("the log has %s:\n%s", secret, text)
		}
	}
}

func TestACommandIsLoggedWithItsUser(t *testing.T) {
	r := run(t, "")
	local, err := OpenLocal(t.Context(), Settings{DataDir: filepath.Join(r.dir, "data"), Stderr: r.log})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = local.Close() }()
	if _, err := local.Control.CreateKey(t.Context(), control.KeyRequest{Name: "ci"}); err != nil {
		t.Fatal(err)
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	text, entries := r.audited()
	at := slices.IndexFunc(entries, func(e audit.Entry) bool { return e.Act == "key.create" })
	if at < 0 {
		t.Fatalf("%s", text)
	}
	if e := entries[at]; e.Who.Kind != audit.User || e.Who.Name == "" || e.From != host || e.Revision == 0 {
		t.Errorf("%s", text)
	}
}

// Two gateways of one database at once: each puts its file in force, while commands change rows.
func TestReplicasWriteOneChain(t *testing.T) {
	if testing.Short() {
		t.Skip("needs a PostgreSQL server")
	}
	d := storetest.Postgres(t)
	shared := func(s *Settings) {
		s.Database, s.SecretsKey = d.Options.Database, account.NewSecret("one key for all")
	}
	one, two := run(t, yaml("http://127.0.0.1:1", "m0"), shared), run(t, yaml("http://127.0.0.1:1", "m0"), shared)
	local, err := OpenLocal(t.Context(), one.settings)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = local.Close() }()
	const changes = 5
	done := make(chan error, 2)
	for _, r := range []*running{one, two} {
		go func() {
			var err error
			for i := 0; i < changes && err == nil; i++ {
				r.write(yaml("http://127.0.0.1:1", "m"+string(rune('1'+i))))
				err = r.Reload()
			}
			done <- err
		}()
	}
	for range changes {
		key, err := local.Control.CreateKey(t.Context(), control.KeyRequest{Name: "ci"})
		if err == nil {
			_, err = local.Control.RevokeKey(t.Context(), key.Key.ID)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	const starts = 2
	head, err := local.Store.VerifyAudit(t.Context(), audit.Head{})
	if want := int64(starts + 2*changes + 2*changes); err != nil || head.Entries != want {
		t.Errorf("%d entries, want %d: %v", head.Entries, want, err)
	}
}
