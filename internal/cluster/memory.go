package cluster

import (
	"context"
	"sync"
)

// subscribers are the channels of one process that wait for topics.
type subscribers struct {
	mu     sync.Mutex
	topics map[string]map[chan struct{}]struct{}
}

// add returns a new channel for a topic. It is dropped when ctx ends or the returned function is called,
// which may happen more than once.
func (s *subscribers) add(ctx context.Context, topic string) (<-chan struct{}, func()) {
	wake := make(chan struct{}, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.topics == nil {
		s.topics = make(map[string]map[chan struct{}]struct{})
	}
	if s.topics[topic] == nil {
		s.topics[topic] = make(map[chan struct{}]struct{})
	}
	s.topics[topic][wake] = struct{}{}
	drop := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.topics[topic], wake)
		if len(s.topics[topic]) == 0 {
			delete(s.topics, topic)
		}
	}
	detach := context.AfterFunc(ctx, drop)
	return wake, func() { detach(); drop() }
}

// wake signals everyone who waits for a topic.
func (s *subscribers) wake(topic string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	signal(s.topics[topic])
}

// wakeAll signals everyone.
func (s *subscribers) wakeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, waiting := range s.topics {
		signal(waiting)
	}
}

// signal fills the channels. One that is full belongs to somebody who has not looked since the last
// signal, and is going to look anyway.
func signal(waiting map[chan struct{}]struct{}) {
	for wake := range waiting {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
}

// Memory is the state of a single process. The zero value is ready.
type Memory struct{ subscribers subscribers }

// Publish implements Signals. It never fails.
func (m *Memory) Publish(_ context.Context, topic string) error {
	m.subscribers.wake(topic)
	return nil
}

// Subscribe implements Signals. It never fails.
func (m *Memory) Subscribe(ctx context.Context, topic string) (<-chan struct{}, func(), error) {
	wake, end := m.subscribers.add(ctx, topic)
	return wake, end, nil
}
