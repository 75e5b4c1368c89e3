package probe

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"shareai/internal/catalog"
	"shareai/internal/health"
	"shareai/internal/snapshot"
	"shareai/internal/upstream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// double plays every provider.
type double struct {
	mu     sync.Mutex
	away   bool
	status int // of canaries; 0: they are answered
	asked  int // free probes
	paid   int // canaries
	billed []bill
	under  int
	most   int
	hang   bool
}

// bill is what OnCanary hears.
type bill struct {
	provider, deployment string
	tokens               catalog.Tokens
	cost                 int64
}

func (d *double) enter(count *int) (away, hang bool, status int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	*count++
	d.under++
	d.most = max(d.most, d.under)
	return d.away, d.hang, d.status
}

func (d *double) leave() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.under--
}

func (d *double) set(change func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change()
}

// counts are how many probes were free and paid.
func (d *double) counts() (asked, paid int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.asked, d.paid
}

func (d *double) bill(provider, deployment string, tokens catalog.Tokens, cost int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.billed = append(d.billed, bill{provider, deployment, tokens, cost})
}

func (d *double) Probe(ctx context.Context, _ upstream.Target, _ catalog.ProbeKind) error {
	away, hang, _ := d.enter(&d.asked)
	defer d.leave()
	switch {
	case hang:
		<-ctx.Done()
		return &upstream.Error{Outcome: upstream.TotalTimeout}
	case away:
		return &upstream.Error{Outcome: upstream.ConnectFailed}
	default:
		return nil
	}
}

const reply = `{"choices":[{"index":0,"message":{"role":"assistant","content":""},"finish_reason":"length"}],"usage":{"prompt_tokens":10,"completion_tokens":16,"total_tokens":26}}`

func (d *double) Do(context.Context, *upstream.Call) (*upstream.Answer, error) {
	away, _, status := d.enter(&d.paid)
	defer d.leave()
	switch {
	case away:
		return nil, &upstream.Error{Outcome: upstream.ConnectFailed}
	case status != 0:
		return nil, &upstream.Error{Outcome: upstream.ServerError, Status: status}
	default:
		return &upstream.Answer{Status: 200, Body: []byte(reply)}, nil
	}
}

type fixed struct{ view *snapshot.Snapshot }

func (f fixed) Current() *snapshot.Snapshot { return f.view }

// declared compiles providers with two deployments each, at a dollar for a million tokens.
func declared(t *testing.T, providers ...catalog.Provider) fixed {
	t.Helper()
	spec := snapshot.Spec{Providers: providers}
	for _, name := range []string{"m", "n"} {
		m := catalog.Model{Name: name}
		for _, p := range providers {
			d := catalog.Deployment{Provider: p.Name, Model: name}
			if p.Name != "free" {
				d.Price = catalog.Price{Input: 1e9, Output: 1e9, CachedInput: 1e9}
			}
			m.Deployments = append(m.Deployments, d)
		}
		spec.Models = append(spec.Models, m)
	}
	view, err := snapshot.Compile(spec)
	if err != nil {
		t.Fatal(err)
	}
	return fixed{view}
}

func simulated(name string, p catalog.Probe) catalog.Provider {
	return catalog.Provider{Name: name, Dialect: catalog.Simulated, Probe: p}
}

// bubble runs a Runner in a bubble.
func bubble(t *testing.T, providers []catalog.Provider, test func(t *testing.T, d *double, r *Runner)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		d := &double{}
		r := New(Options{
			Snapshots: declared(t, providers...), Client: d, Board: health.NewBoard(health.Options{}),
			Log: slog.New(slog.DiscardHandler), OnCanary: d.bill,
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			r.Run(ctx)
			close(ended)
		}()
		test(t, d, r)
		cancel()
		<-ended
	})
}

func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestPassiveFirst(t *testing.T) {
	bubble(t, []catalog.Provider{simulated("alpha", catalog.Probe{})}, func(t *testing.T, d *double, r *Runner) {
		for range 60 { // requests to one of the two deployments tell of the provider
			p, _ := r.options.Board.Deployment("alpha/m").Acquire()
			p.Succeeded(health.FirstToken, time.Millisecond)
			pass(10 * time.Second)
		}
		before, _ := d.counts()
		if before > 1 { // the first one may come before the first request
			t.Errorf("%d probes beside requests", before)
		}
		pass(10 * time.Minute)
		asked, paid := d.counts()
		if got := asked - before; got < 18 || got > 21 {
			t.Errorf("%d probes in ten minutes without a request, want one in 30 s", got)
		}
		if got := r.Stats()[0]; got.Standing != Reachable || got.Probes != uint64(asked) || got.Failures != 0 || got.SpentToday != 0 {
			t.Errorf("%+v", got)
		}
		if paid != 0 {
			t.Errorf("%d paid requests that nobody asked for", paid)
		}
	})
}

