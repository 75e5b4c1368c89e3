//go:build linux

package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"shareai/bench/internal/load"
	"shareai/bench/internal/procstat"
)

const (
	settleLimit = 3 * time.Second        // how long a target's work after the last answer is waited for
	settleStep  = 100 * time.Millisecond // how often it is looked at...
	settleCPU   = 10 * time.Millisecond  // ...and more than this in a step is work

	quietEnough = 0.20 // the share of the machine that other processes may take
	quietSample = 200 * time.Millisecond
)

// sample is one measurement: one target in one round of one scenario. Times of
// answers are in milliseconds, CPU times in microseconds.
type sample struct {
	Scenario    string            `json:"scenario"`
	Target      string            `json:"target"`
	Round       int               `json:"round"`
	Sent        uint64            `json:"requests_sent"`
	OK          uint64            `json:"requests_ok"`
	Failed      map[string]uint64 `json:"requests_failed,omitempty"`
	Chunks      uint64            `json:"chunks"`
	Wall        float64           `json:"wall_s"`
	CPU         float64           `json:"cpu_us"`
	UpstreamCPU float64           `json:"upstream_cpu_us"`
	LoadCPU     float64           `json:"load_cpu_us"`
	Latency50   float64           `json:"latency_p50_ms"`
	Latency99   float64           `json:"latency_p99_ms"`
	First50     float64           `json:"first_chunk_p50_ms"`
	First99     float64           `json:"first_chunk_p99_ms"`
	Lag50       float64           `json:"chunk_lag_p50_ms"`
	Lag99       float64           `json:"chunk_lag_p99_ms"`
	RSSBefore   int64             `json:"rss_before_bytes"`
	RSSPeak     int64             `json:"rss_peak_bytes"`
	Outside     float64           `json:"outside_share"` // of the machine, taken by processes that are no part of the measurement
}

// scenario measures every target in turn, round after round.
func (b *bench) scenario(ctx context.Context, sc scenario) (result, error) {
	r := result{scenario: sc}
	if err := b.setUpstream(ctx, sc); err != nil {
		return r, err
	}
	for round := 1; round <= sc.Rounds; round++ {
		for _, c := range b.contenders {
			s, err := b.measure(ctx, sc, c, round)
			if err != nil {
				return r, fmt.Errorf("scenario %s, %s: %w", sc.Name, c.Name, err)
			}
			log.Printf("%s %d/%d %-8s %8.0f req/s %8.1f CPU us/%s  p50 %.2f p99 %.2f ms  outside %.0f %%",
				sc.Name, round, sc.Rounds, c.Name, s.requestRate(), s.cost(sc.Unit), sc.Unit, s.Latency50, s.Latency99, 100*s.Outside)
			r.samples = append(r.samples, s)
		}
	}
	return r, nil
}

func (b *bench) measure(ctx context.Context, sc scenario, c *contender, round int) (sample, error) {
	if sc.Fresh {
		if err := b.restart(ctx, c); err != nil {
			return sample{}, err
		}
	}
	if round == 1 && sc.Warmup > 0 {
		if err := b.warm(ctx, sc, c); err != nil {
			return sample{}, err
		}
	}
	if err := b.awaitQuiet(ctx); err != nil {
		return sample{}, err
	}
	pids := c.pids()
	if err := procstat.ResetPeak(pids...); err != nil {
		return sample{}, err
	}
	s := sample{Scenario: sc.Name, Target: c.Name, Round: round, RSSBefore: procstat.RSS(pids...)}
	before, err := b.read(c)
	if err != nil {
		return s, err
	}
	r, err := b.send(ctx, c, sc.load(c.spec.Address))
	if err != nil {
		return s, err
	}
	after, err := b.read(c)
	if err != nil {
		return s, err
	}
	s.CPU = micros(c.settle(ctx) - before.target)
	s.RSSPeak = procstat.PeakRSS(c.pids()...)
	s.take(r)
	s.UpstreamCPU, s.LoadCPU = micros(after.upstream-before.upstream), micros(after.load-before.load)
	s.Outside = after.outside(before)
	if err := context.Cause(ctx); err != nil {
		return s, err
	}
	if c.process != nil && !c.process.Alive() {
		return s, fmt.Errorf("the target ended under load; -keep leaves its log in %s", b.logFile(c))
	}
	return s, nil
}

