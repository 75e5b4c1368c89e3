package standby

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"shareai/internal/account"
)

// R17: as long as the vendor is well, the stand-by is not noticed.
func TestTheVendorAnswersByteForByte(t *testing.T) {
	r := newRig(t)
	q := r.request(http.MethodPost, chatPath+"?api-version=1&a=%2F", chatBody)
	q.Header.Set("X-Custom", "kept")
	q.Header.Set("Connection", "X-Hop, keep-alive")
	q.Header.Set("X-Hop", "dropped")
	g := r.do(q)
	g.check(t, http.StatusOK, "primary", vendorReply)
	if g.header.Get("X-Vendor") != "1" {
		t.Errorf("head %v", g.header)
	}
	saw := r.vendor.saw()
	for _, want := range []string{"POST " + chatPath + "?api-version=1&a=%2F\n", "Bearer " + vendorKey, "X-Custom: kept", chatBody} {
		if !strings.Contains(saw, want) {
			t.Errorf("the vendor did not get %q:\n%s", want, saw)
		}
	}
	for _, odd := range []string{"X-Hop", "X-Idempotency-Key", "X-Forwarded"} {
		if strings.Contains(saw, odd) {
			t.Errorf("the vendor got %s:\n%s", odd, saw)
		}
	}
	r.ask(chatStream).check(t, http.StatusOK, "primary", wholeStream)
	if n := r.gateway.asked.Load(); n != 0 {
		t.Errorf("the gateway was asked %d times", n)
	}
}

func TestPiecesOfAStreamLeaveAtOnce(t *testing.T) {
	r := newRig(t)
	goOn := make(chan struct{})
	r.vendor.set(func(w http.ResponseWriter, _ *http.Request) {
		events(w, roleEvent+textEvent)
		<-goOn
		events(w, finishEvent+doneEvent)
	})
	response, err := http.DefaultTransport.RoundTrip(r.request(http.MethodPost, chatPath, chatStream))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	first := make([]byte, len(roleEvent+textEvent))
	if _, err := io.ReadFull(response.Body, first); err != nil || string(first) != roleEvent+textEvent {
		t.Errorf("%q, %v", first, err)
	}
	close(goOn)
	if rest, err := io.ReadAll(response.Body); err != nil || string(rest) != finishEvent+doneEvent {
		t.Errorf("%q, %v", rest, err)
	}
}

// faults are the ways in which a vendor fails before its first content.
func faults() map[string]http.HandlerFunc {
	all := map[string]http.HandlerFunc{
		"broken before the head": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"a page with 200":        func(w http.ResponseWriter, _ *http.Request) { reply(w, 200, "text/html", "<html>maintenance</html>") },
		"nothing with 200":       func(w http.ResponseWriter, _ *http.Request) { reply(w, 200, "application/json", "") },
		"half an answer":         func(w http.ResponseWriter, _ *http.Request) { reply(w, 200, "application/json", vendorReply[:50]) },
		"an error with 200": func(w http.ResponseWriter, _ *http.Request) {
			reply(w, 200, "application/json", `{"error":{"message":"x"}}`)
		},
		"silence": func(w http.ResponseWriter, r *http.Request) { hang(w, r, "") },
		"silence after the head": func(w http.ResponseWriter, r *http.Request) {
			_ = http.NewResponseController(w).Flush()
			hang(w, r, "")
		},
		"shorter than announced": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			reply(w, 200, "application/json", vendorReply)
			panic(http.ErrAbortHandler)
		},
		"an error as the first event": func(w http.ResponseWriter, _ *http.Request) { events(w, errorEvent) },
		"an event named error":        func(w http.ResponseWriter, _ *http.Request) { events(w, "event: error\ndata: {}\n\n") },
		"an error after the role":     func(w http.ResponseWriter, _ *http.Request) { events(w, roleEvent+errorEvent+doneEvent) },
		"a stream without content":    func(w http.ResponseWriter, _ *http.Request) { events(w, roleEvent) },
		"[DONE] alone":                func(w http.ResponseWriter, _ *http.Request) { events(w, doneEvent) },
		"cut before content":          func(w http.ResponseWriter, _ *http.Request) { cut(w, roleEvent) },
		"cut inside the first event":  func(w http.ResponseWriter, _ *http.Request) { cut(w, textEvent[:40]) },
		"no first token":              func(w http.ResponseWriter, r *http.Request) { hang(w, r, roleEvent) },
	}
	for _, code := range []int{402, 408, 409, 425, 429, 500, 502, 503, 504, 529} {
		all[fmt.Sprint(code)] = status(code)
	}
	return all
}

