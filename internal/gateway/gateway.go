// Package gateway is the OpenAI-compatible data plane: the /v1 handlers and the one way that every
// model request takes through the house (pipeline.go).
package gateway

import (
	"context"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"shareai/internal/attempt"
	"shareai/internal/catalog"
	"shareai/internal/fault"
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

// Options are what a Gateway is made of. Every field is needed but Observers and NewTrace.
type Options struct {
	Snapshots Snapshots
	Runner    Runner
	Journal   Journal
	Observers []Observer
	// Draw gives numbers in [0, 1) for weighted routing.
	Draw func() float64
	// NewTrace begins the trace of a request whose caller sent none. Nil: such a request has none.
	NewTrace func() attempt.Trace
	Log      *slog.Logger
}

// Gateway serves /v1.
type Gateway struct {
	Options
	bodies bodyBudget
}

// New makes a gateway.
func New(o Options) *Gateway {
	return &Gateway{Options: o, bodies: bodyBudget{limit: maxBodiesInFlight}}
}

// Handler serves every path below /v1/.
func (g *Gateway) Handler() http.Handler {
	mux := http.NewServeMux()
	for path, endpoint := range map[string]catalog.Endpoint{
		"/v1/chat/completions": catalog.Chat,
		"/v1/completions":      catalog.Completions,
		"/v1/embeddings":       catalog.Embeddings,
	} {
		mux.Handle(path, g.endpoint(endpoint))
	}
	mux.Handle("/v1/models", plain(http.MethodGet, g.listModels))
	mux.Handle("/v1/models/{id...}", plain(http.MethodGet, g.getModel))
	mux.Handle("/", plain("", func(*http.Request) ([]byte, error) {
		return nil, fault.New(fault.NotFound, "unknown_url",
			"There is no such path. The gateway serves POST /v1/chat/completions, /v1/completions and /v1/embeddings, and GET /v1/models.")
	}))
	return mux
}

// endpoint wraps the pipeline of a model endpoint: whatever happens in it, the client gets an answer
// in OpenAI's shape and, when the key was valid, one record is kept.
func (g *Gateway) endpoint(endpoint catalog.Endpoint) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x := g.newExchange(w, r, endpoint)
		defer func() {
			if p := recover(); p != nil {
				g.Log.Error("panic in a request", "request_id", x.record.ID, "panic", fault.Redact(panicText(p)), "stack", string(debug.Stack()))
				began := x.out.began
				x.fail(fault.From(errPanic))
				if began {
					panic(http.ErrAbortHandler) // cut the answer: a clean end would pass it off as whole
				}
			}
		}()
		if err := g.serve(r, x); err != nil {
			x.fail(fault.From(err))
		}
	})
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
