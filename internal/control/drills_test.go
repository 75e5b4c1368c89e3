package control_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"shareai/internal/account"
	"shareai/internal/catalog"
	"shareai/internal/cluster"
	"shareai/internal/control"
	"shareai/internal/snapshot"
)

// newStage is a world with something to make fail: alpha (eu) and beta, a second project of the same
// name elsewhere, and one key in the database.
func newStage(t *testing.T) *world {
	t.Helper()
	w := newWorld()
	db := account.FromDatabase
	w.rows.apply(snapshot.Change{Put: snapshot.Spec{
		Organizations: []account.Organization{{Name: "globex", Origin: db}},
		Projects:      []account.Project{{Organization: "globex", Name: "app", Origin: db}, {Organization: "acme", Name: "web", Origin: db}},
		Keys:          []account.APIKey{{ID: "key_row", Name: "row", Organization: "acme", Project: "app", Hash: account.HashKey("row"), Origin: db}},
		Providers:     []catalog.Provider{{Name: "beta", Dialect: catalog.Simulated, Region: "us", Origin: db}, {Name: "idle", Dialect: catalog.Simulated, Origin: db}},
		Models: []catalog.Model{{Name: "chat", Origin: db, Deployments: []catalog.Deployment{
			{Provider: "alpha", Model: "a"}, {Provider: "beta", Model: "vendor/b"},
		}}},
	}})
	return w
}

func drillOf(change func(*control.DrillRequest)) control.DrillRequest {
	r := control.DrillRequest{Organization: "acme", Project: "app", Provider: "alpha", Fault: catalog.DrillServer, By: "a test"}
	change(&r)
	return r
}

func TestStartDrill(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*control.DrillRequest)
		want   catalog.Drill
	}{
		"defaults":             {func(*control.DrillRequest) {}, catalog.Drill{Provider: "alpha"}},
		"a share for a time":   {func(r *control.DrillRequest) { r.Share, r.For = 0.25, time.Hour }, catalog.Drill{Provider: "alpha", Share: 0.25, Ends: now.Add(time.Hour)}},
		"a key by name":        {func(r *control.DrillRequest) { r.Key = "row" }, catalog.Drill{Provider: "alpha", KeyID: "key_row"}},
		"a key by id":          {func(r *control.DrillRequest) { r.Key = "key_file" }, catalog.Drill{Provider: "alpha", KeyID: "key_file"}},
		"a deployment":         {func(r *control.DrillRequest) { r.Provider, r.Deployment = "", "beta/vendor/b" }, catalog.Drill{Deployment: "beta/vendor/b"}},
		"a region":             {func(r *control.DrillRequest) { r.Provider, r.Region = "", "us" }, catalog.Drill{Region: "us"}},
		"the one project":      {func(r *control.DrillRequest) { r.Organization, r.Project = "", "web" }, catalog.Drill{Project: "web", Provider: "alpha"}},
		"the other's project":  {func(r *control.DrillRequest) { r.Organization = "globex" }, catalog.Drill{Organization: "globex", Provider: "alpha"}},
		"as long as it can be": {func(r *control.DrillRequest) { r.For = 24 * time.Hour }, catalog.Drill{Provider: "alpha", Ends: now.Add(24 * time.Hour)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newStage(t)
			wake, end, err := w.signals.Subscribe(t.Context(), cluster.TopicSnapshot)
			if err != nil {
				t.Fatal(err)
			}
			defer end()
			got, err := w.StartDrill(t.Context(), drillOf(c.change))
			if err != nil {
				t.Fatal(err)
			}
			want := c.want
			want.ID, want.Fault, want.Starts, want.By, want.Origin = got.ID, catalog.DrillServer, now, "a test", account.FromDatabase
			for _, d := range []struct {
				field *string
				value string
			}{{&want.Organization, "acme"}, {&want.Project, "app"}} {
				if *d.field == "" {
					*d.field = d.value
				}
			}
			if want.Share == 0 {
				want.Share = 1
			}
			if want.Ends.IsZero() {
				want.Ends = now.Add(10 * time.Minute)
			}
			if got != want || !strings.HasPrefix(got.ID, "drill_") {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
			if !slices.Equal(w.rows.spec.Drills, []catalog.Drill{want}) {
				t.Errorf("stored: %+v", w.rows.spec.Drills)
			}
			select {
			case <-wake:
			default:
				t.Error("the replicas were not told")
			}
		})
	}
}

func TestStartDrillRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*control.DrillRequest)
		code   string
		says   []string
	}{
		"no project":               {func(r *control.DrillRequest) { r.Project = "" }, "project_missing", nil},
		"an unknown project":       {func(r *control.DrillRequest) { r.Project = "gone" }, "project_not_found", []string{"acme/gone"}},
		"one name, two projects":   {func(r *control.DrillRequest) { r.Organization = "" }, "project_ambiguous", []string{"acme", "globex"}},
		"an unknown key":           {func(r *control.DrillRequest) { r.Key = "nobody" }, "key_not_found", []string{"acme/app"}},
		"a key of another project": {func(r *control.DrillRequest) { r.Organization, r.Key = "globex", "key_row" }, "key_not_found", nil},
		"no target":                {func(r *control.DrillRequest) { r.Provider = "" }, "invalid_drill", []string{"provider, a deployment or a region"}},
		"two targets":              {func(r *control.DrillRequest) { r.Region = "us" }, "invalid_drill", nil},
		"an unknown provider":      {func(r *control.DrillRequest) { r.Provider = "gamma" }, "provider_not_found", []string{"gamma", "alpha, beta"}},
		"a provider of nothing":    {func(r *control.DrillRequest) { r.Provider = "idle" }, "provider_not_found", nil},
		"an unknown deployment":    {func(r *control.DrillRequest) { r.Provider, r.Deployment = "", "a" }, "deployment_not_found", []string{"alpha/a, beta/vendor/b"}},
		"an unknown region":        {func(r *control.DrillRequest) { r.Provider, r.Region = "", "eu" }, "region_not_found", []string{": us."}},
		"an unknown fault":         {func(r *control.DrillRequest) { r.Fault = "outage" }, "invalid_drill", []string{"outage", "blackhole"}},
		"too large a share":        {func(r *control.DrillRequest) { r.Share = 2 }, "invalid_drill", []string{"share"}},
		"too long":                 {func(r *control.DrillRequest) { r.For = 25 * time.Hour }, "invalid_drill", []string{"24 hours"}},
		"backwards":                {func(r *control.DrillRequest) { r.For = -time.Hour }, "invalid_drill", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newStage(t)
			_, err := w.StartDrill(t.Context(), drillOf(c.change))
			wantFault(t, err, c.code, c.says...)
			if len(w.rows.spec.Drills) != 0 {
				t.Error("it was stored all the same")
			}
		})
	}
}

// What a project can not use is to it as if it were not there.
func TestADrillNamesOnlyWhatItsProjectReaches(t *testing.T) {
	t.Parallel()
	w := newStage(t)
	db := account.FromDatabase
	w.rows.apply(snapshot.Change{Put: snapshot.Spec{
		Providers: []catalog.Provider{{Name: "hidden", Dialect: catalog.Simulated, Region: "ch", Origin: db}},
		Models:    []catalog.Model{{Name: "secret", Origin: db, Deployments: []catalog.Deployment{{Provider: "hidden", Model: "s"}}}},
		Routes: []catalog.Route{
			{Name: "secret", Models: []string{"secret"}, Projects: []string{"acme/web"}, Origin: db},
		},
		Keys: []account.APIKey{{ID: "key_row", Name: "row", Organization: "acme", Project: "app", Hash: account.HashKey("row"), Pin: account.Pin{Provider: "beta"}, Origin: db}},
	}})
	for _, change := range []func(*control.DrillRequest){
		func(r *control.DrillRequest) { r.Provider = "hidden" },
		func(r *control.DrillRequest) { r.Provider, r.Deployment = "", "hidden/s" },
		func(r *control.DrillRequest) { r.Provider, r.Region = "", "ch" },
		func(r *control.DrillRequest) { r.Provider = "gone" },
	} {
		_, err := w.StartDrill(t.Context(), drillOf(change))
		if err == nil || strings.Contains(strings.SplitN(err.Error(), "Those in use", 2)[1], "hidden") {
			t.Errorf("%v", err)
		}
	}
	if _, err := w.StartDrill(t.Context(), drillOf(func(r *control.DrillRequest) { r.Project, r.Provider = "web", "hidden" })); err != nil {
		t.Error(err)
	}
	_, err := w.StartDrill(t.Context(), drillOf(func(r *control.DrillRequest) { r.Key = "row" }))
	wantFault(t, err, "provider_not_found", "alpha", "Those in use: beta.")
}

