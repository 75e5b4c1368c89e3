package store

import (
	"context"
	"database/sql"
	"errors"
	"maps"
	"slices"

	"github.com/uptrace/bun"

	"shareai/internal/catalog"
	"shareai/internal/usage"
)

type handleRow struct {
	bun.BaseModel `bun:"table:community_handles"`
	Handle        string `bun:",pk"`
	Node          string
	Organization  string
	Fee           int64
}

// putHandle keeps whose the handle of a node is. One that is another node's breaks a key, and nothing is stored.
func (w *writer) putHandle(n *catalog.Node) {
	if n.Shared != nil {
		w.upsert(&handleRow{Handle: n.Shared.Handle, Node: n.ID, Organization: n.Organization, Fee: n.Shared.Fee}, "(node)")
	}
}

// postCommunity posts what shared nodes served to the ledger, in the transaction of the records, which are new: a record
// is in both or in neither, whatever happens in between.
func postCommunity(ctx context.Context, tx *sql.Tx, of day, records []*usage.Record) error {
	p := poster{ctx: ctx, tx: tx, handles: map[string]*handleRow{}, days: map[string]*usage.CommunityRecord{}}
	for _, r := range records {
		for i, part := range r.CommunityParts() {
			part.Handle, part.Model = clean(part.Handle), clean(part.Model)
			if err := p.post(r, i, part); err != nil {
				return err
			}
		}
		p.judge(r)
	}
	for _, handle := range slices.Sorted(maps.Keys(p.days)) { // in one order: replicas do not lock each other out
		d := p.days[handle]
		_, err := tx.ExecContext(ctx, `INSERT INTO community_days (day, handle, served, failed, prompt_tokens, completion_tokens)
			VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (day, handle) DO UPDATE SET served = community_days.served + excluded.served,
			failed = community_days.failed + excluded.failed, prompt_tokens = community_days.prompt_tokens + excluded.prompt_tokens,
			completion_tokens = community_days.completion_tokens + excluded.completion_tokens`,
			int64(of), handle, d.Served, d.Failed, d.PromptTokens, d.CompletionTokens)
		if err != nil {
			return err
		}
	}
	return nil
}

// poster posts within one transaction, whose context it carries.
type poster struct {
	ctx     context.Context
	tx      *sql.Tx
	handles map[string]*handleRow
	days    map[string]*usage.CommunityRecord // by handle
}

func (p *poster) day(handle string) *usage.CommunityRecord {
	if p.days[handle] == nil {
		p.days[handle] = &usage.CommunityRecord{}
	}
	return p.days[handle]
}

// judge counts what the record's attempts tell of the nodes.
func (p *poster) judge(r *usage.Record) {
	for i := range r.Attempts {
		handle, shared := usage.HandleOf(r.Attempts[i].Provider)
		counts, served := r.Attempts[i].Verdict()
		switch {
		case !shared || !counts:
		case served:
			p.day(clean(handle)).Served++
		default:
			p.day(clean(handle)).Failed++
		}
	}
}

func (p *poster) post(r *usage.Record, number int, part usage.CommunityPart) error {
	part.Cost = bounded(part.Cost)
	sums := p.day(part.Handle)
	sums.PromptTokens += bounded(part.Tokens.Prompt)
	sums.CompletionTokens += bounded(part.Tokens.Completion)
	owner, err := p.owner(part.Handle)
	if err != nil {
		return err
	}
	for _, t := range r.TransfersOf(number, part, owner.Organization, owner.Fee) {
		if err := p.transfer(&t, r.Start); err != nil {
			return err
		}
	}
	return nil
}

// owner finds whose a handle is; a row without an organization: nobody's.
func (p *poster) owner(handle string) (*handleRow, error) {
	if known := p.handles[handle]; known != nil {
		return known, nil
	}
	row := &handleRow{Handle: handle}
	err := p.tx.QueryRowContext(p.ctx, "SELECT organization, fee FROM community_handles WHERE handle = $1", handle).Scan(&row.Organization, &row.Fee)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, err
	}
	p.handles[handle] = row
	return row, nil
}

