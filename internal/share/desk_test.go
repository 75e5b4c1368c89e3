package share

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"shareai/internal/account"
	"shareai/internal/cluster"
)

// remote are seats that can be away.
type remote struct {
	cluster.MemorySeats
	away bool
}

func (r *remote) Sit(ctx context.Context, h cluster.Holder, ask cluster.Seat) (cluster.Seating, error) {
	if r.away {
		return cluster.Seating{}, errors.New("connection refused")
	}
	return r.MemorySeats.Sit(ctx, h, ask)
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func part(name string, millionths int64) account.Part {
	return account.Part{Owner: "acme", Name: name, Millionths: millionths}
}

func ask(capacity int64, of account.Part) *Ask {
	return &Ask{Deployment: "a/m", Declared: capacity, Part: of, End: time.Now().Add(time.Minute)}
}

func TestADeploymentWithoutACapacityNeedsNoSeat(t *testing.T) {
	d := NewDesk(nil, quiet())
	for range 3 {
		if seat, turn := d.Take(t.Context(), ask(0, part("", 1e6))); seat != nil || turn != nil {
			t.Fatal(seat, turn)
		}
	}
	var none *Seat
	none.Release()
}

func TestACapacityReportedAtRunTimeCounts(t *testing.T) {
	d := NewDesk(nil, quiet())
	d.Report("a/m", 1)
	seat, turn := d.Take(t.Context(), ask(5, part("", 1e6)))
	if turn != nil {
		t.Fatal("no seat")
	}
	if _, turn = d.Take(t.Context(), ask(0, part("", 1e6))); turn == nil {
		t.Error("more than was reported")
	}
	d.Report("a/m", 0)
	if _, turn = d.Take(t.Context(), ask(2, part("", 1e6))); turn != nil {
		t.Error("what is declared does not count again")
	}
	seat.Release()
	seat.Release()
	if _, turn = d.Take(t.Context(), ask(2, part("", 1e6))); turn != nil {
		t.Error("it was not given back")
	}
	if _, turn = d.Take(t.Context(), ask(2, part("", 1e6))); turn == nil {
		t.Error("it was given back twice")
	}
}

// Who waits hears of a seat the moment it is given back, also between his question and his waiting.
func TestWhoWaitsIsWokenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := NewDesk(nil, quiet())
		seat, _ := d.Take(t.Context(), ask(1, part("", 1e6)))
		_, turn := d.Take(t.Context(), ask(1, part("", 1e6)))
		start := time.Now()
		seat.Release()
		if !turn.Wait(t.Context(), time.Hour) || !time.Now().Equal(start) {
			t.Errorf("woken after %s", time.Since(start))
		}
		again := ask(1, part("", 1e6))
		again.Turn = turn
		if seat, turn = d.Take(t.Context(), again); turn != nil {
			t.Fatal("no seat")
		}
		_, turn = d.Take(t.Context(), ask(1, part("", 1e6)))
		time.AfterFunc(7*time.Millisecond, seat.Release)
		if turn.Wait(t.Context(), time.Hour); time.Since(start) != 7*time.Millisecond {
			t.Errorf("woken after %s", time.Since(start))
		}
	})
}

func TestTheQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := NewDesk(nil, quiet())
		ctx, cancel := context.WithCancel(t.Context())
		_, _ = d.Take(ctx, ask(2, part("", 1e6)))
		_, _ = d.Take(ctx, ask(2, part("", 1e6)))
		var turns []*Turn
		for range 3 {
			_, turn := d.Take(ctx, ask(2, part("", 1e6)))
			turns = append(turns, turn)
		}
		for _, turn := range turns[:2] {
			go turn.Wait(ctx, time.Hour)
		}
		synctest.Wait()
		if turns[2].Wait(ctx, time.Hour) {
			t.Error("three wait for two seats")
		}
		_, turn := d.Take(ctx, ask(2, part("environment=production", 500_000)))
		if !turn.Wait(ctx, time.Nanosecond) {
			t.Error("another group keeps it from waiting")
		}
		cancel()
		synctest.Wait()
		if !turns[2].Wait(t.Context(), time.Nanosecond) {
			t.Error("those who are gone still wait")
		}
	})
}

// Who is refused and comes back as he is told finds what was released meanwhile.
func TestAClaimOutlastsRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := NewDesk(nil, quiet())
		production, staging := part("environment=production", 500_000), part("environment=staging", 500_000)
		first, _ := d.Take(t.Context(), ask(2, staging))
		_, _ = d.Take(t.Context(), ask(2, staging))
		if _, turn := d.Take(t.Context(), ask(2, production)); turn == nil {
			t.Fatal("more than there are")
		}
		first.Release()
		time.Sleep(RetryAfter)
		if _, turn := d.Take(t.Context(), ask(2, staging)); turn == nil {
			t.Error("it was not kept")
		}
		if _, turn := d.Take(t.Context(), ask(2, production)); turn != nil {
			t.Error("no seat for who came back")
		}
	})
}

// While the shared seats are away each replica counts for itself, and seats go back where they came from.
func TestSeatsAreCountedAloneWhileTheSharedOnesAreAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		shared := &remote{}
		d := NewDesk(shared, slog.New(slog.NewTextHandler(&log, nil)))
		before, _ := d.Take(t.Context(), ask(1, part("", 1e6)))
		shared.away = true
		alone, turn := d.Take(t.Context(), ask(1, part("", 1e6)))
		if turn != nil {
			t.Fatal("nobody is served")
		}
		if _, turn = d.Take(t.Context(), ask(1, part("", 1e6))); turn == nil {
			t.Error("nobody counts")
		}
		shared.away = false
		before.Release()
		time.Sleep(away)
		if _, turn = d.Take(t.Context(), ask(1, part("", 1e6))); turn != nil {
			t.Error("the shared seat is not free")
		}
		alone.Release()
		if _, turn = d.Take(t.Context(), ask(1, part("", 1e6))); turn == nil {
			t.Error("a seat went back to where it did not come from")
		}
		if n := strings.Count(log.String(), "\n"); n != 2 {
			t.Errorf("%s", log.String())
		}
	})
}

func BenchmarkTakeWithoutACapacity(b *testing.B) {
	d := NewDesk(nil, quiet())
	d.Report("node/m", 3) // some deployment has reported one
	a := ask(0, part("", 1e6))
	for b.Loop() {
		seat, _ := d.Take(b.Context(), a)
		seat.Release()
	}
}

func BenchmarkTakeWithACapacity(b *testing.B) {
	d := NewDesk(nil, quiet())
	a := ask(100, part("", 1e6))
	for b.Loop() {
		seat, _ := d.Take(b.Context(), a)
		seat.Release()
	}
}
