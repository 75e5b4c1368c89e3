package app

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"shareai/internal/alert"
)

// hook is a receiver of webhooks that verifies what comes, by what docs/alerts.md says.
type hook struct {
	*httptest.Server
	fail atomic.Int64 // how many messages it refuses first

	mu    sync.Mutex
	taken []alert.Message
}

const hookSecret = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3"

func newHook(t *testing.T) *hook {
	t.Helper()
	h := &hook{}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		key, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(hookSecret, "whsec_"))
		mac := hmac.New(sha256.New, key)
		_, _ = fmt.Fprintf(mac, "%s.%s.%s", r.Header.Get("webhook-id"), r.Header.Get("webhook-timestamp"), body)
		var m alert.Message
		if signed := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)); err != nil || r.Header.Get("webhook-signature") != signed || json.Unmarshal(body, &m) != nil {
			t.Errorf("%v %v %s", err, r.Header, body)
		}
		if h.fail.Add(-1) >= 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.taken = append(h.taken, m)
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *hook) messages() []alert.Message {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]alert.Message(nil), h.taken...)
}

// told declares the hook as the receiver of a rule.
func (h *hook) told(rule alert.Rule, rules string) string {
	return fmt.Sprintf("alerts: {every: 1s, receivers: [{name: ops, rules: [%s], private_network: true, webhook: {url: %s/hook, secret: %s}}], rules: {%s}}\n",
		rule, h.URL, hookSecret, rules)
}

// R29: a threshold of a budget sends one message, whatever restarts and however many replicas look; the next threshold
// sends the next.
func TestAThresholdOfABudgetIsToldOnce(t *testing.T) {
	provider := newProvider(t)
	cost := nanoOf(t, run(t, yaml(provider.URL, "good")).ask(http.MethodPost, "/v1/chat/completions", hello))
	_, address, _ := postgres(t)
	for name, shared := range map[string]func(*Settings){"SQLite": nil, "two replicas on PostgreSQL": onPostgres(address)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHook(t)
			h.fail.Store(1) // the first try fails, so that the message waits while a gateway ends
			budget := fmt.Sprintf("{name: good, budgets: [{period: month, usd: %d.%09d, alert_at: [0.3, 0.8], on_exceed: alert}], ", 10*cost/1e9, 10*cost%1e9)
			file := strings.Replace(yaml(provider.URL, "good"), "{name: good, ", budget, 1) + h.told(alert.Budget, "")
			first := run(t, file, func(s *Settings) {
				if shared != nil {
					shared(s)
				}
			})
			ask := func(r *running, times int) {
				t.Helper()
				for range times {
					if got := r.ask(http.MethodPost, "/v1/chat/completions", hello); got.status != http.StatusOK {
						t.Fatalf("%d %s", got.status, got.body)
					}
				}
			}
			again := func(s *Settings) { // a restart on the same data; on PostgreSQL it is another replica
				if shared != nil {
					shared(s)
				} else {
					s.DataDir = first.settings.DataDir
				}
			}
			ask(first, 8)
			eventually(t, "the first try has failed", func() bool { return h.fail.Load() <= 0 })
			var second *running
			if shared == nil {
				if err := first.Stop(); err != nil {
					t.Fatal(err)
				}
				second = run(t, file, again)
			} else {
				second = run(t, file, again)
			}
			eventually(t, "the message is delivered", func() bool { return len(h.messages()) > 0 })
			ask(second, 2)
			eventually(t, "the budget is used up", func() bool { return len(h.messages()) > 1 })
			got := h.messages()
			if len(got) != 2 || got[0].Event != "alert.opened" || !strings.Contains(got[0].Title, `Model "good" has used 80 % of its monthly budget`) ||
				got[1].Event != "alert.raised" || !strings.Contains(got[1].Title, "100 %") || got[1].Episode.ID != got[0].Episode.ID {
				t.Errorf("%+v", got)
			}
		})
	}
}

// A provider that is down is told, and its recovery too, with how long it took. The gateway shows both.
func TestAProviderThatIsDownIsToldAndItsRecoveryToo(t *testing.T) {
	var down atomic.Bool
	well := newProvider(t)
	ill := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if down.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		well.ServeHTTP(w, r)
	}))
	t.Cleanup(ill.Close)
	h := newHook(t)
	r := run(t, twoProviders(ill.URL)+h.told(alert.ProviderDown, "provider_down: {after: 1s}"))
	ask := func() {
		t.Helper()
		if got := r.ask(http.MethodPost, "/v1/chat/completions", chat("both")); got.status != http.StatusOK {
			t.Fatalf("%d %s", got.status, got.body)
		}
	}
	ask()
	down.Store(true)
	eventually(t, "it is told", func() bool { ask(); return len(h.messages()) > 0 })
	if m := h.messages()[0]; m.Event != "alert.opened" || m.Subject != "alpha" || m.Title != `Provider "alpha" is down` {
		t.Errorf("%+v", m)
	}
	if metrics := send(t, http.MethodGet, r.url+"/metrics", "").body; !strings.Contains(metrics, "shareai_alert_deliveries_total 1") {
		t.Errorf("the metrics do not know of it:\n%s", metrics)
	}
	eventually(t, "the metrics show what is open", func() bool {
		return strings.Contains(send(t, http.MethodGet, r.url+"/metrics", "").body, `shareai_alerts_open{rule="provider_down"} 1`)
	})
	down.Store(false)
	eventually(t, "its end is told", func() bool { ask(); return len(h.messages()) > 1 })
	got := h.messages()
	if m := got[1]; len(got) != 2 || m.Event != "alert.ended" || m.Episode.Seconds < 1 || !strings.Contains(m.Text, "It lasted") || m.Episode.ID != got[0].Episode.ID {
		t.Errorf("%+v", got)
	}
}
