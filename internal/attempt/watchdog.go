package attempt

import (
	"context"
	"sync/atomic"
	"time"

	"shareai/internal/upstream"
)

// watchdog holds the one deadline of an attempt that is running now. It has a single timer, moved
// from stage to stage, because a stream moves it at every event.
type watchdog struct {
	cancel context.CancelCauseFunc
	timer  *time.Timer
	stage  atomic.Pointer[upstream.Outcome]
	total  time.Time
}

// watch derives a context that ends when a stage takes too long or the whole request does.
func watch(ctx context.Context, total time.Time, stage upstream.Outcome, limit time.Duration) (context.Context, *watchdog) {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &watchdog{cancel: cancel, total: total}
	left := w.set(stage, limit)
	w.timer = time.AfterFunc(left, func() { cancel(*w.stage.Load()) })
	return ctx, w
}

// enter starts a stage that may take limit.
func (w *watchdog) enter(stage upstream.Outcome, limit time.Duration) {
	w.timer.Reset(w.set(stage, limit))
}

// rest stops the clock until the next stage is entered.
func (w *watchdog) rest() { w.timer.Stop() }

// set notes the stage and returns the time it has; the end of the whole request comes first when it
// is nearer. A limit of 0 leaves only that.
func (w *watchdog) set(stage upstream.Outcome, limit time.Duration) time.Duration {
	left := time.Until(w.total)
	if limit <= 0 || left <= limit {
		stage, limit = upstream.TotalTimeout, max(left, 0)
	}
	if now := w.stage.Load(); now == nil || *now != stage {
		w.stage.Store(&stage)
	}
	return limit
}

// stop ends the watch and releases the context.
func (w *watchdog) stop() {
	w.timer.Stop()
	w.cancel(context.Canceled)
}
