// Package jobs does recurring work that one replica does for all, such as dropping old records. There is no
// elected leader: before each run a replica takes the turn of the job, which is a row of the database, so
// that whoever is alive does the work, and nobody has to notice that another one has died.
package jobs

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"shareai/internal/fault"
)

// Job is work that is done every so often. Run has to bear that it was cut off the last time, and, when it
// takes longer than Every, that another replica begins meanwhile.
type Job struct {
	Name  string // its turns are taken by this name
	Every time.Duration
	Run   func(ctx context.Context) error
}

// Turns hands out turns: true to one of those who ask within the time, false to all others.
type Turns interface {
	Turn(ctx context.Context, job string, every time.Duration) (bool, error)
}

// early is by how much a turn may be asked for too early: a tick that comes a moment before the last one's time has passed
// would otherwise have to wait for the next.
const early = 20

// patience is how long a replica waits until it asks for a turn again: the time by which a job may come
// late when the replica that did it last is gone.
const patience = time.Minute

// Run does the jobs until ctx ends and all of them have returned.
func Run(ctx context.Context, turns Turns, log *slog.Logger, jobs ...Job) {
	var all sync.WaitGroup
	for _, j := range jobs {
		all.Go(func() { j.repeat(ctx, turns, log) })
	}
	all.Wait()
}

func (j *Job) repeat(ctx context.Context, turns Turns, log *slog.Logger) {
	again := time.NewTicker(min(j.Every, patience))
	defer again.Stop()
	for {
		switch mine, err := turns.Turn(ctx, j.Name, j.Every-min(j.Every/early, time.Second)); {
		case ctx.Err() != nil:
			return
		case err != nil:
			log.WarnContext(ctx, "a job can not take its turn and tries again", "job", j.Name, "error", err)
		case mine:
			if err := j.once(ctx); err != nil && ctx.Err() == nil {
				log.ErrorContext(ctx, "a job failed and is done again at its next turn", "job", j.Name, "every", j.Every, "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-again.C:
		}
	}
}

// once runs the job. A panic of one job ends neither the others nor the process.
func (j *Job) once(ctx context.Context) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %s\n%s", fault.Redact(fmt.Sprint(p)), debug.Stack())
		}
	}()
	return j.Run(ctx)
}
