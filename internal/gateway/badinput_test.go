package gateway

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"shareai/internal/account"
	"shareai/internal/snapshot"
)

// Bad input: OpenAI's error shape and status, a message that says what to do, no upstream call, and a
// record where the key was valid.
func TestBadInput(t *testing.T) {
	deep := `{"model":"llama","messages":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `}`
	for _, c := range []struct {
		name   string
		body   string
		change func(*http.Request)
		status int
		code   string
		param  string
	}{
		{"empty body", ``, nil, 400, "", ""},
		{"not JSON", `hello`, nil, 400, "", ""},
		{"half a JSON", `{"model":"llama","messages":[`, nil, 400, "", ""},
		{"trailing garbage", hi + `}`, nil, 400, "", ""},
		{"an array", `[]`, nil, 400, "", ""},
		{"no model", `{"messages":[]}`, nil, 400, "missing_required_parameter", "model"},
		{"model is a number", `{"model":4}`, nil, 400, "invalid_type", "model"},
		{"model is null", `{"model":null}`, nil, 400, "", "model"},
		{"model is empty", `{"model":""}`, nil, 400, "", "model"},
		{"unknown model", `{"model":"nope","messages":[]}`, nil, 404, "model_not_found", "model"},
		{"stream is a string", `{"model":"llama","stream":"yes"}`, nil, 400, "invalid_type", "stream"},
		{"invalid UTF-8", "{\"model\":\"llama\",\"messages\":[{\"role\":\"user\",\"content\":\"\xff\"}]}", nil, 400, "", ""},
		{"duplicate model", `{"model":"llama","model":"expensive"}`, nil, 400, "", ""},
		{"duplicate model in another case", `{"model":"llama","MODEL":"expensive"}`, nil, 400, "", ""},
		{"duplicate model, escaped", `{"model":"llama","\u006dodel":"expensive"}`, nil, 400, "", ""},
		{"deep nesting", deep, nil, 400, "", ""},
		{"wrong content type", hi, func(r *http.Request) { r.Header.Set("Content-Type", "application/x-www-form-urlencoded") }, 415, "unsupported_content_type", ""},
		{"compressed", hi, func(r *http.Request) { r.Header.Set("Content-Encoding", "gzip") }, 415, "unsupported_content_encoding", ""},
		{"wrong method", ``, func(r *http.Request) { r.Method = http.MethodGet; r.Body = nil; r.ContentLength = 0 }, 405, "method_not_allowed", ""},
		{"too large, declared", hi + strings.Repeat(" ", MaxBody), nil, 413, "request_too_large", ""},
		{"too large, chunked", hi + strings.Repeat(" ", MaxBody), func(r *http.Request) { r.ContentLength = -1 }, 413, "request_too_large", ""},
		{"a provider object of a wrong type", `{"model":"llama","provider":{"only":"a"}}`, nil, 400, "invalid_type", "provider.only"},
		{"no provider left", `{"model":"llama","provider":{"only":["zeta"]}}`, nil, 400, "invalid_value", "provider.only"},
		{"a provider that is no object", `{"model":"llama","provider":"a"}`, nil, 400, "invalid_type", "provider"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEngine(t, saying(200, reply))
			s := newStand(t, nil, e)
			resp, body := s.post(t, "/v1/chat/completions", c.body, func(r *http.Request) {
				if c.change != nil {
					c.change(r)
				}
			})
			f := parseFailure(t, body)
			if resp.StatusCode != c.status || c.code != "" && f.Error.Code != c.code || f.Error.Param != c.param {
				t.Errorf("%d %s", resp.StatusCode, body)
			}
			if e.calls() != 0 {
				t.Error("the upstream was called")
			}
			if f.Error.RequestID != resp.Header.Get("X-Request-Id") || resp.Header.Get("Content-Type") != "application/json" {
				t.Errorf("request id %q, header %q", f.Error.RequestID, resp.Header.Get("X-Request-Id"))
			}
			if r := s.book.last(t); r.Status != c.status || r.KeyID != "key_1" || r.ID != f.Error.RequestID || r.Code != f.Error.Code {
				t.Errorf("record %+v", r)
			}
			if c.status == 405 && resp.Header.Get("Allow") != "POST" {
				t.Errorf("Allow %q", resp.Header.Get("Allow"))
			}
		})
	}
}

// R27, R4: keys that do not open.
func TestKeysThatDoNotOpen(t *testing.T) {
	e := newEngine(t, saying(200, reply))
	s := newStand(t, func(s *snapshot.Spec) {
		add := func(id string, change func(*account.APIKey)) {
			k := account.APIKey{ID: id, Name: id, Organization: "acme", Project: "app", Hash: account.HashKey("sk-" + id + "-0123456789")}
			change(&k)
			s.Keys = append(s.Keys, k)
		}
		add("expired", func(k *account.APIKey) { k.Expires = time.Now().Add(-time.Minute) })
		add("revoked", func(k *account.APIKey) { k.RevokedAt = time.Now().Add(-time.Minute) })
	}, e)
	for _, c := range []struct{ name, header, code string }{
		{"none", "", "missing_api_key"},
		{"another scheme", "Basic " + testKey, "invalid_api_key"},
		{"no key behind the scheme", "Bearer ", "invalid_api_key"},
		{"unknown", "Bearer sk-unknown-0123456789", "invalid_api_key"},
		{"expired", "Bearer sk-expired-0123456789", "expired_api_key"},
		{"revoked", "Bearer sk-revoked-0123456789", "revoked_api_key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			resp, body := s.post(t, "/v1/chat/completions", hi, func(r *http.Request) {
				r.Header.Del("Authorization")
				if c.header != "" {
					r.Header.Set("Authorization", c.header)
				}
			})
			f := parseFailure(t, body)
			if resp.StatusCode != 401 || f.Error.Code != c.code || f.Error.Type != "authentication_error" && f.Error.Type != "invalid_request_error" {
				t.Errorf("%d %s", resp.StatusCode, body)
			}
			if strings.Contains(body, "0123456789") {
				t.Errorf("the key is echoed: %s", body)
			}
		})
	}
	if e.calls() != 0 {
		t.Error("the upstream was called")
	}
	s.book.none(t)

	if resp, _ := s.post(t, "/v1/chat/completions", hi, func(r *http.Request) { r.Header.Set("Authorization", "bearer "+testKey) }); resp.StatusCode != 200 {
		t.Errorf("the scheme in lower case: %d", resp.StatusCode)
	}
	s.config.stale = true
	resp, body := s.post(t, "/v1/chat/completions", hi, func(r *http.Request) { r.Header.Set("Authorization", "Bearer sk-unknown-0123456789") })
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("an unknown key while the database is away: %d %s", resp.StatusCode, body)
	}
}

func TestAKeyThatMayNotUseTheModel(t *testing.T) {
	e := newEngine(t, saying(200, reply))
	s := newStand(t, func(s *snapshot.Spec) { s.Keys[0].Models = []string{"qwen*"} }, e)
	resp, body := s.post(t, "/v1/chat/completions", hi)
	if f := parseFailure(t, body); resp.StatusCode != 403 || f.Error.Code != "model_not_allowed" || f.Error.Param != "model" || e.calls() != 0 {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	if r := s.book.last(t); r.Status != 403 || r.Requested != "llama" {
		t.Errorf("record %+v", r)
	}
}

// raw sends bytes as they are and returns the whole answer.
func raw(t *testing.T, s *stand, request string) string {
	t.Helper()
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	_ = conn.(*net.TCPConn).CloseWrite()
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	answer, _ := io.ReadAll(conn)
	return string(answer)
}

func TestABodyThatStopsHalfWay(t *testing.T) {
	e := newEngine(t, saying(200, reply))
	s := newStand(t, nil, e)
	head := "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAuthorization: Bearer " + testKey + "\r\n"
	for name, request := range map[string]string{
		"declared": head + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(hi), hi[:20]),
		"chunked":  head + "Transfer-Encoding: chunked\r\n\r\n" + fmt.Sprintf("%x\r\n%s\r\n", 20, hi[:20]),
	} {
		t.Run(name, func(t *testing.T) {
			answer := raw(t, s, request)
			if answer != "" && !strings.Contains(answer, "incomplete_body") {
				t.Errorf("%s", answer)
			}
			if r := s.book.last(t); r.Code != "incomplete_body" && r.Code != "client_closed_request" {
				t.Errorf("record %+v", r)
			}
		})
	}
	if e.calls() != 0 {
		t.Error("the upstream was called")
	}
}

func TestABodyAtTheLimitIsServed(t *testing.T) {
	e := newEngine(t, saying(200, reply))
	s := newStand(t, nil, e)
	big := []byte(`{"messages":[{"role":"user","content":"` + strings.Repeat("a", MaxBody-80) + `"}],"model":"llama"}`)
	big = append(big, bytes.Repeat([]byte(" "), MaxBody-len(big))...)
	resp, body := s.post(t, "/v1/chat/completions", string(big))
	if resp.StatusCode != 200 || len(e.body()) != MaxBody-len("llama")+len("l") {
		t.Errorf("%d %.200s", resp.StatusCode, body)
	}
}

func TestUnknownPaths(t *testing.T) {
	s := newStand(t, nil, newEngine(t, saying(200, reply)))
	for _, path := range []string{"/v1/chat/completion", "/v1/", "/v1/images/generations"} {
		resp, body := s.post(t, path, hi)
		if f := parseFailure(t, body); resp.StatusCode != 404 || f.Error.Code != "unknown_url" {
			t.Errorf("%s: %d %s", path, resp.StatusCode, body)
		}
	}
}

func TestBodiesInFlightAreBounded(t *testing.T) {
	b := bodyBudget{limit: 10}
	if !b.take(10) || b.take(1) {
		t.Fatal("the limit does not hold")
	}
	b.give(10)
	if !b.take(1) {
		t.Error("memory is not given back")
	}
}
