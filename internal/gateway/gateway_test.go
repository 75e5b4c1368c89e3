package gateway

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"shareai/internal/account"
	"shareai/internal/catalog"
	"shareai/internal/snapshot"
)

// R1: the request reaches the provider as it was sent, but for the model's name and the gateway's own
// members; the answer comes back likewise.
func TestBodiesPassThrough(t *testing.T) {
	e := newEngine(t, saying(200, reply))
	s := newStand(t, nil, e)
	sent := `{ "zeta":1, "messages" : [{"role":"user","content":"h\u00e9 😀"}],  "seed":12345678901234567890123, "model" :"llama", "x":{"a":[1.0,2e5]} }`
	resp, got := s.post(t, "/v1/chat/completions", sent)
	if resp.StatusCode != 200 {
		t.Fatalf("%d %s", resp.StatusCode, got)
	}
	if want := strings.Replace(sent, `"llama"`, `"l"`, 1); e.body() != want {
		t.Errorf("upstream body\n%s\nwant\n%s", e.body(), want)
	}
	record := s.book.last(t)
	id := "chatcmpl-" + strings.TrimPrefix(record.ID, "req_")
	want := strings.Replace(strings.Replace(reply, "chatcmpl-7", id, 1), `"model":"l"`, `"model":"llama"`, 1)
	if got != want {
		t.Errorf("answer\n%s\nwant\n%s", got, want)
	}
	for name, value := range map[string]string{
		"X-Request-Id": record.ID, "X-Shareai-Provider": "a", "X-Shareai-Model": "llama", "X-Shareai-Deployment": "a/l",
		"X-Shareai-Attempts": "1", "X-Shareai-Cost": "0.000014", "X-Shareai-Cache": "off", "Content-Type": "application/json",
	} {
		if resp.Header.Get(name) != value {
			t.Errorf("%s: %q, want %q", name, resp.Header.Get(name), value)
		}
	}
	if a := e.header().Get("Authorization"); a != "Bearer sk-provider-secret" {
		t.Errorf("the provider was sent %q", a)
	}
}

