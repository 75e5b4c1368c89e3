package store

import (
	"context"
	"database/sql"

	"github.com/pressly/goose/v3"
)

// guard is how an engine keeps the audit log from being changed by anything but appending. Who owns the
// database can remove it; then the chain of hashes still tells.
type guard struct {
	present    string // counts what make makes
	parts      int
	statements []string
}

// guardOf is the guard of an engine. A migration can not make it: both engines run the same ones.
func guardOf(d goose.Dialect) guard {
	if d == goose.DialectPostgres {
		return guard{
			present: `SELECT COUNT(*) FROM pg_trigger WHERE tgrelid = 'audit_entries'::regclass
				AND tgname IN ('audit_append_only', 'audit_no_truncate') AND tgenabled IN ('O', 'A')`,
			parts: 2,
			statements: []string{
				"SELECT pg_advisory_xact_lock(7308604759847481188)", // processes start at the same time
				`CREATE OR REPLACE FUNCTION audit_append_only() RETURNS trigger LANGUAGE plpgsql AS
					$$ BEGIN RAISE EXCEPTION 'the audit log is append-only'; END $$`,
				"DROP TRIGGER IF EXISTS audit_append_only ON audit_entries",
				`CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE ON audit_entries
					FOR EACH ROW EXECUTE FUNCTION audit_append_only()`,
				"DROP TRIGGER IF EXISTS audit_no_truncate ON audit_entries",
				`CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON audit_entries
					FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only()`,
			},
		}
	}
	const abort = " BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END"
	return guard{
		present: "SELECT COUNT(*) FROM sqlite_schema WHERE type = 'trigger' AND name IN ('audit_no_update', 'audit_no_delete', 'audit_no_replace')",
		parts:   3,
		statements: []string{
			"CREATE TRIGGER IF NOT EXISTS audit_no_update BEFORE UPDATE ON audit_entries" + abort,
			"CREATE TRIGGER IF NOT EXISTS audit_no_delete BEFORE DELETE ON audit_entries" + abort,
			// INSERT OR REPLACE deletes without a word to the trigger above.
			`CREATE TRIGGER IF NOT EXISTS audit_no_replace BEFORE INSERT ON audit_entries
				WHEN EXISTS (SELECT 1 FROM audit_entries WHERE sequence = NEW.sequence)` + abort,
		},
	}
}

// guardAudit makes the audit log append-only, where it is not so yet.
func (s *Store) guardAudit(ctx context.Context) error {
	g := guardOf(s.engine.goose)
	var present int
	if err := s.engine.read.QueryRowContext(ctx, g.present).Scan(&present); err != nil || present == g.parts {
		return err
	}
	tx, err := s.engine.write.BeginTx(ctx, &sql.TxOptions{})
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after the commit it does nothing
	for _, statement := range g.statements {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return tx.Commit()
}
