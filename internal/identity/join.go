package identity

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"shareai/internal/account"
	"shareai/internal/fault"
)

// firstProject is the project that an organization begins with.
const firstProject = "default"

// Newcomer is who becomes a user.
type Newcomer struct {
	Email        string
	Name         string
	Password     account.Secret
	Organization string // of his own, to be created
}

// SetupLink makes the link with which the first owner sets the installation up. Earlier ones end. It is empty when
// there are users already.
func (i *Identity) SetupLink(ctx context.Context) (account.Secret, error) {
	users, err := i.o.Users.Users(ctx, account.UserFilter{Limit: 1})
	if err != nil || len(users) > 0 {
		return account.Secret{}, err
	}
	old, err := i.o.Users.Tickets(ctx, account.SetupTicket, "")
	if err != nil {
		return account.Secret{}, err
	}
	token, now := newToken(), i.now()
	change := account.UserChange{
		At: now, PutTickets: []account.Ticket{{Hash: token.Hash(), ID: account.GenerateID("ticket_"), Kind: account.SetupTicket, CreatedAt: now}},
	}
	for _, t := range old {
		change.DeleteTickets = append(change.DeleteTickets, t.ID)
	}
	return token, i.o.Users.ChangeUsers(ctx, change, i.act(ctx, "setup.link", ""))
}

// NeedsSetup says that there is no user yet.
func (i *Identity) NeedsSetup(ctx context.Context) (bool, error) {
	users, err := i.o.Users.Users(ctx, account.UserFilter{Limit: 1})
	return len(users) == 0, explain(err)
}

// Setup makes the first owner, and the organization that operates the installation.
func (i *Identity) Setup(ctx context.Context, token account.Secret, n Newcomer, client Client) (Started, error) {
	ticket, err := i.ticket(ctx, token, client, account.SetupTicket)
	if err != nil {
		return Started{}, err
	}
	u, err := i.newUser(ctx, &n)
	if err != nil {
		return Started{}, err
	}
	if err := i.found(ctx, account.Organization{Name: n.Organization, Operator: true}, takeOver); err != nil {
		return Started{}, err
	}
	return i.join(ctx, u, account.UserChange{UseTicket: ticket.Hash, First: true, PutMemberships: []account.Membership{
		{Organization: n.Organization, Role: account.Owner},
	}}, joining{"setup", client})
}

// SignUpOwn makes a user with an organization of his own, where sign-up is open. Where e-mail can be sent, the address
// is confirmed first: then there is no session yet, and the answer is the same whether the address is free.
func (i *Identity) SignUpOwn(ctx context.Context, n Newcomer, client Client) (*Started, error) {
	if i.o.SignUp != SignUpOpen {
		return nil, fault.New(fault.Forbidden, "sign_up_closed", "Nobody can sign up here by himself. Ask an admin for an invitation.")
	}
	if err := i.refuseBeforeSetup(ctx); err != nil {
		return nil, err
	}
	if i.Mails() {
		return nil, i.confirmAddress(ctx, n.Email, client)
	}
	if _, err := i.pace.begin(ctx, client.From, byMail, "sign-up of "+client.From); err != nil {
		return nil, err
	}
	u, err := i.newUser(ctx, &n)
	if err != nil {
		return nil, err
	}
	if err := i.free(ctx, u.Email); err != nil {
		return nil, err
	}
	started, err := i.joinOwn(ctx, u, account.UserChange{}, n.Organization, joining{"sign_up", client})
	return &started, err
}

// refuseBeforeSetup keeps whoever is fastest from an installation that has no owner yet.
func (i *Identity) refuseBeforeSetup(ctx context.Context) error {
	needed, err := i.NeedsSetup(ctx)
	if err == nil && needed {
		err = fault.New(fault.Conflict, "not_set_up", "This installation is not set up yet. Open the link that the gateway printed when it started.")
	}
	return err
}

// free says whether no user has an address, before an organization is made for it.
func (i *Identity) free(ctx context.Context, email string) error {
	switch _, err := i.o.Users.User(ctx, account.UserRef{Email: email}); {
	case err == nil:
		return explain(account.ErrEmailTaken)
	case errors.Is(err, account.ErrNoUser):
		return nil
	default:
		return explain(err)
	}
}

