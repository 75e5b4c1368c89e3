package adminapi

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"shareai/internal/account"
	"shareai/internal/audit"
	"shareai/internal/catalog"
	"shareai/internal/control"
	"shareai/internal/fault"
	"shareai/internal/snapshot"
	"shareai/internal/usage"
)

// Snapshots tell who holds a key.
type Snapshots interface {
	// Current is the view in force.
	Current() *snapshot.Snapshot
	// Stale says that rows may exist which the view does not know.
	Stale() bool
	// Refresh takes over what was changed.
	Refresh(ctx context.Context) error
}

// Drills are the use cases of drills.
type Drills interface {
	StartDrill(ctx context.Context, r control.DrillRequest) (catalog.Drill, error)
	ListDrills(ctx context.Context, f control.DrillFilter) ([]catalog.Drill, error)
	StopDrill(ctx context.Context, id string, among control.DrillFilter) (catalog.Drill, error)
}

// Options are what the API works with. All are required.
type Options struct {
	Snapshots Snapshots
	Drills    Drills
	Log       *slog.Logger
}

// API answers what is below /api/.
type API struct {
	Options
	mux      *http.ServeMux
	api      huma.API
	document []byte
}

// The bounds of a request.
const (
	maxBody  = 16 << 10 // bytes
	bodyTime = 5 * time.Second
)

// New makes an API.
func New(o Options) (*API, error) {
	a := &API{Options: o, mux: http.NewServeMux()}
	config := describe()
	config.Transformers = []huma.Transformer{asFailure}
	a.api = humago.New(a.mux, config)
	a.api.UseMiddleware(plainly, a.authenticate)
	a.addDrills()
	for _, unused := range []string{"ErrorModel", "ErrorDetail"} { // huma's own errors
		delete(config.Components.Schemas.Map(), unused)
	}
	document, err := json.MarshalIndent(a.api.OpenAPI(), "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write the OpenAPI document: %w", err)
	}
	a.document = slices.Concat(document, []byte("\n"))
	a.mux.HandleFunc("GET /api/openapi.json", a.serveDocument)
	a.mux.HandleFunc("/", a.unknown)
	return a, nil
}

// describe is the part of the document that is about no operation.
func describe() huma.Config {
	config := huma.DefaultConfig("ShareAI administration", "1")
	config.Info.Description = "What can be administered in a running ShareAI gateway. Send an API key that has the scope of the operation as `Authorization: Bearer KEY`; it acts on its own project."
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		keyScheme: {Type: "http", Scheme: "bearer", Description: "An API key of the gateway, with the scope that the operation names."},
	}
	// The document is served by ourselves; pages that load scripts from elsewhere, not at all.
	config.OpenAPIPath, config.DocsPath, config.SchemasPath = "", "", ""
	config.CreateHooks = nil // no $schema member in answers
	format := huma.DefaultJSONFormat
	format.Unmarshal = exactly
	config.Formats = map[string]huma.Format{"application/json": format, "json": format}
	return config
}

type requestID struct{}

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := usage.NewID()
	w.Header().Set("X-Request-Id", id)
	a.mux.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), requestID{}, id)))
}

func (a *API) serveDocument(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(a.document)
}

// unknown answers what no operation does.
func (a *API) unknown(w http.ResponseWriter, r *http.Request) {
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		other := r.Clone(r.Context())
		other.Method = method
		if _, pattern := a.mux.Handler(other); pattern != "/" {
			allowed = append(allowed, method)
		}
	}
	e := fault.New(fault.NotFound, "unknown_url", "There is no such path. /api/openapi.json lists what there is.")
	if len(allowed) > 0 {
		list := strings.Join(allowed, ", ")
		w.Header().Set("Allow", list)
		e = fault.New(fault.MethodNotAllowed, "method_not_allowed", "This path takes "+list+".")
	}
	writeFault(r.Context(), w, e)
}

// keyScheme is the name of the one way to authenticate.
const keyScheme = "key"

// scoped is what an operation asks of its caller.
func scoped(s account.Scope) []map[string][]string {
	return []map[string][]string{{keyScheme: {string(s)}}}
}

type callerKey struct{}

// authenticate lets a request in whose key has the scopes of the operation, before anything else of it is read.
func (a *API) authenticate(ctx huma.Context, next func(huma.Context)) {
	r, w := humago.Unwrap(ctx)
	principal, err := a.Snapshots.Current().Authenticate(r.Header, a.Snapshots.Stale)
	for _, demand := range ctx.Operation().Security {
		for _, scope := range demand[keyScheme] {
			if err == nil {
				err = snapshot.Require(principal, account.Scope(scope))
			}
		}
	}
	if err != nil {
		writeFault(r.Context(), w, fault.From(err))
		return
	}
	acting := audit.WithActor(r.Context(), audit.Actor{
		Kind: audit.APIKey, ID: principal.Key.ID, Name: principal.Key.Name, From: host(r.RemoteAddr),
	})
	next(huma.WithContext(ctx, context.WithValue(acting, callerKey{}, principal)))
}

// host is the address of a peer without its port.
func host(peer string) string {
	if h, _, err := net.SplitHostPort(peer); err == nil {
		return h
	}
	return peer
}

// operation adds an operation. Its handler is told who calls.
func operation[I, O any](a *API, op huma.Operation, handle func(context.Context, *account.Principal, *I) (*O, error)) {
	op.MaxBodyBytes, op.BodyReadTimeout = maxBody, bodyTime
	op.Responses = map[string]*huma.Response{"default": errorResponse(a.api.OpenAPI().Components.Schemas)}
	huma.Register(a.api, op, func(ctx context.Context, in *I) (*O, error) {
		caller, _ := ctx.Value(callerKey{}).(*account.Principal)
		out, err := handle(ctx, caller, in)
		if err == nil {
			return out, nil
		}
		e := fault.From(err)
		if slices.Contains([]fault.Kind{fault.Internal, fault.Unavailable}, e.Kind) {
			a.Log.ErrorContext(ctx, "an administrative request failed", "operation", op.OperationID, "error", e)
		}
		return nil, &failure{fault: e}
	})
}
