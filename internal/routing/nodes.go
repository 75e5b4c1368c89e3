package routing

import (
	"cmp"
	"slices"
)

// Links are a view of the nodes.
type Links interface {
	// Link tells of a node by its id.
	Link(node string) Link
}

// Link is how a node is doing at a moment. It is a hint: the node itself decides what it takes.
type Link struct {
	Up      bool // connected to this replica or another
	Resting bool // connected, and not serving: its owner works on the machine, or it is about to leave
	// Capacity is how many requests it serves at once, Load how many it has; they say nothing where Capacity is 0.
	Capacity, Load int64
	// Reliability is the share of requests of other organizations that it served lately, 0 to 1.
	Reliability float64
}

// full says whether another request would have to wait.
func (l Link) full() bool { return l.Capacity > 0 && l.Load >= l.Capacity }

// share is how much of the node is in use, 0 to 1 and more.
func (l Link) share() float64 {
	if l.Capacity == 0 {
		return 0
	}
	return float64(l.Load) / float64(l.Capacity)
}

// links tells of a node; one of which nothing is known is away.
func (p *planner) links(node string) Link {
	if p.ask.Links == nil {
		return Link{}
	}
	return p.ask.Links.Link(node)
}

// balance orders the nodes among a model's deployments, each in the place of a node: where the strategy finds them equal,
// they stay so.
func (p *planner) balance(list []Candidate) {
	var room, more [16]int
	own, shared := room[:0], more[:0]
	for i := range list {
		switch p := list[i].Provider; {
		case p.Node == "" || list[i].Excluded != Kept:
		case p.Community == "":
			own = append(own, i)
		default:
			shared = append(shared, i)
		}
	}
	if len(own) > 1 {
		p.spread(list, own)
	}
	if len(shared) > 1 {
		p.place(list, shared)
	}
}

// spread orders the organization's own nodes, which are at some places of a list, by load. The better of two that are
// drawn goes first (the power of two choices): if it were the least loaded of all, every replica would send everything
// there until the node's next word.
func (p *planner) spread(list []Candidate, at []int) {
	load := make(map[string]float64, len(at))
	nodes := make([]Candidate, 0, len(at))
	for _, i := range at {
		nodes = append(nodes, list[i])
		load[list[i].Provider.Node] = p.links(list[i].Provider.Node).share()
	}
	byLoad := func(a, b Candidate) int { return cmp.Compare(load[a.Provider.Node], load[b.Provider.Node]) }
	slices.SortStableFunc(nodes, byLoad)
	if p.ask.Draw != nil {
		one, other := p.drawn(len(nodes)), p.drawn(len(nodes)-1)
		if other >= one {
			other++
		}
		bring(nodes, min(one, other)) // they are sorted: the one before has less to do
	}
	for n, i := range at {
		list[i] = nodes[n]
	}
}

// drawn is a random number from 0 to n-1.
func (p *planner) drawn(n int) int { return min(int(p.ask.Draw()*float64(n)), n-1) }

// spare puts nodes that are full behind everybody who is not: they would say so, and the time would be lost.
func (p *planner) spare(list []Candidate) {
	full := func(c *Candidate) bool {
		return c.Provider.Node != "" && c.Excluded == Kept && p.links(c.Provider.Node).full()
	}
	for i := range list {
		if full(&list[i]) {
			slices.SortStableFunc(list, func(a, b Candidate) int { return cmp.Compare(rank(full(&a)), rank(full(&b))) })
			return
		}
	}
}

func rank(last bool) int {
	if last {
		return 1
	}
	return 0
}
