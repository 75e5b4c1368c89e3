package health

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// in runs a test in a bubble, with a deployment whose changes are noted.
func in(t *testing.T, test func(t *testing.T, d *Deployment, changes *[]State)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var changes []State
		board := NewBoard(Options{OnChange: func(_ string, _, to State) { changes = append(changes, to) }})
		test(t, board.Deployment("alpha/m"), &changes)
	})
}

func pass(d time.Duration) { <-time.After(d) }

// send makes one request that ends at once; it says whether it was let through.
func send(d *Deployment, end func(Permit)) bool {
	p, ok := d.Acquire()
	if ok {
		end(p)
	}
	return ok
}

func well(p Permit)   { p.Succeeded(FirstToken, 10*time.Millisecond) }
func failed(p Permit) { p.Failed() }

// eject makes a deployment fail until its circuit is open.
func eject(t *testing.T, d *Deployment) {
	t.Helper()
	for range failuresInRow {
		send(d, failed)
	}
	wantState(t, d, Open)
}

func wantState(t *testing.T, d *Deployment, want State) {
	t.Helper()
	if got := d.State(); got != want {
		t.Fatalf("the circuit is %s, want %s", got, want)
	}
}

// R11: what an outage of a minute looks like to a busy deployment.
func TestOutage(t *testing.T) {
	for seed := range 20 {
		in(t, func(t *testing.T, d *Deployment, _ *[]State) {
			start := time.Now()
			outage := time.Minute + time.Duration(seed)*3*time.Second
			var tries []time.Duration
			served := 0
			for time.Since(start) < outage+30*time.Second {
				if p, ok := d.Acquire(); ok {
					if time.Since(start) < outage {
						tries = append(tries, time.Since(start))
						p.Failed()
					} else {
						well(p)
						served++
					}
				}
				pass(20 * time.Millisecond)
			}
			if got := len(tries); got < 7 || got > 12 {
				t.Fatalf("%d attempts on a deployment that is down for %s: %v", got, outage, tries)
			}
			for i := failuresInRow; i < len(tries); i++ {
				if gap := tries[i] - tries[i-1]; gap < 4500*time.Millisecond {
					t.Errorf("probes %s apart: %v", gap, tries)
				}
			}
			if served == 0 {
				t.Fatal("no traffic within 30 s of the recovery")
			}
			wantState(t, d, Closed)
		})
	}
}

func TestABlipEjectsNobody(t *testing.T) {
	in(t, func(t *testing.T, d *Deployment, _ *[]State) {
		for range failuresInRow - 1 {
			send(d, failed)
		}
		wantState(t, d, Closed)
		send(d, well)
		send(d, failed)
		wantState(t, d, Closed)

		pass(rowPause + time.Second) // the row of a quiet deployment is forgotten
		for range failuresInRow - 1 {
			send(d, failed)
		}
		wantState(t, d, Closed)
		send(d, failed)
		wantState(t, d, Open)
	})
}

func TestHalfOfManyIsTooMuch(t *testing.T) {
	in(t, func(t *testing.T, d *Deployment, _ *[]State) {
		for i := range fewestRequests {
			wantState(t, d, Closed)
			send(d, []func(Permit){well, failed}[i%2])
		}
		wantState(t, d, Open)
		if got := d.SuccessRate(); got != 0.5 {
			t.Errorf("success rate %v, want 0.5", got)
		}
	})
	in(t, func(t *testing.T, d *Deployment, _ *[]State) {
		for i := range 300 { // a third fails
			send(d, []func(Permit){well, failed, well}[i%3])
			pass(50 * time.Millisecond)
		}
		wantState(t, d, Closed)
	})
	in(t, func(t *testing.T, d *Deployment, _ *[]State) {
		for i := range 100 { // half fails, but too few in the window
			send(d, []func(Permit){well, failed}[i%2])
			pass(1200 * time.Millisecond)
		}
		wantState(t, d, Closed)
	})
}

func TestBrokenStreamsCount(t *testing.T) {
	in(t, func(t *testing.T, d *Deployment, _ *[]State) {
		for range fewestRequests / 2 {
			send(d, well)
			d.Fail()
		}
		wantState(t, d, Open)
	})
}