// joinOwn makes a user and his organization.
func (i *Identity) joinOwn(ctx context.Context, u account.UserRecord, change account.UserChange, organization string, j joining) (Started, error) {
	if err := i.found(ctx, account.Organization{Name: organization}, refuseTaken); err != nil {
		return Started{}, err
	}
	change.PutMemberships = []account.Membership{{Organization: organization, Role: account.Owner}}
	return i.join(ctx, u, change, j)
}

// confirmAddress sends the link with which somebody goes on with signing up.
func (i *Identity) confirmAddress(ctx context.Context, email string, client Client) error {
	email, err := address(email)
	if err != nil {
		return err
	}
	if _, err := i.pace.begin(ctx, client.From, byMail, email); err != nil {
		return err
	}
	i.later(ctx, func(ctx context.Context) {
		switch err := i.free(ctx, email); {
		case err == nil:
			if _, err := i.Invite(ctx, Invitation{Email: email}); err != nil {
				i.o.Logger.ErrorContext(ctx, "an invitation could not be made", "error", err)
			}
		case fault.From(err).Code == "email_taken":
			i.mail(ctx, email, "You have a ShareAI account", "Somebody, we hope you, tried to sign up for ShareAI with this address, which has an account already. Sign in here:\n\n"+i.o.PublicURL+"/sign-in\n")
		default:
			i.o.Logger.ErrorContext(ctx, "an address could not be looked up", "error", err)
		}
	})
	return nil
}

// newUser makes a user who is not stored yet.
func (i *Identity) newUser(ctx context.Context, n *Newcomer) (u account.UserRecord, err error) {
	if n.Email, err = address(n.Email); err != nil {
		return u, err
	}
	if n.Name, err = personName(n.Name); err != nil {
		return u, err
	}
	if err := checkPassword(n.Password, n.Email); err != nil {
		return u, err
	}
	u.User = account.User{ID: account.GenerateID("user_"), Email: n.Email, Name: n.Name, CreatedAt: i.now()}
	u.Password, err = i.hasher.hash(ctx, n.Password)
	return u, err
}

// whenTaken is what to do about an organization that is declared already.
type whenTaken bool

const (
	refuseTaken whenTaken = false
	takeOver    whenTaken = true // the first owner takes over what a file declares
)

// found creates an organization with its first project.
func (i *Identity) found(ctx context.Context, o account.Organization, taken whenTaken) error {
	if o.Name == "" {
		return fault.New(fault.Invalid, "invalid_name", "Name the organization: 1 to 63 characters of a-z, 0-9, '.', '_' and '-'.").About("organization")
	}
	has, err := i.o.Organizations.HasOrganization(ctx, o.Name)
	if err != nil {
		return fault.From(err)
	}
	if has && taken == refuseTaken {
		return fault.New(fault.Conflict, "organization_exists", "There is an organization "+o.Name+" already. Choose another name, or ask one of its admins for an invitation.").About("organization")
	}
	if !has {
		if err := i.o.Organizations.CreateOrganization(ctx, o); err != nil {
			return err
		}
	}
	err = i.o.Organizations.CreateProject(ctx, account.Project{Organization: o.Name, Name: firstProject})
	if err != nil && fault.From(err).Code == "project_exists" {
		return nil
	}
	return err
}

// joining says how somebody became a user, and with what.
type joining struct {
	method string
	client Client
}

// join stores a new user together with his first session.
func (i *Identity) join(ctx context.Context, u account.UserRecord, change account.UserChange, j joining) (Started, error) {
	now := i.now()
	u.SignedInAt = now
	for k := range change.PutMemberships {
		change.PutMemberships[k].UserID, change.PutMemberships[k].Since = u.ID, now
	}
	u.Memberships = change.PutMemberships
	started := i.newSession(&u, j.client, j.method)
	old, err := i.sessionOf(ctx, j.client.Token)
	if err != nil {
		return Started{}, fault.From(err)
	}
	if old != "" {
		change.DeleteSessions = []string{old}
	}
	change.At, change.PutUsers = now, []account.UserRecord{u}
	change.PutSessions = []account.NewSession{{Session: started.Session, Hash: started.Token.Hash()}}
	act := i.actOf(ctx, "user.create", &u.User)
	said := view{"email": u.Email, "by": j.method, "session": started.Session.ID}
	for _, m := range u.Memberships {
		said["role in "+m.Organization] = string(m.Role)
	}
	act.After = said.encode()
	if err := i.o.Users.ChangeUsers(ctx, change, act); err != nil {
		return Started{}, explain(err)
	}
	return started, nil
}

