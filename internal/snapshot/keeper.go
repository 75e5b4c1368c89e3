package snapshot

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Source gives the rows. The store implements it.
type Source interface {
	// Load returns all rows as one consistent state, with its revision.
	Load(ctx context.Context) (Spec, int64, error)
	// Revision returns the present revision. It is called every PollInterval and must be cheap.
	Revision(ctx context.Context) (int64, error)
}

// PollInterval is how often a replica asks for the store's revision. Together with the signal it
// bounds how long a change on one replica takes to reach the others: 2 s even when every signal is
// lost.
const PollInterval = time.Second

// loadTimeout bounds one read of the store, so that a hanging database does not hang the poll.
const loadTimeout = 10 * time.Second

// Keeper holds the running snapshot and replaces it when the rows or the file change. A state that
// does not compile never replaces a running one.
type Keeper struct {
	source  Source
	log     *slog.Logger
	current atomic.Pointer[Snapshot]

	refreshing sync.Mutex // one look at the source at a time

	mu      sync.Mutex // one change at a time; never held while the source is asked
	file    Spec
	rows    Spec
	refused int64 // a revision whose rows do not compile with the present file; 0: none
	waiting []chan struct{}

	// Why the newest file or rows are not in force: the file is bad, the source can not be asked, the rows
	// do not compile.
	fileFailing, away, unfit atomic.Pointer[string]
}

// NewKeeper compiles the first snapshot. Its error is the source's, or Problems.
func NewKeeper(ctx context.Context, source Source, file Spec, log *slog.Logger) (*Keeper, error) {
	k := &Keeper{source: source, log: log, file: file}
	rows, revision, err := source.Load(ctx)
	if err != nil {
		return nil, fmt.Errorf("load the configuration from the database: %w", err)
	}
	if err := k.replace(file, rows, revision); err != nil {
		return nil, err
	}
	return k, nil
}

// Changes returns a channel that receives after another snapshot has come into force. Several changes may be told as one.
func (k *Keeper) Changes() <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	changes := make(chan struct{}, 1)
	k.waiting = append(k.waiting, changes)
	return changes
}

// Current is the running snapshot. A request takes it once.
func (k *Keeper) Current() *Snapshot { return k.current.Load() }

// File is what the file in force declares.
func (k *Keeper) File() Spec {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.file
}

// Failing says why the newest file or rows are not in force; empty when they are.
func (k *Keeper) Failing() string {
	for _, p := range []*atomic.Pointer[string]{&k.fileFailing, &k.away, &k.unfit} {
		if s := p.Load(); s != nil {
			return *s
		}
	}
	return ""
}

// Stale says that the source can not be asked at the moment: what the running snapshot does not know may
// exist all the same. Rows that were read and do not compile are Unfit instead; they are not going to be
// in force by waiting.
func (k *Keeper) Stale() bool { return k.away.Load() != nil }

// Unfit says that the newest rows do not compile with the file, so that older ones are in force.
func (k *Keeper) Unfit() bool { return k.unfit.Load() != nil }

// rowsFailing says why the newest rows are not in force; empty when they are.
func (k *Keeper) rowsFailing() string {
	for _, p := range []*atomic.Pointer[string]{&k.away, &k.unfit} {
		if s := p.Load(); s != nil {
			return *s
		}
	}
	return ""
}

// SetFile compiles the rows with a new file. On error the running snapshot stays.
func (k *Keeper) SetFile(file Spec) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	err := k.replace(file, k.rows, k.current.Load().Revision)
	note(&k.fileFailing, err)
	if err == nil {
		k.refused = 0 // rows that did not fit the old file may fit this one
	}
	return err
}

// RefuseFile notes that a new file could not even be read. The running snapshot stays.
func (k *Keeper) RefuseFile(err error) { note(&k.fileFailing, err) }

// Refresh reads the rows anew when their revision has changed. On error the running snapshot stays;
// rows that do not compile are reported once and not read again until they or the file change.
func (k *Keeper) Refresh(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	k.refreshing.Lock()
	defer k.refreshing.Unlock()
	rows, revision, err := k.newer(ctx)
	note(&k.away, err)
	if err != nil || rows == nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	err = k.replace(k.file, *rows, revision)
	if err != nil {
		k.refused = revision
	}
	note(&k.unfit, err)
	return err
}

// newer returns the rows when they are neither those in force nor those that were refused, or nil.
func (k *Keeper) newer(ctx context.Context) (*Spec, int64, error) {
	revision, err := k.source.Revision(ctx)
	if err != nil {
		return nil, 0, fmt.Errorf("ask the database for its revision: %w", err)
	}
	k.mu.Lock()
	inForce, refused := k.current.Load().Revision, k.refused
	k.mu.Unlock()
	switch revision {
	case inForce:
		note(&k.unfit, nil)
		return nil, 0, nil
	case refused:
		return nil, 0, nil
	}
	rows, revision, err := k.source.Load(ctx)
	if err != nil {
		return nil, 0, fmt.Errorf("load the configuration from the database: %w", err)
	}
	return &rows, revision, nil
}

// replace compiles file and rows and puts the result in force.
func (k *Keeper) replace(file, rows Spec, revision int64) error {
	next, err := Compile(Join(file, rows))
	if err != nil {
		return err
	}
	next.Revision = revision
	k.file, k.rows = file, rows
	k.current.Store(next)
	for _, changes := range k.waiting {
		select {
		case changes <- struct{}{}:
		default: // it is yet to look at an earlier one
		}
	}
	for _, w := range next.Warnings {
		k.log.Warn(w)
	}
	k.log.Info("configuration in force", "revision", revision, "models", len(next.models), "keys", len(next.principals))
	return nil
}

func note(where *atomic.Pointer[string], err error) {
	if err == nil {
		where.Store(nil)
		return
	}
	text := err.Error()
	where.Store(&text)
}

// Run follows the source until ctx ends: at every signal, and every PollInterval in case a signal was
// lost. signals may be nil.
func (k *Keeper) Run(ctx context.Context, signals <-chan struct{}) {
	tick := time.NewTicker(PollInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case _, open := <-signals:
			if !open {
				signals = nil
			}
		case <-tick.C:
		}
		before := k.rowsFailing()
		err := k.Refresh(ctx)
		switch after := k.rowsFailing(); {
		case ctx.Err() != nil:
			return
		case err != nil && before != after:
			k.log.Error("the running configuration stays in force", "revision", k.Current().Revision, "error", err)
		case before != "" && after == "":
			k.log.Info("the database's configuration is being followed again", "revision", k.Current().Revision)
		}
	}
}