func TestTheRampDoubles(t *testing.T) {
	in(t, func(t *testing.T, d *Deployment, changes *[]State) {
		eject(t, d)
		pass(6 * time.Second)
		wantState(t, d, HalfOpen)
		for wins := range winsToClose {
			var under []Permit
			for {
				p, ok := d.Acquire()
				if !ok {
					break
				}
				if !p.Probe() {
					t.Fatal("a request through a half-open circuit is no probe")
				}
				under = append(under, p)
			}
			if len(under) != 1<<wins {
				t.Fatalf("%d probes at once after %d successes, want %d", len(under), wins, 1<<wins)
			}
			well(under[0])
			for _, p := range under[1:] {
				p.Dropped()
			}
		}
		wantState(t, d, Closed)
		if diff := cmp.Diff([]State{Open, HalfOpen, Closed}, *changes); diff != "" {
			t.Error(diff)
		}
	})
}

func TestWaitsGrowAndAreForgotten(t *testing.T) {
	in(t, func(t *testing.T, d *Deployment, _ *[]State) {
		// wait is how long the circuit stays open from now.
		wait := func() time.Duration {
			start := time.Now()
			for d.State() == Open {
				pass(10 * time.Millisecond)
			}
			return time.Since(start)
		}
		about := func(want time.Duration) {
			t.Helper()
			if got := wait(); got < want*9/10 || got > want*11/10+10*time.Millisecond {
				t.Fatalf("waits %s, want about %s", got, want)
			}
		}
		back := func() {
			for range winsToClose {
				send(d, well)
			}
			wantState(t, d, Closed)
		}
		eject(t, d)
		for _, seconds := range []int{5, 10, 20, 20} {
			about(time.Duration(seconds) * time.Second)
			send(d, failed)
		}
		about(20 * time.Second)
		back()
		pass(recovered - time.Second)
		eject(t, d) // flapping
		about(20 * time.Second)
		back()
		pass(recovered)
		eject(t, d)
		about(5 * time.Second)
	})
}

func TestALostProbeDoesNotBlock(t *testing.T) {
	in(t, func(t *testing.T, d *Deployment, _ *[]State) {
		eject(t, d)
		pass(6 * time.Second)
		lost, ok := d.Acquire()
		if !ok {
			t.Fatal("no probe after the wait")
		}
		pass(probeLease - time.Second)
		if send(d, well) {
			t.Fatal("two probes at once")
		}
		pass(time.Second)
		next, ok := d.Acquire()
		if !ok {
			t.Fatal("a lost probe blocks the next one")
		}
		well(lost) // found again: it speaks for the deployment, and frees nobody else's place
		first, ok := d.Acquire()
		if !ok {
			t.Fatal("the success of a late probe does not count")
		}
		if _, ok := d.Acquire(); ok {
			t.Fatal("three probes at once after one success")
		}
		well(next)
		well(first)
		send(d, well)
		send(d, well)
		wantState(t, d, Closed)
	})
}

func TestWhatWasSentBeforeDoesNotMove(t *testing.T) {
	in(t, func(t *testing.T, d *Deployment, _ *[]State) {
		var hanging []Permit
		for range 100 {
			p, _ := d.Acquire()
			hanging = append(hanging, p)
		}
		eject(t, d)
		pass(6 * time.Second)
		hanging[0].Failed()
		wantState(t, d, HalfOpen) // not reopened by an old failure
		well(hanging[1])
		if got := d.circuit.wins; got != 0 {
			t.Fatalf("%d wins of what was sent before the outage", got)
		}
		for range winsToClose {
			send(d, well)
		}
		wantState(t, d, Closed)
		for _, p := range hanging[2:] {
			p.Failed()
		}
		wantState(t, d, Closed)
		if got := d.SuccessRate(); got != 1 {
			t.Errorf("success rate %v: old failures count", got)
		}
	})
}