// R37: one record for each request, with attempts, tokens, price and cost.
func TestTheRecord(t *testing.T) {
	e := newEngine(t, streaming(roleChunk, helloChunk, worldChunk, finishChunk, usageChunk, "[DONE]"))
	s := newStand(t, nil, e)
	_, body := s.post(t, "/v1/chat/completions", hiStream)
	r := s.book.last(t)
	if len(r.Attempts) != 1 {
		t.Fatalf("attempts %+v", r.Attempts)
	}
	a := r.Attempts[0]
	if a.Headers <= 0 || a.FirstToken < a.Headers || a.Duration < a.FirstToken || r.Duration < a.Duration || r.FirstToken < a.FirstToken || r.Start == 0 {
		t.Errorf("timings: %+v in %+v", a, r)
	}
	if r.BytesIn != int64(len(hiStream)) || r.BytesOut != int64(len(body)) {
		t.Errorf("bytes %d in, %d out; sent %d, received %d", r.BytesIn, r.BytesOut, len(hiStream), len(body))
	}
	tokens := catalog.Tokens{Prompt: 10, Cached: 4, Completion: 2}
	cost := int64(6*1000 + 4*100 + 2*2000)
	price := catalog.Price{Input: 1_000_000_000, Output: 2_000_000_000, CachedInput: 100_000_000}.Version()
	if r.Tokens != tokens || r.Cost != cost || a.Tokens != tokens || a.Cost != cost || r.PriceVersion != price {
		t.Errorf("tokens %+v, cost %d, price %s", r.Tokens, r.Cost, r.PriceVersion)
	}
	got := []string{r.Organization, r.Project, r.KeyID, string(r.Endpoint), r.Requested, r.Policy, r.Model, r.Provider, r.Deployment, a.Provider, a.Deployment, a.ProviderKey, a.Outcome}
	want := []string{"acme", "app", "key_1", "chat", "llama", "p", "llama", "a", "a/l", "a", "a/l", "main", "ok"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if r.Status != 200 || r.Code != "" || !r.Stream || r.Content != nil {
		t.Errorf("status %d %q, stream %v, content %v", r.Status, r.Code, r.Stream, r.Content)
	}
}

func TestAStreamIsPutRight(t *testing.T) {
	e := newEngine(t, streaming(roleChunk, helloChunk, worldChunk, finishChunk, usageChunk, "[DONE]"))
	s := newStand(t, nil, e)
	resp, body := s.post(t, "/v1/chat/completions", hiStreamUsage)
	list := events(t, body)
	if list[len(list)-1] != "[DONE]" || text(t, list) != "Hello world" {
		t.Fatalf("stream %s", body)
	}
	id := "chatcmpl-" + strings.TrimPrefix(resp.Header.Get("X-Request-Id"), "req_")
	roles, finishes := 0, 0
	for _, data := range list[:len(list)-1] {
		if !strings.Contains(data, `"id":"`+id+`"`) || !strings.Contains(data, `"model":"llama"`) {
			t.Errorf("an id or a model of the engine's: %s", data)
		}
		roles += strings.Count(data, `"role"`)
		finishes += strings.Count(data, `"finish_reason":"stop"`)
	}
	if roles != 1 || finishes != 1 {
		t.Errorf("%d roles, %d finish reasons in %s", roles, finishes, body)
	}
	last := list[len(list)-2]
	if !strings.Contains(last, `"prompt_tokens":10`) || !strings.Contains(last, `"x-shareai-cost":"0.0000104"`) {
		t.Errorf("usage chunk %s", last)
	}
	if got := resp.Trailer.Get("X-Shareai-Cost"); got != "0.0000104" {
		t.Errorf("trailer %q", got)
	}
	if !strings.Contains(e.body(), `"include_usage":true`) {
		t.Errorf("usage was not asked for: %s", e.body())
	}
}

func TestUsageIsForWhoAskedForIt(t *testing.T) {
	e := newEngine(t, streaming(helloChunk, finishChunk, usageChunk, "[DONE]"))
	s := newStand(t, nil, e)
	if _, body := s.post(t, "/v1/chat/completions", hiStream); strings.Contains(body, "prompt_tokens") {
		t.Errorf("usage without being asked: %s", body)
	}
	if !strings.Contains(e.body(), `"stream_options":{"include_usage":true}`) {
		t.Errorf("the gateway itself needs usage: %s", e.body())
	}
	// A provider that reports none: the estimate is marked in the record and given to who asked.
	e.answer = streaming(helloChunk, finishChunk, "[DONE]")
	_, body := s.post(t, "/v1/chat/completions", hiStreamUsage)
	s.book.last(t)
	r := s.book.last(t)
	if !r.Tokens.Estimated || r.Tokens.Completion == 0 || r.Cost == 0 {
		t.Errorf("tokens %+v, cost %d", r.Tokens, r.Cost)
	}
	if !strings.Contains(body, `"completion_tokens":`) {
		t.Errorf("no usage chunk: %s", body)
	}
}

// A stream that ends without finishing is never passed off as finished.
func TestABrokenStreamIsAnError(t *testing.T) {
	for name, tail := range map[string][]string{
		"ends cleanly without finish_reason":   {},
		"[DONE] without finish_reason":         {"[DONE]"},
		"is cut":                               {"CUT"},
		"carries an error event":               {`{"error":{"message":"the engine died","type":"server_error"}}`},
		"stalls longer than the idle deadline": {"WAIT"},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEngine(t, streaming(append([]string{roleChunk, helloChunk}, tail...)...))
			s := newStand(t, func(s *snapshot.Spec) {
				s.Policies[0].Deadlines.Idle, s.Policies[0].Resume = 200*time.Millisecond, catalog.Off
			}, e)
			_, body := s.post(t, "/v1/chat/completions", hiStreamUsage)
			list := events(t, body)
			if strings.Contains(body, "[DONE]") || strings.Contains(body, `"finish_reason":"stop"`) {
				t.Fatalf("passed off as finished: %s", body)
			}
			f := parseFailure(t, list[len(list)-1])
			if f.Error.Code != "stream_interrupted" || len(f.Error.Attempts) != 1 {
				t.Errorf("%+v", f)
			}
			if text(t, list[:len(list)-1]) != "Hello" {
				t.Errorf("content is lost: %s", body)
			}
			r := s.book.last(t)
			if r.Code != "stream_interrupted" || r.Attempts[0].Outcome == "ok" || r.Cost == 0 || !r.Tokens.Estimated {
				t.Errorf("record %+v", r)
			}
		})
	}
}

