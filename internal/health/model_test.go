package health

import (
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// bubbled hides from rapid that it runs under a *testing.T, whose deadline can not be asked for in a bubble.
type bubbled struct{ rapid.TB }

// check runs a property in a bubble.
func check(t *testing.T, property func(t *rapid.T)) {
	synctest.Test(t, func(t *testing.T) { rapid.Check(bubbled{t}, property) })
}

func TestBudgetHolds(t *testing.T) {
	check(t, func(t *rapid.T) {
		d := NewBoard(Options{}).Deployment("d")
		first, retries := 0, 0
		t.Repeat(map[string]func(*rapid.T){
			"first": func(*rapid.T) {
				d.Acquire()
				first++
			},
			"retry": func(*rapid.T) {
				if d.SpendRetry() {
					d.Acquire()
					retries++
				}
			},
			"": func(t *rapid.T) {
				if 5*retries > 50+first {
					t.Fatalf("%d retries of %d first attempts", retries, first)
				}
			},
		})
	})
}

func TestBurstOfRetries(t *testing.T) {
	d := NewBoard(Options{}).Deployment("d")
	burst := 0
	for d.SpendRetry() {
		d.Acquire()
		burst++
	}
	if burst != 10 {
		t.Errorf("a burst of %d retries, want 10", burst)
	}
	for range 1000 {
		d.Acquire()
	}
	for burst = 0; d.SpendRetry(); burst++ {
	}
	if burst > 10 {
		t.Errorf("%d retries were saved up, want 10 at most", burst)
	}
}

// outside is what can be known of a circuit from outside of it: the model that it is held against.
type outside struct {
	d         *Deployment
	state     State
	rate      float64 // the success rate when the state last changed
	openSince time.Time
	held      time.Time
	wins      int
	sent      []sent // under way
}

// sent is a request under way.
type sent struct {
	Permit
	at    time.Time
	fresh bool // no change of the circuit since
}

func (o *outside) changed(_ string, from, to State) {
	o.state = to
	if to != HalfOpen {
		o.wins = 0
		for i := range o.sent {
			o.sent[i].fresh = false
		}
	}
	if to == Open {
		o.openSince = time.Now()
	}
	if from == Closed {
		o.rate = o.d.SuccessRate()
	}
}

// take removes one of the requests under way.
func (o *outside) take(t *rapid.T) sent {
	if len(o.sent) == 0 {
		t.Skip("nothing under way")
	}
	i := rapid.IntRange(0, len(o.sent)-1).Draw(t, "which")
	s := o.sent[i]
	o.sent = append(o.sent[:i], o.sent[i+1:]...)
	return s
}

// probes counts those whose lease runs.
func (o *outside) probes() (n int) {
	for _, s := range o.sent {
		if s.Probe() && s.fresh && time.Since(s.at) < probeLease {
			n++
		}
	}
	return n
}

func TestCircuitFollowsItsModel(t *testing.T) {
	check(t, func(t *rapid.T) {
		o := &outside{state: Closed}
		o.d = NewBoard(Options{OnChange: func(id string, from, to State) { o.changed(id, from, to) }}).Deployment("d")
		t.Repeat(o.steps())
		recovers(t, o)
	})
}

func (o *outside) steps() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"acquire": o.acquire,
		"insist": func(*rapid.T) {
			before := o.probes()
			p := o.d.Insist()
			o.sent = append(o.sent, sent{p, time.Now(), true})
			if p.Probe() && before >= 1<<min(o.wins, 4) {
				panic("insisting makes a probe too many")
			}
		},
		"succeed": func(t *rapid.T) {
			s := o.take(t)
			counts := s.fresh && o.state != Closed && !time.Now().Before(o.held)
			if counts {
				o.wins++
			}
			s.Succeeded(FirstToken, time.Duration(rapid.IntRange(1, 900).Draw(t, "ms"))*time.Millisecond)
			if counts && (o.wins < winsToClose && o.state == Open || o.wins >= winsToClose) {
				t.Fatalf("%d successes, and it is %s", o.wins, o.state)
			}
		},
		"fail": func(t *rapid.T) {
			s := o.take(t)
			reopens := s.Probe() && s.fresh && o.state == HalfOpen
			closed := o.state == Closed
			s.Failed()
			if reopens && o.d.State() != Open {
				t.Fatalf("a probe failed, and it is %s", o.d.State())
			}
			if closed && o.state == Open && o.rate >= 1 {
				t.Fatal("opened by failures at a success rate of 1")
			}
		},
		"drop": func(t *rapid.T) {
			before := o.state
			o.take(t).Dropped()
			if o.state != before {
				t.Fatal("what says nothing moved the circuit")
			}
		},
		"broken stream": func(t *rapid.T) {
			before := o.state
			o.d.Fail()
			if before != Closed && o.state != before {
				t.Fatal("a broken stream moved a circuit that is not closed")
			}
		},
		"hold off": func(t *rapid.T) {
			wait := time.Duration(rapid.IntRange(1, 400).Draw(t, "seconds")) * time.Second
			before := o.d.status().Until
			o.d.HoldOff(wait)
			if until := time.Now().Add(min(wait, longestHold)); until.After(o.held) {
				o.held = until
			}
			if after := o.d.status().Until; after.Before(before) || after.Before(o.held) {
				t.Fatalf("open until %s, was %s, held until %s", after, before, o.held)
			}
		},
		"time": func(t *rapid.T) {
			pass(time.Duration(rapid.IntRange(1, 12_000).Draw(t, "ms")) * time.Millisecond)
		},
		"": func(t *rapid.T) {
			badness := o.d.Badness()
			if (o.state == Closed) != (badness == 0) {
				t.Fatalf("badness %v while %s", badness, o.state)
			}
		},
	}
}

func (o *outside) acquire(t *rapid.T) {
	before, probes := o.d.State(), o.probes()
	p, ok := o.d.Acquire()
	now := time.Now()
	switch {
	case !ok && before == Closed:
		t.Fatal("refused while closed")
	case !ok && before == HalfOpen && probes < 1<<min(o.wins, 4):
		t.Fatalf("refused with %d probes under way after %d successes", probes, o.wins)
	case !ok:
		return
	case before == Open || now.Before(o.held):
		t.Fatal("let through while open")
	case p.Probe() != (before == HalfOpen):
		t.Fatalf("probe: %v while %s", p.Probe(), before)
	case p.Probe() && probes >= 1<<min(o.wins, 4):
		t.Fatalf("one more than %d probes under way after %d successes", probes, o.wins)
	}
	o.sent = append(o.sent, sent{p, now, true})
}

// recovers checks that success closes the circuit, however things stand.
func recovers(t *rapid.T, o *outside) {
	start := time.Now()
	if o.held.After(start) {
		start = o.held
	}
	for o.d.State() != Closed {
		if time.Since(start) > probeLease+longestWait*11/10+winsToClose*100*time.Millisecond {
			t.Fatalf("%s after %s of nothing but success", o.d.State(), time.Since(start))
		}
		send(o.d, well)
		pass(100 * time.Millisecond)
	}
}
