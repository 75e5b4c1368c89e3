package store

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"github.com/uptrace/bun"
)

// A day is a day in UTC, counted from the epoch. Its records, their contents and its sums by the hour are
// in tables of its own, so that retention can drop them whole. One table for all days with a partition for
// each would do the same on PostgreSQL only, and making a partition there stops all that use the table.
type day int64

// maxDay is 9999-12-31: whatever a clock says, a day has a date of eight digits.
const maxDay day = 2_932_896

// dayOf is the day of a time in microseconds.
func dayOf(micros int64) day { return min(max(day(micros/dayMicros), 0), maxDay) }

// hourOf is the hour of a time in microseconds, counted from the epoch. It is one of dayOf's.
func hourOf(micros int64) int64 {
	return min(max(micros/hourMicros, 0), int64(maxDay+1)*hoursPerDay-1)
}

func (d day) table(of string) string {
	return of + "_" + time.Unix(0, 0).UTC().AddDate(0, 0, int(d)).Format("20060102")
}

func (d day) records() string  { return d.table("usage_records") }
func (d day) contents() string { return d.table("usage_contents") }
func (d day) hours() string    { return d.table("usage_hours") }

// definitions make the tables of a day. Nothing but the primary keys is indexed: reports read sums, a
// trace is found by its id, and an index more is a tenth of the cost of a row.
func (d day) definitions() []string {
	return []string{
		`CREATE TABLE ` + d.records() + ` (
			id TEXT PRIMARY KEY, start BIGINT NOT NULL, duration BIGINT NOT NULL, first_token BIGINT NOT NULL,
			organization TEXT NOT NULL, project TEXT NOT NULL, key_id TEXT NOT NULL, endpoint TEXT NOT NULL, route TEXT NOT NULL,
			model TEXT NOT NULL, provider TEXT NOT NULL, deployment TEXT NOT NULL, status BIGINT NOT NULL, code TEXT NOT NULL,
			prompt_tokens BIGINT NOT NULL, cached_tokens BIGINT NOT NULL, completion_tokens BIGINT NOT NULL,
			reasoning_tokens BIGINT NOT NULL, estimated BOOLEAN NOT NULL, cost BIGINT NOT NULL, detail TEXT NOT NULL,
			failed_over BOOLEAN NOT NULL, drill TEXT NOT NULL, prompt BIGINT NOT NULL)`,
		`CREATE TABLE ` + d.contents() + ` (
			id TEXT PRIMARY KEY, request BYTEA NOT NULL, answer BYTEA NOT NULL, truncated BOOLEAN NOT NULL)`,
		`CREATE TABLE ` + d.hours() + ` (
			at BIGINT NOT NULL, series BIGINT NOT NULL, ` + strings.Join(sumColumns[:firstSums], " BIGINT NOT NULL, ") + ` BIGINT NOT NULL, ` +
			strings.Join(sumColumns[firstSums:], addedColumn+", ") + addedColumn + `, PRIMARY KEY (at, series))`,
		d.timesDefinition(),
	}
}

// The layouts of a day's hours: which columns of sums there are.
const (
	layoutFirst  = 1 // of the first version that had days
	layoutKinds  = 2 // cache writes and audio as well
	layoutTimes  = 3 // and a table of how long requests took
	firstSums    = sumCacheWriteTokens
	addedColumn  = " BIGINT NOT NULL DEFAULT 0" // a version that does not know it leaves it out
	latestLayout = layoutTimes
)

// partition is a day's tables with the statements that fill them.
type partition struct {
	day     day
	records *bulkInsert
	hours   *bulkInsert
	times   *bulkInsert
}

// openPartitions bounds the days whose statements are kept: today's, those of records that come late, and
// none for ever.
const openPartitions = 4

// partition returns the tables of a day and makes them where they are missing. s.inserting is held.
func (s *Store) partition(ctx context.Context, of day) (*partition, error) {
	for _, p := range s.partitions {
		if p.day == of {
			return p, nil
		}
	}
	if err := s.createDay(ctx, of); err != nil {
		return nil, err
	}
	p := &partition{day: of}
	for _, of := range []struct {
		into       **bulkInsert
		table      string
		columns    []string
		onConflict string
	}{
		{&p.records, of.records(), recordColumns[:], "ON CONFLICT (id) DO NOTHING"},
		{&p.hours, of.hours(), tallyColumns, addSums(of.hours())},
		{&p.times, of.times(), timesColumns[:], replaceTimes},
	} {
		var err error
		if *of.into, err = s.prepareBulk(ctx, of.table, of.columns, of.onConflict); err != nil {
			p.close()
			return nil, err
		}
	}
	if len(s.partitions) == openPartitions {
		s.partitions[0].close()
		s.partitions = s.partitions[1:]
	}
	s.partitions = append(s.partitions, p)
	return p, nil
}

