package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"shareai/internal/fault"
)

// Dimension is something usage can be grouped by.
type Dimension string

// The dimensions. A project is written organization/project; day and hour are in UTC and written
// 2006-01-02 and 2006-01-02T15; what a request has none of (no model answered) is empty.
const (
	ByModel        Dimension = "model"
	ByProvider     Dimension = "provider"
	ByDeployment   Dimension = "deployment"
	ByRoute        Dimension = "route"
	ByKey          Dimension = "key"
	ByProject      Dimension = "project"
	ByOrganization Dimension = "organization"
	ByEndpoint     Dimension = "endpoint"
	ByStatus       Dimension = "status"
	ByDrill        Dimension = "drill"
	ByProviderKey  Dimension = "provider_key"
	ByDay          Dimension = "day"
	ByHour         Dimension = "hour"
)

// labelPrefix is before the name of a label.
const labelPrefix = "label:"

// ByLabel groups by a label of the project, as it was when the request came; empty where it had none.
func ByLabel(name string) Dimension { return Dimension(labelPrefix + name) }

// Valid says whether usage can be grouped by the dimension.
func (d Dimension) Valid() bool {
	name, isLabel := strings.CutPrefix(string(d), labelPrefix)
	return isLabel && name != "" || slices.Contains(Dimensions, d)
}

// Dimensions lists every dimension but the labels, of which there are as many as projects have names for.
var Dimensions = []Dimension{
	ByModel, ByProvider, ByDeployment, ByRoute, ByKey, ByProviderKey, ByProject, ByOrganization, ByEndpoint, ByStatus, ByDrill, ByDay, ByHour,
}

// The lengths of the time dimensions in microseconds.
const (
	dayMicros  = int64(24 * time.Hour / time.Microsecond)
	hourMicros = int64(time.Hour / time.Microsecond)
)

// hoursPerDay turns the hours since the epoch into days.
const hoursPerDay = 24

// label is a value of the dimension as people read it. Time is counted in whole units since the epoch.
func (d Dimension) label(value string) string {
	switch count, _ := strconv.ParseInt(value, 10, 64); d {
	case ByDay:
		return time.UnixMicro(count * dayMicros).UTC().Format("2006-01-02")
	case ByHour:
		return time.UnixMicro(count * hourMicros).UTC().Format("2006-01-02T15")
	default:
		return value
	}
}

// UsageQuery selects records and says how they are summed up. An empty filter matches everything.
type UsageQuery struct {
	// From <= start < To, widened to whole hours; a zero time is no bound. Days whose records were dropped
	// have no hours any more: they count where the range has the whole day.
	From, To time.Time
	By       []Dimension // none: one row with the total

	Organization string
	Project      string // name within any organization, unless Organization is set
	KeyID        string
	Model        string
	Provider     string
}

// UsageRow is the sum of the records that share the values of the query's dimensions.
type UsageRow struct {
	Values   []string // one for each of UsageQuery.By, in its order
	Requests int64
	Failures int64 // answered with an error, or broken off; a client that left is none
	Canceled int64 // the client left first
	// FailedOver counts the requests that another than their primary answered.
	FailedOver int64
	// Estimated counts the requests whose tokens are estimates of ours.
	Estimated        int64
	PromptTokens     int64
	CachedTokens     int64 // part of PromptTokens, like the next three
	CacheWriteTokens int64
	// CacheWrite1hTokens are a part of CacheWriteTokens.
	CacheWrite1hTokens int64
	AudioInputTokens   int64
	CompletionTokens   int64
	ReasoningTokens    int64 // part of CompletionTokens, like the next
	AudioOutputTokens  int64
	Cost               int64         // nano-dollars
	MeanDuration       time.Duration // of all requests
	MeanFirstToken     time.Duration // of the requests that sent content; 0 when none did
}

// statusClientLeft is the status of a request whose client left before the answer was complete.
var statusClientLeft = fault.Canceled.Status()

