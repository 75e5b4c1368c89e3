package watch

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"shareai/internal/account"
	"shareai/internal/alert"
	"shareai/internal/health"
	"shareai/internal/snapshot"
)

// Snapshots gives the running snapshot.
type Snapshots interface {
	Current() *snapshot.Snapshot
}

// Circuits lists the deployments that were used lately.
type Circuits interface {
	List() []health.Status
}

// Standings keeps what replicas know.
type Standings interface {
	PutStanding(ctx context.Context, replica string, known alert.Standing) error
	RemoveStanding(ctx context.Context, replica string) error
	OpenEpisodes(ctx context.Context) (map[alert.Rule]int64, error)
}

// The times of a Reporter. A replica that was not heard of for staleAfter says nothing any more.
const (
	reportEvery = 5 * time.Second
	staleAfter  = 6 * reportEvery
	farewell    = 2 * time.Second
)

// Reporter says what this replica knows of providers and models.
type Reporter struct {
	id        string
	snapshots Snapshots
	circuits  Circuits
	rows      Standings
	log       *slog.Logger
	open      atomic.Pointer[map[alert.Rule]int64]
}

// NewReporter makes a reporter, which has to run.
func NewReporter(snapshots Snapshots, circuits Circuits, rows Standings, log *slog.Logger) *Reporter {
	return &Reporter{id: account.GenerateID("rep_"), snapshots: snapshots, circuits: circuits, rows: rows, log: log}
}

// Run reports until ctx ends, and then takes the report back: a replica that has ended finds nothing down.
func (r *Reporter) Run(ctx context.Context) {
	again := time.NewTicker(reportEvery)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
			defer cancel()
			if err := r.rows.RemoveStanding(last, r.id); err != nil {
				r.log.InfoContext(last, "what this replica knows of providers is forgotten later", "error", err)
			}
			return
		case <-again.C:
			if err := r.exchange(ctx); err != nil && ctx.Err() == nil {
				r.log.WarnContext(ctx, "the other replicas do not learn what this one knows of providers", "error", err)
			}
		}
	}
}

// exchange tells what this replica knows and learns how many alerts are open.
func (r *Reporter) exchange(ctx context.Context) error {
	if err := r.rows.PutStanding(ctx, r.id, standing(r.snapshots.Current(), r.circuits.List())); err != nil {
		return err
	}
	open, err := r.rows.OpenEpisodes(ctx)
	if err == nil {
		r.open.Store(&open)
	}
	return err
}

// Open counts the open episodes of all replicas by their rules, as they were a few seconds ago.
func (r *Reporter) Open() map[alert.Rule]int64 {
	if open := r.open.Load(); open != nil {
		return *open
	}
	return nil
}

// standing sums up circuits. A provider is down when none of its deployments that were in use has a closed circuit; a
// model, when none of its deployments takes requests. A half-open circuit is not closed: as long as a provider is down,
// it is tried every now and then.
func standing(view *snapshot.Snapshot, circuits []health.Status) alert.Standing {
	open := make(map[string]bool, len(circuits))
	for i := range circuits {
		open[circuits[i].ID] = circuits[i].State != health.Closed
	}
	known := alert.Standing{Providers: map[string]bool{}, Models: map[string]bool{}}
	for _, name := range view.ModelNames() {
		m, _ := view.Model(name)
		left, broken := false, false
		for i := range m.Targets {
			t := &m.Targets[i]
			is, used := open[t.HealthID]
			if used && t.Provider.Node == "" {
				down, seen := known.Providers[t.Provider.Name]
				known.Providers[t.Provider.Name] = is && (down || !seen)
			}
			left, broken = left || !is && !t.Limits.Drained, broken || is
			if used {
				known.Models[name] = true
			}
		}
		if known.Models[name] {
			known.Models[name] = broken && !left
		}
	}
	return known
}
