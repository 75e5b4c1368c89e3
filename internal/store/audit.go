package store

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"shareai/internal/audit"
)

// The tables of the audit log.
const (
	auditTable     = "audit_entries"
	auditHeadTable = "audit_head"
)

// Audit logs acts that change no declaration: those that do are logged by Commit, together with the change.
func (s *Store) Audit(ctx context.Context, acts ...audit.Act) error {
	err := s.write.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
		return appendAudit(ctx, tx, 0, acts)
	})
	if err != nil {
		return s.engine.failed("write the audit log", err)
	}
	s.settle(ctx)
	return nil
}

// appendAudit appends entries within a transaction. revision is that which the transaction makes, or 0.
func appendAudit(ctx context.Context, tx bun.Tx, revision int64, acts []audit.Act) error {
	if len(acts) == 0 {
		return nil
	}
	// First, because it locks the row: whoever appends at the same time waits here, and then goes on from the
	// head that this transaction leaves.
	var head audit.Head
	err := tx.NewRaw("UPDATE ? SET entries = entries + ? RETURNING entries - ?, hash", bun.Ident(auditHeadTable), len(acts), len(acts)).
		Scan(ctx, &head.Entries, &head.Hash)
	if err != nil {
		return err
	}
	for _, act := range acts {
		var row audit.Row
		if row, head, err = head.Append(act, revision); err != nil {
			return err
		}
		_, err = tx.NewRaw("INSERT INTO ? (sequence, at, body, hash) VALUES (?, ?, ?, ?)",
			bun.Ident(auditTable), row.Sequence, row.At, row.Body, row.Hash).Exec(ctx)
		if err != nil {
			return err
		}
	}
	_, err = tx.NewRaw("UPDATE ? SET hash = ?", bun.Ident(auditHeadTable), head.Hash).Exec(ctx)
	return err
}

// EachAudit calls found for each entry of the log since a moment, in the order in which they were written. The
// zero time is the beginning. It ends at the first error of found, and returns it.
func (s *Store) EachAudit(ctx context.Context, since time.Time, found func(audit.Row) error) error {
	return s.inAudit(ctx, func(ctx context.Context, tx bun.Tx) error {
		query := tx.NewSelect().Table(auditTable).Column("sequence", "at", "body", "hash").Order("sequence")
		if !since.IsZero() {
			query = query.Where("at >= ?", since.UnixMicro())
		}
		return eachRow(ctx, query, found)
	})
}

// VerifyAudit walks along the whole log and returns its end. expected is an entry that was noted earlier and has
// to be there still; zero: none. An error of *audit.Broken says where the log is not what was written.
func (s *Store) VerifyAudit(ctx context.Context, expected audit.Head) (audit.Head, error) {
	chain := audit.Chain{Expected: expected}
	err := s.inAudit(ctx, func(ctx context.Context, tx bun.Tx) error {
		var stored audit.Head
		err := tx.NewSelect().Table(auditHeadTable).Column("entries", "hash").Scan(ctx, &stored.Entries, &stored.Hash)
		if errors.Is(err, sql.ErrNoRows) {
			return &audit.Broken{Sequence: 1, Reason: "the end of the log is not stored any more"}
		}
		if err != nil {
			return err
		}
		query := tx.NewSelect().Table(auditTable).Column("sequence", "at", "body", "hash").Order("sequence")
		if err := eachRow(ctx, query, chain.Add); err != nil {
			return err
		}
		return chain.End(stored)
	})
	return chain.Head(), err
}

// inAudit reads the log as one consistent view: somebody may append to it meanwhile.
func (s *Store) inAudit(ctx context.Context, read func(context.Context, bun.Tx) error) error {
	oneView := &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true}
	return s.engine.failed("read the audit log", s.read.RunInTx(ctx, oneView, read))
}

// eachRow calls found for each row of a query, one after the other: the log has no bound.
func eachRow(ctx context.Context, query *bun.SelectQuery, found func(audit.Row) error) error {
	rows, err := query.Rows(ctx)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var r audit.Row
		if err := rows.Scan(&r.Sequence, &r.At, &r.Body, &r.Hash); err != nil {
			return err
		}
		if err := found(r); err != nil {
			return err
		}
	}
	return rows.Err()
}

// AuditQuery selects entries of the audit log. An empty field matches everything.
type AuditQuery struct {
	From, To time.Time // From <= at < To
	Actor    string    // the id of who did it
	Act      string    // its name; one that ends with a dot: all that begin so
	Before   int64     // sequence: only earlier ones; 0: all
	Limit    int       // at least 1
}

// AuditPage returns entries, the newest first.
func (s *Store) AuditPage(ctx context.Context, q AuditQuery) ([]audit.Row, error) {
	var page []audit.Row
	err := s.inAudit(ctx, func(ctx context.Context, tx bun.Tx) error {
		query := tx.NewSelect().Table(auditTable).Column("sequence", "at", "body", "hash").OrderExpr("sequence DESC")
		if !q.From.IsZero() {
			query = query.Where("at >= ?", q.From.UnixMicro())
		}
		if !q.To.IsZero() {
			query = query.Where("at < ?", q.To.UnixMicro())
		}
		if q.Before > 0 {
			query = query.Where("sequence < ?", q.Before)
		}
		if q.Actor == "" && q.Act == "" {
			query = query.Limit(int64(q.Limit))
		}
		err := eachRow(ctx, query, func(r audit.Row) error {
			if match, err := q.matches(r); err != nil || !match {
				return err
			}
			if page = append(page, r); len(page) == q.Limit {
				return errEnough
			}
			return nil
		})
		if errors.Is(err, errEnough) {
			return nil
		}
		return err
	})
	return page, err
}

// errEnough ends a walk.
var errEnough = errors.New("these are enough")

// matches looks into the document of an entry: nothing of it is a column, so that nothing of it can be changed alone.
func (q *AuditQuery) matches(r audit.Row) (bool, error) {
	if q.Actor == "" && q.Act == "" {
		return true, nil
	}
	e, err := r.Entry()
	return (q.Actor == "" || e.Who.ID == q.Actor) &&
		(q.Act == "" || e.Act == q.Act || strings.HasSuffix(q.Act, ".") && strings.HasPrefix(e.Act, q.Act)), err
}
