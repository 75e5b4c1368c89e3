package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"shareai/internal/account"
	"shareai/internal/audit"
	"shareai/internal/catalog"
	"shareai/internal/fault"
	"shareai/internal/snapshot"
	"shareai/internal/store"
	"shareai/internal/store/storetest"
	"shareai/internal/usage"
)

// childVariable makes the test binary a second process of a test; see TestProcessesShareADatabase.
const childVariable = "SHAREAI_STORE_TEST_CHILD"

// childDatabase is the database URL of that process; empty: SQLite.
const childDatabase = "SHAREAI_STORE_TEST_CHILD_DATABASE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childVariable); dir != "" {
		if err := writeAsProcess(context.Background(), store.Options{DataDir: dir, Database: os.Getenv(childDatabase)}, fmt.Sprint(os.Getpid())); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func TestSQLite(t *testing.T) {
	t.Parallel()
	storetest.Run(t, storetest.SQLite)
}

func TestPostgres(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("needs a PostgreSQL server")
	}
	storetest.Server(t)
	storetest.Run(t, storetest.Postgres)
}

// engines runs a test that is not about one engine on each.
func engines(t *testing.T, test func(*testing.T, storetest.Database)) {
	t.Helper()
	t.Run("SQLite", func(t *testing.T) { test(t, storetest.SQLite(t)) })
	t.Run("PostgreSQL", func(t *testing.T) {
		if testing.Short() {
			t.Skip("needs a PostgreSQL server")
		}
		test(t, storetest.Postgres(t))
	})
}

const (
	goodMigration   = "-- +goose Up\nCREATE TABLE revision (value BIGINT NOT NULL);\n"
	brokenMigration = "-- +goose Up\nCREATE TABLE half (id TEXT PRIMARY KEY);\nCREATE TABLE half (id TEXT PRIMARY KEY);\n"
)

func TestFailedMigrationRefusesToStart(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, d storetest.Database) {
		migrations := fstest.MapFS{
			"0001_good.sql":   {Data: []byte(goodMigration)},
			"0002_broken.sql": {Data: []byte(brokenMigration)},
		}
		for try := range 2 { // the second start finds the traces of the first
			s, err := store.OpenMigrating(t.Context(), d.Options, migrations)
			if err == nil {
				_ = s.Close()
				t.Fatal("started half-migrated")
			}
			if f := fault.From(err); f.Code != "migration_failed" || !strings.Contains(f.Error(), "half") {
				t.Errorf("try %d: %v", try, err)
			}
		}
		// Nothing of the broken migration is left, so that a corrected one applies.
		d.Exec(t, "CREATE TABLE half (id TEXT PRIMARY KEY)")
	})
}

func TestMigrationsApplyOnTopOfEachOther(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, d storetest.Database) {
		if err := d.Open(t).Close(); err != nil {
			t.Fatal(err)
		}
		initial, err := fs.ReadFile(os.DirFS("migrations"), "0001_initial.sql")
		if err != nil {
			t.Fatal(err)
		}
		next := fstest.MapFS{
			"0001_initial.sql": {Data: initial},
			"9998_next.sql":    {Data: []byte("-- +goose Up\nUPDATE revision SET value = value * 10;\n")},
		}
		// Together, as replicas start after an upgrade: the migration must run once.
		const replicas = 5
		opened := make(chan error, replicas)
		for range replicas {
			go func() {
				s, err := store.OpenMigrating(t.Context(), d.Options, next)
				if err == nil {
					var at int64
					if at, err = s.Revision(t.Context()); err == nil && at != 10 {
						err = fmt.Errorf("revision %d, want 10", at)
					}
					err = errors.Join(err, s.Close())
				}
				opened <- err
			}()
		}
		for range replicas {
			if err := <-opened; err != nil {
				t.Error(err)
			}
		}
	})
}

