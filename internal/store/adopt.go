package store

import (
	"context"
	"fmt"

	"github.com/uptrace/bun"

	"shareai/internal/usage"
)

// The tables of the versions before there were days.
const (
	oldRecords  = "usage_records"
	oldContents = "usage_contents"
)

// adoptAtOnce is how many records are carried over in one go.
const adoptAtOnce = 500

// AdoptRecords carries records of the versions before there were days over into the tables of their days and
// into the sums. A replica of such a version may go on writing while others are newer already, which is why
// this is no part of the migration. A record is removed from the old table after it was stored in the
// new one: whatever happens in between, it is counted once.
func (s *Store) AdoptRecords(ctx context.Context) error {
	for adopted := 0; ; {
		n, err := s.adoptSome(ctx)
		if err != nil {
			return s.engine.failed("carry usage records of an older version over", err)
		}
		if adopted += n; n < adoptAtOnce {
			if adopted > 0 {
				s.log.InfoContext(ctx, "usage records of an older version were carried over", "records", adopted)
			}
			return nil
		}
	}
}

func (s *Store) adoptSome(ctx context.Context) (int, error) {
	var rows []recordRow
	err := s.write.NewSelect().Model(&rows).ModelTableExpr("? AS record_row", bun.Ident(oldRecords)).ExcludeColumn("prompt").
		Order("start", "id").Limit(adoptAtOnce).Scan(ctx)
	if err != nil || len(rows) == 0 {
		return 0, err
	}
	records := make([]usage.Record, len(rows))
	ids := make([]string, len(rows))
	for i := range rows {
		if records[i], err = rows[i].record(); err != nil {
			return 0, fmt.Errorf("record %s: %w", rows[i].ID, err)
		}
		if records[i].Content, err = s.content(ctx, oldContents, rows[i].ID); err != nil {
			return 0, err
		}
		ids[i] = rows[i].ID
	}
	if err := s.InsertRecords(ctx, records); err != nil {
		return 0, err
	}
	return len(rows), s.write.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
		for _, table := range []string{oldRecords, oldContents} {
			if _, err := tx.NewDelete().Table(table).Where("id IN (?)", bun.List(ids)).Exec(ctx); err != nil {
				return err
			}
		}
		return nil
	})
}
