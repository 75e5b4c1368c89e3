package snapshot

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"shareai/internal/account"
	"shareai/internal/catalog"
	"shareai/internal/fault"
)

// drilled is a sound Spec with three keys and one drill.
func drilled(d catalog.Drill) Spec {
	s := sound()
	s.Providers[0].Region = "eu"
	s.Projects = append(s.Projects, account.Project{Organization: "acme", Name: "other", Origin: account.FromDatabase})
	s.Organizations = append(s.Organizations, account.Organization{Name: "globex", Origin: account.FromDatabase})
	s.Projects = append(s.Projects, account.Project{Organization: "globex", Name: "app", Origin: account.FromDatabase})
	s.Keys = append(s.Keys,
		account.APIKey{ID: "key_5", Name: "ci", Organization: "globex", Project: "app", Hash: account.HashKey("five"), Origin: account.FromDatabase},
		account.APIKey{ID: "key_2", Name: "row", Organization: "acme", Project: "app", Hash: account.HashKey("two"), Origin: account.FromDatabase},
		account.APIKey{ID: "key_3", Name: "ci", Organization: "acme", Project: "other", Hash: account.HashKey("three"), Origin: account.FromDatabase},
		account.APIKey{ID: "key_4", Name: "old", Organization: "acme", Project: "app", Hash: account.HashKey("four"), RevokedAt: time.Unix(1, 0), Origin: account.FromDatabase},
	)
	s.Drills = []catalog.Drill{d}
	return s
}

func runningDrill() catalog.Drill {
	return catalog.Drill{
		ID: "drill_1", Organization: "acme", Project: "app", Provider: "alpha", Fault: catalog.DrillServer, Share: 1,
		Starts: time.Now().Add(-time.Minute), Ends: time.Now().Add(time.Hour), Origin: account.FromDatabase,
	}
}

func TestDrillsOfAKey(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*catalog.Drill)
		keys   string // the keys that it concerns
		warns  string
	}{
		"a project: its keys, of the file and of the database": {func(*catalog.Drill) {}, "key_1 key_2", ""},
		"a key of the file":           {func(d *catalog.Drill) { d.KeyID = "key_1" }, "key_1", ""},
		"a key of the database":       {func(d *catalog.Drill) { d.KeyID = "key_2" }, "key_2", ""},
		"a key of another project":    {func(d *catalog.Drill) { d.KeyID = "key_3" }, "", "no key key_3"},
		"a revoked key":               {func(d *catalog.Drill) { d.KeyID = "key_4" }, "", "no key key_4"},
		"another project":             {func(d *catalog.Drill) { d.Project = "other" }, "key_3", ""},
		"a project that is gone":      {func(d *catalog.Drill) { d.Project = "gone" }, "", "no project acme/gone"},
		"an organization that is not": {func(d *catalog.Drill) { d.Organization = "app" }, "", "no project app/app"},
		"a deployment":                {func(d *catalog.Drill) { d.Provider, d.Deployment = "", "beta/q" }, "key_1 key_2", ""},
		"a deployment that is gone":   {func(d *catalog.Drill) { d.Provider, d.Deployment = "", "beta/z" }, "", "deployment beta/z"},
		"a provider that is gone":     {func(d *catalog.Drill) { d.Provider = "gamma" }, "", "provider gamma"},
		"a region":                    {func(d *catalog.Drill) { d.Provider, d.Region = "", "eu" }, "key_1 key_2", ""},
		"a region that is empty":      {func(d *catalog.Drill) { d.Provider, d.Region = "", "us" }, "", "region us"},
		"no target":                   {func(d *catalog.Drill) { d.Provider = "" }, "", "one thing"},
		"no share":                    {func(d *catalog.Drill) { d.Share = 0 }, "", "share"},
		"ended by itself":             {func(d *catalog.Drill) { d.Starts, d.Ends = time.Now().Add(-time.Hour), time.Now() }, "", ""},
		"stopped":                     {func(d *catalog.Drill) { d.Stopped = time.Now() }, "", ""},
		"begins later":                {func(d *catalog.Drill) { d.Starts = time.Now().Add(time.Minute) }, "key_1 key_2", ""},
	} {
		t.Run(name, func(t *testing.T) {
			d := runningDrill()
			c.change(&d)
			view, err := Compile(drilled(d))
			if err != nil {
				t.Fatal(err)
			}
			var keys []string
			for _, id := range []string{"key_1", "key_2", "key_3", "key_4", "key_5"} {
				if list := view.Drills(id); len(list) == 1 && list[0].ID == "drill_1" {
					keys = append(keys, id)
				}
			}
			if got := strings.Join(keys, " "); got != c.keys {
				t.Errorf("concerns %q, want %q", got, c.keys)
			}
			if got := strings.Join(view.Warnings, "\n"); !strings.Contains(got, c.warns) || (c.warns == "") != (got == "") {
				t.Errorf("warnings: %q", got)
			}
		})
	}
}

