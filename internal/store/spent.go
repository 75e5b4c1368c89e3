package store

import (
	"context"
	"slices"
	"time"

	"github.com/uptrace/bun"

	"shareai/internal/account"
)

// Spent is the cost of the usage records that a Spending selects, in nano-dollars. Whole hours are read from the sums,
// what is left at both ends from the records.
func (s *Store) Spent(ctx context.Context, of account.Spending) (int64, error) {
	from, to := of.From.UTC(), of.To.UTC()
	first, last := from.Truncate(time.Hour), to.Truncate(time.Hour)
	if first.Before(from) {
		first = first.Add(time.Hour)
	}
	if !first.Before(last) {
		return s.spentIn(ctx, of, from, to)
	}
	spent := int64(0)
	for _, part := range []func() (int64, error){
		func() (int64, error) { return s.spentIn(ctx, of, from, first) },
		func() (int64, error) { return s.spentInHours(ctx, of, first, last) },
		func() (int64, error) { return s.spentIn(ctx, of, last, to) },
	} {
		n, err := part()
		if err != nil {
			return 0, err
		}
		spent += n
	}
	return spent, nil
}

// spentInHours sums up whole hours.
func (s *Store) spentInHours(ctx context.Context, of account.Spending, from, to time.Time) (spent int64, err error) {
	rows, err := s.Usage(ctx, UsageQuery{
		From: from, To: to, By: []Dimension{ByProject}, Organization: of.Organization, KeyID: of.KeyID, Model: of.Model,
	})
	for _, r := range rows {
		if len(of.Projects) == 0 || slices.ContainsFunc(of.Projects, func(p string) bool { return r.Values[0] == of.Organization+"/"+p }) {
			spent += r.Cost
		}
	}
	return spent, err
}

// spentIn sums up the records of a short time.
func (s *Store) spentIn(ctx context.Context, of account.Spending, from, to time.Time) (spent int64, err error) {
	if !from.Before(to) {
		return 0, nil
	}
	days, err := s.days(ctx)
	if err != nil {
		return 0, s.engine.failed("sum up what was spent", err)
	}
	for d := dayOf(from.UnixMicro()); d <= dayOf(to.UnixMicro()-1); d++ {
		if !slices.Contains(days, d) {
			continue
		}
		query := s.read.NewSelect().TableExpr("?", bun.Ident(d.records())).ColumnExpr("CAST(COALESCE(SUM(cost), 0) AS BIGINT)").
			Where("start >= ?", from.UnixMicro()).Where("start < ?", to.UnixMicro())
		for column, value := range map[string]string{"organization": of.Organization, "key_id": of.KeyID, "model": of.Model} {
			if value != "" {
				query = query.Where("? = ?", bun.Ident(column), clean(value))
			}
		}
		if len(of.Projects) > 0 {
			query = query.Where("project IN (?)", bun.List(of.Projects))
		}
		var part int64
		if err := query.Scan(ctx, &part); err != nil {
			return 0, s.engine.failed("sum up what was spent", err)
		}
		spent += part
	}
	return spent, nil
}
