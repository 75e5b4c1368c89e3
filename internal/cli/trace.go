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
	ID           string          `json:"id"`
	Start        time.Time       `json:"start"`
	Duration     int64           `json:"duration_us"`
	FirstToken   int64           `json:"first_token_us,omitempty"`
	Organization string          `json:"organization"`
	Project      string          `json:"project"`
	KeyID        string          `json:"key_id"`
	KeyName      string          `json:"key_name,omitempty"`
	Endpoint     string          `json:"endpoint"`
	Stream       bool            `json:"stream"`
	Requested    string          `json:"requested"`
	Route        string          `json:"route,omitempty"`
	Policy       string          `json:"policy,omitempty"`
	Model        string          `json:"model,omitempty"`
	Provider     string          `json:"provider,omitempty"`
	Deployment   string          `json:"deployment,omitempty"`
	Status       int             `json:"status"`
	Code         string          `json:"code,omitempty"`
	Tokens       catalog.Tokens  `json:"tokens"`
	CostUSD      string          `json:"cost_usd"`
	CostNano     int64           `json:"cost_nano_usd"`
	PriceVersion string          `json:"price_version,omitempty"`
	BytesIn      int64           `json:"bytes_in"`
	BytesOut     int64           `json:"bytes_out"`
	TraceID      string          `json:"trace_id,omitempty"`
	Attempts     []usage.Attempt `json:"attempts"`
	Content      *tracedContent  `json:"content,omitempty"`
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
	v := traced(record, names)
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

func traced(r usage.Record, keys map[string]string) trace {
	v := trace{
		ID: r.ID, Start: time.UnixMicro(r.Start).UTC(), Duration: r.Duration, FirstToken: r.FirstToken,
		Organization: r.Organization, Project: r.Project, KeyID: r.KeyID, Endpoint: string(r.Endpoint), Stream: r.Stream,
		Requested: r.Requested, Route: r.Route, Policy: r.Policy, Model: r.Model, Provider: r.Provider, Deployment: r.Deployment,
		Status: r.Status, Code: r.Code, Tokens: r.Tokens, CostUSD: catalog.FormatUSD(r.Cost), CostNano: r.Cost, PriceVersion: r.PriceVersion,
		BytesIn: r.BytesIn, BytesOut: r.BytesOut, TraceID: r.TraceID, Attempts: r.Attempts,
	}
	if name, known := keys[r.KeyID]; known {
		v.KeyName = name[strings.LastIndexByte(name, '/')+1:]
	}
	if v.Attempts == nil {
		v.Attempts = []usage.Attempt{}
	}
	return v
}

// trace prints a record for people: what it was, then its attempts on a time line.
func (t *terminal) trace(v trace) {
	t.print("%s\n\n", t.styled(bold, v.ID))
	for _, f := range v.facts() {
		t.print("  %-9s  %s\n", f.name, f.text)
	}
	if len(v.Attempts) == 0 {
		t.print("\nNo provider was asked.\n")
		return
	}
	t.print("\n")
	tb := &table{columns: []column{
		{title: "#", align: right},
		{title: "ATTEMPT"},
		{title: "OUTCOME"},
		{title: "0" + strings.Repeat(" ", barWidth-len(us(v.Duration))-1) + us(v.Duration)},
		{title: "FIRST TOKEN", align: right},
		{title: "TOOK", align: right},
	}}
	for i, a := range v.Attempts {
		outcome := a.Outcome
		if a.Status != 0 && a.Status != 200 {
			outcome += fmt.Sprintf(" (%d)", a.Status)
		}
		first := ""
		if a.FirstToken > 0 {
			first = us(a.FirstToken)
		}
		tb.add(fmt.Sprint(i+1), a.Deployment, outcome, bar(a, v.Duration), first, us(a.Duration))
	}
	t.table("  ", tb)
	t.print("  %s\n", t.styled(faint, ". waits for the first token   # the answer arrives"))
	for i, a := range v.Attempts {
		if a.Message != "" {
			t.print("  %s\n", t.styled(faint, fmt.Sprintf("%d: %s", i+1, a.Message)))
		}
	}
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
	status := fmt.Sprint(v.Status)
	if v.Code != "" {
		status += " " + v.Code
	}
	facts = append(facts, fact{"status", status}, fact{"took", v.took()})
	facts = append(facts, fact{"tokens", tokensText(v.Tokens)}, fact{"cost", "$" + v.CostUSD})
	facts = append(facts, fact{"size", fmt.Sprintf("%s bytes in, %s out", number(v.BytesIn), number(v.BytesOut))})
	if v.TraceID != "" {
		facts = append(facts, fact{"trace", v.TraceID})
	}
	return facts
}

func (v *trace) took() string {
	text := us(v.Duration)
	if v.FirstToken > 0 && v.Stream {
		text += ", first token after " + us(v.FirstToken)
	}
	return text
}

func tokensText(tk catalog.Tokens) string {
	text := fmt.Sprintf("%s prompt", number(tk.Prompt))
	if tk.Cached > 0 {
		text += fmt.Sprintf(" (%s cached)", number(tk.Cached))
	}
	text += fmt.Sprintf(", %s completion", number(tk.Completion))
	if tk.Reasoning > 0 {
		text += fmt.Sprintf(" (%s reasoning)", number(tk.Reasoning))
	}
	if tk.Estimated {
		return text + ", estimated"
	}
	return text
}

// us writes microseconds for people.
func us(n int64) string {
	switch {
	case n < 10_000:
		return fmt.Sprintf("%.1f ms", float64(n)/1000)
	case n < 10_000_000:
		return fmt.Sprintf("%d ms", n/1000)
	default:
		return fmt.Sprintf("%.1f s", float64(n)/1e6)
	}
}

// barWidth is the length of the time line in characters.
const barWidth = 40

// bar draws an attempt on the request's time line: dots while it waited for content, hashes while
// content came. Every attempt is at least one character long.
func bar(a usage.Attempt, total int64) string {
	if total <= 0 {
		return ""
	}
	place := func(at int64) int { return int(min(max(at*barWidth/total, 0), barWidth)) }
	start := min(place(a.Offset), barWidth-1)
	end := max(place(a.Offset+a.Duration), start+1)
	content := end
	if a.FirstToken > 0 {
		content = min(max(place(a.Offset+a.FirstToken), start), end)
	}
	return strings.Repeat(" ", start) + strings.Repeat(".", content-start) + strings.Repeat("#", end-content)
}
