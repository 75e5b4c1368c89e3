package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"shareai/internal/account"
	"shareai/internal/adminapi"
	"shareai/internal/admission"
	"shareai/internal/attempt"
	"shareai/internal/catalog"
	"shareai/internal/cluster"
	"shareai/internal/config"
	"shareai/internal/control"
	"shareai/internal/gateway"
	"shareai/internal/health"
	"shareai/internal/identity"
	"shareai/internal/probe"
	"shareai/internal/share"
	"shareai/internal/snapshot"
	"shareai/internal/store"
	"shareai/internal/telemetry"
	"shareai/internal/upstream"
	"shareai/internal/usage"
)

// exportTime is how long stopping waits for the traces that are not exported yet.
const exportTime = 5 * time.Second

// Instance is a running gateway.
type Instance struct {
	settings Settings
	log      *slog.Logger
	life     context.Context // of everything that runs until Stop
	reloader *reloader
	site     *site
	people   *identity.Identity
	board    *health.Board
	// interrupt ends the work of requests whose clients have left.
	interrupt context.CancelFunc

	started []started // oldest first
	stop    sync.Once
	stopped error
	done    chan struct{} // closed when it can not go on
	broken  sync.Once
	cause   error // why it can not go on
}

// started is something that has to be stopped.
type started struct {
	what string
	stop func() error
}

// Start starts a gateway and returns once all listeners accept. ctx bounds the start only.
func Start(ctx context.Context, s Settings) (*Instance, error) {
	s = s.withDefaults()
	log, err := telemetry.NewLogger(s.Stderr, telemetry.Format(s.Log.Format), s.Log.Level)
	if err != nil {
		return nil, err
	}
	i := &Instance{settings: s, log: log, life: context.WithoutCancel(ctx), done: make(chan struct{})}
	if err := i.start(ctx); err != nil {
		_ = i.Stop() // the first error is the one to report
		return nil, err
	}
	return i, nil
}

// Addresses are where it listens.
func (i *Instance) Addresses() Addresses { return i.site.addresses }

// Reload reads the configuration file again. When it returns an error, the running configuration
// stays in force. The error has been logged.
func (i *Instance) Reload() error { return i.reloader.reload() }

// Done is closed when the instance can not go on; Stop then says why.
func (i *Instance) Done() <-chan struct{} { return i.done }

// Stop ends everything in the reverse order of its start. It may be called more than once and by
// several goroutines; each call returns when all has ended.
func (i *Instance) Stop() error {
	i.stop.Do(func() {
		var errs []error
		select {
		case <-i.done:
			errs = append(errs, i.cause)
		default:
		}
		for n := len(i.started) - 1; n >= 0; n-- {
			if err := i.started[n].stop(); err != nil {
				i.log.Error("could not stop cleanly", "part", i.started[n].what, "error", err)
				errs = append(errs, fmt.Errorf("stop the %s: %w", i.started[n].what, err))
			}
		}
		i.stopped = errors.Join(errs...)
		i.log.Info("stopped")
	})
	return i.stopped
}

// fail says that the instance can not go on.
func (i *Instance) fail(cause error) {
	i.broken.Do(func() {
		i.cause = cause
		close(i.done)
	})
}

// then notes how to stop what has just been started.
func (i *Instance) then(what string, stop func() error) {
	i.started = append(i.started, started{what, stop})
}

// background runs f until the instance stops.
func (i *Instance) background(what string, f func(context.Context)) {
	ctx, cancel := context.WithCancel(i.life)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f(ctx)
	}()
	i.then(what, func() error {
		cancel()
		<-ended
		return nil
	})
}

