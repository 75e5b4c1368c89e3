package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"shareai/internal/alert"
)

// The tables of alerts.
const (
	episodesTable   = "alert_episodes"
	deliveriesTable = "alert_deliveries"
	talliesTable    = "alert_tallies"
	replicasTable   = "alert_replicas"
)

// The states of a delivery.
const (
	deliveryWaiting   = "waiting"
	deliveryDelivered = "delivered"
	deliveryFailed    = "failed"
)

type episodeRow struct {
	bun.BaseModel `bun:"table:alert_episodes"`

	ID, Rule, Subject, State            string
	Level                               int64
	Bar                                 float64
	Since, OpenedAt, CalmSince, EndedAt int64
	Returns                             int64
	Report                              string
	Version                             int64
}

func (r *episodeRow) episode() (alert.Episode, error) {
	e := alert.Episode{
		ID: r.ID, Rule: alert.Rule(r.Rule), Subject: r.Subject, State: alert.State(r.State), Level: alert.Level(r.Level), Bar: r.Bar,
		Since: fromMicro(r.Since), OpenedAt: fromMicro(r.OpenedAt), CalmSince: fromMicro(r.CalmSince), EndedAt: fromMicro(r.EndedAt),
		Returns: int(r.Returns), Version: r.Version,
	}
	if err := json.Unmarshal([]byte(r.Report), &e.Report); err != nil {
		return e, fmt.Errorf("%s %s: %w", episodesTable, r.ID, err)
	}
	return e, nil
}

func rowOfEpisode(e *alert.Episode) (*episodeRow, error) {
	report, err := json.Marshal(e.Report)
	return &episodeRow{
		ID: e.ID, Rule: string(e.Rule), Subject: e.Subject, State: string(e.State), Level: int64(e.Level), Bar: e.Bar,
		Since: toMicro(e.Since), OpenedAt: toMicro(e.OpenedAt), CalmSince: toMicro(e.CalmSince), EndedAt: toMicro(e.EndedAt),
		Returns: int64(e.Returns), Report: string(report), Version: e.Version,
	}, err
}

// Episodes lists the episodes that live or ended after a moment, the newest first.
func (s *Store) Episodes(ctx context.Context, endedAfter time.Time) ([]alert.Episode, error) {
	var rows []episodeRow
	err := s.read.NewSelect().Model(&rows).Where("state <> ? OR ended_at > ?", string(alert.Ended), toMicro(endedAfter)).
		Order("since DESC", "id").Scan(ctx)
	if err != nil {
		return nil, s.engine.failed("read the alerts", err)
	}
	episodes := make([]alert.Episode, len(rows))
	for i := range rows {
		if episodes[i], err = rows[i].episode(); err != nil {
			return nil, err
		}
	}
	return episodes, nil
}

// OpenEpisodes counts the open episodes by their rules.
func (s *Store) OpenEpisodes(ctx context.Context) (map[alert.Rule]int64, error) {
	var rows []struct {
		Rule  string
		Count int64
	}
	err := s.read.NewSelect().Table(episodesTable).Column("rule").ColumnExpr("COUNT(*) AS count").Where("state = ?", string(alert.Open)).
		Group("rule").Scan(ctx, &rows)
	open := map[alert.Rule]int64{}
	for _, r := range rows {
		open[alert.Rule(r.Rule)] = r.Count
	}
	return open, s.engine.failed("count the alerts", err)
}

// StepEpisode stores what has become of an episode together with the messages that tell of it. before is nil for a new
// one, after for one that is gone. It is false, and nothing was stored, when somebody else was first.
func (s *Store) StepEpisode(ctx context.Context, before, after *alert.Episode, tell []alert.Delivery) (bool, error) {
	won := false
	err := s.write.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) (err error) {
		if won, err = stepEpisode(ctx, tx, before, after); err != nil || !won {
			return err
		}
		return queueDeliveries(ctx, tx, tell)
	})
	if err != nil {
		return false, s.engine.failed("store an alert", err)
	}
	if won && len(tell) > 0 {
		s.settle(ctx)
	}
	return won, nil
}

func stepEpisode(ctx context.Context, tx bun.Tx, before, after *alert.Episode) (bool, error) {
	if after == nil {
		return changedOne(tx.NewDelete().Table(episodesTable).Where("id = ?", before.ID).Where("version = ?", before.Version).Exec(ctx))
	}
	row, err := rowOfEpisode(after)
	if err != nil {
		return false, err
	}
	if before == nil {
		return changedOne(tx.NewInsert().Model(row).On("CONFLICT DO NOTHING").Exec(ctx))
	}
	row.Version = before.Version + 1
	return changedOne(tx.NewUpdate().Model(row).ExcludeColumn("id").Where("id = ?", before.ID).Where("version = ?", before.Version).Exec(ctx))
}

type deliveryRow struct {
	bun.BaseModel `bun:"table:alert_deliveries"`

	ID, Episode, Receiver, Message, State string
	Place, CreatedAt, NextAt, Tries       int64
	DoneAt                                int64
	Error                                 string
}

