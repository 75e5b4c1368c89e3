package identity

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"shareai/internal/account"
	"shareai/internal/audit"
	"shareai/internal/fault"
)

// Client is the browser or program that signs in.
type Client struct {
	From  string // its address
	Agent string // its User-Agent
	// Token is that of the session it has, which ends when another one begins; empty: none.
	Token account.Secret
}

// Started is a session that has begun. Token is told once.
type Started struct {
	account.SignedIn
	Token account.Secret
}

// Credentials are what somebody signs in with.
type Credentials struct {
	Email    string
	Password account.Secret
	Code     string // of the authenticator, or a recovery code; empty where none is asked for
}

// SignIn begins a session. The error is the same whether there is no such user or the password is wrong.
func (i *Identity) SignIn(ctx context.Context, c Credentials, client Client) (Started, error) {
	email := strings.ToLower(strings.TrimSpace(c.Email))
	attempt, err := i.pace.begin(ctx, client.From, byPassword, email)
	if err != nil {
		return Started{}, err
	}
	u, err := i.o.Users.User(ctx, account.UserRef{Email: email})
	known := err == nil
	if err != nil && !errors.Is(err, account.ErrNoUser) {
		return Started{}, fault.From(err)
	}
	if email == "" {
		u, known = account.UserRecord{}, false
	}
	right, err := i.hasher.verify(ctx, u.Password, c.Password)
	if err != nil {
		return Started{}, err
	}
	if !right || !known || !u.DisabledAt.IsZero() {
		i.logRefused(ctx, &u.User, "password")
		return Started{}, fault.New(fault.Unauthenticated, "invalid_credentials", "The e-mail address or the password is wrong.")
	}
	if u.SecondFactor && c.Code == "" {
		attempt.succeed(ctx) // it is not over yet
		return Started{}, fault.New(fault.Unauthenticated, "second_factor_required", "Enter the code that your authenticator shows, or a recovery code.").About("code")
	}
	var rehashed account.Secret
	if outdated(u.Password) {
		if rehashed, err = i.hasher.hash(ctx, c.Password); err != nil {
			return Started{}, err
		}
	}
	started, err := i.begin(ctx, account.UserRef{ID: u.ID}, client, "password", func(u *account.UserRecord) error {
		if !rehashed.Empty() {
			u.Password = rehashed
		}
		return i.spendCode(u, c.Code)
	})
	if err != nil {
		if fault.From(err).Code == "invalid_code" {
			i.logRefused(ctx, &u.User, "code")
		}
		return Started{}, err
	}
	attempt.succeed(ctx)
	return started, nil
}

// logRefused logs a failed attempt at a user's account. One at no account would fill the log with whatever people type.
func (i *Identity) logRefused(ctx context.Context, u *account.User, what string) {
	if u.ID == "" {
		return
	}
	act := i.act(ctx, "session.refuse", u.ID)
	act.After = view{"wrong": what}.encode()
	if err := i.o.Sessions.Audit(ctx, act); err != nil {
		i.o.Logger.ErrorContext(ctx, "the audit log lacks a failed sign-in", "user", u.ID, "error", err)
	}
}

// spendCode checks the second factor of a user who has one, and uses the code up.
func (i *Identity) spendCode(u *account.UserRecord, code string) error {
	if !u.SecondFactor {
		return nil
	}
	if step, ok := totpStep(u.TOTP, strings.ReplaceAll(code, " ", ""), i.o.Now(), u.TOTPStep); ok {
		u.TOTPStep = step
		return nil
	}
	if at := slices.Index(u.Recovery, recoveryHash(code)); at >= 0 {
		u.Recovery = slices.Delete(slices.Clone(u.Recovery), at, at+1)
		return nil
	}
	return fault.New(fault.Unauthenticated, "invalid_code", "The code is wrong, or was used already. Wait for the next one.").About("code")
}

