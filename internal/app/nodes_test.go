package app

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"shareai/internal/catalog"
	"shareai/internal/control"
	"shareai/internal/enrol"
	"shareai/internal/tunnel"
)

const nodeFile = `
organizations:
  - name: acme
    projects:
      - name: app
        keys: [{name: main, secret: ` + apiKey + `}]
  - name: rival
    projects:
      - name: app
        keys: [{name: main, secret: ` + rivalKey + `}]
providers:
  - {name: alpha, dialect: simulated}
models:
  - name: tiny
    deployments: [{provider: alpha, model: tiny}]
policies:
  - {name: own-first, strategy: order, order: ["node:*", alpha]}
default_policy: own-first
`

const rivalKey = "sk-shareai-test-rival-0123456789"

// laptop is a node's end of the link with an engine that the test writes.
type laptop struct {
	id    string
	ended chan error // what the dialer came to
	stop  context.CancelFunc
}

// enrolled makes a node of acme and lets it serve.
func enrolled(t *testing.T, r *running, engine http.HandlerFunc, models ...catalog.NodeModel) *laptop {
	t.Helper()
	settings := r.settings
	local, err := OpenLocal(t.Context(), settings)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = local.Close() }()
	token, err := local.Control.CreateNodeToken(t.Context(), control.NodeTokenRequest{Organization: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	request := enrol.Request{Token: token.Secret.Reveal(), Name: "laptop"}
	request.Sign(private)
	body, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	got := send(t, http.MethodPost, r.url+enrol.Path, string(body))
	if got.status != http.StatusCreated {
		t.Fatalf("enrolment: %d %s", got.status, got.body)
	}
	var answer enrol.Answer
	if err := json.Unmarshal([]byte(got.body), &answer); err != nil {
		t.Fatal(err)
	}
	board := &tunnel.Board{}
	board.Update(func(s *tunnel.State) {
		s.Capacity = 4
		s.Advertised = catalog.Advertised{AgentVersion: "test", Models: models}
	})
	dialer, err := tunnel.NewDialer(tunnel.DialerOptions{
		Gateways: []string{r.url}, Board: board, Engine: engine, Log: r.log.logger(),
		Identity: tunnel.Identity{Node: answer.NodeID, Key: answer.KeyID, Private: private, Audience: answer.Audience},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	m := &laptop{id: answer.NodeID, ended: make(chan error, 1), stop: cancel}
	go func() { m.ended <- dialer.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if m.ended != nil {
			if err := <-m.ended; err != nil {
				t.Errorf("the agent ended: %v", err)
			}
		}
	})
	return m
}

// becomes asks until the answer is the wanted one.
func (r *running) becomes(what string, ask func() answer, good func(answer) bool) answer {
	r.t.Helper()
	end := time.Now().Add(limit)
	for {
		a := ask()
		if good(a) {
			return a
		}
		if time.Now().After(end) {
			r.t.Fatalf("%s: still %d %s", what, a.status, a.body)
		}
		<-time.After(10 * time.Millisecond)
	}
}

func says(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Header.Get("Authorization") != "" || !bytes.Contains(body, []byte(`"model":"tiny:latest"`)) || r.URL.Path != "/v1/chat/completions" {
			http.Error(w, "wrong request", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"model":"tiny:latest","choices":[{"index":0,"message":{"role":"assistant","content":"`+text+`"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2}}`)
	}
}

const askTiny = `{"model":"tiny","messages":[{"role":"user","content":"hi"}]}`

// R19, R21, R23: a machine that dialled out serves the models of its organization, and nobody else's; when it is
// revoked it is gone within two seconds, and what it served is served elsewhere.
func TestANodeServesItsOrganization(t *testing.T) {
	r := run(t, nodeFile)
	m := enrolled(t, r, says("from the node"),
		catalog.NodeModel{ID: "tiny:latest", Name: "tiny", Engine: "ollama"}, catalog.NodeModel{ID: "own", Name: "own", Engine: "ollama"})
	ask := func() answer { return r.ask(http.MethodPost, "/v1/chat/completions", askTiny) }
	got := r.becomes("the node answers", ask, func(a answer) bool {
		return strings.HasPrefix(a.header.Get("X-Shareai-Provider"), "node:")
	})
	if got.status != http.StatusOK || !strings.Contains(got.body, "from the node") || got.header.Get("X-Shareai-Deployment") != "node:laptop/tiny:latest" {
		t.Errorf("%d %v %s", got.status, got.header, got.body)
	}
	if cost := got.header.Get("X-Shareai-Cost"); cost != "0" {
		t.Errorf("it cost %s", cost)
	}
	mine := r.ask(http.MethodGet, "/v1/models", "")
	theirs := send(t, http.MethodGet, r.url+"/v1/models", "", "Authorization", "Bearer "+rivalKey)
	if !strings.Contains(mine.body, `"id":"own"`) || strings.Contains(theirs.body, `"id":"own"`) {
		t.Errorf("own models: %s\nanother organization's: %s", mine.body, theirs.body)
	}
	if other := send(t, http.MethodPost, r.url+"/v1/chat/completions", askTiny, "Authorization", "Bearer "+rivalKey); other.header.Get("X-Shareai-Provider") != "alpha" {
		t.Errorf("another organization was answered by %v", other.header)
	}

	local, err := OpenLocal(t.Context(), r.settings)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = local.Close() }()
	if _, err := local.Control.RevokeNode(t.Context(), m.id, control.NodeFilter{}); err != nil {
		t.Fatal(err)
	}
	at := time.Now()
	r.becomes("the node is shut out", ask, func(a answer) bool { return a.header.Get("X-Shareai-Provider") == "alpha" })
	select {
	case err = <-m.ended:
	case <-time.After(limit):
		t.Fatal("the agent goes on")
	}
	if !errors.Is(err, tunnel.ErrRevoked) {
		t.Errorf("the agent ended with %v", err)
	}
	m.ended = nil
	t.Logf("revoked after %v", time.Since(at))
}

// A node that dies in the middle of a stream is a provider that breaks: the stream is completed elsewhere.
func TestANodeDiesInMidStream(t *testing.T) {
	r := run(t, nodeFile)
	engine := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, `data: {"choices":[{"index":0,"delta":{"role":"assistant","content":"half a "}}]}`+"\n\n")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	enrolled(t, r, engine, catalog.NodeModel{ID: "tiny:latest", Name: "tiny", Engine: "ollama"})
	got := r.becomes("the stream begins at the node", func() answer {
		return r.ask(http.MethodPost, "/v1/chat/completions", `{"model":"tiny","stream":true,"messages":[{"role":"user","content":"hi"}]}`)
	}, func(a answer) bool { return strings.Contains(a.body, "half a ") })
	clean := strings.Contains(got.body, "[DONE]")
	honest := strings.Contains(got.body, `"error"`)
	if clean == honest {
		t.Errorf("neither whole nor an honest error:\n%s", got.body)
	}
}

// A node says at once that it is busy, and the request goes on without harm to its circuit.
func TestABusyNode(t *testing.T) {
	r := run(t, nodeFile)
	busy := make(chan struct{}, 100)
	engine := func(w http.ResponseWriter, _ *http.Request) {
		busy <- struct{}{}
		w.Header().Set(tunnel.HeaderBusy, "1")
		w.WriteHeader(http.StatusTooManyRequests)
	}
	enrolled(t, r, engine, catalog.NodeModel{ID: "tiny:latest", Name: "tiny", Engine: "ollama"})
	r.becomes("the node is asked", func() answer { return r.ask(http.MethodPost, "/v1/chat/completions", askTiny) },
		func(answer) bool { return len(busy) > 0 })
	before := len(busy)
	for range 12 { // more than open a circuit
		if a := r.ask(http.MethodPost, "/v1/chat/completions", askTiny); a.status != http.StatusOK || a.header.Get("X-Shareai-Provider") != "alpha" || a.header.Get("X-Shareai-Attempts") != "2" {
			t.Fatalf("%d %v", a.status, a.header)
		}
	}
	if got := len(busy) - before; got != 12 {
		t.Errorf("the node was asked %d times by 12 requests", got)
	}
}
