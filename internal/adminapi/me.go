package adminapi

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"shareai/internal/account"
	"shareai/internal/fault"
	"shareai/internal/identity"
)

// Me is who calls.
type Me struct {
	Kind          string         `json:"kind" enum:"user,api_key"`
	User          *User          `json:"user,omitempty" doc:"Missing for an API key."`
	SessionID     string         `json:"session_id,omitempty"`
	Key           *MyKey         `json:"key,omitempty" doc:"Missing for a user."`
	Organizations []MyMembership `json:"organizations" nullable:"false" doc:"Where the caller may act, and how."`
}

// User is a person.
type User struct {
	ID           string     `json:"id" example:"user_k3w7q2m5x4c6a2zt7d5b"`
	Email        string     `json:"email"`
	Name         string     `json:"name,omitempty"`
	SecondFactor bool       `json:"second_factor" doc:"Signing in with the password asks for a code as well."`
	Created      time.Time  `json:"created"`
	SignedIn     *time.Time `json:"signed_in,omitempty" doc:"The last time."`
}

// MyKey is the API key that calls.
type MyKey struct {
	ID     string   `json:"id"`
	Name   string   `json:"name"`
	Scopes []string `json:"scopes" nullable:"false"`
}

// MyMembership is what the caller may do in an organization.
type MyMembership struct {
	Organization string   `json:"organization"`
	Role         string   `json:"role,omitempty" enum:"owner,admin,member,viewer" doc:"Missing for an API key."`
	Project      string   `json:"project,omitempty" doc:"Of an API key."`
	Operator     bool     `json:"operator" doc:"The organization operates the installation."`
	Permissions  []string `json:"permissions" nullable:"false" doc:"What operations ask for, as x-permission."`
}

func viewUser(u *account.User) User {
	return User{ID: u.ID, Email: u.Email, Name: u.Name, SecondFactor: u.SecondFactor, Created: u.CreatedAt, SignedIn: moment(u.SignedInAt)}
}

// moment is a time, or nothing for the zero time.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// meOf is a user.
func (a *API) meOf(in *account.SignedIn) Me {
	user := viewUser(&in.User)
	me := Me{Kind: "user", User: &user, SessionID: in.Session.ID, Organizations: []MyMembership{}}
	operator := a.operator()
	for _, m := range in.Memberships {
		rights := account.Caller{Known: true, User: true, Role: m.Role, Operator: m.Organization == operator}
		me.Organizations = append(me.Organizations, MyMembership{
			Organization: m.Organization, Role: string(m.Role), Operator: rights.Operator, Permissions: permissionsOf(rights),
		})
	}
	return me
}

func permissionsOf(rights account.Caller) []string {
	all := []string{}
	for _, d := range account.Demands {
		if account.Can(rights, d.Permission) > account.Nowhere {
			all = append(all, string(d.Permission))
		}
	}
	slices.Sort(all)
	return all
}

// Session is a user's being signed in somewhere.
type Session struct {
	ID      string    `json:"id"`
	Current bool      `json:"current" doc:"The one of this request."`
	Method  string    `json:"method" doc:"How it began: password, sso:NAME, invitation, sign_up, setup."`
	From    string    `json:"from" doc:"The address it began from."`
	Client  string    `json:"client,omitempty" doc:"What the browser or program calls itself."`
	Created time.Time `json:"created"`
	Seen    time.Time `json:"seen" doc:"To the minute."`
	Expires time.Time `json:"expires" doc:"Whatever happens."`
}

// SessionList is a list of sessions.
type SessionList struct {
	Sessions []Session `json:"sessions" nullable:"false" doc:"The newest first."`
}

// Authenticator is one to be set up.
type Authenticator struct {
	Secret string `json:"secret" doc:"For typing. Told once."`
	URL    string `json:"url" doc:"For a QR code. Told once."`
}

// RecoveryCodes are for when the authenticator is lost.
type RecoveryCodes struct {
	Codes []string `json:"recovery_codes" nullable:"false" doc:"Each works once. Told once."`
}

