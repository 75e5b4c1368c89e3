package store

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/uptrace/bun"

	"shareai/internal/catalog"
	"shareai/internal/fault"
	"shareai/internal/usage"
)

// recordRow is a row of usage_records.
type recordRow struct {
	bun.BaseModel    `bun:"table:usage_records"`
	ID               string `bun:",pk"`
	Start            int64
	Duration         int64
	FirstToken       int64
	Organization     string
	Project          string
	KeyID            string
	Endpoint         string
	Route            string
	Model            string
	Provider         string
	Deployment       string
	Status           int
	Code             string
	PromptTokens     int64
	CachedTokens     int64
	CompletionTokens int64
	ReasoningTokens  int64
	Estimated        bool
	Cost             int64
	Detail           string
	FailedOver       bool
	Drill            string
}

// recordColumns are the columns of usage_records in the order of rowWriter.append.
var recordColumns = [...]string{
	"id", "start", "duration", "first_token", "organization", "project", "key_id", "endpoint", "route",
	"model", "provider", "deployment", "status", "code", "prompt_tokens", "cached_tokens",
	"completion_tokens", "reasoning_tokens", "estimated", "cost", "detail", "failed_over", "drill",
}

// contentRow is a row of usage_contents.
type contentRow struct {
	bun.BaseModel `bun:"table:usage_contents"`
	ID            string `bun:",pk"`
	Request       []byte
	Answer        []byte
	Truncated     bool
}

// insertSizes are the numbers of rows that one prepared statement inserts: a batch is cut into the
// largest pieces first. A hundred rows is where the cost of a statement vanishes beside that of its
// rows; PostgreSQL takes at most 65,535 values, SQLite 32,766.
var insertSizes = [...]int{100, 10, 1}

// prepareInserts prepares the one kind of statement whose speed matters.
func (s *Store) prepareInserts(ctx context.Context) error {
	s.insert = make(map[int]*sql.Stmt, len(insertSizes))
	for _, rows := range insertSizes {
		stmt, err := s.engine.write.PrepareContext(ctx, insertSQL(rows, s.engine.parameter)) //nolint:sqlclosecheck // lives as long as the store
		if err != nil {
			return s.engine.failed("prepare to store usage records", err)
		}
		s.insert[rows] = stmt
	}
	return nil
}

// insertSQL inserts rows unless they are there.
func insertSQL(rows int, parameter func(int) string) string {
	var b strings.Builder
	b.WriteString("INSERT INTO usage_records (" + strings.Join(recordColumns[:], ", ") + ") VALUES ")
	for i := range rows * len(recordColumns) {
		switch {
		case i == 0:
			b.WriteString("(")
		case i%len(recordColumns) == 0:
			b.WriteString("), (")
		default:
			b.WriteString(", ")
		}
		b.WriteString(parameter(i + 1))
	}
	b.WriteString(") ON CONFLICT (id) DO NOTHING")
	return b.String()
}

// InsertRecords stores usage records in one transaction. A record whose ID is stored already is left
// as it is, so that a batch may be sent again. It implements usage.Sink: the error of a record that
// can never be stored is a *fault.Error of kind Invalid.
func (s *Store) InsertRecords(ctx context.Context, records []usage.Record) error {
	err := s.insertRecords(ctx, records)
	if err != nil && s.engine.refused(err) {
		return fault.New(fault.Invalid, "record_refused", "The database refuses a usage record.").Because(err)
	}
	return s.engine.failed("store usage records", err)
}

func (s *Store) insertRecords(ctx context.Context, records []usage.Record) error {
	tx, err := s.engine.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing
	row := rowWriter{values: make([]any, 0, min(len(records), insertSizes[0])*len(recordColumns))}
	rest := records
	for _, size := range insertSizes {
		if len(rest) < size {
			continue
		}
		stmt := tx.StmtContext(ctx, s.insert[size]) //nolint:sqlclosecheck // closed by the transaction
		for ; len(rest) >= size; rest = rest[size:] {
			row.values = row.values[:0]
			for i := range rest[:size] {
				row.append(&rest[i])
			}
			if _, err := stmt.ExecContext(ctx, row.values...); err != nil {
				return err
			}
		}
	}
	for i := range records {
		if err := insertContent(ctx, tx, &records[i]); err != nil {
			return err
		}
	}
	return tx.Commit()
}

