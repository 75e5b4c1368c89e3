//go:build linux

package main

import (
	"fmt"
	"time"

	"shareai/bench/internal/load"
)

// scenario is one kind of work, the same for every target.
type scenario struct {
	Name     string
	Title    string
	Mode     load.Mode
	Body     int           // bytes of the request body
	Conns    int           // connections; in an open loop the most requests under way
	Rate     float64       // requests per second of an open loop; 0 is a closed loop
	Count    int           // requests; 0 is no end but Duration
	Duration time.Duration // of one measurement
	Ramp     time.Duration // over which the connections begin
	Warmup   int           // requests to each target before its first round
	Rounds   int
	Chunks   int           // content chunks of a stream
	Gap      time.Duration // between them; chunks are stamped when there is one
	Latency  time.Duration // of the upstream
	Unit     unit          // what the CPU time is divided by
	Fresh    bool          // targets are started anew for each measurement, so that memory can be told
	Columns  []column      // of the table, after the CPU time and its ratios
}

// unit is what a target's CPU time is divided by.
type unit string

const (
	perRequest unit = "request"
	perChunk   unit = "chunk"
)

// shortForm takes less than four minutes with all four targets.
func shortForm() []scenario {
	const closed = 1500 * time.Millisecond
	throughput := []column{requestRate, latency50, latency99, peakMemory}
	return []scenario{
		{
			Name: "A", Title: "unary, 300 B body, closed loop of 64",
			Mode: load.Unary, Body: 300, Conns: 64, Duration: closed, Warmup: 1500, Rounds: 3, Unit: perRequest,
			Columns: throughput,
		},
		{
			Name: "B", Title: "unary, 10 KB body, closed loop of 64",
			Mode: load.Unary, Body: 10_000, Conns: 64, Duration: closed, Warmup: 500, Rounds: 3, Unit: perRequest,
			Columns: throughput,
		},
		{
			Name: "C", Title: "unary, 100 KB body, closed loop of 64",
			Mode: load.Unary, Body: 100_000, Conns: 64, Duration: closed, Warmup: 200, Rounds: 2, Unit: perRequest,
			Columns: throughput,
		},
		{
			Name: "D", Title: "streams of 100 chunks without a pause, closed loop of 64",
			Mode: load.Stream, Body: 300, Conns: 64, Duration: closed, Warmup: 100, Rounds: 3, Unit: perChunk,
			Chunks:  100,
			Columns: []column{chunkRate, first50, first99, peakMemory},
		},
		{
			Name: "E", Title: "2,000 slow streams at once, a chunk every 50 ms",
			Mode: load.Stream, Body: 300, Conns: 2000, Count: 2000, Duration: 30 * time.Second, Ramp: 1500 * time.Millisecond, Rounds: 2, Unit: perChunk,
			Chunks: 60, Gap: 50 * time.Millisecond, Fresh: true,
			Columns: []column{lag50, lag99, memoryPerStream, peakMemory},
		},
		{
			Name: "F", Title: "unary, 300 B body, 500 requests per second, upstream latency 50 ms",
			Mode: load.Unary, Body: 300, Conns: 300, Rate: 500, Duration: 3 * time.Second, Warmup: 300, Rounds: 2, Unit: perRequest,
			Latency: 50 * time.Millisecond,
			Columns: []column{latency50, latency99, added50, added99},
		},
	}
}

// longForm is for figures to be published.
func longForm() []scenario {
	all := shortForm()
	for i := range all {
		sc := &all[i]
		sc.Rounds = 5
		switch sc.Name {
		case "E":
			sc.Rounds, sc.Chunks, sc.Ramp = 3, 100, 2*time.Second
		case "F":
			sc.Duration = 6 * time.Second
		default:
			sc.Duration = 3 * time.Second
		}
	}
	return all
}

func scenarioNames(all []scenario) []string {
	names := make([]string, len(all))
	for i, sc := range all {
		names[i] = sc.Name
	}
	return names
}

// upstream is the query that sets the mock for this scenario.
func (sc scenario) upstream() string {
	return fmt.Sprintf("chunks=%d&gap=%v&stamp=%v&latency=%v", max(sc.Chunks, 1), sc.Gap, sc.Gap > 0, sc.Latency)
}

// load is the measured work on the target at address.
func (sc scenario) load(address string) load.Options {
	return load.Options{
		URL:      "http://" + address + "/v1/chat/completions",
		Body:     load.ChatBody(model, sc.Body, sc.Mode),
		Conns:    sc.Conns,
		Rate:     sc.Rate,
		Count:    sc.Count,
		Duration: sc.Duration,
		Ramp:     sc.Ramp,
		Timeout:  30 * time.Second,
		Chunks:   sc.Chunks,
	}
}

// warmup is the same work, some requests of it, as fast as they go.
func (sc scenario) warmup(address string) load.Options {
	o := sc.load(address)
	o.Rate, o.Ramp, o.Count, o.Conns, o.Duration = 0, 0, sc.Warmup, min(sc.Conns, 64), 20*time.Second
	return o
}
