package failover

import (
	"fmt"
	"net/http"
	"strings"

	"shareai/test/faultwall"
)

// form is a way to ask.
type form struct {
	name   string
	path   string
	stream bool
	body   string // with %d for the cell and %q for the model
	// plain says that the answer is one text and nothing else: one that can be completed by somebody else.
	plain bool
	tools bool
}

const (
	chatPath       = "/v1/chat/completions"
	completionPath = "/v1/completions"
	embeddingsPath = "/v1/embeddings"

	messages = `"messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"Question %d?"}]`
	offered  = `"tools":[{"type":"function","function":{"name":"weather","parameters":{"type":"object"}}}]`
	streamed = `"stream":true,"stream_options":{"include_usage":true}`
)

// forms are every endpoint and mode, and the kinds of chats whose streams are treated differently.
var forms = []form{
	{name: "chat", path: chatPath, body: messages, plain: true},
	{name: "chat, stream", path: chatPath, body: messages + "," + streamed, stream: true, plain: true},
	{name: "tools", path: chatPath, body: messages + "," + offered, tools: true},
	{name: "tools, stream", path: chatPath, body: messages + "," + offered + "," + streamed, stream: true, tools: true},
	{name: "reasoning, stream", path: chatPath, body: messages + `,"reasoning_effort":"low",` + streamed, stream: true},
	{name: "JSON, stream", path: chatPath, body: messages + `,"response_format":{"type":"json_object"},` + streamed, stream: true},
	{name: "two choices", path: chatPath, body: messages + `,"n":2`},
	{name: "two choices, stream", path: chatPath, body: messages + `,"n":2,` + streamed, stream: true},
	{name: "completions", path: completionPath, body: `"prompt":"Question %d?"`, plain: true},
	{name: "completions, stream", path: completionPath, body: `"prompt":"Question %d?",` + streamed, stream: true, plain: true},
	{name: "embeddings", path: embeddingsPath, body: `"input":["text %d","another"]`},
}

func (f form) request(cell int, model string) string {
	return fmt.Sprintf(`{"model":%q,%s}`, model, fmt.Sprintf(f.body, cell))
}

// policy is a way to route, and what the second provider is like.
type policy struct {
	name   string
	rules  string // of the policy, in YAML
	alone  bool   // there is no second provider
	larger bool   // the second provider serves another model, with a larger context
	// prefill says that the model goes on with a beginning; restart, that the second provider refuses to.
	prefill, restart bool
	noResume         bool
	loose            bool // tool calls are not held back
	filter           bool // a content filter's refusal moves on
	connect          bool // only failed connections move on
}

var policies = []policy{
	{name: "failover"},
	{name: "prefill", prefill: true},
	{name: "prefill-refused", prefill: true, restart: true},
	{name: "alone", alone: true},
	{name: "no-resume", noResume: true, rules: "resume: off"},
	{name: "loose", loose: true, rules: "hold_tool_calls: off"},
	{name: "filter", filter: true, rules: "on_content_filter: fallback"},
	{name: "larger", larger: true},
	{name: "connect-only", connect: true, rules: "failover_on: [connect]"},
}

// ending is what a client is left with.
type ending string

// The endings.
const (
	whole       ending = "the whole answer"
	asGiven     ending = "what the provider gave"
	failed      ending = "an error"
	interrupted ending = "an error event after a part"
	honest      ending = "the whole answer, or an error"
)

// want is what a cell of the matrix must show.
type want struct {
	ending  ending
	by      string // who serves in the end: a or b; empty: nobody
	status  int    // of an error; 400 stands for any that blames the client
	a, b    int    // calls
	outcome string // of the first attempt
	resumes string // prefill or restart: how the last attempt went on
	finish  string // of what the provider gave
}

// expect applies the table to one cell.
func expect(f form, fault faultwall.Fault, r row, p policy) want {
	outcome, _, _ := strings.Cut(r.outcomes, " ")
	w := want{a: 1, outcome: r.outcomes, status: statusOf(outcome)}
	means := r.means
	if f.path == embeddingsPath { // no text in them that could be empty or filtered
		switch means {
		case empty:
			means, w.status = passing, http.StatusBadGateway
		case filtered:
			means, w.outcome = good, "ok"
		}
	}
	moved := func() want { w.ending, w.by, w.b = whole, "b", 1; return w }
	given := func(finish string) want { w.ending, w.by, w.finish, w.outcome = asGiven, "a", finish, "ok"; return w }
	said := f.stream && fault.Sent != 0 // content has been sent
	switch means {
	case good:
		w.ending, w.by = whole, "a"
		return w
	case caller:
		w.ending = failed
		return w
	case tooLong:
		if p.larger {
			return moved()
		}
		w.ending, w.status = failed, http.StatusBadRequest
		return w
	case refused:
		if p.filter {
			return moved()
		}
		w.ending, w.status = failed, http.StatusBadRequest
		return w
	case filtered:
		if p.filter && !said {
			return moved()
		}
		return given("content_filter")
	case empty:
		if !p.alone && !p.connect {
			return moved()
		}
		if f.tools && f.stream { // the wall leaves the pieces of the call away, and not how the answer ends
			return given("tool_calls")
		}
		return given("stop")
	case lossy:
		w.ending = honest
		return w
	}
	if p.connect && strings.HasSuffix(r.outcomes, " connect_failed") {
		w.ending = honest // a matter of a microsecond
		return w
	}
	mayMove := !p.alone && (!p.connect || strings.HasPrefix(r.outcomes, "connect"))
	if said && (!f.tools || p.loose) { // the client has seen a part of it
		return broken(w, f, means, p, mayMove)
	}
	if mayMove {
		return moved()
	}
	w.ending = failed
	if !mayMove && means == passing {
		w.a = 2
	}
	return w
}

// broken is what becomes of a stream that broke after the client has seen a part of it.
func broken(w want, f form, means meaning, p policy, mayMove bool) want {
	switch {
	case !f.plain || p.noResume || !mayMove:
		w.ending = interrupted
		if f.plain && !mayMove && means == passing {
			w.a, w.resumes = 2, "restart" // from the start, as far as it goes
		}
	case p.prefill && p.restart:
		w.ending, w.by, w.b, w.resumes = whole, "b", 2, "restart"
	case p.prefill:
		w.ending, w.by, w.b, w.resumes = whole, "b", 1, "prefill"
	default:
		w.ending, w.by, w.b, w.resumes = whole, "b", 1, "restart"
	}
	return w
}

// statusOf is the status of an answer when nothing but this has happened.
func statusOf(outcome string) int {
	switch outcome {
	case "rate_limited", "quota_exhausted":
		return http.StatusTooManyRequests
	case "overloaded":
		return http.StatusServiceUnavailable
	case "timeout_status", "headers_timeout", "first_token_timeout", "idle_timeout":
		return http.StatusGatewayTimeout
	case "client_error", "context_length", "content_filter":
		return http.StatusBadRequest
	default:
		return http.StatusBadGateway
	}
}
