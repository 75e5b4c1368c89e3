package store

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"shareai/internal/usage"
)

// Times are kept as histograms: they can be added up over series, hours and days, which percentiles can not. A bucket is
// a fourth of a doubling, so that what is read from one is wrong by a fifth at most, and mostly by far less.
const (
	bucketsPerDoubling = 4
	maxBucket          = 40 * bucketsPerDoubling // twelve days
)

// bucketOf is the bucket of a time in microseconds.
func bucketOf(micros int64) int64 {
	return min(int64(math.Floor(bucketsPerDoubling*math.Log2(float64(max(micros, 1))))), maxBucket)
}

// histogram counts requests by buckets: how many took so long, and how many had their first token after so long.
type histogram [maxBucket + 1]bucketCount

type bucketCount struct{ durations, firstTokens int64 }

// add counts a record.
func (h *histogram) add(r *usage.Record) {
	h[bucketOf(r.Duration)].durations++
	if r.FirstToken > 0 {
		h[bucketOf(r.FirstToken)].firstTokens++
	}
}

func (h *histogram) merge(o *histogram) {
	for i := range h {
		h[i].durations += o[i].durations
		h[i].firstTokens += o[i].firstTokens
	}
}

// encode writes three numbers for each bucket that is not empty: which one, and its two counts.
func (h *histogram) encode() []byte {
	text := make([]byte, 0, 64)
	for i, n := range h {
		if n.durations > 0 || n.firstTokens > 0 {
			text = binary.AppendUvarint(text, uint64(i))
			text = binary.AppendUvarint(text, uint64(n.durations))
			text = binary.AppendUvarint(text, uint64(n.firstTokens))
		}
	}
	return text
}

// decode adds what encode has written.
func (h *histogram) decode(text []byte) error {
	for len(text) > 0 {
		var numbers [3]uint64
		for i := range numbers {
			n, size := binary.Uvarint(text)
			if size <= 0 {
				return errors.New("a histogram of times ends too early")
			}
			numbers[i], text = n, text[size:]
		}
		if numbers[0] > maxBucket {
			return errors.New("a histogram of times has a bucket too many")
		}
		h[numbers[0]].durations += int64(numbers[1])
		h[numbers[0]].firstTokens += int64(numbers[2])
	}
	return nil
}

const usageDayTimesTable = "usage_day_times"

// timesColumns are the columns of usage_day_times and of a day's times.
var timesColumns = [...]string{"at", "series", "times"}

func (d day) times() string { return d.table("usage_times") }

func (d day) timesDefinition() string {
	return "CREATE TABLE " + d.times() + " (at BIGINT NOT NULL, series BIGINT NOT NULL, times BYTEA NOT NULL, PRIMARY KEY (at, series))"
}

// replaceTimes is what an insert does where there is a row, which was read before.
const replaceTimes = "ON CONFLICT (at, series) DO UPDATE SET times = excluded.times"

// times are histograms by their place.
type times map[timesPlace]*histogram

type timesPlace struct{ at, series int64 } // an hour or a day, and a series

func (t times) of(at timesPlace) *histogram {
	if t[at] == nil {
		t[at] = &histogram{}
	}
	return t[at]
}

// byDay adds the hours of a day up.
func (t times) byDay(of day) times {
	days := make(times, len(t))
	for at, h := range t {
		days.of(timesPlace{int64(of), at.series}).merge(h)
	}
	return days
}

