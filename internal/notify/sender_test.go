package notify

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"shareai/internal/account"
	"shareai/internal/alert"
	"shareai/internal/egress"
)

const signingSecret = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3"

func opened(id string) *alert.Message {
	return &alert.Message{
		ID: id, Event: "alert.opened", Rule: alert.ProviderDown, Subject: "alpha", At: alert.Moment(time.Now()),
		Episode: &alert.Course{ID: "al_1", Since: alert.Moment(time.Now())},
		Report:  alert.Report{Title: `Provider "a<b>&c" is down`, Text: "Requests go elsewhere."},
	}
}

// verify is how a receiver checks a webhook, written from docs/alerts.md and Standard Webhooks, without our code.
func verify(secret string, header http.Header, body []byte, now time.Time) error {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		return err
	}
	seconds, err := strconv.ParseInt(header.Get("webhook-timestamp"), 10, 64)
	if err != nil {
		return err
	}
	if age := now.Sub(time.Unix(seconds, 0)).Abs(); age > 5*time.Minute {
		return fmt.Errorf("it is %s old", age)
	}
	mac := hmac.New(sha256.New, key)
	_, _ = io.WriteString(mac, header.Get("webhook-id")+"."+header.Get("webhook-timestamp")+"."+string(body))
	for _, signature := range strings.Fields(header.Get("webhook-signature")) {
		if given, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(signature, "v1,")); err == nil && hmac.Equal(given, mac.Sum(nil)) {
			return nil
		}
	}
	return errors.New("wrong signature")
}

// hook is a receiver of webhooks that keeps what comes.
type hook struct {
	*httptest.Server
	bodies  chan []byte
	headers chan http.Header
}

func newHook(t *testing.T, answer func(w http.ResponseWriter)) *hook {
	t.Helper()
	h := &hook{bodies: make(chan []byte, 100), headers: make(chan http.Header, 100)}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		h.bodies <- body
		h.headers <- r.Header
		answer(w)
	}))
	t.Cleanup(h.Close)
	return h
}

func ok(http.ResponseWriter) {}

func webhookTo(url string) *alert.Receiver {
	return &alert.Receiver{
		Name: "ops", PrivateNetwork: true,
		Webhook: &alert.Webhook{URL: account.NewSecret(url), Secret: account.NewSecret(signingSecret)},
	}
}

func TestAWebhookIsSigned(t *testing.T) {
	h := newHook(t, ok)
	if err := NewSender(Options{UserAgent: "shareai/test"}).Send(t.Context(), webhookTo(h.URL), opened("m1")); err != nil {
		t.Fatal(err)
	}
	body, header := <-h.bodies, <-h.headers
	if err := verify(signingSecret, header, body, time.Now()); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"another body":   verify(signingSecret, header, append(body, ' '), time.Now()),
		"another secret": verify("whsec_"+base64.StdEncoding.EncodeToString([]byte("another")), header, body, time.Now()),
		"an old message": verify(signingSecret, header, body, time.Now().Add(10*time.Minute)),
	} {
		if err == nil {
			t.Errorf("%s verifies", name)
		}
	}
	var m alert.Message
	if err := json.Unmarshal(body, &m); err != nil || m.ID != "m1" || header.Get("Webhook-Id") != "m1" || m.Rule != alert.ProviderDown || header.Get("User-Agent") != "shareai/test" {
		t.Errorf("%v %+v %v", err, m, header)
	}
}

