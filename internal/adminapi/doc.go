// Package adminapi is the REST interface of the control plane, below /api/v1. It is thin: a handler reads
// what was sent, asks control, and writes what comes back. Its OpenAPI document is made from the handlers'
// types, served at /api/openapi.json and kept in docs/openapi.json. Errors have the form of those of
// /v1, {"error": {"message", "type", "code", "param", "request_id"}}, so that a client needs one reader for
// both (docs/adr/0011).
//
// # Who may
//
// Every operation asks for one account.Permission. A caller is either a user with a session, who acts with his role in
// the organization that the query names (?organization=, needed only by users of several), or an API key, which acts
// with its scopes in its own organization. Two tables in account/permission.go say who has which permission: Demands
// from roles, Grants from scopes; account.Can reads them. authorize.go asks it before anything else of a request is
// read (docs/adr/0020).
//
// # Adding an operation
//
// In a file of its own noun, with an interface of what it needs as a field of Options:
//
//	type nodesAnswer struct{ Body NodeList }
//	type nodesAsked struct {
//		Cursor string `query:"cursor"`
//	}
//
//	func (a *API) addNodes() { // called by New
//		operation(a, huma.Operation{
//			OperationID: "list-nodes", Method: http.MethodGet, Path: "/api/v1/nodes", Tags: []string{"Nodes"}, Summary: "List nodes",
//		}, account.ReadNodes, a.listNodes)
//	}
//
//	func (a *API) listNodes(ctx context.Context, caller *Caller, in *nodesAsked) (*nodesAnswer, error) {
//		nodes, err := a.Nodes.ListNodes(ctx, caller.Organization) // only what the caller's organization has
//		...
//	}
//
// Then a line in permits (authorize_test.go), which is tried as everybody: nobody, other organizations, every role and
// scope. What is left to the handler: to look only at what belongs to caller.Organization and, where something
// belongs to a project, to caller.ProjectOf or caller.ProjectsOf; what belongs to others is answered with 404.
// Then `go generate ./internal/adminapi`.
//
// A list is paged: `limit` and `cursor` come in, `next` goes out (paging.go).
package adminapi

//go:generate go test -run TestTheDocumentIsKept -update