func TestADeadProviderIsKnownBeforeARequestMeetsIt(t *testing.T) {
	bubble(t, []catalog.Provider{simulated("alpha", catalog.Probe{}), simulated("beta", catalog.Probe{Kind: catalog.ProbeOff})}, func(t *testing.T, d *double, r *Runner) {
		state := func(id string) health.State { return r.options.Board.Look(id).State }
		d.set(func() { d.away = true })
		pass(catalog.DefaultProbeEvery + 7*time.Second)
		for _, id := range []string{"alpha/m", "alpha/n"} {
			if state(id) == health.Closed {
				t.Fatalf("%s is %s, its provider is away", id, state(id))
			}
		}
		if state("beta/m") != health.Closed {
			t.Error("a provider that is not probed is known to be away")
		}
		// While it stays away the probes take the half-open places of nearly every user's request.
		met := 0
		for range 300 {
			if p, ok := r.options.Board.Deployment("alpha/m").Acquire(); ok {
				p.Failed()
				met++
			}
			pass(time.Second)
		}
		if met > 12 {
			t.Errorf("%d requests met the dead provider", met)
		}
		t.Logf("%d requests met the dead provider", met)
		d.set(func() { d.away = false })
		pass(openEvery + tickEvery)
		if got := state("alpha/m"); got != health.HalfOpen {
			t.Errorf("%s %s after its provider is back", got, openEvery)
		}
		pass(5 * time.Minute)
		if got := state("alpha/n"); got != health.HalfOpen {
			t.Errorf("%s: a list of models closed a circuit", got)
		}
	})
}

func TestListsThatWorkEndNoWait(t *testing.T) {
	bubble(t, []catalog.Provider{simulated("alpha", catalog.Probe{})}, func(t *testing.T, _ *double, r *Runner) {
		pass(catalog.DefaultProbeEvery)
		deployment := r.options.Board.Deployment("alpha/m")
		for deployment.State() == health.Closed {
			deployment.Fail()
		}
		pass(4 * time.Second)
		if got := deployment.State(); got != health.Open {
			t.Errorf("%s: completions failed, and a list of models ended the wait", got)
		}
	})
}

func TestAProviderThatAskedForTimeIsLeftAlone(t *testing.T) {
	bubble(t, []catalog.Provider{simulated("alpha", catalog.Probe{})}, func(t *testing.T, d *double, r *Runner) {
		pass(catalog.DefaultProbeEvery)
		r.options.Board.Deployment("alpha/m").HoldOff(4 * time.Minute)
		before, _ := d.counts()
		pass(4 * time.Minute)
		if asked, _ := d.counts(); asked-before > 9 {
			got := asked - before
			t.Errorf("%d probes in 4 minutes", got)
		}
	})
}

func TestProbesAreFewAndEnd(t *testing.T) {
	var providers []catalog.Provider
	for i := range 50 {
		providers = append(providers, simulated("p"+strconv.Itoa(i), catalog.Probe{}))
	}
	bubble(t, providers, func(t *testing.T, d *double, r *Runner) {
		d.set(func() { d.hang = true })
		pass(10 * time.Minute)
		d.set(func() {
			d.hang = false
			if d.most != atOnce {
				t.Errorf("%d probes at once, want %d", d.most, atOnce)
			}
		})
		for _, s := range r.Stats() {
			if s.Standing != Unreachable {
				t.Errorf("%+v: silence is no answer", s)
			}
		}
	})
}

