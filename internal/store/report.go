package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

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
	ByDay          Dimension = "day"
	ByHour         Dimension = "hour"
)

// Dimensions lists every dimension.
var Dimensions = []Dimension{
	ByModel, ByProvider, ByDeployment, ByRoute, ByKey, ByProject, ByOrganization, ByEndpoint, ByStatus, ByDrill, ByDay, ByHour,
}

// The lengths of the time dimensions in microseconds.
const (
	dayMicros  = int64(24 * time.Hour / time.Microsecond)
	hourMicros = int64(time.Hour / time.Microsecond)
)

// expression is what a dimension is grouped by, as text. Time is counted in whole units since the
// epoch, which both engines divide alike; label turns the count into a date.
func (d Dimension) expression() (string, bool) {
	switch d {
	case ByModel, ByProvider, ByDeployment, ByRoute, ByOrganization, ByEndpoint, ByDrill:
		return string(d), true
	case ByKey:
		return "key_id", true
	case ByProject:
		return "organization || '/' || project", true
	case ByStatus:
		return "CAST(status AS TEXT)", true
	case ByDay:
		return fmt.Sprintf("CAST(start / %d AS TEXT)", dayMicros), true
	case ByHour:
		return fmt.Sprintf("CAST(start / %d AS TEXT)", hourMicros), true
	default:
		return "", false
	}
}

// label is a value of the dimension as people read it.
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
	From, To time.Time   // From <= start < To; a zero time is no bound
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
	CachedTokens     int64 // part of PromptTokens
	CompletionTokens int64
	ReasoningTokens  int64         // part of CompletionTokens
	Cost             int64         // nano-dollars
	MeanDuration     time.Duration // of all requests
	MeanFirstToken   time.Duration // of the requests that sent content; 0 when none did
}

// statusClientLeft is the status of a request whose client left before the answer was complete.
var statusClientLeft = fault.Canceled.Status()

// sums are the aggregates in the order of UsageRow.scan. PostgreSQL sums BIGINT up to a NUMERIC.
func sums() []string {
	sum := func(of string) string { return "CAST(COALESCE(SUM(" + of + "), 0) AS BIGINT)" }
	count := func(when string) string { return sum("CASE WHEN " + when + " THEN 1 ELSE 0 END") }
	left := "status = " + strconv.Itoa(statusClientLeft)
	return []string{
		"COUNT(*)", count("code <> '' AND NOT " + left), count(left), count("failed_over"), count("estimated"),
		sum("prompt_tokens"), sum("cached_tokens"), sum("completion_tokens"), sum("reasoning_tokens"),
		sum("cost"), sum("duration"), sum("first_token"), count("first_token > 0"),
	}
}

// Usage sums up the records of a time range by the query's dimensions. The rows are sorted by their
// values.
func (s *Store) Usage(ctx context.Context, q UsageQuery) ([]UsageRow, error) {
	query := s.read.NewSelect().Table("usage_records")
	for _, d := range q.By {
		expression, known := d.expression()
		if !known {
			return nil, fault.New(fault.Invalid, "invalid_dimension",
				fmt.Sprintf("Usage can not be grouped by %q; choose from %s.", d, join(Dimensions))).About("by")
		}
		query = query.ColumnExpr(expression).GroupExpr(expression)
	}
	for _, aggregate := range sums() {
		query = query.ColumnExpr(aggregate)
	}
	for column, value := range map[string]string{
		"organization": q.Organization, "project": q.Project, "key_id": q.KeyID, "model": q.Model, "provider": q.Provider,
	} {
		if value != "" {
			query = query.Where(column+" = ?", value)
		}
	}
	if !q.From.IsZero() {
		query = query.Where("start >= ?", q.From.UnixMicro())
	}
	if !q.To.IsZero() {
		query = query.Where("start < ?", q.To.UnixMicro())
	}
	rows, err := query.Rows(ctx)
	if err != nil {
		return nil, s.engine.failed("sum up usage", err)
	}
	defer func() { _ = rows.Close() }()
	var found []UsageRow
	for rows.Next() {
		row, err := scanUsage(rows.Scan, q.By)
		if err != nil {
			return nil, s.engine.failed("sum up usage", err)
		}
		found = append(found, row)
	}
	slices.SortFunc(found, func(a, b UsageRow) int { return slices.CompareFunc(a.Values, b.Values, cmp.Compare) })
	return found, s.engine.failed("sum up usage", rows.Err())
}

func scanUsage(scan func(...any) error, by []Dimension) (UsageRow, error) {
	var u UsageRow
	var durations, firstTokens, withFirstToken int64
	u.Values = make([]string, len(by))
	into := make([]any, 0, len(by)+len(sums()))
	for i := range by {
		into = append(into, &u.Values[i])
	}
	into = append(into, &u.Requests, &u.Failures, &u.Canceled, &u.FailedOver, &u.Estimated, &u.PromptTokens,
		&u.CachedTokens, &u.CompletionTokens, &u.ReasoningTokens, &u.Cost, &durations, &firstTokens, &withFirstToken)
	if err := scan(into...); err != nil {
		return UsageRow{}, err
	}
	for i, d := range by {
		u.Values[i] = d.label(u.Values[i])
	}
	u.MeanDuration = mean(durations, u.Requests)
	u.MeanFirstToken = mean(firstTokens, withFirstToken)
	return u, nil
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
