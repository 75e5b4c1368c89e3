package smoke

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Ledger gives what the gateway has recorded of a request. Only whoever runs the gateway can read it.
type Ledger interface {
	// Entry returns the record of a request id. It waits for a record that is still on its way.
	Entry(ctx context.Context, requestID string) (Entry, error)
}

// Entry is what a record says that an answer says as well.
type Entry struct {
	Tokens Tokens
	Cost   int64 // nano-dollars
}

// Known is what may be known of a name beforehand.
type Known struct {
	Mode      Mode     // a way in which it can be asked; empty: not known
	Providers []string // those that serve it; none: not known
}

// DefaultRehearsal is the model that the demo declares for part 2: its first deployment always fails.
const DefaultRehearsal = "demo-failover"

// DefaultTimeout bounds one request.
const DefaultTimeout = time.Minute

// Options say what to test. Gateway and Key are needed.
type Options struct {
	// Gateway is the base URL, with or without /v1.
	Gateway string
	// Key is an API key of the gateway.
	Key string
	// RateKey and QuotaKey are API keys that are there to be used up: one with a limit of requests, one with a budget.
	// Empty: that is not tried.
	RateKey, QuotaKey string
	// Models are the names to test. None: every name that the key may use.
	Models []string
	// Known says how names are served, for whoever can read the gateway's configuration. What it does not
	// say is found out by asking, at the price of a refused request or two for each name, which the
	// gateway counts as failed.
	Known map[string]Known
	// Rehearsal names a model whose first deployment fails on purpose. Empty: DefaultRehearsal.
	Rehearsal string
	// Ledger is where the usage report is read. Nil: it can not be read from here.
	Ledger Ledger
	// Timeout bounds one request. 0: DefaultTimeout.
	Timeout time.Duration
	// Client sends the requests. Nil: a client of its own.
	Client *http.Client
	// Observe is told of every line as soon as it is known. It may be nil.
	Observe func(Line)
}

