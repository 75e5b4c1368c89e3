package identity

import (
	"context"
	"fmt"
	"strings"

	"shareai/internal/account"
	"shareai/internal/audit"
	"shareai/internal/fault"
)

// Rename changes how a user is called.
func (i *Identity) Rename(ctx context.Context, userID, name string) (account.User, error) {
	name, err := personName(name)
	if err != nil {
		return account.User{}, err
	}
	var user account.User
	err = i.revise(ctx, account.UserRef{ID: userID}, func(u *account.UserRecord) (account.UserChange, []audit.Act, error) {
		act := i.act(ctx, "user.rename", u.ID)
		act.Before, act.After = view{"name": u.Name}.encode(), view{"name": name}.encode()
		u.Name = name
		user = u.User
		return account.UserChange{}, []audit.Act{act}, nil
	})
	return user, err
}

// ChangePassword replaces a user's password and ends his other sessions. Who signed in elsewhere and has none yet gets
// one without an old one.
func (i *Identity) ChangePassword(ctx context.Context, in *account.SignedIn, old, next account.Secret) error {
	if err := checkPassword(next, in.User.Email); err != nil {
		return err
	}
	if err := i.confirm(ctx, in, old); err != nil {
		return err
	}
	hashed, err := i.hasher.hash(ctx, next)
	if err != nil {
		return err
	}
	return i.revise(ctx, account.UserRef{ID: in.User.ID}, func(u *account.UserRecord) (account.UserChange, []audit.Act, error) {
		u.Password = hashed
		return account.UserChange{EndSessions: u.ID, EndSessionsBut: in.Session.ID, DeleteTicketsOf: u.ID},
			[]audit.Act{i.act(ctx, "user.password", u.ID)}, nil
	})
}

// confirm checks the password of a user who is signed in, before something that whoever finds his screen unlocked must
// not do.
func (i *Identity) confirm(ctx context.Context, in *account.SignedIn, password account.Secret) error {
	u, err := i.o.Users.User(ctx, account.UserRef{ID: in.User.ID})
	if err != nil {
		return explain(err)
	}
	if u.Password.Empty() {
		return nil
	}
	attempt, err := i.pace.begin(ctx, audit.ActorOf(ctx, i.o.Actor).From, byPassword, u.Email)
	if err != nil {
		return err
	}
	right, err := i.hasher.verify(ctx, u.Password, password)
	if err != nil {
		return err
	}
	if !right {
		i.logRefused(ctx, &u.User, "password")
		return fault.New(fault.Forbidden, "wrong_password", "The password is wrong.").About("password")
	}
	attempt.succeed(ctx)
	return nil
}

// Enrolment is an authenticator to be set up. It is not asked for before ConfirmSecondFactor.
type Enrolment struct {
	Secret account.Secret // base32, for typing
	URL    account.Secret // otpauth://…, for a QR code
}

// EnrolSecondFactor makes the secret of an authenticator.
func (i *Identity) EnrolSecondFactor(ctx context.Context, in *account.SignedIn, password account.Secret) (Enrolment, error) {
	if err := i.confirm(ctx, in, password); err != nil {
		return Enrolment{}, err
	}
	secret := newTOTP()
	err := i.revise(ctx, account.UserRef{ID: in.User.ID}, func(u *account.UserRecord) (account.UserChange, []audit.Act, error) {
		if u.SecondFactor {
			return account.UserChange{}, nil, fault.New(fault.Conflict, "second_factor_exists", "An authenticator is in use. Turn it off first.")
		}
		u.TOTP, u.TOTPStep = secret, 0
		return account.UserChange{}, []audit.Act{i.act(ctx, "second_factor.enrol", u.ID)}, nil
	})
	return Enrolment{Secret: secret, URL: account.NewSecret(totpURL(secret, in.User.Email))}, err
}

// ConfirmSecondFactor turns the second factor on, once the authenticator shows the right code, and returns the recovery
// codes, which are told once.
func (i *Identity) ConfirmSecondFactor(ctx context.Context, in *account.SignedIn, code string) ([]account.Secret, error) {
	attempt, err := i.pace.begin(ctx, audit.ActorOf(ctx, i.o.Actor).From, byPassword, in.User.Email)
	if err != nil {
		return nil, err
	}
	codes, hashes := newRecovery()
	err = i.revise(ctx, account.UserRef{ID: in.User.ID}, func(u *account.UserRecord) (account.UserChange, []audit.Act, error) {
		if u.SecondFactor || u.TOTP.Empty() {
			return account.UserChange{}, nil, fault.New(fault.Conflict, "not_enrolled", "There is no authenticator to confirm. Set one up first.")
		}
		step, ok := totpStep(u.TOTP, strings.ReplaceAll(code, " ", ""), i.o.Now(), u.TOTPStep)
		if !ok {
			return account.UserChange{}, nil, fault.New(fault.Invalid, "invalid_code", "The code is wrong. Check the clock of the authenticator, and enter the code that it shows now.").About("code")
		}
		u.SecondFactor, u.TOTPStep, u.Recovery = true, step, hashes
		return account.UserChange{EndSessions: u.ID, EndSessionsBut: in.Session.ID}, []audit.Act{i.act(ctx, "second_factor.on", u.ID)}, nil
	})
	if err != nil {
		return nil, err
	}
	attempt.succeed(ctx)
	return codes, nil
}

