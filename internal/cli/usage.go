package cli

import (
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"shareai/internal/catalog"
	"shareai/internal/cli/timeline"
	"shareai/internal/control"
	"shareai/internal/store"
)

type usageCommand struct {
	Since        moment      `default:"24h" placeholder:"WHEN" help:"From when on: 24h, 7d, 2026-11-01 or 2026-11-01T15:04:05Z. Default: 24h."`
	Until        moment      `placeholder:"WHEN" help:"Until when, exclusively. Default: now."`
	By           []dimension `default:"model,provider" placeholder:"WHAT" help:"Sum up by model, provider, deployment, route, key, provider_key, project, organization, endpoint, status, drill, day, hour or label:NAME. Default: model,provider."`
	Organization string      `placeholder:"NAME" help:"Only this organization."`
	Project      string      `placeholder:"NAME" help:"Only projects with this name."`
	KeyID        string      `name:"key-id" placeholder:"ID" help:"Only this API key (key_…)."`
	Model        string      `placeholder:"NAME" help:"Only answers of this model."`
	Provider     string      `placeholder:"NAME" help:"Only answers of this provider."`
	Format       format      `default:"table" placeholder:"FORMAT" help:"Print a table, csv or json. Default: table."`
	output
	place `group:"Where the gateway keeps its data:"`
}

// Help is the long help.
func (usageCommand) Help() string {
	return `A request is counted as soon as its record has reached the database, usually within a second. Days and
hours are in UTC, costs in USD. The range is widened to whole hours.

    shareai usage
    shareai usage --since 7d --by day
    shareai usage --since 7d --by model,deployment        # what each of them costs, and how fast it is
    shareai usage --since 30d --by label:team,day --format csv > usage.csv
    shareai usage --since 2026-11-01 --until 2026-12-01 --by project,model --json`
}

// dimension is something to sum up by.
type dimension store.Dimension

// UnmarshalText reads one of the flag's values.
func (d *dimension) UnmarshalText(text []byte) error {
	*d = dimension(strings.TrimSpace(string(text)))
	if !store.Dimension(*d).Valid() {
		names := make([]string, 0, len(store.Dimensions)+1)
		for _, known := range append(store.Dimensions, store.ByLabel("NAME")) {
			names = append(names, string(known))
		}
		return fmt.Errorf("%q is nothing to sum up by; use %s", string(text), strings.Join(names, ", "))
	}
	return nil
}

// format is how a report is printed.
type format string

const (
	asTable format = "table"
	asCSV   format = "csv"
	asJSON  format = "json"
)

// UnmarshalText reads the flag.
func (f *format) UnmarshalText(text []byte) error {
	*f = format(text)
	if !slices.Contains([]format{asTable, asCSV, asJSON}, *f) {
		return fmt.Errorf("%q is no format; use table, csv or json", string(text))
	}
	return nil
}

// sums is a row of the report as JSON. Durations are milliseconds.
type sums struct {
	Group            map[string]string `json:"group,omitempty"`
	Requests         int64             `json:"requests"`
	Failures         int64             `json:"failures"`
	Canceled         int64             `json:"canceled"`
	FailedOver       int64             `json:"failed_over"` // another than the primary answered
	Estimated        int64             `json:"estimated"`   // requests whose tokens are estimates
	PromptTokens     int64             `json:"prompt_tokens"`
	CachedTokens     int64             `json:"cached_tokens"`
	CompletionTokens int64             `json:"completion_tokens"`
	ReasoningTokens  int64             `json:"reasoning_tokens"`
	CacheWrite       int64             `json:"cache_write_tokens"`    // part of the prompt
	CacheWrite1h     int64             `json:"cache_write_1h_tokens"` // part of what was written
	AudioInput       int64             `json:"audio_input_tokens"`    // part of the prompt
	AudioOutput      int64             `json:"audio_output_tokens"`   // part of the completion
	CostUSD          string            `json:"cost_usd"`              // decimal, exact
	CostNano         int64             `json:"cost_nano_usd"`
	MeanMS           float64           `json:"mean_ms"`
	MeanFirstTokenMS float64           `json:"mean_first_token_ms"`
	USDPerMillion    float64           `json:"usd_per_million_tokens"` // of prompt and completion together, rounded; 0 when there are none
	Duration         percentiles       `json:"duration_ms"`
	FirstToken       percentiles       `json:"first_token_ms"`
}

// percentiles are milliseconds, within a fifth of the truth. 0: there are none.
type percentiles struct {
	P50 float64 `json:"p50"`
	P95 float64 `json:"p95"`
	P99 float64 `json:"p99"`
}

