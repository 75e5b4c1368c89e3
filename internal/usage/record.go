// Package usage keeps account of what happened: one Record for each request, journalled on local
// disk before the client has its whole answer, and shipped from there to the store in batches. The
// journal is the queue: a database that is away delays the shipping and nothing else.
package usage

import (
	"shareai/internal/catalog"
)

// Record is what remains of one request. Times are microseconds: Start since the epoch (UTC),
// everything else a duration from Start. Money is nano-dollars.
type Record struct {
	ID           string // the request id, x-request-id; rises with time
	Start        int64
	Duration     int64
	FirstToken   int64 // streams: to the first content for the client; 0: there was none
	Organization string
	Project      string
	KeyID        string
	Endpoint     catalog.Endpoint
	Requested    string // the model or route name that the client sent
	Route        string // the route that matched; empty for a plain model
	Policy       string
	Model        string // canonical model that answered; empty when none did
	Provider     string
	Deployment   string
	Stream       bool
	Status       int    // HTTP status of the answer; 499 when the client left first
	Code         string // error code; empty for a success
	Tokens       catalog.Tokens
	PriceVersion string
	Cost         int64 // over all attempts
	BytesIn      int64 // request body
	BytesOut     int64 // answer body
	TraceID      string
	SpanID       string // of the request; empty when nobody asked for spans
	ParentID     string // the caller's span; for observers only, neither journalled nor stored
	Attempts     []Attempt
	Candidates   []Candidate // what was considered, in order, with reasons; the first 256 are journalled
	Reason       string      // why this deployment answered, in words: "primary", or what failed before
	Resumed      bool        // a stream that broke was completed by another attempt
	Drill        string      // id of the drill under which the request ran; empty: none
	Content      *Content    // nil unless the policy logs content
	// Labels are those of the project when the request came. They are shared: never changed.
	Labels map[string]string
	Prompt uint64 // fingerprint of the messages, the prompt or the input; 0: none

	// What Against notes. Primary is the deployment that the request was meant for; empty: there was no
	// plan. PrimaryCost is what it would have charged for the answer, PrimaryLatency its usual time to the
	// first token (not streamed: to the whole answer), 0 when unknown.
	Primary        string
	PrimaryCost    int64
	PrimaryLatency int64
}

// ProviderKey names the provider's key that the answer was got with; empty when nobody answered.
func (r *Record) ProviderKey() string {
	for i := len(r.Attempts) - 1; i >= 0 && r.Deployment != ""; i-- {
		if r.Attempts[i].Deployment == r.Deployment {
			return r.Attempts[i].ProviderKey
		}
	}
	return ""
}

// Attempt is one try at one deployment. Offset and durations are microseconds; Offset counts from the
// record's Start, the rest from Offset.
type Attempt struct {
	Provider     string         `json:"provider"`
	Deployment   string         `json:"deployment"`
	Model        string         `json:"model"`
	ProviderKey  string         `json:"provider_key,omitempty"`
	Outcome      string         `json:"outcome"`
	Status       int            `json:"status,omitempty"`
	Message      string         `json:"message,omitempty"` // redacted and bounded
	Offset       int64          `json:"offset_us"`
	Headers      int64          `json:"headers_us,omitempty"`
	FirstToken   int64          `json:"first_token_us,omitempty"`
	Duration     int64          `json:"duration_us"`
	Tokens       catalog.Tokens `json:"tokens"`
	PriceVersion string         `json:"price_version,omitempty"`
	Cost         int64          `json:"cost_nano_usd,omitempty"`
	SpanID       string         `json:"span_id,omitempty"`
	Retry        bool           `json:"retry,omitempty"`   // the deployment had been tried before
	Wait         int64          `json:"wait_us,omitempty"` // back-off before it
	Hedge        bool           `json:"hedge,omitempty"`   // ran beside another attempt
	Resumes      string         `json:"resumes,omitempty"` // "prefill" or "restart": it continued a broken stream
	Drill        string         `json:"drill,omitempty"`   // the drill that made it fail
	Circuit      string         `json:"circuit,omitempty"` // "half_open" for a probe; empty: closed
}

// Candidate is a deployment that the planner considered.
type Candidate struct {
	Deployment string  `json:"deployment"`
	Model      string  `json:"model"`
	Reason     string  `json:"reason,omitempty"` // why it was excluded; empty: kept
	Origin     string  `json:"origin,omitempty"` // why it was considered: empty for the model itself, equivalent, policy, request
	Grade      float64 `json:"grade,omitempty"`  // of an equivalent
}

// Content is what was said, kept only where a policy says so. Each part is cut at MaxContent bytes.
type Content struct {
	Request   []byte
	Answer    []byte
	Truncated bool
}

// MaxContent bounds each part of a logged content, in bytes.
const MaxContent = 64 << 10
