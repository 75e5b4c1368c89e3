package gateway

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"shareai/internal/account"
	"shareai/internal/admission"
	"shareai/internal/attempt"
	"shareai/internal/catalog"
	"shareai/internal/fault"
	"shareai/internal/openai"
	"shareai/internal/routing"
	"shareai/internal/usage"
)

// exchange is the account of one request while it is under way: the record that it will leave, the
// log of its attempts, and the way back to the client.
type exchange struct {
	gateway *Gateway
	out     *clientWriter
	start   time.Time
	trace   attempt.Trace
	plan    *routing.Plan // nil before there is one
	log     attempt.Log
	record  usage.Record
	settled bool              // the record is written
	sharing *sharing          // nil unless the answer is for others too
	permit  *admission.Permit // nil where nothing bounds the request
}

func (x *exchange) identify(p *account.Principal) {
	x.record.Organization, x.record.Project, x.record.KeyID = p.Project.Organization, p.Project.Name, p.Key.ID
	x.record.Labels = p.Project.Labels
}

func (x *exchange) received(r *openai.Request) {
	if r != nil {
		x.record.BytesIn, x.record.Requested, x.record.Stream = int64(len(r.Body)), r.Model, r.Stream
		x.record.Prompt = promptFingerprint(r)
	}
}

func (x *exchange) planned(p *routing.Plan, r *openai.Request) {
	x.record.Route = p.Route
	if p.Policy == nil {
		return
	}
	x.plan = p
	x.record.Policy, x.record.Drill = p.Policy.Name, drillOf(p)
	if p.Policy.LogContent {
		x.record.Content = &usage.Content{}
		x.record.Content.Request = x.bounded(nil, r.Body)
	}
}

// answered notes who serves the request; a stream that is resumed says it again.
func (x *exchange) answered(c *routing.Candidate) {
	t := &c.Target
	x.record.Reason = reason(x.plan, c, &x.log)
	x.record.Model, x.record.Provider, x.record.Deployment, x.record.PriceVersion = t.Model.Name, t.Provider.Name, t.ID, t.PriceVersion
	h := x.out.header
	h["X-Shareai-Provider"] = []string{t.Provider.Name}
	h["X-Shareai-Model"] = []string{t.Model.Name}
	h["X-Shareai-Deployment"] = []string{t.ID}
	h["X-Shareai-Attempts"] = []string{strconv.Itoa(x.log.Len())}
	h["X-Shareai-Reason"] = []string{x.record.Reason}
	h["X-Shareai-Cache"] = cacheOff
}

var cacheOff = []string{"off"}

// totals brings tokens and cost over all attempts into the record.
func (x *exchange) totals() {
	x.record.Tokens, x.record.Cost = x.log.Totals()
}

// settle completes the record and journals it. It runs before the last byte of an answer is sent, so
// that no client holds a whole answer of which no record exists.
func (x *exchange) settle(status int, code string) {
	if x.settled {
		return
	}
	x.settled = true
	defer x.release() // a defect in here must not keep what it holds
	x.totals()
	x.record.Attempts, x.record.Candidates = x.log.Attempts(), considered(x.plan)
	x.compare()
	r := &x.record
	r.Status, r.Code = status, code
	r.Duration = time.Since(x.start).Microseconds()
	if r.KeyID != "" {
		if err := x.gateway.Journal.Append(r); err != nil {
			x.gateway.Log.Error("a record could not be journalled", "request_id", r.ID, "error", err)
		}
	}
	for _, o := range x.gateway.Observers {
		o.Observe(r)
	}
}

// fail answers with an error, in whichever way is still open. A client that left gets its answer as
// well: it may have closed only its own direction, and would take silence for an empty success.
func (x *exchange) fail(e *fault.Error) {
	status := e.HTTPStatus()
	if x.settled {
		return // the answer was complete; the client did not take its last bytes
	}
	body := openai.AppendError(nil, e, x.record.ID, attemptsOf(x.log.Attempts())...)
	x.record.BytesOut = x.out.sent
	if !x.out.began {
		x.record.BytesOut = int64(len(body))
	}
	x.settle(status, e.Code)
	if e.Kind == fault.Internal {
		x.gateway.Log.Error("request failed", "request_id", x.record.ID, "error", e)
	}
	if x.out.began {
		return
	}
	allowOf(e, http.MethodPost, x.out.header)
	writeError(x.out, e, body)
}

// writeError sends an error envelope.
func writeError(out *clientWriter, e *fault.Error, body []byte) {
	h := out.header
	h["Content-Type"] = typeJSON
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	if e.RetryAfter > 0 {
		seconds := int64((e.RetryAfter + time.Second - 1) / time.Second)
		h["Retry-After"] = []string{strconv.FormatInt(seconds, 10)}
	}
	if e.Kind == fault.Unauthenticated {
		h["Www-Authenticate"] = []string{"Bearer"}
	}
	if e.Kind == fault.TooLarge {
		h["Connection"] = []string{"close"} // what is left of the body is not read
	}
	out.begin(e.HTTPStatus())
	_ = out.write(body)
}

var typeJSON = []string{"application/json"}

// attemptsOf is what a client may see of the attempts.
func attemptsOf(log []usage.Attempt) []openai.Attempt {
	list := make([]openai.Attempt, len(log))
	for i, a := range log {
		list[i] = openai.Attempt{Provider: a.Provider, Model: a.Model, Outcome: a.Outcome, Status: a.Status, MS: a.Duration / 1000}
	}
	return list
}

// traceOf takes up the caller's trace, or begins one where the gateway makes its own.
func (g *Gateway) traceOf(h http.Header) attempt.Trace {
	trace := readTrace(h)
	if trace.TraceID == "" && g.NewTrace != nil {
		trace = g.NewTrace()
	}
	return trace
}

// readTrace reads the caller's W3C trace context; a malformed one is ignored, as the specification
// (https://www.w3.org/TR/trace-context/) says.
func readTrace(h http.Header) attempt.Trace {
	v := h["Traceparent"]
	if len(v) != 1 || len(v[0]) < 55 || v[0][2] != '-' || v[0][35] != '-' || v[0][52] != '-' {
		return attempt.Trace{}
	}
	version, trace, parent, flags := v[0][:2], v[0][3:35], v[0][36:52], v[0][53:55]
	for _, field := range []string{version, trace, parent, flags} {
		if strings.Trim(field, "0123456789abcdef") != "" {
			return attempt.Trace{}
		}
	}
	none := strings.Trim(trace, "0") == "" || strings.Trim(parent, "0") == ""
	long := len(v[0]) > 55 && (version == "00" || v[0][55] != '-') // only a later version may say more
	if version == "ff" || none || long {
		return attempt.Trace{}
	}
	return attempt.Trace{TraceID: trace, ParentID: parent, Sampled: strings.Contains("13579bdf", flags[1:])}
}

// costOf is a cost as it stands in headers: dollars, decimal.
func costOf(nano int64) []string { return []string{catalog.FormatUSD(nano)} }

// keepAnswer keeps what is sent, where the policy says so, up to usage.MaxContent bytes.
func (x *exchange) keepAnswer(part []byte) {
	if c := x.record.Content; c != nil {
		c.Answer = x.bounded(c.Answer, part)
	}
}

func (x *exchange) bounded(kept, more []byte) []byte {
	room := usage.MaxContent - len(kept)
	if len(more) > room {
		x.record.Content.Truncated = true
		more = more[:room]
	}
	return append(kept, more...)
}
