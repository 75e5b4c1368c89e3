package store

import (
	"context"
	"database/sql"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"shareai/internal/fault"
	"shareai/internal/usage"
)

// RequestOutcome selects requests by how they went.
type RequestOutcome string

// The outcomes. Empty: all.
const (
	Succeeded  RequestOutcome = "ok"
	Failed     RequestOutcome = "failed"      // answered with an error, or broken off
	FailedOver RequestOutcome = "failed_over" // another than the primary answered
)

// RequestQuery selects usage records, the newest first. An empty field matches everything.
type RequestQuery struct {
	Organization, Project, KeyID, Endpoint, Route, Model, Provider, Code, Drill string

	Status  int
	Outcome RequestOutcome
	// From <= start < To; a zero time is no bound.
	From, To time.Time
	// After is the place at which the page before ended; empty: the newest.
	After string
	Limit int // at least 1
}

// scanAtMost bounds the records that are looked at for a page, so that rare ones among many millions do not keep a
// reader, and the database, waiting.
const scanAtMost = 200_000

// Requests returns a page of records, without their contents, and the place from which the next page goes on; empty: this
// was the last one. A page may have fewer records than asked for, or none, and be followed by others.
func (s *Store) Requests(ctx context.Context, q RequestQuery) (page []usage.Record, next string, err error) {
	days, err := s.days(ctx)
	if err != nil {
		return nil, "", s.engine.failed("list requests", err)
	}
	first, id, err := readPlace(q.After)
	if err != nil {
		return nil, "", err
	}
	left := scanAtMost
	for _, of := range days { // newest first
		if !q.has(of) || q.After != "" && of > first {
			continue
		}
		if q.After == "" || of < first {
			id = ""
		}
		floor, scanned, err := s.scanEnd(ctx, of, id, left)
		if err != nil {
			return nil, "", s.engine.failed("list requests", err)
		}
		found, err := s.requestsIn(ctx, of, q, stretchOfIDs{below: id, from: floor, limit: q.Limit - len(page)})
		if err != nil {
			return nil, "", s.engine.failed("list requests", err)
		}
		page = append(page, found...)
		if len(page) == q.Limit {
			return page, place(of, page[len(page)-1].ID), nil
		}
		if floor != "" {
			return page, place(of, floor), nil
		}
		left -= scanned
	}
	return page, "", nil
}

// place is where a page ends: the day and the id of its last record.
func place(of day, id string) string { return strconv.FormatInt(int64(of), 10) + " " + id }

func readPlace(text string) (day, string, error) {
	if text == "" {
		return 0, "", nil
	}
	number, id, ok := strings.Cut(text, " ")
	of, err := strconv.ParseInt(number, 10, 32)
	if !ok || err != nil {
		return 0, "", badPlace()
	}
	return day(of), id, nil
}

func badPlace() error {
	return fault.New(fault.Invalid, "invalid_cursor", "The cursor is not one of this list. Take it from the answer before, or leave it out.").About("cursor")
}

// has says whether a day has a part of the query's range.
func (q *RequestQuery) has(of day) bool {
	begin := time.UnixMicro(int64(of) * dayMicros)
	return (q.To.IsZero() || begin.Before(q.To)) && (q.From.IsZero() || begin.Add(24*time.Hour).After(q.From))
}

// scanEnd returns the id of the last record of a day that may be looked at, where there are more than that; and how many
// are looked at otherwise, at least.
func (s *Store) scanEnd(ctx context.Context, of day, below string, most int) (floor string, scanned int, err error) {
	query := s.read.NewSelect().TableExpr("?", bun.Ident(of.records())).Column("id").OrderExpr("id DESC").Limit(1).Offset(int64(max(most, 1) - 1))
	if below != "" {
		query = query.Where("id < ?", below)
	}
	err = query.Scan(ctx, &floor)
	if !errors.Is(err, sql.ErrNoRows) {
		return floor, most, err
	}
	all := s.read.NewSelect().TableExpr("?", bun.Ident(of.records())).ColumnExpr("COUNT(*)").Where("(? = '' OR id < ?)", below, below)
	return "", scanned, all.Scan(ctx, &scanned)
}

// stretchOfIDs is a part of a day: from <= id < below.
type stretchOfIDs struct {
	below, from string // empty: no bound
	limit       int
}

func (s *Store) requestsIn(ctx context.Context, of day, q RequestQuery, in stretchOfIDs) ([]usage.Record, error) {
	var rows []recordRow
	query := s.read.NewSelect().Model(&rows).ModelTableExpr("? AS record_row", bun.Ident(of.records())).OrderExpr("id DESC").Limit(int64(in.limit))
	if in.below != "" {
		query = query.Where("id < ?", in.below)
	}
	if in.from != "" {
		query = query.Where("id >= ?", in.from)
	}
	if err := q.filter(query).Scan(ctx); err != nil {
		return nil, err
	}
	records := make([]usage.Record, len(rows))
	for i := range rows {
		var err error
		if records[i], err = rows[i].record(); err != nil {
			return nil, err
		}
	}
	return records, nil
}

func (q *RequestQuery) filter(query *bun.SelectQuery) *bun.SelectQuery {
	for _, f := range []struct{ column, value string }{
		{"organization", q.Organization},
		{"project", q.Project},
		{"key_id", q.KeyID},
		{"endpoint", q.Endpoint},
		{"route", q.Route},
		{"model", q.Model},
		{"provider", q.Provider},
		{"code", q.Code},
		{"drill", q.Drill},
	} {
		if f.value != "" {
			query = query.Where("? = ?", bun.Ident(f.column), f.value)
		}
	}
	if q.Status != 0 {
		query = query.Where("status = ?", q.Status)
	}
	if !q.From.IsZero() {
		query = query.Where("start >= ?", q.From.UnixMicro())
	}
	if !q.To.IsZero() {
		query = query.Where("start < ?", q.To.UnixMicro())
	}
	switch q.Outcome {
	case Succeeded:
		query = query.Where("code = ''")
	case Failed:
		query = query.Where("code <> ''").Where("status <> ?", statusClientLeft)
	case FailedOver:
		query = query.Where("failed_over")
	}
	return query
}
