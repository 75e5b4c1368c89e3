package control_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"shareai/internal/account"
	"shareai/internal/audit"
	"shareai/internal/catalog"
	"shareai/internal/cluster"
	"shareai/internal/control"
	"shareai/internal/fault"
	"shareai/internal/snapshot"
)

// memoryRows is a store in memory. It applies changes as snapshot.Change defines them, which the store's
// conformance suite shows to be what the real one does.
type memoryRows struct {
	mu       sync.Mutex
	spec     snapshot.Spec
	revision int64
	acts     []audit.Act
	// meanwhile is called between a load and the commit that follows it, once.
	meanwhile func(*memoryRows)
	failing   error
}

func (m *memoryRows) Load(ctx context.Context) (snapshot.Spec, int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.spec, m.revision, errors.Join(ctx.Err(), m.failing)
}

func (m *memoryRows) Commit(ctx context.Context, at int64, change snapshot.Change, acts ...audit.Act) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if f := m.meanwhile; f != nil {
		m.meanwhile = nil
		f(m)
	}
	if err := errors.Join(ctx.Err(), m.failing); err != nil {
		return 0, err
	}
	if at != m.revision {
		return 0, snapshot.ErrStale
	}
	m.apply(change)
	m.acts = append(m.acts, acts...)
	return m.revision, nil
}

func (m *memoryRows) apply(change snapshot.Change) {
	m.spec = change.Apply(m.spec)
	m.revision++
}

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// world is a control plane over memory with a configuration file.
type world struct {
	*control.Control
	rows    *memoryRows
	signals *cluster.Memory
	log     bytes.Buffer
}

func newWorld() *world {
	w := &world{rows: &memoryRows{revision: 1}, signals: new(cluster.Memory)}
	file := snapshot.Spec{
		Organizations: []account.Organization{{Name: "acme", Origin: account.FromFile}},
		Projects:      []account.Project{{Organization: "acme", Name: "app", Origin: account.FromFile}},
		Keys: []account.APIKey{{
			ID: "key_file", Name: "ci", Organization: "acme", Project: "app", Hash: account.HashKey("the key of the file"), Origin: account.FromFile,
		}},
		Providers: []catalog.Provider{{Name: "alpha", Dialect: catalog.Simulated, Origin: account.FromFile}},
	}
	w.Control = control.New(control.Options{
		Rows: w.rows, Signals: w.signals,
		File:   func() snapshot.Spec { return file },
		Now:    func() time.Time { return now },
		Logger: slog.New(slog.NewTextHandler(&w.log, nil)),
	})
	return w
}

func (w *world) mustCreate(t *testing.T, r control.KeyRequest) control.CreatedKey {
	t.Helper()
	created, err := w.CreateKey(t.Context(), r)
	if err != nil {
		t.Fatalf("create %+v: %v", r, err)
	}
	return created
}

// wantFault checks an error's code, and that the message names each part.
func wantFault(t *testing.T, err error, code string, parts ...string) {
	t.Helper()
	var f *fault.Error
	if !errors.As(err, &f) || f.Code != code {
		t.Errorf("got %v, want code %s", err, code)
		return
	}
	for _, part := range parts {
		if !strings.Contains(f.Message, part) {
			t.Errorf("the message does not say %q: %s", part, f.Message)
		}
	}
}

func TestCreateKey(t *testing.T) {
	t.Parallel()
	w := newWorld()
	wake, end, err := w.signals.Subscribe(t.Context(), cluster.TopicSnapshot)
	if err != nil {
		t.Fatal(err)
	}
	defer end()
	created := w.mustCreate(t, control.KeyRequest{
		Name: "web", Organization: "acme", Project: "app", Models: []string{"llama-*"},
		Pin: account.Pin{Provider: "alpha"}, Expires: now.Add(time.Hour),
	})
	select {
	case <-wake:
	default:
		t.Error("the other replicas were not told")
	}
	want := account.APIKey{
		ID: created.Key.ID, Name: "web", Organization: "acme", Project: "app", Hash: created.Secret.Hash(),
		Hint: account.Hint(created.Secret), Models: []string{"llama-*"}, Pin: account.Pin{Provider: "alpha"},
		CreatedAt: now, Expires: now.Add(time.Hour), Origin: account.FromDatabase,
	}
	if diff := cmp.Diff([]account.APIKey{want}, w.rows.spec.Keys); diff != "" {
		t.Errorf("stored:\n%s", diff)
	}
	if diff := cmp.Diff(want, created.Key); diff != "" {
		t.Errorf("returned:\n%s", diff)
	}
	if len(w.rows.spec.Organizations)+len(w.rows.spec.Projects) != 0 {
		t.Error("what the file declares was created in the store")
	}
	if another := w.mustCreate(t, control.KeyRequest{Name: "web-2", Organization: "acme", Project: "app"}); another.Secret.Equal(created.Secret) || another.Key.ID == created.Key.ID {
		t.Error("two keys are the same")
	}
}

