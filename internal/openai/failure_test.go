package openai

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"shareai/internal/fault"
)

func TestParseErrorOfRealEngines(t *testing.T) {
	for name, want := range map[string]UpstreamError{
		"ollama/chat-404":                   {Message: "model 'none' not found", Type: "api_error"},
		"ollama/chat-400-type":              {Message: "json: cannot unmarshal string into Go struct field ChatCompletionRequest.temperature of type float64", Type: "invalid_request_error"},
		"ollama/route-404":                  {Message: "404 page not found"},
		"ollama-faults/runner-killed-unary": {Message: "an error was encountered while running the model: unexpected EOF", Type: "api_error"},
		"node-llama-cpp/chat-404":           {Message: "model 'none' not found", Type: "invalid_request_error", Code: "model_not_found", Param: "model"},
		"node-llama-cpp/chat-400-type":      {Message: "temperature must be a number", Type: "invalid_request_error", Code: "invalid_type", Param: "temperature"},
	} {
		status, body := fixture(t, name)
		code, err := strconv.Atoi(strings.Fields(status)[1])
		if err != nil {
			t.Fatal(err)
		}
		want.Status = code
		if diff := cmp.Diff(want, *ParseError(code, nil, body)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestParseErrorShapes(t *testing.T) {
	for _, c := range []struct {
		body string
		want UpstreamError
	}{
		{`{"error":{"message":"m","type":"t","code":"c","param":"p"}}`, UpstreamError{Message: "m", Type: "t", Code: "c", Param: "p"}},
		{`{"error":{"message":"m","code":503}}`, UpstreamError{Message: "m", Code: "503"}},
		{`{"error":"text"}`, UpstreamError{Message: "text"}},
		{`{"error":{"error":{"message":"deep"}}}`, UpstreamError{Message: "deep"}},
		{`{"object":"error","message":"m","type":"BadRequestError","param":null,"code":400}`, UpstreamError{Message: "m", Type: "BadRequestError", Code: "400"}},
		{`{"detail":"Not Found"}`, UpstreamError{Message: "Not Found"}},
		{`{"detail":[{"type":"missing","loc":["body","model"],"msg":"Field required"},{}]}`, UpstreamError{Message: "Field required", Type: "missing"}},
		{`{"message":"m"}`, UpstreamError{Message: "m"}},
		{`{"error":null,"message":"m"}`, UpstreamError{Message: "m"}},
		{`{"errors":["first","second"]}`, UpstreamError{Message: "first"}},
		{`[{"error":{"code":400,"message":"m","status":"INVALID_ARGUMENT"}}]`, UpstreamError{Message: "m", Code: "400", Type: "INVALID_ARGUMENT"}},
		{`{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}`, UpstreamError{Message: "Overloaded", Type: "error"}},
		{`{"unknown":"shape"}`, UpstreamError{Message: `{"unknown":"shape"}`}},
		{`{"error":`, UpstreamError{Message: `{"error":`}},
		{`{"error":{}}`, UpstreamError{Message: `{"error":{}}`}},
		{"<html><head><Title>502 Bad\n Gateway</title></head><body>nginx</body></html>", UpstreamError{Message: "The provider answered with an HTML page: 502 Bad Gateway"}},
		{"<!doctype html><p>oops", UpstreamError{Message: "The provider answered with an HTML page."}},
		{"upstream\tconnect error\r\n", UpstreamError{Message: "upstream connect error"}},
		{"", UpstreamError{Message: "The provider answered 502 Bad Gateway without a message."}},
		{" \n", UpstreamError{Message: "The provider answered 502 Bad Gateway without a message."}},
		{"\x00\x01", UpstreamError{Message: "The provider answered 502 Bad Gateway without a message."}},
	} {
		c.want.Status = http.StatusBadGateway
		if diff := cmp.Diff(c.want, *ParseError(http.StatusBadGateway, nil, []byte(c.body))); diff != "" {
			t.Errorf("%s: %s", c.body, diff)
		}
	}
	if got := ParseError(599, nil, nil).Message; got != "The provider answered 599 without a message." {
		t.Error(got)
	}
	e := UpstreamError{Status: 429, Code: "c", Message: "m"}
	if e.Error() != "upstream answered 429 c: m" || (&UpstreamError{Status: 429, Message: "m"}).Error() != "upstream answered 429: m" {
		t.Error(e.Error())
	}
}

func TestParseErrorLeaksNothingAndIsBounded(t *testing.T) {
	secrets := []string{"sk-live-abcdef123456", "10.20.30.40", "8080", "localhost", "fe80", "hunter22"}
	text := "Incorrect key sk-live-abcdef123456; dial tcp 10.20.30.40:8080 from [fe80::1%eth0]:8080 or localhost:8080: refused, password=hunter22; use llama 0.17.4"
	for _, body := range []string{text, `{"error":{"message":"` + text + `","type":"` + text + `","code":"` + text + `"}}`, `{"odd":"` + text + `"}`, "<title>" + text} {
		e := ParseError(500, nil, []byte(body))
		for _, secret := range secrets {
			if all := e.Message + e.Type + e.Code + e.Param; strings.Contains(all, secret) {
				t.Errorf("%q is in %q", secret, all)
			}
		}
		if !strings.Contains(e.Message, "llama 0.17.4") {
			t.Errorf("harmless text is gone: %q", e.Message)
		}
	}
	for _, unit := range []string{"x", "é", "世界", "a b ", "\xff", `\"`} {
		e := ParseError(500, nil, []byte(`{"error":{"message":"`+strings.Repeat(unit, 100_000)+`","code":"`+strings.Repeat(unit, 500)+`"}}`))
		if len(e.Message) > maxMessage || len(e.Code) > maxWord || !utf8.ValidString(e.Message+e.Code) || e.Message == "" {
			t.Errorf("%q: %d and %d bytes", unit, len(e.Message), len(e.Code))
		}
	}
}

func TestRetryAfter(t *testing.T) {
	for _, c := range []struct {
		header http.Header
		want   time.Duration
	}{
		{nil, 0},
		{http.Header{"Retry-After": {"20"}}, 20 * time.Second},
		{http.Header{"Retry-After": {"0.5"}}, 500 * time.Millisecond},
		{http.Header{"Retry-After": {"20"}, "Retry-After-Ms": {"1500"}}, 1500 * time.Millisecond},
		{http.Header{"Retry-After": {"Sun, 22 Nov 2026 17:01:00 GMT"}, "Date": {"Sun, 22 Nov 2026 17:00:00 GMT"}}, time.Minute},
		{http.Header{"Retry-After": {"Sun, 22 Nov 2026 17:01:00 GMT"}}, 0},
		{http.Header{"Retry-After": {"Sun, 22 Nov 2026 16:59:00 GMT"}, "Date": {"Sun, 22 Nov 2026 17:00:00 GMT"}}, 0},
		{http.Header{"Retry-After": {"-5"}}, 0},
		{http.Header{"Retry-After": {"NaN"}}, 0},
		{http.Header{"Retry-After": {"1e300"}}, maxRetryAfter},
		{http.Header{"Retry-After": {"soon"}}, 0},
	} {
		if got := ParseError(429, c.header, nil).RetryAfter; got != c.want {
			t.Errorf("%v: %v, want %v", c.header, got, c.want)
		}
	}
}

func TestAppendError(t *testing.T) {
	e := fault.New(fault.NotFound, "model_not_found", `There is no model "x".`).About("model")
	got := AppendError([]byte(">"), e, "req-1")
	want := `>{"error":{"message":"There is no model \"x\".","type":"invalid_request_error","code":"model_not_found","param":"model","request_id":"req-1"}}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	got = AppendError(nil, fault.New(fault.Upstream, "", "All failed."), "req-2",
		Attempt{Provider: "alpha", Model: "m", Outcome: "server_error", Status: 503, MS: 12},
		Attempt{Provider: "beta", Model: "m", Outcome: "connect_failed", MS: 2000})
	want = `{"error":{"message":"All failed.","type":"server_error","code":null,"param":null,"request_id":"req-2","attempts":[` +
		`{"provider":"alpha","model":"m","outcome":"server_error","status":503,"ms":12},{"provider":"beta","model":"m","outcome":"connect_failed","status":null,"ms":2000}]}}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestEveryKindHasAnErrorType(t *testing.T) {
	for k := fault.Internal; k <= fault.Timeout; k++ {
		if ErrorType(k) == "" {
			t.Errorf("kind %d has no type", k)
		}
		if k.Status() < 500 && ErrorType(k) == "server_error" {
			t.Errorf("kind %d with status %d is a %s", k, k.Status(), ErrorType(k))
		}
	}
	if ErrorType(fault.Kind(200)) != "server_error" {
		t.Error("an unknown kind is no server error")
	}
}

func BenchmarkAppendError(b *testing.B) {
	e := fault.New(fault.NotFound, "model_not_found", "There is no such model.").About("model")
	dst := make([]byte, 0, 512)
	b.ReportAllocs()
	for b.Loop() {
		dst = AppendError(dst[:0], e, "req-0123456789")
	}
}
