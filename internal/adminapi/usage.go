package adminapi

import (
	"bytes"
	"context"
	"encoding/csv"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"shareai/internal/account"
	"shareai/internal/store"
)

// UsageSum is the sum of the requests that share the values of the dimensions.
type UsageSum struct {
	Values            map[string]string `json:"values" nullable:"false" doc:"By dimension. Empty: the request had none."`
	Requests          int64             `json:"requests"`
	Failures          int64             `json:"failures" doc:"Answered with an error, or broken off. A client that left is none."`
	Canceled          int64             `json:"canceled" doc:"The client left first."`
	FailedOver        int64             `json:"failed_over" doc:"Another than the primary answered."`
	Estimated         int64             `json:"estimated" doc:"Requests whose tokens ShareAI estimated."`
	PromptTokens      int64             `json:"prompt_tokens"`
	CachedTokens      int64             `json:"cached_tokens" doc:"Of the prompt."`
	CacheWriteTokens  int64             `json:"cache_write_tokens" doc:"Of the prompt."`
	AudioInputTokens  int64             `json:"audio_input_tokens" doc:"Of the prompt."`
	CompletionTokens  int64             `json:"completion_tokens"`
	ReasoningTokens   int64             `json:"reasoning_tokens" doc:"Of the completion."`
	AudioOutputTokens int64             `json:"audio_output_tokens" doc:"Of the completion."`
	CostUSD           string            `json:"cost_usd" doc:"As a decimal."`
	MeanMS            float64           `json:"mean_ms" doc:"How long requests took."`
	MeanFirstTokenMS  float64           `json:"mean_first_token_ms" doc:"To the first content, of requests that sent some."`
}

// UsageReport is usage over a time.
type UsageReport struct {
	By   []string   `json:"by" nullable:"false"`
	Rows []UsageSum `json:"rows" nullable:"false" doc:"By their values."`
	NextCursor
}

// PromptList is what costs most.
type PromptList struct {
	Prompts []PromptSum `json:"prompts" nullable:"false" doc:"What costs most first."`
}

// PromptSum is the requests with one prompt.
type PromptSum struct {
	Fingerprint      string `json:"fingerprint" doc:"The same for the same prompt. It does not tell the prompt."`
	Project          string `json:"project"`
	Model            string `json:"model"`
	Requests         int64  `json:"requests"`
	PromptTokens     int64  `json:"prompt_tokens"`
	CompletionTokens int64  `json:"completion_tokens"`
	CostUSD          string `json:"cost_usd"`
	Example          string `json:"example,omitempty" doc:"The id of one of the requests."`
}

// UsageFilter selects usage. Embed it in the input of an operation.
type UsageFilter struct {
	By       []string  `query:"by" maxItems:"5" doc:"Dimensions: model, provider, deployment, route, key, provider_key, project, endpoint, status, drill, day, hour, label:NAME. Missing: the total."`
	From     time.Time `query:"from" doc:"Widened to whole hours (UTC). Missing: 24 hours before to."`
	To       time.Time `query:"to" doc:"Before then. Missing: now."`
	Project  string    `query:"project" maxLength:"63"`
	Key      string    `query:"key" maxLength:"100" doc:"The id of an API key."`
	Model    string    `query:"model" maxLength:"128"`
	Provider string    `query:"provider" maxLength:"80"`
}

type (
	usageInput struct {
		Page
		UsageFilter
	}
	usageAnswer struct{ Body UsageReport }
	exportInput struct {
		UsageFilter
		Format string `query:"format" enum:"csv,json" default:"csv"`
	}
	fileAnswer struct {
		ContentType string `header:"Content-Type"`
		Disposition string `header:"Content-Disposition"`
		Body        []byte
	}
	promptsInput struct {
		From    time.Time `query:"from" doc:"Widened to whole days (UTC). Missing: 7 days before to."`
		To      time.Time `query:"to" doc:"Missing: now."`
		Project string    `query:"project" maxLength:"63"`
		Model   string    `query:"model" maxLength:"128"`
		Limit   int       `query:"limit" minimum:"1" maximum:"500" default:"20"`
	}
	promptsAnswer struct{ Body PromptList }
)

func (a *API) addUsage() {
	tags := []string{"Usage"}
	operation(a, huma.Operation{
		OperationID: "get-usage", Method: http.MethodGet, Path: "/api/v1/usage", Tags: tags, Summary: "Sum up usage", Description: "Requests, tokens, cost and times of the organization, by up to five dimensions.",
	}, account.ReadUsage, a.getUsage)
	operation(a, huma.Operation{
		OperationID: "export-usage", Method: http.MethodGet, Path: "/api/v1/usage/export", Tags: tags, Summary: "Export usage", Description: "The whole report as a file: CSV, or JSON as get-usage answers.",
	}, account.ReadUsage, a.exportUsage)
	operation(a, huma.Operation{
		OperationID: "list-prompts", Method: http.MethodGet, Path: "/api/v1/prompts", Tags: tags, Summary: "Show which prompts cost most", Description: "They are ranked by the day, some minutes after the requests.",
	}, account.ReadUsage, a.listPrompts)
}

// query reads a filter. It selects the caller's organization alone.
func (f *UsageFilter) query(caller *Caller) (store.UsageQuery, error) {
	project, err := caller.ProjectsOf(f.Project)
	if err != nil {
		return store.UsageQuery{}, err
	}
	q := store.UsageQuery{From: f.From, To: f.To, Organization: caller.Organization, Project: project, KeyID: f.Key, Model: f.Model, Provider: f.Provider}
	if q.To.IsZero() {
		q.To = time.Now()
	}
	if q.From.IsZero() {
		q.From = q.To.Add(-24 * time.Hour)
	}
	if !q.From.Before(q.To) {
		return q, invalid("from", "The range ends before it begins.")
	}
	for _, d := range f.By {
		if store.Dimension(d) == store.ByOrganization {
			return q, invalid("by", "A report is about one organization.")
		}
		q.By = append(q.By, store.Dimension(d))
	}
	return q, nil
}