func TestCreateKeyCreatesItsOwners(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		request  control.KeyRequest
		code     string   // empty: it works
		projects []string // that are created
	}{
		"nothing named":               {control.KeyRequest{}, "", []string{"default/default"}},
		"a project of the default":    {control.KeyRequest{Project: "web"}, "project_not_found", nil},
		"the same with create":        {control.KeyRequest{Project: "web", Create: true}, "", []string{"default/web"}},
		"an organization that exists": {control.KeyRequest{Organization: "acme"}, "", []string{"acme/default"}},
		"an unknown organization":     {control.KeyRequest{Organization: "nobody"}, "organization_not_found", nil},
		"an unknown project":          {control.KeyRequest{Organization: "acme", Project: "web"}, "project_not_found", nil},
		"a project with create":       {control.KeyRequest{Organization: "acme", Project: "web", Create: true}, "", []string{"acme/web"}},
		"both with create":            {control.KeyRequest{Organization: "new", Project: "web", Create: true}, "", []string{"new/web"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			c.request.Name = "ci-2"
			_, err := w.CreateKey(t.Context(), c.request)
			if c.code != "" {
				wantFault(t, err, c.code, "create it first")
			} else if err != nil {
				t.Error(err)
			}
			var projects []string
			for _, p := range w.rows.spec.Projects {
				projects = append(projects, p.Organization+"/"+p.Name)
			}
			if diff := cmp.Diff(c.projects, projects); diff != "" {
				t.Errorf("projects:\n%s", diff)
			}
			if _, err := snapshot.Compile(w.rows.spec); c.code == "" && c.request.Organization != "acme" && err != nil {
				t.Errorf("the rows do not compile: %v", err)
			}
		})
	}
}

func TestCreateKeyRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*control.KeyRequest)
		code   string
		parts  []string
	}{
		"no name":              {func(r *control.KeyRequest) { r.Name = "" }, "invalid_name", []string{"key's name"}},
		"a bad name":           {func(r *control.KeyRequest) { r.Name = "A b" }, "invalid_name", nil},
		"a bad organization":   {func(r *control.KeyRequest) { r.Organization = "a/b" }, "invalid_name", []string{"organization's name"}},
		"a bad project":        {func(r *control.KeyRequest) { r.Project = "-" }, "invalid_name", []string{"project's name"}},
		"an empty pattern":     {func(r *control.KeyRequest) { r.Models = []string{"a", ""} }, "invalid_model_pattern", nil},
		"a broken pattern":     {func(r *control.KeyRequest) { r.Models = []string{"a["} }, "invalid_model_pattern", nil},
		"an expiry gone by":    {func(r *control.KeyRequest) { r.Expires = now }, "invalid_expiry", nil},
		"a pin without home":   {func(r *control.KeyRequest) { r.Pin.Model = "m" }, "invalid_pin", nil},
		"a pin to nobody":      {func(r *control.KeyRequest) { r.Pin.Provider = "nobody" }, "invalid_change", []string{"nobody", "alpha"}},
		"a name that is taken": {func(r *control.KeyRequest) { r.Name = "ci" }, "key_exists", []string{"acme/app/ci"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			request := control.KeyRequest{Name: "web", Organization: "acme", Project: "app"}
			c.change(&request)
			created, err := w.CreateKey(t.Context(), request)
			wantFault(t, err, c.code, c.parts...)
			if w.rows.revision != 1 || !created.Secret.Empty() {
				t.Error("something was stored or returned")
			}
		})
	}
}

func TestANameIsFreeAgainAfterRevocation(t *testing.T) {
	t.Parallel()
	w := newWorld()
	first := w.mustCreate(t, control.KeyRequest{Name: "web"})
	_, err := w.CreateKey(t.Context(), control.KeyRequest{Name: "web"})
	wantFault(t, err, "key_exists")
	if _, err := w.RevokeKey(t.Context(), "default/default/web"); err != nil {
		t.Fatal(err)
	}
	second := w.mustCreate(t, control.KeyRequest{Name: "web"})
	// The name now means the second.
	revoked, err := w.RevokeKey(t.Context(), "default/default/web")
	if err != nil || revoked.ID != second.Key.ID {
		t.Errorf("revoked %s, %v; want %s, not %s", revoked.ID, err, second.Key.ID, first.Key.ID)
	}
}

