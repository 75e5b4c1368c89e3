// Package clustertest is the conformance suite of cluster: what holds in one process and among many.
package clustertest

import (
	"context"
	"crypto/rand"
	"sync"
	"testing"
	"time"

	"shareai/internal/cluster"
)

// patience is how long a test waits for what must happen. What takes that long has failed.
const patience = 10 * time.Second

// RunSignals runs the suite. join returns the Signals of one more replica of a cluster; an
// implementation for a single process returns the same one each time.
func RunSignals(t *testing.T, join func(*testing.T) cluster.Signals) {
	for name, test := range map[string]func(*testing.T, cluster.Signals, cluster.Signals){
		"a signal reaches every subscriber":             testEverySubscriber,
		"a signal reaches its topic only":               testTopics,
		"signals that nobody has taken are one":         testCoalesce,
		"a subscription ends by its function":           testEnd,
		"a subscription ends with its context":          testContext,
		"publishing without a subscriber is no error":   testNobody,
		"everything may happen at the same time":        testConcurrent,
		"a canceled context does not wake other topics": testCanceledPublish,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, join(t), join(t))
		})
	}
}

// Await waits for a signal.
func Await(t *testing.T, wake <-chan struct{}) {
	t.Helper()
	select {
	case <-wake:
	case <-time.After(patience):
		t.Fatal("no signal came")
	}
}

func subscribe(t *testing.T, s cluster.Signals, topic string) (<-chan struct{}, func()) {
	t.Helper()
	wake, end, err := s.Subscribe(t.Context(), topic)
	if err != nil {
		t.Fatalf("subscribe: %v", err)
	}
	t.Cleanup(end)
	return wake, end
}

func publish(t *testing.T, s cluster.Signals, topic string) {
	t.Helper()
	if err := s.Publish(t.Context(), topic); err != nil {
		t.Fatalf("publish: %v", err)
	}
}

// none says that no signal has come. It is certain only after another signal, published later over the
// same replica, has arrived.
func none(t *testing.T, wake <-chan struct{}) {
	t.Helper()
	select {
	case <-wake:
		t.Error("a signal came that should not")
	default:
	}
}

func newTopic() string { return "test." + rand.Text() }

func testEverySubscriber(t *testing.T, here, there cluster.Signals) {
	topic := newTopic()
	a, _ := subscribe(t, here, topic)
	b, _ := subscribe(t, here, topic)
	c, _ := subscribe(t, there, topic)
	for _, from := range []cluster.Signals{here, there, here} {
		publish(t, from, topic)
		Await(t, a)
		Await(t, b)
		Await(t, c)
	}
}

func testTopics(t *testing.T, here, there cluster.Signals) {
	topic, other := newTopic(), newTopic()
	wake, _ := subscribe(t, there, topic)
	longer, _ := subscribe(t, there, topic+".x")
	otherWake, _ := subscribe(t, there, other)
	publish(t, here, other)
	Await(t, otherWake)
	none(t, wake)
	publish(t, here, topic)
	Await(t, wake)
	publish(t, here, other)
	Await(t, otherWake)
	none(t, longer)
}

func testCoalesce(t *testing.T, here, there cluster.Signals) {
	topic, last := newTopic(), newTopic()
	wake, _ := subscribe(t, there, topic)
	end, _ := subscribe(t, there, last)
	for range 100 {
		publish(t, here, topic) // nobody takes them, and nobody waits
	}
	publish(t, here, last)
	Await(t, end)
	Await(t, wake)
	none(t, wake)
}

func testEnd(t *testing.T, here, there cluster.Signals) {
	topic := newTopic()
	ended, end := subscribe(t, there, topic)
	stays, _ := subscribe(t, there, topic)
	end()
	end()
	publish(t, here, topic)
	Await(t, stays)
	none(t, ended)
}

func testContext(t *testing.T, here, there cluster.Signals) {
	topic := newTopic()
	ctx, cancel := context.WithCancel(t.Context())
	ended, end, err := there.Subscribe(ctx, topic)
	if err != nil {
		t.Fatal(err)
	}
	defer end()
	stays, _ := subscribe(t, there, topic)
	cancel()
	// The end of a context is noticed in the background, so that a few signals may still come.
	for deadline := time.Now().Add(patience); ; {
		publish(t, here, topic)
		Await(t, stays)
		select {
		case <-ended:
			if time.Now().After(deadline) {
				t.Fatal("the subscription goes on")
			}
		default:
			return
		}
	}
}

func testNobody(t *testing.T, here, _ cluster.Signals) { publish(t, here, newTopic()) }

func testConcurrent(t *testing.T, here, there cluster.Signals) {
	topic := newTopic()
	var group sync.WaitGroup
	for _, s := range []cluster.Signals{here, there} {
		for range 8 {
			group.Go(func() {
				wake, end, err := s.Subscribe(t.Context(), topic)
				if err != nil {
					t.Errorf("subscribe: %v", err)
					return
				}
				defer end()
				if err := s.Publish(t.Context(), topic); err != nil {
					t.Errorf("publish: %v", err)
				}
				select {
				case <-wake:
				case <-time.After(patience):
					t.Error("no signal came")
				}
			})
		}
	}
	group.Wait()
}

func testCanceledPublish(t *testing.T, here, there cluster.Signals) {
	topic, other := newTopic(), newTopic()
	wake, _ := subscribe(t, there, topic)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_ = here.Publish(ctx, other) // whether it fails is up to the implementation
	publish(t, here, topic)
	Await(t, wake)
	none(t, wake)
}