func TestAProbeOfAnEarlierOutageDoesNotMove(t *testing.T) {
	in(t, func(t *testing.T, d *Deployment, _ *[]State) {
		eject(t, d)
		pass(6 * time.Second)
		hanging, _ := d.Acquire()
		pass(probeLease)
		send(d, failed)
		wantState(t, d, Open)
		if got := d.SuccessRate(); got != 0 {
			t.Errorf("success rate %v of an ejected deployment that nobody asked", got)
		}
		pass(12 * time.Second)
		if got := d.SuccessRate(); got != 0 {
			t.Errorf("success rate %v: the window is empty, but nothing is well", got)
		}
		send(d, well)
		failed(hanging)
		wantState(t, d, HalfOpen)
	})
}

func TestHoldOff(t *testing.T) {
	in(t, func(t *testing.T, d *Deployment, _ *[]State) {
		d.HoldOff(10 * time.Second)
		d.HoldOff(time.Second)
		d.HoldOff(0)
		pass(10*time.Second - 1)
		if send(d, well) {
			t.Fatal("a shorter wait ended a longer one")
		}
		d.EndWait()
		for range 2 * winsToClose {
			well(d.Insist())
		}
		wantState(t, d, Open) // it answers, but it asked for time
		pass(time.Second)
		wantState(t, d, HalfOpen)
		d.HoldOff(24 * time.Hour)
		pass(longestHold)
		wantState(t, d, HalfOpen)
		eject := d.Insist()
		eject.Failed()
		until := d.status().Until
		d.HoldOff(time.Second)
		if got := d.status().Until; got != until {
			t.Errorf("open until %s, was %s", got, until)
		}
	})
}

func TestEndWait(t *testing.T) {
	in(t, func(t *testing.T, d *Deployment, _ *[]State) {
		d.EndWait()
		wantState(t, d, Closed)
		eject(t, d)
		d.EndWait()
		wantState(t, d, HalfOpen)
	})
}

func TestInsist(t *testing.T) {
	in(t, func(t *testing.T, d *Deployment, _ *[]State) {
		eject(t, d)
		failed(d.Insist())
		wantState(t, d, Open)
		p := d.Insist()
		if p.Probe() {
			t.Fatal("a probe of an open circuit")
		}
		well(p)
		wantState(t, d, HalfOpen) // an answer ends the wait
		probe, beyond := d.Insist(), []Permit{d.Insist(), d.Insist()}
		if !probe.Probe() || !beyond[0].Probe() || beyond[1].Probe() {
			t.Fatal("after one success two are probes, the third goes beyond them")
		}
		failed(beyond[1])
		wantState(t, d, HalfOpen)
		failed(probe)
		wantState(t, d, Open)
		for range winsToClose {
			well(d.Insist())
		}
		wantState(t, d, Closed)
	})
}

func TestSlowness(t *testing.T) {
	usual := func(p Permit) { p.Succeeded(FirstToken, 500*time.Millisecond) }
	slow := func(p Permit) { p.Succeeded(FirstToken, 4*time.Second) }
	in(t, func(t *testing.T, d *Deployment, changes *[]State) {
		for range 100 {
			send(d, usual)
			pass(time.Second)
		}
		for range 60 {
			send(d, slow)
			pass(100 * time.Millisecond)
		}
		wantState(t, d, Open)
		if got := d.SuccessRate(); got != 1 {
			t.Errorf("success rate %v: slow is not failed", got)
		}
		for range 10 { // slow probes keep it open for a while
			send(d, slow)
			pass(10 * time.Second)
		}
		if slices.Contains(*changes, Closed) {
			t.Fatal("slow probes have closed it")
		}
		for range 300 { // a pace that stays is usual
			send(d, slow)
			pass(time.Second)
		}
		wantState(t, d, Closed)
		if got := d.P95(FirstToken); got < 3700*time.Millisecond {
			t.Errorf("p95 is %s", got)
		}
	})
	in(t, func(t *testing.T, d *Deployment, _ *[]State) {
		for i := range 400 { // three of four
			send(d, []func(Permit){slow, slow, slow, usual}[min(i/40, 1)*(i%4)+(1-min(i/40, 1))*3])
			pass(100 * time.Millisecond)
		}
		wantState(t, d, Closed)
	})
	in(t, func(t *testing.T, d *Deployment, _ *[]State) {
		for i := range 300 { // eighteen times slower, and still below the floor
			p, _ := d.Acquire()
			p.Succeeded(FirstToken, []time.Duration{50 * time.Millisecond, 900 * time.Millisecond}[i/200])
			pass(100 * time.Millisecond)
		}
		wantState(t, d, Closed)
	})
}

