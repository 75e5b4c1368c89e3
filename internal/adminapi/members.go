package adminapi

import (
	"cmp"
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"shareai/internal/account"
	"shareai/internal/identity"
)

// MemberView is a user in an organization.
type MemberView struct {
	User
	Role     string    `json:"role" enum:"owner,admin,member,viewer"`
	Since    time.Time `json:"since"`
	Disabled bool      `json:"disabled" doc:"The operator lets him in nowhere."`
}

// MemberList is a page of members.
type MemberList struct {
	Members []MemberView `json:"members" nullable:"false" doc:"By e-mail address."`
	NextCursor
}

// RoleChange is a new role.
type RoleChange struct {
	Role string `json:"role" enum:"owner,admin,member,viewer"`
}

// InvitationStart is a request for an invitation.
type InvitationStart struct {
	Role  string `json:"role" enum:"owner,admin,member,viewer" doc:"At most your own."`
	Email string `json:"email,omitempty" maxLength:"254" doc:"To whom it is sent, where e-mail is sent, and who he then is. Missing: whoever has the link."`
}

// InvitationView is an open invitation.
type InvitationView struct {
	ID      string    `json:"id"`
	Role    string    `json:"role"`
	Email   string    `json:"email,omitempty"`
	By      string    `json:"by,omitempty"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
	Link    string    `json:"link,omitempty" doc:"Told once, when it is made. Begins with / where the gateway does not know its public address."`
	Mailed  bool      `json:"mailed,omitempty" doc:"It is sent by e-mail as well."`
}

// InvitationList is a page of invitations.
type InvitationList struct {
	Invitations []InvitationView `json:"invitations" nullable:"false"`
	NextCursor
}

type (
	membersAnswer struct{ Body MemberList }
	memberAnswer  struct{ Body MemberView }
	roleInput     struct {
		ID   string `path:"id" maxLength:"100"`
		Body RoleChange
	}
	invitationsAnswer struct{ Body InvitationList }
	invitationAnswer  struct{ Body InvitationView }
	inviteInput       struct{ Body InvitationStart }
)

func (a *API) addMembers() {
	members := func(id, method, path, summary, description string) huma.Operation {
		return huma.Operation{OperationID: id, Method: method, Path: "/api/v1/" + path, Tags: []string{"Members"}, Summary: summary, Description: description}
	}
	operation(a, members("list-members", http.MethodGet, "members", "List members", "The users of the organization."), account.ReadMembers, a.listMembers)
	operation(a, members("change-member", http.MethodPatch, "members/{id}", "Change a member's role", "At once. An organization keeps an owner, and only owners make and unmake owners."), account.WriteMembers, a.changeMember)
	operation(a, members("remove-member", http.MethodDelete, "members/{id}", "Remove a member", "From the organization, at once. The user stays, with his other organizations."), account.WriteMembers, a.removeMember)
	operation(a, members("list-invitations", http.MethodGet, "invitations", "List invitations", "Those that are open."), account.WriteMembers, a.listInvitations)
	invite := members("invite", http.MethodPost, "invitations", "Invite somebody", "Makes a link that works once, within 7 days.")
	invite.DefaultStatus = http.StatusCreated
	operation(a, invite, account.WriteMembers, a.invite)
	operation(a, members("revoke-invitation", http.MethodDelete, "invitations/{id}", "Take an invitation back", ""), account.WriteMembers, a.revokeInvitation)
}

// role is what the caller is; an API key that may administer is an admin.
func (c *Caller) role() account.Role {
	if c.User != nil {
		return c.rights.Role
	}
	return account.Admin
}

func viewMember(u *account.UserRecord, organization string) MemberView {
	v := MemberView{User: viewUser(&u.User), Disabled: !u.DisabledAt.IsZero()}
	for _, m := range u.Memberships {
		if m.Organization == organization {
			v.Role, v.Since = string(m.Role), m.Since
		}
	}
	return v
}

func (a *API) listMembers(ctx context.Context, caller *Caller, in *Page) (*membersAnswer, error) {
	after, err := in.after()
	if err != nil {
		return nil, err
	}
	users, err := a.Identity.Users(ctx, account.UserFilter{Organization: caller.Organization, After: after, Limit: in.Limit + 1})
	if err != nil {
		return nil, err
	}
	out := &membersAnswer{Body: MemberList{Members: []MemberView{}}}
	for i := range users[:min(len(users), in.Limit)] {
		out.Body.Members = append(out.Body.Members, viewMember(&users[i], caller.Organization))
	}
	if len(users) > in.Limit {
		out.Body.NextCursor = cursorAt(users[in.Limit-1].Email)
	}
	return out, nil
}

func (a *API) changeMember(ctx context.Context, caller *Caller, in *roleInput) (*memberAnswer, error) {
	u, err := a.Identity.ChangeMember(ctx, identity.MemberChange{
		Organization: caller.Organization, UserID: in.ID, Role: account.Role(in.Body.Role), ByRole: caller.role(),
	})
	return &memberAnswer{Body: viewMember(&u, caller.Organization)}, err
}

func (a *API) removeMember(ctx context.Context, caller *Caller, in *byID) (*nothing, error) {
	_, err := a.Identity.ChangeMember(ctx, identity.MemberChange{Organization: caller.Organization, UserID: in.ID, ByRole: caller.role()})
	return nil, err
}

func viewInvitation(t *account.Ticket) InvitationView {
	return InvitationView{ID: t.ID, Role: string(t.Role), Email: t.Email, By: t.By, Created: t.CreatedAt, Expires: t.Expires}
}

func (a *API) listInvitations(ctx context.Context, caller *Caller, in *Page) (*invitationsAnswer, error) {
	open, err := a.Identity.Invitations(ctx, caller.Organization)
	if err != nil {
		return nil, err
	}
	open, next, err := pageOf(open, *in, func(t *account.Ticket) string { return t.CreatedAt.Format(time.RFC3339Nano) + " " + t.ID })
	out := &invitationsAnswer{Body: InvitationList{Invitations: make([]InvitationView, len(open)), NextCursor: next}}
	for i := range open {
		out.Body.Invitations[i] = viewInvitation(&open[i])
	}
	return out, err
}

func (a *API) invite(ctx context.Context, caller *Caller, in *inviteInput) (*invitationAnswer, error) {
	by := caller.By()
	if caller.User != nil {
		by = cmp.Or(caller.User.User.Name, by)
	}
	made, err := a.Identity.Invite(ctx, identity.Invitation{
		Organization: caller.Organization, Role: account.Role(in.Body.Role), Email: in.Body.Email, By: by, ByRole: caller.role(),
	})
	if err != nil {
		return nil, err
	}
	v := viewInvitation(&made.Ticket)
	v.Link, v.Mailed = made.Link.Reveal(), made.Mailed
	return &invitationAnswer{Body: v}, nil
}

func (a *API) revokeInvitation(ctx context.Context, caller *Caller, in *byID) (*nothing, error) {
	return nil, a.Identity.RevokeInvitation(ctx, caller.Organization, in.ID)
}
