package identity

import (
	"context"
	"slices"
	"time"

	"shareai/internal/account"
	"shareai/internal/audit"
	"shareai/internal/fault"
)

// Users lists users, by e-mail address.
func (i *Identity) Users(ctx context.Context, f account.UserFilter) ([]account.UserRecord, error) {
	users, err := i.o.Users.Users(ctx, f)
	return users, explain(err)
}

// MemberChange is who is to be what in an organization.
type MemberChange struct {
	Organization, UserID string
	Role                 account.Role // empty: no member any more
	ByRole               account.Role // of who asks; empty: the operator
}

// ChangeMember changes the role of a member, or removes him. An organization keeps an owner; only owners make and
// unmake owners.
func (i *Identity) ChangeMember(ctx context.Context, c MemberChange) (account.UserRecord, error) {
	if c.Role != "" && !slices.Contains(account.Roles, c.Role) {
		return account.UserRecord{}, badRole()
	}
	u, err := i.o.Users.User(ctx, account.UserRef{ID: c.UserID})
	if err != nil {
		return account.UserRecord{}, notMember(err)
	}
	at := slices.IndexFunc(u.Memberships, func(m account.Membership) bool { return m.Organization == c.Organization })
	if at < 0 {
		return account.UserRecord{}, notMember(account.ErrNoUser)
	}
	had := u.Memberships[at].Role
	if c.ByRole != "" && !(c.ByRole.Includes(had) && (c.Role == "" || c.ByRole.Includes(c.Role))) {
		return account.UserRecord{}, fault.New(fault.Forbidden, "missing_role", "Only owners make and unmake owners.").About("role")
	}
	change := account.UserChange{At: i.now(), OwnedAfter: c.Organization}
	act := i.act(ctx, "member.role", u.ID)
	act.Before = view{"organization": c.Organization, "role": string(had)}.encode()
	if c.Role == "" {
		act.Name = "member.remove"
		change.DeleteMemberships = []account.Membering{{UserID: u.ID, Organization: c.Organization}}
		u.Memberships = slices.Delete(u.Memberships, at, at+1)
	} else {
		u.Memberships[at].Role = c.Role
		change.PutMemberships = u.Memberships[at : at+1]
		act.After = view{"organization": c.Organization, "role": string(c.Role)}.encode()
	}
	return u, explain(i.o.Users.ChangeUsers(ctx, change, act))
}

func notMember(err error) error {
	if fault.From(explain(err)).Code == "user_not_found" {
		return fault.New(fault.NotFound, "member_not_found", "The organization has no such member.").About("id")
	}
	return explain(err)
}

// RemoveSecondFactor turns a user's second factor off without a code, for operators, and ends his sessions.
func (i *Identity) RemoveSecondFactor(ctx context.Context, email string) error {
	return i.revise(ctx, account.UserRef{Email: email}, func(u *account.UserRecord) (account.UserChange, []audit.Act, error) {
		withoutSecondFactor(u)
		return account.UserChange{EndSessions: u.ID}, []audit.Act{i.act(ctx, "second_factor.remove", u.ID)}, nil
	})
}

// Disable keeps a user from signing in, at once.
func (i *Identity) Disable(ctx context.Context, email string) error {
	return i.revise(ctx, account.UserRef{Email: email}, func(u *account.UserRecord) (account.UserChange, []audit.Act, error) {
		u.DisabledAt = i.now()
		return account.UserChange{EndSessions: u.ID, DeleteTicketsOf: u.ID}, []audit.Act{i.act(ctx, "user.disable", u.ID)}, nil
	})
}

// Enable lets a user in again.
func (i *Identity) Enable(ctx context.Context, email string) error {
	return i.revise(ctx, account.UserRef{Email: email}, func(u *account.UserRecord) (account.UserChange, []audit.Act, error) {
		u.DisabledAt = time.Time{}
		return account.UserChange{}, []audit.Act{i.act(ctx, "user.enable", u.ID)}, nil
	})
}
