package watch

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"shareai/internal/account"
	"shareai/internal/alert"
	"shareai/internal/catalog"
	"shareai/internal/health"
	"shareai/internal/snapshot"
	"shareai/internal/usage"
)

// facts is everything that a watcher reads, and the episodes that it keeps, in memory.
type facts struct {
	mu        sync.Mutex
	view      *snapshot.Snapshot
	episodes  []alert.Episode
	told      []string
	window    alert.Tally // of all requests
	past      alert.Tally
	standings []alert.Standing
	nodes     []alert.Node
	spent     int64
	away      error // of the ledger

	counted []alert.Minute
	refuses error // of counts
	removed []string
}

func (f *facts) Current() *snapshot.Snapshot { return f.view }

func (f *facts) Episodes(context.Context, time.Time) ([]alert.Episode, error) {
	return append([]alert.Episode(nil), f.episodes...), nil
}

func (f *facts) StepEpisode(_ context.Context, before, after *alert.Episode, tell []alert.Delivery) (bool, error) {
	kept := f.episodes[:0:0]
	for _, e := range f.episodes {
		if before == nil || e.ID != before.ID {
			kept = append(kept, e)
		}
	}
	if after != nil {
		kept = append([]alert.Episode{*after}, kept...)
	}
	f.episodes = kept
	for _, d := range tell {
		f.told = append(f.told, string(d.Message.Rule)+" "+d.Message.Event)
	}
	return true, nil
}

func (f *facts) Tallies(_ context.Context, from, to time.Time) (map[alert.Counted]alert.Tally, error) {
	all := alert.Counted{Scope: alert.OfAll}
	if to.Sub(from) > 2*time.Hour {
		return map[alert.Counted]alert.Tally{all: f.past}, nil
	}
	return map[alert.Counted]alert.Tally{all: f.window}, nil
}

func (f *facts) Standings(context.Context, time.Time) ([]alert.Standing, error) {
	return f.standings, nil
}
func (f *facts) Spent(context.Context, account.Spending) (int64, error) { return f.spent, f.away }
func (f *facts) Nodes(context.Context) ([]alert.Node, error)            { return f.nodes, nil }

func (f *facts) AddTallies(_ context.Context, counted []alert.Minute) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refuses == nil {
		f.counted = append(f.counted, counted...)
	}
	return f.refuses
}

func (f *facts) PutStanding(_ context.Context, _ string, known alert.Standing) error {
	f.standings = []alert.Standing{known}
	return nil
}

func (f *facts) RemoveStanding(_ context.Context, replica string) error {
	f.removed = append(f.removed, replica)
	return nil
}

func (f *facts) OpenEpisodes(context.Context) (map[alert.Rule]int64, error) {
	return map[alert.Rule]int64{alert.Budget: 2}, nil
}

func (f *facts) List() []health.Status { return nil }

func compiled(t *testing.T, budgets ...account.Budget) *snapshot.Snapshot {
	t.Helper()
	settings := alert.Defaults()
	settings.Receivers = []alert.Receiver{{Name: "ops", Slack: &alert.Slack{}}}
	deployments := func(names ...string) (all []catalog.Deployment) {
		for _, n := range names {
			all = append(all, catalog.Deployment{Provider: n, Model: "m-" + n})
		}
		return all
	}
	view, err := snapshot.Compile(snapshot.Spec{
		Organizations: []account.Organization{{Name: "acme"}},
		Projects:      []account.Project{{Organization: "acme", Name: "app", Budgets: budgets}},
		Keys:          []account.APIKey{{ID: "key_1", Name: "k", Organization: "acme", Project: "app", Hash: account.HashKey("x")}},
		Providers:     []catalog.Provider{{Name: "alpha", Dialect: catalog.Simulated}, {Name: "beta", Dialect: catalog.Simulated}},
		Models: []catalog.Model{
			{Name: "both", Deployments: deployments("alpha", "beta")},
			{Name: "one", Deployments: deployments("alpha")},
			{Name: "beta-only", Deployments: deployments("beta")},
		},
		Alerts: settings,
	})
	if err != nil {
		t.Fatal(err)
	}
	return view
}

func watching(f *facts, now *time.Time) *Watcher {
	return New(Options{Snapshots: f, Rows: f, Ledger: f, Nodes: f, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return *now }})
}

