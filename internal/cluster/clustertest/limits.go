package clustertest

import (
	"crypto/rand"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"shareai/internal/cluster"
)

// replicas are the meters of two replicas.
type replicas struct{ here, there cluster.Meters }

// RunMeters runs the suite. join returns the Meters of two replicas of a cluster; an implementation for a single
// process returns the same twice.
func RunMeters(t *testing.T, join func(*testing.T) (here, there cluster.Meters)) {
	for name, test := range map[string]func(*testing.T, replicas){
		"a rate admits its limit":                    testRateLimit,
		"what is not used is given back":             testRateRefund,
		"what is used in addition counts":            testRateDebt,
		"places are given back":                      testPlaces,
		"places of the dead become free":             testDeadPlaces,
		"all or nothing":                             testAllOrNothing,
		"a budget has to be seeded":                  testSeed,
		"a budget admits while something is left":    testBudget,
		"a budget that refuses nothing counts":       testOver,
		"holds of the dead become free":              testDeadHolds,
		"what the dead spent counts when they speak": testLateCost,
		"what is renewed is not lost":                testRenewal,
		"what is in doubt is counted anew":           testDoubt,
		"the ledger and settlements do not overlap":  testSeam,
		"large sums are exact":                       testLargeSums,
		"many at once admit the limit":               testManyTakers,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			here, there := join(t)
			test(t, replicas{here, there})
		})
	}
}

// Rate returns a rate that nobody else uses, far longer than a test.
func Rate(limit, amount int64) cluster.Meter {
	return cluster.Meter{Kind: cluster.Rate, Key: rand.Text(), Limit: limit, Amount: amount, Period: 24 * time.Hour}
}

// Budget returns a budget that nobody else uses.
func Budget(limit, hold int64) cluster.Meter {
	return cluster.Meter{Kind: cluster.Money, Key: rand.Text(), Limit: limit, Amount: hold, End: time.Now().Add(time.Hour)}
}

func places(limit int64) cluster.Meter {
	return cluster.Meter{Kind: cluster.Places, Key: rand.Text(), Limit: limit, Amount: 1}
}

// Holder returns a holder unlike all others.
func Holder() cluster.Holder { return cluster.Holder{ID: rand.Text(), Lease: time.Minute} }

// Take takes, or fails the test when the meters can not be asked.
func Take(t *testing.T, m cluster.Meters, h cluster.Holder, meters ...cluster.Meter) cluster.Taken {
	t.Helper()
	taken, err := m.Take(t.Context(), h, meters)
	if err != nil {
		t.Fatalf("take: %v", err)
	}
	return taken
}

func expectAdmitted(t *testing.T, taken cluster.Taken, want bool) {
	t.Helper()
	if taken.Admitted != want {
		t.Fatalf("admitted %v, want %v: %+v", taken.Admitted, want, taken.Readings)
	}
}

func settle(t *testing.T, m cluster.Meters, h cluster.Holder, meter cluster.Meter, taken cluster.Taken, amount int64) {
	t.Helper()
	m.Settle(t.Context(), h, []cluster.Due{{Meter: meter, Step: taken.Readings[0].Step, Amount: amount, Ended: time.Now()}})
}

func testRateLimit(t *testing.T, r replicas) {
	meter := Rate(3, 1)
	for i := range 3 {
		taken := Take(t, []cluster.Meters{r.here, r.there}[i%2], Holder(), meter)
		expectAdmitted(t, taken, true)
		if got := taken.Readings[0]; got.Remaining != int64(2-i) || got.Reset <= 23*time.Hour {
			t.Errorf("reading %+v", got)
		}
	}
	for range 2 {
		taken := Take(t, r.there, Holder(), meter)
		expectAdmitted(t, taken, false)
		if got := taken.Readings[0]; !got.Full || got.Remaining != 0 || got.Wait < 24*time.Hour || got.Wait > 25*time.Hour {
			t.Errorf("reading %+v", got)
		}
	}
	expectAdmitted(t, Take(t, r.there, Holder(), Rate(3, 1)), true)
}

func testRateRefund(t *testing.T, r replicas) {
	meter, h := Rate(1000, 900), Holder()
	taken := Take(t, r.here, h, meter)
	expectAdmitted(t, taken, true)
	expectAdmitted(t, Take(t, r.there, Holder(), meter), false)
	settle(t, r.here, h, meter, taken, 100)
	again := Take(t, r.there, Holder(), meter)
	expectAdmitted(t, again, true)
	if got := again.Readings[0].Remaining; got != 0 {
		t.Errorf("%d remain", got)
	}
}

