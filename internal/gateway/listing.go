package gateway

import (
	"fmt"
	"net/http"
	"strconv"

	"shareai/internal/account"
	"shareai/internal/fault"
	"shareai/internal/openai"
	"shareai/internal/snapshot"
	"shareai/internal/usage"
)

// plain wraps a handler without a record: it answers with JSON or an error in OpenAI's shape. An
// empty method allows all.
func plain(method string, handle func(*http.Request) ([]byte, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out, id := newClientWriter(w), usage.NewID()
		out.header["X-Request-Id"] = []string{id}
		var body []byte
		var err error
		if method != "" && r.Method != method && !(method == http.MethodGet && r.Method == http.MethodHead) {
			err = wrongMethod(r, method)
		} else {
			body, err = handle(r)
		}
		if err != nil {
			e := fault.From(err)
			allowOf(e, method, out.header)
			writeError(out, e, openai.AppendError(nil, e, id))
			return
		}
		out.header["Content-Type"] = typeJSON
		out.header["Content-Length"] = []string{strconv.Itoa(len(body))}
		out.begin(http.StatusOK)
		_ = out.write(body)
	})
}

// listModels lists what the key may use: models and routes alike.
func (g *Gateway) listModels(r *http.Request) ([]byte, error) {
	view := g.Snapshots.Current()
	principal, err := authenticate(view, g.Snapshots.Stale, r.Header)
	if err != nil {
		return nil, err
	}
	body := []byte(`{"object":"list","data":[`)
	first := true
	for _, name := range view.Names() {
		route, ok := usable(view, principal, name)
		if !ok {
			continue
		}
		if !first {
			body = append(body, ',')
		}
		first = false
		body = appendModel(body, route)
	}
	return append(body, "]}"...), nil
}

// getModel describes one model.
func (g *Gateway) getModel(r *http.Request) ([]byte, error) {
	view := g.Snapshots.Current()
	principal, err := authenticate(view, g.Snapshots.Stale, r.Header)
	if err != nil {
		return nil, err
	}
	route, ok := usable(view, principal, r.PathValue("id"))
	if !ok {
		return nil, fault.New(fault.NotFound, "model_not_found",
			fmt.Sprintf("There is no model %q that this key may use. GET /v1/models lists them.", r.PathValue("id"))).About("model")
	}
	return appendModel(nil, route), nil
}

// usable finds a client-facing name that a principal may use.
func usable(view *snapshot.Snapshot, p *account.Principal, name string) (*snapshot.Route, bool) {
	route, ok := view.RouteOf(p.Project.Organization, name)
	if !ok || !p.Key.Allows(name) || !route.At(p.Key.Pin) || !route.OpenTo(p.Project.Organization, p.Project.Name) {
		return nil, false
	}
	return route, true
}

// appendModel writes OpenAI's model object.
func appendModel(dst []byte, route *snapshot.Route) []byte {
	created := int64(0)
	if len(route.Models) > 0 {
		created = route.Models[0].Created
	}
	dst = append(dst, `{"id":`...)
	dst = openai.AppendString(dst, route.Name)
	dst = append(dst, `,"object":"model","created":`...)
	dst = strconv.AppendInt(dst, created, 10)
	return append(dst, `,"owned_by":"shareai"}`...)
}
