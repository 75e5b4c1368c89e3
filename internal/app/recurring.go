package app

import (
	"context"
	"time"

	"shareai/internal/config"
	"shareai/internal/jobs"
	"shareai/internal/store"
)

// recurring begins the work that one replica does for all.
func (i *Instance) recurring(rows *store.Store, retention config.Retention) {
	work := []jobs.Job{
		{Name: "adopt", Every: time.Hour, Run: rows.AdoptRecords},
		{Name: "prompts", Every: 10 * time.Minute, Run: rows.RankPrompts},
	}
	if keep := retention.Records; keep > 0 {
		work = append(work, jobs.Job{Name: "retention", Every: time.Hour, Run: func(ctx context.Context) error {
			days, err := rows.DropRecords(ctx, time.Now().Add(-keep))
			if days > 0 {
				i.log.Info("old usage records were dropped", "days", days, "keep", keep)
			}
			return err
		}})
	}
	i.background("jobs", func(ctx context.Context) { jobs.Run(ctx, rows, i.log, work...) })
}
