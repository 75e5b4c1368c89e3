package telemetry

import (
	"maps"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"shareai/internal/usage"
)

// seconds are the buckets of every duration: from an answer out of memory to the longest that a
// request may take by default.
var seconds = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300}

// vectors are the metrics of finished requests.
//
// A rehearsal (catalog.Drill) must not wake anybody: what a drill touched is counted apart, with the label
// drill="true", and its durations are in no histogram. Its tokens and its cost are real, and counted.
type vectors struct {
	requests, bytesIn, bytesOut      *prometheus.CounterVec
	failovers, excluded              *prometheus.CounterVec
	duration, firstToken             *prometheus.HistogramVec
	attempts, tokens, cost           *prometheus.CounterVec
	attemptDuration, attemptResponse *prometheus.HistogramVec
	transitions                      *prometheus.CounterVec
}

func newVectors() *vectors {
	request := []string{"endpoint", "model", "provider"}
	attempt := []string{"deployment", "model", "provider"}
	return &vectors{
		requests:        counter("requests_total", "Finished requests, by the status of the answer.", append(request, "status", "drill")...),
		bytesIn:         counter("request_bytes_total", "Bytes of request bodies.", "endpoint"),
		bytesOut:        counter("response_bytes_total", "Bytes of answer bodies.", "endpoint"),
		failovers:       counter("failovers_total", "Requests that another deployment than their primary answered, by what kept the primary from it.", "primary", "deployment", "cause", "drill"),
		excluded:        counter("excluded_candidates_total", "Deployments that requests passed over, by reason.", "deployment", "reason", "drill"),
		duration:        histogram("request_duration_seconds", "From the arrival of a request to the end of its answer.", request...),
		firstToken:      histogram("time_to_first_token_seconds", "From the arrival of a request to the first content of its stream.", request...),
		attempts:        counter("attempts_total", "Attempts at a deployment, by how they came about and how they ended.", append(attempt, "outcome", "kind", "drill")...),
		tokens:          counter("tokens_total", "Tokens by kind. cached is a part of prompt, reasoning a part of completion.", append(attempt, "kind")...),
		cost:            counter("cost_usd_total", "What attempts cost, in US dollars.", attempt...),
		attemptDuration: histogram("attempt_duration_seconds", "From the call of a deployment to the end of its answer.", attempt...),
		attemptResponse: histogram("attempt_headers_seconds", "From the call of a deployment to the head of its answer.", attempt...),
		transitions:     counter("circuit_transitions_total", "Changes of a deployment's circuit, by the state it came to.", "deployment", "to"),
	}
}

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "shareai_" + name, Help: help}, labels)
}

func histogram(name, help string, labels ...string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "shareai_" + name, Help: help, Buckets: seconds}, labels)
}

func (v *vectors) all() []prometheus.Collector {
	return []prometheus.Collector{
		v.requests, v.bytesIn, v.bytesOut, v.duration, v.firstToken,
		v.attempts, v.tokens, v.cost, v.attemptDuration, v.attemptResponse,
		v.failovers, v.excluded, v.transitions,
	}
}

// requestLabels tell the series of requests apart.
type requestLabels struct {
	endpoint, model, provider string
	status                    int
	drilled                   bool
}

// requestOf finds the labels of a request. One that nobody answered counts for the model and provider
// that were tried last; one that was refused before that has neither.
func requestOf(r *usage.Record) requestLabels {
	l := requestLabels{endpoint: string(r.Endpoint), model: r.Model, provider: r.Provider, status: r.Status, drilled: r.Drill != ""}
	if n := len(r.Attempts); l.model == "" && n > 0 {
		l.model, l.provider = r.Attempts[n-1].Model, r.Attempts[n-1].Provider
	}
	return l
}

// requestSeries are the series of requests with the same labels.
type requestSeries struct {
	count, bytesIn, bytesOut prometheus.Counter
	duration, firstToken     prometheus.Observer // nil under a drill
}

func (v *vectors) request(l requestLabels) *requestSeries {
	labels := valid(l.endpoint, l.model, l.provider)
	s := &requestSeries{
		count:    v.requests.WithLabelValues(append(labels, strconv.Itoa(l.status), truth(l.drilled))...),
		bytesIn:  v.bytesIn.WithLabelValues(labels[0]),
		bytesOut: v.bytesOut.WithLabelValues(labels[0]),
	}
	if !l.drilled {
		s.duration, s.firstToken = v.duration.WithLabelValues(labels...), v.firstToken.WithLabelValues(labels...)
	}
	return s
}

func (s *requestSeries) observe(r *usage.Record) {
	s.count.Inc()
	add(s.bytesIn, r.BytesIn)
	add(s.bytesOut, r.BytesOut)
	if s.duration == nil {
		return
	}
	s.duration.Observe(micros(r.Duration))
	if r.Stream && r.FirstToken > 0 {
		s.firstToken.Observe(micros(r.FirstToken))
	}
}

// kind is how an attempt came about.
type kind int