func TestAStreamWithoutDoneIsComplete(t *testing.T) {
	for name, tail := range map[string]string{"clean end": "", "cut after the finish": "CUT"} {
		t.Run(name, func(t *testing.T) {
			list := []string{helloChunk, finishChunk}
			if tail != "" {
				list = append(list, tail)
			}
			s := newStand(t, nil, newEngine(t, streaming(list...)))
			_, body := s.post(t, "/v1/chat/completions", hiStream)
			if !strings.HasSuffix(body, "data: [DONE]\n\n") {
				t.Errorf("%s", body)
			}
			if r := s.book.last(t); r.Status != 200 || r.Attempts[0].Outcome != "ok" {
				t.Errorf("record %+v", r)
			}
		})
	}
}

// R5: before the first content any failure moves on to the next deployment.
func TestAFailureBeforeContentMovesOn(t *testing.T) {
	refused, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := "http://" + refused.Addr().String() + "/v1"
	_ = refused.Close()

	for _, c := range []struct {
		name    string
		first   http.HandlerFunc
		outcome string
	}{
		{"refused", nil, "connect_failed"},
		{"500", saying(500, `{"error":{"message":"boom"}}`), "server_error"},
		{"503", saying(503, `busy`), "overloaded"},
		{"429", saying(429, `{"error":{"message":"slow down"}}`), "rate_limited"},
		{"401", saying(401, `{"error":{"message":"Incorrect API key provided: sk-provider-secret"}}`), "key_rejected"},
		{"unknown model there", saying(404, `{"error":{"message":"model 'l' not found"}}`), "not_found"},
		{"HTML with 200", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>hello</html>") }, "bad_answer"},
		{"cut", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "broken"},
		{"silence", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "headers_timeout"},
	} {
		for _, mode := range []string{"unary", "stream"} {
			t.Run(c.name+"/"+mode, func(t *testing.T) {
				first := newEngine(t, c.first)
				second, body := newEngine(t, saying(200, reply)), hi
				if mode == "stream" {
					second, body = newEngine(t, streaming(roleChunk, helloChunk, worldChunk, finishChunk, "[DONE]")), hiStream
				}
				s := newStand(t, func(s *snapshot.Spec) {
					s.Policies[0].Deadlines.Headers = 300 * time.Millisecond
					if c.first == nil {
						s.Providers[0].BaseURL = closed
					}
				}, first, second)
				resp, got := s.post(t, "/v1/chat/completions", body)
				if resp.StatusCode != 200 || !strings.Contains(got, "Hello") {
					t.Fatalf("%d %s", resp.StatusCode, got)
				}
				if p, n := resp.Header.Get("X-Shareai-Provider"), resp.Header.Get("X-Shareai-Attempts"); p != "b" || n != "2" {
					t.Errorf("provider %s after %s attempts", p, n)
				}
				r := s.book.last(t)
				if r.Attempts[0].Outcome != c.outcome || r.Attempts[1].Outcome != "ok" || r.Provider != "b" {
					t.Errorf("attempts %+v", r.Attempts)
				}
				if strings.Contains(r.Attempts[0].Message, "sk-provider-secret") {
					t.Errorf("the provider key is in the record: %s", r.Attempts[0].Message)
				}
			})
		}
	}
}

// The headers deadline is over when the headers are there, however long the body takes.
func TestASlowBodyIsNotSlowHeaders(t *testing.T) {
	e := newEngine(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.(http.Flusher).Flush()
		<-time.After(600 * time.Millisecond)
		_, _ = io.WriteString(w, reply)
	})
	s := newStand(t, func(s *snapshot.Spec) { s.Policies[0].Deadlines.Headers = 200 * time.Millisecond }, e)
	if resp, body := s.post(t, "/v1/chat/completions", hi); resp.StatusCode != 200 {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}

func TestAStreamThatFailsBeforeContentMovesOn(t *testing.T) {
	for name, list := range map[string][]string{
		"only a role, then a cut":       {roleChunk, "CUT"},
		"only a role, then a clean end": {roleChunk},
		"only a role, then silence":     {roleChunk, "WAIT"},
		"an error as the first event":   {`{"error":{"message":"overloaded","code":503}}`},
		"an error as the second event":  {roleChunk, `{"error":"runner died"}`},
		"nothing but [DONE]":            {"[DONE]"},
		"not JSON, then a clean end":    {"not json"},
	} {
		t.Run(name, func(t *testing.T) {
			first, second := newEngine(t, streaming(list...)), newEngine(t, streaming(roleChunk, helloChunk, worldChunk, finishChunk, "[DONE]"))
			s := newStand(t, func(s *snapshot.Spec) { s.Policies[0].Deadlines.FirstToken = 300 * time.Millisecond }, first, second)
			resp, body := s.post(t, "/v1/chat/completions", hiStream)
			list := events(t, body)
			if text(t, list) != "Hello world" || list[len(list)-1] != "[DONE]" || strings.Count(body, `"role"`) != 1 {
				t.Fatalf("%s", body)
			}
			if resp.Header.Get("X-Shareai-Provider") != "b" {
				t.Errorf("provider %s", resp.Header.Get("X-Shareai-Provider"))
			}
		})
	}
}

// What the caller asked for wrongly stays wrong everywhere.
func TestTheCallersMistakeDoesNotMoveOn(t *testing.T) {
	first := newEngine(t, saying(400, `{"error":{"message":"temperature must be a number","type":"invalid_request_error","param":"temperature","code":"invalid_type"}}`))
	second := newEngine(t, saying(200, reply))
	s := newStand(t, nil, first, second)
	resp, body := s.post(t, "/v1/chat/completions", hi)
	f := parseFailure(t, body)
	if resp.StatusCode != 400 || f.Error.Param != "temperature" || f.Error.Code != "invalid_type" || second.calls() != 0 {
		t.Errorf("%d %s, second called %d times", resp.StatusCode, body, second.calls())
	}
	if r := s.book.last(t); r.Status != 400 || len(r.Attempts) != 1 || r.Cost != 0 {
		t.Errorf("record %+v", r)
	}
}

func TestWhenEveryAttemptFails(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
		status int
		code   string
		retry  bool // the client is told when to come back
		tries  int
	}{
		{"all broken", saying(500, `{"error":{"message":"the key is sk-provider-secret"}}`), 502, "provider_error", false, 4},
		{"all limited", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", "7")
			saying(429, `{}`)(w, r)
		}, 429, "rate_limit_exceeded", true, 2},
		{"all overloaded", saying(503, `{}`), 503, "provider_overloaded", true, 4},
		{"all silent", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, 504, "provider_timeout", false, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := newEngine(t, c.answer), newEngine(t, c.answer)
			s := newStand(t, func(s *snapshot.Spec) { s.Policies[0].Deadlines.Headers = 200 * time.Millisecond }, a, b)
			resp, body := s.post(t, "/v1/chat/completions", hi)
			f := parseFailure(t, body)
			if resp.StatusCode != c.status || f.Error.Code != c.code || (resp.Header.Get("Retry-After") != "") != c.retry {
				t.Errorf("%d %q, Retry-After %q: %s", resp.StatusCode, f.Error.Code, resp.Header.Get("Retry-After"), body)
			}
			if len(f.Error.Attempts) != c.tries || f.Error.Attempts[1].Provider != "b" || f.Error.Attempts[1].Model != "llama" {
				t.Errorf("attempts %+v", f.Error.Attempts)
			}
			if strings.Contains(body, "sk-provider") || strings.Contains(body, "127.0.0.1") {
				t.Errorf("a key or an address: %s", body)
			}
			if r := s.book.last(t); r.Status != c.status || r.Code != c.code || r.Model != "" {
				t.Errorf("record %+v", r)
			}
		})
	}
}