// The test vector of the specification of Standard Webhooks.
func TestTheSignatureIsThatOfStandardWebhooks(t *testing.T) {
	got := Signature(account.NewSecret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", []byte(`{"test": 2432232314}`))
	if want := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestFailuresSayWhatIsWrongAndNoSecret(t *testing.T) {
	busy := newHook(t, func(w http.ResponseWriter) {
		w.Header().Set("Retry-After", "77")
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	elsewhere := newHook(t, ok)
	moved := newHook(t, func(w http.ResponseWriter) {
		w.Header().Set("Location", elsewhere.URL)
		w.WriteHeader(http.StatusTemporaryRedirect)
	})
	gone := newHook(t, ok)
	gone.Close()
	for _, c := range []struct {
		name, url, want string
		retry           time.Duration
	}{
		{"busy", busy.URL + "/T0KEN", "it answered 503", 77 * time.Second},
		{"moved", moved.URL + "/T0KEN", "redirections are not followed", 0},
		{"nobody there", gone.URL + "/T0KEN", "refused", 0},
		{"no such host", "http://nobody.invalid/T0KEN", "does not resolve", 0},
	} {
		err := NewSender(Options{}).Send(t.Context(), webhookTo(c.url), opened("m"))
		var known *Error
		if !errors.As(err, &known) || !strings.Contains(err.Error(), c.want) || known.RetryAfter != c.retry {
			t.Errorf("%s: %v", c.name, err)
		}
		if strings.Contains(fmt.Sprint(err), "T0KEN") {
			t.Errorf("%s: the error has the URL in it: %v", c.name, err)
		}
	}
	if len(elsewhere.bodies) > 0 {
		t.Error("a redirection was followed")
	}
}

// No receiver leads into the gateway's own network, by whatever spelling, unless that was meant; and never to where
// clouds hand out credentials.
func TestReceiversAreReachedOnlyWhereTheyMayBe(t *testing.T) {
	h := newHook(t, ok)
	mail := &mailServer{t: t}
	_, port := mail.start()
	sender := NewSender(Options{})
	refused := func(r *alert.Receiver) {
		t.Helper()
		if err := sender.Send(t.Context(), r, opened("m")); !errors.Is(err, egress.ErrRefused) || !strings.Contains(err.Error(), "private_network") {
			t.Errorf("%+v: %v", r, err)
		}
	}
	local := h.URL[strings.LastIndex(h.URL, ":"):]
	for _, host := range []string{"127.0.0.1", "localhost", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]", "10.0.0.1", "192.168.1.1", "169.254.169.254"} {
		r := webhookTo("http://" + host + local)
		r.PrivateNetwork = false
		refused(r)
		refused(&alert.Receiver{Name: "chat", Slack: &alert.Slack{URL: account.NewSecret("http://" + host + local)}})
	}
	refused(webhookTo("http://169.254.169.254" + local)) // also with private_network
	refused(&alert.Receiver{Name: "mail", Email: &alert.Email{Host: "127.0.0.1", Port: port, TLS: alert.NoTLS, From: "a@b.example", To: []string{"c@d.example"}}})
	if len(h.bodies) > 0 || len(mail.received()) > 0 {
		t.Error("it was reached")
	}
}

func TestSlackGetsWhatItUnderstands(t *testing.T) {
	h := newHook(t, ok)
	to := &alert.Receiver{Name: "chat", PrivateNetwork: true, Slack: &alert.Slack{URL: account.NewSecret(h.URL)}}
	over := opened("m2")
	over.Event = "alert.ended"
	for _, c := range []struct {
		m     *alert.Message
		color string
	}{{opened("m1"), "danger"}, {over, "good"}, {new(alert.TestMessage("t", time.Now())), "#808080"}} {
		if err := NewSender(Options{}).Send(t.Context(), to, c.m); err != nil {
			t.Fatal(err)
		}
		var got slackText
		if err := json.Unmarshal(<-h.bodies, &got); err != nil || got.Text == "" || len(got.Attachments) != 1 || got.Attachments[0].Color != c.color {
			t.Errorf("%v %+v", err, got)
		}
		if strings.ContainsAny(got.Text, "<>") {
			t.Errorf("a name becomes markup: %s", got.Text)
		}
	}
}

// certificates are a server's configuration and the roots that trust it.
func certificates(t *testing.T) (*tls.Config, *x509.CertPool) {
	t.Helper()
	server := httptest.NewTLSServer(nil)
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	return &tls.Config{Certificates: server.TLS.Certificates}, roots
}

func TestEmail(t *testing.T) {
	config, roots := certificates(t)
	for _, c := range []struct {
		name     string
		server   *mailServer
		tls      string
		password string
		roots    *x509.CertPool
		fails    string
	}{
		{name: "STARTTLS", server: &mailServer{tls: config, password: "geheim"}, tls: alert.StartTLS, password: "geheim", roots: roots},
		{name: "TLS", server: &mailServer{tls: config, implicit: true, password: "geheim"}, tls: alert.ImplicitTLS, password: "geheim", roots: roots},
		{name: "none", server: &mailServer{}, tls: alert.NoTLS},
		{name: "a wrong password", server: &mailServer{tls: config, password: "geheim"}, tls: alert.StartTLS, password: "falsch", roots: roots, fails: "535"},
		{name: "a server without STARTTLS", server: &mailServer{}, tls: alert.StartTLS, fails: "STARTTLS"},
		{name: "a certificate of somebody else", server: &mailServer{tls: config}, tls: alert.StartTLS, fails: "certificate"},
		{name: "a server that puts it off", server: &mailServer{deferred: 1}, tls: alert.NoTLS, fails: "did not take the message"},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := c.server
			server.t = t
			host, port := server.start()
			to := &alert.Receiver{Name: "mail", PrivateNetwork: true, Email: &alert.Email{
				Host: host, Port: port, TLS: c.tls, From: "ShareAI <alerts@gateway.example>", To: []string{"a@team.example", "b@team.example"},
			}}
			if c.password != "" {
				to.Email.Username, to.Email.Password = "gateway", account.NewSecret(c.password)
			}
			err := NewSender(Options{Roots: c.roots}).Send(t.Context(), to, opened("al_1.opened.1.mail"))
			if c.fails != "" {
				if err == nil || !strings.Contains(err.Error(), c.fails) || len(server.received()) > 0 {
					t.Errorf("%v, %d messages", err, len(server.received()))
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := server.received()
			if len(got) != 1 || got[0].from != "alerts@gateway.example" || len(got[0].to) != 2 || got[0].encrypted != (c.tls != alert.NoTLS) || c.password != "" && got[0].user != "gateway" {
				t.Fatalf("%+v", got)
			}
			for _, want := range []string{"Subject: [ShareAI] Provider", "Message-ID: <al_1.opened.1.mail@shareai>", "Auto-Submitted: auto-generated", "Requests go elsewhere."} {
				if !strings.Contains(got[0].data, want) {
					t.Errorf("%q is not in\n%s", want, got[0].data)
				}
			}
		})
	}
}
