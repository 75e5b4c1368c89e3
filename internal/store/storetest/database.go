package storetest

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	_ "modernc.org/sqlite"             // the driver "sqlite"

	"shareai/internal/account"
	"shareai/internal/store"
)

// PostgresVariable is the environment variable with the URL of a PostgreSQL server on which databases
// may be created and dropped.
const PostgresVariable = "SHAREAI_TEST_POSTGRES"

// Database is a fresh, empty database, which lives as long as the test.
type Database struct {
	Options store.Options
	// Raw is a connection that goes past the store.
	Raw *sql.DB
	// Tables lists the tables, as the engine's catalogue has them.
	Tables string
	// TakeAway makes the database refuse writes until the returned function is called.
	TakeAway func(t *testing.T) (giveBack func())
	// Another makes one more database of the same engine.
	Another func(t *testing.T) Database
	// Unguard are statements that take away what keeps the audit log from being changed.
	Unguard []string
	// Forbidden are statements that change the audit log, whose entry 2 is the last.
	Forbidden []string
}

// changes are Forbidden on every engine.
var changes = []string{
	"UPDATE audit_entries SET body = '{}' WHERE sequence = 1",
	"DELETE FROM audit_entries WHERE sequence = 2",
	"DELETE FROM audit_entries",
}

// SQLite returns a SQLite database in a directory of its own.
func SQLite(t *testing.T) Database {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	path := filepath.Join(dir, "shareai.db")
	raw, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = raw.Close() })
	return Database{
		Options:   store.Options{DataDir: dir},
		Another:   SQLite,
		Unguard:   []string{"DROP TRIGGER audit_no_update", "DROP TRIGGER audit_no_delete", "DROP TRIGGER audit_no_replace"},
		Forbidden: append([]string{"INSERT OR REPLACE INTO audit_entries VALUES (2, 0, '{}', '')"}, changes...),
		Raw:       raw,
		Tables:    "SELECT name FROM sqlite_schema WHERE type = 'table'",
		TakeAway: func(t *testing.T) func() {
			// SQLite is a file; what can happen to it is another process that does not let go.
			hog, err := raw.Conn(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			exec(t, hog, "BEGIN IMMEDIATE")
			return func() {
				exec(t, hog, "ROLLBACK")
				_ = hog.Close()
			}
		},
	}
}

// Server returns the URL of the PostgreSQL server. Without one the test fails; callers leave it out under
// testing.Short.
func Server(t *testing.T) string {
	t.Helper()
	server := os.Getenv(PostgresVariable)
	if server == "" {
		t.Fatalf("%s is not set: run make test, or scripts/services.sh run go test …", PostgresVariable)
	}
	return server
}

// Postgres returns a new database on the server.
func Postgres(t *testing.T) Database {
	t.Helper()
	server := Server(t)
	admin, err := sql.Open("pgx", server)
	if err != nil {
		t.Fatal(err)
	}
	name := "shareai_" + strings.ToLower(rand.Text()[:12])
	exec(t, admin, "CREATE DATABASE "+name)
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + name
	raw, err := sql.Open("pgx", u.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = raw.Close()
		exec(t, admin, "DROP DATABASE "+name+" WITH (FORCE)")
		_ = admin.Close()
	})
	return Database{
		Another:   Postgres,
		Unguard:   []string{"ALTER TABLE audit_entries DISABLE TRIGGER ALL"},
		Forbidden: append([]string{"TRUNCATE audit_entries"}, changes...),
		Options:   store.Options{Database: u.String(), DataDir: filepath.Join(t.TempDir(), "data")},
		Raw:       raw,
		Tables:    "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'",
		TakeAway: func(t *testing.T) func() {
			exec(t, admin, "ALTER DATABASE "+name+" ALLOW_CONNECTIONS false")
			exec(t, admin, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '"+name+"'")
			return func() { exec(t, admin, "ALTER DATABASE "+name+" ALLOW_CONNECTIONS true") }
		},
	}
}

// Open opens the database as the store does. It is closed with the test.
func (d Database) Open(t *testing.T) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), d.Options)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

// With returns the database with another secrets key.
func (d Database) With(key string) Database {
	d.Options.SecretsKey = account.NewSecret(key)
	return d
}

// Exec runs a statement past the store.
func (d Database) Exec(t *testing.T, statement string, args ...any) {
	t.Helper()
	exec(t, d.Raw, statement, args...)
}

// Bytes returns everything that the database holds: the values of all its tables and, for SQLite, the
// files themselves.
func (d Database) Bytes(t *testing.T) []byte {
	t.Helper()
	var all bytes.Buffer
	for _, table := range d.values(t, d.Tables) {
		for _, value := range d.values(t, fmt.Sprintf("SELECT * FROM %s", table)) {
			all.Write(value)
			all.WriteByte('\n')
		}
	}
	files, err := filepath.Glob(filepath.Join(d.Options.DataDir, "shareai.db*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(content)
	}
	return all.Bytes()
}

// values returns every value of a query's rows.
func (d Database) values(t *testing.T, query string) [][]byte {
	t.Helper()
	rows, err := d.Raw.QueryContext(context.WithoutCancel(t.Context()), query)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	var all [][]byte
	for rows.Next() {
		values := make([]sql.RawBytes, len(columns))
		into := make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		for _, v := range values {
			all = append(all, bytes.Clone(v))
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

func exec(t *testing.T, db interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}, statement string, args ...any,
) {
	t.Helper()
	// Not the test's context: it has ended when a cleanup runs.
	if _, err := db.ExecContext(context.WithoutCancel(t.Context()), statement, args...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}