// CreateUser makes a user without a session, for operators. Without a password he needs a reset link, or signs in
// elsewhere.
func (i *Identity) CreateUser(ctx context.Context, n Newcomer, role account.Role) (account.User, error) {
	if !slices.Contains(account.Roles, role) {
		return account.User{}, badRole()
	}
	email, err := address(n.Email)
	if err != nil {
		return account.User{}, err
	}
	name, err := personName(n.Name)
	if err != nil {
		return account.User{}, err
	}
	u := account.UserRecord{User: account.User{ID: account.GenerateID("user_"), Email: email, Name: name, CreatedAt: i.now()}}
	if !n.Password.Empty() {
		if err := checkPassword(n.Password, email); err != nil {
			return account.User{}, err
		}
		if u.Password, err = i.hasher.hash(ctx, n.Password); err != nil {
			return account.User{}, err
		}
	}
	has, err := i.o.Organizations.HasOrganization(ctx, n.Organization)
	if err == nil && !has {
		err = fault.New(fault.NotFound, "organization_not_found", "There is no organization "+n.Organization+". Create it first; `shareai keys create` makes one with a key.").About("organization")
	}
	if err != nil {
		return account.User{}, fault.From(err)
	}
	act := i.act(ctx, "user.create", u.ID)
	act.After = view{"email": email, "role in " + n.Organization: string(role)}.encode()
	return u.User, explain(i.o.Users.ChangeUsers(ctx, account.UserChange{
		At: i.now(), PutUsers: []account.UserRecord{u},
		PutMemberships: []account.Membership{{UserID: u.ID, Organization: n.Organization, Role: role, Since: i.now()}},
	}, act))
}

func badRole() error {
	return fault.New(fault.Invalid, "invalid_role", "The roles are owner, admin, member and viewer.").About("role")
}

// Invitation is a link with which somebody joins an organization, or without one makes his own.
type Invitation struct {
	Organization string
	Role         account.Role
	Email        string // to whom it is sent, and who he then is; empty: whoever has the link
	By           string // in words
	ByRole       account.Role
}

// Invited is an invitation that was made. Link is told once.
type Invited struct {
	account.Ticket
	Link   account.Secret
	Mailed bool
}

// Invite makes an invitation, and sends it where there is an address and e-mail can be sent.
func (i *Identity) Invite(ctx context.Context, v Invitation) (Invited, error) {
	var err error
	if v.Email != "" {
		if v.Email, err = address(v.Email); err != nil {
			return Invited{}, err
		}
	}
	if v.Organization != "" {
		if !slices.Contains(account.Roles, v.Role) {
			return Invited{}, badRole()
		}
		if !v.ByRole.Includes(v.Role) {
			return Invited{}, fault.New(fault.Forbidden, "missing_role", "Nobody gives a role above his own: yours is "+string(v.ByRole)+".").About("role")
		}
	}
	token, now := newToken(), i.now()
	t := account.Ticket{
		Hash: token.Hash(), ID: account.GenerateID("ticket_"), Kind: account.InvitationTicket, Organization: v.Organization, Role: v.Role, Email: v.Email,
		By: v.By, CreatedAt: now, Expires: now.Add(invitationTime),
	}
	act := i.act(ctx, "invitation.create", t.ID)
	act.After = view{"organization": t.Organization, "role": string(t.Role), "email": t.Email}.encode()
	if err := i.o.Users.ChangeUsers(ctx, account.UserChange{At: now, PutTickets: []account.Ticket{t}}, act); err != nil {
		return Invited{}, explain(err)
	}
	made := Invited{Ticket: t, Link: i.Link("invitation", token), Mailed: v.Email != "" && i.Mails()}
	if made.Mailed {
		i.later(ctx, func(ctx context.Context) { i.mail(ctx, v.Email, "You are invited to ShareAI", invitationText(&made)) })
	}
	return made, nil
}