func percentilesOf(p store.Percentiles) percentiles {
	return percentiles{milliseconds(p.P50), milliseconds(p.P95), milliseconds(p.P99)}
}

func (p percentiles) list() []float64 { return []float64{p.P50, p.P95, p.P99} }

// cell writes percentiles for people.
func (p percentiles) cell() string {
	if p == (percentiles{}) {
		return "-"
	}
	return duration(p.P50) + " / " + duration(p.P95) + " / " + duration(p.P99)
}

// report is the outcome as JSON.
type report struct {
	From  time.Time `json:"from"`
	To    time.Time `json:"to"`
	By    []string  `json:"by"`
	Rows  []sums    `json:"rows"`
	Total sums      `json:"total"`
}

// Run prints the report.
func (c *usageCommand) Run(ctx context.Context, t *terminal) error {
	now := time.Now().UTC()
	r := report{From: c.Since.before(now).UTC(), To: now, Rows: []sums{}, By: []string{}}
	if c.Until.set() {
		r.To = c.Until.before(now).UTC()
	}
	if !r.From.Before(r.To) {
		return &failure{message: "--since is not before --until", code: exitUsage}
	}
	r.From, r.To = r.From.Truncate(time.Hour), r.To.Add(time.Hour-1).Truncate(time.Hour)
	if c.JSON {
		c.Format = asJSON
	}
	local, err := c.open(ctx, t)
	if err != nil {
		return err
	}
	defer func() { _ = local.Close() }()
	query := store.UsageQuery{
		From: r.From, To: r.To,
		Organization: c.Organization, Project: c.Project, KeyID: c.KeyID, Model: c.Model, Provider: c.Provider,
	}
	total, err := local.Store.Usage(ctx, query)
	if err != nil {
		return err
	}
	for _, d := range c.By {
		query.By = append(query.By, store.Dimension(d))
		r.By = append(r.By, string(d))
	}
	rows := total
	if len(query.By) > 0 {
		if rows, err = local.Store.Usage(ctx, query); err != nil {
			return err
		}
	}
	r.fill(rows, total)
	if err := r.time(ctx, local.Store, query); err != nil {
		return err
	}
	switch c.Format {
	case asJSON:
		return t.json(r)
	case asCSV:
		return r.writeCSV(t.out)
	}
	names, err := keyNames(ctx, local.Control)
	if err != nil {
		return err
	}
	t.usage(&r, names)
	return nil
}

// fill takes the rows. The total is their sum, so that it always adds up: a record may have arrived
// between the two queries. Only its means are asked for, because means can not be summed.
func (r *report) fill(rows, total []store.UsageRow) {
	for i := range rows {
		s := summed(&rows[i])
		if len(r.By) > 0 {
			s.Group = map[string]string{}
			for j, d := range r.By {
				s.Group[d] = rows[i].Values[j]
			}
			r.Rows = append(r.Rows, s)
		}
		r.Total.add(&s)
	}
	r.Total.CostUSD = catalog.FormatUSD(r.Total.CostNano)
	r.Total.USDPerMillion = r.Total.usdPerMillion()
	if len(total) == 1 {
		all := summed(&total[0])
		r.Total.MeanMS, r.Total.MeanFirstTokenMS = all.MeanMS, all.MeanFirstTokenMS
	}
}

// time adds how long requests took.
func (r *report) time(ctx context.Context, rows *store.Store, query store.UsageQuery) error {
	times, err := rows.Times(ctx, query)
	if err != nil {
		return err
	}
	at := map[string]*store.TimesRow{}
	for i := range times {
		at[strings.Join(times[i].Values, "\x00")] = &times[i]
	}
	for i := range r.Rows {
		values := make([]string, len(r.By))
		for j, d := range r.By {
			values[j] = r.Rows[i].Group[d]
		}
		if of := at[strings.Join(values, "\x00")]; of != nil {
			r.Rows[i].Duration, r.Rows[i].FirstToken = percentilesOf(of.Duration), percentilesOf(of.FirstToken)
		}
	}
	query.By = nil
	if times, err = rows.Times(ctx, query); err == nil && len(times) == 1 {
		r.Total.Duration, r.Total.FirstToken = percentilesOf(times[0].Duration), percentilesOf(times[0].FirstToken)
	}
	return err
}

