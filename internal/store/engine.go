package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
	"github.com/uptrace/bun/dialect/pgdialect"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	"github.com/uptrace/bun/schema"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"shareai/internal/fault"
)

// engine is everything in which SQLite and PostgreSQL differ.
type engine struct {
	name    string // for people
	read    *sql.DB
	write   *sql.DB               // SQLite: the one connection that writes; PostgreSQL: the same as read
	dialect func() schema.Dialect // bun keeps state in a dialect, so that each handle needs its own
	goose   goose.Dialect
	locker  lock.SessionLocker // lets one process migrate at a time
	// parameter writes the nth parameter of a statement, from 1. Both understand $1, but SQLite looks such
	// a name up by a walk over all of them, for each value that is bound.
	parameter func(n int) string
	// settle makes what was committed survive the failure of the machine.
	settle func(ctx context.Context) error
	// arrange brings a database of an older version to where giveBack works.
	arrange func(ctx context.Context) error
	// giveBack returns the space of dropped tables to the file system.
	giveBack func(ctx context.Context) error
	// away says whether an error means that the database can not be used at the moment.
	away func(error) bool
	// refused says whether an error means that the database will never take these values.
	refused func(error) bool
}

func openEngine(ctx context.Context, o Options) (*engine, error) {
	scheme, _, _ := strings.Cut(o.Database, "://")
	switch scheme {
	case "":
		return openSQLite(ctx, o.DataDir)
	case "postgres", "postgresql":
		return openPostgres(ctx, o.Database)
	default:
		return nil, fault.New(fault.Invalid, "invalid_database",
			`database is neither empty (SQLite in data_dir) nor a URL such as postgres://user:password@host:5432/name.`)
	}
}

func (e *engine) close() error {
	if e.read == e.write {
		return e.write.Close()
	}
	return errors.Join(e.read.Close(), e.write.Close()) // the writer last: it removes the WAL
}

// failed turns an error of the database into one for the user, saying what was being done.
func (e *engine) failed(doing string, err error) error {
	var known *fault.Error
	switch {
	case err == nil || errors.As(err, &known):
		return err
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: %w", doing, err)
	case e.away(err):
		return fault.New(fault.Unavailable, "database_unavailable",
			"The "+e.name+" database can not be used at the moment. Check that it runs and can be reached, then try again.").
			Because(fmt.Errorf("%s: %w", doing, err))
	default:
		return fmt.Errorf("%s: %w", doing, err)
	}
}

// The SQLite files in the data directory.
const (
	sqliteFile  = "shareai.db"
	migrateFile = "shareai.db-migrate"
)

// busyTimeout is how long a statement waits while another process writes.
const busyTimeout = 5 * time.Second

// migrateTimeout is how long a process waits while another one migrates.
const migrateTimeout = 5 * time.Minute

// sqliteReaders bounds the reading connections; each has a page cache of its own.
const sqliteReaders = 4

func openSQLite(ctx context.Context, dir string) (*engine, error) {
	if err := makeDataDir(dir); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, sqliteFile)
	if err := createPrivate(path); err != nil {
		return nil, fault.New(fault.Unavailable, "database_unavailable",
			"The database file in data_dir can not be opened. Check its owner and permissions.").Because(err)
	}
	wal := []string{"journal_mode(WAL)", "synchronous(NORMAL)"}
	// The vacuum mode is in force from the first page on, which WAL mode writes.
	write, err := sql.Open("sqlite", sqliteURL(path, busyTimeout, append([]string{"auto_vacuum(INCREMENTAL)"}, wal...))+"&_txlock=immediate")
	if err != nil {
		return nil, err
	}
	// One connection writes: two of one process would only wait for each other, by polling.
	write.SetMaxOpenConns(1)
	read, err := sql.Open("sqlite", sqliteURL(path, busyTimeout, append(wal, "query_only(1)")))
	if err != nil {
		return nil, errors.Join(err, write.Close())
	}
	read.SetMaxOpenConns(sqliteReaders)
	e := &engine{
		name:      "SQLite",
		read:      read,
		write:     write,
		dialect:   func() schema.Dialect { return sqlitedialect.New() },
		goose:     goose.DialectSQLite3,
		locker:    &fileLocker{path: filepath.Join(dir, migrateFile)},
		parameter: func(int) string { return "?" },
		// With synchronous=NORMAL a commit reaches the disk at the next checkpoint. That is right for
		// usage records, and too late for a key that was revoked.
		settle: func(ctx context.Context) error {
			_, err := write.ExecContext(ctx, "PRAGMA wal_checkpoint(PASSIVE)")
			return err
		},
		arrange:  func(ctx context.Context) error { return arrangeSQLite(ctx, write) },
		giveBack: func(ctx context.Context) error { return giveBackSQLite(ctx, write) },
		away:     awaySQLite,
		refused:  refusedSQLite,
	}
	// The writer first: it turns the file to WAL mode, which a query_only connection can not.
	if err := e.failed("open the database file", toWAL(ctx, write)); err != nil {
		return nil, errors.Join(err, e.close())
	}
	return e, nil
}

// toWAL opens the file's first connection, whose pragmas turn a new file to WAL mode. Two processes that
// do so at once would wait for each other, which SQLite answers with "busy" at once, whatever the
// busy timeout: try again, until one of them has done it.
func toWAL(ctx context.Context, db *sql.DB) error {
	ctx, cancel := context.WithTimeout(ctx, busyTimeout)
	defer cancel()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		err := db.PingContext(ctx)
		var e *sqlite.Error
		if !errors.As(err, &e) || e.Code()&0xff != sqlite3.SQLITE_BUSY {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-again.C:
		}
	}
}

