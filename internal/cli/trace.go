package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"shareai/internal/app"
	"shareai/internal/catalog"
	"shareai/internal/fault"
	"shareai/internal/usage"
)

type traceCommand struct {
	ID      string `arg:"" name:"id" help:"Request id: the header x-request-id of the answer."`
	Content bool   `help:"Show the prompt and the answer, where the policy had them logged."`
	output
	place `group:"Where the gateway keeps its data:"`
}

// Help is the long help.
func (traceCommand) Help() string {
	return `    shareai trace req_01jd3k7m5h8c2x9v4q6t0w1z2y`
}

// trace is a record as JSON. Times within a request are microseconds from its start, those of an attempt
// from the attempt's own.
type trace struct {
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
	Primary    *tracedPrimary    `json:"primary,omitempty"`
	Difference *difference       `json:"difference,omitempty"` // to the primary; none where nobody answered
	Content    *tracedContent    `json:"content,omitempty"`
}

// tracedPrimary is the deployment that the request was meant for.
type tracedPrimary struct {
	Deployment string `json:"deployment"`
	CostUSD    string `json:"cost_usd"` // of the same answer there
	CostNano   int64  `json:"cost_nano_usd"`
	Latency    int64  `json:"usual_latency_us,omitempty"` // to the first token; not streamed: to the whole answer
}

// difference is what became of cost and time because the request was not simply answered by its primary;
// see usage.Difference.
type difference struct {
	CostUSD  string `json:"cost_usd"`
	CostNano int64  `json:"cost_nano_usd"`
	Lost     int64  `json:"lost_us"`
	Usual    *int64 `json:"usual_us,omitempty"` // absent: what is usual is not known
}

type tracedContent struct {
	Request   string `json:"request"`
	Answer    string `json:"answer"`
	Truncated bool   `json:"truncated"`
}

// Run prints a record.
func (c *traceCommand) Run(ctx context.Context, t *terminal) error {
	local, err := c.open(ctx, t)
	if err != nil {
		return err
	}
	defer func() { _ = local.Close() }()
	record, err := awaitRecord(ctx, local, strings.TrimSpace(c.ID))
	if err != nil {
		return err
	}
	names, err := keyNames(ctx, local.Control)
	if err != nil {
		return err
	}
	v := traced(&record, names)
	if record.Content != nil && c.Content {
		v.Content = &tracedContent{string(record.Content.Request), string(record.Content.Answer), record.Content.Truncated}
	}
	if c.JSON {
		return t.json(v)
	}
	t.trace(v)
	switch {
	case v.Content != nil:
		t.print("\n%s\n%s\n\n%s\n%s\n", t.styled(bold, "Request"), v.Content.Request, t.styled(bold, "Answer"), v.Content.Answer)
	case record.Content != nil:
		t.print("\nThe prompt and the answer were logged; --content shows them.\n")
	case c.Content:
		t.print("\nThe prompt and the answer were not logged: the policy does not say so.\n")
	}
	return nil
}

// shipTime is how long a record may be on its way from the journal to the database.
const shipTime = 2 * time.Second

// awaitRecord reads a record, and again for a while when it is not there yet: the journal ships it to
// the database some hundred milliseconds after the answer.
func awaitRecord(ctx context.Context, local *app.Local, id string) (usage.Record, error) {
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	end := time.After(shipTime)
	for {
		record, err := local.Store.Record(ctx, id)
		var known *fault.Error
		if err == nil || !errors.As(err, &known) || known.Kind != fault.NotFound {
			return record, err
		}
		select {
		case <-ctx.Done():
			return record, ctx.Err()
		case <-end:
			return record, &failure{
				message: fmt.Sprintf("there is no record of %q", id), cause: err,
				hint: "The id is the header x-request-id of an answer to a valid key. Is this the gateway's database? See --config, --data-dir and --database.",
			}
		case <-again.C:
		}
	}
}

func traced(r *usage.Record, keys map[string]string) *trace {
	v := &trace{
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
		v.Primary = &tracedPrimary{r.Primary, catalog.FormatUSD(r.PrimaryCost), r.PrimaryCost, r.PrimaryLatency}
	}
	if d, known := r.Difference(); known {
		v.Difference = &difference{CostUSD: catalog.FormatUSD(d.Cost), CostNano: d.Cost, Lost: d.Lost}
		if r.PrimaryLatency > 0 {
			v.Difference.Usual = &d.Usual
		}
	}
	return v
}

// trace prints a record for people: what it was, what was considered, and its attempts on a time line.
func (t *terminal) trace(v *trace) {
	t.print("%s\n\n", t.styled(bold, v.ID))
	for _, f := range v.facts() {
		t.wrapped(fmt.Sprintf("  %-9s  ", f.name), f.text, plain)
	}
	if len(v.Candidates) > 0 {
		t.print("\n%s\n", t.styled(bold, "Candidates, in the order in which they were considered"))
		t.candidates(v)
	}
	if len(v.Attempts) == 0 {
		t.print("\nNo provider was asked.\n")
		return
	}
	t.print("\n%s\n", t.styled(bold, "Attempts"))
	t.timeline(v)
}

type fact struct{ name, text string }