func testRateDebt(t *testing.T, r replicas) {
	meter, h := Rate(1000, 100), Holder()
	taken := Take(t, r.here, h, meter)
	settle(t, r.here, h, meter, taken, 5000)
	refused := Take(t, r.there, Holder(), meter)
	expectAdmitted(t, refused, false)
	if got := refused.Readings[0]; got.Remaining != 0 || got.Wait < 24*time.Hour {
		t.Errorf("%+v", got)
	}
}

func testPlaces(t *testing.T, r replicas) {
	meter, first, second := places(2), Holder(), Holder()
	taken := Take(t, r.here, first, meter)
	expectAdmitted(t, taken, true)
	expectAdmitted(t, Take(t, r.there, second, meter), true)
	expectAdmitted(t, Take(t, r.there, Holder(), meter), false)
	settle(t, r.there, second, meter, taken, 1)
	expectAdmitted(t, Take(t, r.here, Holder(), meter), true)
	expectAdmitted(t, Take(t, r.here, Holder(), meter), false)
}

// lapse is a lease that ends within a test.
const lapse = 100 * time.Millisecond

func testDeadPlaces(t *testing.T, r replicas) {
	meter, dead := places(1), Holder()
	dead.Lease = lapse
	expectAdmitted(t, Take(t, r.here, dead, meter), true)
	expectAdmitted(t, Take(t, r.there, Holder(), meter), false)
	<-time.After(2 * lapse)
	expectAdmitted(t, Take(t, r.there, Holder(), meter), true)
}

func testAllOrNothing(t *testing.T, r replicas) {
	wide, narrow, seat, money := Rate(10, 1), Rate(1, 1), places(10), Budget(100, 1)
	if err := r.here.Seed(t.Context(), money, cluster.Sum{}); err != nil {
		t.Fatal(err)
	}
	expectAdmitted(t, Take(t, r.here, Holder(), wide, seat, money, narrow), true)
	for range 20 {
		expectAdmitted(t, Take(t, r.there, Holder(), wide, seat, money, narrow), false)
	}
	left := Take(t, r.there, Holder(), wide, seat, money)
	expectAdmitted(t, left, true)
	if left.Readings[0].Remaining != 8 || left.Readings[1].Remaining != 8 || left.Readings[2].Remaining != 98 {
		t.Errorf("%+v", left.Readings)
	}
}

func testSeed(t *testing.T, r replicas) {
	meter := Budget(100, 10)
	taken := Take(t, r.here, Holder(), meter)
	expectAdmitted(t, taken, false)
	if !taken.Readings[0].Unseeded {
		t.Fatalf("%+v", taken.Readings)
	}
	for i, m := range []cluster.Meters{r.here, r.there} { // the first word counts
		if err := m.Seed(t.Context(), meter, cluster.Sum{Spent: int64(60 + 30*i)}); err != nil {
			t.Fatal(err)
		}
	}
	again := Take(t, r.there, Holder(), meter)
	expectAdmitted(t, again, true)
	if got := again.Readings[0]; got.Unseeded || got.Remaining != 30 {
		t.Errorf("%+v", got)
	}
}

func seeded(t *testing.T, r replicas, meter cluster.Meter) cluster.Meter {
	t.Helper()
	if err := r.here.Seed(t.Context(), meter, cluster.Sum{}); err != nil {
		t.Fatal(err)
	}
	return meter
}

func testBudget(t *testing.T, r replicas) {
	meter := seeded(t, r, Budget(100, 60))
	first, second := Holder(), Holder()
	taken := Take(t, r.here, first, meter)
	expectAdmitted(t, taken, true)
	expectAdmitted(t, Take(t, r.there, second, meter), true) // 60 are held, 40 are left
	expectAdmitted(t, Take(t, r.there, Holder(), meter), false)
	settle(t, r.there, first, meter, taken, 5)
	expectAdmitted(t, Take(t, r.here, Holder(), meter), true)
	settle(t, r.here, second, meter, taken, 95)
	refused := Take(t, r.here, Holder(), meter)
	expectAdmitted(t, refused, false)
	if got := refused.Readings[0]; !got.Full || got.Remaining != 100-5-95-60 {
		t.Errorf("%+v", got)
	}
}

