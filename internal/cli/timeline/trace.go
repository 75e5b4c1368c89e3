// Package timeline shows what happened to one request: for programs as JSON, for people as a story with its attempts on a
// time line.
package timeline

import (
	"strings"
	"time"

	"shareai/internal/catalog"
	"shareai/internal/usage"
)

// Trace is a record as JSON. Times within a request are microseconds from its start, those of an attempt
// from the attempt's own.
type Trace struct {
	ID           string         `json:"id"`
	Start        time.Time      `json:"start"`
	Duration     int64          `json:"duration_us"`
	FirstToken   int64          `json:"first_token_us,omitempty"`
	Organization string         `json:"organization"`
	Project      string         `json:"project"`
	KeyID        string         `json:"key_id"`
	KeyName      string         `json:"key_name,omitempty"`
	Endpoint     string         `json:"endpoint"`
	Stream       bool           `json:"stream"`
	Requested    string         `json:"requested"`
	Route        string         `json:"route,omitempty"`
	Policy       string         `json:"policy,omitempty"`
	Model        string         `json:"model,omitempty"`
	Provider     string         `json:"provider,omitempty"`
	Deployment   string         `json:"deployment,omitempty"`
	Status       int            `json:"status"`
	Code         string         `json:"code,omitempty"`
	Tokens       catalog.Tokens `json:"tokens"`
	CostUSD      string         `json:"cost_usd"`
	CostNano     int64          `json:"cost_nano_usd"`
	PriceVersion string         `json:"price_version,omitempty"`
	BytesIn      int64          `json:"bytes_in"`
	BytesOut     int64          `json:"bytes_out"`
	TraceID      string         `json:"trace_id,omitempty"`
	SpanID       string         `json:"span_id,omitempty"`

	Reason     string            `json:"reason,omitempty"`
	Resumed    bool              `json:"resumed"`
	Drill      string            `json:"drill,omitempty"`
	Candidates []usage.Candidate `json:"candidates"`
	Attempts   []usage.Attempt   `json:"attempts"`
	Primary    *Primary          `json:"primary,omitempty"`
	Difference *Difference       `json:"difference,omitempty"` // to the primary; none where nobody answered
	Content    *Content          `json:"content,omitempty"`
}

// Primary is the deployment that the request was meant for.
type Primary struct {
	Deployment string `json:"deployment"`
	CostUSD    string `json:"cost_usd"` // of the same answer there
	CostNano   int64  `json:"cost_nano_usd"`
	Latency    int64  `json:"usual_latency_us,omitempty"` // to the first token; not streamed: to the whole answer
}

// Difference is what became of cost and time because the request was not simply answered by its primary;
// see usage.Difference.
type Difference struct {
	CostUSD  string `json:"cost_usd"`
	CostNano int64  `json:"cost_nano_usd"`
	Lost     int64  `json:"lost_us"`
	Usual    *int64 `json:"usual_us,omitempty"` // absent: what is usual is not known
}

// Content is what was said.
type Content struct {
	Request   string `json:"request"`
	Answer    string `json:"answer"`
	Truncated bool   `json:"truncated"`
}

// Of is the trace of a record. keys are the names of API keys by id.
func Of(r *usage.Record, keys map[string]string) *Trace {
	v := &Trace{
		ID: r.ID, Start: time.UnixMicro(r.Start).UTC(), Duration: r.Duration, FirstToken: r.FirstToken,
		Organization: r.Organization, Project: r.Project, KeyID: r.KeyID, Endpoint: string(r.Endpoint), Stream: r.Stream,
		Requested: r.Requested, Route: r.Route, Policy: r.Policy, Model: r.Model, Provider: r.Provider, Deployment: r.Deployment,
		Status: r.Status, Code: r.Code, Tokens: r.Tokens, CostUSD: catalog.FormatUSD(r.Cost), CostNano: r.Cost, PriceVersion: r.PriceVersion,
		BytesIn: r.BytesIn, BytesOut: r.BytesOut, TraceID: r.TraceID, SpanID: r.SpanID,
		Reason: r.Reason, Resumed: r.Resumed, Drill: r.Drill, Candidates: r.Candidates, Attempts: r.Attempts,
	}
	if name, known := keys[r.KeyID]; known {
		v.KeyName = name[strings.LastIndexByte(name, '/')+1:]
	}
	if v.Attempts == nil {
		v.Attempts = []usage.Attempt{}
	}
	if v.Candidates == nil {
		v.Candidates = []usage.Candidate{}
	}
	if r.Primary != "" {
		v.Primary = &Primary{r.Primary, catalog.FormatUSD(r.PrimaryCost), r.PrimaryCost, r.PrimaryLatency}
	}
	if d, known := r.Difference(); known {
		v.Difference = &Difference{CostUSD: catalog.FormatUSD(d.Cost), CostNano: d.Cost, Lost: d.Lost}
		if r.PrimaryLatency > 0 {
			v.Difference.Usual = &d.Usual
		}
	}
	return v
}