// transfer posts a transfer with its two entries, unless it is posted already.
func (p *poster) transfer(t *usage.Transfer, at int64) error {
	id, part := clean(t.ID), &t.Part
	done, err := p.tx.ExecContext(p.ctx, `INSERT INTO community_transfers (id, at, kind, handle, model, requests, prompt_tokens, completion_tokens)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (id) DO NOTHING`,
		id, at, t.Kind, part.Handle, part.Model, one(part.Answered), bounded(part.Tokens.Prompt), bounded(part.Tokens.Completion))
	if err != nil {
		return err
	}
	if n, err := done.RowsAffected(); err != nil || n == 0 || t.From == t.To {
		return err
	}
	for account, amount := range map[string]int64{t.From: -t.Amount, t.To: t.Amount} {
		_, err = p.tx.ExecContext(p.ctx, "INSERT INTO community_entries (transfer, account, at, amount) VALUES ($1, $2, $3, $4)", id, clean(account), at, amount)
		if err != nil {
			return err
		}
	}
	return nil
}

// CommunityStatement sums up the ledger for an organization over [from, to), in microseconds.
func (s *Store) CommunityStatement(ctx context.Context, organization string, from, to int64) (usage.CommunityStatement, error) {
	var out usage.CommunityStatement
	account := usage.AccountOf(organization)
	oneView := &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true}
	err := s.read.RunInTx(ctx, oneView, func(ctx context.Context, tx bun.Tx) error {
		var rows []struct {
			usage.CommunityLine `bun:",extend"`
			Kind                string
			Amount              int64
		}
		query := tx.NewSelect().TableExpr("community_entries AS e").Join("JOIN community_transfers AS t ON t.id = e.transfer").
			ColumnExpr("t.handle, t.model, t.kind").
			ColumnExpr("CAST(SUM(t.requests) AS BIGINT) AS requests, CAST(SUM(t.prompt_tokens) AS BIGINT) AS prompt_tokens").
			ColumnExpr("CAST(SUM(t.completion_tokens) AS BIGINT) AS completion_tokens, CAST(SUM(e.amount) AS BIGINT) AS amount").
			Where("e.account = ? AND e.at >= ? AND e.at < ?", account, from, to).GroupExpr("t.handle, t.model, t.kind, e.amount < 0")
		if err := query.Scan(ctx, &rows); err != nil {
			return err
		}
		for i := range rows {
			out.Add(rows[i].CommunityLine, rows[i].Kind, rows[i].Amount)
		}
		return tx.NewSelect().Table("community_entries").ColumnExpr("CAST(COALESCE(SUM(amount), 0) AS BIGINT)").
			Where("account = ?", account).Scan(ctx, &out.Balance)
	})
	return out, s.engine.failed("read the statement", err)
}

// CommunityAccounts are the balances of all accounts, in nano-dollars. Their sum is zero.
func (s *Store) CommunityAccounts(ctx context.Context) (map[string]int64, error) {
	var rows []struct {
		Account string
		Amount  int64
	}
	err := s.read.NewSelect().Table("community_entries").ColumnExpr("account, CAST(SUM(amount) AS BIGINT) AS amount").Group("account").Scan(ctx, &rows)
	balances := make(map[string]int64, len(rows))
	for _, r := range rows {
		balances[r.Account] = r.Amount
	}
	return balances, s.engine.failed("read the accounts", err)
}

// CommunityRecords returns how nodes served others, by handle: the requests of the days since a moment, in microseconds.
func (s *Store) CommunityRecords(ctx context.Context, since int64) ([]usage.CommunityRecord, error) {
	var records []usage.CommunityRecord
	from := int64(dayOf(since))
	err := s.read.NewSelect().Table("community_days").ColumnExpr("handle").
		ColumnExpr("CAST(SUM(CASE WHEN day >= ? THEN served ELSE 0 END) AS BIGINT) AS served", from).
		ColumnExpr("CAST(SUM(CASE WHEN day >= ? THEN failed ELSE 0 END) AS BIGINT) AS failed", from).
		ColumnExpr("CAST(SUM(prompt_tokens) AS BIGINT) AS prompt_tokens, CAST(SUM(completion_tokens) AS BIGINT) AS completion_tokens").
		Group("handle").Order("handle").Scan(ctx, &records)
	return records, s.engine.failed("read how nodes served others", err)
}
