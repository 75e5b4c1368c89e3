package adminapi

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"shareai/internal/account"
	"shareai/internal/fault"
	"shareai/internal/identity"
)

// SignInOptions is how somebody can get in.
type SignInOptions struct {
	NeedsSetup bool        `json:"needs_setup" doc:"There is no user yet: the link that the gateway printed at its start makes the first."`
	SignUp     string      `json:"sign_up" enum:"open,invited,closed" doc:"Who may become a user: whoever wants to, whoever is invited, nobody."`
	Mail       bool        `json:"mail" doc:"E-mail is sent: forgotten passwords can be reset, and signing up confirms the address."`
	SSO        []SSOOption `json:"sso" nullable:"false" doc:"Services at which users can sign in."`
}

// SSOOption is a service at which users can sign in.
type SSOOption struct {
	Name  string `json:"name"`
	Label string `json:"label"`
}

// The bodies of requests. What is secret is never sent back.
type (
	// SetupRequest makes the first owner.
	SetupRequest struct {
		Token        string `json:"token" maxLength:"200" writeOnly:"true" doc:"What stands behind # in the set-up link."`
		Email        string `json:"email" maxLength:"254"`
		Name         string `json:"name,omitempty" maxLength:"100"`
		Password     string `json:"password" maxLength:"1000" writeOnly:"true"`
		Organization string `json:"organization" maxLength:"63" doc:"Operates the installation. Created, unless the configuration file declares it."`
	}
	// SignUpRequest makes a user with an organization of his own.
	SignUpRequest struct {
		Email        string `json:"email" maxLength:"254"`
		Name         string `json:"name,omitempty" maxLength:"100"`
		Password     string `json:"password,omitempty" maxLength:"1000" writeOnly:"true" doc:"Not needed where e-mail is sent: the link asks for it."`
		Organization string `json:"organization,omitempty" maxLength:"63" doc:"As password."`
	}
	// SignInRequest begins a session.
	SignInRequest struct {
		Email    string `json:"email" maxLength:"254"`
		Password string `json:"password" maxLength:"1000" writeOnly:"true"`
		Code     string `json:"code,omitempty" maxLength:"40" writeOnly:"true" doc:"Of the authenticator, or a recovery code. Asked for with second_factor_required."`
	}
	// ForgottenPassword asks for a link by e-mail.
	ForgottenPassword struct {
		Email string `json:"email" maxLength:"254"`
	}
	// PasswordReset sets a password anew.
	PasswordReset struct {
		Token    string `json:"token" maxLength:"200" writeOnly:"true" doc:"What stands behind # in the link."`
		Password string `json:"password" maxLength:"1000" writeOnly:"true"`
	}
	// InvitationToken is the secret of an invitation.
	InvitationToken struct {
		Token string `json:"token" maxLength:"200" writeOnly:"true" doc:"What stands behind # in the link."`
	}
	// Acceptance accepts an invitation.
	Acceptance struct {
		Token        string `json:"token" maxLength:"200" writeOnly:"true" doc:"What stands behind # in the link."`
		Email        string `json:"email,omitempty" maxLength:"254" doc:"Where the invitation names none."`
		Name         string `json:"name,omitempty" maxLength:"100"`
		Password     string `json:"password,omitempty" maxLength:"1000" writeOnly:"true" doc:"Who is signed in needs none, and joins as he is."`
		Organization string `json:"organization,omitempty" maxLength:"63" doc:"Of his own, where the invitation is to none."`
	}
	// Offer is what an invitation is to.
	Offer struct {
		Organization string    `json:"organization,omitempty" doc:"Missing: the link confirms an address, and an organization is created."`
		Role         string    `json:"role,omitempty"`
		Email        string    `json:"email,omitempty"`
		By           string    `json:"by,omitempty"`
		Expires      time.Time `json:"expires"`
	}
)

