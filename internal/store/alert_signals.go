package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"shareai/internal/alert"
)

// changedOne says whether a statement changed its row.
func changedOne(result sql.Result, err error) (bool, error) {
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n == 1, err
}

type tallyRow struct {
	bun.BaseModel `bun:"table:alert_tallies"`

	Minute                                       int64
	Scope, Name                                  string
	Requests, Failures, FailedOver, Extra, Usual int64
}

// AddTallies adds to what was counted in some minutes. They are added in one order by everybody, so that replicas do not lock
// each other out.
func (s *Store) AddTallies(ctx context.Context, counted []alert.Minute) error {
	if len(counted) == 0 {
		return nil
	}
	rows := make([]tallyRow, len(counted))
	for i, m := range counted {
		rows[i] = tallyRow{
			Minute: m.At.Unix() / 60, Scope: string(m.Of.Scope), Name: clean(m.Of.Name), Requests: m.Requests, Failures: m.Failures,
			FailedOver: m.FailedOver, Extra: m.Extra, Usual: m.Usual,
		}
	}
	insert := s.write.NewInsert().Model(&rows).On("CONFLICT (minute, scope, name) DO UPDATE")
	for _, column := range []string{"requests", "failures", "failed_over", "extra", "usual"} {
		insert = insert.Set("? = ?.? + EXCLUDED.?", bun.Ident(column), bun.Ident("tally_row"), bun.Ident(column), bun.Ident(column))
	}
	_, err := insert.Exec(ctx)
	return s.engine.failed("count requests for alerts", err)
}

// Tallies sums up what was counted from the minute of a moment on until before that of another.
func (s *Store) Tallies(ctx context.Context, from, to time.Time) (map[alert.Counted]alert.Tally, error) {
	var rows []tallyRow
	query := s.read.NewSelect().Table(talliesTable).Column("scope", "name")
	for _, column := range []string{"requests", "failures", "failed_over", "extra", "usual"} {
		query = query.ColumnExpr("CAST(SUM(?) AS BIGINT) AS ?", bun.Ident(column), bun.Ident(column)) // PostgreSQL sums BIGINT up to a NUMERIC
	}
	err := query.Where("minute >= ?", from.Unix()/60).Where("minute < ?", to.Unix()/60).Group("scope", "name").Scan(ctx, &rows)
	sums := make(map[alert.Counted]alert.Tally, len(rows))
	for _, r := range rows {
		sums[alert.Counted{Scope: alert.Scope(r.Scope), Name: r.Name}] = alert.Tally{
			Requests: r.Requests, Failures: r.Failures, FailedOver: r.FailedOver, Extra: r.Extra, Usual: r.Usual,
		}
	}
	return sums, s.engine.failed("read what was counted for alerts", err)
}

type replicaRow struct {
	bun.BaseModel `bun:"table:alert_replicas"`

	Replica  string
	SeenAt   int64
	Document string
}

// PutStanding stores what a replica knows of providers and models.
func (s *Store) PutStanding(ctx context.Context, replica string, known alert.Standing) error {
	document, err := json.Marshal(known)
	if err != nil {
		return err
	}
	row := &replicaRow{Replica: replica, SeenAt: time.Now().UnixMicro(), Document: string(document)}
	_, err = s.write.NewInsert().Model(row).On("CONFLICT (replica) DO UPDATE").Exec(ctx)
	return s.engine.failed("store what this replica knows of providers", err)
}

// RemoveStanding forgets a replica that has ended.
func (s *Store) RemoveStanding(ctx context.Context, replica string) error {
	_, err := s.write.NewDelete().Table(replicasTable).Where("replica = ?", replica).Exec(ctx)
	return s.engine.failed("forget a replica", err)
}

// Standings lists what the replicas know that were heard of since a moment.
func (s *Store) Standings(ctx context.Context, since time.Time) ([]alert.Standing, error) {
	var rows []replicaRow
	if err := s.read.NewSelect().Model(&rows).Where("seen_at >= ?", since.UnixMicro()).Scan(ctx); err != nil {
		return nil, s.engine.failed("read what replicas know of providers", err)
	}
	list := make([]alert.Standing, len(rows))
	for i := range rows {
		if err := json.Unmarshal([]byte(rows[i].Document), &list[i]); err != nil {
			return nil, fmt.Errorf("%s %s: %w", replicasTable, rows[i].Replica, err)
		}
	}
	return list, nil
}

// The times for which alerts are kept.
const (
	keptTallies  = 50 * time.Hour // the longest window, the day before it, and some more
	keptReplicas = time.Hour
)

// TidyAlerts removes episodes that ended before a moment, with their messages, and what nobody judges by any more.
func (s *Store) TidyAlerts(ctx context.Context, endedBefore time.Time) error {
	now := time.Now()
	err := s.write.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
		for _, remove := range []*bun.DeleteQuery{
			tx.NewDelete().Table(deliveriesTable).Where("episode IN (SELECT id FROM alert_episodes WHERE state = ? AND ended_at < ?)", string(alert.Ended), toMicro(endedBefore)),
			tx.NewDelete().Table(episodesTable).Where("state = ?", string(alert.Ended)).Where("ended_at < ?", toMicro(endedBefore)),
			tx.NewDelete().Table(talliesTable).Where("minute < ?", now.Add(-keptTallies).Unix()/60),
			tx.NewDelete().Table(replicasTable).Where("seen_at < ?", now.Add(-keptReplicas).UnixMicro()),
		} {
			if _, err := remove.Exec(ctx); err != nil {
				return err
			}
		}
		return nil
	})
	return s.engine.failed("remove old alerts", err)
}