func summed(u *store.UsageRow) sums {
	s := sums{
		Requests: u.Requests, Failures: u.Failures, Canceled: u.Canceled, FailedOver: u.FailedOver, Estimated: u.Estimated,
		PromptTokens: u.PromptTokens, CachedTokens: u.CachedTokens,
		CompletionTokens: u.CompletionTokens, ReasoningTokens: u.ReasoningTokens,
		CacheWrite: u.CacheWriteTokens, CacheWrite1h: u.CacheWrite1hTokens, AudioInput: u.AudioInputTokens, AudioOutput: u.AudioOutputTokens,
		CostUSD: catalog.FormatUSD(u.Cost), CostNano: u.Cost,
		MeanMS: milliseconds(u.MeanDuration), MeanFirstTokenMS: milliseconds(u.MeanFirstToken),
	}
	s.USDPerMillion = s.usdPerMillion()
	return s
}

// usdPerMillion is what makes deployments comparable that answered different requests. It is rounded to
// four digits after the point.
func (s *sums) usdPerMillion() float64 {
	tokens := s.PromptTokens + s.CompletionTokens
	if tokens == 0 {
		return 0
	}
	return math.Round(float64(s.CostNano)/1e9/float64(tokens)*1e6*1e4) / 1e4
}

// writeCSV writes the rows, without a total: who reads them can sum them up.
func (r *report) writeCSV(out io.Writer) error {
	w := csv.NewWriter(out)
	_ = w.Write(append(slices.Clone(r.By), // its errors are those of Flush
		"requests", "failures", "canceled", "failed_over", "estimated", "prompt_tokens", "cached_tokens", "completion_tokens",
		"reasoning_tokens", "cache_write_tokens", "cache_write_1h_tokens", "audio_input_tokens", "audio_output_tokens", "cost_usd", "cost_nano_usd", "mean_ms", "mean_first_token_ms", "usd_per_million_tokens",
		"p50_ms", "p95_ms", "p99_ms", "first_token_p50_ms", "first_token_p95_ms", "first_token_p99_ms"))
	rows := r.Rows
	if len(r.By) == 0 {
		rows = []sums{r.Total}
	}
	for i := range rows {
		s := &rows[i]
		cells := make([]string, 0, len(r.By)+24)
		for _, d := range r.By {
			cells = append(cells, harmless(s.Group[d]))
		}
		for _, n := range []int64{
			s.Requests, s.Failures, s.Canceled, s.FailedOver, s.Estimated, s.PromptTokens, s.CachedTokens, s.CompletionTokens, s.ReasoningTokens,
			s.CacheWrite, s.CacheWrite1h, s.AudioInput, s.AudioOutput,
		} {
			cells = append(cells, strconv.FormatInt(n, 10))
		}
		cells = append(cells, s.CostUSD, strconv.FormatInt(s.CostNano, 10))
		for _, f := range slices.Concat([]float64{s.MeanMS, s.MeanFirstTokenMS, s.USDPerMillion}, s.Duration.list(), s.FirstToken.list()) {
			cells = append(cells, strconv.FormatFloat(f, 'f', -1, 64))
		}
		_ = w.Write(cells)
	}
	w.Flush()
	return w.Error()
}

// harmless keeps a spreadsheet from taking a name for a formula.
func harmless(cell string) string {
	if cell != "" && strings.ContainsRune("=+-@\t\r", rune(cell[0])) {
		return "'" + cell
	}
	return cell
}

