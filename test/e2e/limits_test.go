package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"shareai/internal/store"
)

// long makes the load of these tests last ten times as long.
func long() int {
	if os.Getenv("SHAREAI_LOAD") == "long" {
		return 10
	}
	return 1
}

// A crowd is many clients that ask again and again, until it is told to go.
type crowd struct {
	leave func() time.Duration // how long a client waits for its answer; nil: until it comes

	mu     sync.Mutex
	seen   map[outcome]int
	served map[string]bool // request ids of complete answers
	gone   chan struct{}
	all    sync.WaitGroup
}

// outcome is how a request ended for its client. Status 0: it left, or the connection broke.
type outcome struct {
	model  string
	status int
}

func newCrowd(leave func() time.Duration) *crowd {
	return &crowd{leave: leave, seen: map[outcome]int{}, served: map[string]bool{}, gone: make(chan struct{})}
}

// ask has so many clients ask a gateway for a model. Half of them stream.
func (c *crowd) ask(url, model string, clients int) {
	for i := range clients {
		c.all.Go(func() {
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			body := fmt.Sprintf(`{"model":%q,"stream":%t,"max_tokens":40,"messages":[{"role":"user","content":"hello"}]}`, model, i%2 == 0)
			for c.once(client, url, model, body) {
			}
		})
	}
}

func (c *crowd) once(client *http.Client, url, model, body string) (more bool) {
	stays := patience
	if c.leave != nil {
		stays = c.leave()
	}
	ctx, cancel := context.WithTimeout(context.Background(), stays)
	a, err := ask(ctx, client, url, body)
	cancel()
	if err != nil {
		a.status = 0
	}
	c.mu.Lock()
	c.seen[outcome{model, a.status}]++
	if a.status == http.StatusOK {
		c.served[a.id] = true
	}
	c.mu.Unlock()
	pause := time.Duration(0)
	if a.status != http.StatusOK { // whoever is refused does not hammer
		pause = 20 * time.Millisecond
	}
	select {
	case <-c.gone:
		return false
	case <-time.After(pause):
		return true
	}
}

func (c *crowd) count(model string, status int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen[outcome{model, status}]
}

// more waits until so many more requests for a model have ended in a way.
func (c *crowd) more(t *testing.T, model string, status, n int) {
	t.Helper()
	want := c.count(model, status) + n
	eventually(t, fmt.Sprintf("%d more answers %d of %s", n, status, model), func() bool { return c.count(model, status) >= want })
}

