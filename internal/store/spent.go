package store

import (
	"context"
	"database/sql"
	"slices"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect"

	"shareai/internal/account"
	"shareai/internal/usage"
)

// longestRequest bounds how long before its end a request may have begun that Spent leaves out because of its end.
const longestRequest = time.Hour

// Spent is the cost of the usage records that a Spending selects, in nano-dollars. Whole hours are read from the sums,
// what is left at both ends, and what ended too late, from the records: all of it in one view, because records
// arrive meanwhile.
func (s *Store) Spent(ctx context.Context, of account.Spending) (spent int64, err error) {
	oneView := &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true}
	err = s.read.RunInTx(ctx, oneView, func(ctx context.Context, tx bun.Tx) (err error) {
		spent, err = s.spent(ctx, tx, of)
		return err
	})
	return spent, s.engine.failed("sum up what was spent", err)
}

func (s *Store) spent(ctx context.Context, tx bun.Tx, of account.Spending) (spent int64, err error) {
	days, err := daysIn(ctx, tx)
	if err != nil {
		return 0, err
	}
	from, to := of.From.UTC(), of.To.UTC()
	if begins := dayOf(from.UnixMicro()); !slices.Contains(days, begins) {
		// The hours of that day were dropped. All of the day is too much, and none of it would be too little.
		from = from.Truncate(24 * time.Hour)
	}
	first, last := from.Truncate(time.Hour), to.Truncate(time.Hour)
	if first.Before(from) {
		first = first.Add(time.Hour)
	}
	ends := [][2]time.Time{{from, to}}
	if first.Before(last) {
		ends = [][2]time.Time{{from, first}, {last, to}}
		if spent, err = s.spentInHours(ctx, tx, of, first, last); err != nil {
			return 0, err
		}
	}
	for _, end := range ends {
		part := of
		part.From, part.To, part.Ended = end[0], end[1], time.Time{}
		n, err := sumRecords(ctx, tx, part)
		if err != nil {
			return 0, err
		}
		spent += n
	}
	if of.Ended.IsZero() {
		return spent, nil
	}
	late, err := sumRecords(ctx, tx, of)
	return spent - late, err
}

// spentInHours sums up whole hours.
func (s *Store) spentInHours(ctx context.Context, tx bun.Tx, of account.Spending, from, to time.Time) (spent int64, err error) {
	by := []Dimension{ByProject}
	if of.Label != "" {
		by = append(by, ByLabel(of.Label))
	}
	rows, err := s.usageIn(ctx, tx, UsageQuery{
		From: from, To: to, By: by, Organization: of.Organization, KeyID: of.KeyID, Model: of.Model,
	})
	for _, r := range rows {
		among := len(of.Projects) == 0 || slices.ContainsFunc(of.Projects, func(p string) bool { return r.Values[0] == of.Organization+"/"+p })
		if among && (of.Label == "" || r.Values[1] == of.LabelValue) {
			spent += r.Cost
		}
	}
	return spent, err
}

// sumRecords sums up records one by one: those of a short time, or those that had not ended before of.Ended. The latter
// are found by their ids, which rise with time: nothing else of a record is indexed.
func sumRecords(ctx context.Context, tx bun.Tx, of account.Spending) (spent int64, err error) {
	if earliest := of.Ended.Add(-longestRequest); !of.Ended.IsZero() && of.From.Before(earliest) {
		of.From = earliest
	}
	if !of.From.Before(of.To) {
		return 0, nil
	}
	days, err := daysIn(ctx, tx)
	if err != nil {
		return 0, err
	}
	for _, d := range days {
		if d < dayOf(of.From.UnixMicro()) || d > dayOf(of.To.UnixMicro()-1) {
			continue
		}
		query := tx.NewSelect().TableExpr("?", bun.Ident(d.records())).ColumnExpr("CAST(COALESCE(SUM(cost), 0) AS BIGINT)").
			Where("start >= ?", of.From.UnixMicro()).Where("start < ?", of.To.UnixMicro())
		if !of.Ended.IsZero() {
			query = query.Where("id >= ?", usage.FirstID(of.From)).Where("start + duration >= ?", of.Ended.UnixMicro())
		}
		for column, value := range map[string]string{"organization": of.Organization, "key_id": of.KeyID, "model": of.Model} {
			if value != "" {
				query = query.Where("? = ?", bun.Ident(column), clean(value))
			}
		}
		if len(of.Projects) > 0 {
			query = query.Where("project IN (?)", bun.List(of.Projects))
		}
		if of.Label != "" {
			query = query.Where(labelInDetail(tx), of.Label, of.LabelValue)
		}
		var part int64
		if err := query.Scan(ctx, &part); err != nil {
			return 0, err
		}
		spent += part
	}
	return spent, nil
}

// labelInDetail is a condition on a record's labels, which have no column: the few records that Spent reads one by one are
// no reason for one.
func labelInDetail(tx bun.Tx) string {
	if tx.Dialect().Name() == dialect.SQLite {
		return "EXISTS (SELECT 1 FROM json_each(detail, '$.labels') AS label WHERE label.key = ? AND label.value = ?)"
	}
	return "CAST(detail AS json) -> 'labels' ->> ? = ?"
}
