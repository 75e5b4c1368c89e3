package attempt

import (
	"context"
	"slices"
	"time"

	"shareai/internal/catalog"
	"shareai/internal/health"
	"shareai/internal/openai"
	"shareai/internal/upstream"
)

// try is one call to one candidate.
type try struct {
	*walk
	stop     *stop
	request  *openai.Request // the client's, or the continuation of a broken answer
	entry    *entry
	lastHope bool // no other candidate is left: an empty answer is better than none
	// firstToken is how long the first content of a stream may take.
	firstToken time.Duration
}

// result is what a successful try gave: a reply, or the leg of a stream.
type result struct {
	reply openai.Reply
	leg   *leg
}

// open begins a try at a stop to which the walk has come.
func (w *walk) open(s *stop) *try {
	entry := w.work.Log.open(w.work, &s.candidate.Target, s.key)
	entry.Retry, entry.Wait, entry.Hedge = s.tries > 1, s.wait.Microseconds(), s.rival
	if s.permit.Probe() {
		entry.Circuit = string(health.HalfOpen)
	}
	return &try{walk: w, stop: s, request: w.work.Request, entry: entry, lastHope: !w.hasOther(s)}
}

// tryAt makes one attempt and draws the consequences of its failure.
func (w *walk) tryAt(ctx context.Context, s *stop) (result, *upstream.Error) {
	t := w.open(s)
	got, failure := t.run(ctx)
	if failure != nil {
		w.note(s, failure)
	}
	return got, failure
}

// run calls the candidate and waits for what can be given to the client: a whole reply, or a stream with
// its first content. A failure is logged, and the permit still open.
func (t *try) run(ctx context.Context) (result, *upstream.Error) {
	stage, limit := t.headersStage()
	ctx, dog := watch(ctx, t.work.Start.Add(t.deadlines().Total), stage, limit)
	returns := false
	defer func() {
		if !returns { // it panics, and nobody else knows what it holds
			dog.stop()
			t.stop.seat.Release()
			t.stop.permit.Dropped()
		}
	}()
	got, failure := t.call(ctx, dog)
	if got.leg == nil {
		dog.stop()
		t.stop.seat.Release()
	}
	returns = true
	return got, failure
}

// call is run under its watchdog, which goes on watching a stream.
func (t *try) call(ctx context.Context, dog *watchdog) (result, *upstream.Error) {
	call := &upstream.Call{
		Target:      upstream.Target{Provider: t.stop.candidate.Provider, Deployment: t.stop.candidate.Deployment, Key: *t.stop.key},
		Endpoint:    t.work.Endpoint,
		Request:     t.request,
		RequestID:   t.work.RequestID,
		Traceparent: t.work.Trace.parent(t.entry.SpanID),
		Connect:     t.deadlines().Connect,
		Drill:       t.drill(),
	}
	if t.request.Stream {
		call.OnHeaders = func() { dog.enter(upstream.FirstTokenTimeout, t.firstTokenLeft()) }
	} else {
		call.OnHeaders, call.OnBytes = t.body(dog)
	}
	got, err := t.engine.caller.Do(ctx, call)
	if err != nil {
		failure := asFailure(err)
		if failure.Outcome == upstream.Hedged {
			failure = errHedged()
		}
		t.entry.fail(failure)
		if !failure.HeadersAt.IsZero() && failure.Status == 0 { // an answer that broke off is on the bill as well
			t.entry.settle(openai.Usage{}, openai.Produced{})
		}
		return result{}, failure
	}
	t.entry.headers(got.HeadersAt)
	if got.Stream == nil {
		return t.unary(got)
	}
	l := &leg{try: t, answer: got, dog: dog}
	if failure := l.prime(); failure != nil {
		l.fail(failure)
		return result{}, failure
	}
	t.succeeded(health.FirstToken, t.entry.FirstToken)
	return result{leg: l}, nil
}

// body watches the body of a unary answer: each piece may take as long as an event of a stream, and all of it its
// share of what is left.
func (t *try) body(dog *watchdog) (onHeaders, onBytes func()) {
	var end time.Time
	onBytes = func() {
		limit := t.deadlines().Idle
		if !end.IsZero() {
			limit = max(min(limit, time.Until(end)), 1)
		}
		dog.enter(upstream.IdleTimeout, limit)
	}
	onHeaders = func() {
		if share := t.within(0); share > 0 {
			end = time.Now().Add(share)
		}
		onBytes()
	}
	return onHeaders, onBytes
}

func (t *try) deadlines() *catalog.Deadlines { return &t.work.Plan.Policy.Deadlines }