// A client that leaves stops the upstream; it is no failure of the provider's.
func TestTheClientLeaves(t *testing.T) {
	for _, c := range []struct{ name, body string }{{"before the answer", hi}, {"in mid-stream", hiStream}} {
		t.Run(c.name, func(t *testing.T) {
			e := newEngine(t, streaming(helloChunk, "WAIT"))
			if c.body == hi {
				e.answer = func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
			}
			s := newStand(t, nil, e, newEngine(t, saying(200, reply)))
			ctx, leave := cancelled(t)
			r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+"/v1/chat/completions", strings.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Authorization", "Bearer "+s.key)
			r.Header.Set("Content-Type", "application/json")
			ended := make(chan error, 1)
			go func() {
				resp, err := s.Client().Do(r)
				if err == nil {
					_, err = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
				}
				ended <- err
			}()
			for e.calls() == 0 {
				<-time.After(time.Millisecond)
			}
			leave()
			if err := <-ended; err == nil {
				t.Fatal("the request did not end")
			}
			select {
			case <-e.gone:
			case <-time.After(5 * time.Second):
				t.Fatal("the upstream was not stopped")
			}
			if r := s.book.last(t); r.Status != 499 || r.Code != "client_closed_request" || len(r.Attempts) != 1 || r.Attempts[0].Outcome != "canceled" {
				t.Errorf("record %+v", r)
			}
		})
	}
}

