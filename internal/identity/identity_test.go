package identity_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"shareai/internal/account"
	"shareai/internal/audit"
	"shareai/internal/control"
	"shareai/internal/fault"
	"shareai/internal/identity"
	"shareai/internal/store"
	"shareai/internal/store/storetest"
)

// house is an installation with its people, over a real store.
type house struct {
	*identity.Identity
	t       *testing.T
	data    storetest.Database
	rows    *store.Store
	secrets []string // that must be found nowhere
	mu      sync.Mutex
	at      time.Time
	letters chan letter
}

type letter struct{ to, text string }

func (h *house) Send(_ context.Context, to, _, text string) error {
	h.letters <- letter{to, text}
	return nil
}

func (h *house) now() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.at
}

func (h *house) pass(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at = h.at.Add(d)
}

func newHouse(t *testing.T, change func(*house, *identity.Options)) *house {
	t.Helper()
	h := &house{t: t, data: storetest.SQLite(t), at: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), letters: make(chan letter, 10)}
	h.rows = h.data.Open(t)
	o := identity.Options{
		Users: h.rows, Sessions: h.rows, Organizations: control.New(control.Options{Rows: h.rows}), Now: h.now, PublicURL: "https://ai.example",
	}
	if change != nil {
		change(h, &o)
	}
	h.Identity = identity.New(o)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); h.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done; h.noSecrets() })
	return h
}

// noSecrets looks through the audit log and the whole database.
func (h *house) noSecrets() {
	everything := string(h.data.Bytes(h.t))
	if !strings.Contains(everything, "user.create") && !strings.Contains(everything, "setup.link") {
		h.t.Error("the search does not see the audit log")
	}
	for _, secret := range h.secrets {
		if strings.Contains(everything, secret) {
			h.t.Errorf("%s can be read in the database", secret)
		}
	}
}

func (h *house) secret(text string) account.Secret {
	h.secrets = append(h.secrets, text)
	return account.NewSecret(text)
}

// linkToken is the token of a link.
func (h *house) linkToken(link string) account.Secret {
	h.t.Helper()
	_, token, ok := strings.Cut(link, "#token=")
	if !ok {
		h.t.Fatalf("no link: %s", link)
	}
	return h.secret(strings.Fields(token)[0])
}

const right = "correct horse battery"

var here = identity.Client{From: "192.0.2.1", Agent: "test\x00 ü"}

