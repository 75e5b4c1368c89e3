package snapshot

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"shareai/internal/account"
	"shareai/internal/catalog"
)

// rows is a store in memory: it can be changed, and it can be away.
type rows struct {
	mu       sync.Mutex
	spec     Spec
	revision int64
	away     error
	loads    int
}

func (r *rows) Load(context.Context) (Spec, int64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.loads++
	return r.spec, r.revision, r.away
}

func (r *rows) Revision(context.Context) (int64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.revision, r.away
}

func (r *rows) set(change func(*rows)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(r)
}

func provider(name string, origin account.Origin) catalog.Provider {
	return catalog.Provider{Name: name, Dialect: catalog.Simulated, Origin: origin}
}

func newKeeper(t *testing.T, r *rows) *Keeper {
	t.Helper()
	k, err := NewKeeper(t.Context(), r, sound(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestAnInvalidChangeNeverReplacesARunningOne(t *testing.T) {
	r := &rows{revision: 1}
	k := newKeeper(t, r)
	running := k.Current()

	bad := sound()
	bad.Models[0].Deployments[0].Provider = "gone"
	if err := k.SetFile(bad); err == nil {
		t.Fatal("a bad file was taken")
	}
	if k.Current() != running || !strings.Contains(k.Failing(), "gone") {
		t.Errorf("running replaced, or the reason is lost: %q", k.Failing())
	}
	if err := k.Refresh(t.Context()); err != nil || k.Failing() == "" {
		t.Errorf("a look at unchanged rows forgot that the file is bad: %v, %q", err, k.Failing())
	}

	r.set(func(r *rows) {
		r.revision, r.spec.Providers = 2, []catalog.Provider{provider("alpha", account.FromDatabase)}
	})
	if err := k.Refresh(t.Context()); err == nil {
		t.Fatal("rows that clash with the file were taken")
	}
	loads := r.loads
	if err := k.Refresh(t.Context()); err != nil || r.loads != loads {
		t.Errorf("rows that did not compile are read again and again: %v", err)
	}
	if k.Current() != running || !k.Unfit() || k.Failing() == "" {
		t.Error("running replaced, or not reported")
	}
	if k.Stale() {
		t.Error("rows that can be read are called stale: unknown keys would be told to come back")
	}
	r.set(func(r *rows) { r.away = errors.New("connection refused") })
	if err := k.Refresh(t.Context()); err == nil || !k.Stale() {
		t.Error("an outage after a refusal went unnoticed")
	}
	r.set(func(r *rows) { r.away = nil })
	if err := k.Refresh(t.Context()); err != nil || k.Stale() || !k.Unfit() {
		t.Errorf("after the outage: %v; the refusal is forgotten, or still stale", err)
	}

	if err := k.SetFile(sound()); err != nil { // still clashes with nothing: the rows in force are revision 1
		t.Fatal(err)
	}
	r.set(func(r *rows) {
		r.revision, r.spec.Providers = 3, []catalog.Provider{provider("gamma", account.FromDatabase)}
	})
	if err := k.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, ok := k.Current().Provider("gamma"); !ok || k.Failing() != "" || k.Stale() || k.Unfit() {
		t.Errorf("a good change after a bad one: %q", k.Failing())
	}
}

func TestADatabaseThatIsAwayLeavesTheSnapshotInForce(t *testing.T) {
	r := &rows{revision: 1}
	k := newKeeper(t, r)
	r.set(func(r *rows) { r.away = errors.New("connection refused") })
	if err := k.Refresh(t.Context()); err == nil || !k.Stale() {
		t.Error("an outage went unnoticed")
	}
	if _, ok := k.Current().Principal(account.HashKey("one")); !ok {
		t.Error("a known key is forgotten")
	}
	r.set(func(r *rows) { r.away = nil })
	if err := k.Refresh(t.Context()); err != nil || k.Stale() {
		t.Errorf("no recovery: %v", err)
	}
}

// A change reaches a replica at once by a signal, and by the poll when the signal is lost.
func TestRunFollowsSignalsAndPolls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &rows{revision: 1}
		k := newKeeper(t, r)
		ctx, cancel := context.WithCancel(t.Context())
		signals := make(chan struct{})
		done := make(chan struct{})
		go func() { defer close(done); k.Run(ctx, signals) }()

		r.set(func(r *rows) {
			r.revision, r.spec.Providers = 2, []catalog.Provider{provider("gamma", account.FromDatabase)}
		})
		signals <- struct{}{}
		synctest.Wait()
		if k.Current().Revision != 2 {
			t.Error("a signal was not followed")
		}

		r.set(func(r *rows) { r.revision = 3 })
		changed := time.Now()
		for k.Current().Revision != 3 {
			if time.Since(changed) > 2*time.Second {
				t.Fatal("without a signal a change takes more than 2 s")
			}
			<-time.After(50 * time.Millisecond)
		}
		cancel()
		<-done
	})
}

// slowRows is a store that hangs in Load.
type slowRows struct {
	rows
	loading, release chan struct{}
}

func (s *slowRows) Load(ctx context.Context) (Spec, int64, error) {
	if s.loading != nil {
		s.loading <- struct{}{}
		<-s.release
	}
	return s.rows.Load(ctx)
}

func TestAFileDoesNotWaitForTheDatabase(t *testing.T) {
	r := &slowRows{rows: rows{revision: 1}}
	k, err := NewKeeper(t.Context(), r, sound(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	r.loading, r.release = make(chan struct{}), make(chan struct{})
	r.set(func(r *rows) {
		r.revision, r.spec.Providers = 2, []catalog.Provider{provider("gamma", account.FromDatabase)}
	})
	refreshed := make(chan error)
	go func() { refreshed <- k.Refresh(t.Context()) }()
	<-r.loading
	next := sound()
	next.Providers = append(next.Providers, provider("delta", account.FromFile))
	if err := k.SetFile(next); err != nil { // would wait for ever
		t.Fatal(err)
	}
	close(r.release)
	if err := <-refreshed; err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"gamma", "delta"} {
		if _, ok := k.Current().Provider(name); !ok {
			t.Errorf("provider %s got lost", name)
		}
	}
}