func (v *trace) facts() []fact {
	who := v.KeyID
	if v.KeyName != "" {
		who = v.KeyName + " (" + v.KeyID + ")"
	}
	asked := v.Endpoint
	if v.Stream {
		asked += ", stream"
	}
	if v.Requested != "" {
		asked += fmt.Sprintf(", model %q", v.Requested)
	}
	facts := []fact{
		{"when", v.Start.Format("2006-01-02 15:04:05.000 UTC")},
		{"who", fmt.Sprintf("%s/%s, key %s", v.Organization, v.Project, who)},
		{"asked", asked},
	}
	if v.Policy != "" {
		by := "policy " + v.Policy
		if v.Route != "" {
			by = "route " + v.Route + ", " + by
		}
		facts = append(facts, fact{"routed", by})
	}
	if v.Provider != "" {
		facts = append(facts, fact{"answered", fmt.Sprintf("%s at %s", v.Model, v.Deployment)})
	}
	switch v.Reason {
	case "":
	case "primary":
		facts = append(facts, fact{"because", "it is the primary, and was well"})
	default:
		facts = append(facts, fact{"because", v.Reason})
	}
	status := fmt.Sprint(v.Status)
	if v.Code != "" {
		status += " " + v.Code
	}
	facts = append(facts, fact{"status", status}, fact{"took", v.took()},
		fact{"tokens", tokensText(v.Tokens)}, fact{"cost", "$" + v.CostUSD})
	if text := v.compared(); text != "" {
		facts = append(facts, fact{"compared", text})
	}
	if v.Resumed {
		facts = append(facts, fact{"resumed", "a stream broke, and another attempt completed it"})
	}
	if v.Drill != "" {
		facts = append(facts, fact{"drill", v.Drill + ": what is marked with it below was rehearsed"})
	}
	facts = append(facts, fact{"size", fmt.Sprintf("%s bytes in, %s out", number(v.BytesIn), number(v.BytesOut))})
	if v.TraceID != "" {
		facts = append(facts, fact{"trace", v.TraceID})
	}
	return facts
}

// compared says what it cost, in money and time, that the primary did not simply answer. Empty: it did,
// or nobody answered.
func (v *trace) compared() string {
	d := v.Difference
	if d == nil || v.Deployment == v.Primary.Deployment && d.CostNano == 0 && d.Lost == 0 {
		return ""
	}
	text := "the same cost"
	if d.CostNano != 0 {
		text = "cost " + signedUSD(d.CostNano)
		if of := v.Primary.CostNano; of > 0 {
			text += fmt.Sprintf(" (%s %%)", signedShare(float64(d.CostNano)/float64(of)))
		}
	}
	if d.Lost == 0 {
		text += " and no time lost"
	} else {
		text += " and " + signedUS(d.Lost)
	}
	text += " against the primary " + v.Primary.Deployment
	if d.Usual == nil {
		return text
	}
	what := "answer"
	if v.Stream {
		what = "first token"
	}
	return text + fmt.Sprintf(", whose %s usually takes %s (this one: %s)", what, us(v.Primary.Latency), signedUS(*d.Usual))
}

func signedUSD(nano int64) string {
	if nano < 0 {
		return "-$" + catalog.FormatUSD(-nano)
	}
	return "+$" + catalog.FormatUSD(nano)
}

// signedShare writes a share in percent; below one percent with a digit more.
func signedShare(share float64) string {
	if percent := 100 * share; percent > -1 && percent < 1 {
		return fmt.Sprintf("%+.1f", percent)
	}
	return fmt.Sprintf("%+.0f", 100*share)
}

func signedUS(n int64) string {
	if n < 0 {
		return "-" + us(-n)
	}
	return "+" + us(n)
}

func (v *trace) took() string {
	text := us(v.Duration)
	if v.FirstToken > 0 && v.Stream {
		text += ", first token after " + us(v.FirstToken)
	}
	return text
}

func tokensText(tk catalog.Tokens) string {
	text := fmt.Sprintf("%s prompt", number(tk.Prompt)) +
		partsText(tokenPart{tk.Cached, "cached"}, tokenPart{tk.CacheWrite, "written to the cache"}, tokenPart{tk.AudioInput, "audio"})
	text += fmt.Sprintf(", %s completion", number(tk.Completion)) +
		partsText(tokenPart{tk.Reasoning, "reasoning"}, tokenPart{tk.AudioOutput, "audio"})
	if tk.Estimated {
		return text + ", estimated"
	}
	return text
}

// tokenPart is what some tokens are.
type tokenPart struct {
	tokens int64
	kind   string
}

func partsText(parts ...tokenPart) string {
	var said []string
	for _, p := range parts {
		if p.tokens > 0 {
			said = append(said, number(p.tokens)+" "+p.kind)
		}
	}
	if said == nil {
		return ""
	}
	return " (" + strings.Join(said, ", ") + ")"
}

// us writes microseconds for people.
func us(n int64) string {
	switch {
	case n < 10_000:
		return fmt.Sprintf("%.1f ms", float64(n)/1000)
	case n < 10_000_000:
		return fmt.Sprintf("%d ms", (n+500)/1000)
	default:
		return fmt.Sprintf("%.1f s", float64(n)/1e6)
	}
}