// settled is a house with its first owner, ana@acme.example.
func settled(t *testing.T, change func(*house, *identity.Options)) (*house, identity.Started) {
	t.Helper()
	h := newHouse(t, change)
	token, err := h.SetupLink(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	h.secret(token.Reveal())
	ana, err := h.Setup(t.Context(), token, identity.Newcomer{Email: " Ana@Acme.example", Name: "Ana", Password: h.secret(right), Organization: "acme"}, here)
	if err != nil {
		t.Fatal(err)
	}
	h.secret(ana.Token.Reveal())
	return h, ana
}

// refused checks the code of an error.
func refused(t *testing.T, err error, code string) {
	t.Helper()
	if err == nil || fault.From(err).Code != code {
		t.Errorf("got %v (%s), want %s", err, codeOf(err), code)
	}
}

func codeOf(err error) string {
	if err == nil {
		return ""
	}
	return fault.From(err).Code
}

func (h *house) signIn(password, code string) (identity.Started, error) {
	s, err := h.SignIn(h.t.Context(), identity.Credentials{Email: "ana@acme.example", Password: account.NewSecret(password), Code: code}, here)
	if err == nil {
		h.secret(s.Token.Reveal())
	}
	return s, err
}

func TestTheFirstOwnerComesByALink(t *testing.T) {
	t.Parallel()
	h, ana := settled(t, nil)
	if ana.User.Email != "ana@acme.example" || ana.RoleIn("acme") != account.Owner || ana.Session.Method != "setup" {
		t.Errorf("%+v", ana.SignedIn)
	}
	spec, _, err := h.rows.Load(t.Context())
	if err != nil || len(spec.Organizations) != 1 || !spec.Organizations[0].Operator || len(spec.Projects) != 1 {
		t.Errorf("%+v, %v", spec, err)
	}
	if in, err := h.SignedIn(t.Context(), ana.Token); err != nil || in.User != ana.User {
		t.Errorf("%+v, %v", in, err)
	}
	if token, err := h.SetupLink(t.Context()); err != nil || !token.Empty() {
		t.Errorf("another link: %v", err)
	}
}

func TestASetupLinkWorksOnce(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	old, err := h.SetupLink(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	token, err := h.SetupLink(t.Context()) // the gateway was started again
	if err != nil {
		t.Fatal(err)
	}
	ana := identity.Newcomer{Email: "ana@acme.example", Password: h.secret(right), Organization: "acme"}
	_, err = h.Setup(t.Context(), old, ana, here)
	refused(t, err, "link_not_valid")
	weak := ana
	weak.Password = account.NewSecret("short")
	_, err = h.Setup(t.Context(), token, weak, here)
	refused(t, err, "weak_password") // and the link is good still
	nameless := ana
	nameless.Organization = ""
	_, err = h.Setup(t.Context(), token, nameless, here)
	refused(t, err, "invalid_name")
	results := make(chan error, 2)
	for _, email := range []string{"ana@acme.example", "eve@evil.example"} {
		go func() {
			n := ana
			n.Email = email
			_, err := h.Setup(t.Context(), token, n, here)
			results <- err
		}()
	}
	one, other := <-results, <-results
	if (one == nil) == (other == nil) {
		t.Errorf("%v, %v", one, other)
	}
	if users, err := h.Users(t.Context(), account.UserFilter{}); err != nil || len(users) != 1 {
		t.Errorf("%+v, %v", users, err)
	}
}

// What somebody learns who does not know the password is the same for every address.
func TestSigningIn(t *testing.T) {
	t.Parallel()
	h, ana := settled(t, nil)
	var said []string
	for _, c := range []identity.Credentials{
		{Email: "ana@acme.example", Password: account.NewSecret("wrong")}, {Email: "nobody@acme.example", Password: account.NewSecret(right)}, {Password: account.NewSecret(right)}, {Email: "ana@acme.example"},
	} {
		_, err := h.SignIn(t.Context(), c, here)
		refused(t, err, "invalid_credentials")
		said = append(said, fmt.Sprint(err))
	}
	for _, text := range said {
		if text != said[0] {
			t.Errorf("the answers differ: %q", said)
		}
	}
	again, err := h.SignIn(t.Context(), identity.Credentials{Email: "ANA@acme.example ", Password: account.NewSecret(right)}, identity.Client{Token: ana.Token})
	if err != nil || again.Token.Equal(ana.Token) || again.Session.ID == ana.Session.ID {
		t.Fatalf("%v", err)
	}
	h.secret(again.Token.Reveal())
	_, err = h.SignedIn(t.Context(), ana.Token)
	refused(t, err, "session_ended") // the one before
	if in, err := h.SignedIn(t.Context(), again.Token); err != nil || in.User.SignedInAt.IsZero() {
		t.Errorf("%v", err)
	}
	if err := h.Disable(t.Context(), "ana@acme.example"); err != nil {
		t.Fatal(err)
	}
	_, err = h.SignedIn(t.Context(), again.Token)
	refused(t, err, "session_ended")
	_, err = h.signIn(right, "")
	refused(t, err, "invalid_credentials")
	if err := h.Enable(t.Context(), "ana@acme.example"); err != nil {
		t.Fatal(err)
	}
	if _, err = h.signIn(right, ""); err != nil {
		t.Error(err)
	}
}

// A token that somebody else laid under never becomes a session.
func TestSessionsCanNotBeFixed(t *testing.T) {
	t.Parallel()
	h, _ := settled(t, nil)
	planted := account.NewSecret("planted-by-somebody-else-00000000000000000000")
	s, err := h.SignIn(t.Context(), identity.Credentials{Email: "ana@acme.example", Password: account.NewSecret(right)}, identity.Client{Token: planted})
	if err != nil || s.Token.Equal(planted) {
		t.Fatalf("%v", err)
	}
	_, err = h.SignedIn(t.Context(), planted)
	refused(t, err, "session_ended")
}

func TestGuessingIsBounded(t *testing.T) {
	t.Parallel()
	h, _ := settled(t, nil)
	for range 30 { // who knows the password is never bounded
		if _, err := h.signIn(right, ""); err != nil {
			t.Fatal(err)
		}
	}
	tries := 0
	var err error
	for ; tries < 100; tries++ {
		// from everywhere
		_, err = h.SignIn(t.Context(), identity.Credentials{Email: "ana@acme.example", Password: account.NewSecret("wrong")}, identity.Client{From: fmt.Sprintf("192.0.2.%d", tries)})
		if codeOf(err) != "invalid_credentials" {
			break
		}
	}
	refused(t, err, "too_many_attempts")
	if f := fault.From(err); tries != 10 || f.RetryAfter <= 0 {
		t.Errorf("after %d attempts, again in %s", tries, f.RetryAfter)
	}
	_, err = h.signIn(right, "")
	refused(t, err, "too_many_attempts")
	for tries = range 300 { // one address, many accounts
		_, err = h.SignIn(t.Context(), identity.Credentials{Email: fmt.Sprintf("user%d@acme.example", tries)}, identity.Client{From: "198.51.100.1"})
		if codeOf(err) != "invalid_credentials" {
			break
		}
	}
	refused(t, err, "too_many_attempts")
	if tries != 100 {
		t.Errorf("after %d attempts", tries)
	}
}

func TestSessionsEndByThemselves(t *testing.T) {
	t.Parallel()
	h, ana := settled(t, func(_ *house, o *identity.Options) { o.Idle, o.Absolute = time.Hour, 5*time.Hour })
	for range 4 {
		h.pass(59 * time.Minute)
		if _, err := h.SignedIn(t.Context(), ana.Token); err != nil {
			t.Fatal(err)
		}
	}
	other, err := h.signIn(right, "")
	if err != nil {
		t.Fatal(err)
	}
	h.pass(59 * time.Minute)
	if _, err := h.SignedIn(t.Context(), ana.Token); err != nil {
		t.Fatal(err)
	}
	h.pass(5 * time.Minute) // five hours after the start
	_, err = h.SignedIn(t.Context(), ana.Token)
	refused(t, err, "session_ended")
	_, err = h.SignedIn(t.Context(), other.Token) // not used for more than an hour
	refused(t, err, "session_ended")
	if list, err := h.Sessions(t.Context(), ana.User.ID); err != nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestSessionsCanBeEnded(t *testing.T) {
	t.Parallel()
	h, ana := settled(t, nil)
	second, _ := h.signIn(right, "")
	third, _ := h.signIn(right, "")
	list, err := h.Sessions(t.Context(), ana.User.ID)
	if err != nil || len(list) != 3 || list[0].From != "192.0.2.1" || list[0].Client != "test ü" {
		t.Fatalf("%+v, %v", list, err)
	}
	if err := h.EndSession(t.Context(), ana.User.ID, second.Session.ID); err != nil {
		t.Fatal(err)
	}
	_, err = h.SignedIn(t.Context(), second.Token)
	refused(t, err, "session_ended")
	refused(t, h.EndSession(t.Context(), "user_other", third.Session.ID), "session_not_found")
	if err := h.EndOtherSessions(t.Context(), ana.User.ID, third.Session.ID); err != nil {
		t.Fatal(err)
	}
	_, err = h.SignedIn(t.Context(), ana.Token)
	refused(t, err, "session_ended")
	if _, err := h.SignedIn(t.Context(), third.Token); err != nil {
		t.Error(err)
	}
}

func TestChangingThePassword(t *testing.T) {
	t.Parallel()
	h, ana := settled(t, nil)
	other, _ := h.signIn(right, "")
	next := h.secret("another horse battery")
	refused(t, h.ChangePassword(t.Context(), &ana.SignedIn, account.NewSecret("wrong"), next), "wrong_password")
	refused(t, h.ChangePassword(t.Context(), &ana.SignedIn, account.NewSecret(right), account.NewSecret("short")), "weak_password")
	if err := h.ChangePassword(t.Context(), &ana.SignedIn, account.NewSecret(right), next); err != nil {
		t.Fatal(err)
	}
	if _, err := h.SignedIn(t.Context(), ana.Token); err != nil {
		t.Error(err)
	}
	_, err := h.SignedIn(t.Context(), other.Token)
	refused(t, err, "session_ended")
	_, err = h.signIn(right, "")
	refused(t, err, "invalid_credentials")
	if _, err := h.signIn(next.Reveal(), ""); err != nil {
		t.Error(err)
	}
}

func TestSecondFactor(t *testing.T) {
	t.Parallel()
	h, ana := settled(t, nil)
	_, err := h.EnrolSecondFactor(t.Context(), &ana.SignedIn, account.NewSecret("wrong"))
	refused(t, err, "wrong_password")
	enrolment, err := h.EnrolSecondFactor(t.Context(), &ana.SignedIn, account.NewSecret(right))
	if err != nil {
		t.Fatal(err)
	}
	secret := h.secret(enrolment.Secret.Reveal())
	if !strings.HasPrefix(enrolment.URL.Reveal(), "otpauth://totp/ShareAI:ana@acme.example?") {
		t.Errorf("%s", enrolment.URL.Reveal())
	}
	if _, err := h.signIn(right, ""); err != nil { // not confirmed yet
		t.Fatal(err)
	}
	code := func() string { return identity.CodeAt(t, secret, h.now()) }
	_, err = h.ConfirmSecondFactor(t.Context(), &ana.SignedIn, "000000")
	refused(t, err, "invalid_code")
	confirmed := code()
	codes, err := h.ConfirmSecondFactor(t.Context(), &ana.SignedIn, confirmed)
	if err != nil || len(codes) != 10 {
		t.Fatalf("%d codes, %v", len(codes), err)
	}
	for _, c := range codes {
		h.secret(c.Reveal())
		h.secret(strings.ReplaceAll(c.Reveal(), "-", ""))
	}
	_, err = h.signIn(right, "")
	refused(t, err, "second_factor_required")
	_, err = h.signIn("wrong", code())
	refused(t, err, "invalid_credentials")
	_, err = h.signIn(right, confirmed)
	refused(t, err, "invalid_code") // it was used
	h.pass(30 * time.Second)
	fresh := code()
	if _, err := h.signIn(right, fresh[:3]+" "+fresh[3:]); err != nil {
		t.Fatal(err)
	}
	_, err = h.signIn(right, fresh)
	refused(t, err, "invalid_code")
	if _, err := h.signIn(right, strings.ToUpper(codes[3].Reveal())); err != nil {
		t.Fatal(err)
	}
	_, err = h.signIn(right, codes[3].Reveal())
	refused(t, err, "invalid_code")
	h.pass(time.Minute)
	refused(t, h.DisableSecondFactor(t.Context(), &ana.SignedIn, account.NewSecret(right), "000000"), "invalid_code")
	refused(t, h.DisableSecondFactor(t.Context(), &ana.SignedIn, account.NewSecret("wrong"), code()), "wrong_password")
	if err := h.DisableSecondFactor(t.Context(), &ana.SignedIn, account.NewSecret(right), code()); err != nil {
		t.Fatal(err)
	}
	if _, err := h.signIn(right, ""); err != nil {
		t.Error(err)
	}
}

// Of two who come with one code at the same time, one gets in.
func TestACodeCountsOnce(t *testing.T) {
	t.Parallel()
	h, ana := settled(t, nil)
	enrolment, _ := h.EnrolSecondFactor(t.Context(), &ana.SignedIn, account.NewSecret(right))
	if _, err := h.ConfirmSecondFactor(t.Context(), &ana.SignedIn, identity.CodeAt(t, enrolment.Secret, h.now())); err != nil {
		t.Fatal(err)
	}
	h.pass(time.Minute)
	code := identity.CodeAt(t, enrolment.Secret, h.now())
	results := make(chan error, 3)
	for range cap(results) {
		go func() {
			_, err := h.SignIn(t.Context(), identity.Credentials{Email: "ana@acme.example", Password: account.NewSecret(right), Code: code}, here)
			results <- err
		}()
	}
	ok := 0
	for range cap(results) {
		if err := <-results; err == nil {
			ok++
		} else {
			refused(t, err, "invalid_code")
		}
	}
	if ok != 1 {
		t.Errorf("%d got in", ok)
	}
}

func withMail(h *house, o *identity.Options) { o.Mailer = h }

func TestAForgottenPassword(t *testing.T) {
	t.Parallel()
	h, ana := settled(t, withMail)
	for _, email := range []string{"nobody@acme.example", "ana@acme.example"} {
		if err := h.ForgotPassword(t.Context(), email, here); err != nil {
			t.Fatal(err)
		}
	}
	got := <-h.letters // the first one made none
	if got.to != "ana@acme.example" {
		t.Fatalf("%+v", got)
	}
	token := h.linkToken(got.text)
	next := h.secret("another horse battery")
	refused(t, h.ResetPassword(t.Context(), account.NewSecret("guessed"), next, here), "link_not_valid")
	refused(t, h.ResetPassword(t.Context(), token, account.NewSecret("short"), here), "weak_password")
	if err := h.ResetPassword(t.Context(), token, next, here); err != nil {
		t.Fatal(err)
	}
	refused(t, h.ResetPassword(t.Context(), token, next, here), "link_not_valid")
	_, err := h.SignedIn(t.Context(), ana.Token)
	refused(t, err, "session_ended")
	if _, err := h.signIn(next.Reveal(), ""); err != nil {
		t.Error(err)
	}
	link, err := h.ResetLink(t.Context(), "ana@acme.example")
	if err != nil {
		t.Fatal(err)
	}
	h.pass(time.Hour)
	refused(t, h.ResetPassword(t.Context(), h.linkToken(link.Reveal()), next, here), "link_not_valid")
	for range 4 {
		_ = h.ForgotPassword(t.Context(), "ana@acme.example", here)
	}
	refused(t, h.ForgotPassword(t.Context(), "ana@acme.example", here), "too_many_attempts")
}

func TestWithoutMailTheOperatorHelps(t *testing.T) {
	t.Parallel()
	h, _ := settled(t, nil)
	refused(t, h.ForgotPassword(t.Context(), "ana@acme.example", here), "no_mail")
	_, err := h.ResetLink(t.Context(), "nobody@acme.example")
	refused(t, err, "user_not_found")
}

func TestInvitations(t *testing.T) {
	t.Parallel()
	h, ana := settled(t, withMail)
	_, err := h.Invite(t.Context(), identity.Invitation{Organization: "acme", Role: account.Owner, ByRole: account.Admin})
	refused(t, err, "missing_role")
	_, err = h.Invite(t.Context(), identity.Invitation{Organization: "acme", Role: "king", ByRole: account.Owner})
	refused(t, err, "invalid_role")
	made, err := h.Invite(t.Context(), identity.Invitation{Organization: "acme", Role: account.Member, Email: "ben@acme.example", By: "Ana", ByRole: account.Admin})
	if err != nil || !made.Mailed {
		t.Fatalf("%+v, %v", made, err)
	}
	got := <-h.letters
	token := h.linkToken(got.text)
	if got.to != "ben@acme.example" || !strings.Contains(made.Link.Reveal(), token.Reveal()) {
		t.Errorf("%+v", got)
	}
	if offer, err := h.Offer(t.Context(), token, here); err != nil || offer.Organization != "acme" {
		t.Errorf("%+v, %v", offer, err)
	}
	ben, err := h.Accept(t.Context(), token, identity.Newcomer{Email: "other@evil.example", Name: "Ben", Password: h.secret("a password of ben")}, here)
	if err != nil || ben.User.Email != "ben@acme.example" || ben.RoleIn("acme") != account.Member {
		t.Fatalf("%+v, %v", ben.SignedIn, err)
	}
	_, err = h.Accept(t.Context(), token, identity.Newcomer{Password: account.NewSecret(right)}, here)
	refused(t, err, "link_not_valid")

	open, _ := h.Invite(t.Context(), identity.Invitation{Organization: "acme", Role: account.Viewer, ByRole: account.Owner})
	if list, err := h.Invitations(t.Context(), "acme"); err != nil || len(list) != 1 || list[0].ID != open.ID {
		t.Errorf("%+v, %v", list, err)
	}
	refused(t, h.RevokeInvitation(t.Context(), "globex", open.ID), "invitation_not_found")
	if err := h.AcceptAs(t.Context(), h.linkToken(open.Link.Reveal()), &ana.SignedIn, here); err != nil {
		t.Fatal(err)
	}
	if in, err := h.SignedIn(t.Context(), ana.Token); err != nil || in.RoleIn("acme") != account.Owner {
		t.Errorf("an owner became less: %+v, %v", in, err)
	}
	revoked, _ := h.Invite(t.Context(), identity.Invitation{Organization: "acme", Role: account.Viewer, ByRole: account.Owner})
	if err := h.RevokeInvitation(t.Context(), "acme", revoked.ID); err != nil {
		t.Fatal(err)
	}
	_, err = h.Offer(t.Context(), h.linkToken(revoked.Link.Reveal()), here)
	refused(t, err, "link_not_valid")
	late, _ := h.Invite(t.Context(), identity.Invitation{Organization: "acme", Role: account.Viewer, ByRole: account.Owner})
	h.pass(8 * 24 * time.Hour)
	_, err = h.Offer(t.Context(), h.linkToken(late.Link.Reveal()), here)
	refused(t, err, "link_not_valid")
}

func TestSignUp(t *testing.T) {
	t.Parallel()
	eve := identity.Newcomer{Email: "eve@evil.example", Password: account.NewSecret("a password of eve"), Organization: "evil"}
	for _, way := range []identity.SignUp{identity.SignUpInvited, identity.SignUpClosed} {
		h, ana := settled(t, func(_ *house, o *identity.Options) { o.SignUp = way })
		_, err := h.SignUpOwn(t.Context(), eve, here)
		refused(t, err, "sign_up_closed")
		made, _ := h.Invite(t.Context(), identity.Invitation{Organization: "acme", Role: account.Viewer, ByRole: account.Owner})
		_, err = h.Accept(t.Context(), h.linkToken(made.Link.Reveal()), eve, here)
		if (err == nil) != (way == identity.SignUpInvited) {
			t.Errorf("%s: %v", way, err)
		}
		_ = ana
	}
	open := func(_ *house, o *identity.Options) { o.SignUp = identity.SignUpOpen }
	early := newHouse(t, open)
	if _, err := early.SetupLink(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err := early.SignUpOwn(t.Context(), eve, here)
	refused(t, err, "not_set_up")

	h, _ := settled(t, open)
	into := eve
	into.Organization = "acme"
	_, err = h.SignUpOwn(t.Context(), into, here)
	refused(t, err, "organization_exists")
	started, err := h.SignUpOwn(t.Context(), eve, here)
	if err != nil || started.RoleIn("evil") != account.Owner || started.RoleIn("acme") != "" {
		t.Fatalf("%+v, %v", started, err)
	}
	spec, _, _ := h.rows.Load(t.Context())
	if account.Operator(spec.Organizations) != "acme" {
		t.Errorf("%+v", spec.Organizations)
	}
	eve.Organization = "evil2"
	_, err = h.SignUpOwn(t.Context(), eve, here)
	refused(t, err, "email_taken")
}

// Where e-mail can be sent, signing up tells nobody which addresses are taken.
func TestSignUpByMail(t *testing.T) {
	t.Parallel()
	h, _ := settled(t, func(h *house, o *identity.Options) { o.SignUp, o.Mailer = identity.SignUpOpen, h })
	for _, email := range []string{"ana@acme.example", "cleo@new.example"} {
		if s, err := h.SignUpOwn(t.Context(), identity.Newcomer{Email: email}, here); s != nil || err != nil {
			t.Fatalf("%+v, %v", s, err)
		}
	}
	first, second := <-h.letters, <-h.letters
	if first.to != "ana@acme.example" || strings.Contains(first.text, "token") || second.to != "cleo@new.example" {
		t.Errorf("%+v, %+v", first, second)
	}
	cleo, err := h.Accept(t.Context(), h.linkToken(second.text), identity.Newcomer{Password: h.secret("a password of cleo"), Organization: "new"}, here)
	if err != nil || cleo.RoleIn("new") != account.Owner || cleo.User.Email != "cleo@new.example" {
		t.Errorf("%+v, %v", cleo.SignedIn, err)
	}
}

func TestMembers(t *testing.T) {
	t.Parallel()
	h, ana := settled(t, nil)
	ben, err := h.CreateUser(t.Context(), identity.Newcomer{Email: "ben@acme.example", Organization: "acme", Password: h.secret("a password of ben")}, account.Admin)
	if err != nil {
		t.Fatal(err)
	}
	change := func(user string, role, by account.Role) error {
		_, err := h.ChangeMember(t.Context(), identity.MemberChange{Organization: "acme", UserID: user, Role: role, ByRole: by})
		return err
	}
	refused(t, change(ana.User.ID, account.Admin, account.Owner), "last_owner")
	refused(t, change(ana.User.ID, "", account.Owner), "last_owner")
	refused(t, change(ana.User.ID, account.Admin, account.Admin), "missing_role")
	refused(t, change(ana.User.ID, "", account.Admin), "missing_role")
	refused(t, change(ben.ID, account.Owner, account.Admin), "missing_role")
	refused(t, change("user_x", account.Owner, account.Owner), "member_not_found")
	refused(t, change(ben.ID, "king", account.Owner), "invalid_role")
	if err := change(ben.ID, account.Owner, account.Owner); err != nil {
		t.Fatal(err)
	}
	if err := change(ana.User.ID, account.Viewer, account.Owner); err != nil {
		t.Fatal(err)
	}
	if in, err := h.SignedIn(t.Context(), ana.Token); err != nil || in.RoleIn("acme") != account.Viewer {
		t.Errorf("at once: %+v, %v", in, err)
	}
	if err := change(ana.User.ID, "", account.Owner); err != nil {
		t.Fatal(err)
	}
	refused(t, change(ana.User.ID, account.Viewer, account.Owner), "member_not_found")
	_, err = h.CreateUser(t.Context(), identity.Newcomer{Email: "x@acme.example", Organization: "nowhere"}, account.Admin)
	refused(t, err, "organization_not_found")
	_, err = h.CreateUser(t.Context(), identity.Newcomer{Email: "ben@acme.example", Organization: "acme"}, account.Admin)
	refused(t, err, "email_taken")
}

// Everything that is done to accounts is in the log, with who did it.
func TestAccountsAreAudited(t *testing.T) {
	t.Parallel()
	h, ana := settled(t, nil)
	_, _ = h.signIn("wrong", "")
	_, _ = h.signIn(right, "")
	acting := audit.WithActor(t.Context(), audit.Actor{Kind: audit.Member, ID: ana.User.ID, Name: ana.User.Email, From: "192.0.2.9"})
	if _, err := h.Rename(acting, ana.User.ID, "Ana B."); err != nil {
		t.Fatal(err)
	}
	var acts []string
	err := h.rows.EachAudit(t.Context(), time.Time{}, func(r audit.Row) error {
		e, err := r.Entry()
		acts = append(acts, e.Act+" "+string(e.Who.Kind))
		return err
	})
	want := "[setup.link  organization.create  project.create  user.create  session.refuse  session.start  user.rename member]"
	if err != nil || fmt.Sprint(acts) != want {
		t.Errorf("%v, %v", acts, err)
	}
}
