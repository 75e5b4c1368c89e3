package cli

import (
	"context"
	"time"

	"shareai/internal/catalog"
	"shareai/internal/cli/timeline"
	"shareai/internal/store"
)

type promptsCommand struct {
	Since        moment `default:"7d" placeholder:"WHEN" help:"From which day on: 7d, 2026-11-01. Default: 7d."`
	Until        moment `placeholder:"WHEN" help:"Until when; its day counts as a whole. Default: now."`
	Organization string `placeholder:"NAME" help:"Only this organization."`
	Project      string `placeholder:"NAME" help:"Only projects with this name."`
	Model        string `placeholder:"NAME" help:"Only answers of this model."`
	Limit        int    `default:"20" placeholder:"N" help:"How many prompts, at most 1000. Default: 20."`
	output
	place `group:"Where the gateway keeps its data:"`
}

// Help is the long help.
func (promptsCommand) Help() string {
	return `A prompt is known by its fingerprint: what was said is not kept, except where a policy logs content. The same
prompt, byte for byte, has the same fingerprint. The gateway ranks the thousand prompts of each day that cost most,
every ten minutes.`
}

// rankedPrompt is a row of the report as JSON.
type rankedPrompt struct {
	Prompt           string `json:"prompt"`
	Project          string `json:"project"`
	Model            string `json:"model"`
	Requests         int64  `json:"requests"`
	PromptTokens     int64  `json:"prompt_tokens"`
	CompletionTokens int64  `json:"completion_tokens"`
	CostUSD          string `json:"cost_usd"` // decimal, exact
	CostNano         int64  `json:"cost_nano_usd"`
	Example          string `json:"example"` // id of a request, for trace
}

// Run prints the report.
func (c *promptsCommand) Run(ctx context.Context, t *terminal) error {
	if c.Limit < 1 || c.Limit > 1000 {
		return &failure{message: "--limit is from 1 to 1000", code: exitUsage}
	}
	now := time.Now().UTC()
	q := store.PromptQuery{
		From: c.Since.before(now), To: now, Organization: c.Organization, Project: c.Project, Model: c.Model, Limit: c.Limit,
	}
	if c.Until.set() {
		q.To = c.Until.before(now)
	}
	if !q.From.Before(q.To) {
		return &failure{message: "--since is not before --until", code: exitUsage}
	}
	local, err := c.open(ctx, t)
	if err != nil {
		return err
	}
	defer func() { _ = local.Close() }()
	found, err := local.Store.Prompts(ctx, q)
	if err != nil {
		return err
	}
	rows := make([]rankedPrompt, len(found))
	for i, p := range found {
		rows[i] = rankedPrompt{
			Prompt: p.Prompt, Project: p.Project, Model: p.Model, Requests: p.Requests, PromptTokens: p.PromptTokens,
			CompletionTokens: p.CompletionTokens, CostUSD: catalog.FormatUSD(p.Cost), CostNano: p.Cost, Example: p.Example,
		}
	}
	if c.JSON {
		return t.json(rows)
	}
	t.prompts(rows)
	return nil
}

func (t *terminal) prompts(rows []rankedPrompt) {
	if len(rows) == 0 {
		t.print("No prompts are ranked in this time. A running gateway ranks them every ten minutes.\n")
		return
	}
	tb := &table{columns: []column{
		{title: "PROMPT"},
		{title: "PROJECT"},
		{title: "MODEL"},
		{title: "REQUESTS", align: right},
		{title: "PROMPT TOKENS", align: right},
		{title: "COMPLETION", align: right},
		{title: "COST USD", align: right},
		{title: "EXAMPLE"},
	}}
	costs := make([]string, len(rows))
	for i := range rows {
		costs[i] = rows[i].CostUSD
	}
	digits := decimals(costs)
	for _, r := range rows {
		tb.add(r.Prompt, r.Project, r.Model, timeline.Number(r.Requests), timeline.Number(r.PromptTokens), timeline.Number(r.CompletionTokens), padded(r.CostUSD, digits), r.Example)
	}
	t.table("", tb)
}