func TestLatencyIsOfSuccesses(t *testing.T) {
	in(t, func(t *testing.T, d *Deployment, _ *[]State) {
		if d.view().Latency[FirstToken] != 0 || d.P95(FirstToken) != 0 || d.SuccessRate() != 1 || !d.Heard().IsZero() {
			t.Fatal("something is known of a deployment that nobody has asked")
		}
		for i := range 99 { // an instant 503 beside every third answer
			p, ok := d.Acquire()
			if !ok {
				t.Fatal("ejected")
			}
			if i%3 == 0 {
				p.Failed()
			} else {
				p.Succeeded(FirstToken, 400*time.Millisecond)
			}
			pass(100 * time.Millisecond)
		}
		if got := d.view().Latency[FirstToken]; got != 400*time.Millisecond {
			t.Errorf("latency %s, want 400ms", got)
		}
		if got := d.P95(FirstToken); got < 370*time.Millisecond || got > 430*time.Millisecond {
			t.Errorf("p95 %s, want about 400ms", got)
		}
		if got := d.SuccessRate(); got < 0.6 || got > 0.7 {
			t.Errorf("success rate %v, want about 2/3", got)
		}
		for range 30 {
			send(d, func(p Permit) { p.Succeeded(FirstToken, 100*time.Millisecond) })
			pass(time.Second)
		}
		if got := d.view().Latency[FirstToken]; got < 100*time.Millisecond || got > 130*time.Millisecond {
			t.Errorf("latency %s half a minute after the answers became faster", got)
		}
		pass(time.Hour)
		if d.view().Latency[FirstToken] != 0 || d.P95(FirstToken) != 0 || d.SuccessRate() != 1 {
			t.Errorf("after an idle hour: latency %s, p95 %s, success rate %v", d.view().Latency[FirstToken], d.P95(FirstToken), d.SuccessRate())
		}
	})
}

func TestASuccessWithoutALatency(t *testing.T) {
	in(t, func(t *testing.T, d *Deployment, _ *[]State) {
		eject(t, d)
		for range winsToClose {
			d.Insist().Succeeded(WholeAnswer, 0)
		}
		wantState(t, d, Closed)
		if got := d.view().Latency[WholeAnswer]; got != 0 || d.Heard().IsZero() {
			t.Errorf("latency %s, heard of at %s", got, d.Heard())
		}
	})
}

func TestHistogramIsRight(t *testing.T) {
	for latency := 100 * time.Microsecond; latency < 15*time.Minute; latency = latency*21/20 + 1 {
		middle := bucketMiddle(latencyBucket(latency))
		if off := float64((middle - latency).Abs()); off > max(0.07*float64(latency), 1<<latencyUnit/2) {
			t.Fatalf("%s counts as %s", latency, middle)
		}
	}
	if got := latencyBucket(24 * time.Hour); got != latencyBuckets-1 {
		t.Errorf("a day falls into bucket %d of %d", got, latencyBuckets)
	}
	var p pace
	all := make([]time.Duration, 0, 1000)
	for range cap(all) {
		latency := time.Duration(1e6 * (1 + rand.ExpFloat64()*1000))
		all = append(all, latency)
		p.note(1, latency)
	}
	slices.Sort(all)
	if got, want := p.p95(1), all[949]; (got - want).Abs() > want/14 {
		t.Errorf("p95 is %s, want %s", got, want)
	}
}

func TestBadnessOrdersTheEjected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		board := NewBoard(Options{})
		good, half, dead := board.Deployment("good"), board.Deployment("half"), board.Deployment("dead")
		held, ready := board.Deployment("held"), board.Deployment("ready")
		eject(t, ready)
		pass(6 * time.Second)
		for i := range fewestRequests {
			send(half, []func(Permit){well, failed}[i%2])
		}
		eject(t, dead)
		send(held, well)
		held.HoldOff(10 * time.Second)
		ids := []*Deployment{dead, half, good, ready, held}
		slices.SortFunc(ids, func(a, b *Deployment) int {
			if a.Badness() < b.Badness() {
				return -1
			}
			return 1
		})
		var order []string
		for _, d := range ids {
			order = append(order, d.id)
		}
		if diff := cmp.Diff([]string{"good", "ready", "held", "half", "dead"}, order); diff != "" {
			t.Error(diff)
		}
		if good.Badness() != 0 {
			t.Errorf("badness of a good one: %v", good.Badness())
		}
	})
}

func TestKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		board := NewBoard(Options{})
		k := board.Key("alpha#main")
		out := func() time.Duration {
			if k.Usable() {
				return 0
			}
			return time.Until(k.Until())
		}
		want := func(want time.Duration) {
			t.Helper()
			if got := out(); got != want {
				t.Fatalf("out for %s, want %s", got, want)
			}
		}
		want(0)
		for _, seconds := range []int{30, 60, 120, 240, 480, 600, 600} {
			term := time.Duration(seconds) * time.Second
			k.Reject()
			k.Reject() // under way at the same time
			want(term)
			if diff := cmp.Diff([]KeyStatus{{"alpha#main", k.Until()}}, board.KeysOut()); diff != "" {
				t.Fatal(diff)
			}
			pass(term)
			want(0)
		}
		k.Accept()
		k.Reject()
		want(30 * time.Second)
		k.Accept()
		k.Limit(time.Second)
		want(30 * time.Second)
		pass(30 * time.Second)
		k.Limit(0)
		want(usualLimit)
		k.Limit(time.Hour)
		want(longestHold)
		k.Reject() // of a key at its limit: it is out for longer already
		want(longestHold)
		pass(longestHold)
		if got := board.KeysOut(); len(got) != 0 {
			t.Errorf("%v", got)
		}
	})
}

func TestSharesHold(t *testing.T) {
	const requests, workers = 10_000, 8
	for _, share := range []float64{0.01, 0.1, 1.0 / 3, 0.5, 0.75, 0.9} {
		board := NewBoard(Options{})
		var mu sync.Mutex
		var all sync.WaitGroup
		hits := 0
		for range workers {
			all.Go(func() {
				mine := 0
				for range requests / workers {
					if board.Turn("chat") < share {
						mine++
					}
				}
				mu.Lock()
				hits += mine
				mu.Unlock()
			})
		}
		all.Wait()
		if off := float64(hits) - share*requests; off < -5 || off > 5 {
			t.Errorf("%d of %d for a share of %v", hits, requests, share)
		}
	}
}

func TestTurnsAreEvenForEachName(t *testing.T) {
	board := NewBoard(Options{})
	for range 1000 { // every second number of one sequence, as a plan with two draws takes them
		board.Turn("a")
		first := board.Turn("b")
		if first < 0 || first >= 1 {
			t.Fatal(first)
		}
	}
	hits := 0
	for range 100 {
		if board.Turn("c") < 0.3 {
			hits++
		}
		board.Turn("c")
	}
	if hits < 28 || hits > 32 {
		t.Errorf("%d of 100 for a share of 0.3", hits)
	}
}

func TestLooking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		board := NewBoard(Options{})
		if diff := cmp.Diff(View{State: Closed, SuccessRate: 1}, board.Look("never")); diff != "" {
			t.Error(diff)
		}
		if got := testing.AllocsPerRun(100, func() { board.Look("never") }); got != 0 {
			t.Errorf("%v allocations to look", got)
		}
		if got := board.List(); len(got) != 0 {
			t.Fatalf("looking made an entry: %v", got)
		}
		send(board.Deployment("b"), well)
		eject(t, board.Deployment("a"))
		list := board.List()
		if len(list) != 2 || list[0].ID != "a" || list[1].ID != "b" {
			t.Fatalf("%v", list)
		}
		if until := time.Until(list[0].Until); until < 4*time.Second || until > 6*time.Second {
			t.Errorf("open for %s", until)
		}
		list[0].Until, list[0].Badness = time.Time{}, 0
		want := []Status{
			{ID: "a", View: View{State: Open, SuccessRate: 0}},
			{ID: "b", View: View{State: Closed, SuccessRate: 1, Latency: [2]time.Duration{FirstToken: 10 * time.Millisecond}}},
		}
		if diff := cmp.Diff(want, list); diff != "" {
			t.Error(diff)
		}
		if got := board.Look("b"); got.Latency[FirstToken] != 10*time.Millisecond {
			t.Errorf("%+v", got)
		}
	})
}

func TestWhatIsIdleIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		board := NewBoard(Options{})
		for i := range 100 {
			send(board.Deployment(fmt.Sprintf("drill-%d", i)), well)
			board.Key(fmt.Sprintf("key-%d", i)).Accept()
			board.Turn(fmt.Sprintf("turn-%d", i))
		}
		used := board.Deployment("used")
		pass(idleLimit)
		send(used, well)
		pass(sweepEvery)
		board.Deployment("new")
		count := func(m *sync.Map) (n int) {
			m.Range(func(_, _ any) bool { n++; return true })
			return n
		}
		if got := []int{count(&board.deployments), count(&board.keys), count(&board.turns)}; got[0] != 2 || got[1] != 0 || got[2] != 0 {
			t.Errorf("%v entries are left", got)
		}
		if board.Deployment("used") != used {
			t.Error("what was used has been dropped")
		}
	})
}

func TestTheZeroPermitDoesNothing(_ *testing.T) {
	var p Permit
	p.Succeeded(FirstToken, time.Second)
	p.Failed()
	p.Dropped()
}

func TestManyAtOnce(t *testing.T) {
	var mu sync.Mutex
	changes := 0
	var board *Board
	board = NewBoard(Options{OnChange: func(string, State, State) {
		mu.Lock()
		changes++
		mu.Unlock()
		board.List() // would wait for ever if a lock were held
	}})
	var all sync.WaitGroup
	for worker := range 8 {
		all.Go(func() {
			for i := range 2000 {
				d := board.Deployment(fmt.Sprintf("d%d", i%3))
				p, ok := d.Acquire()
				if !ok {
					p = d.Insist()
				}
				switch (i + worker) % 7 {
				case 0, 1, 2:
					p.Failed()
				case 3:
					p.Dropped()
				default:
					p.Succeeded(FirstToken, time.Millisecond)
				}
				if i%100 == 0 {
					d.HoldOff(time.Microsecond)
					d.Fail()
					board.List()
				}
				board.Look("d1")
				d.SpendRetry()
			}
		})
	}
	all.Wait()
	if changes == 0 {
		t.Error("nothing ever changed")
	}
}

func BenchmarkRequest(b *testing.B) {
	board := NewBoard(Options{})
	board.Deployment("alpha/m")
	b.ReportAllocs()
	for b.Loop() {
		p, _ := board.Deployment("alpha/m").Acquire()
		p.Succeeded(FirstToken, time.Millisecond)
	}
}

func BenchmarkLook(b *testing.B) {
	board := NewBoard(Options{})
	send(board.Deployment("alpha/m"), well)
	b.ReportAllocs()
	for b.Loop() {
		board.Look("alpha/m")
	}
}

func BenchmarkTurn(b *testing.B) {
	board := NewBoard(Options{})
	b.ReportAllocs()
	for b.Loop() {
		board.Turn("chat")
	}
}

// A stream that breaks after it has begun is a failure, however well it began; one that comes to its end starts
// the row anew.
func TestStreamsThatBreakOpenTheCircuit(t *testing.T) {
	for _, every := range []time.Duration{0, 3 * time.Second, 40 * time.Second} {
		in(t, func(t *testing.T, d *Deployment, changes *[]State) {
			for range failuresInRow - 1 {
				send(d, well)
				d.Broke()
				pass(every)
			}
			if got := d.SuccessRate(); every < 10*time.Second && got == 1 {
				t.Errorf("every %v: success rate %v", every, got)
			}
			d.Completed()
			for i := range failuresInRow {
				if i > 0 {
					pass(every)
				}
				wantState(t, d, Closed)
				send(d, well)
				d.Broke()
			}
			wantState(t, d, Open)
			if len(*changes) != 1 {
				t.Errorf("%v", *changes)
			}
		})
	}
}