// Every rule tells of its beginning and its end.
func TestEveryRuleIsToldAndItsEnd(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	view := compiled(t, account.Budget{Period: account.PerMonth, NanoUSD: 100, AlertAt: []float64{0.5}})
	for rule, change := range map[alert.Rule]func(f *facts, bad bool){
		alert.Budget:       func(f *facts, bad bool) { f.spent = map[bool]int64{true: 60}[bad] },
		alert.Fallbacks:    func(f *facts, bad bool) { f.window.FailedOver = map[bool]int64{true: 500}[bad] },
		alert.FallbackCost: func(f *facts, bad bool) { f.window.Extra = map[bool]int64{true: 5e9}[bad] },
		alert.ErrorRate:    func(f *facts, bad bool) { f.window.Failures = map[bool]int64{true: 500}[bad] },
		alert.ProviderDown: func(f *facts, bad bool) { f.standings = []alert.Standing{{Providers: map[string]bool{"alpha": bad}}} },
		alert.ModelDown:    func(f *facts, bad bool) { f.standings = []alert.Standing{{Models: map[string]bool{"one": bad}}} },
		alert.NodeGone: func(f *facts, bad bool) {
			f.nodes = []alert.Node{{ID: "n", LastSeen: now, Linked: !bad}}
		},
	} {
		t.Run(string(rule), func(t *testing.T) {
			f, at := &facts{view: view, window: alert.Tally{Requests: 1000, Usual: 10e9}, past: alert.Tally{Requests: 10_000, Usual: 100e9}}, now
			w := watching(f, &at)
			for _, bad := range []bool{false, true, false} {
				change(f, bad)
				for range 3 * 60 { // long enough for every window
					if err := w.Evaluate(t.Context()); err != nil {
						t.Fatal(err)
					}
					at = at.Add(30 * time.Second)
				}
			}
			if diff := cmp.Diff([]string{string(rule) + " alert.opened", string(rule) + " alert.ended"}, f.told); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A database that can not be asked is no recovery, and does not keep other rules from being judged.
func TestWhatCanNotBeReadIsNoNews(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	f := &facts{view: compiled(t, account.Budget{Period: account.PerMonth, NanoUSD: 100}), spent: 100}
	w := watching(f, &now)
	if err := w.Evaluate(t.Context()); err != nil || len(f.told) != 1 {
		t.Fatalf("%v %v", err, f.told)
	}
	f.away, f.spent = errors.New("the database is away"), 0
	f.standings = []alert.Standing{{Providers: map[string]bool{"alpha": true}}}
	for range 5 {
		if err := w.Evaluate(t.Context()); err == nil {
			t.Error("no error")
		}
		now = now.Add(time.Minute)
	}
	if diff := cmp.Diff([]string{"budget alert.opened", "provider_down alert.opened"}, f.told); diff != "" {
		t.Error(diff)
	}
}

// The end of a period ends its episode, and the next period begins a new one.
func TestANewPeriodIsANewEpisode(t *testing.T) {
	now := time.Date(2026, 11, 30, 23, 59, 0, 0, time.UTC)
	f := &facts{view: compiled(t, account.Budget{Period: account.PerMonth, NanoUSD: 100}), spent: 100}
	w := watching(f, &now)
	for range 3 {
		if err := w.Evaluate(t.Context()); err != nil {
			t.Fatal(err)
		}
		now = now.Add(time.Minute)
	}
	if diff := cmp.Diff([]string{"budget alert.opened", "budget alert.opened", "budget alert.ended"}, f.told); diff != "" {
		t.Error(diff)
	}
}

func TestWhatARequestCounts(t *testing.T) {
	answered := usage.Record{
		Status: 200, Primary: "a", Deployment: "b", PrimaryCost: 70, Cost: 100, Model: "m", Route: "r", Candidates: []usage.Candidate{{Model: "meant"}},
		Attempts: []usage.Attempt{{Deployment: "a", Outcome: "overloaded"}, {Deployment: "b", Outcome: "ok"}},
	}
	change := func(f func(r *usage.Record)) *usage.Record { r := answered; f(&r); return &r }
	for _, c := range []struct {
		name   string
		r      *usage.Record
		counts bool
		want   alert.Tally
	}{
		{"failed over", &answered, true, alert.Tally{Requests: 1, FailedOver: 1, Extra: 30, Usual: 70}},
		{"answered by its primary", change(func(r *usage.Record) { r.Deployment, r.Cost = "a", 70 }), true, alert.Tally{Requests: 1, Usual: 70}},
		{"failed", change(func(r *usage.Record) { *r = usage.Record{Status: 502, Code: "x", Primary: "a"} }), true, alert.Tally{Requests: 1, Failures: 1}},
		{"broke off", change(func(r *usage.Record) { *r = usage.Record{Status: 200, Code: "x"} }), true, alert.Tally{Requests: 1, Failures: 1}},
		{"refused by every provider", change(func(r *usage.Record) {
			*r = usage.Record{Status: 429, Code: "x", Attempts: []usage.Attempt{{Outcome: "rate_limited"}}}
		}), true, alert.Tally{Requests: 1, Failures: 1}},
		{"refused by a limit", change(func(r *usage.Record) { *r = usage.Record{Status: 429, Code: "x"} }), false, alert.Tally{}},
		{"a wrong request", change(func(r *usage.Record) { r.Status, r.Code = 400, "x" }), false, alert.Tally{}},
		{"the client left", change(func(r *usage.Record) { r.Status, r.Code = 499, "x" }), false, alert.Tally{}},
		{"a drill", change(func(r *usage.Record) { r.Drill = "d" }), false, alert.Tally{}},
	} {
		if got, counts := tallyOf(c.r); counts != c.counts || got != c.want {
			t.Errorf("%s: %t %+v", c.name, counts, got)
		}
	}
	if got := modelOf(&answered); got != "meant" {
		t.Errorf("counted for %s", got)
	}
}

// What can not be stored waits, and is stored once.
func TestCountsWaitForTheDatabase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &facts{refuses: errors.New("away")}
		c := NewCounter(f, slog.New(slog.DiscardHandler))
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); c.Run(ctx) }()
		c.Observe(&usage.Record{Status: 200, Start: time.Now().UnixMicro(), Route: "r"})
		time.Sleep(countEvery + time.Second)
		f.mu.Lock()
		f.refuses = nil
		f.mu.Unlock()
		c.Observe(&usage.Record{Status: 500, Code: "x", Start: time.Now().UnixMicro()})
		stop()
		<-ended // the last count is stored too
		sums := map[string]alert.Tally{}
		for _, m := range f.counted {
			t := sums[m.Of.ID()]
			t.Add(m.Tally)
			sums[m.Of.ID()] = t
		}
		if diff := cmp.Diff(map[string]alert.Tally{"all": {Requests: 2, Failures: 1}, "route:r": {Requests: 1}}, sums); diff != "" {
			t.Error(diff)
		}
	})
}

