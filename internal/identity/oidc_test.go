package identity_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"shareai/internal/account"
	"shareai/internal/identity"
)

// issuer is an OpenID provider: discovery, codes with PKCE, signed tokens.
type issuer struct {
	*httptest.Server
	key   *rsa.PrivateKey
	mu    sync.Mutex
	codes map[string]url.Values // what was asked for at the authorization endpoint
	// person is what it says of whoever signs in; change may spoil a token.
	person map[string]any
	change func(claims map[string]any)
}

const clientSecret = "client-secret-5a1e"

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p := &issuer{key: key, codes: map[string]url.Values{}, person: map[string]any{"sub": "subject-1", "email": "Ben@Acme.example", "email_verified": true, "name": "Ben"}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{
			"issuer": p.URL, "authorization_endpoint": p.URL + "/authorize", "token_endpoint": p.URL + "/token", "jwks_uri": p.URL + "/keys",
			"id_token_signing_alg_values_supported": []string{"RS256"},
		})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": []any{map[string]string{
			"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "1", "n": b64(key.N.Bytes()), "e": b64(big.NewInt(int64(key.E)).Bytes()),
		}}})
	})
	mux.HandleFunc("GET /authorize", func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		code := rand.Text()
		p.codes[code] = r.URL.Query()
		back := r.URL.Query().Get("redirect_uri") + "?" + url.Values{"code": {code}, "state": {r.URL.Query().Get("state")}}.Encode()
		http.Redirect(w, r, back, http.StatusFound)
	})
	mux.HandleFunc("POST /token", p.token)
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	return p
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func (p *issuer) token(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	asked, ok := p.codes[r.FormValue("code")]
	delete(p.codes, r.FormValue("code"))
	sum := sha256.Sum256([]byte(r.FormValue("code_verifier")))
	_, secret, _ := r.BasicAuth()
	w.Header().Set("Content-Type", "application/json")
	if !ok || asked.Get("code_challenge_method") != "S256" || asked.Get("code_challenge") != b64(sum[:]) || secret != clientSecret || r.FormValue("redirect_uri") != asked.Get("redirect_uri") {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = fmt.Fprint(w, `{"error":"invalid_grant"}`)
		return
	}
	claims := map[string]any{
		"iss": p.URL, "aud": asked.Get("client_id"), "nonce": asked.Get("nonce"), "iat": time.Now().Unix(), "exp": time.Now().Add(time.Minute).Unix(),
	}
	for name, value := range p.person {
		claims[name] = value
	}
	if p.change != nil {
		p.change(claims)
	}
	body, _ := json.Marshal(claims)
	signed := b64([]byte(`{"alg":"RS256","kid":"1"}`)) + "." + b64(body)
	digest := sha256.Sum256([]byte(signed))
	signature, _ := rsa.SignPKCS1v15(rand.Reader, p.key, crypto.SHA256, digest[:])
	_ = json.NewEncoder(w).Encode(map[string]any{"access_token": "x", "token_type": "Bearer", "id_token": signed + "." + b64(signature)})
}

// visit goes to the provider as a browser does, and returns with what it was sent back with.
func (p *issuer) visit(t *testing.T, address string) identity.Return {
	t.Helper()
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	back, err := resp.Location()
	if err != nil || !strings.HasPrefix(back.String(), "https://ai.example/api/v1/auth/sso/company/callback?") {
		t.Fatalf("sent back to %v, %v", back, err)
	}
	return identity.Return{Name: "company", State: back.Query().Get("state"), Code: back.Query().Get("code")}
}

// sso signs in at the provider from begin to end.
func (h *house) sso(p *issuer, in *account.SignedIn) (identity.Started, error) {
	h.t.Helper()
	link := ""
	if in != nil {
		link = in.Session.ID
	}
	address, journey, err := h.StartSSO(h.t.Context(), "company", "/keys", link)
	if err != nil {
		return identity.Started{}, err
	}
	cookie, err := identity.ReadJourney(journey.Encode())
	if err != nil || cookie.Next != "/keys" {
		h.t.Fatalf("%+v, %v", cookie, err)
	}
	h.secret(journey.Secret.Reveal())
	return h.FinishSSO(h.t.Context(), cookie, p.visit(h.t, address), in, here)
}

func withSSO(t *testing.T, change func(*identity.Provider, *identity.Options)) (*house, identity.Started, *issuer) {
	t.Helper()
	p := newIssuer(t)
	h, ana := settled(t, func(_ *house, o *identity.Options) {
		company := identity.Provider{Name: "company", Issuer: p.URL, ClientID: "shareai", ClientSecret: account.NewSecret(clientSecret), Organization: "acme", Role: account.Member}
		if change != nil {
			change(&company, o)
		}
		o.Providers = []identity.Provider{company}
	})
	return h, ana, p
}