func (c *crowd) end() map[outcome]int {
	close(c.gone)
	c.all.Wait()
	return c.seen
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	end := time.After(time.Duration(long()) * time.Minute)
	for !is() {
		select {
		case <-end:
			t.Fatalf("not in time: %s", what)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// spent is the cost of all records in the ledger, in nano-dollars.
func (g *gateway) spent(t *testing.T) int64 {
	t.Helper()
	var usage struct {
		Total struct {
			Nano int64 `json:"cost_nano_usd"`
		}
	}
	if err := json.Unmarshal([]byte(g.command(t, "usage", "--since", "40d", "--json")), &usage); err != nil {
		t.Fatal(err)
	}
	return usage.Total.Nano
}

// A request for the model dear costs at most most nano-dollars.
const (
	most   = 130_000
	budget = 12_000_000
	dear   = `
providers:
  - {name: sim, dialect: simulated, simulated: {latency: 5ms, tokens_per_second: 400, tokens: 24}}
models:
  - name: dear
    deployments: [{provider: sim, model: m, price: {input: 1, output: 2}}]
`
)

var bounded = fmt.Sprintf("budgets: [{period: month, usd: 0.%09d}]", budget)

// patience bounds how long a client waits that does not mean to leave.
const patience = 30 * time.Second

// impatient clients leave at any moment, every other time.
func impatient() time.Duration {
	if rand.N(2) == 0 {
		return patience
	}
	return rand.N(250 * time.Millisecond)
}

// law holds a ledger against a budget that refuses and of which nothing is held: all of it is spent, and at most one
// request more.
func law(t *testing.T, spent int64) {
	t.Helper()
	if spent < budget || spent >= budget+most {
		t.Errorf("%d spent of %d", spent, budget)
	}
}

// exhaust asks, one request at a time, until nothing is left of the budget.
func exhaust(t *testing.T, g *gateway) {
	t.Helper()
	body := `{"model":"dear","max_tokens":40,"messages":[{"role":"user","content":"hello"}]}`
	eventually(t, "the budget is used up", func() bool {
		a, err := ask(t.Context(), http.DefaultClient, g.URL, body)
		return err == nil && a.status == http.StatusPaymentRequired
	})
}

// R29: 200 clients at once that leave at any moment, and a process that is killed in their midst, spend what the budget
// has and one request more at most; and nothing stays held.
func TestABudgetOutlivesAKill(t *testing.T) {
	slow(t)
	config := configureBounded(t, "", bounded, dear)
	g := serve(t, config)
	c := newCrowd(impatient)
	c.ask(g.URL, "dear", 200)
	c.more(t, "dear", http.StatusOK, 30)
	g.kill()
	g = serve(t, config)
	c.more(t, "dear", http.StatusPaymentRequired, 400*long())
	seen := c.end()
	exhaust(t, g)
	g.stop(t)
	law(t, g.spent(t))
	t.Logf("%v", seen)
}

// The same with two gateways on one PostgreSQL and one Redis, of which one is killed; in the end Redis counts what the
// ledger has, to the nano-dollar.
func TestABudgetOutlivesTheKillOfAReplica(t *testing.T) {
	s := startServices(t)
	configs := [2]string{configureBounded(t, s.boot(), bounded, dear), configureBounded(t, s.boot(), bounded, dear)}
	one, two := serve(t, configs[0]), serve(t, configs[1])
	c := newCrowd(impatient)
	c.ask(one.URL, "dear", 100)
	c.ask(two.URL, "dear", 100)
	c.more(t, "dear", http.StatusOK, 30)
	two.kill()
	if _, held := s.account(t); held == 0 {
		t.Error("the dead hold nothing: the kill has hit nobody")
	}
	serve(t, configs[1])
	c.more(t, "dear", http.StatusPaymentRequired, 200*long())
	seen := c.end()
	var spent, held int64
	eventually(t, "Redis counts what the ledger has", func() bool {
		exhaust(t, one)
		spent, held = s.account(t)
		return held == 0 && spent == one.spent(t)
	})
	law(t, spent)
	t.Logf("%v", seen)
}

// R28: two gateways on one PostgreSQL and one Redis admit together what one would, and nothing less.
func TestTwoGatewaysHoldTheLimits(t *testing.T) {
	s := startServices(t)
	const limit = 600
	catalog := strings.Replace(dear, "deployments:", bounded+"\n    deployments:", 1) + `
  - name: counted
    limits: {requests_per_day: 600}
    deployments: [{provider: sim, model: m, price: {input: 0, output: 0}}]
`
	one, two := serve(t, configure(t, s.boot(), catalog)), serve(t, configure(t, s.boot(), catalog))
	c := newCrowd(nil)
	for _, g := range []*gateway{one, two} {
		c.ask(g.URL, "counted", 40)
		c.ask(g.URL, "dear", 40)
	}
	c.more(t, "counted", http.StatusTooManyRequests, 1000*long())
	c.more(t, "dear", http.StatusPaymentRequired, 1000*long())
	seen := c.end()
	if n := seen[outcome{"counted", 200}]; n < limit || n > limit+limit/100 {
		t.Errorf("%d admitted of %d", n, limit)
	}
	exhaust(t, one)
	eventually(t, "all records are in the ledger", func() bool {
		spent, held := s.account(t)
		return held == 0 && spent == one.spent(t)
	})
	law(t, one.spent(t))
	t.Logf("%v", seen)
}

// both are two models whose limits everybody may pass while they can not be checked, and nobody.
const both = `
providers:
  - {name: sim, dialect: simulated, simulated: {latency: 2ms, tokens_per_second: 4000, tokens: 24}}
models:
  - {name: open, deployments: [{provider: sim, model: m, price: {input: 1, output: 2}}]}
  - {name: closed, deployments: [{provider: sim, model: m, price: {input: 1, output: 2}}]}
routes:
  - {name: open-route, models: [open], policy: open}
  - {name: closed-route, models: [closed], policy: closed}
default_policy: open
policies:
  - {name: open, on_limit_store_failure: allow}
  - {name: closed, on_limit_store_failure: reject}
`

// wealthy bounds without ever refusing.
const wealthy = "limits: {requests_per_minute: 1000000, concurrency: 1000}\n        budgets: [{period: month, usd: 1000}]"

// only fails the test where requests for a model have ended in another way than these.
func only(t *testing.T, seen map[outcome]int, model string, statuses ...int) {
	t.Helper()
	for o, n := range seen {
		if o.model == model && !slices.Contains(statuses, o.status) {
			t.Errorf("%d requests for %s ended with %d", n, model, o.status)
		}
	}
}

// recorded waits until every complete answer has its record and Redis counts what the ledger has.
func (c *crowd) recorded(t *testing.T, g *gateway, s *services) {
	t.Helper()
	eventually(t, "Redis counts what the ledger has", func() bool {
		_, _ = ask(t.Context(), http.DefaultClient, g.URL, `{"model":"open","max_tokens":40,"messages":[{"role":"user","content":"hello"}]}`)
		spent, held := s.account(t)
		return held == 0 && spent > 0 && spent == g.spent(t)
	})
	rows, err := store.Open(t.Context(), store.Options{Database: s.postgres, DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	missing := 0
	for id := range c.served {
		if _, err := rows.Record(t.Context(), id); err != nil {
			missing++
		}
	}
	if missing > 0 {
		t.Errorf("%d of %d answers have no record", missing, len(c.served))
	}
	t.Logf("%v", c.seen)
}

// Redis ends in the midst of the load and comes back with nothing: each policy does what it declares, and the count is
// what the ledger has.
func TestRedisEndsUnderLoad(t *testing.T) {
	s := startServices(t)
	one, two := serve(t, configureBounded(t, s.boot(), wealthy, both)), serve(t, configureBounded(t, s.boot(), wealthy, both))
	c := newCrowd(nil)
	for _, g := range []*gateway{one, two} {
		c.ask(g.URL, "open-route", 8)
		c.ask(g.URL, "closed-route", 8)
	}
	c.more(t, "open-route", http.StatusOK, 100)
	c.more(t, "closed-route", http.StatusOK, 100)
	s.halt(t, "redis")
	c.more(t, "closed-route", http.StatusServiceUnavailable, 100*long())
	c.more(t, "open-route", http.StatusOK, 500*long())
	s.resume(t, "redis")
	c.more(t, "closed-route", http.StatusOK, 100)
	c.more(t, "open-route", http.StatusOK, 100)
	seen := c.end()
	only(t, seen, "open-route", 200)
	only(t, seen, "closed-route", 200, 503)
	c.recorded(t, one, s)
}

// PostgreSQL ends in the midst of the load: what is known goes on, of both policies, and nothing is lost. A gateway
// that loses Redis as well knows nothing of the budget: then it is up to the policy.
func TestPostgreSQLEndsUnderLoad(t *testing.T) {
	s := startServices(t)
	g := serve(t, configureBounded(t, s.boot(), wealthy, both))
	c := newCrowd(nil)
	c.ask(g.URL, "open-route", 8)
	c.ask(g.URL, "closed-route", 8)
	c.more(t, "open-route", http.StatusOK, 100)
	c.more(t, "closed-route", http.StatusOK, 100)
	s.halt(t, "postgres")
	c.more(t, "open-route", http.StatusOK, 300*long())
	c.more(t, "closed-route", http.StatusOK, 300*long())
	if n := c.count("closed-route", http.StatusServiceUnavailable); n > 0 {
		t.Errorf("%d were refused of which everything is known", n)
	}
	s.halt(t, "redis")
	s.resume(t, "redis")
	c.more(t, "closed-route", http.StatusServiceUnavailable, 50)
	c.more(t, "open-route", http.StatusOK, 300*long())
	s.resume(t, "postgres")
	c.more(t, "closed-route", http.StatusOK, 100)
	seen := c.end()
	only(t, seen, "open-route", 200)
	only(t, seen, "closed-route", 200, 503)
	c.recorded(t, g, s)
}
