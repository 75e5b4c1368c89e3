package store

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"

	"shareai/internal/catalog"
	"shareai/internal/usage"
)

// recordDetail is the part of a record that no report filters, groups or sums by, as the document in
// its row. It is read with encoding/json and written by appendDetail, which does so for a fifth of the
// cost: it is written for every request, and read for the few that somebody looks at.
type recordDetail struct {
	Requested      string            `json:"requested"`
	Policy         string            `json:"policy"`
	Stream         bool              `json:"stream"`
	PriceVersion   string            `json:"price_version"`
	BytesIn        int64             `json:"bytes_in"`
	BytesOut       int64             `json:"bytes_out"`
	TraceID        string            `json:"trace_id"`
	SpanID         string            `json:"span_id"`
	Attempts       []usage.Attempt   `json:"attempts"`
	Candidates     []usage.Candidate `json:"candidates"`
	Reason         string            `json:"reason"`
	Resumed        bool              `json:"resumed"`
	Primary        string            `json:"primary"`
	PrimaryCost    int64             `json:"primary_cost"`
	PrimaryLatency int64             `json:"primary_latency"`
	Labels         map[string]string `json:"labels"`
	// Kinds are those counts of the record's tokens that have no column.
	Kinds catalog.Tokens `json:"kinds"`
}

// appendDetail appends the document of a record.
func appendDetail(dst []byte, r *usage.Record) []byte {
	d := object(dst)
	d.text("requested", r.Requested)
	d.text("policy", r.Policy)
	d.truth("stream", r.Stream)
	d.text("price_version", r.PriceVersion)
	d.number("bytes_in", r.BytesIn)
	d.number("bytes_out", r.BytesOut)
	d.text("trace_id", r.TraceID)
	d.text("span_id", r.SpanID)
	if len(r.Attempts) > 0 {
		d.name("attempts")
		for i := range r.Attempts {
			d.dst = append(d.dst, "[,"[min(i, 1)])
			d.dst = appendAttempt(d.dst, &r.Attempts[i])
		}
		d.dst = append(d.dst, ']')
	}
	if len(r.Candidates) > 0 {
		d.name("candidates")
		for i := range r.Candidates {
			d.dst = append(d.dst, "[,"[min(i, 1)])
			d.dst = appendCandidate(d.dst, &r.Candidates[i])
		}
		d.dst = append(d.dst, ']')
	}
	d.text("reason", r.Reason)
	d.truth("resumed", r.Resumed)
	d.text("primary", r.Primary)
	d.number("primary_cost", r.PrimaryCost)
	d.number("primary_latency", r.PrimaryLatency)
	d.texts("labels", r.Labels)
	if t := &r.Tokens; t.CacheWrite|t.AudioInput|t.AudioOutput != 0 {
		d.name("kinds")
		k := object(d.dst)
		k.kinds(t)
		d.dst = k.end()
	}
	return d.end()
}

// appendAttempt writes an attempt under the names that its JSON tags give.
func appendAttempt(dst []byte, a *usage.Attempt) []byte {
	o := object(dst)
	o.text("provider", a.Provider)
	o.text("deployment", a.Deployment)
	o.text("model", a.Model)
	o.text("provider_key", a.ProviderKey)
	o.text("outcome", a.Outcome)
	o.number("status", int64(a.Status))
	o.text("message", a.Message)
	o.number("offset_us", a.Offset)
	o.number("headers_us", a.Headers)
	o.number("first_token_us", a.FirstToken)
	o.number("duration_us", a.Duration)
	if a.Tokens != (catalog.Tokens{}) {
		o.name("tokens")
		t := object(o.dst)
		t.number("prompt", a.Tokens.Prompt)
		t.number("cached", a.Tokens.Cached)
		t.number("completion", a.Tokens.Completion)
		t.number("reasoning", a.Tokens.Reasoning)
		t.kinds(&a.Tokens)
		t.truth("estimated", a.Tokens.Estimated)
		o.dst = t.end()
	}
	o.text("price_version", a.PriceVersion)
	o.number("cost_nano_usd", a.Cost)
	o.text("span_id", a.SpanID)
	o.truth("retry", a.Retry)
	o.number("wait_us", a.Wait)
	o.truth("hedge", a.Hedge)
	o.text("resumes", a.Resumes)
	o.text("drill", a.Drill)
	o.text("circuit", a.Circuit)
	return o.end()
}

// appendCandidate writes a candidate under the names that its JSON tags give.
func appendCandidate(dst []byte, c *usage.Candidate) []byte {
	o := object(dst)
	o.text("deployment", c.Deployment)
	o.text("model", c.Model)
	o.text("reason", c.Reason)
	o.text("origin", c.Origin)
	o.share("grade", c.Grade)
	return o.end()
}

// jsonObject writes a JSON object and leaves out zero values.
type jsonObject struct {
	dst   []byte
	start int // where the first member goes
}

func object(dst []byte) *jsonObject { return &jsonObject{dst: append(dst, '{'), start: len(dst) + 1} }

func (o *jsonObject) end() []byte { return append(o.dst, '}') }

// name writes a member's name, which needs no escaping.
func (o *jsonObject) name(name string) {
	if len(o.dst) > o.start {
		o.dst = append(o.dst, ',')
	}
	o.dst = append(append(append(o.dst, '"'), name...), `":`...)
}

func (o *jsonObject) text(name, value string) {
	if value == "" {
		return
	}
	o.name(name)
	o.dst = appendText(o.dst, value)
}

// appendText writes a string as JSON.
func appendText(dst []byte, value string) []byte {
	for i := range len(value) {
		if c := value[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			escaped, _ := json.Marshal(value) // a string always has a JSON form
			return append(dst, escaped...)
		}
	}
	return append(append(append(dst, '"'), value...), '"')
}

// texts writes an object of strings, whose names and values may be anything.
func (o *jsonObject) texts(name string, values map[string]string) {
	if len(values) == 0 {
		return
	}
	o.name(name)
	o.dst = append(o.dst, '{')
	for i, key := range slices.Sorted(maps.Keys(values)) {
		if i > 0 {
			o.dst = append(o.dst, ',')
		}
		o.dst = appendText(append(appendText(o.dst, key), ':'), values[key])
	}
	o.dst = append(o.dst, '}')
}

func (o *jsonObject) number(name string, value int64) {
	if value != 0 {
		o.name(name)
		o.dst = strconv.AppendInt(o.dst, value, 10)
	}
}

// kinds writes the counts that most answers do not have.
func (o *jsonObject) kinds(t *catalog.Tokens) {
	o.number("cache_write", t.CacheWrite)
	o.number("cache_write_1h", t.CacheWrite1h)
	o.number("audio_input", t.AudioInput)
	o.number("audio_output", t.AudioOutput)
}

func (o *jsonObject) truth(name string, value bool) {
	if value {
		o.name(name)
		o.dst = append(o.dst, "true"...)
	}
}

// share writes a number between 0 and 1, which is what has a JSON form for certain.
func (o *jsonObject) share(name string, value float64) {
	if value > 0 && value <= 1 {
		o.name(name)
		o.dst = strconv.AppendFloat(o.dst, value, 'g', -1, 64)
	}
}
