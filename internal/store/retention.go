package store

import (
	"context"
	"database/sql"
	"time"
)

// DropRecords drops the records, contents and sums by the hour of every day that ended before a time, and
// gives their space back to the file system. It returns how many days were dropped. Sums by the day stay.
func (s *Store) DropRecords(ctx context.Context, before time.Time) (int, error) {
	days, err := s.days(ctx)
	if err != nil {
		return 0, s.engine.failed("drop old usage records", err)
	}
	dropped := 0
	for _, of := range days {
		if int64(of+1)*dayMicros > before.UnixMicro() {
			continue
		}
		if err := s.dropDay(ctx, of); err != nil {
			return dropped, s.engine.failed("drop old usage records", err)
		}
		dropped++
		// After each day: SQLite looks for a page among all free ones, so that twenty days at once take far
		// more than twenty times as long.
		if err := s.engine.giveBack(ctx); err != nil {
			return dropped, s.engine.failed("give disk space back", err)
		}
	}
	// Also when nothing was dropped: the last time may have been cut off in the middle.
	return dropped, s.engine.failed("give disk space back", s.engine.giveBack(ctx))
}

func (s *Store) dropDay(ctx context.Context, of day) error {
	s.inserting.Lock()
	defer s.inserting.Unlock()
	s.forgetPartitions()
	tx, err := s.engine.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing
	for _, statement := range []string{
		"DROP TABLE IF EXISTS " + of.records(), "DROP TABLE IF EXISTS " + of.contents(), "DROP TABLE IF EXISTS " + of.hours(),
		"DROP TABLE IF EXISTS " + of.times(),
	} {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	for _, statement := range []string{"DELETE FROM usage_prompts WHERE day = $1", "DELETE FROM usage_partitions WHERE day = $1"} {
		if _, err := tx.ExecContext(ctx, statement, int64(of)); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// Turn says whether it is the caller's turn to do work that one replica does for all, every so often. Who
// gets true has taken the turn, whatever becomes of it: the next one comes when the time has passed.
func (s *Store) Turn(ctx context.Context, job string, every time.Duration) (bool, error) {
	now := time.Now().UnixMicro()
	result, err := s.engine.write.ExecContext(ctx, `INSERT INTO job_turns (job, taken_at) VALUES ($1, $2)
		ON CONFLICT (job) DO UPDATE SET taken_at = excluded.taken_at WHERE job_turns.taken_at <= $3 OR job_turns.taken_at > $4`,
		job, now, now-every.Microseconds(), now+every.Microseconds()) // a clock that was far ahead must not stop the job
	if err != nil {
		return false, s.engine.failed("take a turn", err)
	}
	n, err := result.RowsAffected()
	return n == 1, err
}

// arrangeSQLite turns a file of an older version to where single pages can be given back. That writes the
// whole file anew, once.
func arrangeSQLite(ctx context.Context, db *sql.DB) error {
	const incremental = 2
	var mode int
	if err := db.QueryRowContext(ctx, "PRAGMA auto_vacuum").Scan(&mode); err != nil || mode == incremental {
		return err
	}
	_, err := db.ExecContext(ctx, "PRAGMA auto_vacuum(INCREMENTAL); VACUUM")
	return err
}

// pagesAtOnce bounds how long others wait while space is given back: 8 MiB take some 50 ms.
const pagesAtOnce = "2000"

// giveBackSQLite shrinks the file by its free pages, some at a time, so that others get to write meanwhile.
func giveBackSQLite(ctx context.Context, db *sql.DB) error {
	for {
		var free int64
		if err := db.QueryRowContext(ctx, "PRAGMA freelist_count").Scan(&free); err != nil {
			return err
		}
		if free == 0 {
			_, err := db.ExecContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)") // only then the file shrinks
			return err
		}
		if err := freePages(ctx, db); err != nil {
			return err
		}
	}
}

// freePages reads the pragma's rows to the end: it frees one page for each.
func freePages(ctx context.Context, db *sql.DB) error {
	rows, err := db.QueryContext(ctx, "PRAGMA incremental_vacuum("+pagesAtOnce+")")
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
	}
	return rows.Err()
}