// createDay makes the tables of a day, once: whoever notes the day first makes them, and who comes
// meanwhile waits for the end of that transaction. Tables that another version made are widened in the same way.
func (s *Store) createDay(ctx context.Context, of day) error {
	tx, err := s.engine.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing
	missing := of.definitions()
	first, err := changes(tx.ExecContext(ctx, "INSERT INTO usage_partitions (day, layout) VALUES ($1, $2) ON CONFLICT (day) DO NOTHING", int64(of), latestLayout))
	if err != nil {
		return err
	}
	if !first {
		if missing, err = of.missing(ctx, tx); err != nil {
			return err
		}
	}
	for _, statement := range missing {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// missing notes that a day gets the latest layout, and lists what makes it.
func (d day) missing(ctx context.Context, tx *sql.Tx) (statements []string, err error) {
	for _, step := range []struct {
		to   int
		with []string
	}{{layoutKinds, d.widening()}, {layoutTimes, []string{d.timesDefinition()}}} {
		older, err := changes(tx.ExecContext(ctx, "UPDATE usage_partitions SET layout = $1 WHERE day = $2 AND layout = $3", step.to, int64(d), step.to-1))
		if err != nil {
			return nil, err
		}
		if older {
			statements = append(statements, step.with...)
		}
	}
	return statements, nil
}

// changes says whether a statement has changed anything.
func changes(result sql.Result, err error) (bool, error) {
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n > 0, err
}

// widening adds what the first layout did not have.
func (d day) widening() []string {
	statements := make([]string, 0, sumCount-firstSums)
	for _, column := range sumColumns[firstSums:] {
		statements = append(statements, "ALTER TABLE "+d.hours()+" ADD COLUMN "+column+addedColumn)
	}
	return statements
}

// forgetPartitions closes all statements. After an error that is what makes tables again that another
// process has dropped. s.inserting is held.
func (s *Store) forgetPartitions() {
	for _, p := range s.partitions {
		p.close()
	}
	s.partitions = nil
}

func (p *partition) close() {
	for _, b := range []*bulkInsert{p.records, p.hours, p.times} {
		if b != nil {
			b.close()
		}
	}
}

// days lists the days that have tables, newest first.
func (s *Store) days(ctx context.Context) ([]day, error) { return daysIn(ctx, s.read) }

func daysIn(ctx context.Context, db bun.IDB) ([]day, error) {
	var days []day
	err := db.NewSelect().Table("usage_partitions").Column("day").OrderExpr("day DESC").Scan(ctx, &days)
	return days, err
}

// narrowDays lists the days whose hours have the sums of the first layout alone.
func narrowDays(ctx context.Context, db bun.IDB) ([]day, error) {
	var days []day
	err := db.NewSelect().Table("usage_partitions").Column("day").Where("layout = ?", layoutFirst).Scan(ctx, &days)
	return days, err
}

// bulkInsert inserts rows by the hundred.
type bulkInsert struct {
	columns    int
	statements map[int]*sql.Stmt // by rows; see insertSizes
}

// insertSizes are the numbers of rows that one prepared statement inserts: a batch is cut into the
// largest pieces first. A hundred rows is where the cost of a statement vanishes beside that of its
// rows; PostgreSQL takes at most 65,535 values, SQLite 32,766.
var insertSizes = [...]int{100, 50, 10, 1}

// prepareBulk prepares the one kind of statement whose speed matters. onConflict says what becomes of a
// row that is there.
func (s *Store) prepareBulk(ctx context.Context, table string, columns []string, onConflict string) (*bulkInsert, error) {
	b := &bulkInsert{columns: len(columns), statements: make(map[int]*sql.Stmt, len(insertSizes))}
	head := "INSERT INTO " + table + " (" + strings.Join(columns, ", ") + ") VALUES "
	for _, rows := range insertSizes {
		statement := head + placeholders(rows, len(columns), s.engine.parameter) + " " + onConflict //nolint:gosec // the names of our own tables and columns
		stmt, err := s.engine.write.PrepareContext(ctx, statement)                                  //nolint:sqlclosecheck // closed with the partition or the store
		if err != nil {
			b.close()
			return nil, fmt.Errorf("prepare to fill %s: %w", table, err)
		}
		b.statements[rows] = stmt
	}
	return b, nil
}

// placeholders writes (?, ?), (?, ?) for so many rows.
func placeholders(rows, columns int, parameter func(int) string) string {
	var b strings.Builder
	for i := range rows * columns {
		switch {
		case i == 0:
			b.WriteString("(")
		case i%columns == 0:
			b.WriteString("), (")
		default:
			b.WriteString(", ")
		}
		b.WriteString(parameter(i + 1))
	}
	b.WriteString(")")
	return b.String()
}

// run inserts rows 0 to rows-1, whose values add appends, and returns how many were inserted or changed.
func (b *bulkInsert) run(ctx context.Context, tx *sql.Tx, rows int, add func(values []any, row int) []any) (int64, error) {
	values := make([]any, 0, min(rows, insertSizes[0])*b.columns)
	changed := int64(0)
	for next := 0; next < rows; {
		size := largestPiece(rows - next)
		values = values[:0]
		for i := range size {
			values = add(values, next+i)
		}
		stmt := tx.StmtContext(ctx, b.statements[size]) //nolint:sqlclosecheck // closed by the transaction
		result, err := stmt.ExecContext(ctx, values...)
		if err != nil {
			return changed, err
		}
		n, err := result.RowsAffected()
		if err != nil {
			return changed, err
		}
		changed += n
		next += size
	}
	return changed, nil
}

func largestPiece(rows int) int {
	for _, size := range insertSizes {
		if rows >= size {
			return size
		}
	}
	return 0
}

func (b *bulkInsert) close() {
	for _, stmt := range b.statements {
		_ = stmt.Close()
	}
}
