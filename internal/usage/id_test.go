package usage

import (
	"math/big"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

func TestIDsSortByTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shape := regexp.MustCompile(`^req_[0-9a-hjkmnp-tv-z]{26}$`)
		var ids []string
		for range 300 {
			id := NewID()
			if !shape.MatchString(id) {
				t.Fatalf("%q has the wrong form", id)
			}
			ids = append(ids, id)
			time.Sleep(time.Millisecond) // the bubble's clock
		}
		if !slices.IsSorted(ids) {
			t.Error("ids of later milliseconds do not sort behind earlier ones")
		}
	})
}

func TestIDsAreUniqueUnderConcurrency(t *testing.T) {
	const workers, each = 8, 5000
	var wg sync.WaitGroup
	lists := make([][]string, workers)
	for w := range workers {
		wg.Go(func() {
			for range each {
				lists[w] = append(lists[w], NewID())
			}
		})
	}
	wg.Wait()
	seen := map[string]bool{}
	for _, id := range slices.Concat(lists...) {
		if seen[id] {
			t.Fatalf("%s twice", id)
		}
		seen[id] = true
	}
}

// The digits are the 128 bits as one number in base 32.
func TestIDDigits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		hi, lo := rapid.Uint64().Draw(t, "hi"), rapid.Uint64().Draw(t, "lo")
		want := ""
		value := new(big.Int).Or(new(big.Int).Lsh(new(big.Int).SetUint64(hi), 64), new(big.Int).SetUint64(lo))
		for range 26 {
			digit := new(big.Int)
			value.DivMod(value, big.NewInt(32), digit)
			want = string(idDigits[digit.Int64()]) + want
		}
		if got := strings.TrimPrefix(formatID(hi, lo), idPrefix); got != want {
			t.Fatalf("%s, want %s", got, want)
		}
	})
}

func BenchmarkNewID(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		NewID()
	}
}

func BenchmarkNewIDParallel(b *testing.B) {
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			NewID()
		}
	})
}
