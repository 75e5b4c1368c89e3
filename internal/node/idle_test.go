package node

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

var monday = time.Date(2026, 11, 23, 12, 0, 0, 0, time.Local)

func idleRules() Rules {
	return Rules{Mode: Idle, Grace: 10 * time.Second, After: 5 * time.Minute, CPU: 0.25, GPU: 0.2, OnBattery: NotOnBattery}
}

// quiet are the readings of a machine that nobody needs.
func quiet() Readings {
	return Readings{CPU: 0.02, GPU: 0, Away: time.Hour, Power: Mains}
}

// timeline is a machine with a clock.
type timeline struct {
	*Machine
	t       *testing.T
	now     time.Time
	running int
}

func startMachine(t *testing.T, r Rules) *timeline {
	return &timeline{Machine: NewMachine(r), t: t, now: monday}
}

// pass steps every 5 s for a time with the same readings, and returns the last decision.
func (l *timeline) pass(d time.Duration, r Readings) (last Decision) {
	for end := l.now.Add(d); l.now.Before(end); {
		l.now = l.now.Add(5 * time.Second)
		last = l.Step(Circumstances{Now: l.now, Readings: r, Running: l.running})
		if last.Phase != Leaving {
			continue
		}
		if last.Cut {
			l.running = 0
		}
	}
	return last
}

func (l *timeline) expect(what string, got Decision, phase Phase, why Reason) {
	l.t.Helper()
	if got.Phase != phase || got.Why != why {
		l.t.Errorf("%s: %s because of %s, want %s because of %s", what, got.Phase, got.Why, phase, why)
	}
}

// R24: the machine serves only while nobody else needs it.
func TestIdleMode(t *testing.T) {
	l := startMachine(t, idleRules())
	l.expect("at the start", l.pass(5*time.Second, quiet()), Resting, Settling)
	l.expect("before it was quiet for long enough", l.pass(4*time.Minute+50*time.Second, quiet()), Resting, Settling)
	l.expect("after five minutes", l.pass(10*time.Second, quiet()), Serving, Willing)

	band := quiet()
	band.CPU = 0.4 // more than quiet, less than busy
	l.expect("a little work", l.pass(time.Hour, band), Serving, Willing)
	busy := quiet()
	busy.CPU = 0.9
	l.expect("work that has just begun", l.pass(10*time.Second, busy), Serving, Willing)
	l.expect("no work again", l.pass(10*time.Second, quiet()), Serving, Willing)
	l.expect("work that stays", l.pass(20*time.Second, busy), Resting, Busy)
	l.expect("a little work again", l.pass(time.Hour, band), Resting, Busy)
	l.expect("quiet again", l.pass(10*time.Second, quiet()), Resting, Settling)
	l.expect("quiet for five minutes", l.pass(5*time.Minute, quiet()), Serving, Willing)

	game := quiet()
	game.GPU = 0.8
	l.expect("a game", l.pass(20*time.Second, game), Resting, Busy)
	l.pass(10*time.Minute, quiet())
	unplugged := quiet()
	unplugged.Power = Battery
	l.expect("on battery", l.pass(5*time.Second, unplugged), Resting, Unplugged)
	l.expect("on mains again", l.pass(6*time.Minute, quiet()), Serving, Willing)

	unknown := Readings{CPU: Unknown, GPU: Unknown, Away: nobody}
	l.expect("nothing can be read", l.pass(time.Hour, unknown), Serving, Willing)
}

func TestAUserComesBack(t *testing.T) {
	l := startMachine(t, idleRules())
	l.pass(6*time.Minute, quiet())
	l.running = 2
	back := quiet()
	back.Away = 0
	d := l.pass(5*time.Second, back)
	l.expect("at once", d, Leaving, InUse)
	if !d.Until.Equal(l.now.Add(10*time.Second)) || d.Cut {
		t.Errorf("the grace ends at %v, cut %t; it is %v", d.Until, d.Cut, l.now)
	}
	d = l.pass(5*time.Second, back)
	if l.expect("within the grace", d, Leaving, InUse); d.Cut {
		t.Error("cut before the grace was over")
	}
	if d = l.pass(5*time.Second, back); !d.Cut {
		t.Error("not cut when the grace was over")
	}
	l.expect("then", l.pass(5*time.Second, back), Resting, InUse)
}