// start is the order of doc.go.
func (i *Instance) start(ctx context.Context) error {
	file, err := config.Load(i.settings.ConfigFile, i.settings.Getenv)
	if err != nil {
		return err
	}
	boot := i.settings.over(file.Boot)
	if err := prepareDir(boot.DataDir); err != nil {
		return err
	}
	listeners, err := listen(ctx, boot)
	if err != nil {
		return err
	}
	i.then("listeners", listeners.close)

	rows, err := openStore(ctx, boot, i.log)
	if err != nil {
		return err
	}
	i.then("store", rows.Close)

	keeper, err := newKeeper(ctx, rows, file, i.log)
	if err != nil {
		return err
	}
	shared, err := i.openShared(boot)
	if err != nil {
		return err
	}
	journal, shipper, err := i.openJournal(boot, rows)
	if err != nil {
		return err
	}
	i.recurring(rows, boot.Retention)
	uses := control.New(control.Options{
		Rows: rows, File: keeper.File, Signals: shared.signals, Nodes: rows, Log: rows, Logger: i.log,
	})
	nodes, err := i.nodes(ctx, ground{keeper, rows, uses, shared, boot})
	if err != nil {
		return err
	}
	handler, metrics, err := i.gateway(ctx, base{keeper, journal, shared, nodes, &ledger{rows, shipper}})
	if err != nil {
		return err
	}
	i.reloader = newReloader(i.settings, file, keeper, i.log)
	i.auditFile(rows, file)
	if err := i.follow(keeper, shared.signals, file); err != nil {
		return err
	}
	i.startPeople(boot, rows, uses, shared.meters, nil)
	admin, err := i.administration(keeper, rows, uses, nodes)
	if err != nil {
		return err
	}
	i.site = &site{
		version: i.settings.Version, log: i.log, addresses: listeners.addresses(),
		api: handler, admin: admin, nodes: nodes, metrics: metrics, interrupt: i.interrupt,
		condition: &condition{snapshots: keeper, journal: journal, reloader: i.reloader},
	}
	i.serve(listeners)
	i.log.Info("serving", "version", i.settings.Version, "api", i.Addresses().API, "admin", i.Addresses().Admin,
		"database", rows.String(), "data_dir", boot.DataDir, "config", file.Path)
	i.welcome(ctx, file, boot, keeper.Current())
	if i.settings.Ready != nil {
		i.settings.Ready(i.Addresses())
	}
	return nil
}

// base is what the data plane stands on.
type base struct {
	keeper  *snapshot.Keeper
	journal *usage.Journal
	shared  shared
	nodes   *nodes
	spent   *ledger
}

// gateway is the data plane with everybody who watches it.
func (i *Instance) gateway(ctx context.Context, on base) (http.Handler, *telemetry.Metrics, error) {
	var board *health.Board
	var told *alerts
	metrics := telemetry.NewMetrics(i.settings.Version, func() telemetry.State {
		return telemetry.State{
			Revision: on.keeper.Current().Revision, Failing: on.keeper.Failing() != "", Journal: on.journal.Stats(), Circuits: board.List(),
			Alerts: told.state(),
		}
	})
	board = health.NewBoard(health.Options{OnChange: metrics.CircuitChanged})
	i.board = board
	told = i.alerts(on.keeper, board, on.spent, on.nodes)
	life, interrupt := context.WithCancel(i.life)
	i.interrupt = interrupt
	options := gateway.Options{
		Snapshots: on.keeper, Journal: on.journal, Log: i.log, Draw: rand.Float64, Live: board, Links: on.nodes,
		Observers: []gateway.Observer{metrics, told.counter, telemetry.NewAccessLog(i.life, i.log)},
		Answers:   on.shared.answers, Life: life,
		Admission: admission.New(admission.Options{Meters: on.shared.meters, Ledger: on.spent, Log: i.log}),
	}
	if err := i.trace(ctx, &options); err != nil {
		return nil, nil, err
	}
	client := upstream.New(upstream.Options{UserAgent: "shareai/" + i.settings.Version, Nodes: on.nodes})
	i.then("upstream client", func() error { client.Close(); return nil })
	options.Runner = attempt.NewEngine(client, board, rand.Float64).Sharing(share.NewDesk(on.shared.seats, i.log))
	prober := probe.New(probe.Options{Snapshots: on.keeper, Client: client, Board: board, Log: i.log, OnCanary: i.logCanary})
	i.background("probes", prober.Run)
	return gateway.New(options).Handler(), metrics, nil
}

// logCanary tells of what a probe cost: nobody asked for it, and it is on a provider's bill.
func (i *Instance) logCanary(provider, deployment string, tokens catalog.Tokens, cost int64) {
	i.log.Info("a canary was sent", "provider", provider, "deployment", deployment,
		"prompt_tokens", tokens.Prompt, "completion_tokens", tokens.Completion, "cost_usd", catalog.FormatUSD(cost))
}

// administration is the control plane.
func (i *Instance) administration(keeper *snapshot.Keeper, rows *store.Store, uses *control.Control, nodes *nodes) (http.Handler, error) {
	return adminapi.New(adminapi.Options{
		Snapshots: keeper, Log: i.log, Identity: i.people, Keys: uses, Tenants: uses, Records: rows, Audit: rows, Alerts: rows, Catalog: uses, Routing: preview{i.board, nodes}, Drills: uses,
		Nodes: uses, NodeRouting: uses, NodeTokens: uses, NodeLinks: nodes, Community: uses, CommunityLedger: rows,
	})
}