// The bodies of requests about one's own account.
type (
	// Rename is how a user wants to be called.
	Rename struct {
		Name string `json:"name" maxLength:"100"`
	}
	// PasswordChange replaces a password.
	PasswordChange struct {
		Password string `json:"password,omitempty" maxLength:"1000" writeOnly:"true" doc:"The present one. Who has none leaves it out."`
		New      string `json:"new_password" maxLength:"1000" writeOnly:"true"`
	}
	// Confirmation confirms an act with the password.
	Confirmation struct {
		Password string `json:"password,omitempty" maxLength:"1000" writeOnly:"true" doc:"Who has none leaves it out."`
	}
	// Code confirms an authenticator.
	Code struct {
		Code string `json:"code" maxLength:"40" writeOnly:"true"`
	}
	// FactorRemoval turns the second factor off.
	FactorRemoval struct {
		Password string `json:"password,omitempty" maxLength:"1000" writeOnly:"true" doc:"Who has none leaves it out."`
		Code     string `json:"code" maxLength:"40" writeOnly:"true" doc:"Of the authenticator, or a recovery code."`
	}
	// OrganizationStart is a new organization.
	OrganizationStart struct {
		Name string `json:"name" maxLength:"63" doc:"1 to 63 characters of a-z, 0-9, '.', '_' and '-'. It stays."`
	}
)

type (
	meAnswer       struct{ Body Me }
	renameInput    struct{ Body Rename }
	sessionsAnswer struct{ Body SessionList }
	byID           struct {
		ID string `path:"id" maxLength:"100"`
	}
	passwordInput  struct{ Body PasswordChange }
	confirmInput   struct{ Body Confirmation }
	codeInput      struct{ Body Code }
	removalInput   struct{ Body FactorRemoval }
	enrolAnswer    struct{ Body Authenticator }
	recoveryAnswer struct{ Body RecoveryCodes }
	byName         struct {
		Name string `path:"name" maxLength:"128"`
	}
	foundInput struct{ Body OrganizationStart }
)

func (a *API) addMe() {
	own := func(id, method, path, summary, description string) huma.Operation {
		return huma.Operation{OperationID: id, Method: method, Path: "/api/v1/me" + path, Tags: []string{"Your account"}, Summary: summary, Description: description}
	}
	operation(a, own("me", http.MethodGet, "", "Who you are", "The user or API key that calls, and what it may do where."), account.AnyCaller, a.me)
	operation(a, own("rename-me", http.MethodPatch, "", "Change your name", ""), account.OwnAccount, a.renameMe)
	operation(a, own("list-sessions", http.MethodGet, "/sessions", "List your sessions", "Where you are signed in."), account.OwnAccount, a.listSessions)
	operation(a, own("end-session", http.MethodDelete, "/sessions/{id}", "End a session of yours", ""), account.OwnAccount, a.endSession)
	operation(a, own("end-other-sessions", http.MethodDelete, "/sessions", "End your other sessions", "All but the one of this request."), account.OwnAccount, a.endOtherSessions)
	operation(a, own("change-password", http.MethodPost, "/password", "Change your password", "Your other sessions end."), account.OwnAccount, a.changePassword)
	operation(a, own("enrol-second-factor", http.MethodPost, "/second-factor", "Set up an authenticator", "Makes its secret. It is asked for once it is confirmed."), account.OwnAccount, a.enrolSecondFactor)
	operation(a, own("confirm-second-factor", http.MethodPost, "/second-factor/confirm", "Confirm the authenticator", "From now on signing in with the password asks for a code. Your other sessions end."), account.OwnAccount, a.confirmSecondFactor)
	operation(a, own("remove-second-factor", http.MethodPost, "/second-factor/remove", "Turn the authenticator off", ""), account.OwnAccount, a.removeSecondFactor)
	operation(a, own("unlink-sso", http.MethodDelete, "/sso/{name}", "Remove a way of signing in", ""), account.OwnAccount, a.unlinkSSO)
	operation(a, own("leave-organization", http.MethodDelete, "/organizations/{name}", "Leave an organization", "Its last owner stays."), account.OwnAccount, a.leave)
	created := own("create-organization", http.MethodPost, "/organizations", "Create an organization", "With you as its owner, where sign-up is open or you administer the organization that operates the installation.")
	created.DefaultStatus = http.StatusCreated
	operation(a, created, account.OwnAccount, a.foundOrganization)
}

func (a *API) me(_ context.Context, caller *Caller, _ *nothing) (*meAnswer, error) {
	if caller.User != nil {
		return &meAnswer{Body: a.meOf(caller.User)}, nil
	}
	k := caller.Key
	me := Me{Kind: "api_key", Key: &MyKey{ID: k.ID, Name: k.Name, Scopes: []string{}}}
	for _, s := range account.Scopes {
		if k.May(s) {
			me.Key.Scopes = append(me.Key.Scopes, string(s))
		}
	}
	rights := caller.rights
	rights.Operator = a.operator() == k.Organization
	me.Organizations = []MyMembership{{Organization: k.Organization, Project: k.Project, Operator: rights.Operator, Permissions: permissionsOf(rights)}}
	return &meAnswer{Body: me}, nil
}