// The record is there before the last byte is.
func TestTheRecordComesBeforeTheEnd(t *testing.T) {
	e := newEngine(t, streaming(helloChunk, finishChunk, "[DONE]"))
	s := newStand(t, nil, e)
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+"/v1/chat/completions", strings.NewReader(hiStream))
	r.Header.Set("Authorization", "Bearer "+s.key)
	resp, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if strings.Contains(lines.Text(), "[DONE]") {
			select {
			case <-s.book.changed:
			default:
				t.Fatal("[DONE] was sent before the record was kept")
			}
			return
		}
	}
	t.Fatal("no [DONE]")
}

// No record can be kept: no work is done.
func TestAFullJournalRefusesWork(t *testing.T) {
	e := newEngine(t, saying(200, reply))
	s := newStand(t, nil, e)
	s.book.full = errors.New("disk full")
	resp, body := s.post(t, "/v1/chat/completions", hi)
	if resp.StatusCode != 503 || parseFailure(t, body).Error.Code != "journal_unavailable" || resp.Header.Get("Retry-After") == "" || e.calls() != 0 {
		t.Errorf("%d %s, %d calls", resp.StatusCode, body, e.calls())
	}
}

func TestContentIsKeptOnlyWhereThePolicySaysSo(t *testing.T) {
	for _, stream := range []bool{false, true} {
		e := newEngine(t, saying(200, reply))
		body := hi
		if stream {
			e.answer, body = streaming(helloChunk, finishChunk, "[DONE]"), hiStream
		}
		s := newStand(t, func(s *snapshot.Spec) { s.Policies[0].LogContent = true }, e)
		s.post(t, "/v1/chat/completions", body)
		c := s.book.last(t).Content
		if c == nil || string(c.Request) != body || !strings.Contains(string(c.Answer), "Hello") || c.Truncated {
			t.Errorf("content %+v", c)
		}
	}
}

