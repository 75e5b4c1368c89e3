package alert

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"shareai/internal/account"
)

// R29: a budget speaks at each of its thresholds, and when it is used up, to the nano-dollar.
func TestABudgetSpeaksAtItsThresholds(t *testing.T) {
	b := &account.Budget{Period: account.PerMonth, NanoUSD: 100e9, AlertAt: []float64{0.5, 0.8}}
	of := &account.Bound{Scope: account.ByProject, ID: "acme/app", Name: "app"}
	from, to, _ := b.Span(start)
	for spent, want := range map[int64]Level{
		0: Well, 50e9 - 1: Well, 50e9: 5000, 80e9 - 1: 5000, 80e9: 8000, 100e9 - 1: 8000, 100e9: 10000, 300e9: 10000,
	} {
		o := JudgeBudget(of, b, from, to, spent)
		if o.Level != want {
			t.Errorf("%d: level %d, want %d", spent, o.Level, want)
		}
		if o.Level > Well && !strings.Contains(o.Title, `Project "app" has used`) {
			t.Errorf("%+v", o)
		}
	}
	next := JudgeBudget(of, b, to, to.AddDate(0, 1, 0), 0)
	if next.Subject == JudgeBudget(of, b, from, to, 0).Subject {
		t.Error("the next period is the same subject")
	}
}

func TestAFloorKeepsFewRequestsQuiet(t *testing.T) {
	r := Defaults().Rules
	failed := Tally{Requests: 3, Failures: 3, FailedOver: 3, Extra: 1e6, Usual: 1e6}
	for name, o := range map[string]Observation{
		"errors":    r.ErrorRate.JudgeErrors(Counted{Scope: OfAll}, failed, nil),
		"fallbacks": r.Fallbacks.JudgeFallbacks(failed, Tally{}, nil),
		"cost":      r.FallbackCost.JudgeCost(failed, Tally{}, nil),
	} {
		if o.Level != Well {
			t.Errorf("%s alarms at three requests: %+v", name, o)
		}
	}
	none := r.ErrorRate.JudgeErrors(Counted{Scope: OfAll}, Tally{}, nil)
	if none.Level != Unknown {
		t.Errorf("no requests say %d", none.Level)
	}
}

// R29: fallbacks and their cost are compared with what is usual here.
func TestARiseIsOneAgainstThePast(t *testing.T) {
	r := Defaults().Rules
	usual := Tally{Requests: 10_000, FailedOver: 1000, Extra: 10e9, Usual: 100e9} // a tenth
	usual50 := Tally{Requests: 1000, FailedOver: 100, Extra: 50e9, Usual: 100e9}
	for _, c := range []struct {
		name      string
		now, past Tally
		fallbacks Level
		cost      Level
	}{
		{"as always", Tally{Requests: 1000, FailedOver: 100, Extra: 1e9, Usual: 10e9}, usual, Well, Well},
		{"twice as many", Tally{Requests: 1000, FailedOver: 200, Extra: 2e9, Usual: 10e9}, usual, Well, Well},
		{"more than three times as many", Tally{Requests: 1000, FailedOver: 301, Extra: 3.01e9, Usual: 10e9}, usual, Bad, Bad},
		{"a tenth where there were none", Tally{Requests: 1000, FailedOver: 100, Extra: 1e9, Usual: 10e9}, Tally{Requests: 10_000, Usual: 100e9}, Bad, Bad},
		{"cheaper elsewhere", Tally{Requests: 1000, FailedOver: 1000, Extra: -5e9, Usual: 10e9}, Tally{Requests: 10_000, Usual: 100e9}, Bad, Well},
		{"all where half is usual", Tally{Requests: 1000, FailedOver: 1000, Extra: 150e9, Usual: 100e9}, Tally{Requests: 10, FailedOver: 5, Extra: 50e9, Usual: 100e9}, Bad, Bad},
		{"twice the extra that is usual", Tally{Requests: 1000, FailedOver: 100, Extra: 100e9, Usual: 100e9}, usual50, Well, Well},
		{"a primary that is free", Tally{Requests: 1000, FailedOver: 1000, Extra: 20e9}, Tally{Requests: 10_000}, Bad, Bad},
		{"a primary that is free, as always", Tally{Requests: 1000, FailedOver: 100, Extra: 10e9}, Tally{Requests: 24_000, FailedOver: 2400, Extra: 240e9}, Well, Well},
	} {
		if o := r.Fallbacks.JudgeFallbacks(c.now, c.past, nil); o.Level != c.fallbacks {
			t.Errorf("%s: fallbacks %+v", c.name, o)
		}
		if o := r.FallbackCost.JudgeCost(c.now, c.past, nil); o.Level != c.cost {
			t.Errorf("%s: cost %+v", c.name, o)
		}
	}
}