func testOver(t *testing.T, r replicas) {
	meter := seeded(t, r, Budget(10, 6))
	meter.Over = true
	for i := range 5 {
		h := Holder()
		taken := Take(t, r.here, h, meter)
		expectAdmitted(t, taken, true)
		if full := taken.Readings[0].Full; full != (i >= 2) {
			t.Errorf("%d: full %v", i, full)
		}
		settle(t, r.there, h, meter, taken, 6)
	}
}

func testDeadHolds(t *testing.T, r replicas) {
	meter, dead := seeded(t, r, Budget(100, 100)), Holder()
	dead.Lease = lapse
	expectAdmitted(t, Take(t, r.here, dead, meter), true)
	expectAdmitted(t, Take(t, r.there, Holder(), meter), false)
	<-time.After(2 * lapse)
	doubtful := Take(t, r.there, Holder(), meter) // what the dead have spent is known to the ledger alone
	expectAdmitted(t, doubtful, false)
	if got := doubtful.Readings[0]; got.Doubt == 0 || got.Full || got.Unseeded {
		t.Errorf("%+v", got)
	}
	meter.Believe = true
	taken := Take(t, r.there, Holder(), meter)
	expectAdmitted(t, taken, true)
	if got := taken.Readings[0].Remaining; got != 0 {
		t.Errorf("%d remain", got)
	}
}

func testLateCost(t *testing.T, r replicas) {
	meter, slow := seeded(t, r, Budget(100, 10)), Holder()
	slow.Lease = lapse
	taken := Take(t, r.here, slow, meter)
	<-time.After(2 * lapse)
	other := Holder()
	meter.Believe = true
	expectAdmitted(t, Take(t, r.there, other, meter), true)
	settle(t, r.here, slow, meter, taken, 30)
	settle(t, r.there, other, meter, taken, 0)
	again := Take(t, r.here, Holder(), meter)
	if got := again.Readings[0].Remaining; got != 100-30-10 {
		t.Errorf("%d remain", got)
	}
}

func testRenewal(t *testing.T, r replicas) {
	seat, money, slow := places(1), seeded(t, r, Budget(100, 100)), Holder()
	slow.Lease = 3 * lapse
	expectAdmitted(t, Take(t, r.here, slow, seat, money), true)
	for begin := time.Now(); time.Since(begin) < 2*slow.Lease; <-time.After(lapse) {
		if err := r.here.Renew(t.Context(), slow, []cluster.Meter{seat, money}); err != nil {
			t.Fatal(err)
		}
		taken := Take(t, r.there, Holder(), seat, money)
		expectAdmitted(t, taken, false)
		if !taken.Readings[0].Full || !taken.Readings[1].Full || taken.Readings[1].Doubt != 0 {
			t.Fatalf("%+v", taken.Readings)
		}
	}
	<-time.After(slow.Lease + lapse)
	money.Believe = true
	expectAdmitted(t, Take(t, r.there, cluster.Holder{ID: "hasty", Lease: lapse}, seat, money), true)
	<-time.After(2 * lapse)
	// Who was late takes again what he has lost.
	if err := r.here.Renew(t.Context(), slow, []cluster.Meter{seat, money}); err != nil {
		t.Fatal(err)
	}
	taken := Take(t, r.there, Holder(), seat, money)
	expectAdmitted(t, taken, false)
	if !taken.Readings[0].Full || taken.Readings[1].Remaining != 0 {
		t.Errorf("%+v", taken.Readings)
	}
	settle(t, r.here, slow, seat, taken, 1)
	settle(t, r.here, slow, money, taken, 0)
	expectAdmitted(t, Take(t, r.there, Holder(), seat, money), true)
}

