package store

import (
	"context"

	"github.com/uptrace/bun"

	"shareai/internal/account"
)

// Spent is the cost of the usage records that a Spending selects, in nano-dollars.
func (s *Store) Spent(ctx context.Context, of account.Spending) (int64, error) {
	query := s.read.NewSelect().Table("usage_records").ColumnExpr("CAST(COALESCE(SUM(cost), 0) AS BIGINT)")
	for column, value := range map[string]string{"organization": of.Organization, "key_id": of.KeyID, "model": of.Model} {
		if value != "" {
			query = query.Where(column+" = ?", clean(value))
		}
	}
	if len(of.Projects) > 0 {
		query = query.Where("project IN (?)", bun.List(of.Projects))
	}
	if !of.From.IsZero() {
		query = query.Where("start >= ?", of.From.UnixMicro())
	}
	if !of.To.IsZero() {
		query = query.Where("start < ?", of.To.UnixMicro())
	}
	var spent int64
	err := query.Scan(ctx, &spent)
	return spent, s.engine.failed("sum up what was spent", err)
}