func TestRevokeKey(t *testing.T) {
	t.Parallel()
	for name, ref := range map[string]func(control.CreatedKey) string{
		"by id":      func(c control.CreatedKey) string { return c.Key.ID },
		"by name":    func(control.CreatedKey) string { return "acme/app/web" },
		"by the key": func(c control.CreatedKey) string { return c.Secret.Reveal() },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			created := w.mustCreate(t, control.KeyRequest{Name: "web", Organization: "acme", Project: "app"})
			want := created.Key
			want.RevokedAt = now
			for range 2 { // the second time it has nothing to do
				revoked, err := w.RevokeKey(t.Context(), ref(created))
				if diff := cmp.Diff(want, revoked); err != nil || diff != "" {
					t.Errorf("%v\n%s", err, diff)
				}
			}
			if w.rows.revision != 3 || !w.rows.spec.Keys[0].RevokedAt.Equal(now) {
				t.Errorf("revision %d, %+v", w.rows.revision, w.rows.spec.Keys)
			}
		})
	}
}

func TestRevokeKeyRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld()
	_, err := w.RevokeKey(t.Context(), "acme/app/ci")
	wantFault(t, err, "managed_by_file", "acme/app/ci", "configuration file")
	for _, ref := range []string{"", "key_nobody", "sk-shareai-canary", "acme/app/web", "acme/app/", "ci"} {
		_, err := w.RevokeKey(t.Context(), ref)
		wantFault(t, err, "key_not_found")
		if err != nil && strings.Contains(err.Error(), "canary") {
			t.Errorf("the reference is repeated: %v", err)
		}
	}
}

// TestARowThatIsBrokenDoesNotStopARevocation has rows that do not compile, as after a change of the file.
func TestARowThatIsBrokenDoesNotStopARevocation(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.mustCreate(t, control.KeyRequest{Name: "web"})
	w.rows.apply(snapshot.Change{Put: snapshot.Spec{Routes: []catalog.Route{{Name: "chat", Models: []string{"gone"}, Origin: account.FromDatabase}}}})
	if _, err := w.RevokeKey(t.Context(), "default/default/web"); err != nil {
		t.Error(err)
	}
	_, err := w.CreateKey(t.Context(), control.KeyRequest{Name: "web", Pin: account.Pin{Provider: "nobody"}})
	wantFault(t, err, "invalid_change", "nobody")
	if strings.Contains(err.Error(), "gone") {
		t.Errorf("a problem of before is blamed on the change: %v", err)
	}
}

func TestListKeys(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.mustCreate(t, control.KeyRequest{Name: "web"})
	w.mustCreate(t, control.KeyRequest{Name: "api", Organization: "acme", Project: "app"})
	w.mustCreate(t, control.KeyRequest{Name: "old", Organization: "acme", Project: "web", Create: true})
	if _, err := w.RevokeKey(t.Context(), "acme/web/old"); err != nil {
		t.Fatal(err)
	}
	for filter, want := range map[control.KeyFilter]string{
		{}:                                     "acme/app/api acme/app/ci acme/web/old default/default/web",
		{Organization: "acme"}:                 "acme/app/api acme/app/ci acme/web/old",
		{Project: "app"}:                       "acme/app/api acme/app/ci",
		{Organization: "acme", Project: "web"}: "acme/web/old",
		{Organization: "nobody"}:               "",
	} {
		keys, err := w.ListKeys(t.Context(), filter)
		names := make([]string, len(keys))
		for i, k := range keys {
			names[i] = k.Organization + "/" + k.Project + "/" + k.Name
		}
		if got := strings.Join(names, " "); err != nil || got != want {
			t.Errorf("%+v: %s, %v; want %s", filter, got, err, want)
		}
	}
}

func TestOrganizationsAndProjects(t *testing.T) {
	t.Parallel()
	w := newWorld()
	if err := w.CreateOrganization(t.Context(), account.Organization{Name: "other"}); err != nil {
		t.Fatal(err)
	}
	if err := w.CreateProject(t.Context(), account.Project{Organization: "other", Name: "app", Labels: map[string]string{"team": "x"}}); err != nil {
		t.Fatal(err)
	}
	if err := w.CreateProject(t.Context(), account.Project{Organization: "acme", Name: "web"}); err != nil {
		t.Fatal(err)
	}
	if got := len(w.rows.spec.Organizations) + len(w.rows.spec.Projects); got != 3 {
		t.Errorf("%d rows", got)
	}
	wantFault(t, w.CreateOrganization(t.Context(), account.Organization{Name: "acme"}), "organization_exists", "acme")
	wantFault(t, w.CreateOrganization(t.Context(), account.Organization{Name: "Other"}), "invalid_name")
	wantFault(t, w.CreateProject(t.Context(), account.Project{Organization: "other", Name: "app"}), "project_exists", "other/app")
	wantFault(t, w.CreateProject(t.Context(), account.Project{Organization: "nobody", Name: "app"}), "organization_not_found", "nobody")
	wantFault(t, w.CreateProject(t.Context(), account.Project{Organization: "other", Name: ""}), "invalid_name")
}

