package jobs_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"shareai/internal/jobs"
)

// board keeps turns in memory, as the store keeps them in a table.
type board struct {
	mu    sync.Mutex
	taken map[string]time.Time
	away  bool
}

func (b *board) Turn(_ context.Context, job string, every time.Duration) (bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.away {
		return false, errors.New("the database is away")
	}
	if at, ok := b.taken[job]; ok && time.Since(at) < every {
		return false, nil
	}
	b.taken[job] = time.Now()
	return true, nil
}

func (b *board) set(away bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.away = away
}

func TestOneReplicaDoesTheWorkForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := &board{taken: map[string]time.Time{}}
		runs := make(chan int, 100)
		stop := make([]context.CancelFunc, 3)
		for replica := range stop {
			var ctx context.Context
			ctx, stop[replica] = context.WithCancel(t.Context())
			go jobs.Run(ctx, turns, slog.New(slog.DiscardHandler), jobs.Job{Name: "sweep", Every: time.Hour, Run: func(context.Context) error {
				runs <- replica
				return nil
			}})
		}
		for n := 1; n <= 3; n++ {
			synctest.Wait()
			if len(runs) != n {
				t.Fatalf("%d runs in hour %d", len(runs), n)
			}
			time.Sleep(time.Hour + time.Minute)
		}
		// The replica that would be next dies; another one does the work.
		stop[0]()
		stop[1]()
		synctest.Wait()
		for len(runs) > 0 {
			<-runs
		}
		time.Sleep(time.Hour + 2*time.Minute)
		synctest.Wait()
		if len(runs) != 1 || <-runs != 2 {
			t.Error("the last replica did not take over")
		}
		stop[2]()
		synctest.Wait()
	})
}

func TestAJobThatFailsIsDoneAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := &board{taken: map[string]time.Time{}, away: true}
		var log bytes.Buffer
		runs := 0
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			jobs.Run(ctx, turns, slog.New(slog.NewTextHandler(&log, nil)), jobs.Job{Name: "sweep", Every: 30 * time.Second, Run: func(context.Context) error {
				if runs++; runs == 1 {
					return errors.New("no luck")
				}
				panic("oh no")
			}})
		}()
		synctest.Wait()
		if runs != 0 {
			t.Fatal("it ran without a turn")
		}
		turns.set(false)
		time.Sleep(61 * time.Second)
		stop()
		<-ended
		if runs != 2 {
			t.Errorf("%d runs", runs)
		}
		for _, want := range []string{"the database is away", "no luck", "panic: oh no", "job=sweep"} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("the log lacks %q:\n%s", want, &log)
			}
		}
	})
}
