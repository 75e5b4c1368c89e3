package routing

import (
	"math/rand/v2"
	"testing"
	"time"

	"shareai/internal/catalog"
	"shareai/internal/health"
	"shareai/internal/snapshot"
)

// R16: weights are shares of the traffic, within 1 % over 10,000 requests, whatever else goes on.
func TestWeightsAreShares(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		spec func(*snapshot.Spec)
		ask  func(i int, a *Ask) (counts bool)
		want map[string]float64
	}{
		{"all", nil, nil, map[string]float64{"alpha": 0.6, "beta": 0.2, "gamma": 0.2}},
		{"one outside the policy", func(s *snapshot.Spec) { s.Policies[0].Regions = []string{"eu"} }, nil, map[string]float64{"alpha": 0.75, "gamma": 0.25}},
		{"one with an open circuit", nil, func(_ int, a *Ask) bool {
			a.Live = ejecting{a.Live, "gamma/l"}
			return true
		}, map[string]float64{"alpha": 0.75, "beta": 0.25}},
		{"beside requests that leave one out, now and then", nil, func(i int, a *Ask) bool {
			if i%2 == 0 {
				a.Wish.Ignore = []string{"alpha"}
			}
			return i%2 == 1
		}, map[string]float64{"alpha": 0.6, "beta": 0.2, "gamma": 0.2}},
		{"and for those", nil, func(i int, a *Ask) bool {
			if i%3 == 0 {
				a.Wish.Ignore = []string{"beta"}
			}
			return i%3 == 0
		}, map[string]float64{"alpha": 0.75, "gamma": 0.25}},
		{"beside requests with an order of their own", nil, func(i int, a *Ask) bool {
			if i%2 == 0 {
				a.Wish.Order = []string{"beta"}
			}
			return i%2 == 1
		}, map[string]float64{"alpha": 0.6, "beta": 0.2, "gamma": 0.2}},
		{"beside other models that fall back to it", func(s *snapshot.Spec) { s.Policies[0].Fallbacks = []string{"llama"} }, func(i int, a *Ask) bool {
			if i%2 == 0 {
				a.Request.Model = "qwen"
			}
			return i%2 == 1
		}, map[string]float64{"alpha": 0.6, "beta": 0.2, "gamma": 0.2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			view := house(t, func(s *snapshot.Spec) {
				s.Policies[0].Strategy = catalog.Weighted
				if c.spec != nil {
					c.spec(s)
				}
			})
			random, board := rand.New(rand.NewPCG(1, 2)), health.NewBoard(health.Options{})
			first := map[string]int{}
			const n = 10_000
			for i, counted := 0, 0; counted < n; i++ {
				a := ask("llama")
				a.Draw, a.Live = random.Float64, board
				counts := true
				if c.ask != nil {
					counts = c.ask(i, &a)
				}
				plan, err := Make(view, a)
				if err != nil {
					t.Fatal(err)
				}
				if !counts {
					continue
				}
				counted++
				for _, candidate := range plan.Candidates {
					if candidate.Excluded == Kept {
						first[candidate.Provider.Name]++
						break
					}
				}
			}
			for provider, want := range c.want {
				if got := float64(first[provider]) / n; got < want-0.01 || got > want+0.01 {
					t.Errorf("%s came first in %.4f of the plans, want %.2f", provider, got, want)
				}
			}
		})
	}
}

// turns is a view that notes the sequences from which numbers are taken.
type turns struct {
	conditions
	asked *[]string
}

func (t turns) Turn(name string) float64 {
	*t.asked = append(*t.asked, name)
	return 0
}