// within is a stage's limit with regard to the whole request: a silent candidate may use up half of the time that
// is left while another one waits for its turn. A limit of 0 is none.
func (t *try) within(limit time.Duration) time.Duration {
	left := time.Until(t.work.Start.Add(t.deadlines().Total))
	if !t.lastHope && (limit == 0 || limit >= left) {
		return left / 2
	}
	return limit
}

// headersStage is how long the headers of the answer may take, and which deadline that is. An engine sends the
// headers of a unary answer when the whole answer is ready, so that only the policy knows what is long.
func (t *try) headersStage() (upstream.Outcome, time.Duration) {
	headers := t.deadlines().Headers
	if headers == 0 && t.request.Stream {
		headers = catalog.DefaultStreamHeaders
	}
	headers = t.within(headers)
	if !t.request.Stream {
		return upstream.HeadersTimeout, headers
	}
	if t.firstToken = t.within(t.deadlines().FirstToken); t.firstToken < headers {
		return upstream.FirstTokenTimeout, t.firstToken
	}
	return upstream.HeadersTimeout, headers
}

// firstTokenLeft is what is left of the time for the first content, which counts from the start of the attempt.
func (t *try) firstTokenLeft() time.Duration { return max(t.firstToken-time.Since(t.entry.start), 1) }

// drill is the drill that makes this call fail, by its share.
func (t *try) drill() *catalog.Drill {
	d := t.stop.candidate.Drill
	if d == nil || t.engine.draw() >= d.Share {
		return nil
	}
	t.entry.Drill = d.ID
	return d
}

// succeeded tells everybody's view of the deployment that it served, and after how many microseconds.
func (t *try) succeeded(m health.Mode, latency int64) {
	t.stop.permit.Succeeded(m, time.Duration(latency)*time.Microsecond)
	t.engine.accepted(t.stop.candidate, t.stop.key)
}

// unary checks a whole answer.
func (t *try) unary(got *upstream.Answer) (result, *upstream.Error) {
	defer got.Close()
	reply, failure := t.parse(got)
	if failure != nil {
		t.entry.fail(failure)
		if reply.Usage.Reported { // what it said is worth nothing, and it will be on the bill
			t.entry.settle(reply.Usage, openai.Produced{})
		}
		return result{}, failure
	}
	t.finish(&reply)
	t.succeeded(health.WholeAnswer, t.entry.Duration)
	return result{reply: reply}, nil
}

// finish notes that a whole answer came. What it said matters where its usage is not reported.
func (t *try) finish(reply *openai.Reply) {
	var said openai.Produced
	if !reply.Usage.Reported {
		said = reply.Produced()
	}
	t.entry.finish(reply.Usage, said)
}

// parse reads a whole answer and brings embeddings into the format that was asked for: an engine that
// ignores it gives official SDKs garbage, because they ask for base64 unasked.
func (t *try) parse(got *upstream.Answer) (openai.Reply, *upstream.Error) {
	body, err := got.Body, error(nil)
	if format := t.request.EncodingFormat; format != "" && t.work.Endpoint == catalog.Embeddings {
		body, err = openai.EmbeddingsAs(body, format)
	}
	var reply openai.Reply
	if err == nil {
		reply, err = openai.ParseReply(body)
	}
	switch {
	case err != nil:
		return reply, &upstream.Error{Outcome: upstream.BadAnswer, Status: got.Status, Message: "The provider's answer is not well-formed.", Cause: err}
	case reply.Err != nil:
		return reply, upstream.Classify(reply.Err)
	case len(reply.Choices) == 0 && !reply.Content:
		return reply, &upstream.Error{Outcome: upstream.BadAnswer, Status: got.Status, Message: "The provider's answer is empty."}
	default:
		return reply, t.judge(reply.Choices, reply.IsEmpty())
	}
}

// judge decides whether an answer that has finished, and of which the client has seen nothing, is given to it. What a
// content filter withheld is not where the policy wants another opinion, nor is an empty answer without a
// reason, as long as somebody else may have more to say.
func (t *try) judge(choices []openai.Choice, empty bool) *upstream.Error {
	policy := t.work.Plan.Policy
	switch {
	case t.lastHope:
		return nil
	case policy.OnContentFilter == catalog.FilterFallback && slices.ContainsFunc(choices, isFiltered):
		return &upstream.Error{Outcome: upstream.ContentFilter, Status: 200, Message: "The provider's content filter withheld the answer."}
	case empty && rules[upstream.EmptyAnswer].movesOn(policy):
		return &upstream.Error{Outcome: upstream.EmptyAnswer, Status: 200, Message: "The provider's answer says nothing."}
	default:
		return nil
	}
}

func isFiltered(c openai.Choice) bool { return c.FinishReason == "content_filter" }