// Usage sums up the records of a time range by the query's dimensions. The rows are sorted by their
// values. It reads sums only, whose number does not grow with that of the records.
func (s *Store) Usage(ctx context.Context, q UsageQuery) ([]UsageRow, error) {
	return s.usageIn(ctx, s.read, q)
}

// usageIn is Usage in a transaction, or outside of any.
func (s *Store) usageIn(ctx context.Context, db bun.IDB, q UsageQuery) ([]UsageRow, error) {
	for _, d := range q.By {
		if !d.Valid() {
			return nil, fault.New(fault.Invalid, "invalid_dimension",
				fmt.Sprintf("Usage can not be grouped by %q; choose from %s, %sNAME.", d, join(Dimensions), labelPrefix)).About("by")
		}
	}
	days, err := daysIn(ctx, db)
	if err != nil {
		return nil, s.engine.failed("sum up usage", err)
	}
	groups := groups{}
	if len(q.By) == 0 {
		groups.add(nil, &sums{})
	}
	narrow, err := narrowDays(ctx, db)
	if err != nil {
		return nil, s.engine.failed("sum up usage", err)
	}
	for _, of := range q.stretches(days, narrow) {
		if err := q.sumUp(ctx, db, of, groups); err != nil {
			return nil, s.engine.failed("sum up usage", err)
		}
	}
	return groups.rows(q.By), nil
}

// stretch is a part of a range of time and the table that has its sums.
type stretch struct {
	table    string
	from, to int64 // of the table's "at"
	unit     Dimension
	columns  int // how many columns of sums it has
}

// stretches cuts the query's range into whole days and the hours at both ends; by the hour, into the hours
// of all days. days are those that have hours, narrow those of them that have the first sums alone.
func (q *UsageQuery) stretches(days, narrow []day) []stretch {
	from, to := int64(0), int64(maxDay+1)*hoursPerDay // in hours
	if !q.From.IsZero() {
		from = max(q.From.UnixMicro()/hourMicros, 0)
	}
	if !q.To.IsZero() {
		to = min((q.To.UnixMicro()+hourMicros-1)/hourMicros, to)
	}
	wholeFrom, wholeTo := (from+hoursPerDay-1)/hoursPerDay, to/hoursPerDay
	byHour := slices.Contains(q.By, ByHour)
	var all []stretch
	if !byHour && wholeFrom < wholeTo {
		all = append(all, stretch{usageDaysTable, wholeFrom, wholeTo, ByDay, sumCount})
	}
	for _, d := range days {
		first, end := max(int64(d)*hoursPerDay, from), min(int64(d+1)*hoursPerDay, to)
		if first < end && (byHour || end-first < hoursPerDay) {
			columns := sumCount
			if slices.Contains(narrow, d) {
				columns = firstSums
			}
			all = append(all, stretch{d.hours(), first, end, ByHour, columns})
		}
	}
	return all
}

// in selects the rows of a stretch. The values of the query's dimensions are the first columns.
func (q *UsageQuery) in(db bun.IDB, of stretch) *bun.SelectQuery {
	query := db.NewSelect().TableExpr("? AS t", bun.Ident(of.table)).Join("JOIN usage_series AS s ON s.id = t.series").
		Where("t.at >= ?", of.from).Where("t.at < ?", of.to)
	for i, d := range q.By {
		if name, isLabel := strings.CutPrefix(string(d), labelPrefix); isLabel {
			query = query.Join("LEFT JOIN usage_series_labels AS ? ON ?.series = t.series AND ?.name = ?", labelAlias(i), labelAlias(i), labelAlias(i), name)
		}
		query = query.ColumnExpr(of.expression(d, i))
	}
	for column, value := range map[string]string{
		"organization": q.Organization, "project": q.Project, "key_id": q.KeyID, "model": q.Model, "provider": q.Provider,
	} {
		if value != "" {
			query = query.Where("s."+column+" = ?", value)
		}
	}
	return query
}

