package notify

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"shareai/internal/alert"
)

// box is an outbox in memory. That of the database has tests of its own in storetest.
type box struct {
	mu      sync.Mutex
	waiting []*alert.Outgoing
	claims  int
	lost    bool        // somebody else is always first
	done    chan string // hears of every try that has ended; nil: nobody does
}

func (b *box) DueDeliveries(_ context.Context, limit int64) ([]alert.Outgoing, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var due []alert.Outgoing
	line := map[string]int64{}
	for _, d := range b.waiting {
		if d.State == "waiting" && !d.NextAt.After(time.Now()) && line[d.Receiver] < limit {
			line[d.Receiver]++
			due = append(due, *d)
		}
	}
	return due, nil
}

func (b *box) find(id string) *alert.Outgoing {
	for _, d := range b.waiting {
		if d.Message.ID == id {
			return d
		}
	}
	return nil
}

func (b *box) ClaimDelivery(_ context.Context, d *alert.Outgoing, lease time.Duration) (bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.claims++
	mine := b.find(d.Message.ID)
	if b.lost || mine.Tries != d.Tries {
		return false, nil
	}
	mine.Tries++
	mine.NextAt = time.Now().Add(lease)
	return true, nil
}

func (b *box) FinishDelivery(_ context.Context, id, reason string, next time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.done != nil {
		b.done <- id
	}
	d := b.find(id)
	switch d.Error, d.NextAt = reason, next; {
	case !next.IsZero():
	case reason == "":
		d.State = "delivered"
	default:
		d.State = "failed"
	}
	return nil
}

func put(b *box, receiver, id string, age time.Duration) {
	m := opened(id)
	b.waiting = append(b.waiting, &alert.Outgoing{Delivery: alert.Delivery{Receiver: receiver, Message: *m}, State: "waiting", CreatedAt: time.Now().Add(-age)})
}

func courier(b *box, receivers ...alert.Receiver) *Courier {
	return NewCourier(CourierOptions{
		Outbox: b, Sender: NewSender(Options{}), Log: slog.New(slog.DiscardHandler),
		Settings: func() alert.Settings { return alert.Settings{Receivers: receivers} },
	})
}

func (c *Courier) once(ctx context.Context) {
	var under sync.WaitGroup
	c.look(ctx, &under)
	under.Wait()
}

// What fails is tried again, later, under the same id, until it works.
func TestAMessageThatFailsIsSentAgain(t *testing.T) {
	var works atomic.Bool
	h := newHook(t, func(w http.ResponseWriter) {
		if !works.Load() {
			w.WriteHeader(http.StatusBadGateway)
		}
	})
	b := &box{}
	put(b, "ops", "m1", 0)
	c := courier(b, *webhookTo(h.URL))
	c.once(t.Context())
	if d := b.waiting[0]; d.State != "waiting" || d.Error != "it answered 502" || time.Until(d.NextAt) < 3*time.Second || time.Until(d.NextAt) > 7*time.Second {
		t.Fatalf("%+v", d)
	}
	c.once(t.Context()) // it is not due
	works.Store(true)
	b.waiting[0].NextAt = time.Now()
	c.once(t.Context())
	if d := b.waiting[0]; d.State != "delivered" || d.Tries != 2 {
		t.Errorf("%+v", d)
	}
	if first, second := <-h.headers, <-h.headers; first.Get("Webhook-Id") != "m1" || second.Get("Webhook-Id") != "m1" {
		t.Errorf("%v %v", first, second)
	}
	if s := c.Stats(); s != (Stats{Delivered: 1, Failed: 1}) {
		t.Errorf("%+v", s)
	}
}