// addTimes adds the times of records of a day to those that are stored, in the transaction of their sums: that one has
// locked the sums of the same hours and series, so that nobody else changes their times meanwhile.
func (s *Store) addTimes(ctx context.Context, tx *sql.Tx, p *partition, t times) error {
	for _, of := range []struct {
		table string
		into  *bulkInsert
		times times
	}{{p.day.times(), p.times, t}, {usageDayTimesTable, s.usageTimes, t.byDay(p.day)}} {
		places := slices.SortedFunc(maps.Keys(of.times), func(a, b timesPlace) int {
			return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.series, b.series))
		})
		for some := range slices.Chunk(places, insertSizes[0]) {
			if err := s.mergeTimes(ctx, tx, of.table, some, of.times); err != nil {
				return err
			}
		}
		_, err := of.into.run(ctx, tx, len(places), func(values []any, i int) []any {
			return append(values, places[i].at, places[i].series, of.times[places[i]].encode())
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// mergeTimes adds what is stored of some places.
func (s *Store) mergeTimes(ctx context.Context, tx *sql.Tx, table string, places []timesPlace, into times) error {
	values := make([]any, 0, 2*len(places))
	for _, at := range places {
		values = append(values, at.at, at.series)
	}
	// The first row is none: it says to PostgreSQL that all are numbers.
	query := "SELECT at, series, times FROM " + table + " WHERE (at, series) IN (VALUES (CAST(-1 AS BIGINT), CAST(-1 AS BIGINT)), " + //nolint:gosec // a table of ours
		placeholders(len(places), 2, s.engine.parameter) + ")"
	rows, err := tx.QueryContext(ctx, query, values...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var at timesPlace
		var text []byte
		if err := rows.Scan(&at.at, &at.series, &text); err != nil {
			return err
		}
		if err := into.of(at).decode(text); err != nil {
			return err
		}
	}
	return rows.Err()
}

// Percentiles of a time: so much of it half of the requests took at most, 95 of 100, and 99. Zero: there are none.
type Percentiles struct {
	P50, P95, P99 time.Duration
}

// TimesRow are the times of the records that share the values of the query's dimensions.
type TimesRow struct {
	Values     []string    // one for each of UsageQuery.By, in its order
	Duration   Percentiles // of all requests
	FirstToken Percentiles // of the requests that sent content
}

// Times tells how long requests took. The rows are sorted by their values, as those of Usage. What was recorded by
// versions that did not count it is not in it.
func (s *Store) Times(ctx context.Context, q UsageQuery) ([]TimesRow, error) {
	var days []day
	err := s.read.NewSelect().Table("usage_partitions").Column("day").Where("layout >= ?", layoutTimes).Scan(ctx, &days)
	if err != nil {
		return nil, s.engine.failed("read how long requests took", err)
	}
	all := map[string]*timesGroup{}
	for _, of := range q.stretches(days, nil) {
		of.table = usageDayTimesTable
		if of.unit == ByHour {
			of.table = day(of.from / hoursPerDay).times()
		}
		if err := q.readTimes(ctx, s.read, of, all); err != nil {
			return nil, s.engine.failed("read how long requests took", err)
		}
	}
	rows := make([]TimesRow, 0, len(all))
	for _, g := range all {
		for i, d := range q.By {
			g.values[i] = d.label(g.values[i])
		}
		rows = append(rows, g.row())
	}
	slices.SortFunc(rows, func(a, b TimesRow) int { return slices.CompareFunc(a.Values, b.Values, cmp.Compare) })
	return rows, nil
}

// timesGroup are the times of what shares its values.
type timesGroup struct {
	values []string
	times  histogram
}

func (g *timesGroup) row() TimesRow {
	return TimesRow{
		Values: g.values, Duration: g.times.percentiles(func(n bucketCount) int64 { return n.durations }),
		FirstToken: g.times.percentiles(func(n bucketCount) int64 { return n.firstTokens }),
	}
}

// readTimes adds the histograms of a stretch up, row by row: a database can not.
func (q *UsageQuery) readTimes(ctx context.Context, db bun.IDB, of stretch, into map[string]*timesGroup) error {
	rows, err := q.in(db, of).Column("t.times").Rows(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	values := make([]string, len(q.By))
	var text sql.RawBytes
	columns := make([]any, 0, len(values)+1)
	for i := range values {
		columns = append(columns, &values[i])
	}
	columns = append(columns, &text)
	for rows.Next() {
		if err := rows.Scan(columns...); err != nil {
			return err
		}
		id := strings.Join(values, "\x00")
		if into[id] == nil {
			into[id] = &timesGroup{values: slices.Clone(values)}
		}
		if err := into[id].times.decode(text); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (h *histogram) percentiles(of func(bucketCount) int64) Percentiles {
	all := int64(0)
	for _, n := range h {
		all += of(n)
	}
	at := func(share float64) time.Duration {
		rank := int64(math.Ceil(share * float64(all)))
		for bucket, counts := range h {
			if n := of(counts); rank <= n && n > 0 {
				// Within a bucket the times are taken to lie evenly, on the scale of the buckets.
				return time.Duration(math.Exp2((float64(bucket)+(float64(rank)-0.5)/float64(n))/bucketsPerDoubling)) * time.Microsecond
			}
			rank -= of(counts)
		}
		return 0
	}
	return Percentiles{P50: at(0.50), P95: at(0.95), P99: at(0.99)}
}