type (
	optionsAnswer struct{ Body SignInOptions }
	setupInput    struct{ Body SetupRequest }
	signUpInput   struct{ Body SignUpRequest }
	signInInput   struct{ Body SignInRequest }
	forgotInput   struct{ Body ForgottenPassword }
	resetInput    struct{ Body PasswordReset }
	offerInput    struct{ Body InvitationToken }
	acceptInput   struct{ Body Acceptance }
	offerAnswer   struct{ Body Offer }
	sessionAnswer struct {
		Cookie []string `header:"Set-Cookie" doc:"The session."`
		Body   Me
	}
	signUpAnswer struct {
		Status int
		Cookie []string `header:"Set-Cookie" doc:"The session."`
		Body   *Me      `doc:"Missing where an e-mail was sent instead."`
	}
	endAnswer struct {
		Cookie []string `header:"Set-Cookie" doc:"Takes the session's cookie away."`
	}
	nothing struct{}
)

func (a *API) addSignIn() {
	tags := []string{"Signing in"}
	public := func(id, method, path, summary, description string) huma.Operation {
		return huma.Operation{OperationID: id, Method: method, Path: "/api/v1/" + path, Tags: tags, Summary: summary, Description: description}
	}
	operation(a, public("sign-in-options", http.MethodGet, "auth", "How somebody can get in", "What a page for signing in has to know."), account.Public, a.signInOptions)
	created := func(op huma.Operation) huma.Operation { op.DefaultStatus = http.StatusCreated; return op }
	operation(a, created(public("set-up", http.MethodPost, "setup", "Set the installation up", "Makes the first owner and his organization, by the link that the gateway printed at its start.")), account.Public, a.setup)
	operation(a, created(public("sign-up", http.MethodPost, "auth/sign-up", "Sign up", "Makes a user with an organization of his own, where sign-up is open. Where e-mail is sent, the answer is 202 in any case, and the link in the e-mail goes on.")), account.Public, a.signUp)
	operation(a, public("sign-in", http.MethodPost, "auth/sign-in", "Sign in", "Begins a session with e-mail address and password. The answer sets its cookie."), account.Public, a.signIn)
	operation(a, public("sign-out", http.MethodPost, "auth/sign-out", "Sign out", "Ends the session."), account.OwnAccount, a.signOut)
	accepted := func(op huma.Operation) huma.Operation { op.DefaultStatus = http.StatusAccepted; return op }
	operation(a, accepted(public("forgot-password", http.MethodPost, "auth/password/forgot", "Ask for a new password", "Sends a link to the user with this address, if there is one. The answer does not tell.")), account.Public, a.forgotPassword)
	operation(a, public("reset-password", http.MethodPost, "auth/password/reset", "Set a new password", "By the link of an e-mail, once. All sessions of the user end."), account.Public, a.resetPassword)
	operation(a, public("show-invitation", http.MethodPost, "auth/invitation", "Show an invitation", "What a link invites to."), account.Public, a.showInvitation)
	operation(a, created(public("accept-invitation", http.MethodPost, "auth/invitation/accept", "Accept an invitation", "Makes a user, or lets the one who is signed in join.")), account.Public, a.acceptInvitation)
	a.addSSO(tags)
}

func (a *API) signInOptions(ctx context.Context, _ *Caller, _ *nothing) (*optionsAnswer, error) {
	needed, err := a.Identity.NeedsSetup(ctx)
	if err != nil {
		return nil, err
	}
	out := &optionsAnswer{Body: SignInOptions{NeedsSetup: needed, SignUp: string(a.Identity.SignUp()), Mail: a.Identity.Mails(), SSO: []SSOOption{}}}
	for _, p := range a.Identity.Providers() {
		option := SSOOption{Name: p.Name, Label: p.Label}
		if option.Label == "" {
			option.Label = p.Name
		}
		out.Body.SSO = append(out.Body.SSO, option)
	}
	return out, nil
}

// started answers with a session that began. What it brought is in force here before the answer is out.
func (a *API) started(ctx context.Context, s *identity.Started, err error) (*sessionAnswer, error) {
	if err != nil {
		return nil, err
	}
	a.refresh(ctx)
	return &sessionAnswer{Cookie: []string{a.sessionCookie(ctx, s)}, Body: a.meOf(&s.SignedIn)}, nil
}

