package adminapi_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"shareai/internal/account"
	"shareai/internal/adminapi"
)

const rightPassword = canary + " horse battery"

// browser keeps the session's cookie, as browsers do.
type browser struct {
	*stage
	cookie string
	header http.Header // sent as well
}

func (b *browser) do(t *testing.T, what, body string) answer {
	t.Helper()
	header := http.Header{"Content-Type": {"application/json"}, "Sec-Fetch-Site": {"same-origin"}}
	for name, values := range b.header {
		header[name] = values
	}
	if b.cookie != "" {
		header.Set("Cookie", b.cookie)
	}
	got := b.sendWith(t, what, body, header)
	if set := got.header.Get("Set-Cookie"); set != "" {
		b.cookie, _, _ = strings.Cut(set, ";")
		if strings.HasSuffix(b.cookie, "=") {
			b.cookie = ""
		}
	}
	return got
}

// setUp makes ana@acme.example the first owner.
func (s *stage) setUp(t *testing.T) *browser {
	t.Helper()
	token, err := s.people.SetupLink(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b := &browser{stage: s}
	me := decode[adminapi.Me](t, b.do(t, "POST /api/v1/setup", `{"token":"`+token.Reveal()+`","email":"ana@acme.example","name":"Ana","password":"`+rightPassword+`","organization":"acme"}`), 201)
	if me.User == nil || me.User.Email != "ana@acme.example" || len(me.Organizations) != 1 || me.Organizations[0].Role != "owner" || !me.Organizations[0].Operator {
		t.Fatalf("%+v", me)
	}
	return b
}

const signInBody = `{"email":"ana@acme.example","password":"` + rightPassword + `"}`

func TestFromSetUpToSignOut(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	stranger := &browser{stage: s}
	if o := decode[adminapi.SignInOptions](t, stranger.do(t, "GET /api/v1/auth", ""), 200); !o.NeedsSetup || o.SignUp != "open" || o.Mail || len(o.SSO) != 0 {
		t.Errorf("%+v", o)
	}
	stranger.do(t, "POST /api/v1/auth/sign-up", `{"email":"eve@evil.example","password":"a password of eve","organization":"evil"}`).refusedWith(t, 409, "not_set_up")
	stranger.do(t, "POST /api/v1/setup", `{"token":"guessed","email":"eve@evil.example","password":"a password of eve","organization":"acme"}`).refusedWith(t, 404, "link_not_valid")
	b := s.setUp(t)
	if o := decode[adminapi.SignInOptions](t, b.do(t, "GET /api/v1/auth", ""), 200); o.NeedsSetup {
		t.Errorf("%+v", o)
	}
	if me := decode[adminapi.Me](t, b.do(t, "GET /api/v1/me", ""), 200); me.Kind != "user" || me.User.Name != "Ana" {
		t.Errorf("%+v", me)
	}
	if list := decode[adminapi.SessionList](t, b.do(t, "GET /api/v1/me/sessions", ""), 200); len(list.Sessions) != 1 || !list.Sessions[0].Current || list.Sessions[0].From != "127.0.0.1" {
		t.Errorf("%+v", list)
	}
	before := b.cookie
	if got := b.do(t, "POST /api/v1/auth/sign-in", signInBody); got.status != 200 || b.cookie == before {
		t.Errorf("%d %s", got.status, got.body)
	}
	old := &browser{stage: s, cookie: before}
	old.do(t, "GET /api/v1/me", "").refusedWith(t, 401, "session_ended") // another one took its place
	last := b.cookie
	if got := b.do(t, "POST /api/v1/auth/sign-out", ""); got.status != 204 || b.cookie != "" {
		t.Errorf("%d %s %s", got.status, got.body, b.cookie)
	}
	(&browser{stage: s, cookie: last}).do(t, "GET /api/v1/me", "").refusedWith(t, 401, "session_ended")
	b.do(t, "GET /api/v1/me", "").refusedWith(t, 401, "missing_api_key")
}

// The cookie can not be read by a page, nor be sent without TLS where there is TLS, nor be laid by a neighbour.
func TestTheSessionsCookie(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.setUp(t)
	send := func(header http.Header, host string) answer {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+"/api/v1/auth/sign-in", strings.NewReader(signInBody))
		if err != nil {
			t.Fatal(err)
		}
		r.Header, r.Host = header, host
		r.Header.Set("Content-Type", "application/json")
		resp, err := s.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var e struct{ Error struct{ Code string } }
		_ = json.NewDecoder(resp.Body).Decode(&e)
		return answer{status: resp.StatusCode, header: resp.Header, body: e.Error.Code}
	}
	for _, c := range []struct {
		header http.Header
		host   string
		prefix string
		secure bool
	}{
		{http.Header{}, "127.0.0.1:8080", "shareai_session=", false},
		{http.Header{}, "localhost", "shareai_session=", false},
		{http.Header{}, "[::1]:8080", "shareai_session=", false},
		{http.Header{"X-Forwarded-Proto": {"https"}}, "ai.acme.example", "__Host-shareai=", true},
	} {
		got := send(c.header, c.host)
		cookie := got.header.Get("Set-Cookie")
		if got.status != 200 || !strings.HasPrefix(cookie, c.prefix) || strings.Contains(cookie, "Secure") != c.secure || strings.Contains(cookie, "Domain") {
			t.Errorf("%s: %d %s", c.host, got.status, cookie)
		}
		for _, part := range []string{"; Path=/", "; HttpOnly", "; SameSite=Lax", "; Max-Age="} {
			if !strings.Contains(cookie, part) {
				t.Errorf("%s lacks %s", cookie, part)
			}
		}
	}
	for _, host := range []string{"192.168.1.5:8080", "ai.acme.example", "127.0.0.1.evil.example"} {
		if got := send(http.Header{}, host); got.status != 403 || got.body != "insecure_connection" || got.header.Get("Set-Cookie") != "" {
			t.Errorf("%s without TLS: %d %s", host, got.status, got.body)
		}
	}
}

