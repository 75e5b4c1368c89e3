// Package hist counts durations in a histogram of fixed size.
package hist

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

// precision is the number of steps per power of two, as a power of two: 256
// steps keep every quantile within 0.2 % of the true value.
const (
	precision = 8
	buckets   = (64 - precision + 1) << precision
)

// Hist counts durations, from many goroutines at once. The zero value is empty
// and ready; a Hist must not be copied. It takes about 114 KiB.
type Hist struct {
	counts [buckets]atomic.Uint64
	n      atomic.Uint64
	max    atomic.Uint64
}

// bucket keeps the leading precision+1 bits of ns: below 2<<precision a bucket
// holds one value, and twice as many with every further power of two.
func bucket(ns uint64) int {
	shift := max(bits.Len64(ns)-precision-1, 0)
	return shift<<precision + int(ns>>shift)
}

// middle is the value that stands for all values of bucket i.
func middle(i int) uint64 {
	if i < 2<<precision {
		return uint64(i)
	}
	shift := i>>precision - 1
	return uint64(i-shift<<precision)<<shift + 1<<shift/2
}

// Add counts d; a negative d counts as zero.
func (h *Hist) Add(d time.Duration) {
	ns := uint64(max(d, 0))
	h.counts[bucket(ns)].Add(1)
	h.n.Add(1)
	for {
		old := h.max.Load()
		if ns <= old || h.max.CompareAndSwap(old, ns) {
			return
		}
	}
}

// N is how many durations were counted.
func (h *Hist) N() uint64 { return h.n.Load() }

// Max is the longest duration counted, exactly.
func (h *Hist) Max() time.Duration { return time.Duration(h.max.Load()) }

// Quantile is the shortest duration that at least the share q (0 to 1) of the
// counted ones do not exceed; 0 when nothing was counted.
func (h *Hist) Quantile(q float64) time.Duration {
	n := h.n.Load()
	rank := max(uint64(math.Ceil(q*float64(n))), 1)
	var seen uint64
	for i := range h.counts {
		seen += h.counts[i].Load()
		if seen >= rank {
			return min(time.Duration(middle(i)), h.Max())
		}
	}
	return h.Max()
}
