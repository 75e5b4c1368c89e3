package smoke

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"shareai/internal/fault"
)

// prompt is what every request asks, so that routes can be compared.
const prompt = "Reply with one short sentence about the sea."

// maxTokens bounds an answer, and with it what the test costs on a provider that charges. It leaves
// room for models that think before they speak.
const maxTokens = 64

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 16 << 20

// client speaks the public API.
type client struct {
	base    string // with /v1
	key     string
	http    *http.Client
	timeout time.Duration
}

// ask is one model request.
type ask struct {
	model     string
	mode      Mode
	ignore    []string // providers to leave out
	only      string   // the one provider to ask; empty: any
	fallbacks bool     // whether another provider may stand in for one that fails
}

// body is the request as it is sent.
func (a ask) body() []byte {
	wish := map[string]any{"allow_fallbacks": a.fallbacks}
	if len(a.ignore) > 0 {
		wish["ignore"] = a.ignore
	}
	if a.only != "" {
		wish["only"] = []string{a.only}
	}
	m := map[string]any{"model": a.model, "provider": wish}
	switch a.mode {
	case Embeddings:
		m["input"] = prompt
	case Completions:
		m["prompt"], m["max_tokens"] = prompt, maxTokens
	case ChatStream:
		m["stream"], m["stream_options"] = true, map[string]any{"include_usage": true}
		fallthrough
	default:
		m["messages"], m["max_tokens"] = []map[string]string{{"role": "user", "content": prompt}}, maxTokens
	}
	data, _ := json.Marshal(m) // strings, numbers and booleans always marshal
	return data
}

func (a ask) path() string {
	switch a.mode {
	case Embeddings:
		return "/embeddings"
	case Completions:
		return "/completions"
	default:
		return "/chat/completions"
	}
}

// do makes a request and checks its answer.
func (c *client) do(ctx context.Context, a ask) (Call, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	start := time.Now()
	answer, err := c.send(ctx, http.MethodPost, a.path(), a.body())
	if err != nil {
		return Call{}, err
	}
	defer func() { _ = answer.Body.Close() }()
	call := Call{
		Model: a.model, Mode: a.mode,
		Provider:  answer.Header.Get("X-Shareai-Provider"),
		RequestID: answer.Header.Get("X-Request-Id"),
		Reason:    answer.Header.Get("X-Shareai-Reason"),
	}
	call.Attempts, _ = strconv.Atoi(answer.Header.Get("X-Shareai-Attempts"))
	if a.mode == ChatStream {
		err = call.readStream(answer, start)
	} else {
		err = call.readReply(answer)
	}
	call.Duration = time.Since(start)
	if err == nil {
		err = call.checkHeaders()
	}
	if err != nil {
		return Call{}, &refusal{provider: call.Provider, request: call.RequestID, message: fault.Redact(describe(err, c.timeout))}
	}
	return call, nil
}

// models lists the names that the key may use.
func (c *client) models(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	answer, err := c.send(ctx, http.MethodGet, "/models", nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	var list struct {
		Data []struct {
			ID string `json:"id"`
		} `json:"data"`
	}
	if err := json.NewDecoder(io.LimitReader(answer.Body, maxAnswer)).Decode(&list); err != nil {
		return nil, fmt.Errorf("GET /v1/models does not answer with a list of models: %s", describe(err, c.timeout))
	}
	names := make([]string, len(list.Data))
	for i, m := range list.Data {
		names[i] = m.ID
	}
	return names, nil
}

// send makes a request. An answer that is not 200 is a *refusal.
func (c *client) send(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("the gateway's address is not a URL such as http://127.0.0.1:8080")
	}
	request.Header.Set("Authorization", "Bearer "+c.key)
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	answer, err := c.http.Do(request)
	if err != nil {
		return nil, fmt.Errorf("the gateway does not answer: %s", describe(err, c.timeout))
	}
	if answer.StatusCode == http.StatusOK {
		return answer, nil
	}
	defer func() { _ = answer.Body.Close() }()
	text, _ := io.ReadAll(io.LimitReader(answer.Body, 64<<10))
	return nil, readRefusal(answer, text)
}

// describe is an error of the network or of decoding in words.
func describe(err error, timeout time.Duration) string {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("no complete answer within %s", timeout)
	case errors.Is(err, context.Canceled):
		return "interrupted"
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return "the connection broke off"
	}
	var request *url.Error // repeats the method and the whole URL before its cause
	if errors.As(err, &request) {
		return request.Err.Error()
	}
	return err.Error()
}

// refusal is a request that got no valid answer.
type refusal struct {
	status   int // 0: the answer began with 200
	code     string
	provider string // empty: none was involved
	request  string // request id; empty: there was none
	message  string
	// retryAfter is the header.
	retryAfter string
}

func (r *refusal) Error() string {
	if r.status == 0 {
		return r.message
	}
	return fmt.Sprintf("%d %s", r.status, r.message)
}

// readRefusal reads OpenAI's error object, with the attempts that the gateway adds.
func readRefusal(answer *http.Response, body []byte) *refusal {
	r := &refusal{
		status: answer.StatusCode, request: answer.Header.Get("X-Request-Id"), provider: answer.Header.Get("X-Shareai-Provider"),
		message: "without OpenAI's error object: is this a gateway?", retryAfter: answer.Header.Get("Retry-After"),
	}
	var envelope struct {
		Error struct {
			Message  string          `json:"message"`
			Code     json.RawMessage `json:"code"` // some servers send a number
			Attempts []struct {
				Provider string `json:"provider"`
				Outcome  string `json:"outcome"`
			} `json:"attempts"`
		} `json:"error"`
	}
	if json.Unmarshal(body, &envelope) != nil || envelope.Error.Message == "" {
		return r
	}
	r.code = strings.Trim(string(envelope.Error.Code), `"`)
	r.message = fault.Redact(envelope.Error.Message)
	if n := len(envelope.Error.Attempts); n > 0 {
		last := envelope.Error.Attempts[n-1]
		r.provider = last.Provider
		r.message = fmt.Sprintf("%s (%s: %s)", r.message, last.Provider, last.Outcome)
	}
	return r
}

// nobodyLeft says that no provider remains once those to leave out are left out.
func nobodyLeft(err error) bool {
	var r *refusal
	return errors.As(err, &r) && r.code == "no_candidate"
}

// wrongEndpoint says that a name may well work at another endpoint: the gateway says so, or the
// provider does not know the model here.
func wrongEndpoint(err error) bool {
	var r *refusal
	if !errors.As(err, &r) {
		return false
	}
	return r.code == "endpoint_not_supported" || r.status == http.StatusBadRequest || r.status == http.StatusNotFound
}

func providerOf(err error) string {
	var r *refusal
	if errors.As(err, &r) {
		return r.provider
	}
	return ""
}

func requestOf(err error) string {
	var r *refusal
	if errors.As(err, &r) {
		return r.request
	}
	return ""
}
