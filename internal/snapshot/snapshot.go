package snapshot

import (
	"iter"
	"maps"
	"sort"
	"strings"

	"shareai/internal/account"
	"shareai/internal/catalog"
)

// Snapshot is the compiled view of all declarations. It never changes; all its values are shared and
// must not be written to.
type Snapshot struct {
	// Revision is the store's revision from which it was compiled.
	Revision int64
	// Warnings says what was left out or is ambiguous, in sentences for the operator.
	Warnings []string

	spec       Spec
	principals map[account.KeyHash]*account.Principal
	providers  map[string]*catalog.Provider
	models     map[string]*Model
	routes     map[string]*Route
	others     map[[2]string]*Route         // by organization and name: what the organization's nodes call something else than routes say
	drills     map[string][]*catalog.Drill  // by key id
	nodes      map[string]*Node             // by id
	served     map[[2]string]*Node          // by organization and name
	shared     map[string]*catalog.Provider // nodes that are shared, by handle
	revoked    map[string]bool              // ids of nodes
	fallback   *catalog.Policy              // the default policy
	names      []string                     // every client-facing name, sorted
}

// Model is a canonical model with its deployments resolved.
type Model struct {
	*catalog.Model
	Targets []Target
	// Equivalents are the models that may stand in, best grade first.
	Equivalents []Equivalent
}

// Equivalent is another model with how well it stands in, from 0 to 1.
type Equivalent struct {
	*Model
	Grade float64
}

// Target is a deployment that can be called: where it is, what it costs, whose model it serves.
type Target struct {
	ID           string // provider/model, as in headers and records
	HealthID     string // under which its health is kept: the names of nodes are unique in their organization only
	Model        *catalog.Model
	Deployment   *catalog.Deployment // as declared, with the catalogue's price where none is
	Provider     *catalog.Provider
	PriceVersion string
	Limits       Limits
}

// Limits is what a deployment can take, put together from what the deployment, its model and the
// equivalence map say.
type Limits struct {
	Context   int64 // tokens, prompt and answer together; 0: unknown
	MaxOutput int64 // tokens; 0: unknown
	// Can is what the deployment is known to be able to do. When Known, that is all; else what is in neither Can nor
	// Lacks is open.
	Can   catalog.CapabilitySet
	Known bool
	Lacks catalog.CapabilitySet // what it is known not to be able to do
	// Tokenizer is the family of the model's vocabulary, for counting a prompt; empty: unknown.
	Tokenizer string
	Drained   bool // the deployment or its provider takes no new requests
}

// Route is a client-facing name with its models and policy resolved.
type Route struct {
	*catalog.Route
	Models []*Model
	Policy *catalog.Policy
	// Fallbacks are the models behind the policy's fallbacks, in order.
	Fallbacks []*Model
	// among are the organizations for which the name exists: nobody declared it, it is what their nodes call a model.
	// Nil: it exists for all.
	among map[string]bool
}

// OpenTo says whether a project may use the route.
func (r *Route) OpenTo(organization, project string) bool {
	return (r.among == nil || r.among[organization]) && r.Route.OpenTo(organization, project)
}

// At says whether a deployment is one that a pin allows; a pin that is not set allows all.
func (t *Target) At(pin account.Pin) bool {
	return !pin.Set() || t.Provider.Name == pin.Provider && (pin.Model == "" || t.Deployment.Model == pin.Model)
}

// At says whether one of the route's own models has a deployment that a pin allows.
func (r *Route) At(pin account.Pin) bool {
	if !pin.Set() {
		return true
	}
	for _, m := range r.Models {
		for i := range m.Targets {
			if m.Targets[i].At(pin) {
				return true
			}
		}
	}
	return false
}

// Spec is what the snapshot was compiled from.
func (s *Snapshot) Spec() Spec { return s.spec }

// Principal returns who holds the key with this hash.
func (s *Snapshot) Principal(hash account.KeyHash) (*account.Principal, bool) {
	p, ok := s.principals[hash]
	return p, ok
}

// Route returns the route behind a client-facing name. A model that no route is named after is a
// route of its own under the default policy.
func (s *Snapshot) Route(name string) (*Route, bool) {
	r, ok := s.routes[name]
	return r, ok
}

// RouteOf returns the route that a name means to an organization. Names that nobody declared may mean something else to
// each: what its own nodes call so.
func (s *Snapshot) RouteOf(organization, name string) (*Route, bool) {
	if r, ok := s.others[[2]string{organization, name}]; ok {
		return r, true
	}
	return s.Route(name)
}

// Model returns a canonical model.
func (s *Snapshot) Model(name string) (*Model, bool) {
	m, ok := s.models[name]
	return m, ok
}

// Provider returns a provider that was declared. Nodes are none of them.
func (s *Snapshot) Provider(name string) (*catalog.Provider, bool) {
	p, ok := s.providers[name]
	return p, ok
}

// Serves says whether an organization knows a provider, or one of its own nodes, by a name.
func (s *Snapshot) Serves(organization, name string) bool {
	if own, ok := strings.CutPrefix(name, catalog.NodePrefix); ok {
		return own == "*" || s.served[[2]string{organization, own}] != nil
	}
	if handle, ok := strings.CutPrefix(name, catalog.CommunityPrefix); ok {
		p := s.shared[handle]
		return handle == "*" || p != nil && p.OpenTo(organization)
	}
	return s.providers[name] != nil
}

// Node returns a node that is not revoked.
func (s *Snapshot) Node(id string) (*Node, bool) {
	n, ok := s.nodes[id]
	return n, ok
}

// Revoked says whether there was a node that is shut out for good.
func (s *Snapshot) Revoked(node string) bool { return s.revoked[node] }

// Nodes goes through all nodes that are not revoked, in no order.
func (s *Snapshot) Nodes() iter.Seq[*Node] { return maps.Values(s.nodes) }

// Names lists every client-facing name, sorted.
func (s *Snapshot) Names() []string { return s.names }

// Drills returns the drills that concern a key and had not ended when the snapshot was compiled: each may
// have begun or ended since. The newest stands first. It is nil for nearly every key.
func (s *Snapshot) Drills(keyID string) []*catalog.Drill { return s.drills[keyID] }

// Providers lists the providers, sorted by name.
func (s *Snapshot) Providers() []*catalog.Provider {
	list := make([]*catalog.Provider, 0, len(s.providers))
	for _, p := range s.providers {
		list = append(list, p)
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Name < list[j].Name })
	return list
}