// released are migrations that older versions had.
func released(t *testing.T, versions ...string) fstest.MapFS {
	t.Helper()
	files := fstest.MapFS{}
	for _, name := range versions {
		content, err := fs.ReadFile(os.DirFS("migrations"), name)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = &fstest.MapFile{Data: content}
	}
	return files
}

// Rows of every version that was released are carried over into the tables of their days and into the
// sums, and so is what a replica of an older version writes meanwhile.
func TestRecordsOfOlderVersionsStay(t *testing.T) {
	t.Parallel()
	const columns = `id, start, duration, first_token, organization, project, key_id, endpoint, route, model,
		provider, deployment, status, code, prompt_tokens, cached_tokens, completion_tokens, reasoning_tokens, estimated, cost, detail`
	for name, versions := range map[string][]string{
		"0001": {"0001_initial.sql"},
		"0003": {"0001_initial.sql", "0002_drills.sql", "0003_trace_fields.sql"},
	} {
		t.Run(name, func(t *testing.T) {
			engines(t, func(t *testing.T, d storetest.Database) {
				// This program can not work with such a database; it only makes it.
				if s, err := store.OpenMigrating(t.Context(), d.Options, released(t, versions...)); err == nil {
					_ = s.Close()
				}
				const rows, hour = 601, int64(3_600_000_000)
				for i := range rows {
					d.Exec(t, fmt.Sprintf(`INSERT INTO usage_records (`+columns+`) VALUES ('old %04d', %d, 2, 0, 'acme', 'app', 'key_1', 'chat', '', 'llama',
						'alpha', 'alpha/llama', 200, '', 3, 0, 4, 0, FALSE, 5,
						'{"requested":"llama","attempts":[{"provider":"alpha","deployment":"alpha/llama","provider_key":"main","outcome":"ok"}]}')`, i, int64(i)*hour))
				}
				d.Exec(t, "INSERT INTO usage_contents (id, request, answer, truncated) VALUES ('old 0003', 'hello', '', TRUE)")
				s := d.Open(t)
				got, err := s.Record(t.Context(), "old 0003")
				want := usage.Record{
					ID: "old 0003", Start: 3 * hour, Duration: 2, Organization: "acme", Project: "app", KeyID: "key_1", Endpoint: "chat", Requested: "llama",
					Model: "llama", Provider: "alpha", Deployment: "alpha/llama", Status: 200, Tokens: catalog.Tokens{Prompt: 3, Completion: 4}, Cost: 5,
					Attempts: []usage.Attempt{{Provider: "alpha", Deployment: "alpha/llama", ProviderKey: "main", Outcome: "ok"}},
					Content:  &usage.Content{Request: []byte("hello"), Answer: []byte{}, Truncated: true},
				}
				if diff := cmp.Diff(want, got); err != nil || diff != "" {
					t.Errorf("%v\n%s", err, diff)
				}
				check := func(requests int64) {
					t.Helper()
					sums, err := s.Usage(t.Context(), store.UsageQuery{By: []store.Dimension{store.ByDrill, store.ByProviderKey}})
					if err != nil || len(sums) != 1 || sums[0].Requests != requests || sums[0].Cost != 5*requests || sums[0].FailedOver != 0 {
						t.Errorf("%+v, %v; want %d requests", sums, err, requests)
					}
				}
				check(rows)
				d.Exec(t, `INSERT INTO usage_records (`+columns+`) VALUES ('meanwhile', 7, 2, 0, 'acme', 'app', 'key_1', 'chat', '', 'llama',
					'alpha', 'alpha/llama', 200, '', 3, 0, 4, 0, FALSE, 5, '{"attempts":[{"deployment":"alpha/llama","provider_key":"main"}]}')`)
				if err := s.AdoptRecords(t.Context()); err != nil {
					t.Fatal(err)
				}
				check(rows + 1)
				var left int
				if err := d.Raw.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM usage_records").Scan(&left); err != nil || left != 0 {
					t.Errorf("%d rows were left behind, %v", left, err)
				}
			})
		})
	}
}