// refresh makes this replica go by what was changed: the caller's next request may follow at once. The other replicas
// know within two seconds.
func (a *API) refresh(ctx context.Context) {
	if err := a.Snapshots.Refresh(ctx); err != nil {
		a.Log.WarnContext(ctx, "a change is stored and not in force here yet", "error", err)
	}
}

func (a *API) setup(ctx context.Context, _ *Caller, in *setupInput) (*sessionAnswer, error) {
	if err := a.refuseUnsafe(ctx); err != nil {
		return nil, err
	}
	s, err := a.Identity.Setup(ctx, account.NewSecret(in.Body.Token), identity.Newcomer{
		Email: in.Body.Email, Name: in.Body.Name, Password: account.NewSecret(in.Body.Password), Organization: in.Body.Organization,
	}, a.client(ctx))
	return a.started(ctx, &s, err)
}

func (a *API) signUp(ctx context.Context, _ *Caller, in *signUpInput) (*signUpAnswer, error) {
	if err := a.refuseUnsafe(ctx); err != nil {
		return nil, err
	}
	s, err := a.Identity.SignUpOwn(ctx, identity.Newcomer{
		Email: in.Body.Email, Name: in.Body.Name, Password: account.NewSecret(in.Body.Password), Organization: in.Body.Organization,
	}, a.client(ctx))
	if err != nil {
		return nil, err
	}
	if s == nil {
		return &signUpAnswer{Status: http.StatusAccepted}, nil
	}
	begun, err := a.started(ctx, s, nil)
	return &signUpAnswer{Status: http.StatusCreated, Cookie: begun.Cookie, Body: &begun.Body}, err
}

func (a *API) signIn(ctx context.Context, _ *Caller, in *signInInput) (*sessionAnswer, error) {
	if err := a.refuseUnsafe(ctx); err != nil {
		return nil, err
	}
	s, err := a.Identity.SignIn(ctx, identity.Credentials{
		Email: in.Body.Email, Password: account.NewSecret(in.Body.Password), Code: in.Body.Code,
	}, a.client(ctx))
	return a.started(ctx, &s, err)
}

func (a *API) signOut(ctx context.Context, caller *Caller, _ *nothing) (*endAnswer, error) {
	err := a.Identity.EndSession(ctx, caller.User.User.ID, caller.User.Session.ID)
	return &endAnswer{Cookie: []string{a.bake(ctx, secureCookie, plainCookie, account.Secret{}, 0)}}, err
}

func (a *API) forgotPassword(ctx context.Context, _ *Caller, in *forgotInput) (*nothing, error) {
	return nil, a.Identity.ForgotPassword(ctx, in.Body.Email, a.client(ctx))
}

func (a *API) resetPassword(ctx context.Context, _ *Caller, in *resetInput) (*nothing, error) {
	return nil, a.Identity.ResetPassword(ctx, account.NewSecret(in.Body.Token), account.NewSecret(in.Body.Password), a.client(ctx))
}

func (a *API) showInvitation(ctx context.Context, _ *Caller, in *offerInput) (*offerAnswer, error) {
	t, err := a.Identity.Offer(ctx, account.NewSecret(in.Body.Token), a.client(ctx))
	if err != nil {
		return nil, err
	}
	return &offerAnswer{Body: Offer{Organization: t.Organization, Role: string(t.Role), Email: t.Email, By: t.By, Expires: t.Expires}}, nil
}

func (a *API) acceptInvitation(ctx context.Context, _ *Caller, in *acceptInput) (*signUpAnswer, error) {
	if err := a.refuseUnsafe(ctx); err != nil {
		return nil, err
	}
	client, token := a.client(ctx), account.NewSecret(in.Body.Token)
	if user := a.signedIn(ctx, client.Token); user != nil {
		if err := a.Identity.AcceptAs(ctx, token, user, client); err != nil {
			return nil, err
		}
		now, err := a.Sessions.SignedIn(ctx, client.Token)
		if err != nil {
			return nil, err
		}
		me := a.meOf(now)
		return &signUpAnswer{Status: http.StatusOK, Body: &me}, nil
	}
	s, err := a.Identity.Accept(ctx, token, identity.Newcomer{
		Email: in.Body.Email, Name: in.Body.Name, Password: account.NewSecret(in.Body.Password), Organization: in.Body.Organization,
	}, client)
	if err != nil {
		return nil, err
	}
	begun, err := a.started(ctx, &s, nil)
	return &signUpAnswer{Status: http.StatusCreated, Cookie: begun.Cookie, Body: &begun.Body}, err
}

