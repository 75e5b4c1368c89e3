package cli

import (
	"context"
	"strings"
	"time"

	"shareai/internal/account"
	"shareai/internal/app"
	"shareai/internal/identity"
)

type usersCommands struct {
	List          usersListCommand          `cmd:"" help:"List users and what they are in which organization."`
	Create        usersCreateCommand        `cmd:"" help:"Create a user, and show the link with which he sets his password."`
	ResetPassword usersResetPasswordCommand `cmd:"" help:"Show a link with which a user sets his password anew."`
	ResetFactor   usersResetFactorCommand   `cmd:"" name:"remove-second-factor" help:"Turn off the second factor of a user who lost it."`
	Disable       usersDisableCommand       `cmd:"" help:"Keep a user from signing in, at once."`
	Enable        usersEnableCommand        `cmd:"" help:"Let a disabled user in again."`
}

// userView is a user as JSON.
type userView struct {
	ID           string            `json:"id"`
	Email        string            `json:"email"`
	Name         string            `json:"name,omitempty"`
	Roles        map[string]string `json:"roles"` // by organization
	SecondFactor bool              `json:"second_factor"`
	Created      time.Time         `json:"created"`
	SignedIn     *time.Time        `json:"signed_in,omitempty"`
	Disabled     *time.Time        `json:"disabled,omitempty"`
	Link         string            `json:"link,omitempty"`
}

func viewUser(u *account.UserRecord) userView {
	v := userView{
		ID: u.ID, Email: u.Email, Name: u.Name, Roles: map[string]string{}, SecondFactor: u.SecondFactor,
		Created: u.CreatedAt, SignedIn: stamp(u.SignedInAt), Disabled: stamp(u.DisabledAt),
	}
	for _, m := range u.Memberships {
		v.Roles[m.Organization] = string(m.Role)
	}
	return v
}

type usersListCommand struct {
	Organization string `placeholder:"NAME" help:"Only members of this organization."`
	output
	place `group:"Where the gateway keeps its data:"`
}

// Run lists users.
func (c *usersListCommand) Run(ctx context.Context, t *terminal) error {
	local, err := c.open(ctx, t)
	if err != nil {
		return err
	}
	defer func() { _ = local.Close() }()
	users, err := local.People.Users(ctx, account.UserFilter{Organization: c.Organization})
	if err != nil {
		return err
	}
	views := make([]userView, len(users))
	tb := &table{columns: []column{{title: "E-MAIL"}, {title: "NAME"}, {title: "ROLES"}, {title: "SECOND FACTOR"}, {title: "SIGNED IN"}, {title: "STATE"}}}
	for i := range users {
		u := &users[i]
		views[i] = viewUser(u)
		roles := make([]string, len(u.Memberships))
		for k, m := range u.Memberships {
			roles[k] = m.Organization + ":" + string(m.Role)
		}
		tb.add(u.Email, shown(u.Name), strings.Join(roles, " "), map[bool]string{true: "on", false: "off"}[u.SecondFactor], date(views[i].SignedIn),
			map[bool]string{true: "active", false: "disabled"}[u.DisabledAt.IsZero()])
	}
	if c.JSON {
		return t.json(map[string][]userView{"users": views})
	}
	if len(users) == 0 {
		t.print("No users. Create one with: %s users create EMAIL --organization NAME\n", t.program)
		return nil
	}
	t.table("", tb)
	return nil
}

type usersCreateCommand struct {
	Email        string `arg:"" name:"email" help:"The e-mail address with which he signs in."`
	Organization string `default:"default" placeholder:"NAME" help:"The organization that he joins. Default: default."`
	Role         string `default:"owner" enum:"owner,admin,member,viewer" placeholder:"ROLE" help:"What he is there: owner, admin, member or viewer. Default: owner."`
	Name         string `placeholder:"NAME" help:"How he is called."`
	output
	place `group:"Where the gateway keeps its data:"`
}

// Run creates a user.
func (c *usersCreateCommand) Run(ctx context.Context, t *terminal) error {
	local, err := c.open(ctx, t)
	if err != nil {
		return err
	}
	defer func() { _ = local.Close() }()
	u, err := local.People.CreateUser(ctx, identity.Newcomer{Email: c.Email, Name: c.Name, Organization: c.Organization}, account.Role(c.Role))
	if err != nil {
		return err
	}
	link, err := local.People.ResetLink(ctx, u.Email)
	if err != nil {
		return err
	}
	if c.JSON {
		v := viewUser(&account.UserRecord{User: u})
		v.Roles[c.Organization], v.Link = c.Role, local.Link(link)
		return t.json(v)
	}
	t.print("The user %s is %s of %s. The password is set here, once, within an hour:\n\n  %s\n", u.Email, c.Role, c.Organization, t.styled(bold, local.Link(link)))
	return nil
}

// oneUser is what commands about one user have in common.
type oneUser struct {
	Email string `arg:"" name:"email" help:"The user's e-mail address."`
	place `group:"Where the gateway keeps its data:"`
}

func (c *oneUser) run(ctx context.Context, t *terminal, act func(*app.Local) (string, error)) error {
	local, err := c.open(ctx, t)
	if err != nil {
		return err
	}
	defer func() { _ = local.Close() }()
	c.Email = strings.ToLower(strings.TrimSpace(c.Email))
	said, err := act(local)
	if err == nil {
		t.print("%s\n", said)
	}
	return err
}

type usersResetPasswordCommand struct{ oneUser }

// Run makes a link.
func (c *usersResetPasswordCommand) Run(ctx context.Context, t *terminal) error {
	return c.run(ctx, t, func(local *app.Local) (string, error) {
		link, err := local.People.ResetLink(ctx, c.Email)
		return "The password is set anew here, once, within an hour:\n\n  " + t.styled(bold, local.Link(link)), err
	})
}

type usersResetFactorCommand struct{ oneUser }

// Run turns the second factor off.
func (c *usersResetFactorCommand) Run(ctx context.Context, t *terminal) error {
	return c.run(ctx, t, func(local *app.Local) (string, error) {
		return c.Email + " signs in with the password alone from now on. All sessions ended.", local.People.RemoveSecondFactor(ctx, c.Email)
	})
}

type usersDisableCommand struct{ oneUser }

// Run disables a user.
func (c *usersDisableCommand) Run(ctx context.Context, t *terminal) error {
	return c.run(ctx, t, func(local *app.Local) (string, error) {
		return c.Email + " can not sign in any more. All sessions ended.", local.People.Disable(ctx, c.Email)
	})
}

type usersEnableCommand struct{ oneUser }

// Run lets a user in again.
func (c *usersEnableCommand) Run(ctx context.Context, t *terminal) error {
	return c.run(ctx, t, func(local *app.Local) (string, error) {
		return c.Email + " can sign in again.", local.People.Enable(ctx, c.Email)
	})
}
