package app

import (
	"runtime"
	"testing"
	"time"
)

func TestTheHeapHasRoomAndNoMore(t *testing.T) {
	for live, want := range map[uint64]int{
		0:        1000,
		1 << 20:  1000, // bounded: a tiny heap need not wait for the floor
		16 << 20: 300,  // up to the floor
		32 << 20: 100,  // Go's own rule
		4 << 30:  100,  // and never less than that
	} {
		if got := gcPercent(live); got != want {
			t.Errorf("%d MiB alive: %d %%, want %d %%", live>>20, got, want)
		}
	}
}

func TestAfterEachCollection(t *testing.T) {
	collected := make(chan struct{}, 1)
	afterCollection(func() {
		select {
		case collected <- struct{}{}:
		default:
		}
	})
	for range 2 {
		// The next sentinel is set after f was called: a collection may come before it, and only the one after it tells.
		for tries := 0; ; tries++ {
			runtime.GC()
			select {
			case <-collected:
			case <-time.After(100 * time.Millisecond):
				if tries < 100 {
					continue
				}
				t.Fatal("a collection went unnoticed")
			}
			break
		}
	}
}