// newKeeper compiles the first snapshot.
func newKeeper(ctx context.Context, rows *store.Store, file *config.File, log *slog.Logger) (*snapshot.Keeper, error) {
	for _, w := range file.Warnings {
		log.Warn(fmt.Sprintf("%s:%d: %s", file.Path, w.Line, w.Message))
	}
	keeper, err := snapshot.NewKeeper(ctx, rows, file.Spec, log)
	return keeper, explain(file, err)
}

// explain gives the problems of declarations the lines of the file.
func explain(file *config.File, err error) error {
	var problems snapshot.Problems
	if errors.As(err, &problems) {
		return file.Explain(problems)
	}
	return err
}

// openShared joins this process to the other replicas.
func (i *Instance) openShared(boot config.Boot) (shared, error) {
	s, err := openShared(i.life, boot, i.log)
	if err == nil {
		i.then("shared state", s.close)
	}
	return s, err
}

// openJournal opens the journal and begins to ship it to the store.
func (i *Instance) openJournal(boot config.Boot, sink usage.Sink) (*usage.Journal, *usage.Shipper, error) {
	journal, err := usage.OpenJournal(filepath.Join(boot.DataDir, "journal"), usage.JournalOptions{Logger: i.log})
	if errors.Is(err, usage.ErrJournalLocked) {
		return nil, nil, fmt.Errorf("another gateway uses the data directory %s: stop it, or give this one a directory of its own with --data-dir: %w", boot.DataDir, err)
	}
	if err != nil {
		return nil, nil, err
	}
	i.then("usage journal", journal.Close)
	shipper := usage.NewShipper(journal, sink, usage.ShipperOptions{Logger: i.log})
	i.background("usage shipper", shipper.Run)
	i.then("usage shipper", func() error {
		ctx, cancel := context.WithTimeout(i.life, i.settings.Flush)
		defer cancel()
		if err := shipper.Flush(ctx); err != nil {
			i.log.Warn("usage records could not be stored in time and wait in the journal for the next start",
				"records", journal.Stats().PendingRecords, "error", err)
		}
		return nil
	})
	return journal, shipper, nil
}

// ledger is what was spent: the sums of the store, once what waits in the journal is in them.
type ledger struct {
	rows    *store.Store
	shipper *usage.Shipper
}

// Spent implements admission.Ledger.
func (l *ledger) Spent(ctx context.Context, of account.Spending) (int64, error) {
	if err := l.shipper.Flush(ctx); err != nil {
		return 0, err
	}
	return l.rows.Spent(ctx, of)
}

// trace makes the gateway's requests leave traces, where a collector is set.
func (i *Instance) trace(ctx context.Context, o *gateway.Options) error {
	if i.settings.OTLPEndpoint == "" {
		return nil
	}
	traces, err := telemetry.NewTraces(ctx, telemetry.TraceOptions{
		Endpoint: i.settings.OTLPEndpoint, Version: i.settings.Version, Log: i.log,
	})
	if err != nil {
		return err
	}
	o.Observers = append(o.Observers, traces)
	o.NewTrace = func() attempt.Trace {
		return attempt.Trace{TraceID: telemetry.NewTraceID(), Sampled: true}
	}
	i.then("traces", func() error {
		ctx, cancel := context.WithTimeout(i.life, exportTime)
		defer cancel()
		if err := traces.Close(ctx); err != nil {
			i.log.Warn("the last traces could not be exported", "error", err)
		}
		return nil
	})
	return nil
}

// follow keeps the snapshot up to date with the rows and the file.
func (i *Instance) follow(keeper *snapshot.Keeper, signals cluster.Signals, file *config.File) error {
	wake, unsubscribe, err := signals.Subscribe(i.life, cluster.TopicSnapshot)
	if err != nil {
		return err
	}
	i.then("subscription", func() error { unsubscribe(); return nil })
	i.background("snapshot keeper", func(ctx context.Context) { keeper.Run(ctx, wake) })
	if file.Path != "" {
		i.background("file watch", func(ctx context.Context) {
			config.Watch(ctx, file, i.log, func() { _ = i.Reload() })
		})
	}
	return nil
}
