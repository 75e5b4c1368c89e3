package hist

import (
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestBucketsAreContiguousAndFit(t *testing.T) {
	last := -1
	for ns := range uint64(1 << 16) {
		i := bucket(ns)
		if i != last && i != last+1 {
			t.Fatalf("bucket(%d) = %d after %d", ns, i, last)
		}
		last = i
	}
	if got := bucket(math.MaxUint64); got != buckets-1 {
		t.Errorf("the largest value falls in bucket %d of %d", got, buckets)
	}
}

func TestMiddleIsNearEveryValueOfItsBucket(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ns := rapid.Uint64().Draw(t, "ns")
		if off := math.Abs(float64(middle(bucket(ns))) - float64(ns)); off > 0.002*float64(ns) {
			t.Errorf("%d is shown as %d", ns, middle(bucket(ns)))
		}
	})
}

func TestQuantilesFollowTheSortedValues(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.Int64Range(0, int64(time.Hour)), 1, 200).Draw(t, "values")
		var h Hist
		for _, v := range values {
			h.Add(time.Duration(v))
		}
		slices.Sort(values)
		for _, q := range []float64{0, 0.5, 0.9, 0.99, 1} {
			rank := max(int(math.Ceil(q*float64(len(values)))), 1)
			want := float64(values[rank-1])
			if got := float64(h.Quantile(q)); math.Abs(got-want) > 0.002*want {
				t.Errorf("quantile %v of %v = %v, want about %v", q, values, got, want)
			}
		}
		if got := int64(h.Max()); got != values[len(values)-1] {
			t.Errorf("Max = %d, want %d", got, values[len(values)-1])
		}
	})
}

func TestEmptyAndNegative(t *testing.T) {
	var h Hist
	if h.Quantile(0.5) != 0 || h.Max() != 0 || h.N() != 0 {
		t.Error("an empty histogram reports something")
	}
	h.Add(-time.Second)
	if h.Quantile(1) != 0 || h.N() != 1 {
		t.Error("a negative duration must count as zero")
	}
}

func TestManyWriters(t *testing.T) {
	var h Hist
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 1000 {
				h.Add(time.Duration(i))
			}
		})
	}
	wg.Wait()
	if h.N() != 8000 || h.Max() != 999 || h.Quantile(0.5) != 499 {
		t.Errorf("n %d max %d median %d", h.N(), h.Max(), h.Quantile(0.5))
	}
}