func TestAMessageIsGivenUpAfterADay(t *testing.T) {
	h := newHook(t, func(w http.ResponseWriter) { w.WriteHeader(http.StatusNotFound) })
	b := &box{}
	put(b, "ops", "old", 25*time.Hour)
	put(b, "nobody", "undeclared", time.Hour)
	put(b, "nobody", "new", time.Second) // another replica may know this receiver already
	c := courier(b, *webhookTo(h.URL))
	c.once(t.Context())
	c.once(t.Context())
	for i, want := range []string{"failed", "failed", "waiting"} {
		if d := b.waiting[i]; d.State != want {
			t.Errorf("%+v", d)
		}
	}
	if s := c.Stats(); s.GivenUp != 2 {
		t.Errorf("%+v", s)
	}
}

func TestWhoIsNotFirstDoesNotSend(t *testing.T) {
	h := newHook(t, ok)
	b := &box{lost: true}
	put(b, "ops", "m", 0)
	courier(b, *webhookTo(h.URL)).once(t.Context())
	if b.claims != 1 || len(h.bodies) != 0 {
		t.Errorf("%d claims, %d sent", b.claims, len(h.bodies))
	}
}

// One receiver that hangs holds up no other, and what it was sent when the process ends waits for the next.
func TestAReceiverThatHangsHoldsUpNoOther(t *testing.T) {
	release := make(chan struct{})
	slow := newHook(t, func(http.ResponseWriter) { <-release })
	defer close(release)
	quick := newHook(t, ok)
	other := *webhookTo(quick.URL)
	other.Name = "other"
	b := &box{done: make(chan string, 10)}
	put(b, "ops", "m1", 0)
	put(b, "ops", "m2", 0)
	put(b, "other", "m3", 0)
	c := courier(b, *webhookTo(slow.URL), other)
	ctx, stop := context.WithCancel(t.Context())
	var under sync.WaitGroup
	c.look(ctx, &under)
	<-slow.bodies
	if first := <-b.done; first != "m3" {
		t.Errorf("%s ended first", first)
	}
	stop()
	under.Wait()
	if d := b.waiting[0]; d.State != "waiting" || d.NextAt.After(time.Now()) {
		t.Errorf("%+v", d)
	}
	if d := b.waiting[2]; d.State != "delivered" {
		t.Errorf("%+v", d)
	}
	if len(slow.bodies) != 0 {
		t.Error("two at once to one receiver")
	}
}

// Many messages are sent one after the other, without a pause between them; those behind one that fails wait.
func TestALineOfMessagesIsSentAtOnce(t *testing.T) {
	var works atomic.Bool
	works.Store(true)
	h := newHook(t, func(w http.ResponseWriter) {
		if !works.Load() {
			w.WriteHeader(http.StatusBadGateway)
		}
	})
	b := &box{}
	for _, id := range []string{"m1", "m2", "m3"} {
		put(b, "ops", id, 0)
	}
	c := courier(b, *webhookTo(h.URL))
	c.once(t.Context())
	if s := c.Stats(); s != (Stats{Delivered: 3}) {
		t.Errorf("%+v", s)
	}
	works.Store(false)
	put(b, "ops", "m4", 0)
	put(b, "ops", "m5", 0)
	c.once(t.Context())
	if s := c.Stats(); s != (Stats{Delivered: 3, Failed: 1}) || b.waiting[4].Tries != 0 {
		t.Errorf("%+v, %+v", s, b.waiting[4])
	}
}

func TestWaitsGrow(t *testing.T) {
	for tries, want := range map[int]time.Duration{1: 5 * time.Second, 2: 15 * time.Second, 3: 45 * time.Second, 20: time.Hour} {
		if got := wait(tries, errors.New("x")); got < want*8/10 || got > want*12/10 {
			t.Errorf("try %d: %s", tries, got)
		}
	}
	for range 20 { // who asks for a time is not disturbed before
		if got := wait(1, &Error{RetryAfter: 10 * time.Minute}); got != 10*time.Minute {
			t.Errorf("%s", got)
		}
	}
	if got := wait(1, &Error{RetryAfter: 24 * time.Hour}); got != time.Hour {
		t.Errorf("%s", got)
	}
}
