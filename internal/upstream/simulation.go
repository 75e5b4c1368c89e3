package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"net/http"
	"strings"
	"syscall"
	"time"

	"shareai/internal/catalog"
)

// simulation is a provider that lives in the process. It takes the place of the network: it gets
// the same request that a real provider would, and its answers are read like any other.
type simulation struct {
	provider *catalog.Provider
}

// RoundTrip implements http.RoundTripper.
func (s simulation) RoundTrip(req *http.Request) (*http.Response, error) {
	defer req.Body.Close()
	ctx := req.Context()
	settings := &s.provider.Simulation
	failing := s.faultFor(req.Header.Get("X-Request-Id"))
	switch failing {
	case catalog.FaultRefused:
		return nil, dialError(ctx, fmt.Errorf("simulated: %w", syscall.ECONNREFUSED))
	case catalog.FaultHang:
		return nil, hang(ctx)
	case catalog.FaultServer, catalog.FaultBusy, catalog.FaultLimited, catalog.FaultKey:
		return simulatedFailures[failing].response(req), nil
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	var asked simulatedRequest
	if err := json.Unmarshal(body, &asked); err != nil {
		return simulatedFailure{status: 400, kind: "invalid_request_error", message: "The request is not valid: " + err.Error()}.response(req), nil
	}
	asked.completions = strings.HasSuffix(req.URL.Path, "/completions") && !strings.HasSuffix(req.URL.Path, "/chat/completions")
	if err := pause(ctx, settings.Latency); err != nil {
		return nil, err
	}
	switch failing {
	case catalog.FaultSlow:
		return silent(req, asked.Stream)
	case catalog.FaultBadChunk:
		return malformed(req, asked.Stream), nil
	}
	if strings.HasSuffix(req.URL.Path, "/embeddings") {
		return s.whole(req, asked.embeddings(), failing), nil
	}
	said := asked.compose(settings.Tokens)
	gap := tokenGap(settings.TokensPerSecond)
	if asked.Stream {
		return response(req, http.StatusOK, "text/event-stream", &simulatedStream{
			ctx: ctx, gap: gap, failing: failing, said: said, usage: asked.StreamOptions.IncludeUsage,
		}), nil
	}
	if err := pause(ctx, gap*time.Duration(said.tokens)); err != nil {
		return nil, err
	}
	return s.whole(req, said.reply(), failing), nil
}

// faultFor draws whether a request fails: always the same for the same request id, and not for the same
// requests as at another provider.
func (s simulation) faultFor(requestID string) catalog.Fault {
	settings := &s.provider.Simulation
	if settings.FaultShare <= 0 || settings.FaultShare >= 1 {
		return settings.Fault
	}
	h := fnv.New64a()
	_, _ = io.WriteString(h, s.provider.Name+"\x00"+requestID)
	if float64(mix(h.Sum64())>>11)/(1<<53) < settings.FaultShare {
		return settings.Fault
	}
	return catalog.NoFault
}

// whole is a unary answer, as the fault leaves it.
func (s simulation) whole(req *http.Request, reply any, failing catalog.Fault) *http.Response {
	text, err := json.Marshal(reply)
	if err != nil {
		return simulatedFailure{status: 500, kind: "server_error", message: err.Error()}.response(req)
	}
	var body io.Reader = bytes.NewReader(text)
	switch failing {
	case catalog.FaultCut:
		body = io.MultiReader(bytes.NewReader(text[:len(text)/2]), cutOff{})
	case catalog.FaultInBand: // what an error event is to a stream
		body = bytes.NewReader(simulatedFailures[failing].text())
	}
	return response(req, http.StatusOK, "application/json", io.NopCloser(body))
}

// cutOff is the place where a connection breaks.
type cutOff struct{}

func (cutOff) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// simulatedFailure is an error as providers send it.
type simulatedFailure struct {
	status              int
	kind, code, message string
	retryAfter          string
}

var simulatedFailures = map[catalog.Fault]simulatedFailure{
	catalog.FaultServer:  {status: 500, kind: "server_error", message: "The simulated provider failed."},
	catalog.FaultBusy:    {status: 503, kind: "server_error", code: "overloaded", message: "The simulated provider is overloaded."},
	catalog.FaultLimited: {status: 429, kind: "requests", code: "rate_limit_exceeded", message: "The simulated provider is rate-limited.", retryAfter: "2"},
	catalog.FaultKey:     {status: 401, kind: "invalid_request_error", code: "invalid_api_key", message: "The simulated provider rejects its key."},
	catalog.FaultInBand:  {status: 200, kind: "server_error", message: "The simulated provider failed while it answered."},
}

func (f simulatedFailure) text() []byte {
	var code any
	if f.code != "" {
		code = f.code
	}
	text, _ := json.Marshal(map[string]any{ // strings and nil always marshal
		"error": map[string]any{"message": f.message, "type": f.kind, "param": nil, "code": code},
	})
	return text
}

func (f simulatedFailure) response(req *http.Request) *http.Response {
	resp := response(req, f.status, "application/json", io.NopCloser(bytes.NewReader(f.text())))
	if f.retryAfter != "" {
		resp.Header.Set("Retry-After", f.retryAfter)
	}
	return resp
}

func response(req *http.Request, status int, contentType string, body io.ReadCloser) *http.Response {
	return &http.Response{
		StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {contentType}}, ContentLength: -1, Body: body, Request: req,
	}
}

// tokenGap is the time between two tokens; 0 is as fast as they go.
func tokenGap(perSecond float64) time.Duration {
	if perSecond <= 0 {
		return 0
	}
	return time.Duration(float64(time.Second) / perSecond)
}

// pause waits, or returns why the context ended.
func pause(ctx context.Context, d time.Duration) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
