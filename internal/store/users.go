package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"shareai/internal/account"
)

// The rows of accounts.
type (
	userRow struct {
		bun.BaseModel `bun:"table:users,alias:u"`
		ID            string `bun:",pk"`
		Email         string
		Name          string
		Password      string
		TOTP          []byte `bun:"totp"`
		SecondFactor  bool
		TOTPStep      int64 `bun:"totp_step"`
		Recovery      string
		CreatedAt     int64
		SignedInAt    int64
		DisabledAt    int64
		Version       int64
	}
	subjectRow struct {
		bun.BaseModel `bun:"table:user_subjects"`
		Issuer        string `bun:",pk"`
		Subject       string `bun:",pk"`
		UserID        string
	}
	membershipRow struct {
		bun.BaseModel `bun:"table:memberships,alias:m"`
		UserID        string `bun:",pk"`
		Organization  string `bun:",pk"`
		Role          string
		Since         int64
	}
	sessionRow struct {
		bun.BaseModel `bun:"table:sessions,alias:s"`
		ID            string `bun:",pk"`
		Hash          []byte
		UserID        string
		CreatedAt     int64
		SeenAt        int64
		ExpiresAt     int64
		Method        string
		Address       string
		Client        string
	}
	ticketRow struct {
		bun.BaseModel `bun:"table:tickets"`
		Hash          []byte `bun:",pk"`
		ID            string
		Kind          string
		UserID        string
		Organization  string
		Role          string
		Email         string
		MadeBy        string
		CreatedAt     int64
		ExpiresAt     int64
	}
)

// User returns a user with all that is kept of him, or account.ErrNoUser.
func (s *Store) User(ctx context.Context, ref account.UserRef) (account.UserRecord, error) {
	var rows []userRow
	query := s.read.NewSelect().Model(&rows)
	switch {
	case ref.ID != "":
		query = query.Where("u.id = ?", ref.ID)
	case ref.Email != "":
		query = query.Where("u.email = ?", ref.Email)
	default:
		query = query.Where("u.id = (SELECT user_id FROM user_subjects WHERE issuer = ? AND subject = ?)", ref.Subject.Issuer, ref.Subject.Subject)
	}
	if err := query.Scan(ctx); err != nil {
		return account.UserRecord{}, s.engine.failed("read a user", err)
	}
	if len(rows) == 0 {
		return account.UserRecord{}, account.ErrNoUser
	}
	users, err := s.wholeUsers(ctx, rows)
	if err != nil {
		return account.UserRecord{}, err
	}
	return users[0], nil
}

// Users lists users by e-mail address.
func (s *Store) Users(ctx context.Context, f account.UserFilter) ([]account.UserRecord, error) {
	var rows []userRow
	query := s.read.NewSelect().Model(&rows).Order("u.email")
	if f.Organization != "" {
		query = query.Where("u.id IN (SELECT user_id FROM memberships WHERE organization = ?)", f.Organization)
	}
	if f.After != "" {
		query = query.Where("u.email > ?", f.After)
	}
	if f.Limit > 0 {
		query = query.Limit(int64(f.Limit))
	}
	if err := query.Scan(ctx); err != nil {
		return nil, s.engine.failed("list the users", err)
	}
	return s.wholeUsers(ctx, rows)
}

// wholeUsers adds to rows what other tables have of them.
func (s *Store) wholeUsers(ctx context.Context, rows []userRow) ([]account.UserRecord, error) {
	if len(rows) == 0 {
		return nil, nil
	}
	ids := make([]string, len(rows))
	at := make(map[string]int, len(rows))
	users := make([]account.UserRecord, len(rows))
	for i := range rows {
		var err error
		if users[i], err = s.userOf(&rows[i]); err != nil {
			return nil, err
		}
		ids[i], at[rows[i].ID] = rows[i].ID, i
	}
	var members []membershipRow
	var subjects []subjectRow
	err := firstOf(
		s.read.NewSelect().Model(&members).Where("user_id IN (?)", bun.List(ids)).Order("organization").Scan(ctx),
		s.read.NewSelect().Model(&subjects).Where("user_id IN (?)", bun.List(ids)).Order("issuer", "subject").Scan(ctx),
	)
	if err != nil {
		return nil, s.engine.failed("read users", err)
	}
	for _, m := range members {
		u := &users[at[m.UserID]]
		u.Memberships = append(u.Memberships, m.membership())
	}
	for _, r := range subjects {
		u := &users[at[r.UserID]]
		u.Subjects = append(u.Subjects, account.Subject{Issuer: r.Issuer, Subject: r.Subject})
	}
	return users, nil
}

func (m *membershipRow) membership() account.Membership {
	return account.Membership{UserID: m.UserID, Organization: m.Organization, Role: account.Role(m.Role), Since: fromMicro(m.Since)}
}

func (r *userRow) user() account.User {
	return account.User{
		ID: r.ID, Email: r.Email, Name: r.Name, CreatedAt: fromMicro(r.CreatedAt), SignedInAt: fromMicro(r.SignedInAt),
		SecondFactor: r.SecondFactor, DisabledAt: fromMicro(r.DisabledAt),
	}
}

// userSeal is what a user's sealed secrets are bound to in the place of a provider, whose name has no colon.
func userSeal(id string) string { return "user:" + id }

