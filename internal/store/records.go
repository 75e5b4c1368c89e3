package store

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/uptrace/bun"

	"shareai/internal/catalog"
	"shareai/internal/fault"
	"shareai/internal/usage"
)

// recordRow is a row of a day's records.
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
	Prompt           int64
}

// recordColumns are the columns of a day's records in the order of rowWriter.append.
var recordColumns = [...]string{
	"id", "start", "duration", "first_token", "organization", "project", "key_id", "endpoint", "route",
	"model", "provider", "deployment", "status", "code", "prompt_tokens", "cached_tokens",
	"completion_tokens", "reasoning_tokens", "estimated", "cost", "detail", "failed_over", "drill", "prompt",
}

// contentRow is a row of a day's contents.
type contentRow struct {
	bun.BaseModel `bun:"table:usage_contents"`
	ID            string `bun:",pk"`
	Request       []byte
	Answer        []byte
	Truncated     bool
}

// InsertRecords stores usage records and adds them to the sums, in one transaction for each day. A record
// whose ID is stored already is left as it is and not counted again, so that a batch may be sent again,
// also one of which some days were stored. It implements usage.Sink: the error of a record that can never
// be stored is a *fault.Error of kind Invalid.
func (s *Store) InsertRecords(ctx context.Context, records []usage.Record) error {
	// One batch at a time: two would wait for each other at the rows of the sums.
	s.inserting.Lock()
	defer s.inserting.Unlock()
	for _, of := range splitByDay(records) {
		err := s.insertDay(ctx, of.day, of.records)
		if err == nil {
			continue
		}
		s.forgetPartitions()
		if s.engine.refused(err) {
			return fault.New(fault.Invalid, "record_refused", "The database refuses a usage record.").Because(err)
		}
		return s.engine.failed("store usage records", err)
	}
	return nil
}

// dayRecords are the records of one day.
type dayRecords struct {
	day     day
	records []*usage.Record
}

func splitByDay(records []usage.Record) []dayRecords {
	var days []dayRecords
	for i := range records {
		of := dayOf(records[i].Start)
		at := slices.IndexFunc(days, func(d dayRecords) bool { return d.day == of })
		if at < 0 {
			at = len(days)
			days = append(days, dayRecords{day: of, records: make([]*usage.Record, 0, len(records)-i)})
		}
		days[at].records = append(days[at].records, &records[i])
	}
	return days
}

// errSeen says that some of a batch were stored before.
var errSeen = errors.New("records were stored before")

// insertDay stores records of one day. That they are all new is the usual case, and the fast one.
func (s *Store) insertDay(ctx context.Context, of day, records []*usage.Record) error {
	p, err := s.partition(ctx, of)
	if err != nil {
		return err
	}
	err = s.insertWith(ctx, p, records, insertNew)
	if errors.Is(err, errSeen) {
		err = s.insertWith(ctx, p, records, insertUnseen)
	}
	return err
}

// inserter stores records and returns those that were new.
type inserter func(context.Context, *sql.Tx, *partition, []*usage.Record) ([]*usage.Record, error)

func (s *Store) insertWith(ctx context.Context, p *partition, records []*usage.Record, insert inserter) error {
	tx, err := s.engine.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing
	fresh, err := insert(ctx, tx, p, records)
	if err != nil {
		return err
	}
	for _, r := range fresh {
		if err := insertContent(ctx, tx, p.day, r); err != nil {
			return err
		}
	}
	committed, err := s.rollUp(ctx, tx, p, fresh)
	if err != nil {
		return err
	}
	if err := postCommunity(ctx, tx, p.day, fresh); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	committed()
	return nil
}

// insertNew stores records by the hundred. Its error is errSeen unless all were new.
func insertNew(ctx context.Context, tx *sql.Tx, p *partition, records []*usage.Record) ([]*usage.Record, error) {
	var row rowWriter
	n, err := p.records.run(ctx, tx, len(records), func(values []any, i int) []any { return row.append(values, records[i]) })
	if err == nil && n != int64(len(records)) {
		err = errSeen
	}
	return records, err
}

