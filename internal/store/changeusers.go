package store

import (
	"context"

	"github.com/uptrace/bun"

	"shareai/internal/account"
	"shareai/internal/audit"
)

// ChangeUsers does what one act does to accounts, and logs it, or does nothing of it. The errors of what it finds
// otherwise are those of package account.
func (s *Store) ChangeUsers(ctx context.Context, c account.UserChange, acts ...audit.Act) error {
	err := s.write.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
		w := &userWriter{writer: writer{ctx: ctx, tx: tx, sealer: s.sealer}, store: s}
		w.exec("UPDATE account_writes SET value = value + 1") // first: see the migration
		w.expire(c)
		w.spend(c.UseTicket)
		if c.First {
			w.refuseIf(account.ErrUsersExist, "SELECT COUNT(*) FROM users")
		}
		for i := range c.PutUsers {
			w.putUser(&c.PutUsers[i])
		}
		w.putMemberships(c)
		w.putSessions(c)
		w.putTickets(c)
		if c.OwnedAfter != "" {
			w.refuseIf(account.ErrLastOwner, "SELECT CASE WHEN COUNT(*) = 0 THEN 1 ELSE 0 END FROM memberships AS m JOIN users AS u ON u.id = m.user_id WHERE m.organization = ? AND m.role = ? AND u.disabled_at = 0",
				c.OwnedAfter, string(account.Owner))
		}
		if w.err != nil {
			return w.err
		}
		return appendAudit(ctx, tx, 0, acts)
	})
	if err != nil {
		return s.engine.failed("change accounts", err)
	}
	s.settle(ctx)
	return nil
}

// userWriter changes accounts within one transaction. After its first error it does nothing any more.
type userWriter struct {
	writer
	store *Store
}

// exec runs a statement and returns how many rows it changed.
func (w *userWriter) exec(statement string, args ...any) int64 {
	if w.err != nil {
		return 0
	}
	done, err := w.tx.NewRaw(statement, args...).Exec(w.ctx)
	if err != nil {
		w.err = err
		return 0
	}
	n, err := done.RowsAffected()
	w.err = err
	return n
}

// refuseIf ends with an error when a query does not count zero.
func (w *userWriter) refuseIf(refusal error, query string, args ...any) {
	if w.err != nil {
		return
	}
	var n int64
	if w.err = w.tx.NewRaw(query, args...).Scan(w.ctx, &n); w.err == nil && n > 0 {
		w.err = refusal
	}
}

func (w *userWriter) expire(c account.UserChange) {
	at := toMicro(c.At)
	w.exec("DELETE FROM sessions WHERE expires_at <= ?", at)
	w.exec("DELETE FROM tickets WHERE expires_at <> 0 AND expires_at <= ?", at)
}

// spend uses a ticket up: of two who come with it, one does.
func (w *userWriter) spend(hash account.KeyHash) {
	if hash != (account.KeyHash{}) && w.exec("DELETE FROM tickets WHERE hash = ?", hash[:]) != 1 && w.err == nil {
		w.err = account.ErrNoTicket
	}
}

func (w *userWriter) putUser(u *account.UserRecord) {
	if w.err != nil {
		return
	}
	row, err := w.store.rowOf(u)
	if err != nil {
		w.err = err
		return
	}
	w.refuseIf(account.ErrEmailTaken, "SELECT COUNT(*) FROM users WHERE email = ? AND id <> ?", u.Email, u.ID)
	if w.err != nil {
		return
	}
	if u.Version == 0 {
		_, w.err = w.tx.NewInsert().Model(row).Exec(w.ctx)
	} else {
		done, err := w.tx.NewUpdate().Model(row).WherePK().Where("version = ?", u.Version).Exec(w.ctx)
		if err != nil {
			w.err = err
			return
		}
		if n, err := done.RowsAffected(); err != nil || n != 1 {
			w.err = firstOf(err, account.ErrUserStale)
		}
	}
	w.exec("DELETE FROM user_subjects WHERE user_id = ?", u.ID)
	for _, s := range u.Subjects {
		if w.err == nil {
			_, w.err = w.tx.NewInsert().Model(&subjectRow{Issuer: s.Issuer, Subject: s.Subject, UserID: u.ID}).Exec(w.ctx)
		}
	}
}

func (w *userWriter) putMemberships(c account.UserChange) {
	for _, m := range c.DeleteMemberships {
		w.exec("DELETE FROM memberships WHERE user_id = ? AND organization = ?", m.UserID, m.Organization)
	}
	for _, m := range c.PutMemberships {
		w.upsert(&membershipRow{UserID: m.UserID, Organization: m.Organization, Role: string(m.Role), Since: toMicro(m.Since)}, "(user_id, organization)")
	}
}

func (w *userWriter) putSessions(c account.UserChange) {
	w.delete("sessions", "id", c.DeleteSessions)
	if c.EndSessions != "" {
		w.exec("DELETE FROM sessions WHERE user_id = ? AND id <> ?", c.EndSessions, c.EndSessionsBut)
	}
	for _, s := range c.PutSessions {
		if w.err != nil {
			return
		}
		_, w.err = w.tx.NewInsert().Model(&sessionRow{
			ID: s.ID, Hash: s.Hash[:], UserID: s.UserID, CreatedAt: toMicro(s.CreatedAt), SeenAt: toMicro(s.SeenAt), ExpiresAt: toMicro(s.Expires),
			Method: s.Method, Address: s.From, Client: s.Client,
		}).Exec(w.ctx)
	}
}

func (w *userWriter) putTickets(c account.UserChange) {
	w.delete("tickets", "id", c.DeleteTickets)
	if c.DeleteTicketsOf != "" {
		w.exec("DELETE FROM tickets WHERE user_id = ? AND kind = ?", c.DeleteTicketsOf, string(account.ResetTicket))
	}
	for _, t := range c.PutTickets {
		if w.err != nil {
			return
		}
		_, w.err = w.tx.NewInsert().Model(&ticketRow{
			Hash: t.Hash[:], ID: t.ID, Kind: string(t.Kind), UserID: t.UserID, Organization: t.Organization, Role: string(t.Role), Email: t.Email,
			MadeBy: t.By, CreatedAt: toMicro(t.CreatedAt), ExpiresAt: toMicro(t.Expires),
		}).Exec(w.ctx)
	}
}
