// Package gateway is the OpenAI-compatible data plane: the /v1 handlers and the one way that every
// model request takes through the house (pipeline.go).
package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"path"
	"runtime/debug"
	"strings"
	"time"

	"shareai/internal/admission"
	"shareai/internal/attempt"
	"shareai/internal/catalog"
	"shareai/internal/cluster"
	"shareai/internal/fault"
	"shareai/internal/routing"
	"shareai/internal/snapshot"
	"shareai/internal/usage"
)

// Snapshots gives the running configuration. *snapshot.Keeper is one.
type Snapshots interface {
	Current() *snapshot.Snapshot
	// Stale says that the running snapshot may be behind: a key that it does not know may exist.
	Stale() bool
}

// Runner answers a planned request. *attempt.Engine is one.
type Runner interface {
	Run(ctx context.Context, work *attempt.Work) (attempt.Answer, error)
}

// Journal keeps records. *usage.Journal is one.
type Journal interface {
	// Append makes a record durable. It does not keep r.
	Append(r *usage.Record) error
	// Ready says why no further record could be kept; nil when all is well.
	Ready() error
}

// Observer is told of every finished request. It must be quick and must not keep r.
type Observer interface {
	Observe(r *usage.Record)
}

// Options are what a Gateway is made of. Every field is needed but Observers, Live, Links, NewTrace, Answers, Admission and Life.
type Options struct {
	Snapshots Snapshots
	Runner    Runner
	Journal   Journal
	Observers []Observer
	// Draw gives numbers in [0, 1) for weighted routing.
	Draw func() float64
	// Live knows how the deployments are doing.
	Live routing.Live
	// Links knows how the nodes are doing. Nil: there are none.
	Links routing.Links
	// NewTrace begins the trace of a request whose caller sent none. Nil: such a request has none.
	NewTrace func() attempt.Trace
	Log      *slog.Logger
	// Answers shares answers among requests with the same Idempotency-Key. Nil: in memory.
	Answers cluster.Answers
	// Admission holds limits and budgets. Nil: in memory, knowing nothing of what was spent before.
	Admission *admission.Gate
	// Life ends when work must end whose client has left and may still ask for it. Nil: never.
	Life context.Context
}

// Gateway serves /v1.
type Gateway struct {
	Options
	bodies bodyBudget
}

// New makes a gateway.
func New(o Options) *Gateway {
	if o.Answers == nil {
		o.Answers = cluster.NewMemoryAnswers(cluster.AnswerLimits{})
	}
	if o.Admission == nil {
		o.Admission = admission.New(admission.Options{Log: o.Log})
	}
	return &Gateway{Options: o, bodies: bodyBudget{limit: maxBodiesInFlight}}
}

// Handler serves every path below /v1/.
func (g *Gateway) Handler() http.Handler {
	mux := http.NewServeMux()
	for name, endpoint := range map[string]catalog.Endpoint{
		"/v1/chat/completions": catalog.Chat,
		"/v1/completions":      catalog.Completions,
		"/v1/embeddings":       catalog.Embeddings,
	} {
		mux.Handle(name, g.endpoint(endpoint))
	}
	mux.Handle("/v1/models", plain(http.MethodGet, g.listModels))
	mux.Handle("/v1/models/{id...}", plain(http.MethodGet, g.getModel))
	unknown := plain("", func(*http.Request) ([]byte, error) {
		return nil, fault.New(fault.NotFound, "unknown_url",
			"There is no such path. The gateway serves POST /v1/chat/completions, /v1/completions and /v1/embeddings, and GET /v1/models.")
	})
	mux.Handle("/", unknown)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !clean(r.URL.EscapedPath()) {
			unknown.ServeHTTP(w, r) // the mux would redirect, in a shape that no client of ours knows
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// clean says whether a path has no empty and no dot elements; it may end with a slash.
func clean(p string) bool {
	if len(p) > 1 {
		p = strings.TrimSuffix(p, "/")
	}
	return strings.HasPrefix(p, "/") && path.Clean(p) == p
}

// endpoint wraps the pipeline of a model endpoint: whatever happens in it, the client gets an answer
// in OpenAI's shape and, when the key was valid, one record is kept. An answer that can not be
// completed is cut: a clean end would pass it off as whole.
func (g *Gateway) endpoint(endpoint catalog.Endpoint) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x := g.newExchange(w, r, endpoint)
		defer x.deliver(false) // for a defect that ends it here
		if !x.deliver(g.answer(r, x)) {
			panic(http.ErrAbortHandler)
		}
	})
}

// answer serves the request, or says why it can not; false when the answer is not whole.
func (g *Gateway) answer(r *http.Request, x *exchange) (whole bool) {
	err := g.guarded(r, x)
	if err == nil {
		return true
	}
	begun := x.out.began
	x.fail(x.verdict(err))
	return !begun && x.out.began
}

// guarded serves the request and turns a panic into an error.
func (g *Gateway) guarded(r *http.Request, x *exchange) (err error) {
	defer func() {
		if p := recover(); p != nil {
			g.Log.Error("panic in a request", "request_id", x.record.ID, "panic", fault.Redact(fmt.Sprint(p)), "stack", string(debug.Stack()))
			err = errPanic
		}
	}()
	return g.serve(r, x)
}

// newExchange begins the account of a request.
func (g *Gateway) newExchange(w http.ResponseWriter, r *http.Request, endpoint catalog.Endpoint) *exchange {
	now := time.Now()
	x := &exchange{
		gateway: g,
		out:     newClientWriter(w),
		start:   now,
		trace:   g.traceOf(r.Header),
	}
	x.record = usage.Record{ID: usage.NewID(), Start: now.UnixMicro(), Endpoint: endpoint, TraceID: x.trace.TraceID, ParentID: x.trace.ParentID}
	if x.trace.Sampled {
		x.record.SpanID = attempt.NewSpanID()
	}
	x.out.header["X-Request-Id"] = []string{x.record.ID}
	return x
}
