// Package adminapi is the REST interface of the control plane, below /api/v1. It is thin: a handler reads
// what was sent, asks control, and writes what comes back. Its OpenAPI document is made from the handlers'
// types, served at /api/openapi.json and kept in docs/openapi.json.
//
// Whoever calls it sends an API key with the scope that the operation names. Such a key sees and changes
// what belongs to its own project; everything else does not exist for it. Errors have the form of those of
// /v1, {"error": {"message", "type", "code", "param", "request_id"}}, so that a client needs one reader for
// both (docs/adr/0011).
package adminapi

//go:generate go test -run TestTheDocumentIsKept -update
