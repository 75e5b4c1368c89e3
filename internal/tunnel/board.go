package tunnel

import (
	"slices"
	"sync"

	"shareai/internal/catalog"
)

// Board is where the agent writes its state, and where its links read it. Board{} is ready; it is for many goroutines.
type Board struct {
	mu       sync.Mutex
	state    State
	models   uint64 // raised with every change of what is advertised; 0: nothing was said of it yet
	sequence uint64
	changed  chan struct{} // closed with the next change
}

// Update changes the state and tells all links. What f puts into the state must not be changed afterwards.
func (b *Board) Update(f func(*State)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	before := b.state.Advertised
	f(&b.state)
	if !sameAdvertised(&before, &b.state.Advertised) {
		b.models++
	}
	if b.changed != nil {
		close(b.changed)
		b.changed = nil
	}
}

// read returns the state with the number of its models and of this reading, and a channel that is closed with the next
// change.
func (b *Board) read() (state State, models, sequence uint64, changed <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.changed == nil {
		b.changed = make(chan struct{})
	}
	b.sequence++
	return b.state, b.models, b.sequence, b.changed
}

func sameAdvertised(a, b *catalog.Advertised) bool {
	return a.AgentVersion == b.AgentVersion && slices.Equal(a.Engines, b.Engines) &&
		slices.EqualFunc(a.Models, b.Models, func(x, y catalog.NodeModel) bool {
			return x.ID == y.ID && x.Name == y.Name && x.Engine == y.Engine && x.Context == y.Context &&
				slices.Equal(x.Capabilities, y.Capabilities)
		})
}
