package app

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// stage is a provider that serves until it is told to end. It says who has come, and counts who is there.
type stage struct {
	arrived chan arrival
	inside  atomic.Int64
	most    atomic.Int64
}

type arrival struct {
	who string // what the message says
	end chan struct{}
}

// ServeHTTP implements http.Handler.
func (s *stage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var asked struct{ Messages []struct{ Content string } }
	if json.NewDecoder(r.Body).Decode(&asked) != nil || len(asked.Messages) == 0 {
		w.WriteHeader(http.StatusNotFound) // a probe
		return
	}
	now := s.inside.Add(1)
	defer s.inside.Add(-1)
	for most := s.most.Load(); now > most && !s.most.CompareAndSwap(most, now); most = s.most.Load() {
		continue
	}
	a := arrival{asked.Messages[0].Content, make(chan struct{})}
	select {
	case s.arrived <- a:
	case <-r.Context().Done():
		return
	}
	select {
	case <-a.end:
	case <-r.Context().Done():
		return
	}
	s.inside.Add(-1) // before the gateway can know
	defer s.inside.Add(1)
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"choices":[{"index":0,"message":{"role":"assistant","content":"yes"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1}}`)
}

// next is who comes next.
func (s *stage) next(t *testing.T) arrival {
	t.Helper()
	select {
	case a := <-s.arrived:
		return a
	case <-time.After(limit):
		t.Fatal("nobody comes")
		return arrival{}
	}
}

// crowd hammers gateways with requests of one environment.
type crowd struct {
	stop    atomic.Bool
	workers sync.WaitGroup
	refused chan struct{} // one for a refusal, if somebody looks
}

func hammer(t *testing.T, environment, model string, gateways []*running) *crowd {
	c := &crowd{refused: make(chan struct{}, 1)}
	t.Cleanup(c.workers.Wait)
	body := fmt.Sprintf(`{"model":%q,"messages":[{"role":"user","content":%q}]}`, model, environment)
	for i := range 16 {
		gateway := gateways[i%len(gateways)]
		c.workers.Go(func() {
			for !c.stop.Load() && t.Context().Err() == nil {
				c.ask(t, gateway.url, "sk-"+environment+"-0123456789", body)
			}
		})
	}
	return c
}

// wantsMore waits until one of the crowd has just been refused, and so has a claim.
func (c *crowd) wantsMore(t *testing.T) {
	t.Helper()
	select {
	case <-c.refused: // a while ago
	default:
	}
	select {
	case <-c.refused:
	case <-time.After(limit):
		t.Fatal("nobody is refused")
	}
}

func (c *crowd) ask(t *testing.T, url, key, body string) {
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return
	}
	r.Header.Set("Authorization", "Bearer "+key)
	response, err := client.Do(r)
	if err != nil {
		if t.Context().Err() == nil { // else the test has ended
			t.Error(err)
		}
		return
	}
	defer func() { _ = response.Body.Close() }()
	text, _ := io.ReadAll(response.Body)
	switch response.StatusCode {
	case http.StatusOK:
	case http.StatusTooManyRequests:
		if response.Header.Get("Retry-After") != "1" || !strings.Contains(string(text), "capacity_exceeded") {
			t.Errorf("%v %s", response.Header, text)
		}
		select {
		case c.refused <- struct{}{}:
		default:
		}
	default:
		t.Errorf("%d %s", response.StatusCode, text)
	}
}

// Two environments want more of a deployment than it can serve, at one gateway, and at two that share a Redis: what is
// idle is lent, comes back as requests end, and is never more than the capacity.
func TestEnvironmentsShareADeployment(t *testing.T) { // R30
	for name, replicas := range map[string]int{"one": 1, "two": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			shared := func(*Settings) {}
			if replicas > 1 {
				if testing.Short() {
					t.Skip("needs a Redis server")
				}
				redis := os.Getenv("SHAREAI_TEST_REDIS")
				if redis == "" {
					t.Fatal("SHAREAI_TEST_REDIS is not set: run make test, or scripts/services.sh run go test …")
				}
				shared = func(s *Settings) { s.Redis = redis }
			}
			s := &stage{arrived: make(chan arrival)}
			model := strings.ToLower(rand.Text()) // nobody else's in this Redis
			file := sharing(newServer(t, s), model)
			var gateways []*running
			for range replicas {
				gateways = append(gateways, run(t, file, shared))
			}
			playShares(t, s, model, gateways)
		})
	}
}

func sharing(provider, model string) string {
	return fmt.Sprintf(`
providers:
  - {name: alpha, dialect: openai, base_url: "%s/v1", private_network: true, probe: {kind: "off"}}
models:
  - {name: %s, deployments: [{provider: alpha, model: %s, capacity: {concurrency: 4}}]}
organizations:
  - name: acme
    shares: [{label: environment, value: production, share: 0.75}, {label: environment, value: staging, share: 0.25}]
    projects:
      - {name: live, labels: {environment: production}, keys: [{name: ci, secret: sk-production-0123456789}]}
      - {name: test, labels: {environment: staging}, keys: [{name: ci, secret: sk-staging-0123456789}]}
`, provider, model, model)
}

func playShares(t *testing.T, s *stage, model string, gateways []*running) {
	inside := map[string][]arrival{}
	come := func(want string) {
		t.Helper()
		a := s.next(t)
		if inside[a.who] = append(inside[a.who], a); a.who != want {
			t.Fatalf("%s came, and not %s: production has %d, staging %d", a.who, want, len(inside["production"]), len(inside["staging"]))
		}
	}
	end := func(who string) {
		close(inside[who][0].end)
		inside[who] = inside[who][1:]
	}
	staging := hammer(t, "staging", model, gateways)
	for range 4 {
		come("staging")
	}
	production := hammer(t, "production", model, gateways)
	for range 3 {
		production.wantsMore(t)
		end("staging")
		come("production")
	}
	for round := range 40 {
		who, crowd := "production", production
		if round%4 == 0 {
			who, crowd = "staging", staging
		}
		crowd.wantsMore(t)
		end(who)
		come(who)
	}
	production.stop.Store(true)
	for range 3 {
		end("production")
	}
	for range 3 { // those of production that waited may still come
		a := s.next(t)
		for ; a.who == "production"; a = s.next(t) {
			close(a.end)
		}
		inside[a.who] = append(inside[a.who], a)
	}
	if most := s.most.Load(); most != 4 || len(inside["staging"]) != 4 {
		t.Errorf("up to %d requests at once; in the end %d of staging", most, len(inside["staging"]))
	}
	staging.stop.Store(true)
	finish(s, inside["staging"], staging, production)
}

// finish lets everybody go.
func finish(s *stage, inside []arrival, crowds ...*crowd) {
	for _, a := range inside {
		close(a.end)
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for _, c := range crowds {
			c.workers.Wait()
		}
	}()
	for {
		select {
		case a := <-s.arrived:
			close(a.end)
		case <-gone:
			return
		}
	}
}