func TestSingleSignOn(t *testing.T) {
	t.Parallel()
	h, ana, p := withSSO(t, nil)
	ben, err := h.sso(p, nil)
	if err != nil || ben.User.Email != "ben@acme.example" || ben.User.Name != "Ben" || ben.RoleIn("acme") != account.Member || ben.Session.Method != "sso:company" {
		t.Fatalf("%+v, %v", ben.SignedIn, err)
	}
	p.person["email"] = "ben.new@acme.example" // he is told by his subject
	again, err := h.sso(p, nil)
	if err != nil || again.User.ID != ben.User.ID || again.User.Email != "ben@acme.example" {
		t.Fatalf("%+v, %v", again.SignedIn, err)
	}
	if err := h.Disable(t.Context(), "ben@acme.example"); err != nil {
		t.Fatal(err)
	}
	_, err = h.sso(p, nil)
	refused(t, err, "user_disabled")

	// Ana has a password: nobody takes her account over, but she adds the provider herself.
	p.person = map[string]any{"sub": "subject-2", "email": "ana@acme.example", "email_verified": "true"}
	_, err = h.sso(p, nil)
	refused(t, err, "sso_not_linked")
	linked, err := h.sso(p, &ana.SignedIn)
	if err != nil || linked.User.ID != ana.User.ID {
		t.Fatalf("%v", err)
	}
	if s, err := h.sso(p, nil); err != nil || s.User.ID != ana.User.ID {
		t.Errorf("%v", err)
	}
	p.person["sub"] = "subject-1"
	_, err = h.sso(p, &linked.SignedIn)
	refused(t, err, "sso_taken")
	if err := h.Unlink(t.Context(), ana.User.ID, "company"); err != nil {
		t.Fatal(err)
	}
	refused(t, h.Unlink(t.Context(), ben.User.ID, "company"), "last_way_in")
	p.person["sub"] = "subject-2"
	_, err = h.sso(p, nil)
	refused(t, err, "sso_not_linked")
}

func TestWhoMayUseSingleSignOn(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*identity.Provider, *identity.Options)
		person map[string]any
		code   string
	}{
		"closed":        {func(_ *identity.Provider, o *identity.Options) { o.SignUp = identity.SignUpClosed }, nil, "sign_up_closed"},
		"invited":       {func(p *identity.Provider, _ *identity.Options) { p.Organization = "" }, nil, "sign_up_closed"},
		"domain":        {func(p *identity.Provider, _ *identity.Options) { p.Domains = []string{"other.example"} }, nil, "sso_domain"},
		"own domain":    {func(p *identity.Provider, _ *identity.Options) { p.Domains = []string{"ACME.example"} }, nil, ""},
		"not verified":  {nil, map[string]any{"sub": "1", "email": "ben@acme.example", "email_verified": false}, "sso_no_email"},
		"no word of it": {nil, map[string]any{"sub": "1", "email": "ben@acme.example"}, "sso_no_email"},
		"trusted":       {func(p *identity.Provider, _ *identity.Options) { p.TrustEmails = true }, map[string]any{"sub": "1", "email": "ben@acme.example"}, ""},
		"no address":    {nil, map[string]any{"sub": "1", "email_verified": true}, "sso_no_email"},
		"open": {func(p *identity.Provider, o *identity.Options) {
			p.Organization, o.SignUp = "", identity.SignUpOpen
		}, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, _, p := withSSO(t, c.change)
			if c.person != nil {
				p.person = c.person
			}
			_, err := h.sso(p, nil)
			if codeOf(err) != c.code {
				t.Errorf("%v", err)
			}
		})
	}
}

// What comes from another browser, another journey or another issuer leads nowhere.
func TestSingleSignOnIsBound(t *testing.T) {
	t.Parallel()
	h, _, p := withSSO(t, nil)
	begin := func() (identity.Journey, identity.Return) {
		address, journey, err := h.StartSSO(t.Context(), "company", "/", "")
		if err != nil {
			t.Fatal(err)
		}
		return journey, p.visit(t, address)
	}
	mine, back := begin()
	other, _ := begin()
	_, err := h.FinishSSO(t.Context(), other, back, nil, here)
	refused(t, err, "sso_expired")
	elsewhere := mine
	elsewhere.Next = "//evil.example"
	_, err = h.FinishSSO(t.Context(), elsewhere, back, nil, here)
	refused(t, err, "sso_expired")
	forged := mine
	forged.Link = "session_of_somebody"
	_, err = h.FinishSSO(t.Context(), forged, back, nil, here)
	refused(t, err, "sso_expired")
	for name, change := range map[string]func(map[string]any){
		"nonce":    func(c map[string]any) { c["nonce"] = "another" },
		"audience": func(c map[string]any) { c["aud"] = "another" },
		"issuer":   func(c map[string]any) { c["iss"] = "https://evil.example" },
		"expired":  func(c map[string]any) { c["exp"] = time.Now().Add(-time.Hour).Unix() },
	} {
		p.change = change
		journey, back := begin()
		if _, err := h.FinishSSO(t.Context(), journey, back, nil, here); codeOf(err) != "sso_failed" {
			t.Errorf("%s: %v", name, err)
		}
	}
	p.change = nil
	if _, err := h.FinishSSO(t.Context(), mine, back, nil, here); err != nil {
		t.Errorf("the true one: %v", err)
	}
	_, err = h.FinishSSO(t.Context(), mine, back, nil, here)
	refused(t, err, "sso_failed") // the code is spent
	_, _, err = h.StartSSO(t.Context(), "unknown", "/", "")
	refused(t, err, "sso_not_found")
	for _, next := range []string{"https://evil.example", "//evil.example", "/\\evil.example", "", "/a\r\nb"} {
		if _, journey, err := h.StartSSO(t.Context(), "company", next, ""); err != nil || journey.Next != "/" {
			t.Errorf("%q leads to %q, %v", next, journey.Next, err)
		}
	}
	p.Close()
	back.Code = "whatever"
	_, err = h.FinishSSO(t.Context(), mine, back, nil, here)
	refused(t, err, "sso_failed")
	if _, err := identity.ReadJourney(account.NewSecret("garbage!")); codeOf(err) != "sso_expired" {
		t.Errorf("%v", err)
	}
}