// A trouble that lasts does not become what is usual: the bar of the beginning holds until it is over.
func TestATroubleThatLastsStaysOne(t *testing.T) {
	r := Defaults().Rules.Fallbacks
	now := Tally{Requests: 1000, FailedOver: 400}
	first := r.JudgeFallbacks(now, Tally{Requests: 10_000, FailedOver: 100}, nil)
	e, _ := Step(nil, first, Pace{}, start)
	after := r.JudgeFallbacks(now, Tally{Requests: 10_000, FailedOver: 4000}, e)
	if after.Level != Bad || after.Bar != e.Bar {
		t.Errorf("%+v after %+v", after, e)
	}
	if o := r.JudgeFallbacks(now, Tally{Requests: 10_000, FailedOver: 4000}, nil); o.Level != Well {
		t.Errorf("without the episode it is usual: %+v", o)
	}
}

// One replica that finds something down is enough; what nobody knows stays open.
func TestDownOnOneReplicaIsDown(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		found := rapid.SliceOfN(rapid.MapOf(rapid.Just("alpha"), rapid.Bool()), 0, 4).Draw(t, "replicas")
		want := Unknown
		for _, f := range found {
			if down, known := f["alpha"]; known {
				want = max(want, Well)
				if down {
					want = Bad
				}
			}
		}
		if o := JudgeDown(ProviderDown, []string{"alpha"}, found); len(o) != 1 || o[0].Level != want {
			t.Fatalf("%+v of %v", o, found)
		}
	})
}

func TestANodeIsGoneThatWasThere(t *testing.T) {
	for want, n := range map[Level]Node{Well: {Linked: true, LastSeen: start}, Bad: {LastSeen: start}} {
		if o := JudgeNode(&n); o.Level != want {
			t.Errorf("%+v: %d", n, o.Level)
		}
	}
	if o := JudgeNode(&Node{}); o.Level != Well {
		t.Error("a node that was never linked is gone")
	}
}

// A message is the same for the same edge, and says how long it took.
func TestMessages(t *testing.T) {
	receivers := []Receiver{{Name: "ops", Only: []Rule{ProviderDown}}, {Name: "finance", Only: []Rule{Budget}}, {Name: "all"}}
	e := &Episode{ID: "al_1", Rule: ProviderDown, Level: Bad, Since: start, OpenedAt: start.Add(time.Minute), CalmSince: start.Add(42 * time.Minute), EndedAt: start.Add(43 * time.Minute), Report: Report{Title: "Provider is down"}}
	opened, over := e.Deliveries(Opened, receivers, start), e.Deliveries(Ends, receivers, start)
	if len(opened) != 2 || opened[0].Receiver != "ops" || opened[1].Receiver != "all" || opened[0].Message.ID != "al_1.opened.1.ops" {
		t.Errorf("%+v", opened)
	}
	if m := over[0].Message; !m.Over() || m.Title != "Over: Provider is down" || m.Episode.Seconds != 42*60 || !strings.Contains(m.Text, "It lasted 42m,") {
		t.Errorf("%+v", m)
	}
	if none := e.Deliveries(None, receivers, start); none != nil {
		t.Errorf("%+v", none)
	}
}