func queueDeliveries(ctx context.Context, tx bun.Tx, tell []alert.Delivery) error {
	now := time.Now().UnixMicro()
	for i := range tell {
		m := &tell[i].Message
		text, err := json.Marshal(m)
		if err != nil {
			return err
		}
		var place int64
		err = tx.NewSelect().Table(deliveriesTable).ColumnExpr("COUNT(*)").Where("episode = ?", m.Episode.ID).
			Where("receiver = ?", tell[i].Receiver).Scan(ctx, &place)
		if err != nil {
			return err
		}
		row := &deliveryRow{
			ID: m.ID, Episode: m.Episode.ID, Receiver: tell[i].Receiver, Message: string(text), State: deliveryWaiting,
			Place: place, CreatedAt: now, NextAt: now,
		}
		if _, err := tx.NewInsert().Model(row).On("CONFLICT (id) DO NOTHING").Exec(ctx); err != nil {
			return err
		}
	}
	return nil
}

// DueDeliveries lists messages that can be sent now, the oldest first, at most limit for each receiver: whoever is
// away keeps nobody else waiting. Of one episode and receiver that is only the first that waits.
func (s *Store) DueDeliveries(ctx context.Context, limit int64) ([]alert.Outgoing, error) {
	due := s.read.NewSelect().Model((*deliveryRow)(nil)).Column("id").
		ColumnExpr("ROW_NUMBER() OVER (PARTITION BY receiver ORDER BY created_at, id) AS place_in_line").
		Where("state = ?", deliveryWaiting).Where("next_at <= ?", time.Now().UnixMicro()).
		Where(`NOT EXISTS (SELECT 1 FROM alert_deliveries AS earlier WHERE earlier.episode = delivery_row.episode
			AND earlier.receiver = delivery_row.receiver AND earlier.place < delivery_row.place AND earlier.state = ?)`, deliveryWaiting)
	var rows []deliveryRow
	err := s.read.NewSelect().Model(&rows).Where("id IN (SELECT id FROM (?) AS due WHERE place_in_line <= ?)", due, limit).
		Order("created_at", "id").Scan(ctx)
	if err != nil {
		return nil, s.engine.failed("read the messages of alerts", err)
	}
	return outgoing(rows)
}

// EpisodeDeliveries lists the messages of some episodes in the order in which they are sent.
func (s *Store) EpisodeDeliveries(ctx context.Context, episodes ...string) ([]alert.Outgoing, error) {
	if len(episodes) == 0 {
		return nil, nil
	}
	var rows []deliveryRow
	err := s.read.NewSelect().Model(&rows).Where("episode IN (?)", bun.List(episodes)).Order("created_at", "receiver", "place").Scan(ctx)
	if err != nil {
		return nil, s.engine.failed("read the messages of alerts", err)
	}
	return outgoing(rows)
}

func outgoing(rows []deliveryRow) ([]alert.Outgoing, error) {
	list := make([]alert.Outgoing, len(rows))
	for i := range rows {
		r := &rows[i]
		list[i] = alert.Outgoing{
			Delivery: alert.Delivery{Receiver: r.Receiver}, State: r.State, CreatedAt: fromMicro(r.CreatedAt),
			NextAt: fromMicro(r.NextAt), Tries: int(r.Tries), DoneAt: fromMicro(r.DoneAt), Error: r.Error,
		}
		if err := json.Unmarshal([]byte(r.Message), &list[i].Message); err != nil {
			return nil, fmt.Errorf("%s %s: %w", deliveriesTable, r.ID, err)
		}
	}
	return list, nil
}

// ClaimDelivery takes a message to send it: until the lease is over nobody else gets it. It is false when somebody else
// was first.
func (s *Store) ClaimDelivery(ctx context.Context, d *alert.Outgoing, lease time.Duration) (bool, error) {
	won, err := changedOne(s.write.NewUpdate().Table(deliveriesTable).
		Set("next_at = ?", time.Now().Add(lease).UnixMicro()).Set("tries = tries + 1").
		Where("id = ?", d.Message.ID).Where("state = ?", deliveryWaiting).Where("tries = ?", d.Tries).Exec(ctx))
	return won, s.engine.failed("take a message of an alert", err)
}

// FinishDelivery notes what became of a try. A zero next ends the delivery: it is delivered without a reason, and has
// failed for good with one.
func (s *Store) FinishDelivery(ctx context.Context, id, reason string, next time.Time) error {
	update := s.write.NewUpdate().Table(deliveriesTable).Set("error = ?", clean(reason)).Where("id = ?", id).Where("state = ?", deliveryWaiting)
	switch {
	case !next.IsZero():
		update = update.Set("next_at = ?", next.UnixMicro())
	case reason == "":
		update = update.Set("state = ?", deliveryDelivered).Set("done_at = ?", time.Now().UnixMicro())
	default:
		update = update.Set("state = ?", deliveryFailed).Set("done_at = ?", time.Now().UnixMicro())
	}
	_, err := update.Exec(ctx)
	return s.engine.failed("note what became of a message of an alert", err)
}
