package health

import (
	"math/bits"
	"time"
)

// Mode says what a latency is measured to. The two have nothing in common, and are kept apart.
type Mode int

// The modes.
const (
	FirstToken  Mode = iota // of a stream
	WholeAnswer             // of a unary request
)

// pace is what is known of how fast a deployment answers. The zero value knows nothing.
type pace struct {
	average float64 // nanoseconds
	count   int     // samples in the average, counted up to steady
	last    moment  // when the last sample came

	usual  time.Duration // the median when it was last found; 0: unknown
	renew  moment        // when the median is to be found again
	counts [latencyBuckets]uint32
	total  uint32
	halved moment
}

const (
	// averageOver is the time constant of the average. The weight of one sample is bounded on both sides: of
	// many at the same instant each says something, and after a pause a single one is not taken for all.
	averageOver  = 10 * time.Second
	leastWeight  = 0.02
	mostWeight   = 0.5
	steady       = 50 // the average of the first samples is the plain one
	forgetAfter  = 5 * time.Minute
	halveEvery   = 5 * time.Minute
	renewEvery   = time.Second
	fewestForP95 = 20

	slowFactor = 3
	slowFloor  = time.Second
)

// note adds a sample and says whether it is slow by what was usual before.
func (p *pace) note(now moment, latency time.Duration) (slow bool) {
	p.fade(now)
	if now >= p.renew {
		p.usual, p.renew = p.quantile(1, 2), now+renewEvery
	}
	p.mix(now, latency)
	p.counts[latencyBucket(latency)]++
	p.total++
	return p.usual > 0 && latency > max(slowFactor*p.usual, slowFloor)
}

// mix moves the average towards a sample, the further the longer there was none.
func (p *pace) mix(now moment, latency time.Duration) {
	if now-p.last > forgetAfter {
		p.average, p.count = 0, 0
	}
	since := float64(now - p.last)
	weight := min(max(since/(since+float64(averageOver)), leastWeight), mostWeight)
	if p.count < steady {
		p.count++
		weight = max(weight, 1/float64(p.count))
	}
	p.average += weight * (float64(latency) - p.average)
	p.last = now
}

// known is the average, unless it is too old.
func (p *pace) known(now moment) time.Duration {
	if p.count == 0 || now-p.last > forgetAfter {
		return 0
	}
	return time.Duration(p.average)
}

// p95 is the 95th percentile of the histogram; 0 when there are too few samples.
func (p *pace) p95(now moment) time.Duration {
	p.fade(now)
	return p.quantile(95, 100)
}

// fade halves the histogram for every five minutes that have passed.
func (p *pace) fade(now moment) {
	times := uint((now - p.halved) / halveEvery)
	if times == 0 {
		return
	}
	p.halved += moment(times) * halveEvery
	p.total = 0
	for i := range p.counts {
		p.counts[i] >>= times // 0 when that is more than there are bits
		p.total += p.counts[i]
	}
}

// quantile is the middle of the bucket below which of / outOf of the samples lie.
func (p *pace) quantile(of, outOf uint64) time.Duration {
	if p.total < fewestForP95 {
		return 0
	}
	rank := (uint64(p.total)*of + outOf - 1) / outOf
	below := uint64(0)
	for i := range p.counts {
		if below += uint64(p.counts[i]); below >= rank {
			return bucketMiddle(i)
		}
	}
	return 0
}

// The histogram counts in units of 2^16 ns (66 µs): one bucket for each of the first 16, then eight for each
// doubling, up to 2^24 of them (18 minutes).
const (
	latencyUnit    = 16 // bits
	latencyBits    = 24
	latencyBuckets = (latencyBits-4)*8 + 16
)

func latencyBucket(latency time.Duration) int {
	units := min(uint64(latency)>>latencyUnit, 1<<latencyBits-1)
	shift := max(bits.Len64(units)-4, 0)
	return shift*8 + int(units>>shift)
}

func bucketMiddle(i int) time.Duration {
	shift, first := 0, i
	if i >= 16 {
		shift = i/8 - 1
		first = i - shift*8
	}
	return time.Duration(2*first+1) << (latencyUnit + shift) / 2
}