func viewUsage(by []string, r *store.UsageRow) UsageSum {
	v := UsageSum{
		Values: make(map[string]string, len(by)), Requests: r.Requests, Failures: r.Failures, Canceled: r.Canceled, FailedOver: r.FailedOver, Estimated: r.Estimated,
		PromptTokens: r.PromptTokens, CachedTokens: r.CachedTokens, CacheWriteTokens: r.CacheWriteTokens, AudioInputTokens: r.AudioInputTokens,
		CompletionTokens: r.CompletionTokens, ReasoningTokens: r.ReasoningTokens, AudioOutputTokens: r.AudioOutputTokens,
		CostUSD: money(r.Cost), MeanMS: ms(r.MeanDuration.Microseconds()), MeanFirstTokenMS: ms(r.MeanFirstToken.Microseconds()),
	}
	for i, d := range by {
		v.Values[d] = r.Values[i]
	}
	return v
}

func (a *API) getUsage(ctx context.Context, caller *Caller, in *usageInput) (*usageAnswer, error) {
	q, err := in.query(caller)
	if err != nil {
		return nil, err
	}
	rows, err := a.Records.Usage(ctx, q)
	if err != nil {
		return nil, err
	}
	rows, next, err := pageOf(rows, in.Page, func(r *store.UsageRow) string { return strings.Join(r.Values, "\x00") })
	if err != nil {
		return nil, err
	}
	return &usageAnswer{Body: report(in.By, rows, next)}, nil
}

func report(by []string, rows []store.UsageRow, next NextCursor) UsageReport {
	v := UsageReport{By: append([]string{}, by...), Rows: make([]UsageSum, len(rows)), NextCursor: next}
	for i := range rows {
		v.Rows[i] = viewUsage(by, &rows[i])
	}
	return v
}

func (a *API) exportUsage(ctx context.Context, caller *Caller, in *exportInput) (*fileAnswer, error) {
	q, err := in.query(caller)
	if err != nil {
		return nil, err
	}
	rows, err := a.Records.Usage(ctx, q)
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("usage-%s-%s.%s", q.From.UTC().Format("20060102"), q.To.UTC().Format("20060102"), in.Format)
	out := &fileAnswer{ContentType: "text/csv; charset=utf-8", Disposition: `attachment; filename="` + name + `"`}
	if in.Format == "json" {
		out.ContentType = "application/json"
		out.Body, err = encodeJSON(report(in.By, rows, NextCursor{}))
		return out, err
	}
	out.Body, err = usageCSV(in.By, rows)
	return out, err
}

// usageCSV is a report as CSV. A spreadsheet must not take a name for a formula.
func usageCSV(by []string, rows []store.UsageRow) ([]byte, error) {
	var text bytes.Buffer
	w := csv.NewWriter(&text)
	_ = w.Write(append(append([]string{}, by...), "requests", "failures", "canceled", "failed_over", "estimated", "prompt_tokens", "cached_tokens", "cache_write_tokens",
		"audio_input_tokens", "completion_tokens", "reasoning_tokens", "audio_output_tokens", "cost_usd", "mean_ms", "mean_first_token_ms"))
	for i := range rows {
		r := viewUsage(by, &rows[i])
		line := make([]string, 0, len(by)+15)
		for _, value := range rows[i].Values {
			line = append(line, harmless(value))
		}
		for _, n := range []int64{
			r.Requests, r.Failures, r.Canceled, r.FailedOver, r.Estimated, r.PromptTokens, r.CachedTokens, r.CacheWriteTokens, r.AudioInputTokens,
			r.CompletionTokens, r.ReasoningTokens, r.AudioOutputTokens,
		} {
			line = append(line, strconv.FormatInt(n, 10))
		}
		line = append(line, r.CostUSD, strconv.FormatFloat(r.MeanMS, 'f', 3, 64), strconv.FormatFloat(r.MeanFirstTokenMS, 'f', 3, 64))
		_ = w.Write(line)
	}
	w.Flush()
	return text.Bytes(), w.Error()
}

// harmless is a text that no spreadsheet takes for a formula.
func harmless(text string) string {
	if text != "" && strings.ContainsRune("=+-@\t\r", rune(text[0])) {
		return "'" + text
	}
	return text
}

func (a *API) listPrompts(ctx context.Context, caller *Caller, in *promptsInput) (*promptsAnswer, error) {
	project, err := caller.ProjectsOf(in.Project)
	if err != nil {
		return nil, err
	}
	q := store.PromptQuery{From: in.From, To: in.To, Organization: caller.Organization, Project: project, Model: in.Model, Limit: in.Limit}
	if q.To.IsZero() {
		q.To = time.Now()
	}
	if q.From.IsZero() {
		q.From = q.To.Add(-7 * 24 * time.Hour)
	}
	rows, err := a.Records.Prompts(ctx, q)
	out := &promptsAnswer{Body: PromptList{Prompts: make([]PromptSum, len(rows))}}
	for i, r := range rows {
		out.Body.Prompts[i] = PromptSum{
			Fingerprint: r.Prompt, Project: strings.TrimPrefix(r.Project, caller.Organization+"/"), Model: r.Model, Requests: r.Requests, PromptTokens: r.PromptTokens,
			CompletionTokens: r.CompletionTokens, CostUSD: money(r.Cost), Example: r.Example,
		}
	}
	return out, err
}