// insertUnseen stores records one by one, which tells which of them are new.
func insertUnseen(ctx context.Context, tx *sql.Tx, p *partition, records []*usage.Record) ([]*usage.Record, error) {
	fresh := make([]*usage.Record, 0, len(records))
	var row rowWriter
	for _, r := range records {
		n, err := p.records.run(ctx, tx, 1, func(values []any, _ int) []any { return row.append(values, r) })
		if err != nil {
			return nil, err
		}
		if n == 1 {
			fresh = append(fresh, r)
		}
	}
	return fresh, nil
}

func insertContent(ctx context.Context, tx *sql.Tx, of day, r *usage.Record) error {
	if r.Content == nil {
		return nil
	}
	_, err := tx.ExecContext(ctx, //nolint:gosec // the table's name is made of a date
		"INSERT INTO "+of.contents()+" (id, request, answer, truncated) VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO NOTHING",
		clean(r.ID), notNil(r.Content.Request), notNil(r.Content.Answer), r.Content.Truncated)
	return err
}

// notNil keeps an empty value from becoming NULL.
func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// rowWriter turns records into the values of rows. Its buffer is used again.
type rowWriter struct {
	detail []byte
}

// append appends a record's values in the order of recordColumns.
func (w *rowWriter) append(values []any, r *usage.Record) []any {
	w.detail = appendDetail(w.detail[:0], r)
	return append(values,
		clean(r.ID), r.Start, r.Duration, r.FirstToken, clean(r.Organization), clean(r.Project), clean(r.KeyID),
		clean(string(r.Endpoint)), clean(r.Route), clean(r.Model), clean(r.Provider), clean(r.Deployment),
		int64(r.Status), clean(r.Code), r.Tokens.Prompt, r.Tokens.Cached, r.Tokens.Completion, r.Tokens.Reasoning,
		r.Tokens.Estimated, r.Cost, string(w.detail), r.FailedOver(), clean(r.Drill), int64(r.Prompt),
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
	days, err := s.days(ctx)
	if err != nil {
		return usage.Record{}, s.engine.failed("read the usage record", err)
	}
	for _, of := range days { // newest first: who asks for a trace has mostly just seen the request
		record, err := s.recordIn(ctx, of, id)
		if !errors.Is(err, sql.ErrNoRows) {
			return record, s.engine.failed("read the usage record", err)
		}
	}
	return usage.Record{}, fault.New(fault.NotFound, "record_not_found",
		"There is no record of this request. Records arrive a few seconds after the answer, and old ones are removed; check the id (the x-request-id of the answer).").About("id")
}

func (s *Store) recordIn(ctx context.Context, of day, id string) (usage.Record, error) {
	var row recordRow
	if err := s.read.NewSelect().Model(&row).ModelTableExpr("? AS record_row", bun.Ident(of.records())).Where("id = ?", id).Scan(ctx); err != nil {
		return usage.Record{}, err
	}
	record, err := row.record()
	if err != nil {
		return usage.Record{}, err
	}
	record.Content, err = s.content(ctx, of.contents(), id)
	return record, err
}

// content returns what was logged for a record, or nil.
func (s *Store) content(ctx context.Context, table, id string) (*usage.Content, error) {
	var row contentRow
	err := s.read.NewSelect().Model(&row).ModelTableExpr("? AS content_row", bun.Ident(table)).Where("id = ?", id).Scan(ctx)
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
			CacheWrite: d.Kinds.CacheWrite, CacheWrite1h: d.Kinds.CacheWrite1h, AudioInput: d.Kinds.AudioInput, AudioOutput: d.Kinds.AudioOutput,
		},
		PriceVersion: d.PriceVersion, Cost: r.Cost, BytesIn: d.BytesIn, BytesOut: d.BytesOut,
		TraceID: d.TraceID, SpanID: d.SpanID, Attempts: d.Attempts, Candidates: d.Candidates,
		Reason: d.Reason, Resumed: d.Resumed, Drill: r.Drill, Labels: d.Labels, Prompt: uint64(r.Prompt),
		Primary: d.Primary, PrimaryCost: d.PrimaryCost, PrimaryLatency: d.PrimaryLatency,
	}, nil
}
