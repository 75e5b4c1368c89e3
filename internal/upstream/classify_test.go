package upstream

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"shareai/internal/openai"
)

func TestClassify(t *testing.T) {
	for _, test := range []struct {
		status int
		body   string
		want   Outcome
	}{
		{429, ``, RateLimited},
		{429, `{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}`, QuotaExhausted},
		{402, `{"error":{"message":"Insufficient Balance","type":"unknown_error","code":"invalid_request_error"}}`, QuotaExhausted},
		{413, `{"error":{"message":"Request too large for model","type":"tokens","code":"rate_limit_exceeded"}}`, RateLimited},
		{413, ``, ClientError},
		{503, ``, Overloaded},
		{529, `{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}`, Overloaded},
		{500, ``, ServerError},
		{502, `<html><title>Bad Gateway</title></html>`, ServerError},
		{520, ``, ServerError},
		{408, ``, TimeoutStatus},
		{504, ``, TimeoutStatus},
		{401, `{"error":{"message":"Incorrect API key provided","code":"invalid_api_key"}}`, KeyRejected},
		{403, ``, KeyRejected},
		{403, `{"error":{"message":"no","code":"content_policy_violation"}}`, ContentFilter},
		{404, `{"error":{"message":"model 'x' not found","type":"api_error","param":null,"code":null}}`, NotFound},
		{400, `{"error":{"message":"no such model","code":"model_not_found"}}`, NotFound},
		{404, `{"error":{"code":"DeploymentNotFound","message":"The API deployment for this resource does not exist."}}`, NotFound},
		{400, `{"error":{"message":"bad","type":"invalid_request_error","code":null}}`, ClientError},
		{409, ``, Overloaded},
		{422, `{"detail":[{"msg":"field required"}]}`, ClientError},
		{418, ``, ClientError},
		{400, `{"error":{"message":"This model's maximum context length is 8192 tokens.","code":"context_length_exceeded"}}`, ContextLength},
		{400, `{"object":"error","message":"This model's maximum context length is 4096 tokens. However, you requested 5000 tokens","type":"BadRequestError","code":400}`, ContextLength},
		{400, `{"error":{"message":"You passed 1015 input tokens and requested 10 output tokens. However, the model's context length is only 1024 tokens","type":"BadRequestError","code":400}}`, ContextLength},
		{400, `{"error":{"code":400,"message":"the request exceeds the available context size","type":"exceed_context_size_error","n_ctx":256}}`, ContextLength},
		{500, `{"error":{"code":500,"message":"the request exceeds the available context size. try increasing the context size","type":"server_error"}}`, ContextLength},
		{400, `{"error":"the input length exceeds the context length"}`, ContextLength},
		{422, "{\"error\":\"Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096\",\"error_type\":\"validation\"}", ContextLength},
		{401, `{"error":"the prompt is too long a story, and the key is wrong"}`, KeyRejected},
		{400, `{"error":{"message":"The response was filtered","code":"content_filter","innererror":{"code":"ResponsibleAIPolicyViolation"}}}`, ContentFilter},
		{400, `{"error":{"message":"Content Exists Risk","type":"invalid_request_error","code":"invalid_request_error"}}`, ContentFilter},
		{200, `{"error":{"message":"it broke","type":"server_error"}}`, ErrorEvent},
		{200, `{"error":{"message":"it broke","code":502}}`, ServerError},
		{200, `{"error":{"message":"busy","code":"503"}}`, Overloaded},
		{200, `{"error":{"message":"slow down","code":"rate_limit_exceeded"}}`, RateLimited},
		{200, `{"error":{"message":"odd","code":200}}`, ErrorEvent},
	} {
		got := Classify(openai.ParseError(test.status, nil, []byte(test.body)))
		if got.Outcome != test.want || got.Status != test.status || got.Message == "" {
			t.Errorf("%d %s: %v, want %s", test.status, test.body, got, test.want)
		}
	}
}

func TestOutcomesAreAClosedSet(t *testing.T) {
	said := map[Outcome]bool{}
	for _, o := range Outcomes {
		if said[o] || string(o) != strings.ToLower(string(o)) {
			t.Errorf("outcome %q", o)
		}
		said[o] = true
	}
	for _, table := range [][]Outcome{outcomesOf(codes), outcomesOf(byStatus)} {
		for _, o := range table {
			if !slices.Contains(Outcomes, o) {
				t.Errorf("outcome %q is not listed", o)
			}
		}
	}
	for word := range codes {
		if word != strings.ToLower(word) {
			t.Errorf("%q can never be found", word)
		}
	}
	for _, phrase := range phrases {
		if phrase.text != strings.ToLower(phrase.text) || !said[phrase.outcome] {
			t.Errorf("%q can never be found", phrase.text)
		}
	}
}

func outcomesOf[K comparable](table map[K]Outcome) []Outcome {
	var out []Outcome
	for _, o := range table {
		out = append(out, o)
	}
	return out
}

func TestEnded(t *testing.T) {
	why := errors.New("why")
	for cause, want := range map[error]Outcome{why: Canceled, IdleTimeout: IdleTimeout, context.DeadlineExceeded: TotalTimeout, context.Canceled: Canceled} {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(cause)
		if e := ended(ctx); e.Outcome != want || !errors.Is(e, cause) || !errors.Is(e, want) {
			t.Errorf("%v: %v", cause, e)
		}
	}
}

func TestErrorsKeepSecrets(t *testing.T) {
	e := &Error{Outcome: Broken, Message: "broken", Cause: errors.New("Authorization: Bearer abcdef123456")}
	if strings.Contains(e.Error(), "abcdef") {
		t.Error(e)
	}
}
