package telemetry

import (
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"shareai/internal/alert"
	"shareai/internal/health"
	"shareai/internal/usage"
)

// Metrics counts finished requests for Prometheus. Its labels are names of the configuration, which
// the operator chose; nothing that a client sent becomes one.
type Metrics struct {
	registry *prometheus.Registry
	inFlight atomic.Int64
	requests *table[requestLabels, *requestSeries]
	attempts *table[attemptLabels, *attemptSeries]
	failed   *table[failoverLabels, prometheus.Counter]
	excluded *table[excludedLabels, prometheus.Counter]
	circuits *prometheus.CounterVec
}

// State is what is measured when somebody looks, rather than when it happens.
type State struct {
	Revision int64 // of the running snapshot
	Failing  bool  // a newer configuration is not in force
	Journal  usage.Stats
	Circuits []health.Status // of the deployments; see DrillScope
	Alerts   Alerts
}

// Alerts is what there is to tell, and what became of the messages that tell it.
type Alerts struct {
	Open                       map[alert.Rule]int64 // episodes of all replicas
	Delivered, Failed, GivenUp int64                // messages of this replica; Failed counts tries
}

// DrillScope begins the ids under which the board of health keeps what only a drill knows. They come and
// go with drills and never become labels.
const DrillScope = "drill:"

// NewMetrics makes metrics. state is asked at every scrape.
func NewMetrics(version string, state func() State) *Metrics {
	vectors := newVectors()
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		requests: newTable(vectors.request),
		attempts: newTable(vectors.attempt),
		failed:   newTable(vectors.failover),
		excluded: newTable(vectors.exclusion),
		circuits: vectors.transitions,
	}
	m.registry.MustRegister(vectors.all()...)
	m.registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "shareai_requests_in_flight", Help: "Requests to /v1 that are being answered now.",
		}, func() float64 { return float64(m.inFlight.Load()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "shareai_build_info", Help: "Always 1; the labels say what is running.",
			ConstLabels: prometheus.Labels{"version": version, "go_version": runtime.Version()},
		}, func() float64 { return 1 }),
		stateCollector(state),
	)
	return m
}

// Handler serves the metrics in Prometheus' text format.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// Track wraps the handler whose requests in flight are counted.
func (m *Metrics) Track(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.inFlight.Add(1)
		defer m.inFlight.Add(-1)
		next.ServeHTTP(w, r)
	})
}

// Observe counts a finished request.
func (m *Metrics) Observe(r *usage.Record) {
	m.requests.get(requestOf(r)).observe(r)
	for i := range r.Attempts {
		a := &r.Attempts[i]
		m.attempts.get(attemptOf(a)).observe(a)
	}
	drilled := r.Drill != ""
	if r.FailedOver() {
		m.failed.get(failoverLabels{primary: r.Primary, deployment: r.Deployment, cause: r.Cause(), drilled: drilled}).Inc()
	}
	for i := range r.Candidates {
		if c := &r.Candidates[i]; c.Reason != "" {
			m.excluded.get(excludedLabels{deployment: c.Deployment, reason: c.Reason, drilled: drilled}).Inc()
		}
	}
}

// CircuitChanged counts a change of a circuit. It is the OnChange of a board of health.
func (m *Metrics) CircuitChanged(id string, _, to health.State) {
	if !strings.HasPrefix(id, DrillScope) {
		m.circuits.WithLabelValues(append(valid(id), string(to))...).Inc()
	}
}