func TestCanariesStayUnderTheirCap(t *testing.T) {
	const one = 26_000 // ten tokens in and sixteen out at 1000 nano-dollars each
	const most = 80_000
	limit := int64(20*one + most)
	bubble(t, []catalog.Provider{simulated("alpha", catalog.Probe{Kind: catalog.ProbeCanary, DailyCap: limit})}, func(t *testing.T, d *double, r *Runner) {
		free, paid := 0, 0
		for day := range 3 { // the bubble's clock starts at midnight UTC
			pass(24*time.Hour - time.Minute)
			asked, sent := d.counts()
			if sent-paid != 21 {
				t.Errorf("%d canaries on day %d, want 21", sent-paid, day)
			}
			if asked == free {
				t.Error("a provider whose cap is reached is not probed at all")
			}
			free, paid = asked, sent
			if got := r.Stats()[0].SpentToday; got > limit || got != 21*one {
				t.Errorf("%d spent of %d", got, limit)
			}
			pass(time.Minute)
		}
		d.set(func() {
			if len(d.billed) != d.paid {
				t.Errorf("%d canaries left a trace, of %d", len(d.billed), d.paid)
			}
			for _, got := range d.billed {
				want := bill{"alpha", got.deployment, catalog.Tokens{Prompt: 10, Completion: 16}, one}
				if got != want {
					t.Fatalf("%+v, want %+v", got, want)
				}
			}
		})
		if got := r.options.Board.Look("alpha/m"); got.State != health.Closed {
			t.Errorf("%+v", got)
		}
	})
}

func canaries(name string, limit int64) []catalog.Provider {
	return []catalog.Provider{simulated(name, catalog.Probe{Kind: catalog.ProbeCanary, DailyCap: limit})}
}

func TestCanariesCountAsRequests(t *testing.T) {
	bubble(t, canaries("alpha", 1e9), func(t *testing.T, d *double, r *Runner) {
		closed := func() (n int) {
			for _, id := range []string{"alpha/m", "alpha/n"} {
				if r.options.Board.Look(id).State == health.Closed {
					n++
				}
			}
			return n
		}
		d.set(func() { d.status = 500 })
		pass(2 * time.Minute)
		if got := closed(); got != 0 {
			t.Errorf("%d circuits are closed although every canary fails", got)
		}
		_, before := d.counts()
		pass(5 * time.Minute)
		if _, after := d.counts(); after-before > 2*(5*60/18+1) {
			t.Errorf("%d canaries in 5 minutes to two circuits that wait 20 s", after-before)
		}
		if got := r.Stats()[0]; got.SpentToday != 0 || got.Standing == Unreachable {
			t.Errorf("%+v", got)
		}
		d.set(func() { d.status = 0 })
		pass(3 * time.Minute)
		if got := closed(); got != 2 {
			t.Errorf("%d circuits are closed although canaries succeed", got)
		}
	})
}

func TestWhatAProviderRefusesSaysNothing(t *testing.T) {
	bubble(t, canaries("alpha", 1e9), func(t *testing.T, d *double, r *Runner) {
		d.set(func() { d.status = 429 })
		pass(10 * time.Minute)
		for _, s := range r.options.Board.List() {
			if s.State != health.Closed || s.SuccessRate != 1 {
				t.Errorf("%+v", s)
			}
		}
		if got := r.Stats()[0]; got.Standing != Unclear || got.Failures != 0 || got.SpentToday != 0 || got.Canaries < 18 {
			t.Errorf("%+v", got)
		}
	})
}

func TestACanaryThatGetsNowhereSpeaksForTheProvider(t *testing.T) {
	bubble(t, canaries("alpha", 1e9), func(t *testing.T, d *double, r *Runner) {
		d.set(func() { d.away = true })
		m, n := r.options.Board.Deployment("alpha/m"), r.options.Board.Deployment("alpha/n")
		for m.State() == health.Closed && n.State() == health.Closed {
			pass(time.Second)
		}
		if m.State() == health.Closed || n.State() == health.Closed {
			t.Errorf("%s and %s: only one knows that the provider is away", m.State(), n.State())
		}
	})
}

func TestOneOpenCircuitDoesNotCostCanariesForOthers(t *testing.T) {
	bubble(t, canaries("alpha", 1e9), func(t *testing.T, d *double, r *Runner) {
		pass(10 * time.Minute)
		m, n := r.options.Board.Deployment("alpha/m"), r.options.Board.Deployment("alpha/n")
		p, _ := n.Acquire()
		p.Succeeded(health.WholeAnswer, time.Millisecond)
		m.HoldOff(time.Millisecond)
		for range 20 {
			m.Fail()
		}
		_, before := d.counts()
		for range 25 { // m stays open; n is well, and was heard of
			if p, ok := m.Acquire(); ok {
				p.Failed()
			}
			pass(time.Second)
		}
		if _, after := d.counts(); after-before > 3 {
			t.Errorf("%d canaries in 25 s", after-before)
		}
	})
}

