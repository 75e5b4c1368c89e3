package routing

import (
	"cmp"
	"slices"

	"shareai/internal/catalog"
)

// strategy orders the deployments of one model, most wanted first.
type strategy interface {
	sort(list []Candidate, policy *catalog.Policy, ask Ask)
}

// sorter finds the strategy behind a policy's word for it. Compiling has checked the word.
func sorter(name catalog.Strategy) strategy {
	switch name {
	case catalog.Cheapest:
		return cheapest{}
	case catalog.Weighted:
		return weighted{}
	default:
		return ordered{}
	}
}

// ordered follows the policy's list of providers; who is not on it comes after, as declared.
type ordered struct{}

func (ordered) sort(list []Candidate, policy *catalog.Policy, _ Ask) {
	byRank(list, policy.Order)
}

func byRank(list []Candidate, order []string) {
	if len(order) == 0 || len(list) < 2 {
		return
	}
	rank := func(c Candidate) int {
		if i := slices.Index(order, c.Provider.Name); i >= 0 {
			return i
		}
		return len(order)
	}
	slices.SortStableFunc(list, func(a, b Candidate) int { return cmp.Compare(rank(a), rank(b)) })
}

// cheapest orders by what this request's tokens would cost; equals stay as declared.
type cheapest struct{}

func (cheapest) sort(list []Candidate, _ *catalog.Policy, ask Ask) {
	tokens := estimate(ask.Request)
	slices.SortStableFunc(list, func(a, b Candidate) int {
		return cmp.Compare(a.Deployment.Price.Cost(tokens), b.Deployment.Price.Cost(tokens))
	})
}

// weighted draws the first deployment by weight, then the second among the rest, and so on: shares of
// traffic hold for the primary and for whoever takes over from it.
type weighted struct{}

func (weighted) sort(list []Candidate, _ *catalog.Policy, ask Ask) {
	total := 0
	for i := range list {
		total += weight(&list[i])
	}
	for i := range list {
		drawn := ask.Draw() * float64(total)
		for j := i; j < len(list); j++ {
			w := weight(&list[j])
			if drawn -= float64(w); drawn < 0 || j == len(list)-1 {
				chosen := list[j]
				copy(list[i+1:j+1], list[i:j])
				list[i] = chosen
				total -= w
				break
			}
		}
	}
}

// weight is a candidate's share; an excluded one takes none.
func weight(c *Candidate) int {
	if c.Excluded != Kept {
		return 0
	}
	return max(c.Deployment.Weight, 1)
}