func (a *API) renameMe(ctx context.Context, caller *Caller, in *renameInput) (*meAnswer, error) {
	user, err := a.Identity.Rename(ctx, caller.User.User.ID, in.Body.Name)
	if err != nil {
		return nil, err
	}
	caller.User.User = user
	return &meAnswer{Body: a.meOf(caller.User)}, nil
}

func (a *API) listSessions(ctx context.Context, caller *Caller, _ *nothing) (*sessionsAnswer, error) {
	all, err := a.Identity.Sessions(ctx, caller.User.User.ID)
	out := &sessionsAnswer{Body: SessionList{Sessions: make([]Session, len(all))}}
	for i, s := range all {
		out.Body.Sessions[i] = Session{
			ID: s.ID, Current: s.ID == caller.User.Session.ID, Method: s.Method, From: s.From, Client: s.Client, Created: s.CreatedAt, Seen: s.SeenAt, Expires: s.Expires,
		}
	}
	return out, err
}

func (a *API) endSession(ctx context.Context, caller *Caller, in *byID) (*nothing, error) {
	return nil, a.Identity.EndSession(ctx, caller.User.User.ID, in.ID)
}

func (a *API) endOtherSessions(ctx context.Context, caller *Caller, _ *nothing) (*nothing, error) {
	return nil, a.Identity.EndOtherSessions(ctx, caller.User.User.ID, caller.User.Session.ID)
}

func (a *API) changePassword(ctx context.Context, caller *Caller, in *passwordInput) (*nothing, error) {
	return nil, a.Identity.ChangePassword(ctx, caller.User, account.NewSecret(in.Body.Password), account.NewSecret(in.Body.New))
}

func (a *API) enrolSecondFactor(ctx context.Context, caller *Caller, in *confirmInput) (*enrolAnswer, error) {
	e, err := a.Identity.EnrolSecondFactor(ctx, caller.User, account.NewSecret(in.Body.Password))
	return &enrolAnswer{Body: Authenticator{Secret: e.Secret.Reveal(), URL: e.URL.Reveal()}}, err
}

func (a *API) confirmSecondFactor(ctx context.Context, caller *Caller, in *codeInput) (*recoveryAnswer, error) {
	codes, err := a.Identity.ConfirmSecondFactor(ctx, caller.User, in.Body.Code)
	out := &recoveryAnswer{Body: RecoveryCodes{Codes: make([]string, len(codes))}}
	for i, c := range codes {
		out.Body.Codes[i] = c.Reveal()
	}
	return out, err
}

func (a *API) removeSecondFactor(ctx context.Context, caller *Caller, in *removalInput) (*nothing, error) {
	return nil, a.Identity.DisableSecondFactor(ctx, caller.User, account.NewSecret(in.Body.Password), in.Body.Code)
}

func (a *API) unlinkSSO(ctx context.Context, caller *Caller, in *byName) (*nothing, error) {
	return nil, a.Identity.Unlink(ctx, caller.User.User.ID, in.Name)
}

func (a *API) leave(ctx context.Context, caller *Caller, in *byName) (*nothing, error) {
	_, err := a.Identity.ChangeMember(ctx, identity.MemberChange{Organization: in.Name, UserID: caller.User.User.ID, ByRole: caller.User.RoleIn(in.Name)})
	return nil, err
}

func (a *API) foundOrganization(ctx context.Context, caller *Caller, in *foundInput) (*meAnswer, error) {
	operates := account.Caller{Known: true, User: true, Role: caller.User.RoleIn(a.operator()), Operator: true}
	if a.Identity.SignUp() != identity.SignUpOpen && account.Can(operates, account.CreateTenants) == account.Nowhere {
		return nil, fault.New(fault.Forbidden, "sign_up_closed", "Only admins of the organization that operates the installation create organizations here.")
	}
	if err := a.Identity.FoundOwn(ctx, caller.User, in.Body.Name); err != nil {
		return nil, err
	}
	a.refresh(ctx)
	caller.User.Memberships = append(caller.User.Memberships, account.Membership{Organization: in.Body.Name, Role: account.Owner})
	return &meAnswer{Body: a.meOf(caller.User)}, nil
}