// An evenly spread sequence makes even shares only for those who take all of its numbers: who chooses
// among others, or does not let it decide, must not take any.
func TestWhoTakesNumbersFromASequence(t *testing.T) {
	view := house(t, func(s *snapshot.Spec) {
		equivalents(s)
		s.Policies[0].Strategy, s.Policies[0].Fallbacks = catalog.Weighted, []string{"llama"}
		s.Models[1].Deployments = append(s.Models[1].Deployments, catalog.Deployment{Provider: "alpha", Model: "q"})
	})
	sequences := func(model string, change func(*Ask)) []string {
		var asked []string
		a := ask(model)
		a.Live = turns{nil, &asked}
		if change != nil {
			change(&a)
		}
		if _, err := Make(view, a); err != nil {
			t.Fatal(err)
		}
		return asked
	}
	all := sequences("llama", nil)
	without := sequences("llama", func(a *Ask) { a.Wish.Ignore = []string{"alpha"} })
	other := sequences("llama", func(a *Ask) { a.Wish.Ignore = []string{"beta"} })
	if len(all) != 1 || len(without) != 1 || len(other) != 1 || all[0] == without[0] || without[0] == other[0] || all[0] == other[0] {
		t.Errorf("%q, %q and %q: each choice has a sequence of its own", all, without, other)
	}
	if got := sequences("qwen", nil); len(got) != 1 || got[0] == all[0] {
		t.Errorf("%q: the models of fallbacks take none", got)
	}
	for name, change := range map[string]func(*Ask){
		"an order of its own": func(a *Ask) { a.Wish.Order = []string{"gamma"} },
		"nothing to choose":   func(a *Ask) { a.Wish.Only = []string{"gamma"} },
		"another sort":        func(a *Ask) { a.Wish.Sort = catalog.Cheapest },
	} {
		if got := sequences("llama", change); len(got) != 0 {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// ejecting is a view in which one circuit is open.
type ejecting struct {
	Live
	id string
}

func (e ejecting) Look(id string) health.View {
	if id == e.id {
		return open(1)
	}
	return e.Live.Look(id)
}

// The second place is drawn by weight too: whoever takes over takes its share.
func TestWeightsHoldForWhoeverTakesOver(t *testing.T) {
	view := house(t, func(s *snapshot.Spec) {
		s.Policies[0].Strategy = catalog.Weighted
		s.Models[0].Deployments[1].Weight = 9
	})
	random, board := rand.New(rand.NewPCG(1, 2)), health.NewBoard(health.Options{})
	second, n := 0.0, 0.0
	for range 20_000 {
		a := ask("llama")
		a.Draw, a.Live = random.Float64, board
		plan, err := Make(view, a)
		if err != nil {
			t.Fatal(err)
		}
		if plan.Candidates[0].Provider.Name == "alpha" {
			n++
			if plan.Candidates[1].Provider.Name == "beta" {
				second++
			}
		}
	}
	if share := second / n; share < 0.88 || share > 0.92 {
		t.Errorf("beta takes over %.3f of the time, want 0.9", share)
	}
}

func TestFastest(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		name string
		live conditions
		draw float64
		want string
	}{
		{"by latency", conditions{"alpha/l": measured(300*ms, 1), "beta/l": measured(100*ms, 1), "gamma/l": measured(200*ms, 1)}, 0.9, "beta gamma alpha"},
		{"failures cost time", conditions{"alpha/l": measured(300*ms, 1), "beta/l": measured(200*ms, 0.6), "gamma/l": measured(250*ms, 1)}, 0.9, "gamma alpha beta"},
		{"a failing one is not fast", conditions{"alpha/l": measured(900*ms, 1), "beta/l": measured(1*ms, 0.3), "gamma/l": measured(0, 0.9)}, 0.9, "alpha beta gamma"},
		{"not measured yet", conditions{"beta/l": measured(100*ms, 1), "gamma/l": measured(0, 0)}, 0.9, "beta alpha gamma"},
		{"nothing measured", conditions{}, 0.9, "alpha beta gamma"},
		{"an open circuit", conditions{"alpha/l": measured(300*ms, 1), "beta/l": {State: health.Open, Latency: [2]time.Duration{ms, ms}, SuccessRate: 1}, "gamma/l": measured(200*ms, 1)}, 0.9, "gamma alpha beta:circuit"},
		{"now and then another one", conditions{"alpha/l": measured(300*ms, 1), "beta/l": measured(100*ms, 1), "gamma/l": measured(200*ms, 1)}, 0.049, "alpha beta gamma"},
		{"another one", conditions{"alpha/l": measured(300*ms, 1), "beta/l": measured(100*ms, 1), "gamma/l": measured(200*ms, 1)}, 0.01, "gamma beta alpha"},
		{"but not a failing one", conditions{"alpha/l": measured(300*ms, 0.4), "beta/l": measured(100*ms, 1), "gamma/l": measured(0, 0.1)}, 0.01, "beta alpha gamma"},
		{"sooner one that is not measured", conditions{"alpha/l": measured(300*ms, 1), "beta/l": measured(100*ms, 1)}, 0.19, "gamma beta alpha"},
		{"half-open ones are not explored", conditions{"alpha/l": {State: health.HalfOpen, SuccessRate: 1}, "beta/l": measured(100*ms, 1), "gamma/l": measured(200*ms, 1)}, 0.01, "gamma beta alpha"},
	} {
		t.Run(c.name, func(t *testing.T) {
			view := house(t, func(s *snapshot.Spec) { s.Policies[0].Strategy = catalog.Fastest })
			a := ask("llama")
			a.Live, a.Draw = c.live, func() float64 { return c.draw }
			plan, err := Make(view, a)
			if err != nil {
				t.Fatal(err)
			}
			if got := verdicts(plan); got != c.want {
				t.Errorf("plan %q, want %q", got, c.want)
			}
		})
	}
}

func TestOnlyTheFirstPlaceIsExplored(t *testing.T) {
	view := house(t, func(s *snapshot.Spec) {
		equivalents(s)
		s.Policies[0].Strategy, s.Policies[0].Fallbacks = catalog.Fastest, []string{"llama"}
	})
	a := ask("solo")
	a.Live, a.Draw = conditions{"alpha/l": measured(2, 1), "beta/l": measured(1, 1), "gamma/l": measured(3, 1)}, func() float64 { return 0 }
	plan, err := Make(view, a)
	if err != nil || verdicts(plan) != "alpha beta=policy alpha=policy gamma=policy" {
		t.Error(verdicts(plan), err)
	}
}

// A stream's client waits for the first token, anyone else for the whole answer.
func TestStreamsHaveALatencyOfTheirOwn(t *testing.T) {
	view := house(t, func(s *snapshot.Spec) { s.Policies[0].Strategy = catalog.Fastest })
	a := ask("llama")
	a.Draw = func() float64 { return 0.9 }
	a.Live = conditions{
		"alpha/l": {State: health.Closed, SuccessRate: 1, Latency: [2]time.Duration{health.FirstToken: 1, health.WholeAnswer: 9}},
		"beta/l":  {State: health.Closed, SuccessRate: 1, Latency: [2]time.Duration{health.FirstToken: 2, health.WholeAnswer: 8}},
		"gamma/l": {State: health.Closed, SuccessRate: 1, Latency: [2]time.Duration{health.FirstToken: 3, health.WholeAnswer: 7}},
	}
	for stream, want := range map[bool]string{true: "alpha beta gamma", false: "gamma beta alpha"} {
		a.Request.Stream = stream
		plan, err := Make(view, a)
		if err != nil || verdicts(plan) != want {
			t.Errorf("stream %v: %q, %v", stream, verdicts(plan), err)
		}
	}
}

// A deployment that is explored is held against the ceiling of the fastest, not against its own.
func TestExploringKeepsTheCeiling(t *testing.T) {
	view := house(t, func(s *snapshot.Spec) {
		s.Policies[0].Strategy, s.Policies[0].MaxPriceRatio = catalog.Fastest, 1.5
	})
	a := ask("llama")
	a.Live = conditions{"beta/l": measured(time.Millisecond, 1), "alpha/l": measured(time.Second, 1)}
	a.Draw = func() float64 { return 0 }
	plan, err := Make(view, a)
	if err != nil {
		t.Fatal(err)
	}
	if got := verdicts(plan); got != "beta alpha:price gamma:price" {
		t.Error(got)
	}
}

func TestEqualPricesFollowTheOrder(t *testing.T) {
	view := house(t, func(s *snapshot.Spec) {
		s.Policies[0].Strategy, s.Policies[0].Order = catalog.Cheapest, []string{"gamma"}
		for i := range s.Models[0].Deployments {
			s.Models[0].Deployments[i].Price = catalog.Price{}
		}
	})
	plan, err := Make(view, ask("llama"))
	if err != nil || verdicts(plan) != "gamma alpha beta" {
		t.Error(verdicts(plan), err)
	}
}