// R17: whatever the vendor fails with before its first content, the gateway answers the same request.
func TestTheGatewayTakesOver(t *testing.T) {
	for name, fault := range faults() {
		for mode, c := range map[string]struct{ body, want string }{"unary": {chatBody, ownReply}, "stream": {chatStream, ownStream}} {
			t.Run(name+"/"+mode, func(t *testing.T) {
				t.Parallel()
				r := newRig(t, impatient)
				r.vendor.set(fault)
				g := r.ask(c.body)
				g.check(t, http.StatusOK, "gateway", c.want)
				if g.header.Get("X-Shareai-Provider") != "beta" {
					t.Errorf("head %v", g.header)
				}
				if r.gateway.bodies[0] != c.body || r.vendor.asked.Load() != 1 {
					t.Errorf("the gateway got %s; the vendor was asked %d times", r.gateway.bodies, r.vendor.asked.Load())
				}
			})
		}
	}
	t.Run("no connection", func(t *testing.T) {
		r := newRig(t)
		r.vendor.Close()
		r.ask(chatBody).check(t, http.StatusOK, "gateway", ownReply)
		r.ask(chatStream).check(t, http.StatusOK, "gateway", ownStream)
	})
}

func TestEveryEndpointOfTheGatewayHasTheNet(t *testing.T) {
	r := newRig(t)
	r.vendor.set(status(http.StatusServiceUnavailable))
	q := r.request(http.MethodPost, chatPath, chatBody)
	q.Header.Set("Content-Type", "text/plain") // what curl and some clients say of JSON
	r.do(q).check(t, http.StatusOK, "gateway", ownReply)
	if !strings.Contains(r.gateway.saw(), "Content-Type: application/json") {
		t.Error("the gateway would not take it")
	}
	for _, path := range []string{"/v1/completions", "/v1/embeddings"} {
		r.do(r.request(http.MethodPost, path, chatBody)).check(t, http.StatusOK, "gateway", ownReply)
	}
	for _, path := range []string{"/v1/models", "/v1/models/a%2Fb"} {
		r.do(r.request(http.MethodGet, path, "")).check(t, http.StatusOK, "gateway", `{"object":"list","data":[{"id":"ours"}]}`)
	}
	if got := r.gateway.paths[4]; got != "/v1/models/a%2Fb" {
		t.Errorf("path %s", got)
	}
}

func TestWhatTheClientDidWrongIsReturned(t *testing.T) {
	r := newRig(t)
	for _, code := range []int{400, 401, 403, 404, 413, 422, 302} {
		r.vendor.set(status(code))
		r.ask(chatBody).check(t, code, "primary", fmt.Sprintf(`{"error":{"message":"vendor says %d"}}`, code))
	}
	r.vendor.set(status(http.StatusBadRequest)) // no JSON: nothing that the gateway could be asked
	r.ask(`{"model":`).check(t, http.StatusBadRequest, "primary", `{"error":{"message":"vendor says 400"}}`)
	if r.gateway.asked.Load() != 0 {
		t.Error("the gateway was asked")
	}
}

func TestOtherPathsAreTheVendorsAlone(t *testing.T) {
	r := newRig(t)
	r.vendor.set(func(w http.ResponseWriter, q *http.Request) {
		body, _ := io.ReadAll(q.Body)
		reply(w, http.StatusServiceUnavailable, "text/plain", fmt.Sprint(q.Method, " ", q.RequestURI, " ", len(body)))
	})
	for _, c := range []struct{ method, path, body, want string }{
		{http.MethodGet, "/v1/files?purpose=x", "", "GET /v1/files?purpose=x 0"},
		{http.MethodPost, "/v1/files", strings.Repeat("x", 1<<20), "POST /v1/files 1048576"},
		{http.MethodDelete, "/v1/files/a%20b", "", "DELETE /v1/files/a%20b 0"},
		{http.MethodPost, "/v1/responses", chatBody, fmt.Sprint("POST /v1/responses ", len(chatBody))},
		{http.MethodDelete, "/v1/models/x", "", "DELETE /v1/models/x 0"},
		{http.MethodGet, "/elsewhere", "", "GET /elsewhere 0"},
	} {
		r.do(r.request(c.method, c.path, c.body)).check(t, http.StatusServiceUnavailable, "primary", c.want)
	}
	r.vendor.Close()
	if g := r.do(r.request(http.MethodGet, "/v1/files", "")); g.status != http.StatusBadGateway || !strings.Contains(g.body, "no_answer") {
		t.Errorf("%d %s", g.status, g.body)
	}
	if r.gateway.asked.Load() != 0 {
		t.Error("the gateway was asked")
	}
}

