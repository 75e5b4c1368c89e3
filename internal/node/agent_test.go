package node

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"shareai/internal/account"
	"shareai/internal/catalog"
	"shareai/internal/enrol"
	"shareai/internal/tunnel"
)

// gateway is a real hub, behind an enrolment that keeps to the protocol of package enrol.
type gateway struct {
	*httptest.Server
	hub *tunnel.Hub

	mu       sync.Mutex
	tokens   map[string]string // what was made, to the public key that used it
	keys     map[string]ed25519.PublicKey
	revoked  bool
	refusal  string // code of the next answer
	asked    []enrol.Request
	reported catalog.Advertised
}

func (g *gateway) NodeKey(_, key string) (ed25519.PublicKey, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch public, ok := g.keys[key]; {
	case g.revoked:
		return nil, tunnel.ErrRevokedNode
	case !ok:
		return nil, tunnel.ErrUnknownNode
	default:
		return public, nil
	}
}

func openGateway(t *testing.T) *gateway {
	t.Helper()
	g := &gateway{tokens: map[string]string{}, keys: map[string]ed25519.PublicKey{}}
	hub, err := tunnel.NewHub(tunnel.HubOptions{
		Keys: g, Audience: "inst_test", Replica: "r1",
		Rekey: func(_ context.Context, _ string, key ed25519.PublicKey) (string, error) {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.keys["nkey_2"] = key
			return "nkey_2", nil
		},
		Advertised: func(_ context.Context, _ string, a catalog.Advertised) error {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.reported = a
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	g.hub = hub
	mux := http.NewServeMux()
	mux.Handle("GET "+tunnel.PathTunnel, hub)
	mux.HandleFunc("POST "+enrol.Path, g.enrol)
	g.Server = httptest.NewServer(mux)
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		hub.Run(ctx)
	}()
	t.Cleanup(func() {
		ended, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
		cancel()
		_ = hub.Close(ended)
		stop()
		<-done
		g.CloseClientConnections()
		g.Server.Close()
	})
	return g
}

// enrol answers as package enrol says.
func (g *gateway) enrol(w http.ResponseWriter, r *http.Request) {
	var request enrol.Request
	decoder := json.NewDecoder(io.LimitReader(r.Body, enrol.MaxRequest))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(&request)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asked = append(g.asked, request)
	used, known := g.tokens[request.Token]
	code, status := g.refusal, http.StatusUnauthorized
	g.refusal = ""
	switch {
	case code == "too_many_enrolments":
		status = http.StatusTooManyRequests
		w.Header().Set("Retry-After", "1")
	case code != "":
		status = http.StatusConflict
	case err != nil || !enrol.IsToken(request.Token) || !known:
		code = "enrolment_token_unknown"
	case request.Verify() != nil:
		code = "invalid_proof"
	case used != "" && used != string(request.PublicKey):
		code = "enrolment_token_used"
	}
	w.Header().Set("Content-Type", "application/json")
	if code != "" {
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, `{"error":{"code":%q,"message":"This token is refused: %s."}}`, code, code)
		return
	}
	g.tokens[request.Token] = string(request.PublicKey)
	g.keys["nkey_1"] = request.PublicKey
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(enrol.Answer{
		NodeID: "node_1", KeyID: "nkey_1", Name: request.Name, Organization: "acme", Audience: "inst_test", GatewayURLs: []string{},
	})
}

func (g *gateway) token() account.Secret {
	token := enrol.GenerateToken()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.tokens[token.Reveal()] = ""
	return token
}

// ask sends a request to the node.
func (g *gateway) ask(ctx context.Context, t testing.TB, path, body string) (*http.Response, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://node"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	return g.hub.Transport("node_1").RoundTrip(r)
}

// running is an agent in the background.
type running struct {
	t     *testing.T
	dir   string
	owner *Owner
	stop  context.CancelFunc
	ended chan error
}

// shortDir is a folder whose path leaves room for a socket.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "n") //nolint:usetesting // the test's own folder has a path that is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func environmentless(string) (string, bool) { return "", false }

// begin starts an agent.
func begin(t *testing.T, s Settings) *running {
	t.Helper()
	if s.DataDir == "" {
		s.DataDir = shortDir(t)
	}
	s.Version = "1.2.3"
	if s.Discover == "" {
		s.Discover = DiscoverOff
	}
	if s.pace == (pace{}) {
		s.pace = pace{scan: 20 * time.Millisecond, sense: 10 * time.Millisecond, step: 10 * time.Millisecond}
	}
	s.listeners = func(context.Context) ([]netip.AddrPort, error) { return nil, nil }
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	r := &running{t: t, dir: s.DataDir, owner: NewOwner(s.DataDir), stop: stop, ended: make(chan error, 1)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.ended <- Run(ctx, s, environmentless)
	}()
	t.Cleanup(func() {
		stop()
		<-done
		r.owner.Close()
	})
	return r
}

// end waits for the agent's end.
func (r *running) end() error {
	r.t.Helper()
	select {
	case err := <-r.ended:
		return err
	case <-time.After(20 * time.Second):
		r.t.Fatal("the agent does not end")
		return nil
	}
}

// await waits until the agent's status is as it should be.
func (r *running) await(what string, holds func(Status) bool) Status {
	r.t.Helper()
	var last Status
	wait(r.t, what, func() bool {
		s, err := r.owner.Status(r.t.Context())
		if err == nil {
			last = s
		}
		return err == nil && holds(s)
	})
	return last
}

func serving(s Status) bool { return s.Phase == Serving && len(s.Links) > 0 && s.Load.Capacity > 0 }

// stove is an engine that streams until it is told to end.
func stove(t *testing.T) (engine *httptest.Server, end chan struct{}) {
	t.Helper()
	end = make(chan struct{})
	engine = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch {
		case r.URL.Path == "/v1/models":
			_, _ = io.WriteString(w, `{"data":[{"id":"tiny"}]}`)
		case strings.Contains(string(body), `"stream":true`):
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = fmt.Fprintf(w, chunk, "null")
			_ = http.NewResponseController(w).Flush()
			select {
			case <-end:
				_, _ = fmt.Fprintf(w, chunk, `"stop"`)
				_, _ = io.WriteString(w, "data: [DONE]\n\n")
			case <-r.Context().Done():
			}
		case r.URL.Path == "/v1/chat/completions":
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"choices":[{"index":0,"message":{"content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":60,"completion_tokens":40}}`)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(engine.Close)
	return engine, end
}

// A machine becomes a node, serves, and remembers who it is.
func TestAgent(t *testing.T) {
	g := openGateway(t)
	engine, _ := stove(t)
	token := g.token()
	s := Settings{
		Gateway: g.URL + "/v1", Token: token, Name: "laptop", DataDir: shortDir(t), Engines: []EngineAddress{{URL: engine.URL}}, Concurrency: 3, DailyTokens: 150,
	}
	r := begin(t, s)
	status := r.await("it serves", serving)
	if status.Name != "laptop" || status.Organization != "acme" || status.Load.Capacity != 3 || status.Engines[0].Models[0].ID != "tiny" {
		t.Errorf("%+v", status)
	}
	wait(t, "the gateway knows", func() bool { v := g.hub.Look("node_1"); return v.Linked && v.Capacity == 3 })
	response, err := g.ask(t.Context(), t, "/v1/chat/completions", asked)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(response.Body)
	_ = response.Body.Close()
	if err != nil || response.StatusCode != 200 || !strings.Contains(string(text), "hi") {
		t.Errorf("%v %d %s", err, response.StatusCode, text)
	}
	r.await("its tokens are counted", func(s Status) bool { return s.Tokens.Today == 100 && s.Tokens.Limit == 150 })

	// Nobody else can read what is in the folder, and the token is not in it.
	err = filepath.WalkDir(r.dir, func(path string, entry fs.DirEntry, err error) error {
		info, errInfo := entry.Info()
		if err := errors.Join(err, errInfo); err != nil {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has the mode %v", path, info.Mode())
		}
		if info.Mode().IsRegular() {
			if text, _ := os.ReadFile(path); strings.Contains(string(text), token.Reveal()) {
				t.Errorf("%s has the token", path)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}

	r.stop()
	if err := r.end(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	s.Gateway, s.Token, s.Name = "", account.Secret{}, ""
	r = begin(t, s)
	r.await("it serves again", serving)
	r.await("the tokens of today are known", func(s Status) bool { return s.Tokens.Today == 100 })
	wait(t, "the gateway knows", func() bool { v := g.hub.Look("node_1"); return v.Linked && v.Capacity > 0 })
	if response, err = g.ask(t.Context(), t, "/v1/chat/completions", asked); err != nil || response.StatusCode != 200 {
		t.Fatalf("%v %v", err, response)
	}
	_ = response.Body.Close()
	r.await("the tokens are used up", func(s Status) bool { return s.Phase == Resting && s.Why == NoTokens && s.Load.Capacity == 0 })
	if response, err = g.ask(t.Context(), t, "/v1/chat/completions", asked); !errors.Is(err, tunnel.ErrBusy) {
		t.Fatalf("%v %v", err, response)
	}
}

// The owner's brake: what runs ends within the grace or at once, and nothing begins.
func TestPause(t *testing.T) {
	g := openGateway(t)
	engine, end := stove(t)
	s := Settings{Gateway: g.URL, Token: g.token(), DataDir: shortDir(t), Engines: []EngineAddress{{URL: engine.URL}}, Rules: Rules{Grace: time.Hour}}
	r := begin(t, s)
	r.await("it serves", serving)
	wait(t, "the gateway knows", func() bool { v := g.hub.Look("node_1"); return v.Linked && v.Capacity > 0 })
	response, err := g.ask(t.Context(), t, "/v1/chat/completions", streaming)
	if err != nil {
		t.Fatal(err)
	}
	if status, err := r.owner.Pause(t.Context()); err != nil || status.Phase != Leaving || status.Why != Paused || status.Until == nil {
		t.Errorf("%v %+v", err, status)
	}
	wait(t, "the gateway knows", func() bool { return g.hub.Look("node_1").Capacity == 0 })
	close(end)
	if text, err := io.ReadAll(response.Body); err != nil || !strings.HasSuffix(string(text), "[DONE]\n\n") {
		t.Errorf("%v %s", err, text)
	}
	_ = response.Body.Close()
	r.await("it rests", func(s Status) bool { return s.Phase == Resting && s.Why == Paused })

	r.stop()
	_ = r.end()
	r = begin(t, s)
	r.await("it is paused after a restart", func(s Status) bool { return s.Why == Paused })
	if status, err := r.owner.Resume(t.Context()); err != nil || status.Why == Paused {
		t.Errorf("%v %+v", err, status)
	}
	r.await("it serves again", serving)
}

func TestPauseAtOnce(t *testing.T) {
	g := openGateway(t)
	engine, _ := stove(t)
	r := begin(t, Settings{Gateway: g.URL, Token: g.token(), Engines: []EngineAddress{{URL: engine.URL}}, Rules: Rules{Grace: time.Hour}})
	r.await("it serves", serving)
	wait(t, "the gateway knows", func() bool { v := g.hub.Look("node_1"); return v.Linked && v.Capacity > 0 })
	response, err := g.ask(t.Context(), t, "/v1/chat/completions", streaming)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if _, err := r.owner.PauseAtOnce(t.Context()); err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(response.Body); err == nil {
		t.Errorf("the stream ended cleanly: %s", text)
	}
}

// fakeSensors say what the test says.
type fakeSensors struct {
	mu  sync.Mutex
	now Readings
}

func (f *fakeSensors) Read(context.Context, Work) Readings {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

func (f *fakeSensors) set(r Readings) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = r
}

// A user comes back: streams are cut when the grace is over, and the gateway knows at once.
func TestIdleModeOfTheAgent(t *testing.T) {
	g := openGateway(t)
	engine, _ := stove(t)
	sensors := &fakeSensors{now: quiet()}
	r := begin(t, Settings{
		Gateway: g.URL, Token: g.token(), Engines: []EngineAddress{{URL: engine.URL}}, Sensors: sensors,
		Rules: Rules{Mode: Idle, After: 50 * time.Millisecond, Grace: 100 * time.Millisecond},
	})
	r.await("it serves", serving)
	wait(t, "the gateway knows", func() bool { v := g.hub.Look("node_1"); return v.Linked && v.Capacity > 0 })
	response, err := g.ask(t.Context(), t, "/v1/chat/completions", streaming)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	back := quiet()
	back.Away = 0
	sensors.set(back)
	if text, err := io.ReadAll(response.Body); err == nil {
		t.Errorf("the stream ended cleanly: %s", text)
	}
	r.await("it rests", func(s Status) bool { return s.Phase == Resting && s.Why == InUse && *s.Machine.Away == 0 })
	wait(t, "the gateway knows why", func() bool { return g.hub.Look("node_1").Capacity == 0 })
	sensors.set(quiet())
	r.await("it serves again", serving)
}

// The machine's own engine comes and goes.
func TestAnEngineDiesAndComesBack(t *testing.T) {
	g := openGateway(t)
	engine, _ := stove(t)
	r := begin(t, Settings{Gateway: g.URL, Token: g.token(), Engines: []EngineAddress{{URL: engine.URL}}})
	r.await("it serves", serving)
	wait(t, "the gateway knows", func() bool { v := g.hub.Look("node_1"); return v.Linked && v.Capacity > 0 })
	response, err := g.ask(t.Context(), t, "/v1/chat/completions", streaming)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	at := engine.Listener.Addr().String()
	_ = engine.Listener.Close()
	engine.CloseClientConnections()
	if text, err := io.ReadAll(response.Body); err == nil {
		t.Errorf("the stream ended cleanly: %s", text)
	}
	r.await("it notices", func(s Status) bool { return s.Why == NoEngine && len(s.Missing) == 1 })
	l, err := net.Listen("tcp", at)
	if err != nil {
		t.Skipf("the port was taken by somebody else: %v", err)
	}
	again := &http.Server{Handler: engine.Config.Handler}
	go func() { _ = again.Serve(l) }()
	defer func() { _ = again.Close() }()
	r.await("it serves again", serving)
}

func TestTheAgentIsRefused(t *testing.T) {
	g := openGateway(t)
	engine, _ := stove(t)
	used := g.token()
	begin(t, Settings{Gateway: g.URL, Token: used, Engines: []EngineAddress{{URL: engine.URL}}}).await("it serves", serving)
	closed := httptest.NewServer(nil)
	closed.Close()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	for name, c := range map[string]struct {
		s             Settings
		message, hint string
	}{
		"a used token":    {Settings{Gateway: g.URL, Token: used}, "enrolment_token_used", "new token"},
		"no token at all": {Settings{Gateway: g.URL, Token: account.NewSecret("nonsense")}, "enrolment_token_unknown", "new token"},
		"without a token": {Settings{Gateway: g.URL}, "no token is given", "shareai nodes token"},
		"without gateway": {Settings{Token: used}, "no gateway is given", "--gateway"},
		"nobody there":    {Settings{Gateway: closed.URL, Token: used}, "can not be reached", "--ca-file"},
		"no gateway":      {Settings{Gateway: plain.URL, Token: used}, "does not answer like a ShareAI gateway", "without /v1"},
		"no URL":          {Settings{Gateway: "gateway", Token: used}, "--gateway", "https://"},
		"bad engine":      {Settings{Gateway: g.URL, Token: used, Engines: []EngineAddress{{URL: "x"}}}, "--engine x", "http://127.0.0.1:11434"},
	} {
		if len(c.s.Engines) == 0 {
			c.s.Engines = []EngineAddress{{URL: engine.URL}}
		}
		err := begin(t, c.s).end()
		var p *Problem
		if !errors.As(err, &p) || !strings.Contains(p.Message, c.message) || !strings.Contains(p.Hint, c.hint) || strings.Contains(p.Message+p.Hint, used.Reveal()) {
			t.Errorf("%s: %v %+v", name, err, p)
		}
	}
}

func TestEnrolmentIsRepeated(t *testing.T) {
	g := openGateway(t)
	engine, _ := stove(t)
	g.refusal = "too_many_enrolments"
	s := Settings{Gateway: g.URL, Token: g.token(), DataDir: shortDir(t), Engines: []EngineAddress{{URL: engine.URL}}}
	r := begin(t, s)
	r.await("it serves after it has waited", serving)
	r.stop()
	_ = r.end()

	// The answer was lost: the same key gets it again.
	first := g.asked[len(g.asked)-1]
	dir := folder(s.DataDir)
	who, err := loadIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(dir.write(enrolFile, enrolment{Private: who.Private}), dir.remove(identityFile)); err != nil {
		t.Fatal(err)
	}
	r = begin(t, s)
	r.await("it is the same node", serving)
	if last := g.asked[len(g.asked)-1]; string(last.PublicKey) != string(first.PublicKey) {
		t.Error("another key was sent")
	}
	r.stop()
	_ = r.end()

	// The key is another node's: the agent makes another one.
	if err := errors.Join(dir.write(enrolFile, enrolment{Private: who.Private}), dir.remove(identityFile)); err != nil {
		t.Fatal(err)
	}
	g.mu.Lock()
	g.refusal = "node_key_in_use"
	g.mu.Unlock()
	s.Token = g.token()
	begin(t, s).await("it serves with another key", serving)
	if last := g.asked[len(g.asked)-1]; string(last.PublicKey) == string(first.PublicKey) {
		t.Error("the same key was sent")
	}
}

func TestRevokedAndRotated(t *testing.T) {
	g := openGateway(t)
	engine, _ := stove(t)
	r := begin(t, Settings{Gateway: g.URL, Token: g.token(), Engines: []EngineAddress{{URL: engine.URL}}})
	r.await("it serves", serving)
	if _, err := r.owner.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	who, err := loadIdentity(folder(r.dir))
	if err != nil || who.Key != "nkey_2" || !who.Private.Public().(ed25519.PublicKey).Equal(g.keys["nkey_2"]) {
		t.Errorf("%v %+v", err, who)
	}
	r.await("it serves with the new key", serving)

	g.mu.Lock()
	g.revoked = true
	g.mu.Unlock()
	g.hub.Check(t.Context())
	var p *Problem
	if err := r.end(); !errors.As(err, &p) || !strings.Contains(p.Message, "revoked") || !strings.Contains(p.Hint, identityFile) || !p.Final {
		t.Errorf("%v %+v", err, p)
	}
}

func TestOneAgentForEachFolder(t *testing.T) {
	g := openGateway(t)
	engine, _ := stove(t)
	s := Settings{Gateway: g.URL, Token: g.token(), DataDir: shortDir(t), Engines: []EngineAddress{{URL: engine.URL}}}
	r := begin(t, s)
	r.await("it serves", serving)
	if err := begin(t, s).end(); err == nil || !strings.Contains(err.Error(), "an agent is running") {
		t.Errorf("a second one: %v", err)
	}
	r.await("the first one still serves", serving)
	r.stop()
	_ = r.end()
	if _, err := r.owner.Status(t.Context()); err == nil || !strings.Contains(err.Error(), "no agent is running") {
		t.Errorf("nobody there: %v", err)
	}
}

// Stopping lets running requests end, and leaves nothing behind.
func TestStop(t *testing.T) {
	g := openGateway(t)
	engine, end := stove(t)
	s := Settings{Gateway: g.URL, Token: g.token(), DataDir: shortDir(t), Engines: []EngineAddress{{URL: engine.URL}}}
	before := goleak.IgnoreCurrent()
	r := begin(t, s)
	r.await("it serves", serving)
	wait(t, "the gateway knows", func() bool { v := g.hub.Look("node_1"); return v.Linked && v.Capacity > 0 })
	response, err := g.ask(t.Context(), t, "/v1/chat/completions", streaming)
	if err != nil {
		t.Fatal(err)
	}
	r.stop()
	wait(t, "the gateway knows that it leaves", func() bool { v := g.hub.Look("node_1"); return !v.Linked || v.Draining })
	close(end)
	if text, err := io.ReadAll(response.Body); err != nil || !strings.HasSuffix(string(text), "[DONE]\n\n") {
		t.Errorf("%v %s", err, text)
	}
	_ = response.Body.Close()
	if err := r.end(); err != nil {
		t.Error(err)
	}
	r.owner.Close()
	engine.CloseClientConnections()
	g.CloseClientConnections()
	hub := "shareai/internal/tunnel.(*Hub).Run.func"                                                                  // whose goroutines may have begun after the agent's
	if err := goleak.Find(before, goleak.IgnoreAnyFunction(hub+"1"), goleak.IgnoreAnyFunction(hub+"2")); err != nil { // it waits a little
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(s.DataDir, socketFile)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket: %v", err)
	}
}

// No port is opened on the machine: the socket in the folder is all that can be reached.
func TestTheAgentListensNowhere(t *testing.T) {
	g := openGateway(t)
	engine, _ := stove(t)
	before, err := loopbackListeners(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	begin(t, Settings{Gateway: g.URL, Token: g.token(), Engines: []EngineAddress{{URL: engine.URL}}}).await("it serves", serving)
	after, err := ownListeners(t)
	if err != nil {
		t.Skipf("this system does not tell whose listeners there are: %v", err)
	}
	for _, l := range after {
		known := l == place(g.Server) || l == place(engine)
		for _, b := range before {
			known = known || b == l
		}
		if !known {
			t.Errorf("the agent listens at %s", l)
		}
	}
}
