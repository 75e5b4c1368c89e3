package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"shareai/internal/app"
	"shareai/internal/cli/timeline"
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
	v := timeline.Of(&record, names)
	if record.Content != nil && c.Content {
		v.Content = &timeline.Content{
			Request: string(record.Content.Request), Answer: string(record.Content.Answer), Truncated: record.Content.Truncated,
		}
	}
	if c.JSON {
		return t.json(v)
	}
	timeline.Draw(page{t}, v)
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

// page is a terminal on which traces are drawn.
type page struct{ *terminal }

// Print implements timeline.Page.
func (p page) Print(format string, args ...any) { p.print(format, args...) }

// Bold implements timeline.Page.
func (p page) Bold(text string) string { return p.styled(bold, text) }

// Faint implements timeline.Page.
func (p page) Faint(text string) string { return p.styled(faint, text) }