// sumUp adds what a stretch has to the groups.
func (q *UsageQuery) sumUp(ctx context.Context, db bun.IDB, of stretch, into groups) error {
	query := q.in(db, of)
	for i, d := range q.By {
		query = query.GroupExpr(of.expression(d, i))
	}
	for _, column := range sumColumns[:of.columns] {
		// PostgreSQL sums BIGINT up to a NUMERIC.
		query = query.ColumnExpr("CAST(COALESCE(SUM(?), 0) AS BIGINT)", bun.Ident("t."+column))
	}
	rows, err := query.Rows(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		if err := into.scan(rows.Scan, len(q.By), of.columns); err != nil {
			return err
		}
	}
	return rows.Err()
}

func labelAlias(i int) bun.Ident { return bun.Ident("label" + strconv.Itoa(i)) }

// expression is what the ith dimension of a query is grouped by, as text.
func (s *stretch) expression(d Dimension, i int) string {
	switch d {
	case ByKey:
		return "s.key_id"
	case ByProject:
		return "s.organization || '/' || s.project"
	case ByStatus:
		return "CAST(s.status AS TEXT)"
	case ByDay:
		if s.unit == ByHour {
			return fmt.Sprintf("CAST(t.at / %d AS TEXT)", hoursPerDay)
		}
		return "CAST(t.at AS TEXT)"
	case ByHour:
		return "CAST(t.at AS TEXT)"
	default:
		if strings.HasPrefix(string(d), labelPrefix) {
			return fmt.Sprintf("COALESCE(label%d.value, '')", i)
		}
		return "s." + string(d) // valid, and a column by its name
	}
}

// groups are sums by the values of the dimensions, each ended by a zero byte, which no value contains.
type groups map[string]*sums

func (g groups) add(values []string, more *sums) {
	id := ""
	for _, v := range values {
		id += v + "\x00"
	}
	if g[id] == nil {
		g[id] = &sums{}
	}
	g[id].add(more)
}

func (g groups) scan(scan func(...any) error, dimensions, columns int) error {
	var more sums
	values := make([]string, dimensions)
	into := make([]any, 0, dimensions+sumCount)
	for i := range values {
		into = append(into, &values[i])
	}
	for i := range more[:columns] {
		into = append(into, &more[i])
	}
	if err := scan(into...); err != nil {
		return err
	}
	if more[sumRequests] > 0 || dimensions > 0 {
		g.add(values, &more)
	}
	return nil
}

func (g groups) rows(by []Dimension) []UsageRow {
	rows := make([]UsageRow, 0, len(g))
	for id, s := range g {
		values := strings.Split(id, "\x00")[:len(by)]
		for i, d := range by {
			values[i] = d.label(values[i])
		}
		rows = append(rows, UsageRow{
			Values: values, Requests: s[sumRequests], Failures: s[sumFailures], Canceled: s[sumCanceled],
			FailedOver: s[sumFailedOver], Estimated: s[sumEstimated], PromptTokens: s[sumPromptTokens],
			CachedTokens: s[sumCachedTokens], CacheWriteTokens: s[sumCacheWriteTokens], CacheWrite1hTokens: s[sumCacheWrite1hTokens],
			AudioInputTokens: s[sumAudioInputTokens], CompletionTokens: s[sumCompletionTokens], ReasoningTokens: s[sumReasoningTokens],
			AudioOutputTokens: s[sumAudioOutputTokens],
			Cost:              s[sumCost], MeanDuration: mean(s[sumDuration], s[sumRequests]), MeanFirstToken: mean(s[sumFirstToken], s[sumFirstTokens]),
		})
	}
	slices.SortFunc(rows, func(a, b UsageRow) int { return slices.CompareFunc(a.Values, b.Values, cmp.Compare) })
	return rows
}

// mean divides a sum of microseconds.
func mean(sum, count int64) time.Duration {
	if count == 0 {
		return 0
	}
	return time.Duration(sum/count) * time.Microsecond
}

func join(dimensions []Dimension) string {
	names := make([]string, len(dimensions))
	for i, d := range dimensions {
		names[i] = string(d)
	}
	return strings.Join(names, ", ")
}
