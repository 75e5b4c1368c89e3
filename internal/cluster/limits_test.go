package cluster_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"shareai/internal/cluster"
	"shareai/internal/cluster/clustertest"
	"shareai/internal/fault"
)

func TestMemoryMeters(t *testing.T) {
	t.Parallel()
	clustertest.RunMeters(t, func(*testing.T) (here, there cluster.Meters) {
		m := cluster.NewMemoryMeters()
		return m, m
	})
}

func TestRedisMeters(t *testing.T) {
	t.Parallel()
	server := redisServer(t)
	clustertest.RunMeters(t, func(t *testing.T) (here, there cluster.Meters) {
		return newRedis(t, server, new(logBuffer)).Meters(), newRedis(t, server, new(logBuffer)).Meters()
	})
}

// Whoever waits as he is told is admitted, no period ever has more than its limit, and what is refused would not have
// been possible.
func TestARateKeepsItsWord(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		synctest.Test(t, func(t *testing.T) {
			m := cluster.NewMemoryMeters()
			meter := clustertest.Rate(rapid.Int64Range(1, 50).Draw(rt, "limit"), 0)
			meter.Period = rapid.SampledFrom([]time.Duration{time.Minute, time.Hour, 24 * time.Hour}).Draw(rt, "period")
			type taking struct {
				at     time.Time
				amount int64
			}
			var all []taking
			for range rapid.IntRange(1, 60).Draw(rt, "requests") {
				time.Sleep(time.Duration(rapid.Int64Range(0, int64(meter.Period/4)).Draw(rt, "pause")))
				meter.Amount = rapid.Int64Range(1, meter.Limit).Draw(rt, "amount")
				h := clustertest.Holder()
				taken := clustertest.Take(t, m, h, meter)
				if !taken.Admitted {
					wait := taken.Readings[0].Wait
					if wait <= 0 || wait > meter.Period+meter.Period/60 {
						rt.Fatalf("wait %s", wait)
					}
					time.Sleep(wait - time.Microsecond)
					if clustertest.Take(t, m, h, meter).Admitted {
						rt.Fatalf("it need not have waited %s", wait)
					}
					time.Sleep(time.Microsecond)
					if taken = clustertest.Take(t, m, h, meter); !taken.Admitted {
						rt.Fatalf("it waited %s and is told to wait %s", wait, taken.Readings[0].Wait)
					}
				}
				amount := meter.Amount
				if rapid.Bool().Draw(rt, "less") {
					amount = rapid.Int64Range(0, amount).Draw(rt, "used")
					m.Settle(t.Context(), h, []cluster.Due{{Meter: meter, Step: taken.Readings[0].Step, Amount: amount}})
				}
				all = append(all, taking{time.Now(), amount})
				sum := int64(0)
				for _, one := range all {
					if one.at.After(time.Now().Add(-meter.Period)) {
						sum += one.amount
					}
				}
				if sum > meter.Limit {
					rt.Fatalf("%d within a period, of %d", sum, meter.Limit)
				}
			}
		})
	})
}

// The law of holds: at no time less than nothing, and nothing when all have ended; what is spent is what was settled.
func TestTheLawOfHolds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		synctest.Test(t, func(t *testing.T) {
			m := cluster.NewMemoryMeters()
			meter := clustertest.Budget(rapid.Int64Range(1, 1000).Draw(rt, "budget"), 0)
			meter.Believe = true
			if err := m.Seed(t.Context(), meter, cluster.Sum{}); err != nil {
				rt.Fatal(err)
			}
			spent, dearest := int64(0), int64(0)
			type open struct {
				cluster.Holder
				cluster.Meter
				until time.Time
			}
			var under []open
			for range rapid.IntRange(1, 100).Draw(rt, "steps") {
				time.Sleep(time.Duration(rapid.IntRange(0, 10).Draw(rt, "pause")) * time.Second)
				if rapid.Bool().Draw(rt, "begin") || len(under) == 0 {
					meter.Amount = rapid.Int64Range(0, 300).Draw(rt, "hold")
					h := clustertest.Holder()
					taken := clustertest.Take(t, m, h, meter)
					held := int64(0)
					for _, o := range under {
						if time.Now().Before(o.until) {
							held += o.Amount
						}
					}
					if want := spent+held < meter.Limit; taken.Admitted != want {
						rt.Fatalf("admitted %v with %d spent and %d held of %d", taken.Admitted, spent, held, meter.Limit)
					}
					if taken.Admitted {
						under = append(under, open{h, meter, time.Now().Add(h.Lease)})
						dearest = max(dearest, meter.Amount)
					}
					continue
				}
				i := rapid.IntRange(0, len(under)-1).Draw(rt, "which")
				o := under[i]
				under = append(under[:i], under[i+1:]...)
				cost := rapid.Int64Range(0, o.Amount).Draw(rt, "cost")
				spent += cost
				m.Settle(t.Context(), o.Holder, []cluster.Due{{Meter: o.Meter, Amount: cost, Ended: time.Now()}})
			}
			for _, o := range under {
				m.Settle(t.Context(), o.Holder, []cluster.Due{{Meter: o.Meter, Ended: time.Now()}})
			}
			meter.Amount, meter.Over = 0, true
			if left := clustertest.Take(t, m, clustertest.Holder(), meter).Readings[0].Remaining; left != meter.Limit-spent {
				rt.Fatalf("%d are left of %d after %d", left, meter.Limit, spent)
			}
		})
	})
}

