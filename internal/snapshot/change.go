package snapshot

import (
	"errors"
	"slices"

	"shareai/internal/account"
	"shareai/internal/catalog"
)

// ErrStale is the error of a commit whose change was validated against a revision that is no longer
// the current one. Load again, validate again, commit again.
var ErrStale = errors.New("the declarations have changed meanwhile")

// Change is what one administrative act does to the declarations in the store. It is plain data, so
// that it can be validated by compiling before it is committed, outside of any transaction.
type Change struct {
	// Put is created, or replaces what has the same identity: the name, for a project its organization
	// and name, for an API key, a drill and a node the ID. A DefaultPolicy that is not empty replaces the present one.
	Put Spec
	// Delete is removed, before Put is applied. What does not exist is no error.
	Delete Names
}

// Names names declarations by kind. Organizations, projects, API keys and nodes are missing on purpose:
// records refer to them, so that they are never removed; a key or a node is revoked by putting it with RevokedAt.
type Names struct {
	Providers, Models, Routes, Policies []string
	Drills                              []string // by id
}

// Apply returns the declarations as they are after the change. s itself stays as it was.
func (c Change) Apply(s Spec) Spec {
	after := Spec{
		Organizations: put(s.Organizations, c.Put.Organizations, organizationID),
		Projects:      put(s.Projects, c.Put.Projects, projectID),
		Keys:          put(s.Keys, c.Put.Keys, keyID),
		Providers:     put(remove(s.Providers, c.Delete.Providers, providerID), c.Put.Providers, providerID),
		Models:        put(remove(s.Models, c.Delete.Models, modelID), c.Put.Models, modelID),
		Routes:        put(remove(s.Routes, c.Delete.Routes, routeID), c.Put.Routes, routeID),
		Policies:      put(remove(s.Policies, c.Delete.Policies, policyID), c.Put.Policies, policyID),
		Drills:        put(remove(s.Drills, c.Delete.Drills, drillID), c.Put.Drills, drillID),
		Nodes:         put(s.Nodes, c.Put.Nodes, nodeID),
		DefaultPolicy: c.Put.DefaultPolicy,
	}
	if after.DefaultPolicy == "" {
		after.DefaultPolicy = s.DefaultPolicy
	}
	return after
}

func organizationID(o *account.Organization) string { return o.Name }
func projectID(p *account.Project) string           { return p.Organization + "/" + p.Name }
func keyID(k *account.APIKey) string                { return k.ID }
func providerID(p *catalog.Provider) string         { return p.Name }
func modelID(m *catalog.Model) string               { return m.Name }
func routeID(r *catalog.Route) string               { return r.Name }
func policyID(p *catalog.Policy) string             { return p.Name }
func drillID(d *catalog.Drill) string               { return d.ID }
func nodeID(n *catalog.Node) string                 { return n.ID }

// put returns have with each of more appended, or in the place of what has the same identity.
func put[T any](have, more []T, identity func(*T) string) []T {
	after := slices.Clone(have)
	for i := range more {
		id := identity(&more[i])
		at := slices.IndexFunc(after, func(t T) bool { return identity(&t) == id })
		if at < 0 {
			after = append(after, more[i])
		} else {
			after[at] = more[i]
		}
	}
	return after
}

// remove returns have without what is named.
func remove[T any](have []T, names []string, identity func(*T) string) []T {
	if len(names) == 0 {
		return have
	}
	return slices.DeleteFunc(slices.Clone(have), func(t T) bool { return slices.Contains(names, identity(&t)) })
}