// makeDataDir creates the data directory for this user alone. One that exists keeps its mode.
func makeDataDir(dir string) error {
	if dir == "" {
		return fault.New(fault.Invalid, "invalid_data_dir", "data_dir is empty; name a directory for the database and the secrets key.")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fault.New(fault.Unavailable, "data_dir_unavailable",
			"data_dir can not be created. Check its path and permissions.").Because(err)
	}
	return nil
}

// createPrivate creates a file for this user alone, which SQLite would make readable for others. Side
// files inherit the mode. A file that exists stays as it is.
func createPrivate(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// sqliteURL is the data source name of a file. busy is how long a statement waits for a lock.
func sqliteURL(path string, busy time.Duration, pragmas []string) string {
	path = filepath.ToSlash(path)
	if filepath.VolumeName(path) != "" { // C:/… is /C:/… in a URL
		path = "/" + path
	}
	// The waiting comes first: the other pragmas may need it.
	pragmas = append([]string{fmt.Sprintf("busy_timeout(%d)", busy.Milliseconds())}, pragmas...)
	return (&url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: url.Values{"_pragma": pragmas}.Encode()}).String()
}

func awaySQLite(err error) bool {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return errors.Is(err, driver.ErrBadConn)
	}
	switch e.Code() & 0xff { // the upper bits tell variants apart
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL,
		sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PROTOCOL:
		return true
	default:
		return false
	}
}

func refusedSQLite(err error) bool {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_RANGE:
		return true
	default:
		return false
	}
}

// fileLocker lets one process at a time migrate a SQLite database. It holds the exclusive lock of a
// second, empty database: SQLite has no lock beyond a transaction, and each migration is one. The
// operating system lets go of the lock when the process dies.
type fileLocker struct {
	path string
	db   *sql.DB
	held *sql.Conn
}

// SessionLock implements goose's lock.SessionLocker.
func (l *fileLocker) SessionLock(ctx context.Context, _ *sql.Conn) error {
	if err := createPrivate(l.path); err != nil {
		return err
	}
	db, err := sql.Open("sqlite", sqliteURL(l.path, migrateTimeout, nil))
	if err != nil {
		return err
	}
	conn, err := db.Conn(ctx)
	if err == nil {
		_, err = conn.ExecContext(ctx, "BEGIN EXCLUSIVE")
	}
	if err != nil {
		return errors.Join(fmt.Errorf("wait for another process that migrates: %w", err), db.Close())
	}
	l.db, l.held = db, conn
	return nil
}

// SessionUnlock implements goose's lock.SessionLocker.
func (l *fileLocker) SessionUnlock(context.Context, *sql.Conn) error {
	return errors.Join(l.held.Close(), l.db.Close()) // closing ends the transaction
}

// PostgreSQL's pool. Inserts of usage are batched and the rest is rare, so that few connections do.
const (
	postgresConns       = 16
	postgresIdleConns   = 4
	postgresIdleTime    = 5 * time.Minute
	postgresConnTimeout = 5 * time.Second
)

func openPostgres(ctx context.Context, database string) (*engine, error) {
	config, err := pgx.ParseConfig(database)
	if err != nil { // its text may quote the URL, and with it a password
		return nil, fault.New(fault.Invalid, "invalid_database",
			"database is not a valid PostgreSQL URL; it looks like postgres://user:password@host:5432/name.")
	}
	if !strings.Contains(database, "connect_timeout") {
		config.ConnectTimeout = postgresConnTimeout
	}
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "shareai"
	}
	// bun writes values into its statements as literals; its quoting is right only with this setting.
	config.RuntimeParams["standard_conforming_strings"] = "on"
	// For the same reason each statement's text differs from the last: preparing them would fill the
	// server's memory. What is worth it is prepared by hand (see prepareInserts).
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, uint64(migrateTimeout/time.Second)))
	if err != nil {
		return nil, err
	}
	db := stdlib.OpenDB(*config)
	db.SetMaxOpenConns(postgresConns)
	db.SetMaxIdleConns(postgresIdleConns)
	db.SetConnMaxIdleTime(postgresIdleTime)
	e := &engine{
		name:      "PostgreSQL",
		read:      db,
		write:     db,
		dialect:   func() schema.Dialect { return pgdialect.New() },
		goose:     goose.DialectPostgres,
		locker:    locker,
		parameter: func(n int) string { return "$" + strconv.Itoa(n) },
		settle:    func(context.Context) error { return nil }, // a commit is durable there
		arrange:   func(context.Context) error { return nil },
		giveBack:  func(context.Context) error { return nil }, // each table is a file
		away:      awayPostgres,
		refused:   refusedPostgres,
	}
	if err := e.failed("connect to the database", db.PingContext(ctx)); err != nil {
		return nil, errors.Join(err, e.close())
	}
	return e, nil
}

func awayPostgres(err error) bool {
	var connect *pgconn.ConnectError
	if errors.As(err, &connect) {
		return true
	}
	var answer *pgconn.PgError
	if errors.As(err, &answer) {
		switch answer.Code[:min(2, len(answer.Code))] {
		case "08", "53", "57", "58": // connection, resources, operator intervention, system
			return true
		default:
			return false
		}
	}
	var network net.Error
	return errors.As(err, &network) || errors.Is(err, driver.ErrBadConn) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed)
}

func refusedPostgres(err error) bool {
	var answer *pgconn.PgError
	if !errors.As(err, &answer) {
		return false
	}
	switch answer.Code[:min(2, len(answer.Code))] {
	case "22", "23", "54": // data, integrity, program limits
		return true
	default:
		return false
	}
}
