package telemetry

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"shareai/internal/catalog"
	"shareai/internal/health"
	"shareai/internal/usage"
)

// answered is the record of a stream that a second provider answered.
func answered() *usage.Record {
	return &usage.Record{
		ID: "req_1", Start: 1_800_000_000_000_000, Duration: 2_500_000, FirstToken: 300_000,
		Organization: "acme", Project: "app", KeyID: "key_1", Endpoint: catalog.Chat,
		Requested: "chat", Route: "chat", Policy: "careful", Model: "llama", Provider: "beta", Deployment: "beta/meta-llama",
		Stream: true, Status: 200, Tokens: catalog.Tokens{Prompt: 110, Cached: 40, Completion: 20, Reasoning: 5},
		PriceVersion: "p1", Cost: 1_500_000, BytesIn: 1000, BytesOut: 4000,
		TraceID: "0af7651916cd43dd8448eb211c80319c", SpanID: "00f067aa0ba902b7", ParentID: "b7ad6b7169203331",
		Attempts: []usage.Attempt{
			{
				Provider: "alpha", Deployment: "alpha/llama-70b", Model: "llama", ProviderKey: "main", Outcome: "server_error", Status: 500,
				Message: "you asked: what is my diagnosis", Offset: 1_000, Headers: 90_000, Duration: 100_000, SpanID: "1111111111111111",
			},
			{
				Provider: "beta", Deployment: "beta/meta-llama", Model: "llama", Outcome: "ok", Status: 200, Offset: 110_000, Headers: 150_000,
				FirstToken: 190_000, Duration: 2_300_000, Tokens: catalog.Tokens{Prompt: 110, Cached: 40, Completion: 20, Reasoning: 5},
				PriceVersion: "p1", Cost: 1_500_000, SpanID: "2222222222222222",
			},
		},
	}
}

func scrape(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func noState() State { return State{} }

func TestMetricsCountAFinishedRequest(t *testing.T) {
	m := NewMetrics("1.2.3", func() State {
		return State{Revision: 7, Failing: true, Journal: usage.Stats{PendingRecords: 3, BacklogRecords: 2}}
	})
	m.Observe(answered())
	text := scrape(t, m)
	for _, line := range []string{
		`shareai_requests_total{drill="",endpoint="chat",model="llama",provider="beta",status="200"} 1`,
		`shareai_request_bytes_total{endpoint="chat"} 1000`,
		`shareai_response_bytes_total{endpoint="chat"} 4000`,
		`shareai_request_duration_seconds_sum{endpoint="chat",model="llama",provider="beta"} 2.5`,
		`shareai_time_to_first_token_seconds_sum{endpoint="chat",model="llama",provider="beta"} 0.3`,
		`shareai_attempts_total{deployment="alpha/llama-70b",drill="",kind="first",model="llama",outcome="server_error",provider="alpha"} 1`,
		`shareai_attempts_total{deployment="beta/meta-llama",drill="",kind="first",model="llama",outcome="ok",provider="beta"} 1`,
		`shareai_attempt_duration_seconds_sum{deployment="alpha/llama-70b",model="llama",provider="alpha"} 0.1`,
		`shareai_attempt_headers_seconds_sum{deployment="beta/meta-llama",model="llama",provider="beta"} 0.15`,
		`shareai_tokens_total{deployment="beta/meta-llama",kind="prompt",model="llama",provider="beta"} 110`,
		`shareai_tokens_total{deployment="beta/meta-llama",kind="cached",model="llama",provider="beta"} 40`,
		`shareai_tokens_total{deployment="beta/meta-llama",kind="completion",model="llama",provider="beta"} 20`,
		`shareai_tokens_total{deployment="beta/meta-llama",kind="reasoning",model="llama",provider="beta"} 5`,
		`shareai_tokens_total{deployment="alpha/llama-70b",kind="prompt",model="llama",provider="alpha"} 0`,
		`shareai_cost_usd_total{deployment="beta/meta-llama",model="llama",provider="beta"} 0.0015`,
		`shareai_config_revision 7`,
		`shareai_config_failing 1`,
		`shareai_journal_pending_records 3`,
		`shareai_journal_backlog_records 2`,
		`shareai_requests_in_flight 0`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("missing: %s", line)
		}
	}
	if !strings.Contains(text, `shareai_build_info{go_version="go`) || !strings.Contains(text, `version="1.2.3"} 1`) {
		t.Error("no build info")
	}
	if t.Failed() {
		t.Log(ours(text))
	}
}

// ours are the lines of our own metrics.
func ours(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "shareai_") && !strings.Contains(line, "_bucket") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

