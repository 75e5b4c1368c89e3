package telemetry

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"shareai/internal/alert"
	"shareai/internal/health"
)

// stateCollector shows a State. It asks once a scrape, so that all of it is of one moment.
type stateCollector func() State

// stateMetric is one number of a State.
type stateMetric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(State) float64
}

// stateMetrics are the metrics of a State, in the order in which they are documented.
var stateMetrics = []stateMetric{
	gauge("config_revision", "Revision of the configuration in force.", func(s State) float64 { return float64(s.Revision) }),
	gauge("config_failing", "1 while a newer configuration, of the file or the database, is not in force.", func(s State) float64 {
		if s.Failing {
			return 1
		}
		return 0
	}),
	gauge("journal_pending_records", "Records in the journal that are not stored yet.", func(s State) float64 { return float64(s.Journal.PendingRecords) }),
	gauge("journal_pending_bytes", "Their size on disk, those of earlier processes included.", func(s State) float64 { return float64(s.Journal.PendingBytes) }),
	gauge("journal_disk_bytes", "Size of the journal on disk.", func(s State) float64 { return float64(s.Journal.DiskBytes) }),
	gauge("journal_backlog_records", "Records that wait in memory because the disk refuses writes.", func(s State) float64 { return float64(s.Journal.BacklogRecords) }),
	total("journal_records_total", "Records taken by the journal.", func(s State) float64 { return float64(s.Journal.Appended) }),
	total("journal_refused_total", "Records that the journal did not take.", func(s State) float64 { return float64(s.Journal.Refused) }),
	total("journal_shipped_total", "Records that were stored.", func(s State) float64 { return float64(s.Journal.Shipped) }),
	total("journal_write_errors_total", "Failed writes to the journal.", func(s State) float64 { return float64(s.Journal.WriteErrors) }),
	total("journal_sink_errors_total", "Failed tries to store records.", func(s State) float64 { return float64(s.Journal.SinkErrors) }),
	total("journal_quarantined_total", "Records that can never be stored, set aside in a file.", func(s State) float64 { return float64(s.Journal.Quarantined) }),
	total("alert_deliveries_total", "Messages of alerts that were delivered.", func(s State) float64 { return float64(s.Alerts.Delivered) }),
	total("alert_delivery_failures_total", "Tries to deliver a message of an alert that failed.", func(s State) float64 { return float64(s.Alerts.Failed) }),
	total("alert_deliveries_given_up_total", "Messages of alerts that could not be delivered for a day.", func(s State) float64 { return float64(s.Alerts.GivenUp) }),
	total("journal_lost_total", "Records that were taken and could not be kept.", func(s State) float64 { return float64(s.Journal.Lost) }),
}

func gauge(name, help string, value func(State) float64) stateMetric {
	return stateMetric{prometheus.NewDesc("shareai_"+name, help, nil, nil), prometheus.GaugeValue, value}
}

func total(name, help string, value func(State) float64) stateMetric {
	return stateMetric{prometheus.NewDesc("shareai_"+name, help, nil, nil), prometheus.CounterValue, value}
}

// circuitStates are the states of a circuit. Each is a series of its own, so that an alert names the state
// and a graph can stack them.
var circuitStates = [...]health.State{health.Closed, health.HalfOpen, health.Open}

var circuitDesc = prometheus.NewDesc("shareai_circuit_state",
	"1 for the state in which a deployment's circuit is, 0 for the others. Deployments that were used within the hour.",
	[]string{"deployment", "state"}, nil)

var alertsDesc = prometheus.NewDesc("shareai_alerts_open", "Alerts that are open, of all replicas together.", []string{"rule"}, nil)

// Describe implements prometheus.Collector.
func (stateCollector) Describe(descs chan<- *prometheus.Desc) {
	descs <- circuitDesc
	descs <- alertsDesc
	for i := range stateMetrics {
		descs <- stateMetrics[i].desc
	}
}

// Collect implements prometheus.Collector.
func (c stateCollector) Collect(metrics chan<- prometheus.Metric) {
	state := c()
	for i := range stateMetrics {
		m := &stateMetrics[i]
		metrics <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(state))
	}
	for _, rule := range alert.RuleNames {
		metrics <- prometheus.MustNewConstMetric(alertsDesc, prometheus.GaugeValue, float64(state.Alerts.Open[rule]), string(rule))
	}
	for i := range state.Circuits {
		c := &state.Circuits[i]
		if strings.HasPrefix(c.ID, DrillScope) {
			continue
		}
		for _, s := range circuitStates {
			is := 0.0
			if s == c.State {
				is = 1
			}
			metrics <- prometheus.MustNewConstMetric(circuitDesc, prometheus.GaugeValue, is, append(valid(c.ID), string(s))...)
		}
	}
}