func TestWhoGuessesWaits(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.setUp(t)
	b := &browser{stage: s}
	var got answer
	for range 11 {
		got = b.do(t, "POST /api/v1/auth/sign-in", `{"email":"ana@acme.example","password":"`+canary+`"}`)
	}
	got.refusedWith(t, 429, "too_many_attempts")
	if got.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
}

func TestAnInvitationFromLinkToMember(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	ana := s.setUp(t)
	made := decode[adminapi.InvitationView](t, ana.do(t, "POST /api/v1/invitations", `{"role":"member"}`), 201)
	_, token, _ := strings.Cut(made.Link, "#token=")
	list := ana.do(t, "GET /api/v1/invitations", "")
	if open := decode[adminapi.InvitationList](t, list, 200); len(open.Invitations) != 1 || strings.Contains(list.body, token) {
		t.Errorf("%s", list.body)
	}
	ben := &browser{stage: s}
	if offer := decode[adminapi.Offer](t, ben.do(t, "POST /api/v1/auth/invitation", `{"token":"`+token+`"}`), 200); offer.Organization != "acme" || offer.By != "Ana" {
		t.Errorf("%+v", offer)
	}
	me := decode[adminapi.Me](t, ben.do(t, "POST /api/v1/auth/invitation/accept", `{"token":"`+token+`","email":"ben@acme.example","password":"`+rightPassword+`"}`), 201)
	if me.User.Email != "ben@acme.example" || me.Organizations[0].Role != "member" {
		t.Errorf("%+v", me)
	}
	ben.do(t, "POST /api/v1/invitations", `{"role":"viewer"}`).refusedWith(t, 403, "missing_role")
	ben.do(t, "DELETE /api/v1/members/"+me.User.ID, "").refusedWith(t, 403, "missing_role")
	members := decode[adminapi.MemberList](t, ana.do(t, "GET /api/v1/members?limit=1", ""), 200)
	if len(members.Members) != 1 || members.Next == "" {
		t.Fatalf("%+v", members)
	}
	more := decode[adminapi.MemberList](t, ana.do(t, "GET /api/v1/members?limit=1&cursor="+members.Next, ""), 200)
	if len(more.Members) != 1 || more.Members[0].ID != me.User.ID || more.Next != "" {
		t.Errorf("%+v", more)
	}
	ana.do(t, "GET /api/v1/members?cursor=!", "").refusedWith(t, 400, "invalid_cursor")
	if changed := decode[adminapi.MemberView](t, ana.do(t, "PATCH /api/v1/members/"+me.User.ID, `{"role":"admin"}`), 200); changed.Role != "admin" {
		t.Errorf("%+v", changed)
	}
	// At once, in the session that he has.
	ben.do(t, "POST /api/v1/invitations", `{"role":"owner"}`).refusedWith(t, 403, "missing_role")
	decode[adminapi.InvitationView](t, ben.do(t, "POST /api/v1/invitations", `{"role":"admin"}`), 201)
	ana.do(t, "DELETE /api/v1/me/organizations/acme", "").refusedWith(t, 409, "last_owner")
	if got := ana.do(t, "DELETE /api/v1/members/"+me.User.ID, ""); got.status != 204 {
		t.Errorf("%d %s", got.status, got.body)
	}
	ben.do(t, "GET /api/v1/members", "").refusedWith(t, 403, "no_organization")
	// Who is in no organization may found one, where sign-up is open; and what is in it is nobody else's.
	own := decode[adminapi.Me](t, ben.do(t, "POST /api/v1/me/organizations", `{"name":"ben"}`), 201)
	if len(own.Organizations) != 1 || own.Organizations[0].Operator {
		t.Errorf("%+v", own)
	}
	if got := decode[adminapi.MemberList](t, ben.do(t, "GET /api/v1/members", ""), 200); len(got.Members) != 1 {
		t.Errorf("%+v", got)
	}
	ben.do(t, "GET /api/v1/members?organization=acme", "").refusedWith(t, 404, "organization_not_found")
	for _, what := range []string{"PATCH /api/v1/members/", "DELETE /api/v1/members/"} {
		anas := decode[adminapi.Me](t, ana.do(t, "GET /api/v1/me", ""), 200)
		ben.do(t, what+anas.User.ID, `{"role":"viewer"}`).refusedWith(t, 404, "member_not_found")
	}
}

