package control_test

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"shareai/internal/account"
	"shareai/internal/audit"
	"shareai/internal/catalog"
	"shareai/internal/control"
	"shareai/internal/snapshot"
)

func TestEveryUseCaseIsLogged(t *testing.T) {
	t.Parallel()
	w := newWorld()
	key := audit.Actor{Kind: audit.APIKey, ID: "key_admin", Name: "admin", From: "192.0.2.1"}
	ctx := audit.WithActor(t.Context(), key)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(w.CreateOrganization(ctx, account.Organization{Name: "globex"}))
	must(w.CreateProject(ctx, account.Project{Organization: "globex", Name: "web", Labels: map[string]string{"team": "search"}}))
	created, err := w.CreateKey(ctx, control.KeyRequest{Name: "new", Organization: "fresh", Project: "app", Create: true})
	must(err)
	_, err = w.RevokeKey(ctx, created.Secret.Reveal())
	must(err)
	_, err = w.RevokeKey(ctx, created.Key.ID) // changes nothing
	must(err)
	if _, err = w.RevokeKey(ctx, "key_nobody"); err == nil { // neither does this
		t.Fatal("a key that does not exist was revoked")
	}
	got := make([]string, len(w.rows.acts))
	for i, a := range w.rows.acts {
		got[i] = a.Name + " " + a.Subject
		if a.Who != key || !a.At.Equal(now) {
			t.Errorf("%s: %+v at %v", a.Name, a.Who, a.At)
		}
	}
	want := []string{"organization.create globex", "project.create globex/web", "key.create " + created.Key.ID, "key.revoke " + created.Key.ID}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("acts:\n%s", diff)
	}
	made, ended := w.rows.acts[2], w.rows.acts[3]
	doc := `{"name":"new","organization":"fresh","project":"app","created":"2026-11-22T12:00:00Z"}`
	after := `{"keys":{"` + created.Key.ID + `":` + doc + `},"organizations":{"fresh":{}},"projects":{"fresh/app":{}}}`
	if made.Before != nil || string(made.After) != after {
		t.Errorf("created: %s → %s", made.Before, made.After)
	}
	if string(ended.Before) != `{"keys":{"`+created.Key.ID+`":`+doc+`}}` || !strings.Contains(string(ended.After), `"revoked":"2026-11-22T12:00:00Z"`) {
		t.Errorf("revoked: %s → %s", ended.Before, ended.After)
	}
	acts, err := json.Marshal(w.rows.acts)
	must(err)
	hash := created.Key.Hash
	for _, secret := range []string{created.Secret.Reveal(), created.Key.Hint, hex.EncodeToString(hash[:]), strings.Trim(fmt.Sprint(hash[:]), "[]")} {
		if strings.Contains(string(acts), secret) {
			t.Errorf("the log gives %q away", secret)
		}
	}
}

// A change that is decided again, because somebody was faster, is logged once and as it was made.
func TestALostRaceIsNotLogged(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.rows.meanwhile = func(m *memoryRows) {
		m.apply(snapshot.Change{Put: snapshot.Spec{Organizations: []account.Organization{{Name: "default"}}}})
	}
	created := w.mustCreate(t, control.KeyRequest{Name: "new"})
	if acts := w.rows.acts; len(acts) != 1 || strings.Contains(string(acts[0].After), "organizations") || acts[0].Subject != created.Key.ID {
		t.Errorf("%+v", acts)
	}
}

func TestDifferencesHoldNoSecret(t *testing.T) {
	t.Parallel()
	const canary = "canary-a7d31b"
	spec := func(suffix string) snapshot.Spec {
		return snapshot.Spec{
			Keys: []account.APIKey{{ID: "key_1", Name: "ci", Hash: account.HashKey(canary + suffix), Hint: canary + "…"}},
			Providers: []catalog.Provider{{
				Name: "alpha", Dialect: catalog.OpenAI, BaseURL: "https://user:" + canary + "@alpha.example/v1?key=" + canary,
				Keys: []catalog.ProviderKey{{Name: "main", Secret: account.NewSecret(canary + suffix)}},
			}},
		}
	}
	none := snapshot.Spec{}
	_, made, err := control.Differences(none, spec("1"))
	if err != nil {
		t.Fatal(err)
	}
	was, is, err := control.Differences(spec("1"), spec("2"))
	if err != nil {
		t.Fatal(err)
	}
	gone, _, err := control.Differences(spec("1"), none)
	if err != nil {
		t.Fatal(err)
	}
	if was != nil || string(is) != `{"secrets_changed":{"key key_1":true,"provider key alpha/main":true}}` {
		t.Errorf("other secrets: %s → %s", was, is)
	}
	everything := string(made) + string(was) + string(is) + string(gone)
	if !strings.Contains(everything, "https://alpha.example/v1") {
		t.Errorf("the provider is not described: %s", everything)
	}
	hash := account.HashKey(canary + "1")
	for _, secret := range []string{canary, hex.EncodeToString(hash[:]), strings.ReplaceAll(strings.Trim(fmt.Sprint(hash[:]), "[]"), " ", ",")} {
		if strings.Contains(everything, secret) {
			t.Errorf("the log gives %q away: %s", secret, everything)
		}
	}
	if was, is, err := control.Differences(spec("1"), spec("1")); was != nil || is != nil || err != nil {
		t.Errorf("the same: %s → %s, %v", was, is, err)
	}
}