const (
	kindFirst  kind = iota // of the request at this deployment
	kindRetry              // the deployment had been tried before
	kindHedge              // beside another attempt
	kindResume             // went on with a stream that broke
)

// kinds are the label's values.
var kinds = [...]string{kindFirst: "first", kindRetry: "retry", kindHedge: "hedge", kindResume: "resume"}

func kindOf(a *usage.Attempt) kind {
	switch {
	case a.Resumes != "":
		return kindResume
	case a.Hedge:
		return kindHedge
	case a.Retry:
		return kindRetry
	default:
		return kindFirst
	}
}

// attemptLabels tell the series of attempts apart.
type attemptLabels struct {
	deployment, model, provider, outcome string
	kind                                 kind
	drilled                              bool
}

// attemptOf finds the labels of an attempt. Under a drill only those that it made fail are apart: the
// others are what they always are.
func attemptOf(a *usage.Attempt) attemptLabels {
	return attemptLabels{
		deployment: a.Deployment, model: a.Model, provider: a.Provider, outcome: a.Outcome,
		kind: kindOf(a), drilled: a.Drill != "",
	}
}

// attemptSeries are the series of attempts with the same labels.
type attemptSeries struct {
	count                                prometheus.Counter
	prompt, cached, completion, reasoned prometheus.Counter
	cost                                 prometheus.Counter
	duration, response                   prometheus.Observer // nil under a drill
}

func (v *vectors) attempt(l attemptLabels) *attemptSeries {
	labels := valid(l.deployment, l.model, l.provider)
	with := func(vector *prometheus.CounterVec, last ...string) prometheus.Counter {
		return vector.WithLabelValues(append(labels[:3:3], last...)...)
	}
	s := &attemptSeries{
		count:      with(v.attempts, l.outcome, kinds[l.kind], truth(l.drilled)),
		prompt:     with(v.tokens, "prompt"),
		cached:     with(v.tokens, "cached"),
		completion: with(v.tokens, "completion"),
		reasoned:   with(v.tokens, "reasoning"),
		cost:       v.cost.WithLabelValues(labels...),
	}
	if !l.drilled {
		s.duration, s.response = v.attemptDuration.WithLabelValues(labels...), v.attemptResponse.WithLabelValues(labels...)
	}
	return s
}

func (s *attemptSeries) observe(a *usage.Attempt) {
	s.count.Inc()
	add(s.prompt, a.Tokens.Prompt)
	add(s.cached, a.Tokens.Cached)
	add(s.completion, a.Tokens.Completion)
	add(s.reasoned, a.Tokens.Reasoning)
	if a.Cost > 0 {
		s.cost.Add(float64(a.Cost) / 1e9)
	}
	if s.duration == nil {
		return
	}
	s.duration.Observe(micros(a.Duration))
	if a.Headers > 0 {
		s.response.Observe(micros(a.Headers))
	}
}

// failoverLabels tell apart which deployment stood in for which, and why.
type failoverLabels struct {
	primary, deployment, cause string
	drilled                    bool
}

func (v *vectors) failover(l failoverLabels) prometheus.Counter {
	return v.failovers.WithLabelValues(append(valid(l.primary, l.deployment, l.cause), truth(l.drilled))...)
}

// excludedLabels tell apart why a deployment was passed over.
type excludedLabels struct {
	deployment, reason string
	drilled            bool
}

func (v *vectors) exclusion(l excludedLabels) prometheus.Counter {
	return v.excluded.WithLabelValues(append(valid(l.deployment, l.reason), truth(l.drilled))...)
}

// truth is a label that is there or not: to Prometheus an empty one is none.
func truth(is bool) string {
	if is {
		return "true"
	}
	return ""
}

// add counts what is there. A provider may report a negative number; a counter would panic.
func add(c prometheus.Counter, n int64) {
	if n > 0 {
		c.Add(float64(n))
	}
}

func micros(n int64) float64 { return float64(n) / 1e6 }

// valid returns label values that Prometheus takes.
func valid(values ...string) []string {
	for i := range values {
		values[i] = strings.ToValidUTF8(values[i], "?")
	}
	return values
}

// table finds the series of a combination of labels without an allocation or a lock. A map is never
// written to once it is in place: a new combination, which is rare, replaces it.
type table[K comparable, V any] struct {
	create  func(K) V
	entries atomic.Pointer[map[K]V]
	growing sync.Mutex
}

func newTable[K comparable, V any](create func(K) V) *table[K, V] {
	t := &table[K, V]{create: create}
	t.entries.Store(&map[K]V{})
	return t
}

func (t *table[K, V]) get(key K) V {
	if v, ok := (*t.entries.Load())[key]; ok {
		return v
	}
	t.growing.Lock()
	defer t.growing.Unlock()
	if v, ok := (*t.entries.Load())[key]; ok {
		return v
	}
	entries, v := maps.Clone(*t.entries.Load()), t.create(key)
	entries[key] = v
	t.entries.Store(&entries)
	return v
}