// Run performs the test. It ends early, with a line that says so, when ctx does.
func Run(ctx context.Context, o Options) Report {
	if o.Rehearsal == "" {
		o.Rehearsal = DefaultRehearsal
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Client == nil {
		o.Client = &http.Client{}
	}
	base := strings.TrimSuffix(strings.TrimRight(o.Gateway, "/"), "/v1")
	r := &run{
		Options: o,
		report:  Report{Gateway: base, Lines: []Line{}},
		client:  client{base: base + "/v1", key: o.Key, http: o.Client, timeout: o.Timeout},
	}
	names, err := r.names(ctx)
	if err != nil {
		r.fail(Routes, "models", err)
		for _, p := range Parts[1:] {
			r.say(p, "", NotAvailable, "the gateway lists no models")
		}
		return r.report
	}
	for _, name := range names {
		if name != r.Rehearsal && ctx.Err() == nil {
			r.routes(ctx, name)
		}
	}
	if len(r.calls) == 0 && r.report.Failed == 0 {
		r.say(Routes, "models", Fail, "the key may use no model; GET /v1/models is empty")
	}
	r.failover(ctx, slices.Contains(names, r.Rehearsal))
	r.accounts(ctx)
	r.say(Cache, "", NotAvailable, "this version has no cache")
	r.limits(ctx)
	return r.report
}

// run is a test under way.
type run struct {
	Options
	client client
	report Report
	calls  []Call // every answered request
}

func (r *run) add(l Line) {
	r.report.add(l)
	if r.Observe != nil {
		r.Observe(l)
	}
}

func (r *run) say(p Part, subject string, v Verdict, detail string) {
	r.add(Line{Part: p, Subject: subject, Verdict: v, Detail: detail})
}

func (r *run) fail(p Part, subject string, err error) {
	r.add(Line{Part: p, Subject: subject, Verdict: Fail, Detail: err.Error(), RequestID: requestOf(err)})
}

// names lists what to test: what the key may use, narrowed to Options.Models.
func (r *run) names(ctx context.Context) ([]string, error) {
	names, err := r.client.models(ctx)
	if err != nil || len(r.Models) == 0 {
		return names, err
	}
	for _, want := range r.Models {
		if !slices.Contains(names, want) {
			return nil, fmt.Errorf("the key may not use the model %q; it may use %s", want, strings.Join(names, ", "))
		}
	}
	return r.Models, nil
}

// maxProviders bounds the search for the providers of a name: a gateway that does not heed the list of
// those to leave out would be asked for ever.
const maxProviders = 32

// routes asks every provider that serves a name.
func (r *run) routes(ctx context.Context, model string) {
	known := r.Known[model]
	a := ask{model: model, mode: known.Mode}
	if len(known.Providers) > 0 {
		r.known(ctx, a, known.Providers)
		return
	}
	for len(a.ignore) < maxProviders {
		provider, err := r.try(ctx, &a)
		if nobodyLeft(err) && len(a.ignore) > 0 {
			return
		}
		if err != nil {
			r.fail(Routes, at(model, provider), err)
		}
		if provider == "" || slices.Contains(a.ignore, provider) {
			return // there is nobody further to leave out
		}
		a.ignore = append(a.ignore, provider)
	}
}

// known asks the providers of a name that are known to serve it. The key or the policy may leave out
// some of them, but not all.
func (r *run) known(ctx context.Context, a ask, providers []string) {
	asked := false
	var leftOut error
	for _, p := range providers {
		a.only = p
		switch _, err := r.try(ctx, &a); {
		case nobodyLeft(err):
			leftOut = err
		case err != nil:
			r.fail(Routes, at(a.model, p), err)
			asked = true
		default:
			asked = true
		}
	}
	if !asked {
		r.fail(Routes, a.model, leftOut)
	}
}

// try asks one route, and reports it when it answers. It returns the provider that was asked, as far as
// the gateway says. The mode that a name works in is found out at the first try.
func (r *run) try(ctx context.Context, a *ask) (provider string, err error) {
	var call Call
	if a.mode == "" {
		call, err = r.firstMode(ctx, a)
	} else {
		call, err = r.client.do(ctx, *a)
	}
	if err != nil {
		return providerOf(err), err
	}
	if slices.Contains(a.ignore, call.Provider) || a.only != "" && a.only != call.Provider {
		return call.Provider, &refusal{request: call.RequestID, message: "the provider answered although the request left it out"}
	}
	r.calls = append(r.calls, call)
	r.route(ctx, call)
	return call.Provider, nil
}

// firstMode asks in one way after the other until one works. When none does, the answer is what the
// first way got.
func (r *run) firstMode(ctx context.Context, a *ask) (Call, error) {
	var first error
	for _, mode := range []Mode{Chat, Embeddings, Completions} {
		a.mode = mode
		call, err := r.client.do(ctx, *a)
		if !wrongEndpoint(err) {
			return call, err
		}
		if first == nil {
			first = err
		}
	}
	a.mode = ""
	return Call{}, first
}

// route finishes a route that has answered once: a chat route must stream, too.
func (r *run) route(ctx context.Context, unary Call) {
	subject := at(unary.Model, unary.Provider)
	if unary.Mode != Chat {
		r.say(Routes, subject, Pass, fmt.Sprintf("%s %s", unary.Mode, ms(unary.Duration)))
		return
	}
	stream, err := r.client.do(ctx, ask{model: unary.Model, mode: ChatStream, only: unary.Provider})
	if err != nil {
		r.fail(Routes, subject, fmt.Errorf("stream: %w", err))
		return
	}
	r.calls = append(r.calls, stream)
	r.say(Routes, subject, Pass, fmt.Sprintf("chat %s, stream %s with the first token after %s",
		ms(unary.Duration), ms(stream.Duration), ms(stream.FirstToken)))
}

// failover asks the model whose first provider fails on purpose.
func (r *run) failover(ctx context.Context, declared bool) {
	if !declared {
		r.say(Failover, "", NotAvailable, fmt.Sprintf("it takes a model whose first deployment fails on purpose, and %q is not among those tested", r.Rehearsal))
		return
	}
	for _, mode := range []Mode{Chat, ChatStream} {
		subject := fmt.Sprintf("%s, %s", r.Rehearsal, mode)
		call, err := r.client.do(ctx, ask{model: r.Rehearsal, mode: mode, fallbacks: true})
		if err != nil {
			r.fail(Failover, subject, err)
			continue
		}
		r.calls = append(r.calls, call)
		if call.Attempts < 2 && strings.Contains(call.Reason, "circuit") {
			// It failed so often, in earlier tests, that it is not asked at the moment.
			r.say(Failover, subject, Pass, fmt.Sprintf("answered by %s at once after %s: %s", call.Provider, ms(call.Duration), call.Reason))
			continue
		}
		if call.Attempts < 2 {
			r.add(Line{
				Part: Failover, Subject: subject, Verdict: Fail, RequestID: call.RequestID,
				Detail: fmt.Sprintf("%s answered at the first attempt: nothing failed that could be replaced", call.Provider),
			})
			continue
		}
		r.say(Failover, subject, Pass, fmt.Sprintf("answered by %s at attempt %d after %s", call.Provider, call.Attempts, ms(call.Duration)))
	}
}

// accounts compares the routes, the ways of asking, and the answers with the records.
func (r *run) accounts(ctx context.Context) {
	if len(r.calls) == 0 {
		r.say(Accounts, "", NotAvailable, "no route has answered")
		return
	}
	r.add(Line{
		Part: Accounts, Subject: "comparison", Verdict: Pass, Calls: r.calls,
		Detail: fmt.Sprintf("the same prompt over %s", count(len(r.calls), "request")),
	})
	r.modesAgree()
	r.ledgerAgrees(ctx)
}

// modesAgree holds the two ways of asking one route against each other: the prompt is the same, so its
// tokens are.
func (r *run) modesAgree() {
	pairs := 0
	for _, unary := range r.calls {
		if unary.Mode != Chat {
			continue
		}
		i := slices.IndexFunc(r.calls, func(c Call) bool {
			return c.Mode == ChatStream && c.Model == unary.Model && c.Provider == unary.Provider
		})
		if i < 0 {
			continue
		}
		pairs++
		if a, b := unary.Tokens.Prompt, r.calls[i].Tokens.Prompt; a != b {
			r.add(Line{
				Part: Accounts, Subject: at(unary.Model, unary.Provider), Verdict: Fail, RequestID: r.calls[i].RequestID,
				Detail: fmt.Sprintf("the same prompt counts %d tokens in a whole answer and %d in a stream", a, b),
			})
			return
		}
	}
	if pairs > 0 {
		r.say(Accounts, "usage blocks", Pass, fmt.Sprintf("whole answers and streams count the same prompt alike on %s", count(pairs, "route")))
	}
}

// ledgerAgrees compares each answer with its record.
func (r *run) ledgerAgrees(ctx context.Context) {
	const subject = "usage report"
	if r.Ledger == nil {
		r.say(Accounts, subject, NotAvailable, "the records can be read only where the gateway's database is; run this there with --config or --data-dir")
		return
	}
	var tokens Tokens
	var cost int64
	for _, c := range r.calls {
		entry, err := r.Ledger.Entry(ctx, c.RequestID)
		if err == nil && (entry.Tokens != c.Tokens || entry.Cost != c.Cost) {
			err = fmt.Errorf("the answer says %s, the record says %s", account(c.Tokens, c.Cost), account(entry.Tokens, entry.Cost))
		}
		if err != nil {
			r.add(Line{Part: Accounts, Subject: subject, Verdict: Fail, Detail: err.Error(), RequestID: c.RequestID})
			return
		}
		tokens.Prompt += c.Tokens.Prompt
		tokens.Completion += c.Tokens.Completion
		cost += c.Cost
	}
	r.say(Accounts, subject, Pass, fmt.Sprintf("%s, %s: answers and records agree", count(len(r.calls), "request"), account(tokens, cost)))
}

func at(model, provider string) string {
	if provider == "" {
		return model
	}
	return model + " at " + provider
}

func account(t Tokens, cost int64) string {
	return fmt.Sprintf("%d + %d tokens for $%s", t.Prompt, t.Completion, formatUSD(cost))
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// ms writes a duration for people: milliseconds, with a decimal only where it says something.
func ms(d time.Duration) string {
	if d < 10*time.Millisecond {
		return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
	}
	return fmt.Sprintf("%d ms", d.Milliseconds())
}
