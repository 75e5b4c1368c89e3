package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/uptrace/bun"
)

// rankedPrompts is how many prompts of a day are ranked.
const rankedPrompts = 1000

// PromptRow is a prompt with what it caused in one project at one model.
type PromptRow struct {
	Prompt           string // fingerprint, 16 hexadecimal digits
	Project          string // organization/project
	Model            string
	Requests         int64
	PromptTokens     int64
	CompletionTokens int64
	Cost             int64  // nano-dollars
	Example          string // id of one of its records, whose trace has the content where that is logged
}

// PromptQuery selects days and prompts. An empty filter matches everything.
type PromptQuery struct {
	From, To     time.Time // days that begin in From <= day < To, From cut to its day; a zero time is no bound
	Organization string
	Project      string
	Model        string
	Limit        int // at most so many rows; 0: 20
}

type promptRow struct {
	bun.BaseModel    `bun:"table:usage_prompts"`
	Day              int64
	Prompt           int64
	Organization     string
	Project          string
	Model            string
	Requests         int64
	PromptTokens     int64
	CompletionTokens int64
	Cost             int64
	Example          string
}

// RankPrompts ranks the prompts of the days that may have changed since it was done last: from the last
// ranked day or yesterday on, whichever is earlier. Of each day it keeps the thousand that cost most, and
// where nothing costs money, that used most tokens: more would be as many rows as there are records.
func (s *Store) RankPrompts(ctx context.Context) error {
	days, err := s.days(ctx)
	if err != nil {
		return s.engine.failed("rank prompts", err)
	}
	var last sql.NullInt64
	if err := s.read.NewSelect().Table("usage_prompts").ColumnExpr("MAX(day)").Scan(ctx, &last); err != nil {
		return s.engine.failed("rank prompts", err)
	}
	from := min(dayOf(time.Now().UnixMicro())-1, day(last.Int64))
	for _, of := range days {
		if of < from {
			continue
		}
		if err := s.rankDay(ctx, of); err != nil {
			return s.engine.failed("rank prompts", err)
		}
	}
	return nil
}

// rankDay reads first and writes then, so that nobody waits for the reading.
func (s *Store) rankDay(ctx context.Context, of day) error {
	var rows []promptRow
	err := s.read.NewSelect().TableExpr("?", bun.Ident(of.records())).ColumnExpr("? AS day", int64(of)).
		Column("prompt", "organization", "project", "model").ColumnExpr("COUNT(*) AS requests").
		ColumnExpr("CAST(SUM(prompt_tokens) AS BIGINT) AS prompt_tokens").
		ColumnExpr("CAST(SUM(completion_tokens) AS BIGINT) AS completion_tokens").
		ColumnExpr("CAST(SUM(cost) AS BIGINT) AS cost").ColumnExpr("MAX(id) AS example").
		Where("prompt <> 0").Where("model <> ''").Group("prompt", "organization", "project", "model").
		OrderExpr("SUM(cost) DESC, SUM(prompt_tokens + completion_tokens) DESC").Limit(rankedPrompts).Scan(ctx, &rows)
	if err != nil {
		return err
	}
	return s.write.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
		if _, err := tx.NewDelete().Table("usage_prompts").Where("day = ?", int64(of)).Exec(ctx); err != nil || len(rows) == 0 {
			return err
		}
		_, err := tx.NewInsert().Model(&rows).Exec(ctx)
		return err
	})
}

// Prompts returns the prompts that cost most, of the days that are ranked. A prompt that was not among
// the first of a day is missing for that day.
func (s *Store) Prompts(ctx context.Context, q PromptQuery) ([]PromptRow, error) {
	if q.Limit == 0 {
		q.Limit = 20
	}
	query := s.read.NewSelect().Table("usage_prompts").Column("prompt", "organization", "project", "model")
	for _, column := range []string{"requests", "prompt_tokens", "completion_tokens", "cost"} {
		query = query.ColumnExpr("CAST(SUM(?) AS BIGINT) AS ?", bun.Ident(column), bun.Ident(column))
	}
	query = query.ColumnExpr("MAX(example) AS example").Group("prompt", "organization", "project", "model").
		OrderExpr("SUM(cost) DESC, SUM(prompt_tokens + completion_tokens) DESC, prompt").Limit(int64(q.Limit))
	for column, value := range map[string]string{"organization": q.Organization, "project": q.Project, "model": q.Model} {
		if value != "" {
			query = query.Where("? = ?", bun.Ident(column), value)
		}
	}
	if !q.From.IsZero() {
		query = query.Where("day >= ?", int64(dayOf(q.From.UnixMicro())))
	}
	if !q.To.IsZero() {
		query = query.Where("day < ?", int64(dayOf(q.To.UnixMicro()-1))+1)
	}
	var rows []promptRow
	if err := query.Scan(ctx, &rows); err != nil {
		return nil, s.engine.failed("read the ranked prompts", err)
	}
	found := make([]PromptRow, len(rows))
	for i, r := range rows {
		found[i] = PromptRow{
			Prompt: fmt.Sprintf("%016x", uint64(r.Prompt)), Project: r.Organization + "/" + r.Project, Model: r.Model, Requests: r.Requests,
			PromptTokens: r.PromptTokens, CompletionTokens: r.CompletionTokens, Cost: r.Cost, Example: r.Example,
		}
	}
	return found, nil
}
