package attempt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"shareai/internal/account"
	"shareai/internal/catalog"
	"shareai/internal/health"
	"shareai/internal/openai"
	"shareai/internal/routing"
	"shareai/internal/share"
	"shareai/internal/snapshot"
	"shareai/internal/upstream"
)

// tester is what *testing.T and *rapid.T have in common.
type tester interface {
	Helper()
	Context() context.Context
	Errorf(format string, args ...any)
	Fatal(args ...any)
}

// behaviour is what a deployment does with one call.
type behaviour func(ctx context.Context, call *upstream.Call) (*upstream.Answer, error)

// house is a set of deployments that do as they are told: each call takes the next behaviour, and the last
// one stays.
type house struct {
	t      tester
	board  *health.Board
	policy catalog.Policy
	needs  openai.Needs
	stops  []*double
	draw   float64
	desk   *share.Desk // nil: deployments have no capacity
	plan   *routing.Plan
	log    Log
}

type double struct {
	candidate routing.Candidate
	script    []behaviour
	mu        sync.Mutex
	calls     []*upstream.Call
	at        []time.Time
}

func newHouse(t tester) *house {
	return &house{t: t, board: health.NewBoard(health.Options{}), draw: 0.5}
}

// add adds a deployment named a, b, c … of model m.
func (h *house) add(script ...behaviour) *double {
	name := string(rune('a' + len(h.stops)))
	d := &double{script: script}
	d.candidate = routing.Candidate{
		Target: snapshot.Target{
			ID: name + "/m", Model: &catalog.Model{Name: "m"}, Deployment: &catalog.Deployment{Provider: name, Model: "m"},
			Provider: &catalog.Provider{Name: name},
		},
		HealthID: name + "/m",
	}
	h.stops = append(h.stops, d)
	return d
}

// prefills declares that the deployment takes the beginning of its answer.
func (d *double) prefills() *double {
	d.candidate.Limits.Can, d.candidate.Limits.Known = catalog.SetOf(catalog.Prefill), true
	return d
}

func (d *double) Do(ctx context.Context, call *upstream.Call) (*upstream.Answer, error) {
	d.mu.Lock()
	d.calls, d.at = append(d.calls, call), append(d.at, time.Now())
	next := d.script[0]
	if len(d.script) > 1 {
		d.script = d.script[1:]
	}
	d.mu.Unlock()
	return next(ctx, call)
}

func (h *house) Do(ctx context.Context, call *upstream.Call) (*upstream.Answer, error) {
	at := slices.IndexFunc(h.stops, func(d *double) bool { return d.candidate.Provider.Name == call.Provider.Name })
	return h.stops[at].Do(ctx, call)
}

// run answers one request with a body.
func (h *house) run(ctx context.Context, body string) (Answer, error) {
	h.t.Helper()
	request, err := openai.ParseRequest([]byte(body))
	if err != nil {
		h.t.Fatal(err)
	}
	policy := h.policy.WithDefaults()
	plan := &routing.Plan{Policy: &policy, Mode: health.WholeAnswer}
	if request.Stream {
		plan.Mode = health.FirstToken
	}
	for _, d := range h.stops {
		plan.Candidates = append(plan.Candidates, d.candidate)
	}
	h.plan, h.log = plan, Log{}
	return NewEngine(h, h.board, func() float64 { return h.draw }).Sharing(h.desk).Run(ctx, &Work{
		Plan: plan, Endpoint: catalog.Chat, Request: request, Needs: h.needs, Start: time.Now(), Log: &h.log, Part: account.Part{Owner: "acme", Millionths: 1e6},
	})
}

const (
	unaryBody  = `{"model":"m","messages":[{"role":"user","content":"hi"}]}`
	streamBody = `{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}`
)

// outcomes are the outcomes of the attempts in order.
func (h *house) outcomes() string {
	var words []string
	for _, a := range h.log.Attempts() {
		words = append(words, a.Provider+":"+a.Outcome)
	}
	return strings.Join(words, " ")
}

