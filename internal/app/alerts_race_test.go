package app

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"shareai/internal/account"
	"shareai/internal/alert"
	"shareai/internal/catalog"
	"shareai/internal/snapshot"
	"shareai/internal/store"
	"shareai/internal/store/storetest"
	"shareai/internal/watch"
)

// spending is a ledger that says what it is told to say.
type spending struct{ atomic.Int64 }

func (s *spending) Spent(context.Context, account.Spending) (int64, error) { return s.Load(), nil }

type only struct{ view *snapshot.Snapshot }

func (o only) Current() *snapshot.Snapshot { return o.view }

// Replicas that judge at the same moment, on one database, tell each edge once.
func TestReplicasThatJudgeAtOnceTellOnce(t *testing.T) {
	if testing.Short() {
		t.Skip("needs a PostgreSQL server")
	}
	for name, d := range map[string]storetest.Database{"PostgreSQL": storetest.Postgres(t), "SQLite": storetest.SQLite(t)} {
		t.Run(name, func(t *testing.T) {
			settings := alert.Defaults()
			settings.Receivers = []alert.Receiver{{Name: "ops", Slack: &alert.Slack{}}}
			view, err := snapshot.Compile(snapshot.Spec{
				Providers: []catalog.Provider{{Name: "p", Dialect: catalog.Simulated}},
				Models: []catalog.Model{{
					Name: "m", Deployments: []catalog.Deployment{{Provider: "p", Model: "m"}},
					Budgets: []account.Budget{{Period: account.PerMonth, NanoUSD: 100, AlertAt: []float64{0.2, 0.4, 0.6, 0.8}}},
				}},
				Alerts: settings,
			})
			if err != nil {
				t.Fatal(err)
			}
			spent := &spending{}
			var watchers []*watch.Watcher
			var rows *store.Store
			for range 4 {
				rows = d.Open(t)
				watchers = append(watchers, watch.New(watch.Options{Snapshots: only{view}, Rows: rows, Ledger: spent, Log: slog.New(slog.DiscardHandler)}))
			}
			steps := []int64{20, 40, 60, 80, 100, 0}
			for _, now := range steps {
				spent.Store(now)
				var all sync.WaitGroup
				for _, w := range append(watchers, watchers...) {
					all.Go(func() {
						if err := w.Evaluate(t.Context()); err != nil {
							t.Error(err)
						}
					})
				}
				all.Wait()
			}
			episodes, err := rows.Episodes(t.Context(), time.Time{})
			if err != nil || len(episodes) != 1 {
				t.Fatalf("%v %+v", err, episodes)
			}
			messages, err := rows.EpisodeDeliveries(t.Context(), episodes[0].ID)
			if err != nil || len(messages) != len(steps) {
				t.Fatalf("%v: %d messages for %d edges: %+v", err, len(messages), len(steps), messages)
			}
			for i, want := range []string{"opened", "raised", "raised", "raised", "raised", "ended"} {
				if got := messages[i].Message.Event; got != "alert."+want {
					t.Errorf("message %d is %s", i, got)
				}
			}
		})
	}
}
