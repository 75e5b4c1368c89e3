package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"shareai/internal/account"
	"shareai/internal/alert"
	"shareai/internal/snapshot"
)

// Rows keeps episodes and what they are judged by.
type Rows interface {
	Episodes(ctx context.Context, endedAfter time.Time) ([]alert.Episode, error)
	StepEpisode(ctx context.Context, before, after *alert.Episode, tell []alert.Delivery) (bool, error)
	Tallies(ctx context.Context, from, to time.Time) (map[alert.Counted]alert.Tally, error)
	Standings(ctx context.Context, since time.Time) ([]alert.Standing, error)
}

// Ledger knows what was spent.
type Ledger interface {
	Spent(ctx context.Context, of account.Spending) (int64, error)
}

// Nodes lists the nodes that are declared and not revoked, with their links to all replicas.
type Nodes interface {
	Nodes(ctx context.Context) ([]alert.Node, error)
}

// Options are what a Watcher works with.
type Options struct {
	Snapshots Snapshots
	Rows      Rows
	Ledger    Ledger
	Nodes     Nodes // nil: there are none
	Log       *slog.Logger
	Now       func() time.Time // nil: time.Now
}

// Watcher judges. Its methods may be called by many goroutines, and by many processes on the same rows.
type Watcher struct{ options Options }

// New makes a watcher.
func New(o Options) *Watcher {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Watcher{options: o}
}

// turn is one look at everything.
type turn struct {
	*Watcher
	now      time.Time
	view     *snapshot.Snapshot
	settings alert.Settings
	last     map[subject]*alert.Episode // the last episode of each
}

type subject struct {
	rule alert.Rule
	name string
}

// Evaluate looks at everything once. A rule whose facts can not be read is left as it is; the others are not.
func (w *Watcher) Evaluate(ctx context.Context) error {
	t := &turn{Watcher: w, now: w.options.Now(), view: w.options.Snapshots.Current(), last: map[subject]*alert.Episode{}}
	t.settings = t.view.Alerts()
	episodes, err := w.options.Rows.Episodes(ctx, t.now.Add(-alert.Memory))
	if err != nil {
		return err
	}
	for i := range episodes { // the newest first
		e := &episodes[i]
		if at := (subject{e.Rule, e.Subject}); t.last[at] == nil || e.Live() {
			t.last[at] = e
		}
	}
	var errs []error
	for _, rule := range alert.RuleNames {
		seen, err := t.observe(ctx, rule)
		if err == nil {
			err = t.apply(ctx, rule, seen)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("rule %s: %w", rule, err))
		}
	}
	return errors.Join(errs...)
}

// apply stores what the observations of a rule make of its episodes.
func (t *turn) apply(ctx context.Context, rule alert.Rule, seen []alert.Observation) error {
	pace := t.settings.Rules.Pace(rule)
	watched := map[string]bool{}
	for i := range seen {
		watched[seen[i].Subject] = true
		before := t.last[subject{rule, seen[i].Subject}]
		after, edge := alert.Step(before, seen[i], pace, t.now)
		if before != nil && !before.Live() {
			before = nil // the new one is another
		}
		if err := t.store(ctx, before, after, edge); err != nil {
			return err
		}
	}
	for at, before := range t.last {
		if at.rule != rule || watched[at.name] || !before.Live() {
			continue
		}
		after, edge := alert.Abandon(before, t.now)
		if err := t.store(ctx, before, after, edge); err != nil {
			return err
		}
	}
	return nil
}

// store stores a change with its messages. Somebody else may have been first: then it is theirs to tell.
func (t *turn) store(ctx context.Context, before, after *alert.Episode, edge alert.Edge) error {
	if edge == alert.None && same(before, after) {
		return nil
	}
	var tell []alert.Delivery
	if edge != alert.None {
		tell = after.Deliveries(edge, t.settings.Receivers, t.now)
	}
	won, err := t.options.Rows.StepEpisode(ctx, before, after, tell)
	if err != nil || !won || edge == alert.None {
		return err
	}
	log := t.options.Log.With("rule", after.Rule, "subject", after.Subject, "episode", after.ID, "receivers", len(tell))
	if edge == alert.Ends {
		log.InfoContext(ctx, "an alert is over", "lasted", after.Lasted().Round(time.Second))
	} else {
		log.WarnContext(ctx, "alert: "+after.Report.Title)
	}
	return nil
}

// same says whether nothing has changed that has to be remembered: the newest numbers of an episode are no reason to
// write it.
func same(before, after *alert.Episode) bool {
	if before == nil || after == nil {
		return before == after
	}
	return before.State == after.State && before.Level == after.Level && before.CalmSince.Equal(after.CalmSince)
}
