// Package load sends chat completions to one loopback target and measures the
// answers: how many, how fast, and what went wrong.
//
// Requests are rendered once and written to kept-alive connections as they are, so
// that the generator leaves as much of the machine as it can to what it measures.
package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"shareai/bench/internal/hist"
)

// Options is one run. It ends after Count requests or after Duration, whichever
// comes first; requests under way then are still answered.
type Options struct {
	URL      string        // where to POST; http:// on a loopback address
	Header   http.Header   // besides Host, Content-Type and Content-Length
	Body     []byte        // see ChatBody
	Conns    int           // closed loop: connections, each sending when it has its answer; open loop: the most under way
	Rate     float64       // open loop: requests per second, whatever the answers do; 0 is a closed loop
	Count    int           // 0 is no end but Duration
	Duration time.Duration // required
	Ramp     time.Duration // connections begin spread over this time; 0 is all at once
	Timeout  time.Duration // for one request; required
	Chunks   int           // a stream with fewer content chunks has failed; 0 expects a unary answer
}

// Result is what a run measured. Latency runs from the moment of sending, or from
// the moment at which an open loop should have sent, to the end of a good answer:
// a target that stalls can not hide the queue before it.
type Result struct {
	Wall     time.Duration
	Sent     uint64
	Answered uint64            // complete answers, whatever their status
	OK       uint64            // complete, with status 200 and all that was expected in them
	Chunks   uint64            // events of streams, [DONE] aside
	Failed   map[string]uint64 // by kind, such as "status 502" or "body timeout"
	Latency  hist.Hist
	First    hist.Hist // streams: until the first event
	Lag      hist.Hist // streams of stamped chunks: from the upstream's sending to the arrival here
}

// Failures is the number of requests that failed, of any kind.
func (r *Result) Failures() (n uint64) {
	for _, count := range r.Failed {
		n += count
	}
	return n
}

// FailedText lists the kinds of failures with their counts; "" when there are none.
func (r *Result) FailedText() string {
	var kinds []string
	for _, kind := range slices.Sorted(maps.Keys(r.Failed)) {
		kinds = append(kinds, fmt.Sprintf("%d × %s", r.Failed[kind], kind))
	}
	return strings.Join(kinds, ", ")
}

// Run sends the load and waits for its end. A cancelled context breaks off what is
// under way; Run then returns what it has.
func Run(ctx context.Context, o Options) (*Result, error) {
	if o.Conns < 1 || o.Duration <= 0 || o.Timeout <= 0 {
		return nil, errors.New("load: conns, duration and timeout are required")
	}
	addr, request, err := render(o)
	if err != nil {
		return nil, err
	}
	r := &run{Options: o, addr: addr, request: request, start: time.Now()}
	r.result.Failed = map[string]uint64{}
	var workers sync.WaitGroup
	for i := range o.Conns {
		workers.Go(func() { r.work(ctx, i) })
	}
	workers.Wait()
	r.result.Wall = time.Since(r.start)
	return &r.result, nil
}

// render makes the bytes of the request and the address to send them to.
func render(o Options) (addr string, request []byte, err error) {
	u, err := url.Parse(o.URL)
	if err != nil {
		return "", nil, err
	}
	if u.Scheme != "http" || !net.ParseIP(u.Hostname()).IsLoopback() || u.Port() == "" {
		return "", nil, fmt.Errorf("load: %s is not http:// with a loopback address and a port", o.URL)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n", u.RequestURI(), u.Host, len(o.Body))
	if err := o.Header.Write(&b); err != nil {
		return "", nil, err
	}
	b.WriteString("\r\n")
	b.Write(o.Body)
	return u.Host, b.Bytes(), nil
}

type run struct {
	Options
	addr    string
	request []byte
	start   time.Time
	claimed atomic.Int64

	mu     sync.Mutex
	result Result // its counters under mu; the histograms take care of themselves
}

// work sends requests over one connection after the other until the run is over.
func (r *run) work(ctx context.Context, worker int) {
	if r.Rate == 0 {
		sleepUntil(ctx, r.start.Add(r.Ramp*time.Duration(worker)/time.Duration(r.Conns)))
	}
	c := &client{run: r}
	defer c.close()
	for {
		due, more := r.claim(ctx)
		if !more {
			return
		}
		out := c.exchange(ctx, due)
		if out.failed == "" {
			r.result.Latency.Add(time.Since(due))
		} else {
			c.close()
		}
		r.count(out)
	}
}

// claim takes the next request of the run and waits until it is due.
func (r *run) claim(ctx context.Context) (due time.Time, more bool) {
	n := r.claimed.Add(1) - 1
	if r.Count > 0 && n >= int64(r.Count) {
		return due, false
	}
	due = time.Now()
	if r.Rate > 0 {
		due = r.start.Add(time.Duration(float64(n) / r.Rate * float64(time.Second)))
	}
	if due.Sub(r.start) >= r.Duration {
		return due, false
	}
	sleepUntil(ctx, due)
	return due, ctx.Err() == nil
}

func (r *run) count(out outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.result.Sent++
	r.result.Chunks += uint64(out.chunks)
	if out.answered {
		r.result.Answered++
	}
	if out.failed == "" {
		r.result.OK++
	} else {
		r.result.Failed[out.failed]++
	}
}

func sleepUntil(ctx context.Context, t time.Time) {
	d := time.Until(t)
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