// begin begins a session of a user. amend may change him, or refuse.
func (i *Identity) begin(ctx context.Context, ref account.UserRef, client Client, method string, amend func(*account.UserRecord) error) (Started, error) {
	var started Started
	old, err := i.sessionOf(ctx, client.Token)
	if err != nil {
		return Started{}, err
	}
	err = i.revise(ctx, ref, func(u *account.UserRecord) (account.UserChange, []audit.Act, error) {
		if err := amend(u); err != nil {
			return account.UserChange{}, nil, err
		}
		u.SignedInAt = i.now()
		started = i.newSession(u, client, method)
		change := account.UserChange{PutSessions: []account.NewSession{{Session: started.Session, Hash: started.Token.Hash()}}}
		if old != "" {
			change.DeleteSessions = []string{old}
		}
		act := i.actOf(ctx, "session.start", &u.User)
		act.After = view{"session": started.Session.ID, "method": method}.encode()
		return change, []audit.Act{act}, nil
	})
	return started, err
}

// newSession makes a session that is not stored yet.
func (i *Identity) newSession(u *account.UserRecord, client Client, method string) Started {
	now := i.now()
	return Started{
		Token: newToken(),
		SignedIn: account.SignedIn{User: u.User, Memberships: u.Memberships, Session: account.Session{
			ID: account.GenerateID("session_"), UserID: u.ID, CreatedAt: now, SeenAt: now, Expires: now.Add(i.o.Absolute),
			Method: method, From: client.From, Client: printable(client.Agent),
		}},
	}
}

// maxAgent is in bytes.
const maxAgent = 200

func printable(agent string) string {
	agent = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == utf8.RuneError {
			return -1
		}
		return r
	}, agent)
	return fault.Clip(agent, maxAgent)
}

// sessionOf is the id of the session that a token stands for; empty: of none.
func (i *Identity) sessionOf(ctx context.Context, token account.Secret) (string, error) {
	if token.Empty() {
		return "", nil
	}
	in, err := i.o.Sessions.SignedIn(ctx, token.Hash())
	if errors.Is(err, account.ErrNoSession) {
		return "", nil
	}
	return in.Session.ID, err
}

// SignedIn returns whose session a token is.
func (i *Identity) SignedIn(ctx context.Context, token account.Secret) (*account.SignedIn, error) {
	in, err := i.o.Sessions.SignedIn(ctx, token.Hash())
	if err != nil {
		return nil, explain(err)
	}
	now := i.now()
	if !i.inForce(&in.Session, now) || !in.User.DisabledAt.IsZero() {
		return nil, sessionEnded()
	}
	if now.Sub(in.Session.SeenAt) >= touchEvery {
		if err := i.o.Sessions.TouchSession(ctx, in.Session.ID, now); err != nil {
			i.o.Logger.WarnContext(ctx, "it is not noted that a session was used", "session", in.Session.ID, "error", err)
		}
	}
	return &in, nil
}

func (i *Identity) inForce(s *account.Session, now time.Time) bool {
	return now.Before(s.Expires) && now.Before(s.SeenAt.Add(i.o.Idle))
}

// Sessions lists the sessions of a user that are in force, the newest first.
func (i *Identity) Sessions(ctx context.Context, userID string) ([]account.Session, error) {
	all, err := i.o.Sessions.Sessions(ctx, userID)
	if err != nil {
		return nil, fault.From(err)
	}
	now := i.now()
	return slices.DeleteFunc(all, func(s account.Session) bool { return !i.inForce(&s, now) }), nil
}

// EndSession ends one of a user's sessions.
func (i *Identity) EndSession(ctx context.Context, userID, id string) error {
	all, err := i.o.Sessions.Sessions(ctx, userID)
	if err != nil {
		return fault.From(err)
	}
	if !slices.ContainsFunc(all, func(s account.Session) bool { return s.ID == id }) {
		return fault.New(fault.NotFound, "session_not_found", "There is no such session, or it has ended.").About("id")
	}
	act := i.act(ctx, "session.end", userID)
	act.Before = view{"session": id}.encode()
	return explain(i.o.Users.ChangeUsers(ctx, account.UserChange{At: i.now(), DeleteSessions: []string{id}}, act))
}

// EndOtherSessions ends all sessions of a user but one.
func (i *Identity) EndOtherSessions(ctx context.Context, userID, but string) error {
	return explain(i.o.Users.ChangeUsers(ctx, account.UserChange{At: i.now(), EndSessions: userID, EndSessionsBut: but}, i.act(ctx, "session.end_others", userID)))
}
