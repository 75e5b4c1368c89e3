package smoke

import "time"

// Part is one of the five parts of the smoke test.
type Part int

// The parts.
const (
	Routes   Part = 1 + iota // every route answers
	Failover                 // a failing provider is replaced
	Accounts                 // cost and latency compared; the usage report agrees
	Cache                    // a repeated prompt is served from the cache
	Limits                   // rate limits and quotas reject what exceeds them
)

// Parts lists every part in order.
var Parts = []Part{Routes, Failover, Accounts, Cache, Limits}

// Title says what a part proves.
func (p Part) Title() string {
	switch p {
	case Routes:
		return "Every route answers"
	case Failover:
		return "A failing provider is replaced"
	case Accounts:
		return "Cost and latency compared, usage reported to the last token"
	case Cache:
		return "A repeated prompt is served from the cache"
	default:
		return "Limits reject what exceeds them, and nothing less"
	}
}

// Verdict is how a line ended.
type Verdict string

// The verdicts.
const (
	Pass         Verdict = "pass"
	Fail         Verdict = "fail"
	NotAvailable Verdict = "not_available" // can not be rehearsed here; the detail says why
)

// Line is one finding.
type Line struct {
	Part    Part    `json:"part"`
	Subject string  `json:"subject"` // what was looked at: "demo-chat at alpha"
	Verdict Verdict `json:"verdict"`
	Detail  string  `json:"detail"`
	// RequestID is the request to look up when a line failed; empty when there was none.
	RequestID string `json:"request_id,omitempty"`
	// Calls are what the comparison of part 3 rests on.
	Calls []Call `json:"calls,omitempty"`
}

// Call is one answered request as its client saw it.
type Call struct {
	Model     string `json:"model"` // as asked for
	Provider  string `json:"provider"`
	Mode      Mode   `json:"mode"`
	RequestID string `json:"request_id"`
	Attempts  int    `json:"attempts"`
	Reason    string `json:"reason,omitempty"` // why this provider answered, in the gateway's words
	// Duration is the time to the last byte, FirstToken to the first content of a stream.
	Duration   time.Duration `json:"duration_ns"`
	FirstToken time.Duration `json:"first_token_ns,omitempty"`
	Tokens     Tokens        `json:"tokens"`
	Cost       int64         `json:"cost_nano_usd"` // nano-dollars, from x-shareai-cost
}

// Mode is the way in which a request was made.
type Mode string

// The modes.
const (
	Chat        Mode = "chat"
	ChatStream  Mode = "chat stream"
	Embeddings  Mode = "embeddings"
	Completions Mode = "completions"
)

// Tokens are the counts of an answer's usage block.
type Tokens struct {
	Prompt     int64 `json:"prompt"`
	Completion int64 `json:"completion"`
}

// Report is the whole test.
type Report struct {
	Gateway      string `json:"gateway"`
	Lines        []Line `json:"lines"`
	Passed       int    `json:"passed"`
	Failed       int    `json:"failed"`
	NotAvailable int    `json:"not_available"`
}

// add takes a line into the report.
func (r *Report) add(l Line) {
	r.Lines = append(r.Lines, l)
	switch l.Verdict {
	case Pass:
		r.Passed++
	case Fail:
		r.Failed++
	case NotAvailable:
		r.NotAvailable++
	}
}