func TestABodyThatIsTooLargeForTheGatewayIsTheVendorsAlone(t *testing.T) {
	r := newRig(t)
	r.vendor.set(func(w http.ResponseWriter, q *http.Request) {
		n, _ := io.Copy(io.Discard, q.Body)
		reply(w, http.StatusServiceUnavailable, "text/plain", fmt.Sprint(n))
	})
	r.ask(`{"model":"m","prompt":"`+strings.Repeat("x", maxBody)+`"}`).check(t, http.StatusServiceUnavailable, "primary", fmt.Sprint(maxBody+25))
}

func TestACompressedAnswerIsRelayed(t *testing.T) {
	r := newRig(t)
	r.vendor.set(func(w http.ResponseWriter, q *http.Request) {
		if q.Header.Get("Accept-Encoding") != "identity" {
			t.Errorf("it was asked for %q", q.Header.Get("Accept-Encoding"))
		}
		w.Header().Set("Content-Encoding", "br")
		reply(w, http.StatusOK, "application/json", "\x01\x02")
	})
	r.ask(chatBody).check(t, http.StatusOK, "primary", "\x01\x02")
}

// After the first content nothing can be taken back, and half an answer must not look whole.
func TestAStreamThatBreaksIsCut(t *testing.T) {
	begun := roleEvent + textEvent
	for name, c := range map[string]struct {
		vendor http.HandlerFunc
		want   string
		whole  bool
	}{
		"cut":                  {func(w http.ResponseWriter, _ *http.Request) { cut(w, begun) }, begun, false},
		"cut inside an event":  {func(w http.ResponseWriter, _ *http.Request) { cut(w, begun+textEvent[:30]) }, begun + textEvent[:30], false},
		"cut after the finish": {func(w http.ResponseWriter, _ *http.Request) { cut(w, begun+finishEvent) }, begun + finishEvent, true},
		"ended unfinished":     {func(w http.ResponseWriter, _ *http.Request) { events(w, begun) }, begun, false},
		"stalled":              {func(w http.ResponseWriter, r *http.Request) { hang(w, r, begun) }, begun, false},
		"without [DONE]":       {func(w http.ResponseWriter, _ *http.Request) { events(w, begun+finishEvent) }, begun + finishEvent, true},
		"without finish":       {func(w http.ResponseWriter, _ *http.Request) { events(w, begun+doneEvent) }, begun + doneEvent, true},
		"an honest error":      {func(w http.ResponseWriter, _ *http.Request) { events(w, begun+errorEvent) }, begun + errorEvent, true},
		"no blank line at end": {func(w http.ResponseWriter, _ *http.Request) { events(w, begun+finishEvent+"data: [DONE]") }, begun + finishEvent + "data: [DONE]", true},
		"something malformed":  {func(w http.ResponseWriter, _ *http.Request) { events(w, begun+"data: {\n\n"+finishEvent) }, begun + "data: {\n\n" + finishEvent, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, impatient)
			r.vendor.set(c.vendor)
			g := r.ask(chatStream)
			if g.way != "primary" || g.body != c.want || (g.err == nil) != c.whole {
				t.Errorf("by %s, %v: %q, want %q", g.way, g.err, g.body, c.want)
			}
			if r.gateway.asked.Load() != 0 {
				t.Error("the gateway was asked")
			}
		})
	}
}

func TestTheGatewaysStreamIsCutTheSameWay(t *testing.T) {
	r := newRig(t)
	r.vendor.Close()
	r.gateway.set(func(w http.ResponseWriter, _ *http.Request) { cut(w, textEvent) })
	if g := r.ask(chatStream); g.err == nil || g.way != "gateway" || g.body != textEvent {
		t.Errorf("by %s, %v: %q", g.way, g.err, g.body)
	}
}

