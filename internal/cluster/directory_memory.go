package cluster

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"
)

// MemoryDirectory is the directory of a single process, or of several replicas within one. The zero value is ready.
type MemoryDirectory struct {
	subscribers subscribers

	mu      sync.Mutex
	entries map[entryKey]memoryEntry
}

type entryKey struct{ node, replica string }

type memoryEntry struct {
	presence Presence
	until    time.Time
}

func byNodeAndReplica(a, b Presence) int {
	return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Replica, b.Replica))
}

// Announce implements Directory. It never fails.
func (d *MemoryDirectory) Announce(_ context.Context, p Presence, lease time.Duration) error {
	key := entryKey{p.Node, p.Replica}
	d.mu.Lock()
	d.drop(time.Now())
	before, known := d.entries[key]
	if d.entries == nil {
		d.entries = map[entryKey]memoryEntry{}
	}
	d.entries[key] = memoryEntry{p, time.Now().Add(lease)}
	d.mu.Unlock()
	if !known || before.presence.Revision != p.Revision {
		d.subscribers.wakeAll()
	}
	return nil
}

// Withdraw implements Directory. It never fails.
func (d *MemoryDirectory) Withdraw(_ context.Context, node, replica string) error {
	key := entryKey{node, replica}
	d.mu.Lock()
	_, known := d.entries[key]
	delete(d.entries, key)
	d.mu.Unlock()
	if known {
		d.subscribers.wakeAll()
	}
	return nil
}

// Lookup implements Directory. It never fails.
func (d *MemoryDirectory) Lookup(ctx context.Context, node string) ([]Presence, error) {
	all, err := d.List(ctx)
	return slices.DeleteFunc(all, func(p Presence) bool { return p.Node != node }), err
}

// List implements Directory. It never fails.
func (d *MemoryDirectory) List(context.Context) ([]Presence, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.drop(time.Now())
	all := make([]Presence, 0, len(d.entries))
	for _, e := range d.entries {
		all = append(all, e.presence)
	}
	slices.SortFunc(all, byNodeAndReplica)
	return all, nil
}

// drop removes the entries whose lease has ended. The caller holds the lock.
func (d *MemoryDirectory) drop(now time.Time) {
	maps.DeleteFunc(d.entries, func(_ entryKey, e memoryEntry) bool { return !now.Before(e.until) })
}

// Watch implements Directory. It never fails.
func (d *MemoryDirectory) Watch(ctx context.Context) (<-chan struct{}, func(), error) {
	wake, end := d.subscribers.add(ctx, TopicDirectory)
	return wake, end, nil
}

// MemoryOnce tells first uses within a single process. The zero value is ready.
type MemoryOnce struct {
	mu    sync.Mutex
	used  map[string]time.Time // until when
	sweep time.Time            // when what has ended is next removed
}

// First implements Once. It never fails.
func (m *MemoryOnce) First(_ context.Context, name string, keep time.Duration) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if m.used == nil {
		m.used = map[string]time.Time{}
	}
	// Removing all that has ended costs a walk over everything: once in a while, not with every call.
	if !now.Before(m.sweep) {
		maps.DeleteFunc(m.used, func(_ string, until time.Time) bool { return !now.Before(until) })
		m.sweep = now.Add(keep)
	}
	if until, known := m.used[name]; known && now.Before(until) {
		return false, nil
	}
	m.used[name] = now.Add(keep)
	return true, nil
}
