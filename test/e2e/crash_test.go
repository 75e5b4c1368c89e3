package e2e

import (
	"context"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"shareai/internal/store"
)

// simulated is a provider in the process, quick enough to have hundreds of answers under way.
const simulated = `
providers:
  - {name: sim, dialect: simulated, simulated: {latency: 2ms, tokens_per_second: 2000, tokens: 24}}
models:
  - name: m
    deployments: [{provider: sim, model: m, price: {input: 1, output: 2}}]
`

// load sends unary and streamed requests from many clients until stop is closed and returns the ids
// of all answers that came in full.
func load(t *testing.T, url string, clients int, stop <-chan struct{}) (received map[string]bool, failed int) {
	t.Helper()
	received = map[string]bool{}
	var mu sync.Mutex
	var all sync.WaitGroup
	bodies := []string{
		`{"model":"m","messages":[{"role":"user","content":"hello"}]}`,
		`{"model":"m","stream":true,"messages":[{"role":"user","content":"hello"}]}`,
	}
	for i := range clients {
		all.Go(func() {
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for {
				select {
				case <-stop:
					return
				default:
				}
				ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
				a, err := ask(ctx, client, url, bodies[i%len(bodies)])
				cancel()
				mu.Lock()
				if err == nil && a.status == http.StatusOK {
					received[a.id] = true
				} else {
					failed++
				}
				mu.Unlock()
				if err != nil {
					<-time.After(10 * time.Millisecond) // the process may be gone
				}
			}
		})
	}
	all.Wait()
	return received, failed
}

// R37: kill -9 loses no record of an answer that a client received in full.
func TestKillLosesNoRecord(t *testing.T) {
	slow(t)
	config := configure(t, "", simulated)
	received := map[string]bool{}
	for range 3 {
		g := serve(t, config)
		stop := make(chan struct{})
		time.AfterFunc(1500*time.Millisecond, func() { g.kill(); close(stop) })
		got, _ := load(t, g.URL, 24, stop)
		if len(got) < 50 {
			t.Fatalf("only %d answers under load:\n%s", len(got), g.log)
		}
		for id := range got {
			received[id] = true
		}
	}
	// The ordinary way of a restart: what the killed processes left is shipped.
	g := serve(t, config)
	g.stop(t)

	rows, err := store.Open(t.Context(), store.Options{DataDir: filepath.Join(filepath.Dir(config), "data")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	missing := 0
	for id := range received {
		if _, err := rows.Record(t.Context(), id); err != nil {
			missing++
			t.Logf("%s: %v", id, err)
		}
	}
	if missing > 0 {
		t.Fatalf("%d of %d received answers have no record", missing, len(received))
	}
	if n := g.requests(t); n < len(received) {
		t.Errorf("%d records of %d answers", n, len(received))
	}
	t.Logf("%d answers received over 3 kills, each with its record", len(received))
}