func TestWhenBothFailTheVendorsWordCounts(t *testing.T) {
	for _, c := range []struct {
		name            string
		vendor, gateway http.HandlerFunc
		status          int
		way, body       string
	}{
		{"both say so", status(503), status(502), 503, "primary", `{"error":{"message":"vendor says 503"}}`},
		{"the gateway does not know the model", status(429), status(404), 429, "primary", `{"error":{"message":"vendor says 429"}}`},
		{"only the gateway says so", faults()["broken before the head"], status(404), 404, "gateway", `{"error":{"message":"vendor says 404"}}`},
		{"only the vendor says so", status(500), faults()["broken before the head"], 500, "primary", `{"error":{"message":"vendor says 500"}}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			r.vendor.set(c.vendor)
			r.gateway.set(c.gateway)
			for _, body := range []string{chatBody, chatStream} {
				r.ask(body).check(t, c.status, c.way, c.body)
			}
		})
	}
	t.Run("nobody says anything", func(t *testing.T) {
		r := newRig(t)
		r.vendor.set(faults()["a page with 200"])
		r.gateway.Close()
		g := r.ask(chatBody)
		var e struct {
			Error struct{ Code, Message string }
		}
		if err := json.Unmarshal([]byte(g.body), &e); err != nil || g.status != http.StatusBadGateway || e.Error.Code != "no_answer" {
			t.Errorf("%d %s", g.status, g.body)
		}
		if !strings.Contains(e.Error.Message, "primary: bad_answer, gateway: no_connection") {
			t.Error(e.Error.Message)
		}
	})
}

// A circuit that is open must not keep a request from the only side that is left.
func TestTheVendorIsAskedWhenTheGatewayIsAway(t *testing.T) {
	r := newRig(t)
	r.vendor.set(status(503))
	for range 5 {
		r.ask(chatBody).check(t, http.StatusOK, "gateway", ownReply)
	}
	r.vendor.set(vendorWell)
	r.ask(chatBody).check(t, http.StatusOK, "gateway", ownReply) // the circuit is open
	r.gateway.Close()
	r.ask(chatBody).check(t, http.StatusOK, "primary", vendorReply)
}

// R17: no key reaches the other side, nor a log.
func TestKeysStayApart(t *testing.T) {
	r := newRig(t)
	for name, fault := range faults() {
		if !strings.Contains(name, "silence") && !strings.Contains(name, "token") {
			r.vendor.set(fault)
		}
		for _, model := range []string{name, "gpt-mapped"} { // a circuit for each
			q := r.request(http.MethodPost, chatPath+"?key="+vendorKey, `{"model":"`+model+`","messages":[]}`)
			for _, header := range []string{"Api-Key", "X-Api-Key", "X-Goog-Api-Key", "Openai-Organization", "Cookie", "X-Vendor-Secret", "Proxy-Authorization"} {
				q.Header.Set(header, vendorKey)
			}
			q.Header.Set("Idempotency-Key", "once")
			q.Header.Set("X-Shareai-Pin", "beta")
			r.do(q)
		}
	}
	if vendor := r.vendor.saw(); strings.Contains(vendor, shareaiKey) || !strings.Contains(vendor, vendorKey) {
		t.Error("the gateway's key went to the vendor, or the vendor's did not")
	}
	gateway := r.gateway.saw()
	if strings.Contains(gateway, vendorKey) {
		t.Errorf("the vendor's key went to the gateway:\n%s", gateway)
	}
	for _, want := range []string{"Bearer " + shareaiKey, "Idempotency-Key: once", "X-Shareai-Pin: beta", `{"model":"ours","messages":[]}`} {
		if !strings.Contains(gateway, want) {
			t.Errorf("the gateway did not get %q", want)
		}
	}
	if log := r.log.String(); strings.Contains(log, "canary") || !strings.Contains(log, "the primary failed") {
		t.Errorf("log:\n%s", log)
	}
}

func TestTheGatewaysKeyIsNotForThoseWithoutAny(t *testing.T) {
	r := newRig(t)
	r.vendor.set(status(503))
	q := r.request(http.MethodPost, chatPath, chatBody)
	q.Header.Del("Authorization")
	r.do(q).check(t, http.StatusServiceUnavailable, "primary", `{"error":{"message":"vendor says 503"}}`)
	q = r.request(http.MethodPost, chatPath, chatBody)
	q.Header.Del("Authorization")
	q.Header.Set("Api-Key", "theirs")
	r.do(q).check(t, http.StatusOK, "gateway", ownReply)
}

func TestAClientThatLeavesIsNobodysFailure(t *testing.T) {
	r := newRig(t)
	left := make(chan struct{}, 20)
	for _, begun := range []string{"", roleEvent, roleEvent + textEvent} {
		for range 6 {
			asked := make(chan struct{}, 1)
			r.vendor.set(func(w http.ResponseWriter, q *http.Request) {
				asked <- struct{}{}
				hang(w, q, begun)
				left <- struct{}{}
			})
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() {
				defer close(done)
				if response, err := http.DefaultTransport.RoundTrip(r.request(http.MethodPost, chatPath, chatStream).WithContext(ctx)); err == nil {
					_, _ = io.ReadAll(response.Body)
					_ = response.Body.Close()
				}
			}()
			<-asked
			cancel()
			<-done
			<-left // the vendor is stopped at once
		}
	}
	r.vendor.set(vendorWell)
	r.ask(chatStream).check(t, http.StatusOK, "primary", wholeStream)
	if r.gateway.asked.Load() != 0 {
		t.Error("the gateway was asked")
	}
}

func TestManyAtOnceWhileTheVendorFlaps(t *testing.T) {
	r := newRig(t)
	r.vendor.set(func(w http.ResponseWriter, q *http.Request) {
		switch rand.IntN(4) {
		case 0:
			status(503)(w, q)
		case 1:
			panic(http.ErrAbortHandler)
		default:
			vendorWell(w, q)
		}
	})
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			body, vendor, own := fmt.Sprintf(`{"model":"m%d","messages":[]}`, i%3), vendorReply, ownReply
			if i%2 == 0 {
				body, vendor, own = fmt.Sprintf(`{"model":"m%d","stream":true,"messages":[]}`, i%3), wholeStream, ownStream
			}
			for range 5 {
				g := r.ask(body)
				if g.err != nil || g.status != 200 || !(g.way == "primary" && g.body == vendor || g.way == "gateway" && g.body == own) {
					t.Errorf("%d by %s, %v: %s", g.status, g.way, g.err, g.body)
				}
			}
		})
	}
	all.Wait()
}

func TestPathsOfThePrimary(t *testing.T) {
	for _, c := range []struct{ base, path, want string }{
		{"https://h/v1", "/v1/chat/completions", "https://h/v1/chat/completions"},
		{"https://h/openai/v1/", "/v1/files?a=b", "https://h/openai/v1/files?a=b"},
		{"https://h/openai/v1", "/v1", "https://h/openai/v1"},
		{"https://h/openai/v1", "/v1beta/x", "https://h/v1beta/x"},
		{"https://h/a%2Fb", "/v1/c%2Fd/e%20f", "https://h/a%2Fb/c%2Fd/e%20f"},
		{"https://h:8443", "/v1/models", "https://h:8443/v1/models"},
		{"http://h/", "/openai/deployments/x/chat/completions?api-version=1", "http://h/openai/deployments/x/chat/completions?api-version=1"},
	} {
		head, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if got := (toPrimary{address(t, c.base)}).rewrite(&question{head: head}).URL.String(); got != c.want {
			t.Errorf("%s at %s: %s, want %s", c.path, c.base, got, c.want)
		}
	}
	head, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/models/x%2Fy?key=secret", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	for _, base := range []string{"https://g", "https://g/", "https://g/v1", "https://g/v1/"} {
		to := newToGateway(Options{Gateway: address(t, base), Key: account.NewSecret("k")})
		if got := to.rewrite(&question{head: head}).URL.String(); got != "https://g/v1/models/x%2Fy" {
			t.Errorf("%s: %s", base, got)
		}
	}
}

func TestStopLetsAStreamEnd(t *testing.T) {
	r := newRig(t)
	goOn := make(chan struct{})
	r.vendor.set(func(w http.ResponseWriter, _ *http.Request) {
		events(w, textEvent)
		<-goOn
		events(w, finishEvent+doneEvent)
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	stop := serveUntil(t, func(ctx context.Context) error {
		return Serve(ctx, listener, r.standby, slog.New(slog.DiscardHandler))
	})
	q := r.request(http.MethodPost, chatPath, chatStream)
	q.URL.Host = listener.Addr().String()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(q)
	if err != nil {
		t.Fatal(err)
	}
	body := bufio.NewReader(response.Body)
	if _, err := body.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	for { // until the listener is closed
		conn, err := net.DialTimeout("tcp", q.URL.Host, time.Second)
		if err != nil {
			break
		}
		_ = conn.Close()
	}
	close(goOn)
	if rest, err := io.ReadAll(body); err != nil || !strings.HasSuffix(string(rest), doneEvent) {
		t.Errorf("%q, %v", rest, err)
	}
	if err := <-stopped; err != nil && !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
}

func TestHealthz(t *testing.T) {
	r := newRig(t)
	r.do(r.request(http.MethodGet, "/healthz", "")).check(t, http.StatusOK, "", `{"circuits":{},"status":"ok"}`+"\n")
	r.vendor.set(status(503))
	for range 5 {
		r.ask(chatBody)
	}
	r.do(r.request(http.MethodGet, "/healthz", "")).check(t, http.StatusOK, "", `{"circuits":{"gpt-x":"open"},"status":"ok"}`+"\n")
}