// rehearsed is the record of a request under a drill: the primary was made to fail and tried again, a
// third was passed over, the stream broke and was resumed.
func rehearsed() *usage.Record {
	r := answered()
	broken := r.Attempts[1]
	broken.Outcome, broken.Deployment, broken.Provider, broken.Hedge = "broken", "gamma/x", "gamma", true
	again := r.Attempts[0]
	again.Retry, again.Wait, again.Circuit = true, 5_000, "half_open"
	broken.FirstToken, broken.Duration = 20_000, 40_000
	r.Attempts[1].Resumes, r.Attempts[1].Offset = "prefill", 160_000
	r.Attempts = []usage.Attempt{r.Attempts[0], again, broken, r.Attempts[1]}
	r.Attempts[0].Drill, r.Attempts[1].Drill, r.Drill, r.Resumed = "drill_1", "drill_1", "drill_1", true
	r.Primary, r.PrimaryCost, r.PrimaryLatency = "alpha/llama-70b", 1_000_000, 200_000
	r.Candidates = []usage.Candidate{
		{Deployment: "alpha/llama-70b", Model: "llama"},
		{Deployment: "gamma/x", Model: "llama"},
		{Deployment: "delta/llama", Model: "llama", Reason: "region"},
		{Deployment: "beta/meta-llama", Model: "qwen", Origin: "equivalent", Grade: 0.92},
		{Deployment: "delta/qwen", Model: "qwen", Reason: "price", Origin: "equivalent", Grade: 0.92},
	}
	return r
}

func TestMetricsCountFailovers(t *testing.T) {
	m := NewMetrics("1", noState)
	r := rehearsed()
	m.Observe(r)
	actual := rehearsed()
	actual.Drill, actual.Attempts[0].Drill, actual.Attempts[1].Drill = "", "", ""
	actual.Attempts = actual.Attempts[2:]
	actual.Candidates[0].Reason = "circuit"
	m.Observe(actual)
	text := scrape(t, m)
	for _, line := range []string{
		`shareai_failovers_total{cause="server_error",deployment="beta/meta-llama",drill="true",primary="alpha/llama-70b"} 1`,
		`shareai_failovers_total{cause="circuit",deployment="beta/meta-llama",drill="",primary="alpha/llama-70b"} 1`,
		`shareai_excluded_candidates_total{deployment="delta/llama",drill="true",reason="region"} 1`,
		`shareai_excluded_candidates_total{deployment="delta/qwen",drill="",reason="price"} 1`,
		`shareai_excluded_candidates_total{deployment="alpha/llama-70b",drill="",reason="circuit"} 1`,
		`shareai_requests_total{drill="true",endpoint="chat",model="llama",provider="beta",status="200"} 1`,
		`shareai_requests_total{drill="",endpoint="chat",model="llama",provider="beta",status="200"} 1`,
		`shareai_request_duration_seconds_count{endpoint="chat",model="llama",provider="beta"} 1`,
		`shareai_attempts_total{deployment="alpha/llama-70b",drill="true",kind="first",model="llama",outcome="server_error",provider="alpha"} 1`,
		`shareai_attempts_total{deployment="alpha/llama-70b",drill="true",kind="retry",model="llama",outcome="server_error",provider="alpha"} 1`,
		`shareai_attempts_total{deployment="gamma/x",drill="",kind="hedge",model="llama",outcome="broken",provider="gamma"} 2`,
		`shareai_attempts_total{deployment="beta/meta-llama",drill="",kind="resume",model="llama",outcome="ok",provider="beta"} 2`,
		`shareai_attempt_duration_seconds_count{deployment="beta/meta-llama",model="llama",provider="beta"} 2`,
		`shareai_tokens_total{deployment="beta/meta-llama",kind="prompt",model="llama",provider="beta"} 220`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("missing: %s", line)
		}
	}
	if strings.Contains(text, "drill_1") || strings.Contains(text, `attempt_duration_seconds_count{deployment="alpha/llama-70b"`) {
		t.Error("a drill's id became a label, or its failures were timed")
	}
	if t.Failed() {
		t.Log(ours(text))
	}
}

func TestCircuitsAreShown(t *testing.T) {
	m := NewMetrics("1", func() State {
		return State{Circuits: []health.Status{
			{ID: "alpha/llama", View: health.View{State: health.HalfOpen}},
			{ID: "drill:drill_1|alpha/llama", View: health.View{State: health.Open}},
			{ID: "beta/\xff", View: health.View{State: health.Closed}},
		}}
	})
	m.CircuitChanged("alpha/llama", health.Closed, health.Open)
	m.CircuitChanged("alpha/llama", health.Open, health.HalfOpen)
	m.CircuitChanged("alpha/llama", health.HalfOpen, health.Open)
	m.CircuitChanged("drill:drill_1|alpha/llama", health.Closed, health.Open)
	text := scrape(t, m)
	for _, line := range []string{
		`shareai_circuit_state{deployment="alpha/llama",state="closed"} 0`,
		`shareai_circuit_state{deployment="alpha/llama",state="half_open"} 1`,
		`shareai_circuit_state{deployment="alpha/llama",state="open"} 0`,
		`shareai_circuit_state{deployment="beta/?",state="closed"} 1`,
		`shareai_circuit_transitions_total{deployment="alpha/llama",to="open"} 2`,
		`shareai_circuit_transitions_total{deployment="alpha/llama",to="half_open"} 1`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("missing: %s", line)
		}
	}
	if strings.Contains(text, "drill_1") {
		t.Error("the circuit of a drill became a series")
	}
	if t.Failed() {
		t.Log(ours(text))
	}
}