// DisableSecondFactor turns the second factor off. It takes the password, where there is one, and a code.
func (i *Identity) DisableSecondFactor(ctx context.Context, in *account.SignedIn, password account.Secret, code string) error {
	if err := i.confirm(ctx, in, password); err != nil {
		return err
	}
	attempt, err := i.pace.begin(ctx, audit.ActorOf(ctx, i.o.Actor).From, byPassword, in.User.Email)
	if err != nil {
		return err
	}
	err = i.revise(ctx, account.UserRef{ID: in.User.ID}, func(u *account.UserRecord) (account.UserChange, []audit.Act, error) {
		if err := i.spendCode(u, code); err != nil {
			e := *fault.From(err)
			e.Kind = fault.Forbidden // he is signed in
			return account.UserChange{}, nil, &e
		}
		withoutSecondFactor(u)
		return account.UserChange{}, []audit.Act{i.act(ctx, "second_factor.off", u.ID)}, nil
	})
	if err == nil {
		attempt.succeed(ctx)
	}
	return err
}

func withoutSecondFactor(u *account.UserRecord) {
	u.SecondFactor, u.TOTP, u.TOTPStep, u.Recovery = false, account.Secret{}, 0, nil
}

// ForgotPassword sends a link for a new password to a user, if there is one, after the answer is out.
func (i *Identity) ForgotPassword(ctx context.Context, email string, client Client) error {
	if !i.Mails() {
		return fault.New(fault.Conflict, "no_mail", "This installation sends no e-mail. Ask its operator: `shareai users reset-password` makes a link.")
	}
	email, err := address(email)
	if err != nil {
		return err
	}
	if _, err := i.pace.begin(ctx, client.From, byMail, email); err != nil {
		return err
	}
	i.later(ctx, func(ctx context.Context) {
		link, err := i.ResetLink(ctx, email)
		if err != nil {
			if fault.From(err).Code != "user_not_found" {
				i.o.Logger.ErrorContext(ctx, "a link for a new password could not be made", "error", err)
			}
			return
		}
		i.mail(ctx, email, "Set a new password for ShareAI", fmt.Sprintf(
			"Somebody, we hope you, asked for a new password for ShareAI. Set it here within an hour:\n\n%s\n\nIf it was not you, there is nothing to do.\n", link.Reveal()))
	})
	return nil
}

// ResetLink makes a link with which a user sets a password anew, once, within an hour. Earlier ones end.
func (i *Identity) ResetLink(ctx context.Context, email string) (account.Secret, error) {
	u, err := i.o.Users.User(ctx, account.UserRef{Email: email})
	if err != nil {
		return account.Secret{}, explain(err)
	}
	if !u.DisabledAt.IsZero() {
		return account.Secret{}, explain(account.ErrNoUser)
	}
	token, now := newToken(), i.now()
	ticket := account.Ticket{
		Hash: token.Hash(), ID: account.GenerateID("ticket_"), Kind: account.ResetTicket, UserID: u.ID, CreatedAt: now, Expires: now.Add(resetTime),
	}
	err = i.o.Users.ChangeUsers(ctx, account.UserChange{At: now, DeleteTicketsOf: u.ID, PutTickets: []account.Ticket{ticket}}, i.act(ctx, "user.reset_link", u.ID))
	return i.Link("reset-password", token), explain(err)
}

// ResetPassword sets a password anew by a link, and ends all sessions. A second factor stays.
func (i *Identity) ResetPassword(ctx context.Context, token, password account.Secret, client Client) error {
	ticket, err := i.ticket(ctx, token, client, account.ResetTicket)
	if err != nil {
		return err
	}
	u, err := i.o.Users.User(ctx, account.UserRef{ID: ticket.UserID})
	if err != nil {
		return explain(err)
	}
	if err := checkPassword(password, u.Email); err != nil {
		return err
	}
	hashed, err := i.hasher.hash(ctx, password)
	if err != nil {
		return err
	}
	return i.revise(ctx, account.UserRef{ID: u.ID}, func(u *account.UserRecord) (account.UserChange, []audit.Act, error) {
		u.Password = hashed
		return account.UserChange{UseTicket: ticket.Hash, EndSessions: u.ID, DeleteTicketsOf: u.ID},
			[]audit.Act{i.actOf(ctx, "user.password", &u.User)}, nil
	})
}

// ticket finds what stands behind a link of one of some kinds.
func (i *Identity) ticket(ctx context.Context, token account.Secret, client Client, kind account.TicketKind) (account.Ticket, error) {
	attempt, err := i.pace.begin(ctx, client.From, byTicket, client.From)
	if err != nil {
		return account.Ticket{}, err
	}
	t, err := i.o.Users.Ticket(ctx, token.Hash())
	if err == nil && (t.Kind != kind || !t.Expires.IsZero() && !i.now().Before(t.Expires)) {
		err = account.ErrNoTicket
	}
	if err != nil {
		return account.Ticket{}, explain(err)
	}
	attempt.succeed(ctx)
	return t, nil
}