func TestKeyOfADrillIsAmbiguous(t *testing.T) {
	t.Parallel()
	w := newStage(t)
	w.rows.apply(snapshot.Change{Put: snapshot.Spec{Keys: []account.APIKey{
		{ID: "key_twin", Name: "ci", Organization: "acme", Project: "app", Hash: account.HashKey("twin"), Origin: account.FromDatabase},
	}}})
	_, err := w.StartDrill(t.Context(), drillOf(func(r *control.DrillRequest) { r.Key = "ci" }))
	wantFault(t, err, "key_ambiguous", "key_file", "key_twin")
}

func TestDrillsAreListedAndStopped(t *testing.T) {
	t.Parallel()
	w := newStage(t)
	first, err := w.StartDrill(t.Context(), drillOf(func(*control.DrillRequest) {}))
	if err != nil {
		t.Fatal(err)
	}
	second, err := w.StartDrill(t.Context(), drillOf(func(r *control.DrillRequest) { r.Organization = "globex" }))
	if err != nil {
		t.Fatal(err)
	}
	list := func(f control.DrillFilter) (ids []string) {
		t.Helper()
		drills, err := w.ListDrills(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range drills {
			ids = append(ids, d.ID)
		}
		return ids
	}
	if got := list(control.DrillFilter{}); len(got) != 2 {
		t.Errorf("all: %v", got)
	}
	if got := list(control.DrillFilter{Organization: "acme", Project: "app"}); !slices.Equal(got, []string{first.ID}) {
		t.Errorf("of acme: %v", got)
	}
	_, err = w.StopDrill(t.Context(), first.ID, control.DrillFilter{Organization: "globex", Project: "app"})
	wantFault(t, err, "drill_not_found")
	_, err = w.StopDrill(t.Context(), "drill_unknown", control.DrillFilter{})
	wantFault(t, err, "drill_not_found")

	stopped, err := w.StopDrill(t.Context(), first.ID, control.DrillFilter{Organization: "acme"})
	if err != nil || !stopped.Stopped.Equal(now) {
		t.Fatalf("%+v, %v", stopped, err)
	}
	before := w.rows.revision
	if again, err := w.StopDrill(t.Context(), first.ID, control.DrillFilter{}); err != nil || !again.Stopped.Equal(now) || w.rows.revision != before {
		t.Errorf("a second stop: %+v, %v", again, err)
	}
	if got := list(control.DrillFilter{RunningAt: now}); !slices.Equal(got, []string{second.ID}) {
		t.Errorf("running: %v", got)
	}
}

func TestDrillsAreBoundedAndPruned(t *testing.T) {
	t.Parallel()
	w := newStage(t)
	old := snapshot.Change{}
	put := func(id string, ends time.Time) {
		old.Put.Drills = append(old.Put.Drills, catalog.Drill{ID: id, Organization: "acme", Project: "app", Starts: ends.Add(-time.Minute), Ends: ends})
	}
	put("ancient", now.Add(-31*24*time.Hour))
	put("recent", now.Add(-29*24*time.Hour))
	w.rows.apply(old)
	for range control.MaxRunningDrills {
		if _, err := w.StartDrill(t.Context(), drillOf(func(*control.DrillRequest) {})); err != nil {
			t.Fatal(err)
		}
	}
	_, err := w.StartDrill(t.Context(), drillOf(func(*control.DrillRequest) {}))
	wantFault(t, err, "too_many_drills")
	if _, err := w.StartDrill(t.Context(), drillOf(func(r *control.DrillRequest) { r.Organization = "globex" })); err != nil {
		t.Errorf("another project: %v", err)
	}
	if got := len(w.rows.spec.Drills); got != control.MaxRunningDrills+2 { // recent and globex's
		t.Errorf("%d rows", got)
	}
	// Whoever starts and stops drills all day does not fill the database.
	for i := range 300 {
		put(strings.Repeat("x", i+1), now.Add(-time.Duration(i)*time.Second))
	}
	w.rows.apply(old)
	if _, err := w.StartDrill(t.Context(), drillOf(func(r *control.DrillRequest) { r.Organization = "globex" })); err != nil {
		t.Fatal(err)
	}
	if got := len(w.rows.spec.Drills); got > control.MaxRunningDrills+2+100 {
		t.Errorf("%d rows are kept", got)
	}
}