// signedIn is whose session a token is, or nil.
func (a *API) signedIn(ctx context.Context, token account.Secret) *account.SignedIn {
	if token.Empty() {
		return nil
	}
	user, err := a.Sessions.SignedIn(ctx, token)
	if err != nil {
		return nil
	}
	return user
}

type (
	ssoStart struct {
		Name string `path:"name" maxLength:"63"`
		Next string `query:"next" maxLength:"500" doc:"The page of the console to go on with, beginning with /."`
		Link bool   `query:"link" doc:"Add this way of signing in to the account that is signed in."`
	}
	ssoReturn struct {
		Name  string `path:"name" maxLength:"63"`
		State string `query:"state" maxLength:"200"`
		Code  string `query:"code" maxLength:"4000"`
		Error string `query:"error" maxLength:"200"`
	}
	redirectAnswer struct {
		Status   int
		Location string   `header:"Location"`
		Cookie   []string `header:"Set-Cookie"`
	}
)

func (a *API) addSSO(tags []string) {
	operation(a, huma.Operation{
		OperationID: "sso-start", Method: http.MethodGet, Path: "/api/v1/auth/sso/{name}", Tags: tags, DefaultStatus: http.StatusFound,
		Summary: "Sign in elsewhere", Description: "Sends the browser to a service for signing in (OpenID Connect), which sends it back.",
	}, account.Public, a.startSSO)
	operation(a, huma.Operation{
		OperationID: "sso-callback", Method: http.MethodGet, Path: "/api/v1/auth/sso/{name}/callback", Tags: tags, DefaultStatus: http.StatusFound,
		Summary: "Come back from elsewhere", Description: "Where the service sends the browser back to. What went wrong is said on the console's page for signing in, as ?error=CODE.",
	}, account.Public, a.finishSSO)
}

func (a *API) startSSO(ctx context.Context, _ *Caller, in *ssoStart) (*redirectAnswer, error) {
	if err := a.refuseUnsafe(ctx); err != nil {
		return nil, err
	}
	link := ""
	if in.Link {
		user := a.signedIn(ctx, a.client(ctx).Token)
		if user == nil {
			return nil, fault.New(fault.Unauthenticated, "session_ended", "You are not signed in any more. Sign in again.")
		}
		link = user.Session.ID
	}
	address, journey, err := a.Identity.StartSSO(ctx, in.Name, in.Next, link)
	if err != nil {
		return nil, err
	}
	return &redirectAnswer{Status: http.StatusFound, Location: address, Cookie: []string{a.bake(ctx, secureJourney, plainJourney, journey.Encode(), journeyTime)}}, nil
}

func (a *API) finishSSO(ctx context.Context, _ *Caller, in *ssoReturn) (*redirectAnswer, error) {
	client := a.client(ctx)
	out := &redirectAnswer{Status: http.StatusFound, Cookie: []string{a.bake(ctx, secureJourney, plainJourney, account.Secret{}, 0)}}
	journey, err := identity.ReadJourney(a.cookie(requestOf(ctx), secureJourney, plainJourney))
	var s identity.Started
	if err == nil {
		s, err = a.Identity.FinishSSO(ctx, journey, identity.Return{Name: in.Name, State: in.State, Code: in.Code, Refusal: in.Error}, a.signedIn(ctx, client.Token), client)
	}
	if err != nil { // a person looks at this, not a program
		e := fault.From(err)
		a.Log.WarnContext(ctx, "a sign-in elsewhere failed", "provider", in.Name, "code", e.Code, "error", e)
		out.Location = "/sign-in?" + url.Values{"error": {e.Code}, "request_id": {idOf(ctx)}}.Encode()
		return out, nil
	}
	out.Location = journey.Next
	out.Cookie = append(out.Cookie, a.sessionCookie(ctx, &s))
	return out, nil
}