func (s *sums) add(o *sums) {
	s.Requests += o.Requests
	s.Failures += o.Failures
	s.Canceled += o.Canceled
	s.FailedOver += o.FailedOver
	s.Estimated += o.Estimated
	s.PromptTokens += o.PromptTokens
	s.CachedTokens += o.CachedTokens
	s.CompletionTokens += o.CompletionTokens
	s.ReasoningTokens += o.ReasoningTokens
	s.CacheWrite += o.CacheWrite
	s.CacheWrite1h += o.CacheWrite1h
	s.AudioInput += o.AudioInput
	s.AudioOutput += o.AudioOutput
	s.CostNano += o.CostNano
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// keyNames maps the ids of keys to their names.
func keyNames(ctx context.Context, c *control.Control) (map[string]string, error) {
	keys, err := c.ListKeys(ctx, control.KeyFilter{})
	if err != nil {
		return nil, err
	}
	names := make(map[string]string, len(keys))
	for _, k := range keys {
		names[k.ID] = k.Organization + "/" + k.Project + "/" + k.Name
	}
	return names, nil
}

// usage prints the report as a table.
func (t *terminal) usage(r *report, keys map[string]string) {
	const layout = "2006-01-02 15:04 UTC"
	t.print("%s\n\n", t.styled(faint, r.From.Format(layout)+" to "+r.To.Format(layout)))
	if r.Total.Requests == 0 {
		t.print("No requests.\n")
		return
	}
	tb := &table{}
	for _, d := range r.By {
		tb.columns = append(tb.columns, column{title: strings.ToUpper(d)})
	}
	for _, title := range []string{"REQUESTS", "FAILED", "FAILOVER", "PROMPT", "CACHED", "COMPLETION", "COST USD", "MEAN", "FIRST TOKEN"} {
		tb.columns = append(tb.columns, column{title: title, align: right})
	}
	compare := slices.Contains(r.By, string(store.ByDeployment))
	if compare {
		for _, title := range []string{"USD/M TOKENS", "P50 / P95 / P99", "FIRST TOKEN P50 / P95 / P99"} {
			tb.columns = append(tb.columns, column{title: title, align: right})
		}
	}
	decimals := r.decimals()
	for i := range r.Rows {
		row := &r.Rows[i]
		var cells []string
		for _, d := range r.By {
			cells = append(cells, groupCell(d, row.Group[d], keys))
		}
		cells = append(cells, row.cells(decimals)...)
		if compare {
			cells = append(cells, row.comparison()...)
		}
		tb.add(cells...)
	}
	tb.foot = make([]string, len(r.By))
	if len(r.By) > 0 {
		tb.foot[0] = "total"
	}
	tb.foot = append(tb.foot, r.Total.cells(decimals)...)
	if compare {
		tb.foot = append(tb.foot, r.Total.comparison()...)
	}
	t.table("", tb)
	t.tokenKinds(&r.Total)
	if n := r.Total.Estimated; n > 0 {
		t.print("\nThe tokens of %s are estimates: the provider reported none.\n", plural(int(n), "request"))
	}
}

// tokenKinds tells of tokens that few reports have.
func (t *terminal) tokenKinds(s *sums) {
	if s.CacheWrite > 0 {
		t.print("\nOf the prompts, %s tokens were written into providers' caches.\n", timeline.Number(s.CacheWrite))
	}
	if s.AudioInput+s.AudioOutput > 0 {
		t.print("\nOf the prompts, %s tokens were sound, and of the answers %s.\n", timeline.Number(s.AudioInput), timeline.Number(s.AudioOutput))
	}
}

// comparison is what deployments are compared by.
func (s *sums) comparison() []string {
	return []string{perMillion(s.USDPerMillion), s.Duration.cell(), s.FirstToken.cell()}
}

func perMillion(usd float64) string {
	if usd == 0 {
		return "-"
	}
	return strconv.FormatFloat(usd, 'f', 4, 64)
}

// groupCell is a value to group by. What no provider answered has neither a model nor a provider.
func groupCell(dimension, value string, keys map[string]string) string {
	if value == "" {
		return "-"
	}
	if name := keys[value]; dimension == string(store.ByKey) && name != "" {
		return name
	}
	return value
}

// decimals is how many digits after the point every cost of the report needs.
func (r *report) decimals() int {
	costs := []string{r.Total.CostUSD}
	for _, s := range r.Rows {
		costs = append(costs, s.CostUSD)
	}
	return decimals(costs)
}

func (s *sums) cells(decimals int) []string {
	return []string{
		timeline.Number(s.Requests), timeline.Number(s.Failures), timeline.Number(s.FailedOver), timeline.Number(s.PromptTokens), timeline.Number(s.CachedTokens), timeline.Number(s.CompletionTokens),
		padded(s.CostUSD, decimals), duration(s.MeanMS), duration(s.MeanFirstTokenMS),
	}
}

// decimals is how many digits after the point the longest of decimal numbers has, so that a column of
// them can line up with none rounded. Cents are always shown.
func decimals(numbers []string) int {
	most := 2
	for _, n := range numbers {
		_, fraction, _ := strings.Cut(n, ".")
		most = max(most, len(fraction))
	}
	return most
}

// padded fills a decimal number up to so many digits after the point.
func padded(decimal string, digits int) string {
	whole, fraction, _ := strings.Cut(decimal, ".")
	return whole + "." + fraction + strings.Repeat("0", max(digits-len(fraction), 0))
}

// duration writes milliseconds for people; 0 means that there was none.
func duration(ms float64) string {
	switch {
	case ms == 0:
		return "-"
	case ms < 10:
		return fmt.Sprintf("%.1f ms", ms)
	case ms < 10_000:
		return fmt.Sprintf("%.0f ms", ms)
	default:
		return fmt.Sprintf("%.1f s", ms/1000)
	}
}
