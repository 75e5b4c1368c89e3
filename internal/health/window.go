package health

import "time"

// window counts what happened in the last ten seconds, a bucket for each second. The zero value is empty.
type window struct{ buckets [windowSeconds]bucket }

const windowSeconds = 10

type bucket struct {
	second int64 // of the board's clock
	tally
}

// tally counts requests. Slow ones are successes too.
type tally struct{ succeeded, slow, failed uint32 }

// at is the bucket of the present second, emptied of what stood there ten seconds ago.
func (w *window) at(now moment) *bucket {
	second := int64(now / time.Second)
	b := &w.buckets[second%windowSeconds]
	if b.second != second {
		*b = bucket{second: second}
	}
	return b
}

// sum counts the whole window.
func (w *window) sum(now moment) tally {
	var sum tally
	oldest := int64(now/time.Second) - windowSeconds
	for i := range w.buckets {
		if b := &w.buckets[i]; b.second > oldest {
			sum.succeeded += b.succeeded
			sum.slow += b.slow
			sum.failed += b.failed
		}
	}
	return sum
}

// The thresholds of a window; doc.go says why.
const (
	fewestRequests  = 10
	fewestSuccesses = 20
)

// failing says whether half of the requests failed.
func (t tally) failing() bool {
	return t.succeeded+t.failed >= fewestRequests && t.failed >= t.succeeded
}

// slowing says whether four of five successes were slow.
func (t tally) slowing() bool {
	return t.succeeded >= fewestSuccesses && 5*t.slow >= 4*t.succeeded
}

// rate is the share of successes; 1 when nothing happened.
func (t tally) rate() float64 {
	all := t.succeeded + t.failed
	if all == 0 {
		return 1
	}
	return float64(t.succeeded) / float64(all)
}