func TestEmbeddings(t *testing.T) {
	floats := `{"object":"list","data":[{"object":"embedding","index":0,"embedding":[1,-0.5]}],"model":"l","usage":{"prompt_tokens":3,"total_tokens":3}}`
	e := newEngine(t, saying(200, floats))
	s := newStand(t, nil, e)
	_, body := s.post(t, "/v1/embeddings", `{"model":"llama","input":"hi","encoding_format":"base64"}`)
	if !strings.Contains(body, `"embedding":"AACAPwAAAL8="`) || !strings.Contains(body, `"model":"llama"`) {
		t.Errorf("an engine that ignores base64: %s", body)
	}
	if r := s.book.last(t); r.Tokens.Prompt != 3 || r.Cost != 3000 || r.Endpoint != catalog.Embeddings {
		t.Errorf("record %+v", r)
	}
	if _, body = s.post(t, "/v1/embeddings", `{"model":"llama","input":"hi"}`); !strings.Contains(body, "[1,-0.5]") {
		t.Errorf("%s", body)
	}
}

func TestMaxCompletionTokens(t *testing.T) {
	e := newEngine(t, saying(200, reply))
	s := newStand(t, nil, e)
	s.post(t, "/v1/chat/completions", `{"model":"llama","messages":[],"max_completion_tokens":5}`)
	if b := e.body(); !strings.Contains(b, `"max_tokens":5`) || strings.Contains(b, "max_completion_tokens") {
		t.Errorf("upstream body %s", b)
	}
}

// R2: /v1/models lists what the key may use, and no more.
func TestModels(t *testing.T) {
	s := newStand(t, func(s *snapshot.Spec) {
		s.Models = append(s.Models, catalog.Model{Name: "secret/model", Deployments: s.Models[0].Deployments})
		s.Routes = []catalog.Route{{Name: "chat", Models: []string{"llama"}}, {Name: "theirs", Models: []string{"llama"}, Projects: []string{"other"}}}
		s.Keys = append(s.Keys, account.APIKey{ID: "key_2", Name: "all", Organization: "acme", Project: "app", Hash: account.HashKey("sk-all-0123456789abcdef")},
			account.APIKey{ID: "key_3", Name: "pinned", Organization: "acme", Project: "app", Hash: account.HashKey("sk-pinned-0123456789abc"), Pin: account.Pin{Provider: "a", Model: "none"}})
		s.Keys[0].Models = []string{"llama", "chat"}
	}, newEngine(t, saying(200, reply)))
	get := func(path, key string) (int, string) {
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+path, nil)
		r.Header.Set("Authorization", "Bearer "+key)
		resp, body := s.do(t, r)
		return resp.StatusCode, body
	}
	names := func(key string) string {
		_, body := get("/v1/models", key)
		var list struct {
			Object string
			Data   []struct{ ID, Object, OwnedBy string }
		}
		if err := json.Unmarshal([]byte(body), &list); err != nil || list.Object != "list" {
			t.Fatalf("%v: %s", err, body)
		}
		all := ""
		for _, m := range list.Data {
			all += m.ID + " "
		}
		return all
	}
	if got := names(testKey); got != "chat llama " {
		t.Errorf("restricted key: %q", got)
	}
	if got := names("sk-all-0123456789abcdef"); got != "chat llama secret/model " {
		t.Errorf("open key: %q", got)
	}
	if got := names("sk-pinned-0123456789abc"); got != "" {
		t.Errorf("a key that is pinned to where nothing is served: %q", got)
	}
	if status, body := get("/v1/models/secret/model", "sk-all-0123456789abcdef"); status != 200 || !strings.Contains(body, `"id":"secret/model"`) {
		t.Errorf("%d %s", status, body)
	}
	for _, path := range []string{"/v1/models/secret/model", "/v1/models/nope"} {
		if status, body := get(path, testKey); status != 404 || parseFailure(t, body).Error.Code != "model_not_found" {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	if status, _ := get("/v1/models", "sk-unknown-0123456789"); status != 401 {
		t.Errorf("without a key: %d", status)
	}
	s.book.none(t)
}