func TestNoCapNoCanary(t *testing.T) {
	bubble(t, canaries("free", 0), func(t *testing.T, d *double, _ *Runner) {
		pass(10 * time.Minute)
		if asked, paid := d.counts(); paid != 0 || asked < 18 {
			t.Errorf("%d canaries without a cap, %d free probes", paid, asked)
		}
	})
}

// reasoner is a server that refuses to be held to less than 16 tokens, as reasoning models do, and counts
// what would be paid for.
func reasoner(t *testing.T, posts *atomic.Int64) string {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			_, _ = w.Write([]byte(`{"data":[]}`))
			return
		}
		posts.Add(1)
		var asked struct {
			MaxTokens int `json:"max_tokens"`
		}
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/json")
		if json.Unmarshal(body, &asked) != nil || asked.MaxTokens < 16 {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write([]byte(`{"error":{"message":"max_tokens is too small","type":"invalid_request_error"}}`))
			return
		}
		_, _ = w.Write([]byte(reply))
	}))
	t.Cleanup(server.Close)
	return server.URL + "/v1"
}

// rounds probes real servers, as if that much time had passed between two rounds.
func rounds(t *testing.T, r *Runner, count int, between time.Duration) {
	t.Helper()
	now := time.Now()
	r.mu.Lock()
	r.follow(r.options.Snapshots.Current(), now)
	r.mu.Unlock()
	for range count {
		now = now.Add(between)
		jobs := r.due(now)
		if len(jobs) == 0 {
			t.Fatal("nothing to do")
		}
		for _, j := range jobs {
			r.probe(t.Context(), j)
		}
	}
}

func realRunner(t *testing.T, p catalog.Probe) (*Runner, *atomic.Int64) {
	t.Helper()
	var posts atomic.Int64
	provider := catalog.Provider{Name: "alpha", Dialect: catalog.OpenAI, BaseURL: reasoner(t, &posts), PrivateNetwork: true, Probe: p}
	client := upstream.New(upstream.Options{})
	t.Cleanup(client.Close)
	return New(Options{
		Snapshots: declared(t, provider), Client: client, Board: health.NewBoard(health.Options{}), Log: slog.New(slog.DiscardHandler),
	}), &posts
}

// R11: watching costs nothing unless somebody wants it to.
func TestProbesAreFree(t *testing.T) {
	for _, p := range []catalog.Probe{{}, {Kind: catalog.ProbeModels, DailyCap: 1e9}, {Kind: catalog.ProbeTCP}, {Kind: catalog.ProbeCanary}} {
		r, posts := realRunner(t, p)
		rounds(t, r, 20, time.Hour)
		got := r.Stats()[0]
		if posts.Load() != 0 || got.SpentToday != 0 || got.Canaries != 0 {
			t.Errorf("%+v: %d paid requests, %+v", p, posts.Load(), got)
		}
		if got.Probes != 20 || got.Standing != Reachable {
			t.Errorf("%+v: %+v", p, got)
		}
	}
}

func TestACanaryIsLongEnoughForAReasoningModel(t *testing.T) {
	r, posts := realRunner(t, catalog.Probe{Kind: catalog.ProbeCanary, DailyCap: 1e9})
	var asked []string
	r.options.OnCanary = func(_, deployment string, _ catalog.Tokens, cost int64) {
		asked = append(asked, deployment)
		if cost != 26_000 {
			t.Errorf("it cost %d", cost)
		}
	}
	rounds(t, r, 2, time.Hour)
	if got := r.Stats()[0]; posts.Load() != 2 || got.Canaries != 2 || got.Failures != 0 || got.Standing != Reachable || got.SpentToday != 52_000 {
		t.Errorf("%d posts, %+v", posts.Load(), got)
	}
	slices.Sort(asked)
	if !slices.Equal(asked, []string{"alpha/m", "alpha/n"}) {
		t.Errorf("canaries to %v: they should take turns", asked)
	}
	m := r.options.Board.Deployment("alpha/m")
	if m.Heard().IsZero() {
		t.Error("a canary's success does not count")
	}
	if got := r.options.Board.Look("alpha/m").Latency; got != [2]time.Duration{} {
		t.Errorf("16 tokens have taught %s", got)
	}
}
