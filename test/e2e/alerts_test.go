package e2e

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
	"sync/atomic"
	"testing"
	"time"
)

const alertSecret = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3"

// alerted is a webhook as it came, verified.
type alerted struct {
	ID, Event, Rule, Title string
	Episode                struct {
		ID      string
		Seconds int64 `json:"lasted_seconds"`
	}
}

// alertHook takes signed webhooks; while refuse is set it answers 503.
func alertHook(t *testing.T) (url string, refuse *atomic.Bool, taken chan alerted) {
	t.Helper()
	refuse, taken = &atomic.Bool{}, make(chan alerted, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		key, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(alertSecret, "whsec_"))
		mac := hmac.New(sha256.New, key)
		_, _ = fmt.Fprintf(mac, "%s.%s.%s", r.Header.Get("webhook-id"), r.Header.Get("webhook-timestamp"), body)
		var a alerted
		if want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)); err != nil || json.Unmarshal(body, &a) != nil || r.Header.Get("webhook-signature") != want {
			t.Errorf("%v: %v %s", err, r.Header, body)
		}
		if refuse.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		taken <- a
	}))
	t.Cleanup(server.Close)
	return server.URL, refuse, taken
}

func await[T any](t *testing.T, what string, from chan T) (got T) {
	t.Helper()
	select {
	case got = <-from:
	case <-time.After(60 * time.Second):
		t.Fatalf("not in time: %s", what)
	}
	return got
}

// R29: a budget at 80 % sends one signed webhook, also when the receiver is away, the gateway is killed meanwhile and
// starts again; `shareai alerts` tells the same story.
func TestAnAlertSurvivesItsGateway(t *testing.T) {
	slow(t)
	url, refuse, taken := alertHook(t)
	config := configure(t, "", fmt.Sprintf(`
providers: [{name: sim, dialect: simulated, simulated: {tokens: 6}}]
models:
  - name: words
    deployments: [{provider: sim, model: words, price: {input: 0, output: 1000}}]
    budgets: [{period: month, usd: 0.06, alert_at: [0.8], on_exceed: alert}]
alerts:
  every: 1s
  receivers: [{name: ops, private_network: true, webhook: {url: %s/hook?token=T0KEN-0123, secret: %s}}]
`, url, alertSecret))
	g := serve(t, config)
	ask8 := func(times int) {
		t.Helper()
		for range times {
			if a, err := ask(t.Context(), http.DefaultClient, g.URL, `{"model":"words","messages":[{"role":"user","content":"hi"}]}`); err != nil || a.status != http.StatusOK {
				t.Fatalf("%v %+v", err, a)
			}
		}
	}
	if out := g.command(t, "alerts", "test", "ops"); !strings.Contains(out, `The webhook "ops" (127.0.0.1:`) || strings.Contains(out, "T0KEN") {
		t.Errorf("%s", out)
	}
	if a := await(t, "the test message", taken); a.Event != "alert.test" {
		t.Errorf("%+v", a)
	}
	refuse.Store(true)
	ask8(8)
	end := time.After(30 * time.Second)
	for out := ""; !strings.Contains(out, "it answered 503"); out = g.command(t, "alerts") {
		select {
		case <-end:
			t.Fatalf("the message was not tried:\n%s", out)
		case <-time.After(100 * time.Millisecond):
		}
	}
	g.kill()
	refuse.Store(false)
	g = serve(t, config)
	first := await(t, "the message of before", taken)
	if first.Event != "alert.opened" || first.Rule != "budget" || !strings.Contains(first.Title, "80 %") {
		t.Errorf("%+v", first)
	}
	ask8(2)
	if next := await(t, "the budget is used up", taken); next.Event != "alert.raised" || next.Episode.ID != first.Episode.ID || next.ID == first.ID {
		t.Errorf("%+v after %+v", next, first)
	}
	if len(taken) > 0 {
		t.Errorf("one more: %+v", <-taken)
	}
	if out := g.command(t, "alerts"); !strings.Contains(out, "budget") || !strings.Contains(out, "100 %") || strings.Contains(out, "T0KEN") {
		t.Errorf("%s", out)
	}
}
