package probe

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"shareai/internal/catalog"
	"shareai/internal/health"
	"shareai/internal/snapshot"
	"shareai/internal/upstream"
)

// Client speaks to providers. *upstream.Client is one; errors are *upstream.Error.
type Client interface {
	Probe(ctx context.Context, target upstream.Target, kind catalog.ProbeKind) error
	Do(ctx context.Context, call *upstream.Call) (*upstream.Answer, error)
}

// Snapshots gives the running snapshot.
type Snapshots interface {
	Current() *snapshot.Snapshot
}

// Options are what a Runner works with. All but OnCanary are needed.
type Options struct {
	Snapshots Snapshots
	Client    Client
	Board     *health.Board
	Log       *slog.Logger
	// OnCanary hears of every canary that may be on a provider's bill. cost is in nano-dollars. It is called
	// by several goroutines.
	OnCanary func(provider, deployment string, tokens catalog.Tokens, cost int64)
}

// The Runner's times and bounds; doc.go says why.
const (
	tickEvery   = time.Second
	atOnce      = 8
	limit       = 5 * time.Second
	canaryLimit = 30 * time.Second // reasoning comes before the first of the 16 tokens
	openEvery   = 5 * time.Second
	sureEvery   = time.Second
	sureAfter   = 5
)

// Runner probes the providers of the running snapshot.
type Runner struct {
	options Options

	mu        sync.Mutex
	view      *snapshot.Snapshot
	targets   map[string][]snapshot.Target // of view, by provider
	providers map[string]*watched
	running   int
}

// watched is what is known of one provider. The Runner's lock guards it.
type watched struct {
	last     time.Time // when the last probe ended
	running  bool
	failures int    // in a row
	suspect  string // the deployment whose canary failed last
	standing Standing
	stats    Stats
	day      int64 // the UTC day of stats.SpentToday, in days since the epoch
}

// Standing is what the last probe of a provider found.
type Standing string

// The standings. A provider that was not probed yet has none.
const (
	Reachable   Standing = "reachable"
	Unreachable Standing = "unreachable"
	Failing     Standing = "failing" // it is there, and does not answer a canary
	Unclear     Standing = "unclear" // it answers, and that says nothing
)

// Stats is what was done for one provider since the start.
type Stats struct {
	Provider   string
	Standing   Standing
	Probes     uint64 // canaries included
	Failures   uint64
	Canaries   uint64
	SpentToday int64 // for canaries, in the present UTC day, in nano-dollars
}

// New makes a Runner.
func New(options Options) *Runner {
	if options.OnCanary == nil {
		options.OnCanary = func(string, string, catalog.Tokens, int64) {}
	}
	return &Runner{options: options, providers: map[string]*watched{}}
}

// Run probes until the context ends, and returns when every probe has ended.
func (r *Runner) Run(ctx context.Context) {
	ticker := time.NewTicker(tickEvery)
	defer ticker.Stop()
	var under sync.WaitGroup
	defer under.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			for _, j := range r.due(time.Now()) {
				under.Go(func() { r.probe(ctx, j) })
			}
		}
	}
}

// Stats returns what was done for every provider of the running snapshot, sorted by name.
func (r *Runner) Stats() []Stats {
	providers := r.options.Snapshots.Current().Providers()
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]Stats, 0, len(providers))
	for _, p := range providers {
		s := Stats{Provider: p.Name}
		if w := r.providers[p.Name]; w != nil {
			w.roll(utcDay(time.Now()))
			s = w.stats
			s.Provider, s.Standing = p.Name, w.standing
		}
		list = append(list, s)
	}
	return list
}

// job is one provider that is to be probed.
type job struct {
	provider *catalog.Provider
	targets  []snapshot.Target
	watched  *watched
	at       time.Time // since when
	now      time.Time
}

// due takes the providers that are to be probed now, as many as there is room for. Those that wait the
// longest are first: the ones that are away must not take all the room.
func (r *Runner) due(now time.Time) []job {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.follow(r.options.Snapshots.Current(), now)
	var jobs []job
	for _, p := range r.view.Providers() {
		j := job{provider: p, targets: r.targets[p.Name], watched: r.providers[p.Name], now: now}
		if j.watched == nil || j.watched.running || len(j.targets) == 0 {
			continue
		}
		if j.at = j.due(r.options.Board); !j.at.After(now) {
			jobs = append(jobs, j)
		}
	}
	slices.SortStableFunc(jobs, func(a, b job) int { return a.at.Compare(b.at) })
	jobs = jobs[:min(len(jobs), atOnce-r.running)]
	for _, j := range jobs {
		j.watched.running = true
	}
	r.running += len(jobs)
	return jobs
}

