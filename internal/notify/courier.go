package notify

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"shareai/internal/alert"
	"shareai/internal/fault"
)

// Outbox keeps messages until they are delivered.
type Outbox interface {
	// DueDeliveries lists what can be sent now, so many for each receiver at most. Messages of one episode go to a receiver
	// in order.
	DueDeliveries(ctx context.Context, limit int64) ([]alert.Outgoing, error)
	// ClaimDelivery takes a message, until it is finished or the lease is over. It is false when somebody else has.
	ClaimDelivery(ctx context.Context, d *alert.Outgoing, lease time.Duration) (bool, error)
	// FinishDelivery notes the end of a try: delivered without a reason, tried again at next, or given up.
	FinishDelivery(ctx context.Context, id, reason string, next time.Time) error
}

// The times and bounds of a Courier.
const (
	lookEvery   = 2 * time.Second
	lease       = 3 * sendTime
	finishTime  = 5 * time.Second
	dueAtOnce   = 16 // for each receiver
	firstWait   = 5 * time.Second
	longestWait = time.Hour
	spread      = 0.2            // of a wait, to both sides
	patience    = 24 * time.Hour // until a message is given up
	undeclared  = 10 * time.Minute
)

// Stats counts since the start of the process.
type Stats struct {
	Delivered int64
	Failed    int64 // tries
	GivenUp   int64
}

// CourierOptions are what a Courier works with. All are needed.
type CourierOptions struct {
	Outbox   Outbox
	Sender   *Sender
	Settings func() alert.Settings
	Log      *slog.Logger
}

// Courier sends what is due.
type Courier struct {
	options CourierOptions

	mu   sync.Mutex
	busy map[string]bool // receivers that are being sent to: one that hangs holds up no other

	delivered, failed, givenUp atomic.Int64
}

// NewCourier makes a courier, which has to run.
func NewCourier(o CourierOptions) *Courier {
	return &Courier{options: o, busy: map[string]bool{}}
}

// Stats says what was done.
func (c *Courier) Stats() Stats {
	return Stats{Delivered: c.delivered.Load(), Failed: c.failed.Load(), GivenUp: c.givenUp.Load()}
}

// Run sends until ctx ends and every try that runs has ended with it.
func (c *Courier) Run(ctx context.Context) {
	again := time.NewTicker(lookEvery)
	defer again.Stop()
	var under sync.WaitGroup
	defer under.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-again.C:
			c.look(ctx, &under)
		}
	}
}

// look begins to send what is due, in the background: to all receivers at once, to each in turn, until one try fails.
func (c *Courier) look(ctx context.Context, under *sync.WaitGroup) {
	due, err := c.options.Outbox.DueDeliveries(ctx, dueAtOnce)
	if err != nil {
		if ctx.Err() == nil {
			c.options.Log.WarnContext(ctx, "messages of alerts wait: they can not be read", "error", err)
		}
		return
	}
	settings := c.options.Settings()
	line := map[string][]*alert.Outgoing{}
	for i := range due {
		line[due[i].Receiver] = append(line[due[i].Receiver], &due[i])
	}
	for receiver, messages := range line {
		if !c.occupy(receiver) {
			continue
		}
		under.Go(func() {
			defer c.free(receiver)
			for _, d := range messages {
				if !c.deliver(ctx, &settings, d) {
					return
				}
			}
		})
	}
}

func (c *Courier) occupy(receiver string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.busy[receiver] {
		return false
	}
	c.busy[receiver] = true
	return true
}

func (c *Courier) free(receiver string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.busy, receiver)
}

// deliver tries to send one message, once. It is false where the next one to the same receiver had better wait.
func (c *Courier) deliver(ctx context.Context, settings *alert.Settings, d *alert.Outgoing) bool {
	to, declared := settings.Receiver(d.Receiver)
	if !declared && time.Since(d.CreatedAt) < undeclared {
		return true // another replica may have a newer configuration than this one
	}
	mine, err := c.options.Outbox.ClaimDelivery(ctx, d, lease)
	if err != nil || !mine {
		if err != nil && ctx.Err() == nil {
			c.options.Log.WarnContext(ctx, "a message of an alert waits: it can not be taken", "error", err)
		}
		return false
	}
	if !declared {
		c.finish(ctx, d, &Error{Reason: "the receiver is not declared any more"}, time.Time{})
		return true
	}
	err = c.options.Sender.Send(ctx, to, &d.Message)
	if ctx.Err() != nil && err != nil {
		c.finish(ctx, d, err, time.Now()) // we are the ones who broke off
		return false
	}
	next := time.Time{}
	if err != nil && time.Since(d.CreatedAt) < patience {
		next = time.Now().Add(wait(d.Tries+1, err))
	}
	c.finish(ctx, d, err, next)
	return err == nil
}

// finish notes what became of a try, also when the process is about to end.
func (c *Courier) finish(ctx context.Context, d *alert.Outgoing, failure error, next time.Time) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTime)
	defer cancel()
	log, reason := c.options.Log.With("receiver", d.Receiver, "message", d.Message.ID, "try", d.Tries+1), ""
	switch {
	case failure == nil:
		c.delivered.Add(1)
		log.InfoContext(ctx, "a message of an alert was delivered")
	case next.IsZero():
		reason = fault.Redact(failure.Error())
		c.failed.Add(1)
		c.givenUp.Add(1)
		log.ErrorContext(ctx, "a message of an alert is given up", "reason", reason)
	default:
		reason = fault.Redact(failure.Error())
		c.failed.Add(1)
		log.WarnContext(ctx, "a message of an alert could not be delivered and is sent again", "reason", reason, "next", next.UTC().Format(time.RFC3339))
	}
	if err := c.options.Outbox.FinishDelivery(ctx, d.Message.ID, reason, next); err != nil {
		log.WarnContext(ctx, "a message of an alert may be sent again: what became of it could not be stored", "error", err)
	}
}

// wait is how long after a failed try the next one comes: never sooner than the receiver has asked for, unless that is
// longer than the longest wait.
func wait(tries int, failure error) time.Duration {
	d := firstWait
	for range tries - 1 {
		if d >= longestWait {
			break
		}
		d *= 3
	}
	d = min(d, longestWait)
	d = time.Duration(float64(d) * (1 + spread*(2*rand.Float64()-1)))
	var asked *Error
	if errors.As(failure, &asked) {
		d = max(d, min(asked.RetryAfter, longestWait))
	}
	return d
}