func TestTheSecondFactorByTheAPI(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	ana := s.setUp(t)
	ana.do(t, "POST /api/v1/me/second-factor", `{"password":"wrong"}`).refusedWith(t, 403, "wrong_password")
	made := decode[adminapi.Authenticator](t, ana.do(t, "POST /api/v1/me/second-factor", `{"password":"`+rightPassword+`"}`), 200)
	if !strings.Contains(made.URL, made.Secret) {
		t.Errorf("%+v", made)
	}
	ana.do(t, "POST /api/v1/me/second-factor/confirm", `{"code":"000000"}`).refusedWith(t, 400, "invalid_code")
	if me := ana.do(t, "GET /api/v1/me", ""); strings.Contains(me.body, made.Secret) || !strings.Contains(me.body, `"second_factor":false`) {
		t.Errorf("%s", me.body)
	}
}

func TestSingleSignOnByTheAPI(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	b := &browser{stage: s}
	b.do(t, "GET /api/v1/auth/sso/unknown", "").refusedWith(t, 404, "sso_not_found")
	b.do(t, "GET /api/v1/auth/sso/unknown?link=true", "").refusedWith(t, 401, "session_ended")
	s.Client().CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	got := b.do(t, "GET /api/v1/auth/sso/company/callback?state=x&code="+canary, "")
	if got.status != 302 || !strings.HasPrefix(got.header.Get("Location"), "/sign-in?error=sso_expired&request_id=") {
		t.Errorf("%d %v", got.status, got.header)
	}
}

func TestWhoYouAre(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	me := decode[adminapi.Me](t, s.call(t, "GET /api/v1/me", readKey, ""), 200)
	if me.Kind != "api_key" || me.Key.Name != "reading" || me.Organizations[0].Project != "app" ||
		!slices.Contains(me.Organizations[0].Permissions, string(account.ReadUsage)) || slices.Contains(me.Organizations[0].Permissions, string(account.ReadAudit)) {
		t.Errorf("%+v", me)
	}
}