// failing ends every call with an outcome.
func failing(o upstream.Outcome) behaviour {
	return func(context.Context, *upstream.Call) (*upstream.Answer, error) {
		return nil, &upstream.Error{Outcome: o, Message: "no", Status: 418}
	}
}

// asking ends every call with an outcome and a Retry-After.
func asking(o upstream.Outcome, wait time.Duration) behaviour {
	return func(context.Context, *upstream.Call) (*upstream.Answer, error) {
		return nil, &upstream.Error{Outcome: o, Message: "later", Status: 429, RetryAfter: wait}
	}
}

// saying answers a unary call.
func saying(content, finish string) behaviour {
	return func(context.Context, *upstream.Call) (*upstream.Answer, error) {
		text, _ := json.Marshal(content)
		return &upstream.Answer{Status: 200, HeadersAt: time.Now(), Body: fmt.Appendf(nil,
			`{"choices":[{"index":0,"message":{"content":%s},"finish_reason":%q}],"usage":{"prompt_tokens":3,"completion_tokens":2}}`, text, finish)}, nil
	}
}

// slowly does the same later.
func slowly(after time.Duration, then behaviour) behaviour {
	return func(ctx context.Context, call *upstream.Call) (*upstream.Answer, error) {
		select {
		case <-time.After(after):
			return then(ctx, call)
		case <-ctx.Done():
			return nil, endOf(ctx)
		}
	}
}

func endOf(ctx context.Context) error {
	var o upstream.Outcome
	if errors.As(context.Cause(ctx), &o) {
		return &upstream.Error{Outcome: o, Message: "cancelled"}
	}
	return &upstream.Error{Outcome: upstream.Canceled, Message: "cancelled"}
}

// streaming answers with events. "CUT" breaks the connection; the end of the list is a clean end.
func streaming(events ...string) behaviour {
	return func(ctx context.Context, _ *upstream.Call) (*upstream.Answer, error) {
		var wire strings.Builder
		end := io.EOF
		for _, e := range events {
			if e == "CUT" {
				end = io.ErrUnexpectedEOF
				break
			}
			wire.WriteString("data: " + e + "\n\n")
		}
		return &upstream.Answer{Status: 200, HeadersAt: time.Now(), Stream: upstream.NewStream(ctx, &wireBody{strings.NewReader(wire.String()), end})}, nil
	}
}

type wireBody struct {
	*strings.Reader
	end error
}

func (b *wireBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err == io.EOF {
		err = b.end
	}
	return n, err
}

func (b *wireBody) Close() error { return nil }

// The pieces of a stream.
const (
	roleChunk = `{"choices":[{"index":0,"delta":{"role":"assistant"}}]}`
	stopChunk = `{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`
	doneMark  = "[DONE]"
)

func delta(text string) string {
	content, _ := json.Marshal(text)
	return fmt.Sprintf(`{"choices":[{"index":0,"delta":{"content":%s}}]}`, content)
}

func reasoning(text string) string {
	return fmt.Sprintf(`{"choices":[{"index":0,"delta":{"reasoning_content":%q}}]}`, text)
}

func toolCall(arguments string) string {
	return fmt.Sprintf(`{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_1","function":{"name":"f","arguments":%q}}]}}]}`, arguments)
}

// heard is what a client gets of a stream: the text, the pieces of tool calls, whether it finished, and how it broke.
type heard struct {
	text, calls string
	finished    bool
	err         error
}

// hear reads a stream as a client does.
func hear(s *Stream) heard {
	defer s.Close()
	var h heard
	for {
		c, err := s.Next()
		if errors.Is(err, io.EOF) {
			return h
		}
		if err != nil {
			h.err = err
			return h
		}
		for _, choice := range c.Choices {
			h.text += openai.DecodeText(choice.Text)
			if choice.ToolCalls {
				h.calls += string(c.Data)
			}
			h.finished = h.finished || choice.FinishReason != ""
		}
	}
}