// warm lets the target open its connections and grow its buffers.
func (b *bench) warm(ctx context.Context, sc scenario, c *contender) error {
	r, err := b.send(ctx, c, sc.warmup(c.spec.Address))
	if err != nil {
		return err
	}
	if r.OK == 0 {
		return fmt.Errorf("no request of the warm-up was answered well: %s", r.FailedText())
	}
	return nil
}

// send runs the load and counts it for the contender: every request of the whole
// comparison passes here.
func (b *bench) send(ctx context.Context, c *contender, o load.Options) (*load.Result, error) {
	o.Header = c.spec.Header
	r, err := load.Run(ctx, o)
	if err != nil {
		return nil, err
	}
	c.Sent += r.Sent
	c.Answered += r.Answered
	return r, nil
}

// reading is the CPU time of everybody at one moment.
type reading struct {
	machine                procstat.Machine
	target, upstream, load time.Duration
}

func (b *bench) read(c *contender) (reading, error) {
	machine, err := procstat.ReadMachine()
	return reading{
		machine:  machine,
		target:   procstat.CPU(c.pids()...),
		upstream: procstat.CPU(b.upstream.pids()...),
		load:     procstat.CPU(os.Getpid()),
	}, err
}

// outside is the share of the machine that others took since an earlier reading.
func (r reading) outside(earlier reading) float64 {
	machine := r.machine.Since(earlier.machine)
	ours := r.target + r.upstream + r.load - earlier.target - earlier.upstream - earlier.load
	return max(float64(machine.Busy-ours), 0) / float64(max(machine.Total(), 1))
}

// settle waits until the target has done what its answers left to do, such as
// writing records, and returns the CPU time it has used since its start.
func (c *contender) settle(ctx context.Context) time.Duration {
	used := procstat.CPU(c.pids()...)
	end := time.Now().Add(settleLimit)
	for calmSince := time.Now(); time.Since(calmSince) < c.spec.Settle && time.Now().Before(end) && ctx.Err() == nil; {
		time.Sleep(settleStep)
		now := procstat.CPU(c.pids()...)
		if now-used > settleCPU {
			calmSince = time.Now()
		}
		used = now
	}
	return used
}

// awaitQuiet waits, while nothing is being sent, for other processes to leave the
// machine alone, as long as the patience of the whole run lasts.
func (b *bench) awaitQuiet(ctx context.Context) error {
	for b.patience > 0 && ctx.Err() == nil {
		before, err := procstat.ReadMachine()
		if err != nil {
			return err
		}
		time.Sleep(quietSample)
		after, err := procstat.ReadMachine()
		if err != nil {
			return err
		}
		if used := after.Since(before); float64(used.Busy) <= quietEnough*float64(used.Total()) {
			return nil
		}
		b.patience -= quietSample
	}
	return nil
}

func (s *sample) take(r *load.Result) {
	s.Sent, s.OK, s.Failed, s.Chunks = r.Sent, r.OK, r.Failed, r.Chunks
	s.Wall = r.Wall.Seconds()
	s.Latency50, s.Latency99 = millis(r.Latency.Quantile(0.5)), millis(r.Latency.Quantile(0.99))
	s.First50, s.First99 = millis(r.First.Quantile(0.5)), millis(r.First.Quantile(0.99))
	s.Lag50, s.Lag99 = millis(r.Lag.Quantile(0.5)), millis(r.Lag.Quantile(0.99))
}

// cost is the target's CPU time for each request, or chunk, in microseconds; 0 for
// a target that has no process.
func (s sample) cost(u unit) float64 {
	n := s.Sent
	if u == perChunk {
		n = s.Chunks
	}
	return s.CPU / float64(max(n, 1))
}

func (s sample) requestRate() float64 { return float64(s.OK) / s.Wall }

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
