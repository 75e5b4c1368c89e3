package attempt

import (
	"context"
	"time"

	"shareai/internal/catalog"
	"shareai/internal/health"
	"shareai/internal/openai"
	"shareai/internal/routing"
	"shareai/internal/upstream"
)

// try is one call to one candidate.
type try struct {
	engine    *Engine
	work      *Work
	stop      *stop
	candidate *routing.Candidate
	request   *openai.Request // the client's, or the continuation of a broken answer
	key       *catalog.ProviderKey
	permit    health.Permit
	entry     *entry
	lastHope  bool // no other candidate is left: an empty answer is better than none
}

// result is what a successful try gave: a reply, or the leg of a stream.
type result struct {
	reply openai.Reply
	leg   *leg
}

// open begins a try at a stop to which the walk has come.
func (w *walk) open(s *stop) *try {
	key := w.engine.pick(s.candidate)
	entry := w.work.Log.open(w.work, &s.candidate.Target, key)
	entry.Retry, entry.Wait, entry.Hedge = s.tries > 1, s.wait.Microseconds(), s.rival
	if s.permit.Probe() {
		entry.Circuit = string(health.HalfOpen)
	}
	return &try{
		engine: w.engine, work: w.work, stop: s, candidate: s.candidate, request: w.work.Request,
		key: key, permit: s.permit, entry: entry, lastHope: !w.hasOther(s),
	}
}

// try makes one attempt and draws the consequences of its failure.
func (w *walk) try(ctx context.Context, s *stop) (result, *upstream.Error) {
	t := w.open(s)
	got, failure := t.run(ctx)
	if failure != nil {
		w.note(s, t.key, failure)
	}
	return got, failure
}

// run calls the candidate and waits for what can be given to the client: a whole reply, or a stream with
// its first content. A failure is logged, and the permit still open.
func (t *try) run(ctx context.Context) (result, *upstream.Error) {
	deadlines := &t.work.Plan.Policy.Deadlines
	stage, limit := t.patience()
	ctx, dog := watch(ctx, t.work.Start.Add(deadlines.Total), stage, limit)
	got, err := t.engine.caller.Do(ctx, &upstream.Call{
		Target:      upstream.Target{Provider: t.candidate.Provider, Deployment: t.candidate.Deployment, Key: *t.key},
		Endpoint:    t.work.Endpoint,
		Request:     t.request,
		RequestID:   t.work.RequestID,
		Traceparent: t.work.Trace.parent(t.entry.SpanID),
		Connect:     deadlines.Connect,
		Drill:       t.drill(),
		OnHeaders:   dog.headersCame,
	})
	if err != nil {
		dog.stop()
		failure := asFailure(err)
		t.entry.fail(failure)
		return result{}, failure
	}
	t.entry.headers(got.HeadersAt)
	if got.Stream == nil {
		dog.stop()
		return t.unary(got)
	}
	l := &leg{try: t, answer: got, dog: dog, idle: deadlines.Idle}
	if failure := l.prime(deadlines.FirstToken); failure != nil {
		l.fail(failure)
		return result{}, failure
	}
	t.succeeded(health.FirstToken, t.entry.FirstToken)
	return result{leg: l}, nil
}

// patience is how long the headers of the answer may take, and which deadline that is. An engine sends the headers
// of a unary answer when the whole answer is ready, so that only the policy knows what is long; without its
// word a silent candidate may use up half of the time that is left, while another one waits for its turn.
func (t *try) patience() (upstream.Outcome, time.Duration) {
	deadlines := &t.work.Plan.Policy.Deadlines
	headers := deadlines.Headers
	switch {
	case headers > 0:
	case t.request.Stream:
		headers = catalog.DefaultStreamHeaders
	case !t.lastHope:
		headers = time.Until(t.work.Start.Add(deadlines.Total)) / 2
	}
	if first := deadlines.FirstToken; t.request.Stream && first < headers {
		return upstream.FirstTokenTimeout, first
	}
	return upstream.HeadersTimeout, headers
}

// drill is the drill that makes this call fail, by its share.
func (t *try) drill() *catalog.Drill {
	d := t.candidate.Drill
	if d == nil || t.engine.draw() >= d.Share {
		return nil
	}
	t.entry.Drill = d.ID
	return d
}

// succeeded tells everybody's view of the deployment that it served, and after how many microseconds.
func (t *try) succeeded(m health.Mode, latency int64) {
	t.permit.Succeeded(m, time.Duration(latency)*time.Microsecond)
	t.engine.accepted(t.candidate, t.key)
}

// unary checks a whole answer.
func (t *try) unary(got *upstream.Answer) (result, *upstream.Error) {
	defer got.Close()
	reply, failure := t.parse(got)
	if failure != nil {
		t.entry.fail(failure)
		if reply.Usage.Reported { // what it said is worth nothing, and it will be on the bill
			t.entry.settle(reply.Usage, 0)
		}
		return result{}, failure
	}
	t.entry.finish(reply.Usage, reply.ContentBytes)
	t.succeeded(health.WholeAnswer, t.entry.Duration)
	return result{reply: reply}, nil
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
	case reply.Content:
		return reply, nil
	case len(reply.Choices) == 0:
		return reply, &upstream.Error{Outcome: upstream.BadAnswer, Status: got.Status, Message: "The provider's answer is empty."}
	default:
		return reply, t.nothingSaid(reply.Choices)
	}
}

// nothingSaid judges an answer that finished without content: a refusal by a content filter where the
// policy wants another opinion, or an empty answer while somebody else may have more to say. An answer
// that was cut to nothing by its own length limit is what was asked for.
func (t *try) nothingSaid(choices []openai.Choice) *upstream.Error {
	for i := range choices {
		switch reason := choices[i].FinishReason; {
		case reason == "content_filter":
			if t.work.Plan.Policy.OnContentFilter == catalog.FilterFallback && !t.lastHope {
				return &upstream.Error{Outcome: upstream.ContentFilter, Status: 200, Message: "The provider's content filter withheld the answer."}
			}
			return nil
		case reason == "length":
			return nil
		}
	}
	if t.lastHope {
		return nil
	}
	return &upstream.Error{Outcome: upstream.EmptyAnswer, Status: 200, Message: "The provider's answer says nothing."}
}
