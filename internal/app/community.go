package app

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"shareai/internal/catalog"
	"shareai/internal/snapshot"
	"shareai/internal/store"
	"shareai/internal/usage"
)

// How well nodes served others is looked up by every replica for itself: it changes slowly, and nothing has to be
// compiled again for it.
const (
	standingDays  = 7 // with today
	standingEvery = 5 * time.Minute
)

// community knows how well shared nodes served.
type community struct {
	keeper *snapshot.Keeper
	rows   *store.Store
	log    *slog.Logger
	// reliable is by the ids of nodes; nil: nothing was looked up yet.
	reliable atomic.Pointer[map[string]float64]
	page     contributors
}

// community begins to look up how well nodes serve.
func (i *Instance) community(keeper *snapshot.Keeper, rows *store.Store) *community {
	c := &community{keeper: keeper, rows: rows, log: i.log}
	i.background("community", c.follow)
	return c
}

func (c *community) follow(ctx context.Context) {
	tick := time.NewTicker(standingEvery)
	defer tick.Stop()
	for {
		if c.keeper.Current().Spec().Community.Enabled {
			if _, err := c.standing(ctx); err != nil && ctx.Err() == nil {
				c.log.WarnContext(ctx, "how reliable shared nodes are could not be looked up; what was known counts on", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// standing looks up how nodes served others, by handle.
func (c *community) standing(ctx context.Context) (map[string]usage.CommunityRecord, error) {
	since := time.Now().AddDate(0, 0, 1-standingDays)
	records, err := c.rows.CommunityRecords(ctx, since.UnixMicro())
	if err != nil {
		return nil, err
	}
	byHandle, reliable := map[string]usage.CommunityRecord{}, map[string]float64{}
	for _, r := range records {
		byHandle[r.Handle] = r
		if p, ok := c.keeper.Current().Shared(r.Handle); ok {
			reliable[p.Node] = catalog.Reliability(r.Served, r.Failed)
		}
	}
	c.reliable.Store(&reliable)
	return byHandle, nil
}

// reliability is how far a node can be relied on, 0 to 1.
func (c *community) reliability(node string) float64 {
	if known := c.reliable.Load(); known != nil {
		if r, ok := (*known)[node]; ok {
			return r
		}
	}
	return catalog.Reliability(0, 0)
}