func TestTheNewestDrillStandsFirst(t *testing.T) {
	first, second := runningDrill(), runningDrill()
	second.ID, second.Starts = "drill_0", first.Starts.Add(time.Second)
	for _, order := range [][]catalog.Drill{{first, second}, {second, first}} {
		spec := drilled(first)
		spec.Drills = order
		view, err := Compile(spec)
		if err != nil {
			t.Fatal(err)
		}
		if list := view.Drills("key_1"); len(list) != 2 || list[0].ID != "drill_0" {
			t.Errorf("%+v", list)
		}
	}
}

func TestChangesOfDrills(t *testing.T) {
	before := Spec{Drills: []catalog.Drill{{ID: "a"}, {ID: "b"}}}
	after := Change{
		Put:    Spec{Drills: []catalog.Drill{{ID: "b", Share: 1}, {ID: "c"}}},
		Delete: Names{Drills: []string{"a", "never"}},
	}.Apply(before)
	if len(after.Drills) != 2 || after.Drills[0].ID != "b" || after.Drills[0].Share != 1 || after.Drills[1].ID != "c" || len(before.Drills) != 2 {
		t.Errorf("%+v", after.Drills)
	}
}

func TestAuthenticate(t *testing.T) {
	s := sound()
	s.Keys = append(s.Keys, account.APIKey{
		ID: "key_2", Name: "drills", Organization: "acme", Project: "app", Hash: account.HashKey("two"), Scopes: []account.Scope{account.ScopeDrills}, Origin: account.FromFile,
	})
	view, err := Compile(s)
	if err != nil {
		t.Fatal(err)
	}
	fresh, behind := func() bool { return false }, func() bool { return true }
	for _, c := range []struct {
		authorization string
		stale         func() bool
		code          string
	}{
		{"Bearer one", fresh, ""},
		{"bearer  one", behind, ""},
		{"", fresh, "missing_api_key"},
		{"Basic one", fresh, "invalid_api_key"},
		{"Bearer three", fresh, "invalid_api_key"},
		{"Bearer three", behind, "key_not_verifiable"},
	} {
		p, err := view.Authenticate(http.Header{"Authorization": {c.authorization}}, c.stale)
		if c.code == "" && (err != nil || p.Key.ID != "key_1") || c.code != "" && (err == nil || fault.From(err).Code != c.code) {
			t.Errorf("%q: %v", c.authorization, err)
		}
	}
	for key, allowed := range map[string]account.Scope{"one": account.ScopeInference, "two": account.ScopeDrills} {
		p, _ := view.Principal(account.HashKey(key))
		for _, scope := range account.Scopes {
			if err := Require(p, scope); (err == nil) != (scope == allowed) {
				t.Errorf("key %s, scope %s: %v", key, scope, err)
			} else if err != nil && (fault.From(err).Code != "missing_scope" || fault.From(err).HTTPStatus() != http.StatusForbidden) {
				t.Error(err)
			}
		}
	}
}