// What was settled in the last seconds is not forgotten when older requests are counted anew, and who has not heard of
// another doubt does not end it.
func testDoubt(t *testing.T, r replicas) {
	meter, now := Budget(1000, 0), time.Now()
	spend := func(m cluster.Meters, ago time.Duration, amount int64) {
		m.Settle(t.Context(), Holder(), []cluster.Due{{Meter: meter, Amount: amount, Ended: now.Add(-ago)}})
	}
	doubt := func() int64 {
		if err := r.there.Doubt(t.Context(), []cluster.Meter{meter}); err != nil {
			t.Fatal(err)
		}
		taken := Take(t, r.here, Holder(), meter)
		expectAdmitted(t, taken, false)
		return taken.Readings[0].Doubt
	}
	seed := func(m cluster.Meters, sum cluster.Sum) {
		if err := m.Seed(t.Context(), meter, sum); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.here.Doubt(t.Context(), []cluster.Meter{meter}); err != nil {
		t.Fatal(err)
	}
	if got := Take(t, r.here, Holder(), meter).Readings[0]; !got.Unseeded || got.Doubt != 0 {
		t.Errorf("what nobody knows is not in doubt: %+v", got)
	}
	seed(r.here, cluster.Sum{Spent: 5, Ended: now.Add(-time.Hour)})
	spend(r.here, 20*time.Second, 100)
	spend(r.there, 3*time.Second, 10)
	spend(r.here, 3*time.Second, 20)
	first := doubt()
	second := doubt()
	seed(r.there, cluster.Sum{Spent: 900, Ended: now, Doubt: first})
	if got := Take(t, r.here, Holder(), meter).Readings[0]; got.Doubt != second || got.Remaining != 1000-135 {
		t.Errorf("%+v", got)
	}
	seed(r.there, cluster.Sum{Spent: 300, Ended: now.Truncate(time.Second).Add(-10 * time.Second), Doubt: second})
	taken := Take(t, r.here, Holder(), meter)
	expectAdmitted(t, taken, true)
	if got := taken.Readings[0].Remaining; got != 1000-300-30 {
		t.Errorf("%d remain", got)
	}
}

// A settlement counts where the ledger has not told of its request, and only there.
func testSeam(t *testing.T, r replicas) {
	meter, now := Budget(1000, 0), time.Now()
	late, early := Holder(), Holder()
	r.here.Settle(t.Context(), Holder(), []cluster.Due{{Meter: meter, Amount: 400, Ended: now.Add(-time.Minute)}})
	if err := r.here.Seed(t.Context(), meter, cluster.Sum{Spent: 500, Ended: now}); err != nil {
		t.Fatal(err)
	}
	r.there.Settle(t.Context(), early, []cluster.Due{{Meter: meter, Amount: 40, Ended: now.Add(-time.Microsecond)}})
	r.there.Settle(t.Context(), late, []cluster.Due{{Meter: meter, Amount: 3, Ended: now}})
	if got := Take(t, r.here, Holder(), meter).Readings[0].Remaining; got != 1000-503 {
		t.Errorf("%d remain", got)
	}
}

// Nano-dollars of a large budget have more digits than a float.
func testLargeSums(t *testing.T, r replicas) {
	meter := seeded(t, r, Budget(1_000_000_000_000_000_000, 9_007_199_254_740_993))
	h := Holder()
	taken := Take(t, r.here, h, meter)
	settle(t, r.here, h, meter, taken, 9_007_199_254_740_993)
	meter.Limit, meter.Amount = 9_007_199_254_740_993, 1
	expectAdmitted(t, Take(t, r.there, Holder(), meter), false)
}

func testManyTakers(t *testing.T, r replicas) {
	rate, seat, money := Rate(37, 1), places(1000), seeded(t, r, Budget(1000, 1))
	var admitted atomic.Int64
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			m := []cluster.Meters{r.here, r.there}[i%2]
			for n := range 25 {
				h := cluster.Holder{ID: strconv.Itoa(i) + "-" + strconv.Itoa(n), Lease: time.Minute}
				taken, err := m.Take(t.Context(), h, []cluster.Meter{rate, seat, money})
				if err != nil {
					t.Errorf("take: %v", err)
					return
				}
				if taken.Admitted {
					admitted.Add(1)
					m.Settle(t.Context(), h, []cluster.Due{
						{Meter: rate, Step: taken.Readings[0].Step, Amount: 1}, {Meter: seat, Amount: 1}, {Meter: money, Amount: 2, Ended: time.Now()},
					})
				}
			}
		})
	}
	group.Wait()
	if got := admitted.Load(); got != 37 {
		t.Errorf("%d were admitted", got)
	}
	last := Take(t, r.here, Holder(), seat, money)
	if last.Readings[0].Remaining != 999 || last.Readings[1].Remaining != 1000-74-1 {
		t.Errorf("%+v", last.Readings)
	}
}