func (s *Store) userOf(r *userRow) (account.UserRecord, error) {
	u := account.UserRecord{User: r.user(), Password: account.NewSecret(r.Password), TOTPStep: r.TOTPStep, Version: r.Version}
	if len(r.TOTP) > 0 {
		var err error
		if u.TOTP, err = s.sealer.Open(r.TOTP, userSeal(r.ID), "totp"); err != nil {
			return u, err
		}
	}
	var hashes [][]byte
	if err := decode(r.Recovery, &hashes, "users", r.ID); err != nil {
		return u, err
	}
	for _, h := range hashes {
		if len(h) != len(account.KeyHash{}) {
			return u, fmt.Errorf("users %s: the hash of a recovery code is damaged", r.ID)
		}
		u.Recovery = append(u.Recovery, account.KeyHash(h))
	}
	return u, nil
}

func (s *Store) rowOf(u *account.UserRecord) (*userRow, error) {
	hashes := make([][]byte, len(u.Recovery))
	for i := range u.Recovery {
		hashes[i] = u.Recovery[i][:]
	}
	recovery, err := json.Marshal(hashes)
	if err != nil {
		return nil, err
	}
	r := &userRow{
		ID: u.ID, Email: u.Email, Name: u.Name, Password: u.Password.Reveal(), TOTP: []byte{}, SecondFactor: u.SecondFactor, TOTPStep: u.TOTPStep,
		Recovery: string(recovery), CreatedAt: toMicro(u.CreatedAt), SignedInAt: toMicro(u.SignedInAt), DisabledAt: toMicro(u.DisabledAt),
		Version: u.Version + 1,
	}
	if !u.TOTP.Empty() {
		r.TOTP = s.sealer.Seal(u.TOTP, userSeal(u.ID), "totp")
	}
	return r, nil
}

// SignedIn returns the session whose token has a hash, and whose it is; or account.ErrNoSession.
func (s *Store) SignedIn(ctx context.Context, hash account.KeyHash) (account.SignedIn, error) {
	var session sessionRow
	err := s.read.NewSelect().Model(&session).Where("hash = ?", hash[:]).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return account.SignedIn{}, account.ErrNoSession
	}
	if err != nil {
		return account.SignedIn{}, s.engine.failed("read a session", err)
	}
	user, members := userRow{}, []membershipRow{}
	err = firstOf(
		s.read.NewSelect().Model(&user).Where("u.id = ?", session.UserID).Scan(ctx),
		s.read.NewSelect().Model(&members).Where("user_id = ?", session.UserID).Order("organization").Scan(ctx),
	)
	if err != nil {
		return account.SignedIn{}, s.engine.failed("read a session", err)
	}
	in := account.SignedIn{Session: session.session(), User: user.user()}
	for _, m := range members {
		in.Memberships = append(in.Memberships, m.membership())
	}
	return in, nil
}

func (r *sessionRow) session() account.Session {
	return account.Session{
		ID: r.ID, UserID: r.UserID, CreatedAt: fromMicro(r.CreatedAt), SeenAt: fromMicro(r.SeenAt), Expires: fromMicro(r.ExpiresAt),
		Method: r.Method, From: r.Address, Client: r.Client,
	}
}

// Sessions lists the sessions of a user, the newest first.
func (s *Store) Sessions(ctx context.Context, userID string) ([]account.Session, error) {
	var rows []sessionRow
	if err := s.read.NewSelect().Model(&rows).Where("user_id = ?", userID).OrderExpr("created_at DESC, id").Scan(ctx); err != nil {
		return nil, s.engine.failed("list sessions", err)
	}
	sessions := make([]account.Session, len(rows))
	for i := range rows {
		sessions[i] = rows[i].session()
	}
	return sessions, nil
}

// TouchSession notes that a session was seen.
func (s *Store) TouchSession(ctx context.Context, id string, at time.Time) error {
	_, err := s.write.NewUpdate().Table("sessions").Set("seen_at = ?", at.UnixMicro()).Where("id = ?", id).Where("seen_at < ?", at.UnixMicro()).Exec(ctx)
	return s.engine.failed("note that a session was seen", err)
}

// Ticket returns the ticket of a link, or account.ErrNoTicket.
func (s *Store) Ticket(ctx context.Context, hash account.KeyHash) (account.Ticket, error) {
	var row ticketRow
	err := s.read.NewSelect().Model(&row).Where("hash = ?", hash[:]).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return account.Ticket{}, account.ErrNoTicket
	}
	if err != nil {
		return account.Ticket{}, s.engine.failed("read a ticket", err)
	}
	return row.ticket()
}

// Tickets lists the tickets of a kind, those of an organization where it is not empty, the oldest first.
func (s *Store) Tickets(ctx context.Context, kind account.TicketKind, organization string) ([]account.Ticket, error) {
	var rows []ticketRow
	query := s.read.NewSelect().Model(&rows).Where("kind = ?", string(kind)).Order("created_at", "id")
	if organization != "" {
		query = query.Where("organization = ?", organization)
	}
	if err := query.Scan(ctx); err != nil {
		return nil, s.engine.failed("list tickets", err)
	}
	tickets := make([]account.Ticket, len(rows))
	for i := range rows {
		var err error
		if tickets[i], err = rows[i].ticket(); err != nil {
			return nil, err
		}
	}
	return tickets, nil
}

func (r *ticketRow) ticket() (account.Ticket, error) {
	t := account.Ticket{
		ID: r.ID, Kind: account.TicketKind(r.Kind), UserID: r.UserID, Organization: r.Organization, Role: account.Role(r.Role), Email: r.Email,
		By: r.MadeBy, CreatedAt: fromMicro(r.CreatedAt), Expires: fromMicro(r.ExpiresAt),
	}
	if copy(t.Hash[:], r.Hash) != len(t.Hash) {
		return t, fmt.Errorf("tickets %s: the hash is damaged", r.ID)
	}
	return t, nil
}
