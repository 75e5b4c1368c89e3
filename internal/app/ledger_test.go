package app

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"shareai/internal/account"
	"shareai/internal/admission"
	"shareai/internal/catalog"
	"shareai/internal/cluster"
	"shareai/internal/fault"
	"shareai/internal/store"
	"shareai/internal/store/storetest"
	"shareai/internal/usage"
)

// books are records, where they are kept, and what is bounded by them.
type books struct {
	t     *testing.T
	rows  *store.Store
	now   time.Time
	owner string // an organization of this test alone: a Redis is shared

	mu  sync.Mutex
	all []usage.Record
}

// The counters of budgets are rebuilt from the records by whoever starts and agree with them to the nano-dollar, for every
// scope and period; what is counted while requests run agrees with the records that they leave.
func TestCountersAreRebuiltFromTheRecords(t *testing.T) {
	t.Parallel()
	for name, fresh := range map[string]func(*testing.T) storetest.Database{"SQLite": storetest.SQLite, "PostgreSQL": storetest.Postgres} {
		for _, counting := range []string{"memory", "Redis"} {
			t.Run(name+" and "+counting, func(t *testing.T) {
				t.Parallel()
				if testing.Short() && (name != "SQLite" || counting != "memory") {
					t.Skip("needs servers")
				}
				rows := fresh(t).Open(t)
				for round := range 4 {
					b := &books{t: t, rows: rows, now: time.Now(), owner: "o" + strings.ToLower(usage.NewID()[4:])}
					b.round(round, func() cluster.Meters { return metersOf(t, counting) })
				}
			})
		}
	}
}

// metersOf are the meters of a process that starts; nil: it counts for itself.
func metersOf(t *testing.T, counting string) cluster.Meters {
	t.Helper()
	if counting == "memory" {
		return nil
	}
	server := os.Getenv("SHAREAI_TEST_REDIS")
	if server == "" {
		t.Fatal("SHAREAI_TEST_REDIS is not set: run make test, or scripts/services.sh run go test …")
	}
	redis, err := cluster.NewRedis(t.Context(), server, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = redis.Close() })
	return redis.Meters()
}

func (b *books) round(seed int, meters func() cluster.Meters) {
	b.t.Helper()
	past := rapid.SliceOfN(rapid.Custom(b.past), 20, 60).Example(seed)
	b.keep(past...)
	begin := func() *admission.Gate {
		return admission.New(admission.Options{Meters: meters(), Ledger: b.rows, Log: slog.New(slog.DiscardHandler)})
	}
	running := begin()
	var requests sync.WaitGroup
	for i, r := range rapid.SliceOfN(rapid.Custom(b.past), 12, 12).Example(seed + 1000) {
		r.ID, r.Start = usage.NewID(), time.Now().UnixMicro()
		requests.Go(func() { b.serve(running, r, i) })
	}
	requests.Wait()
	b.agrees("while it runs", running, "")
	b.agrees("another process, while Redis may still know", begin(), "")
	b.agrees("where nobody knows anything", begin(), " restored")
}

// past is a record of the last days, or minutes.
func (b *books) past(t *rapid.T) usage.Record {
	ago := rapid.SampledFrom([]time.Duration{10 * time.Minute, 3 * time.Hour, 40 * time.Hour, 50 * 24 * time.Hour}).Draw(t, "about")
	start := b.now.Add(-time.Minute - time.Duration(rapid.Int64Range(0, int64(ago)).Draw(t, "ago")))
	id := usage.FirstID(start)
	r := usage.Record{
		ID: fmt.Sprintf("%s%08d", id[:len(id)-8], rapid.IntRange(0, 99_999_999).Draw(t, "id")), Start: start.UnixMicro(), Duration: 5_000,
		Organization: b.owner, Project: rapid.SampledFrom([]string{"app", "web"}).Draw(t, "project"),
		KeyID: b.owner + rapid.SampledFrom([]string{"-1", "-2"}).Draw(t, "key"), Endpoint: catalog.Chat, Status: 200,
		Model: rapid.SampledFrom([]string{"", b.owner + "-large", b.owner + "-small"}).Draw(t, "model"),
	}
	if team := rapid.SampledFrom([]string{"", "search", "ads"}).Draw(t, "team"); team != "" {
		r.Labels = map[string]string{"team": team, "environment": "production"}
	}
	// Attempts that failed may have cost something as well.
	for i := range rapid.IntRange(0, 3).Draw(t, "attempts") {
		a := usage.Attempt{Provider: fmt.Sprint("p", i), Deployment: fmt.Sprint("p", i, "/m"), Cost: rapid.Int64Range(0, 3_000_000_001).Draw(t, "cost")}
		r.Attempts = append(r.Attempts, a)
		r.Cost += a.Cost
		if r.Model != "" {
			r.Provider, r.Deployment = a.Provider, a.Deployment
		}
	}
	return r
}

