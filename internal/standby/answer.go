package standby

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"shareai/internal/fault"
	"shareai/internal/openai"
)

const (
	// maxHeld is how much of a stream is held back while it has no content, in bytes. A stream that goes
	// on like that is relayed as it is.
	maxHeld = 1 << 20
	// maxWhole is how much of an answer that is no stream is held back until it is whole, in bytes.
	maxWhole = 64 << 20
	// maxKept is how much of a failure's body is kept for the client, in bytes.
	maxKept = 1 << 20
	// refusalTime is how long the body of a failure is waited for.
	refusalTime = 5 * time.Second
)

// reason is one word for why a way failed. It is the cause with which deadlines end a context, too.
type reason string

const (
	clientLeft   reason = "client_left"
	noConnection reason = "no_connection" // or one that broke before the answer
	tooSlow      reason = "timeout"
	badStatus    reason = "status"
	badAnswer    reason = "bad_answer" // not what the API promises
	saidError    reason = "error"      // an error inside an answer that began well
	brokeOff     reason = "broken"     // it broke or ended before its first content
)

// Error is the reason's word.
func (r reason) Error() string { return string(r) }

// failure is why a way gave no answer.
type failure struct {
	reason     reason
	status     int
	retryAfter time.Duration
	// kept is what came, when it is an answer that a client understands; else nil.
	kept *answer
}

// answer is what a way has answered, at least up to its commit point.
type answer struct {
	way      string
	response *http.Response
	// held has been read already; rest follows, nil when there is nothing more.
	held []byte
	rest io.Reader
	// stream reads along; nil for everything that is no stream.
	stream *stream
	// broken says that the rest did not come whole.
	broken bool

	clock  *time.Timer
	idle   time.Duration
	cancel context.CancelCauseFunc
}

func (a *answer) close() {
	a.clock.Stop()
	a.cancel(nil)
	_ = a.response.Body.Close()
	if a.stream != nil {
		a.stream.events.Release()
	}
}

// ask sends the request and reads the answer up to its commit point. The caller closes what is returned.
func (w *way) ask(ctx context.Context, q *question) (*answer, *failure) {
	ctx, cancel := context.WithCancelCause(ctx)
	start := time.Now()
	limit := w.timeouts.Answer
	if q.stream() {
		limit = w.timeouts.Headers
	}
	a := &answer{way: w.name, idle: w.timeouts.Idle, cancel: cancel, clock: time.AfterFunc(limit, func() { cancel(tooSlow) })}
	response, failed := w.send(ctx, q) //nolint:bodyclose // answer.close does, or judge
	if failed != nil {
		a.clock.Stop()
		cancel(nil)
		return nil, failed
	}
	a.response, a.rest = response, response.Body
	if q.stream() {
		a.clock.Reset(max(w.timeouts.FirstToken-time.Since(start), 1))
	}
	if failed := a.judge(ctx, q); failed != nil {
		a.close()
		return nil, failed
	}
	a.clock.Stop()
	return a, nil
}

// judge reads up to where it is known whether this is an answer.
func (a *answer) judge(ctx context.Context, q *question) *failure {
	status, head := a.response.StatusCode, a.response.Header
	kind, _, _ := mime.ParseMediaType(head.Get("Content-Type"))
	encoded := head.Get("Content-Encoding") != "" && head.Get("Content-Encoding") != "identity"
	var why reason
	switch {
	case isFailure(status):
		return a.refused()
	case status != http.StatusOK, encoded:
		return nil
	case kind == "text/event-stream":
		a.stream = newStream(a, q)
		why = a.stream.prime()
	default:
		why = a.readWhole(q)
	}
	switch {
	case why == "":
		return nil
	case ctx.Err() != nil:
		why = reasonOf(ctx, nil, why)
	}
	return &failure{reason: why, status: status}
}

// isFailure says whether a status is a failure of the provider's. The others of 4xx are the client's own.
func isFailure(status int) bool {
	switch status {
	case http.StatusPaymentRequired, http.StatusRequestTimeout, http.StatusConflict, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	default:
		return status >= http.StatusInternalServerError
	}
}

// refused is the failure that an answer with an error status is. Its body is kept, when it comes whole and
// is not too long.
func (a *answer) refused() *failure {
	f := &failure{reason: badStatus, status: a.response.StatusCode}
	a.clock.Reset(refusalTime)
	body, err := io.ReadAll(io.LimitReader(a.rest, maxKept+1))
	a.close()
	if err == nil && len(body) <= maxKept {
		f.kept = &answer{way: a.way, response: a.response, held: body}
	}
	f.retryAfter = openai.ParseError(f.status, a.response.Header, body).RetryAfter
	return f
}

// readWhole reads an answer that is no stream, and looks whether it is one.
func (a *answer) readWhole(q *question) reason {
	var body bytes.Buffer
	n, err := body.ReadFrom(io.LimitReader(a.rest, maxWhole))
	a.held = body.Bytes()
	if err != nil {
		return brokeOff
	}
	if n == maxWhole {
		return "" // there is more: too much to wait for
	}
	a.rest = nil
	if q.request == nil {
		if !bytes.HasPrefix(bytes.TrimSpace(a.held), []byte("{")) || !json.Valid(a.held) {
			return badAnswer
		}
		return ""
	}
	reply, err := openai.ParseReply(a.held)
	switch {
	case err != nil:
		return badAnswer
	case reply.Err != nil:
		return saidError
	default:
		return ""
	}
}

// noAnswer is the stand-by's own error, when nobody has said anything that could be returned.
func noAnswer(failures []*failure) error {
	kind, text := fault.Upstream, "The provider could not be reached or gave no usable answer"
	if len(failures) > 1 {
		text += ", and neither did the ShareAI gateway"
	}
	if f := failures[0]; f != nil && f.reason == tooSlow {
		kind = fault.Timeout
	}
	var why []string
	for i, name := range [...]string{"primary", "gateway"} {
		if i < len(failures) && failures[i] != nil {
			why = append(why, name+": "+string(failures[i].reason))
		}
	}
	return fault.New(kind, "no_answer", fmt.Sprintf("%s (%s). Try again shortly.", text, strings.Join(why, ", ")))
}
