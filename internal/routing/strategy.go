package routing

import (
	"cmp"
	"math"
	"slices"

	"shareai/internal/catalog"
	"shareai/internal/health"
)

// strategy orders the deployments of one model, most wanted first. It sees excluded ones too, and must not
// change a verdict.
type strategy interface {
	sort(list []Candidate, s sorting)
}

// sorting is what a strategy may go by.
type sorting struct {
	policy *catalog.Policy
	tokens catalog.Tokens
	live   Live
	mode   health.Mode // whose latency counts
	draw   func() float64
	// turn names the sequence from which the first draw of a split is taken; empty: this order says nothing
	// about who serves first, and must not use up the sequence.
	turn string
}

// strategyOf finds the strategy behind a policy's word for it. Compiling has checked the word.
func strategyOf(name catalog.Strategy) strategy {
	switch name {
	case catalog.Cheapest:
		return cheapest{}
	case catalog.Fastest:
		return fastest{}
	case catalog.Weighted:
		return weighted{}
	default:
		return ordered{}
	}
}

// ordered follows the policy's list of providers; who is not on it comes after, as declared. An entry for
// nodes names no provider and changes nothing.
type ordered struct{}

func (ordered) sort(list []Candidate, s sorting) { byRank(list, s.policy.Order) }

// byRank orders by the place of a provider, or of a single deployment, in a list of names.
func byRank(list []Candidate, order []string) {
	if len(order) == 0 || len(list) < 2 {
		return
	}
	rank := func(c *Candidate) int {
		for i, name := range order {
			if named(&c.Target, name) {
				return i
			}
		}
		return len(order)
	}
	slices.SortStableFunc(list, func(a, b Candidate) int { return cmp.Compare(rank(&a), rank(&b)) })
}

// cheapest orders by what this request's tokens would cost; equals stay in order.
type cheapest struct{}

func (cheapest) sort(list []Candidate, s sorting) {
	ordered{}.sort(list, s)
	slices.SortStableFunc(list, func(a, b Candidate) int {
		return cmp.Compare(a.Deployment.Price.Cost(s.tokens), b.Deployment.Price.Cost(s.tokens))
	})
}

// fastest orders by the time in which a success can be expected: the latency of successes over their
// share. Whoever mostly fails comes last, however fast that is. Those not measured yet come after those
// that are, in order; explore sees to it that they do not stay so.
type fastest struct{}

func (fastest) sort(list []Candidate, s sorting) {
	ordered{}.sort(list, s)
	if s.live == nil {
		return
	}
	var room [16]timed
	scored := room[:0]
	for i := range list {
		scored = append(scored, timed{list[i], s.expected(&list[i])})
	}
	slices.SortStableFunc(scored, func(a, b timed) int { return cmp.Compare(a.score, b.score) })
	for i := range scored {
		list[i] = scored[i].Candidate
	}
}

type timed struct {
	Candidate
	score float64
}

// The scores of what has no measured time. They are larger than any time.
const (
	unmeasured = math.MaxFloat64 / 4
	failing    = math.MaxFloat64 / 2
)

func (s *sorting) expected(c *Candidate) float64 {
	if c.Excluded != Kept {
		return math.MaxFloat64
	}
	v := s.live.Look(c.HealthID)
	switch latency := v.Latency[s.mode]; {
	case v.SuccessRate < soundRate, latency == 0 && v.SuccessRate < 1:
		return failing
	case latency == 0:
		return unmeasured
	default:
		return float64(latency) / v.SuccessRate
	}
}

// How often another than the fastest deployment is the first. Those not measured yet are asked more
// often, and yet not by everybody at once: nothing says that they can take it.
const (
	exploreMeasured   = 0.05
	exploreUnmeasured = 0.2
	// soundRate is the success rate below which a deployment counts as failing and is not explored: its
	// failures have faded from its health before anybody is sent there again.
	soundRate = 0.5
)

// explore brings another kept candidate to the front, now and then.
func (s *sorting) explore(list []Candidate) {
	var room, fresh [16]int
	sound, unknown := room[:0], fresh[:0]
	first := -1
	for i := range list {
		if list[i].Excluded != Kept {
			continue
		}
		if first < 0 {
			first = i
			continue
		}
		switch v := s.live.Look(list[i].HealthID); {
		case v.State != health.Closed || v.SuccessRate < soundRate:
		case v.Latency[s.mode] == 0:
			unknown = append(unknown, i)
		default:
			sound = append(sound, i)
		}
	}
	among, share := sound, exploreMeasured
	if len(unknown) > 0 {
		among, share = unknown, exploreUnmeasured
	}
	if len(among) == 0 {
		return
	}
	if drawn := s.draw(); drawn < share {
		bring(list[first:], among[int(drawn/share*float64(len(among)))]-first)
	}
}

// bring moves a candidate to the front of a list; the others keep their order.
func bring(list []Candidate, from int) {
	chosen := list[from]
	copy(list[1:from+1], list[:from])
	list[0] = chosen
}

// weighted draws the first deployment by weight, then the second among the rest, and so on: shares of
// traffic hold for the primary and for whoever takes over from it. The first draw is taken from an evenly
// spread sequence, so that shares hold closely after few requests already. Excluded ones come last.
type weighted struct{}

func (weighted) sort(list []Candidate, s sorting) {
	total := 0
	for i := range list {
		total += weight(&list[i])
	}
	for i := 0; i < len(list)-1 && total > 0; i++ {
		var number float64
		if i == 0 {
			number = s.first(list)
		} else if s.draw != nil {
			number = s.draw()
		}
		drawn, chosen := number*float64(total), -1
		for j := i; j < len(list); j++ {
			w := weight(&list[j])
			if w == 0 {
				continue
			}
			chosen = j
			if drawn -= float64(w); drawn < 0 {
				break
			}
		}
		total -= weight(&list[chosen])
		bring(list[i:], chosen-i)
	}
}

// first is the number for the first draw. Requests among which different deployments are left draw from
// different sequences: a sequence of which only some numbers count is no longer evenly spread.
func (s *sorting) first(list []Candidate) float64 {
	kept, mark := 0, byte(0)
	for i := range list {
		if list[i].Excluded == Kept {
			kept++
			mark ^= 1 << (i % 8)
		}
	}
	switch {
	case kept < 2:
		return 0
	case s.live == nil || s.turn == "":
		if s.draw == nil {
			return 0
		}
		return s.draw()
	case kept == len(list):
		return s.live.Turn(s.turn)
	default:
		return s.live.Turn(s.turn + "\x00" + string(rune(mark)))
	}
}

// weight is a candidate's share; an excluded one takes none.
func weight(c *Candidate) int {
	if c.Excluded != Kept {
		return 0
	}
	return max(c.Deployment.Weight, 1)
}