func (b *books) keep(records ...usage.Record) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	seen := map[string]bool{}
	for _, r := range records {
		if !seen[r.ID] {
			b.all = append(b.all, r)
		}
		seen[r.ID] = true
	}
	if err := b.rows.InsertRecords(b.t.Context(), records); err != nil {
		b.t.Error(err)
	}
}

// serve admits a request, some of which break off, and leaves its record.
func (b *books) serve(g *admission.Gate, r usage.Record, n int) {
	ask := b.ask()
	for _, bound := range b.bounds("", 1<<60) {
		switch of := bound.Spending; {
		case of.Model != "":
			ask.Models = append(ask.Models, bound)
		case b.selects(&r, &of):
			ask.Caller = append(ask.Caller, bound)
		}
	}
	ask.ID, ask.Cost = r.ID, int64(n)*1_000_003
	permit, _, err := g.Admit(b.t.Context(), ask)
	if err != nil {
		b.t.Error(err)
		return
	}
	r.Duration = time.Now().UnixMicro() - r.Start
	b.keep(r)
	permit.Settle(admission.Outcome{Cost: r.Cost, Model: r.Model, Ended: time.UnixMicro(r.Start + r.Duration)})
}

func (b *books) ask() *admission.Request {
	return &admission.Request{ID: usage.NewID(), Start: b.now, Tokens: 1, Cost: 1}
}

// bounds are budgets of every scope and period. The suffix makes them others, of the same things.
func (b *books) bounds(suffix string, limit int64) (all []account.Bound) {
	minute := b.now.Truncate(time.Minute)
	for _, period := range []account.Budget{
		{Period: account.PerDay},
		{Period: account.PerWeek},
		{Period: account.PerMonth},
		{Period: account.Fixed, Start: minute.Add(-97*time.Minute - 13*time.Microsecond), End: minute.Add(time.Hour)},
	} {
		period.NanoUSD = limit
		for scope, of := range map[account.BoundScope]account.Spending{
			account.ByOrganization: {Organization: b.owner},
			account.ByLabel:        {Organization: b.owner, Label: "team", LabelValue: "search"},
			account.ByProject:      {Organization: b.owner, Projects: []string{"web"}},
			account.ByKey:          {KeyID: b.owner + "-1"},
			account.ByModel:        {Model: b.owner + "-small"},
		} {
			id := b.owner + "-small" // the id of a model's bound is its name
			if scope != account.ByModel {
				id = b.owner + suffix
			} else if suffix != "" {
				continue
			}
			all = append(all, account.Bound{Scope: scope, ID: id, Name: id, Budgets: []account.Budget{period}, Spending: of})
		}
	}
	return all
}

// agrees finds out what is counted: a budget of exactly as much is used up, and one of a nano-dollar more is not.
func (b *books) agrees(when string, g *admission.Gate, suffix string) {
	b.t.Helper()
	for _, bound := range b.bounds(suffix, 0) {
		budget := &bound.Budgets[0]
		want := b.spent(&bound)
		for _, limit := range []int64{want, want + 1} {
			if limit == 0 {
				continue
			}
			budget.NanoUSD = limit
			ask := b.ask()
			if ask.Caller = []account.Bound{bound}; bound.Scope == account.ByModel {
				ask.Caller, ask.Models = nil, ask.Caller
			}
			permit, _, err := g.Admit(b.t.Context(), ask)
			permit.Settle(admission.Outcome{Ended: time.Now()})
			var e *fault.Error
			if refused := errors.As(err, &e) && e.Kind == fault.Exhausted; refused != (limit == want) || !refused && err != nil {
				b.t.Errorf("%s, %s, %s: the records have %d; at a budget of %d: %v", when, bound.Scope, budget.Period, want, limit, err)
			}
		}
	}
}

func (b *books) spent(bound *account.Bound) (sum int64) {
	from, to, _ := bound.Budgets[0].Span(b.now)
	for i := range b.all {
		r := &b.all[i]
		if at := time.UnixMicro(r.Start); !at.Before(from) && at.Before(to) && b.selects(r, &bound.Spending) {
			sum += r.Cost
		}
	}
	return sum
}

func (b *books) selects(r *usage.Record, of *account.Spending) bool {
	return (of.Organization == "" || r.Organization == of.Organization) && (len(of.Projects) == 0 || r.Project == of.Projects[0]) &&
		(of.KeyID == "" || r.KeyID == of.KeyID) && (of.Model == "" || r.Model == of.Model) && (of.Label == "" || r.Labels[of.Label] == of.LabelValue)
}