func invitationText(v *Invited) string {
	to := "ShareAI"
	if v.Organization != "" {
		to = fmt.Sprintf("the organization %s on ShareAI as %s", v.Organization, v.Role)
	}
	return fmt.Sprintf("%s invites you to %s. Accept here within 7 days:\n\n%s\n", cmp.Or(v.By, "Your request"), to, v.Link.Reveal())
}

// Invitations lists the open invitations to an organization.
func (i *Identity) Invitations(ctx context.Context, organization string) ([]account.Ticket, error) {
	all, err := i.o.Users.Tickets(ctx, account.InvitationTicket, organization)
	now := i.now()
	return slices.DeleteFunc(all, func(t account.Ticket) bool { return !now.Before(t.Expires) }), explain(err)
}

// RevokeInvitation takes an invitation back.
func (i *Identity) RevokeInvitation(ctx context.Context, organization, id string) error {
	open, err := i.Invitations(ctx, organization)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(open, func(t account.Ticket) bool { return t.ID == id }) {
		return fault.New(fault.NotFound, "invitation_not_found", "There is no such invitation, or it was accepted.").About("id")
	}
	return explain(i.o.Users.ChangeUsers(ctx, account.UserChange{At: i.now(), DeleteTickets: []string{id}}, i.act(ctx, "invitation.revoke", id)))
}

// Offer is what a link invites to, for whoever has it.
func (i *Identity) Offer(ctx context.Context, token account.Secret, client Client) (account.Ticket, error) {
	return i.ticket(ctx, token, client, account.InvitationTicket)
}

// Accept makes a user by an invitation.
func (i *Identity) Accept(ctx context.Context, token account.Secret, n Newcomer, client Client) (Started, error) {
	ticket, err := i.ticket(ctx, token, client, account.InvitationTicket)
	if err != nil {
		return Started{}, err
	}
	if i.o.SignUp == SignUpClosed {
		return Started{}, fault.New(fault.Forbidden, "sign_up_closed", "No new users are admitted here. Sign in first if you have an account, then open the link again.")
	}
	n.Email = cmp.Or(ticket.Email, n.Email)
	u, err := i.newUser(ctx, &n)
	if err != nil {
		return Started{}, err
	}
	if err := i.free(ctx, u.Email); err != nil {
		return Started{}, err
	}
	change := account.UserChange{UseTicket: ticket.Hash}
	if ticket.Organization == "" {
		return i.joinOwn(ctx, u, change, n.Organization, joining{"sign_up", client})
	}
	change.PutMemberships = []account.Membership{{Organization: ticket.Organization, Role: ticket.Role}}
	return i.join(ctx, u, change, joining{"invitation", client})
}

// AcceptAs lets a user who is signed in join by an invitation. A role that he has already, and that is above, stays.
func (i *Identity) AcceptAs(ctx context.Context, token account.Secret, in *account.SignedIn, client Client) error {
	ticket, err := i.ticket(ctx, token, client, account.InvitationTicket)
	if err != nil {
		return err
	}
	if ticket.Organization == "" {
		return fault.New(fault.Conflict, "signed_in", "You have an account already.")
	}
	change := account.UserChange{At: i.now(), UseTicket: ticket.Hash}
	if !in.RoleIn(ticket.Organization).Includes(ticket.Role) {
		change.PutMemberships = []account.Membership{{UserID: in.User.ID, Organization: ticket.Organization, Role: ticket.Role, Since: i.now()}}
	}
	act := i.act(ctx, "member.join", in.User.ID)
	act.After = view{"organization": ticket.Organization, "role": string(ticket.Role), "invitation": ticket.ID}.encode()
	return explain(i.o.Users.ChangeUsers(ctx, change, act))
}

// FoundOwn gives a user an organization of his own, where sign-up is open or he operates the installation.
func (i *Identity) FoundOwn(ctx context.Context, in *account.SignedIn, name string) error {
	if err := i.found(ctx, account.Organization{Name: name}, refuseTaken); err != nil {
		return err
	}
	act := i.act(ctx, "member.join", in.User.ID)
	act.After = view{"organization": name, "role": string(account.Owner)}.encode()
	return explain(i.o.Users.ChangeUsers(ctx, account.UserChange{
		At: i.now(), PutMemberships: []account.Membership{{UserID: in.User.ID, Organization: name, Role: account.Owner, Since: i.now()}},
	}, act))
}
