// Package store keeps the durable rows: declarations made through the console and the API, usage
// records, and the secrets of providers, sealed. SQLite and PostgreSQL are behind one implementation;
// what they do differently is in engine.go, and one conformance suite (storetest) runs on both.
//
// Errors are *fault.Error where a user can do something about them. A database that is away is
// fault.Unavailable; the same call works again when the database is back.
package store

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"

	"github.com/uptrace/bun"

	"shareai/internal/account"
	"shareai/internal/seal"
)

// Options say where the rows are and how provider keys are sealed.
type Options struct {
	// Database is a postgres:// URL. Empty: the SQLite file shareai.db in DataDir.
	Database string
	// DataDir holds the SQLite file and the generated secrets key. It is created when it is missing.
	DataDir string
	// SecretsKey seals provider keys; any string, the same on every replica. Empty: a key that is
	// generated once into the file secrets.key in DataDir.
	SecretsKey account.Secret
	// Logger may be nil: nothing is logged.
	Logger *slog.Logger
}

// Store is an open database. Its methods may be called by many goroutines at once, and several
// processes may open the same database.
type Store struct {
	log    *slog.Logger
	engine *engine
	read   *bun.DB
	write  *bun.DB // the same as read on PostgreSQL
	sealer *seal.Box

	inserting  sync.Mutex       // held by who inserts records, and guards what follows
	partitions []*partition     // opened lately
	usageDays  *bulkInsert      // adds to the sums of days
	usageTimes *bulkInsert      // adds to the times of days
	series     map[series]int64 // ids of series that are known to be stored
}

//go:embed migrations/*.sql
var migrations embed.FS

// Open opens the database, migrates it to this version, and checks that every provider key can be
// opened. It refuses a database whose migration failed or that a newer version has migrated.
func Open(ctx context.Context, o Options) (*Store, error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	return open(ctx, o, files)
}

// open is Open with the migrations to apply.
func open(ctx context.Context, o Options, migrations fs.FS) (*Store, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	box, err := openBox(o)
	if err != nil {
		return nil, err
	}
	e, err := openEngine(ctx, o)
	if err != nil {
		return nil, err
	}
	s := &Store{
		log:    o.Logger,
		engine: e,
		read:   bun.NewDB(e.read, e.dialect()),
		write:  bun.NewDB(e.write, e.dialect()),
		sealer: box,
		series: map[series]int64{},
	}
	if err := s.prepare(ctx, migrations); err != nil {
		_ = s.Close() // the first error is the one to report
		return nil, err
	}
	return s, nil
}

// prepare brings the opened database to where it can be used.
func (s *Store) prepare(ctx context.Context, migrations fs.FS) error {
	if err := migrate(ctx, s.engine, migrations, s.log); err != nil {
		return err
	}
	if err := s.guardAudit(ctx); err != nil {
		return s.engine.failed("make the audit log append-only", err)
	}
	if _, _, err := s.Load(ctx); err != nil { // a wrong secrets key shows now, not at the first request
		return err
	}
	var err error
	if s.usageDays, err = s.prepareBulk(ctx, usageDaysTable, tallyColumns, addSums(usageDaysTable)); err != nil {
		return s.engine.failed("open the usage records", err)
	}
	if s.usageTimes, err = s.prepareBulk(ctx, usageDayTimesTable, timesColumns[:], replaceTimes); err != nil {
		return s.engine.failed("open the usage records", err)
	}
	if err := s.engine.arrange(ctx); err != nil {
		s.log.WarnContext(ctx, "disk space of old records will be used again, and not given back", "error", err)
	}
	return s.AdoptRecords(ctx)
}

// Close releases the database. It may be called more than once.
func (s *Store) Close() error { return s.engine.close() }

// Ping says whether the database answers.
func (s *Store) Ping(ctx context.Context) error {
	return s.engine.failed("reach the database", s.read.PingContext(ctx))
}

// String names the kind of database, for logs.
func (s *Store) String() string { return fmt.Sprintf("%s database", s.engine.name) }

// openBox takes the secrets key of the options, or the one in the data directory.
func openBox(o Options) (*seal.Box, error) {
	if o.SecretsKey.Empty() {
		if err := makeDataDir(o.DataDir); err != nil {
			return nil, err
		}
	}
	return seal.New(o.SecretsKey, o.DataDir)
}

// Secret makes a secret of the secrets key for a purpose: the same one on every replica that has that key.
func (s *Store) Secret(purpose string) []byte { return s.sealer.Derive(purpose) }
