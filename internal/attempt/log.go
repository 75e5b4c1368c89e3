package attempt

import (
	"crypto/rand"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"shareai/internal/account"
	"shareai/internal/catalog"
	"shareai/internal/fault"
	"shareai/internal/openai"
	"shareai/internal/snapshot"
	"shareai/internal/tokenizer"
	"shareai/internal/upstream"
	"shareai/internal/usage"
)

// Trace is the W3C trace context that a request carries. The zero value is not traced.
type Trace struct {
	TraceID  string // 32 hexadecimal digits
	ParentID string // the caller's span, 16 hexadecimal digits
	Sampled  bool
}

// parent is the traceparent header that an upstream gets: the attempt's own span under our trace.
func (t Trace) parent(spanID string) string {
	if t.TraceID == "" {
		return ""
	}
	flags := "-00"
	if t.Sampled {
		flags = "-01"
	}
	return "00-" + t.TraceID + "-" + spanID + flags
}

// NewSpanID makes a span id: 16 hexadecimal digits.
func NewSpanID() string {
	var b [8]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// Log collects the attempts of one request. The zero value is empty. Attempts that run side by side fill
// their own entries; everything else is the walk's, which waits for them.
type Log struct {
	entries []*entry
	// Most requests need no more room than this.
	room  [2]entry
	first [2]*entry
}

// Len is the number of attempts.
func (l *Log) Len() int { return len(l.entries) }

// Attempts lists the attempts as they are to be recorded.
func (l *Log) Attempts() []usage.Attempt {
	list := make([]usage.Attempt, len(l.entries))
	for i, e := range l.entries {
		list[i] = e.Attempt
	}
	return list
}

// all says whether every attempt ended in one of the outcomes.
func (l *Log) all(outcomes ...upstream.Outcome) bool {
	for _, e := range l.entries {
		if !slices.Contains(outcomes, upstream.Outcome(e.Outcome)) {
			return false
		}
	}
	return true
}

// Totals sums tokens and cost over all attempts.
func (l *Log) Totals() (tokens catalog.Tokens, cost int64) {
	for _, e := range l.entries {
		tokens = tokens.Add(e.Tokens)
		cost += e.Cost
	}
	return tokens, cost
}

// entry is one attempt while it runs.
type entry struct {
	usage.Attempt
	start  time.Time
	target *snapshot.Target
	key    account.Secret  // with which the provider is called
	asked  *openai.Request // what the model has to read, for an estimate
}

// open begins an entry.
func (l *Log) open(work *Work, target *snapshot.Target, key *catalog.ProviderKey) *entry {
	e := l.place()
	e.start, e.target, e.key, e.asked = time.Now(), target, key.Secret, work.Request
	e.Attempt = usage.Attempt{
		Provider: target.Provider.Name, Deployment: target.ID, Model: target.Model.Name, ProviderKey: key.Name,
		Offset: e.start.Sub(work.Start).Microseconds(),
	}
	if work.Trace.TraceID != "" {
		e.SpanID = NewSpanID()
	}
	return e
}

// place makes room for one more entry. Entries stay where they are: attempts hold them.
func (l *Log) place() *entry {
	if l.entries == nil {
		l.entries = l.first[:0]
	}
	var e *entry
	if n := len(l.entries); n < len(l.room) {
		e = &l.room[n]
	} else {
		e = new(entry)
	}
	l.entries = append(l.entries, e)
	return e
}

func (e *entry) since() int64 { return max(time.Since(e.start).Microseconds(), 1) }

func (e *entry) headers(at time.Time) { e.Headers = max(at.Sub(e.start).Microseconds(), 1) }

func (e *entry) firstToken() { e.FirstToken = e.since() }

// fail notes a failure. Text from a provider is redacted once more here, where it becomes durable, and
// freed of the provider's key, which need not look like one.
func (e *entry) fail(f *upstream.Error) {
	if !e.key.Empty() {
		for _, text := range []*string{&f.Message, &f.Type, &f.Code, &f.Param} {
			*text = strings.ReplaceAll(*text, e.key.Reveal(), "[redacted]")
		}
	}
	e.Outcome, e.Status, e.Duration = string(f.Outcome), f.Status, e.since()
	if !f.HeadersAt.IsZero() {
		e.headers(f.HeadersAt)
	}
	e.Message = fault.Clip(fault.Redact(f.Message), maxMessage)
}

// maxMessage bounds what is kept of a provider's words, in bytes.
const maxMessage = 300

// finish notes a success.
func (e *entry) finish(reported openai.Usage, said openai.Produced) {
	e.Outcome, e.Status, e.Duration = string(upstream.OK), 200, e.since()
	e.settle(reported, said)
}

// settle prices what an attempt used. What the provider reported wins; what it did not is counted here, which takes
// time: a millisecond for each 7 kB, up to a tenth of a second.
func (e *entry) settle(reported openai.Usage, said openai.Produced) {
	e.Tokens = catalog.Tokens{
		Prompt: reported.Prompt, Cached: reported.Cached, CacheWrite: reported.CacheWrite, CacheWrite1h: reported.CacheWrite1h,
		AudioInput: reported.AudioInput, Completion: reported.Completion, Reasoning: reported.Reasoning, AudioOutput: reported.AudioOutput,
	}
	if !reported.Reported {
		e.Tokens = catalog.Tokens{Prompt: tokenizer.Request(e.target.Limits.Tokenizer, e.asked.Field), Estimated: true}
	}
	if said.Unreported > 0 {
		e.Tokens = e.Tokens.Add(e.estimate(said))
	}
	e.PriceVersion = e.target.PriceVersion
	e.Cost = e.target.Deployment.Price.Cost(e.Tokens)
}

// estimate counts what was said after the last that the provider reported. Of a long text the beginning is counted, and
// the rest is taken to be like it.
func (e *entry) estimate(said openai.Produced) catalog.Tokens {
	whole := tokensIn(said.Bytes)
	if said.Sampled > 0 {
		whole = tokenizer.Answer(e.target.Limits.Tokenizer, said.Sample) * int64(said.Bytes) / int64(said.Sampled)
	}
	whole = max(whole, 1)
	return catalog.Tokens{
		Completion: max(whole*int64(said.Unreported)/int64(said.Bytes), 1),
		Reasoning:  whole * int64(min(said.Reasoning, said.Unreported)) / int64(said.Bytes),
		Estimated:  true,
	}
}

// tokensIn estimates the tokens of a text by its bytes: about four make a token.
func tokensIn(bytes int) int64 { return int64(bytes+openai.BytesPerToken-1) / openai.BytesPerToken }