func insertContent(ctx context.Context, tx *sql.Tx, r *usage.Record) error {
	if r.Content == nil {
		return nil
	}
	_, err := tx.ExecContext(ctx,
		"INSERT INTO usage_contents (id, request, answer, truncated) VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO NOTHING",
		r.ID, notNil(r.Content.Request), notNil(r.Content.Answer), r.Content.Truncated)
	return err
}

// notNil keeps an empty value from becoming NULL.
func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// rowWriter collects the values of rows in the order of recordColumns. Its buffers are used again.
type rowWriter struct {
	values []any
	detail []byte
}

func (w *rowWriter) append(r *usage.Record) {
	w.detail = appendDetail(w.detail[:0], r)
	w.values = append(w.values,
		clean(r.ID), r.Start, r.Duration, r.FirstToken, clean(r.Organization), clean(r.Project), clean(r.KeyID),
		clean(string(r.Endpoint)), clean(r.Route), clean(r.Model), clean(r.Provider), clean(r.Deployment),
		int64(r.Status), clean(r.Code), r.Tokens.Prompt, r.Tokens.Cached, r.Tokens.Completion, r.Tokens.Reasoning,
		r.Tokens.Estimated, r.Cost, string(w.detail), r.FailedOver(), clean(r.Drill),
	)
}

// clean replaces what PostgreSQL refuses in a text: zero bytes and invalid UTF-8. One such record would
// hold up all that come after it. (In detail, JSON escapes them.)
func clean(s string) string {
	if strings.IndexByte(s, 0) < 0 && utf8.ValidString(s) {
		return s
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// Record returns a usage record with its trace and, where it was logged, its content. The error is
// a *fault.Error of kind NotFound when there is none.
func (s *Store) Record(ctx context.Context, id string) (usage.Record, error) {
	var row recordRow
	err := s.read.NewSelect().Model(&row).Where("id = ?", id).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return usage.Record{}, fault.New(fault.NotFound, "record_not_found",
			"There is no record of this request. Records arrive a few seconds after the answer; check the id (the x-request-id of the answer).").About("id")
	}
	if err != nil {
		return usage.Record{}, s.engine.failed("read the usage record", err)
	}
	record, err := row.record()
	if err != nil {
		return usage.Record{}, err
	}
	record.Content, err = s.content(ctx, id)
	return record, s.engine.failed("read the logged content", err)
}

// content returns what was logged for a record, or nil.
func (s *Store) content(ctx context.Context, id string) (*usage.Content, error) {
	var row contentRow
	err := s.read.NewSelect().Model(&row).Where("id = ?", id).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &usage.Content{Request: row.Request, Answer: row.Answer, Truncated: row.Truncated}, nil
}

func (r *recordRow) record() (usage.Record, error) {
	var d recordDetail
	if err := decode(r.Detail, &d, "usage_records", r.ID); err != nil {
		return usage.Record{}, err
	}
	return usage.Record{
		ID: r.ID, Start: r.Start, Duration: r.Duration, FirstToken: r.FirstToken,
		Organization: r.Organization, Project: r.Project, KeyID: r.KeyID,
		Endpoint: catalog.Endpoint(r.Endpoint), Requested: d.Requested, Route: r.Route, Policy: d.Policy,
		Model: r.Model, Provider: r.Provider, Deployment: r.Deployment,
		Stream: d.Stream, Status: r.Status, Code: r.Code,
		Tokens: catalog.Tokens{
			Prompt: r.PromptTokens, Cached: r.CachedTokens, Completion: r.CompletionTokens,
			Reasoning: r.ReasoningTokens, Estimated: r.Estimated,
		},
		PriceVersion: d.PriceVersion, Cost: r.Cost, BytesIn: d.BytesIn, BytesOut: d.BytesOut,
		TraceID: d.TraceID, SpanID: d.SpanID, Attempts: d.Attempts, Candidates: d.Candidates,
		Reason: d.Reason, Resumed: d.Resumed, Drill: r.Drill,
		Primary: d.Primary, PrimaryCost: d.PrimaryCost, PrimaryLatency: d.PrimaryLatency,
	}, nil
}