func TestWhatStopsEveryMode(t *testing.T) {
	for _, mode := range []Mode{Always, Idle, Schedule} {
		rules := idleRules()
		rules.Mode = mode
		l := startMachine(t, rules)
		l.expect(string(mode), l.pass(6*time.Minute, quiet()), Serving, Willing)
		l.running = 1
		stop := func(c Circumstances) Decision {
			c.Now, c.Readings, c.Running = l.now, quiet(), l.running
			return l.Step(c)
		}
		if d := stop(Circumstances{Stopped: Paused, AtOnce: true}); !d.Cut {
			t.Errorf("%s: a pause at once cuts nothing: %+v", mode, d)
		}
		l.running = 0
		l.expect(string(mode)+" paused", stop(Circumstances{Stopped: Paused}), Resting, Paused)
		l.expect(string(mode)+" resumed", stop(Circumstances{}), Serving, Willing)
		l.running = 1
		l.expect(string(mode)+" tokens", stop(Circumstances{Stopped: NoTokens}), Leaving, NoTokens)
		l.now = l.now.Add(time.Hour)
		if d := stop(Circumstances{Stopped: NoEngine}); d.Cut {
			t.Error("cut for want of an engine: what runs may yet end")
		}
	}
}

func TestAlwaysAndScheduleLookAtNobody(t *testing.T) {
	needed := Readings{CPU: 1, GPU: 1, Away: 0, Power: Battery}
	rules := Rules{Mode: Always, Grace: time.Second}
	l := startMachine(t, rules)
	l.expect("always", l.pass(5*time.Second, needed), Serving, Willing)

	w, err := ParseWindow("mon 20:00-02:00")
	if err != nil {
		t.Fatal(err)
	}
	rules.Mode, rules.Hours = Schedule, Hours{w}
	l = startMachine(t, rules)
	l.expect("at noon", l.pass(5*time.Second, needed), Resting, OffHours)
	l.now = monday.Add(8 * time.Hour)
	l.expect("in the evening", l.pass(5*time.Second, needed), Serving, Willing)
	l.now = monday.Add(14 * time.Hour)
	l.expect("at two", l.pass(5*time.Second, needed), Resting, OffHours)
}

// Whatever the sensors say, in whatever order, these hold.
func TestIdleModeKeepsItsPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules := idleRules()
		m := NewMachine(rules)
		now := monday
		var quietSince, phaseSince time.Time
		last := Decision{Phase: Resting}
		running := 0
		for range rapid.IntRange(1, 150).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(1, 90).Draw(t, "seconds")) * time.Second)
			r := Readings{
				CPU:   rapid.SampledFrom([]float64{0, 0, 0.1, 0.25, 0.4, 0.51, 1, Unknown}).Draw(t, "cpu"),
				GPU:   rapid.SampledFrom([]float64{0, 0, 0, 0.3, 0.9, Unknown}).Draw(t, "gpu"),
				Away:  rapid.SampledFrom([]time.Duration{nobody, time.Hour, time.Hour, time.Hour, 0, time.Minute}).Draw(t, "away"),
				Power: rapid.SampledFrom([]Power{Mains, Mains, Mains, PowerUnknown, Battery}).Draw(t, "power"),
			}
			if last.Phase == Serving && rapid.Bool().Draw(t, "a request") {
				running++
			}
			if rapid.Bool().Draw(t, "an end") {
				running = 0
			}
			quietNow := r.CPU <= rules.CPU && r.GPU <= rules.GPU && (r.Away < 0 || r.Away >= rules.After) && r.Power != Battery
			if last.Phase == Serving && (r.Away < 0 || r.Away >= rules.After) && r.Power != Battery {
				quietNow = quietNow || r.CPU <= 0.5 && r.GPU <= 0.4
			}
			switch {
			case !quietNow:
				quietSince = time.Time{}
			case quietSince.IsZero():
				quietSince = now
			}
			d := m.Step(Circumstances{Now: now, Readings: r, Running: running})
			switch {
			case d.Phase == Serving && (r.Power == Battery || r.Away >= 0 && r.Away < rules.After):
				t.Fatalf("serves although somebody needs the machine: %+v", r)
			case d.Phase == Serving && last.Phase != Serving && (quietSince.IsZero() || now.Sub(quietSince) < rules.After):
				t.Fatalf("serves again before it was quiet for %v", rules.After)
			case d.Phase == Serving && last.Phase != Serving && !phaseSince.IsZero() && now.Sub(phaseSince) < rules.After:
				t.Fatalf("flaps: it served until %v ago", now.Sub(phaseSince))
			case d.Phase == Leaving && running == 0, d.Phase == Leaving && last.Phase == Resting:
				t.Fatal("leaves with nothing to wait for")
			case d.Phase == Resting && running > 0 && last.Phase == Serving:
				t.Fatal("rests while requests run")
			case d.Phase == Leaving && !now.Before(d.Until) && !d.Cut, d.Phase != Leaving && d.Cut:
				t.Fatalf("cut %t at %v, the grace ends at %v", d.Cut, now, d.Until)
			case d.Phase == Leaving && last.Phase == Leaving && !d.Until.Equal(last.Until):
				t.Fatal("the grace grows")
			}
			if d.Phase != Serving && last.Phase == Serving {
				phaseSince = now
			}
			if d.Cut {
				running = 0
			}
			last = d
		}
	})
}
