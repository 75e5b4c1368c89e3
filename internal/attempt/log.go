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

// Log collects the attempts of one request.
type Log struct{ Attempts []usage.Attempt }

// all says whether every attempt ended in one of the outcomes.
func (l *Log) all(outcomes ...upstream.Outcome) bool {
	for i := range l.Attempts {
		if !slices.Contains(outcomes, upstream.Outcome(l.Attempts[i].Outcome)) {
			return false
		}
	}
	return true
}

// Totals sums tokens and cost over all attempts.
func (l *Log) Totals() (tokens catalog.Tokens, cost int64) {
	for i := range l.Attempts {
		tokens = tokens.Add(l.Attempts[i].Tokens)
		cost += l.Attempts[i].Cost
	}
	return tokens, cost
}

// entry is the place of one attempt in the log. The log may grow meanwhile, so that a place is kept
// and not an address.
type entry struct {
	log   *Log
	place int
	start time.Time
	key   account.Secret // with which the provider is called
}

func (l *Log) open(work *Work, target *snapshot.Target, key catalog.ProviderKey) entry {
	start := time.Now()
	a := usage.Attempt{
		Provider: target.Provider.Name, Deployment: target.ID, Model: target.Model.Name, ProviderKey: key.Name,
		Offset: start.Sub(work.Start).Microseconds(),
	}
	if work.Trace.TraceID != "" {
		a.SpanID = NewSpanID()
	}
	l.Attempts = append(l.Attempts, a)
	return entry{log: l, place: len(l.Attempts) - 1, start: start, key: key.Secret}
}

func (e entry) at() *usage.Attempt { return &e.log.Attempts[e.place] }

func (e entry) since() int64 { return max(time.Since(e.start).Microseconds(), 1) }

func (e entry) headers(at time.Time) { e.at().Headers = max(at.Sub(e.start).Microseconds(), 1) }

func (e entry) firstToken() { e.at().FirstToken = e.since() }

// fail notes a failure. Text from a provider is redacted once more here, where it becomes durable, and
// freed of the provider's key, which need not look like one.
func (e entry) fail(f *upstream.Error) {
	if !e.key.Empty() {
		for _, text := range []*string{&f.Message, &f.Type, &f.Code, &f.Param} {
			*text = strings.ReplaceAll(*text, e.key.Reveal(), "[redacted]")
		}
	}
	a := e.at()
	a.Outcome, a.Status, a.Duration = string(f.Outcome), f.Status, e.since()
	if !f.HeadersAt.IsZero() {
		e.headers(f.HeadersAt)
	}
	a.Message = clip(fault.Redact(f.Message))
}

const maxMessage = 300

func clip(s string) string {
	if len(s) > maxMessage {
		return strings.ToValidUTF8(s[:maxMessage], "") + "…"
	}
	return s
}

// finish notes a success.
func (e entry) finish(work *Work, target *snapshot.Target, reported openai.Usage, contentBytes int) {
	a := e.at()
	a.Outcome, a.Status, a.Duration = string(upstream.OK), 200, e.since()
	e.settle(work, target, reported, contentBytes)
}

// settle prices what an attempt used. What the provider reported wins; otherwise both sides are
// estimated from their bytes.
func (e entry) settle(work *Work, target *snapshot.Target, reported openai.Usage, contentBytes int) {
	a := e.at()
	a.Tokens = catalog.Tokens{Prompt: reported.Prompt, Cached: reported.Cached, Completion: reported.Completion, Reasoning: reported.Reasoning}
	if !reported.Reported {
		a.Tokens = catalog.Tokens{
			Prompt:     tokensIn(work.Request.PromptBytes),
			Completion: tokensIn(contentBytes),
			Estimated:  true,
		}
	}
	a.PriceVersion = target.PriceVersion
	a.Cost = target.Deployment.Price.Cost(a.Tokens)
}

// tokensIn estimates the tokens of a text by its bytes: about four make a token.
func tokensIn(bytes int) int64 { return int64(bytes+3) / 4 }