// Of a budget of which Redis could not be told everything it is told that it is in doubt, when it is back.
func TestWhatRedisWasNotToldIsInDoubt(t *testing.T) {
	t.Parallel()
	server := redisServer(t)
	w, near := newWire(t, server)
	here, there := newRedis(t, near, new(logBuffer)).Meters(), newRedis(t, server, new(logBuffer)).Meters()
	meter := clustertest.Budget(1000, 100)
	if err := here.Seed(t.Context(), meter, cluster.Sum{}); err != nil {
		t.Fatal(err)
	}
	h := clustertest.Holder()
	clustertest.Take(t, here, h, meter)
	w.setCut(true)
	here.Settle(t.Context(), h, []cluster.Due{{Meter: meter, Amount: 70, Ended: time.Now()}})
	if _, err := here.Take(t.Context(), clustertest.Holder(), []cluster.Meter{meter}); fault.From(err).Kind != fault.Unavailable {
		t.Errorf("a take over a cut wire: %v", err)
	}
	if got := clustertest.Take(t, there, clustertest.Holder(), meter).Readings[0]; got.Remaining != 1000-100-100 || got.Doubt != 0 {
		t.Errorf("before: %+v", got)
	}
	w.setCut(false)
	other := clustertest.Rate(1<<40, 1) // anything that is asked tells
	for end := time.After(10 * time.Second); ; {
		_, _ = here.Take(t.Context(), clustertest.Holder(), []cluster.Meter{other})
		if clustertest.Take(t, there, clustertest.Holder(), meter).Readings[0].Doubt != 0 {
			return
		}
		select {
		case <-end:
			t.Fatal("nobody doubts it")
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// A clock of Redis that is set back does not refuse everything until it is where it was.
func TestRedisClockIsSetBack(t *testing.T) {
	t.Parallel()
	server := redisServer(t)
	m := newRedis(t, server, new(logBuffer)).Meters()
	meter := clustertest.Rate(3, 3)
	clustertest.Take(t, m, clustertest.Holder(), meter)
	options, err := redis.ParseURL(server)
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(options)
	defer func() { _ = client.Close() }()
	// As if it had been taken two days ahead of now.
	ahead := time.Now().Add(48*time.Hour).UnixMicro() / (meter.Period / 60).Microseconds()
	if err := client.HSet(t.Context(), "shareai:{meters}:"+meter.Key, "high", ahead, "low", ahead-60).Err(); err != nil {
		t.Fatal(err)
	}
	if taken := clustertest.Take(t, m, clustertest.Holder(), meter); !taken.Admitted {
		t.Errorf("%+v", taken.Readings)
	}
}

func BenchmarkMemoryMeters(b *testing.B) {
	m := cluster.NewMemoryMeters()
	meters := []cluster.Meter{clustertest.Rate(1<<40, 1), clustertest.Rate(1<<40, 100), clustertest.Budget(1<<40, 10)}
	_ = m.Seed(b.Context(), meters[2], cluster.Sum{})
	dues := make([]cluster.Due, len(meters))
	for b.Loop() {
		h := cluster.Holder{ID: "h", Lease: time.Minute}
		taken, _ := m.Take(b.Context(), h, meters)
		for i := range meters {
			dues[i] = cluster.Due{Meter: meters[i], Step: taken.Readings[i].Step, Amount: 1, Ended: time.Now()}
		}
		m.Settle(b.Context(), h, dues)
	}
}
