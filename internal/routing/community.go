package routing

import (
	"cmp"
	"slices"
)

// placed is a shared node with the weight that it is drawn by.
type placed struct {
	Candidate
	weight float64
}

// weight is how much a shared node is wanted: its reliability to the fourth power, times what is free of it. A node that
// serves 99 of 100 requests is wanted half as much again as one that serves 90, and 15 times as much as one that serves
// 50.
func (l Link) weight() float64 {
	square := l.Reliability * l.Reliability
	return square * square * max(0, 1-l.share())
}

// place orders nodes that other organizations share, which are at some places of a list: the first is drawn by weight, so
// that the better ones have more of the work and none of them all of it; the others follow by weight.
func (p *planner) place(list []Candidate, at []int) {
	nodes := make([]placed, 0, len(at))
	sum := 0.0
	for _, i := range at {
		node := placed{list[i], p.links(list[i].Provider.Node).weight()}
		sum += node.weight
		nodes = append(nodes, node)
	}
	slices.SortStableFunc(nodes, func(a, b placed) int { return cmp.Compare(b.weight, a.weight) })
	first := 0
	if p.ask.Draw != nil {
		for drawn := p.ask.Draw() * sum; first < len(nodes)-1 && drawn >= nodes[first].weight; first++ {
			drawn -= nodes[first].weight
		}
	}
	if sum == 0 {
		first = 0
	}
	chosen := nodes[first]
	copy(nodes[1:first+1], nodes[:first])
	nodes[0] = chosen
	for n, i := range at {
		list[i] = nodes[n].Candidate
	}
}