// What retention drops, the file system gets back, and no more than what is left is written anew.
func TestSQLiteGivesDiskSpaceBack(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(*testing.T, storetest.Database){
		"a new file": func(*testing.T, storetest.Database) {},
		"a file of an older version": func(t *testing.T, d storetest.Database) {
			if err := os.MkdirAll(d.Options.DataDir, 0o700); err != nil {
				t.Fatal(err)
			}
			d.Exec(t, "CREATE TABLE before_that (id TEXT)")
			d.Exec(t, "DROP TABLE before_that")
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := storetest.SQLite(t)
			prepare(t, d)
			s := d.Open(t)
			size := func() int64 {
				t.Helper()
				d.Exec(t, "PRAGMA wal_checkpoint(TRUNCATE)")
				info, err := os.Stat(filepath.Join(d.Options.DataDir, "shareai.db"))
				if err != nil {
					t.Fatal(err)
				}
				return info.Size()
			}
			const day = int64(86_400_000_000)
			batch := make([]usage.Record, 5_000)
			for n := range int64(3) {
				for i := range batch {
					batch[i] = usualRecord()
					batch[i].ID, batch[i].Start = fmt.Sprintf("req_%d_%05d", n, i), n*day+int64(i)
				}
				if err := s.InsertRecords(t.Context(), batch); err != nil {
					t.Fatal(err)
				}
			}
			full := size()
			if n, err := s.DropRecords(t.Context(), time.UnixMicro(2*day)); err != nil || n != 2 {
				t.Fatalf("dropped %d days, %v", n, err)
			}
			if left := size(); left > full*2/5 {
				t.Errorf("of %d bytes for three days, %d are left for one", full, left)
			}
			if _, err := s.Record(t.Context(), "req_2_04999"); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestProcessesShareADatabase writes one database from several processes, as servers and the command line do.
func TestProcessesShareADatabase(t *testing.T) {
	t.Parallel()
	engines(t, processesShare)
}

func processesShare(t *testing.T, d storetest.Database) {
	const processes = 3
	children := make([]*exec.Cmd, processes)
	output := make([]bytes.Buffer, processes)
	for i := range children {
		children[i] = exec.CommandContext(t.Context(), os.Args[0])
		children[i].Env = append(os.Environ(), childVariable+"="+d.Options.DataDir, childDatabase+"="+d.Options.Database)
		children[i].Stderr = &output[i]
		if err := children[i].Start(); err != nil {
			t.Fatal(err)
		}
	}
	if err := writeAsProcess(t.Context(), d.Options, "parent"); err != nil {
		t.Error(err)
	}
	for i, child := range children {
		if err := child.Wait(); err != nil {
			t.Errorf("%v: %s", err, &output[i])
		}
	}
	s := d.Open(t)
	spec, revision, err := s.Load(t.Context())
	if err != nil || revision != 1+(processes+1)*processCommits || len(spec.Organizations) != (processes+1)*processCommits {
		t.Errorf("revision %d, %d organizations, %v", revision, len(spec.Organizations), err)
	}
	if head, err := s.VerifyAudit(t.Context(), audit.Head{}); err != nil || head.Entries != (processes+1)*processCommits {
		t.Errorf("the audit log has %d entries, %v", head.Entries, err)
	}
	total, err := s.Usage(t.Context(), store.UsageQuery{})
	if err != nil || total[0].Requests != (processes+1)*processCommits*processRecords {
		t.Errorf("usage %+v, %v", total, err)
	}
}

const processCommits, processRecords = 10, 50

func writeAsProcess(ctx context.Context, o store.Options, name string) error {
	s, err := store.Open(ctx, o)
	if err != nil {
		return err
	}
	for i := range processCommits {
		batch := make([]usage.Record, processRecords)
		for j := range batch {
			batch[j].ID = fmt.Sprintf("%s-%d-%d", name, i, j)
		}
		if err := s.InsertRecords(ctx, batch); err != nil {
			return err
		}
		for err = snapshot.ErrStale; errors.Is(err, snapshot.ErrStale); {
			var at int64
			if at, err = s.Revision(ctx); err == nil {
				_, err = s.Commit(ctx, at, snapshot.Change{Put: snapshot.Spec{
					Organizations: []account.Organization{{Name: fmt.Sprintf("%s-%d", name, i)}},
				}}, audit.Act{Name: "test", Subject: name})
			}
		}
		if err != nil {
			return err
		}
	}
	return s.Close()
}

func TestFilesArePrivate(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("no permission bits")
	}
	d := storetest.SQLite(t)
	s := d.Open(t)
	if _, err := s.Commit(t.Context(), 1, snapshot.Change{}); err != nil {
		t.Fatal(err)
	}
	check := func(path string, want fs.FileMode) {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %o, want %o", filepath.Base(path), got, want)
		}
	}
	check(d.Options.DataDir, 0o700)
	files, err := os.ReadDir(d.Options.DataDir)
	if err != nil || len(files) < 3 { // database, WAL, secrets key
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, f := range files {
		check(filepath.Join(d.Options.DataDir, f.Name()), 0o600)
	}
}

func TestGeneratedSecretsKeyStays(t *testing.T) {
	t.Parallel()
	d := storetest.SQLite(t)
	first := d.Open(t)
	_, err := first.Commit(t.Context(), 1, snapshot.Change{Put: snapshot.Spec{Providers: []catalog.Provider{{
		Name: "alpha", Keys: []catalog.ProviderKey{{Name: "main", Secret: account.NewSecret("sk-alpha")}},
	}}}})
	if err != nil {
		t.Fatal(err)
	}
	spec, _, err := d.Open(t).Load(t.Context())
	if err != nil || spec.Providers[0].Keys[0].Secret.Reveal() != "sk-alpha" {
		t.Fatalf("opened again: %v", err)
	}
	path := filepath.Join(d.Options.DataDir, "secrets.key")
	key, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// The file's content works as secrets_key, for the move to several replicas.
	if _, err := store.Open(t.Context(), d.With(strings.TrimSpace(string(key))).Options); err != nil {
		t.Errorf("the content as secrets_key: %v", err)
	}
	for _, content := range []string{"", " \n", "another key\n"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := store.Open(t.Context(), d.Options); err == nil || strings.Contains(err.Error(), strings.TrimSpace(string(key))) {
			t.Errorf("content %q: %v", content, err)
		}
	}
}

func TestBadOptions(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		options store.Options
		code    string
	}{
		"another database":  {store.Options{Database: "mysql://root:hunter2hunter2@db/x", DataDir: t.TempDir()}, "invalid_database"},
		"a bad URL":         {store.Options{Database: "postgres://u:hunter2hunter2@host:port/x", DataDir: t.TempDir()}, "invalid_database"},
		"nobody listens":    {store.Options{Database: "postgres://u:hunter2hunter2@127.0.0.1:1/x", DataDir: t.TempDir()}, "database_unavailable"},
		"no data_dir":       {store.Options{}, "invalid_data_dir"},
		"data_dir is below": {store.Options{DataDir: filepath.Join(file, "x")}, "data_dir_unavailable"},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			c.options.Logger = slog.New(slog.NewTextHandler(&log, nil))
			_, err := store.Open(t.Context(), c.options)
			if err == nil || fault.From(err).Code != c.code {
				t.Fatalf("%v", err)
			}
			if strings.Contains(err.Error()+log.String(), "hunter2") {
				t.Errorf("the password is shown: %v\n%s", err, &log)
			}
		})
	}
}

// TestDamagedFile opens a file that is no database: it must be refused, and left as it is.
func TestDamagedFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "shareai.db")
	content := bytes.Repeat([]byte("not a database"), 1000)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(t.Context(), store.Options{DataDir: dir}); err == nil {
		t.Error("opened")
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, content) {
		t.Errorf("the file was changed: %v", err)
	}
}