func TestSomebodyElseIsFaster(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.rows.meanwhile = func(m *memoryRows) {
		m.apply(snapshot.Change{Put: snapshot.Spec{Organizations: []account.Organization{{Name: "default", Origin: account.FromDatabase}}}})
	}
	w.mustCreate(t, control.KeyRequest{Name: "web"})
	if len(w.rows.spec.Organizations) != 1 || w.rows.revision != 3 {
		t.Errorf("%d organizations at revision %d", len(w.rows.spec.Organizations), w.rows.revision)
	}
	// What was right at first may be wrong at the second look.
	w.rows.meanwhile = func(m *memoryRows) {
		m.apply(snapshot.Change{Put: snapshot.Spec{Keys: []account.APIKey{{ID: "key_theirs", Name: "api", Organization: "default", Project: "default", Hash: account.HashKey("theirs")}}}})
	}
	_, err := w.CreateKey(t.Context(), control.KeyRequest{Name: "api"})
	wantFault(t, err, "key_exists")

	var again func(*memoryRows)
	again = func(m *memoryRows) { m.revision++; m.meanwhile = again }
	w.rows.meanwhile = again
	_, err = w.CreateKey(t.Context(), control.KeyRequest{Name: "late"})
	wantFault(t, err, "declarations_busy")
}

func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld()
	const n = 10
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() {
			if _, err := w.CreateKey(t.Context(), control.KeyRequest{Name: fmt.Sprintf("key-%d", i)}); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if len(w.rows.spec.Keys) != n || len(w.rows.spec.Projects) != 1 || w.rows.revision != n+1 {
		t.Errorf("%d keys, %d projects, revision %d", len(w.rows.spec.Keys), len(w.rows.spec.Projects), w.rows.revision)
	}
}

func TestADatabaseThatIsAway(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.rows.failing = fault.New(fault.Unavailable, "database_unavailable", "away")
	_, err := w.CreateKey(t.Context(), control.KeyRequest{Name: "web"})
	wantFault(t, err, "database_unavailable")
	_, err = w.ListKeys(t.Context(), control.KeyFilter{})
	wantFault(t, err, "database_unavailable")
	w.rows.failing = errors.New("pq: something internal about 10.0.0.7")
	_, err = w.RevokeKey(t.Context(), "acme/app/ci")
	wantFault(t, err, "internal_error")
}

// deafSignals is a Redis that is away.
type deafSignals struct{}

func (deafSignals) Publish(context.Context, string) error { return errors.New("nobody there") }

func TestASignalThatFailsIsNoFailure(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	rows := &memoryRows{revision: 1}
	c := control.New(control.Options{Rows: rows, Signals: deafSignals{}, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	created, err := c.CreateKey(t.Context(), control.KeyRequest{Name: "web"})
	if err != nil || rows.revision != 2 {
		t.Errorf("revision %d, %v", rows.revision, err)
	}
	if !strings.Contains(log.String(), "nobody there") || strings.Contains(log.String(), created.Secret.Reveal()) {
		t.Errorf("log: %s", log.String())
	}
}

// A key of the database may be named like one of the file, when it was made without sight of the file.
func TestANameThatTwoKeysHaveRevokesNeither(t *testing.T) {
	t.Parallel()
	w := newWorld()
	key := account.APIKey{
		ID: "key_row", Name: "ci", Organization: "acme", Project: "app",
		Hash: account.HashKey("row"), Origin: account.FromDatabase,
	}
	w.rows.apply(snapshot.Change{Put: snapshot.Spec{Keys: []account.APIKey{key}}})
	_, err := w.RevokeKey(t.Context(), "acme/app/ci")
	wantFault(t, err, "key_ambiguous", "key_row")
	if got, err := w.RevokeKey(t.Context(), "key_row"); err != nil || got.RevokedAt.IsZero() {
		t.Errorf("by its id: %+v, %v", got, err)
	}
}
