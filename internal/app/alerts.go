package app

import (
	"context"
	"time"

	"shareai/internal/alert"
	"shareai/internal/health"
	"shareai/internal/jobs"
	"shareai/internal/notify"
	"shareai/internal/snapshot"
	"shareai/internal/telemetry"
	"shareai/internal/watch"
)

// keepAlerts is how long alerts that are over are kept.
const keepAlerts = 90 * 24 * time.Hour

// alerts is who watches and who tells.
type alerts struct {
	counter  *watch.Counter
	reporter *watch.Reporter
	courier  *notify.Courier
}

// alerts begins to watch. nodes may be nil.
func (i *Instance) alerts(keeper *snapshot.Keeper, board *health.Board, spent *ledger, nodes watch.Nodes) *alerts {
	rows := spent.rows
	a := &alerts{
		counter:  watch.NewCounter(rows, i.log),
		reporter: watch.NewReporter(keeper, board, rows, i.log),
		courier: notify.NewCourier(notify.CourierOptions{
			Outbox: rows, Sender: notify.NewSender(notify.Options{UserAgent: "shareai/" + i.settings.Version}), Log: i.log,
			Settings: func() alert.Settings { return keeper.Current().Alerts() },
		}),
	}
	watcher := watch.New(watch.Options{Snapshots: keeper, Rows: rows, Ledger: spent, Nodes: nodes, Log: i.log})
	i.background("alerts' messages", a.courier.Run)
	i.background("alerts", func(ctx context.Context) {
		jobs.Run(ctx, rows, i.log,
			jobs.Job{Name: "alerts", Every: keeper.Current().Alerts().Every, Run: watcher.Evaluate},
			jobs.Job{Name: "old alerts", Every: time.Hour, Run: func(ctx context.Context) error {
				return rows.TidyAlerts(ctx, time.Now().Add(-keepAlerts))
			}})
	})
	i.background("circuits for all", a.reporter.Run)
	i.background("counts for alerts", a.counter.Run)
	return a
}

// state is what metrics show.
func (a *alerts) state() telemetry.Alerts {
	sent := a.courier.Stats()
	return telemetry.Alerts{Open: a.reporter.Open(), Delivered: sent.Delivered, Failed: sent.Failed, GivenUp: sent.GivenUp}
}