// follow takes over what a new snapshot declares. What was spent is kept, so that declaring a provider
// anew does not refill its cap.
func (r *Runner) follow(view *snapshot.Snapshot, now time.Time) {
	if view == r.view {
		return
	}
	r.view, r.targets = view, targetsOf(view)
	for _, p := range view.Providers() {
		if len(r.targets[p.Name]) > 0 && p.Probe.Kind != catalog.ProbeOff && r.providers[p.Name] == nil {
			begun := now.Add(-time.Duration(rand.Float64() * float64(every(p))))
			r.providers[p.Name] = &watched{last: begun}
		}
	}
	for name, w := range r.providers {
		w.roll(utcDay(now))
		if _, declared := view.Provider(name); !declared && !w.running && w.stats.SpentToday == 0 {
			delete(r.providers, name)
		}
	}
}

// targetsOf groups what takes requests by provider.
func targetsOf(view *snapshot.Snapshot) map[string][]snapshot.Target {
	targets := map[string][]snapshot.Target{}
	for i := range view.Spec().Models {
		m, ok := view.Model(view.Spec().Models[i].Name)
		if !ok {
			continue
		}
		for _, t := range m.Targets {
			if !t.Limits.Drained && t.Provider.Probe.Kind != catalog.ProbeOff {
				targets[t.Provider.Name] = append(targets[t.Provider.Name], t)
			}
		}
	}
	return targets
}

func every(p *catalog.Provider) time.Duration {
	if p.Probe.Every > 0 {
		return p.Probe.Every
	}
	return catalog.DefaultProbeEvery
}

// due is when the provider is to be probed.
func (j *job) due(board *health.Board) time.Time {
	w, usual := j.watched, every(j.provider)
	told, away, ready := w.last, false, false
	for i := range j.targets {
		d := board.Deployment(j.targets[i].ID)
		if heard := d.Heard(); heard.After(told) {
			told = heard
		}
		switch d.State() {
		case health.Open:
			away = away || !d.Held()
		case health.HalfOpen:
			ready = true
		}
	}
	switch {
	case w.failures > 0 && (ready || w.failures < sureAfter):
		return w.last.Add(min(usual, sureEvery))
	case away, ready && j.provider.Probe.Kind == catalog.ProbeCanary:
		return w.last.Add(min(usual, openEvery))
	default:
		return told.Add(usual)
	}
}

// probe carries one job out.
func (r *Runner) probe(ctx context.Context, j job) {
	var found Standing
	if c, ok := r.canary(j); ok {
		found = r.send(ctx, c)
	} else {
		found = r.ask(ctx, j)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	j.watched.last, j.watched.running = time.Now(), false
	r.running--
	if ctx.Err() == nil {
		r.note(j, found)
	}
}

// ask probes free of charge.
func (r *Runner) ask(ctx context.Context, j job) Standing {
	kind := j.provider.Probe.Kind
	if kind != catalog.ProbeTCP {
		kind = catalog.ProbeModels
	}
	within, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := r.options.Client.Probe(within, upstream.Target{Provider: j.provider, Deployment: j.targets[0].Deployment, Key: r.key(j.provider)}, kind)
	if ctx.Err() != nil {
		return Unclear
	}
	found := judge(err)
	if found == Unreachable {
		for i := range j.targets {
			r.fail(&j.targets[i])
		}
	}
	return found
}

// judge reads the error of a probe.
func judge(err error) Standing {
	var f *upstream.Error
	switch {
	case err == nil:
		return Reachable
	case !errors.As(err, &f), f.Status == 0, f.Status >= http.StatusBadGateway:
		return Unreachable
	default:
		return Unclear
	}
}

// fail counts a failure of a deployment, in the place of a request that would have met it.
func (r *Runner) fail(t *snapshot.Target) {
	if permit, ok := r.options.Board.Deployment(t.ID).Acquire(); ok {
		permit.Failed()
	}
}

// note takes down what a probe found.
func (r *Runner) note(j job, found Standing) {
	w := j.watched
	w.stats.Probes++
	if found == Unreachable || found == Failing {
		w.stats.Failures++
		w.failures++
	} else {
		w.failures = 0
	}
	before := w.standing
	if w.standing = found; found == before {
		return
	}
	if found != Reachable || before != "" {
		r.options.Log.Info("what the probe of a provider finds has changed", "provider", j.provider.Name, "finds", string(found), "found", string(before))
	}
	if before == Unreachable && found == Reachable {
		for i := range j.targets {
			r.options.Board.Deployment(j.targets[i].ID).EndWait()
		}
	}
}

// key is the first of a provider's keys that is not out of use, under the name by which package attempt
// keeps its health; else the first one.
func (r *Runner) key(p *catalog.Provider) catalog.ProviderKey {
	if len(p.Keys) == 0 {
		return catalog.ProviderKey{}
	}
	for _, k := range p.Keys {
		if r.options.Board.Key(p.Name + "#" + k.Name).Usable() {
			return k
		}
	}
	return p.Keys[0]
}
