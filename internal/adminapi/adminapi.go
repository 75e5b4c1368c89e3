package adminapi

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"shareai/internal/account"
	"shareai/internal/catalog"
	"shareai/internal/control"
	"shareai/internal/fault"
	"shareai/internal/identity"
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

// Options are what the API works with. All are required but where it says otherwise.
type Options struct {
	Snapshots       Snapshots
	Identity        *identity.Identity
	Sessions        Sessions // nil: those of Identity
	Keys            Keys
	Tenants         Tenants
	Records         Records
	Audit           AuditLog
	Alerts          Alerts
	Catalog         Catalog
	Routing         Routing
	Drills          Drills
	Nodes           Nodes
	NodeRouting     NodeRouting
	NodeTokens      NodeTokens
	NodeLinks       NodeLinks // nil: how nodes are doing is not known
	Community       Community
	CommunityLedger CommunityLedger
	Log             *slog.Logger
}

// API answers what is below /api/.
type API struct {
	Options
	mux      *http.ServeMux
	origin   *http.CrossOriginProtection
	api      huma.API
	document []byte
}

// The bounds of a request.
const (
	maxBody  = 64 << 10 // bytes
	bodyTime = 5 * time.Second
)

// New makes an API.
func New(o Options) (*API, error) {
	a := &API{Options: o, mux: http.NewServeMux(), origin: http.NewCrossOriginProtection()}
	config := describe()
	config.Transformers = []huma.Transformer{asFailure}
	a.api = humago.New(a.mux, config)
	a.api.UseMiddleware(plainly, a.authorize)
	if a.Sessions == nil {
		a.Sessions = a.Identity
	}
	a.addSignIn()
	a.addMe()
	a.addMembers()
	a.addKeys()
	a.addProjects()
	a.addRequests()
	a.addUsage()
	a.addAudit()
	a.addAlerts()
	a.addCatalog()
	a.addLive()
	a.addDrills()
	a.addNodes()
	a.addNodeTokens()
	a.addCommunity()
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
	config.Info.Description = "What can be administered in a running ShareAI gateway. Sign in, or send an API key that has the scope of the operation as `Authorization: Bearer KEY`. A user acts in the organization that `?organization=` names, an API key in its own. The scope `drills` is for the key's own project; `read` and `admin` are for its whole organization."
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		keyScheme:     {Type: "http", Scheme: "bearer", Description: "An API key of the gateway, with the scope that the operation names."},
		sessionScheme: {Type: "apiKey", In: "cookie", Name: secureCookie, Description: "The session of a user who signed in. Without TLS, on this machine only, the cookie is called " + plainCookie + "."},
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
	ctx := context.WithValue(r.Context(), requestID{}, id)
	r = r.WithContext(context.WithValue(ctx, requestKey{}, r))
	// Browsers send cookies with what any page makes them send; an API key they do not.
	if r.Header.Get("Authorization") == "" && a.origin.Check(r) != nil {
		writeFault(r.Context(), w, fault.New(fault.Forbidden, "cross_site_request", "Another site sent this request. Use the console itself, or an API key."))
		return
	}
	a.mux.ServeHTTP(w, r)
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

// operation adds an operation that asks for a permission. Its handler is told who calls.
func operation[I, O any](a *API, op huma.Operation, asks account.Permission, handle func(context.Context, *Caller, *I) (*O, error)) {
	demand(&op, asks)
	op.MaxBodyBytes, op.BodyReadTimeout = maxBody, bodyTime
	op.Responses = map[string]*huma.Response{"default": errorResponse(a.api.OpenAPI().Components.Schemas)}
	huma.Register(a.api, op, func(ctx context.Context, in *I) (*O, error) {
		caller, _ := ctx.Value(callerKey{}).(*Caller)
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
