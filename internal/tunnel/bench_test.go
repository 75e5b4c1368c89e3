//go:build unix

package tunnel

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The benchmarks compare a node with a direct call to the same engine: one process has the caller, both ends of the link
// and the engine, so that CPU is that of all together. cpu-µs/op is what docs/performance.md speaks of.

// benchEngine answers 1 kB, or a stream of as many chunks as the path says.
func benchEngine(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	var chunks int
	if _, err := fmt.Sscanf(r.URL.Path, "/v1/stream/%d", &chunks); err != nil {
		_, _ = io.WriteString(w, strings.Repeat("x", 1024))
		return
	}
	chunk := []byte("data: " + strings.Repeat("x", 212) + "\n\n")
	for range chunks {
		_, _ = w.Write(chunk)
		_ = http.NewResponseController(w).Flush()
	}
}

// benchAgent passes requests on to an engine over HTTP, as an agent does.
func benchAgent(engine string) http.Handler {
	client := &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out, err := http.NewRequestWithContext(r.Context(), r.Method, engine+r.URL.Path, r.Body)
		if err != nil {
			panic(err)
		}
		out.ContentLength = r.ContentLength
		response, err := client.RoundTrip(out)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		relay(w, response)
	})
}

type caller struct {
	name  string
	round http.RoundTripper
	base  string
}

func benchCallers(b *testing.B) []caller {
	engine := httptest.NewServer(http.HandlerFunc(benchEngine))
	b.Cleanup(engine.Close)
	in := install(b, 2)
	in.run(b, in.keys.enrol(b, "n1"), benchAgent(engine.URL), func(o *DialerOptions) { o.Gateways = []string{in.replicas[0].server.URL} })
	in.linked(b, "n1", 1)
	return []caller{
		{"direct", &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true}, engine.URL},
		{"node", in.replicas[0].hub.Transport("n1"), "http://node"},
		{"hop", in.replicas[1].hub.Transport("n1"), "http://node"},
	}
}

func (c *caller) call(ctx context.Context, b *testing.B, path string, body []byte) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+path, bytes.NewReader(body))
	if err != nil {
		b.Fatal(err)
	}
	response, err := c.round.RoundTrip(r)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		b.Fatal(err)
	}
	_ = response.Body.Close()
}

func cpu(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func BenchmarkUnary(b *testing.B) {
	body := bytes.Repeat([]byte("x"), 1024)
	for _, c := range benchCallers(b) {
		b.Run(c.name, func(b *testing.B) {
			took := make([]time.Duration, 0, b.N)
			before := cpu(b)
			for b.Loop() {
				start := time.Now()
				c.call(b.Context(), b, "/v1/unary", body)
				took = append(took, time.Since(start))
			}
			slices.Sort(took)
			b.ReportMetric(float64((cpu(b)-before).Nanoseconds())/1e3/float64(b.N), "cpu-µs/op")
			b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/1e3, "p50-µs")
		})
	}
}

func BenchmarkUnaryConcurrent(b *testing.B) {
	body := bytes.Repeat([]byte("x"), 1024)
	for _, c := range benchCallers(b) {
		b.Run(c.name, func(b *testing.B) {
			before := cpu(b)
			b.SetParallelism(16)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					c.call(b.Context(), b, "/v1/unary", body)
				}
			})
			b.ReportMetric(float64((cpu(b)-before).Nanoseconds())/1e3/float64(b.N), "cpu-µs/op")
		})
	}
}

// BenchmarkChunk counts a chunk of a stream as an operation.
func BenchmarkChunk(b *testing.B) {
	for _, c := range benchCallers(b) {
		b.Run(c.name, func(b *testing.B) {
			const chunks = 1000
			before := cpu(b)
			for range (b.N + chunks - 1) / chunks {
				c.call(b.Context(), b, fmt.Sprintf("/v1/stream/%d", chunks), nil)
			}
			b.ReportMetric(float64((cpu(b)-before).Nanoseconds())/1e3/float64(b.N), "cpu-µs/op")
		})
	}
}

// BenchmarkCancel measures how long it takes until the engine's context ends after the caller's has.
func BenchmarkCancel(b *testing.B) {
	in := install(b, 2)
	began, told, cancelled := make(chan struct{}), make(chan time.Time), make(chan time.Time, 1)
	in.run(b, in.keys.enrol(b, "n1"), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush()
		began <- struct{}{}
		<-r.Context().Done()
		told <- time.Now()
	}), func(o *DialerOptions) { o.Gateways = []string{in.replicas[0].server.URL} })
	in.linked(b, "n1", 1)
	for n, name := range []string{"node", "hop"} {
		b.Run(name, func(b *testing.B) {
			took := make([]time.Duration, 0, b.N)
			node := in.replicas[n].hub.Transport("n1")
			for b.Loop() {
				ctx, cancel := context.WithCancel(b.Context())
				go func() { <-began; cancelled <- time.Now(); cancel() }()
				response, err := node.RoundTrip(post(ctx, b, "/v1/chat/completions", "{}"))
				if err == nil {
					_, _ = io.Copy(io.Discard, response.Body)
					_ = response.Body.Close()
				}
				start := <-cancelled
				took = append(took, (<-told).Sub(start))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
		})
	}
}

func BenchmarkLook(b *testing.B) {
	in := install(b, 1)
	in.run(b, in.keys.enrol(b, "n1"), http.HandlerFunc(echo))
	in.linked(b, "n1", 1)
	b.ReportAllocs()
	for b.Loop() {
		if !in.replicas[0].hub.Look("n1").Linked {
			b.Fatal("not linked")
		}
	}
}