func TestMetricsKeepPrometheusNamingRules(t *testing.T) {
	m := NewMetrics("1", func() State { return State{Circuits: []health.Status{{ID: "alpha/llama"}}} })
	m.Observe(rehearsed())
	m.CircuitChanged("alpha/llama", health.Closed, health.Open)
	problems, err := promlint.New(strings.NewReader(scrape(t, m))).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "shareai_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

func TestNothingThatAClientSentBecomesALabel(t *testing.T) {
	m := NewMetrics("1", noState)
	m.Observe(answered())
	before := strings.Count(ours(scrape(t, m)), "\n")
	for _, model := range []string{"gpt-9", "x' OR 1=1", "made-up-1", "made-up-2"} {
		m.Observe(&usage.Record{KeyID: "key_" + model, Endpoint: catalog.Chat, Requested: model, Status: 404, Code: "model_not_found"})
	}
	text := ours(scrape(t, m))
	for _, word := range []string{"made-up", "gpt-9", "key_", "acme", "model_not_found"} {
		if strings.Contains(text, word) {
			t.Errorf("%q is in the metrics", word)
		}
	}
	if !strings.Contains(text, `shareai_requests_total{drill="",endpoint="chat",model="",provider="",status="404"} 4`) {
		t.Errorf("the requests were not counted together:\n%s", text)
	}
	// One counter, and count and sum of the two histograms.
	if grown := strings.Count(text, "\n") - before; grown != 5 {
		t.Errorf("four unknown models made %d series", grown)
	}
}

func TestAFailedRequestCountsForTheProviderThatWasTriedLast(t *testing.T) {
	m := NewMetrics("1", noState)
	r := answered()
	r.Model, r.Provider, r.Deployment, r.Status = "", "", "", 502
	m.Observe(r)
	if want := `shareai_requests_total{drill="",endpoint="chat",model="llama",provider="beta",status="502"} 1`; !strings.Contains(scrape(t, m), want) {
		t.Errorf("missing: %s", want)
	}
}

func TestWhatAProviderMadeUpDoesNotPanic(t *testing.T) {
	m := NewMetrics("1", noState)
	r := answered()
	r.Attempts[1].Tokens = catalog.Tokens{Prompt: -5, Cached: -1, Completion: -2, Reasoning: -3}
	r.Attempts[1].Cost, r.BytesIn = -1, -1
	r.Attempts[0].Deployment = "alpha/\xff"
	m.Observe(r)
	scrape(t, m)
}

func TestRequestsInFlightAreCountedUntilTheirEnd(t *testing.T) {
	m := NewMetrics("1", noState)
	entered, leave := make(chan struct{}), make(chan struct{})
	server := httptest.NewServer(m.Track(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		entered <- struct{}{}
		<-leave
		panic(http.ErrAbortHandler)
	})))
	defer server.Close()
	var done sync.WaitGroup
	for range 2 {
		done.Go(func() {
			if answer, err := http.Get(server.URL); err == nil {
				_, _ = io.Copy(io.Discard, answer.Body)
				_ = answer.Body.Close()
			}
		})
		<-entered
	}
	if !strings.Contains(scrape(t, m), "shareai_requests_in_flight 2\n") {
		t.Error("two requests are in flight and not counted")
	}
	close(leave)
	done.Wait()
	server.Close()
	if !strings.Contains(scrape(t, m), "shareai_requests_in_flight 0\n") {
		t.Error("a request that panicked is still counted")
	}
}

func TestMetricsAreCountedByManyAtOnce(t *testing.T) {
	m := NewMetrics("1", noState)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for range 100 {
				r := answered()
				r.Status = 200 + i%4
				m.Observe(r)
			}
		})
	}
	all.Wait()
	text := scrape(t, m)
	if want := `shareai_attempts_total{deployment="beta/meta-llama",drill="",kind="first",model="llama",outcome="ok",provider="beta"} 800`; !strings.Contains(text, want+"\n") {
		t.Errorf("missing: %s", want)
	}
	if want := `shareai_requests_total{drill="",endpoint="chat",model="llama",provider="beta",status="203"} 200`; !strings.Contains(text, want+"\n") {
		t.Errorf("missing: %s", want)
	}
}

func BenchmarkMetrics(b *testing.B) {
	m := NewMetrics("1", noState)
	for _, bench := range []struct {
		name string
		r    *usage.Record
	}{{"failover", answered()}, {"usual", usual()}, {"everything", rehearsed()}} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				m.Observe(bench.r)
			}
		})
	}
}

// usual is the record of a request that the first provider answered.
func usual() *usage.Record {
	r := answered()
	r.Attempts = r.Attempts[1:]
	r.Primary, r.PrimaryCost = r.Deployment, r.Cost
	r.Candidates = []usage.Candidate{{Deployment: r.Deployment, Model: r.Model}, {Deployment: "alpha/llama-70b", Model: r.Model}}
	return r
}