func TestStanding(t *testing.T) {
	view := compiled(t)
	circuit := func(id string, s health.State) health.Status {
		return health.Status{ID: id, View: health.View{State: s}}
	}
	for _, c := range []struct {
		name     string
		circuits []health.Status
		want     alert.Standing
	}{
		{"nothing was used", nil, alert.Standing{Providers: map[string]bool{}, Models: map[string]bool{}}},
		{
			"one is down",
			[]health.Status{circuit("alpha/m-alpha", health.HalfOpen), circuit("beta/m-beta", health.Closed)},
			alert.Standing{Providers: map[string]bool{"alpha": true, "beta": false}, Models: map[string]bool{"both": false, "one": true, "beta-only": false}},
		},
		{
			"both are",
			[]health.Status{circuit("alpha/m-alpha", health.Open), circuit("beta/m-beta", health.Open)},
			alert.Standing{Providers: map[string]bool{"alpha": true, "beta": true}, Models: map[string]bool{"both": true, "one": true, "beta-only": true}},
		},
		{"a drill's circuit is nobody's", []health.Status{circuit("drill:d/alpha/m-alpha", health.Open)}, alert.Standing{Providers: map[string]bool{}, Models: map[string]bool{}}},
	} {
		if diff := cmp.Diff(c.want, standing(view, c.circuits)); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
}

func TestAReplicaThatEndsTakesItsReportBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &facts{view: compiled(t)}
		r := NewReporter(f, f, f, slog.New(slog.DiscardHandler))
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); r.Run(ctx) }()
		time.Sleep(reportEvery + time.Second)
		stop()
		<-ended
		if len(f.standings) != 1 || len(f.removed) != 1 || r.Open()[alert.Budget] != 2 {
			t.Errorf("%+v %v %v", f.standings, f.removed, r.Open())
		}
	})
}
