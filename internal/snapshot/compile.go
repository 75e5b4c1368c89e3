package snapshot

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"shareai/internal/account"
	"shareai/internal/catalog"
	"shareai/internal/families"
)

// Compile checks declarations against each other and resolves every reference. Its error is Problems:
// all that is wrong, in the order of declaration. Where a file and rows are joined, the file's
// declarations come first, as Join puts them.
func Compile(spec Spec) (*Snapshot, error) {
	c := compiler{
		spec: spec,
		view: &Snapshot{
			spec:       spec,
			principals: map[account.KeyHash]*account.Principal{},
			providers:  map[string]*catalog.Provider{},
			models:     map[string]*Model{},
			routes:     map[string]*Route{},
			others:     map[[2]string]*Route{},
			nodes:      map[string]*Node{},
			served:     map[[2]string]*Node{},
			shared:     map[string]*catalog.Provider{},
			revoked:    map[string]bool{},
		},
		deployed: map[string]bool{},
		policies: map[string]*catalog.Policy{},
		origins:  map[string]account.Origin{},
	}
	c.providers()
	c.models()
	c.nodes()
	c.community()
	c.equivalents()
	c.policyNames()
	c.routeNames()
	c.routes()
	c.accounts()
	c.drills(time.Now())
	c.alerts()
	c.doubts()
	if len(c.problems) > 0 {
		return nil, c.problems
	}
	c.view.names = slices.Sorted(maps.Keys(c.view.routes))
	return c.view, nil
}

type compiler struct {
	spec     Spec
	view     *Snapshot
	policies map[string]*catalog.Policy
	origins  map[string]account.Origin
	deployed map[string]bool // ids of the deployments
	spoken   []spoken        // by nodes
	lent     []lent          // by nodes that are shared
	known    map[*families.Entry]*Model
	written  map[string]*Model // those that were declared: nodes, and what they serve, come and go
	compiled []*Model          // in the order of declaration, those that only nodes know after them
	problems Problems
}

// declare notes that a thing exists and says whether it is the first of its name.
func (c *compiler) declare(origin account.Origin, parts ...string) bool {
	path := Problem{Parts: parts}.Path()
	before, taken := c.origins[path]
	if !taken {
		c.origins[path] = origin
		return true
	}
	if before == origin {
		c.problems.Found("rename one of them", parts, "%q is declared twice", parts[len(parts)-1])
	} else {
		c.problems.Found("rename it in the file, or delete it from the database first", parts,
			"%q is declared in the configuration file and in the database", parts[len(parts)-1])
	}
	return false
}

// merged tells whether a row repeats what the file declares. Organizations and projects are nothing but
// their names, so that both mean the same one: the file's declaration is the one in force, and what the
// database keeps below it stays valid.
func (c *compiler) merged(origin account.Origin, parts ...string) bool {
	return origin == account.FromDatabase && c.origins[Problem{Parts: parts}.Path()] == account.FromFile
}

func (c *compiler) providers() {
	for i := range c.spec.Providers {
		p := &c.spec.Providers[i]
		if !c.declare(p.Origin, "providers", p.Name) {
			continue
		}
		if !slices.Contains(catalog.Dialects, p.Dialect) {
			c.problems.Found("this version speaks openai, azure and simulated", []string{"providers", p.Name, "dialect"},
				"there is no dialect %q", p.Dialect)
		}
		if p.BaseURL == "" && p.Dialect != catalog.Simulated {
			c.problems.Found("for example https://api.provider.example/v1", []string{"providers", p.Name, "base_url"},
				"provider %q needs a base_url", p.Name)
		}
		c.providerWords(p)
		c.view.providers[p.Name] = p
	}
}

func (c *compiler) models() {
	for i := range c.spec.Models {
		m := &c.spec.Models[i]
		if !c.declare(m.Origin, "models", m.Name) {
			continue
		}
		compiled := &Model{Model: m}
		if len(m.Deployments) == 0 {
			c.problems.Found("add at least one {provider: …, model: …}", []string{"models", m.Name, "deployments"},
				"model %q has no deployment", m.Name)
		}
		for j := range m.Deployments {
			d := &m.Deployments[j]
			provider, ok := c.view.providers[d.Provider]
			if !ok {
				c.problems.Found(oneOf("providers", c.view.providers), []string{"models", m.Name, "deployments", strconv.Itoa(j), "provider"},
					"there is no provider %q", d.Provider)
				continue
			}
			if slices.ContainsFunc(m.Deployments[:j], func(o catalog.Deployment) bool { return o.ID() == d.ID() }) {
				c.problems.Found("remove one of them", []string{"models", m.Name, "deployments", strconv.Itoa(j)},
					"model %q has the deployment %s twice", m.Name, d.ID())
				continue
			}
			compiled.Targets = append(compiled.Targets, newTarget(m, d, provider))
			c.deployed[d.ID()] = true
		}
		c.lengths(m)
		c.view.models[m.Name] = compiled
		c.compiled = append(c.compiled, compiled)
	}
}

func (c *compiler) policyNames() {
	for i := range c.spec.Policies {
		p := &c.spec.Policies[i]
		if !c.declare(p.Origin, "policies", p.Name) {
			continue
		}
		c.policyWords(p)
		for j, name := range p.Order {
			if _, ok := c.view.providers[name]; !ok && !isNode(name) && !isCommunity(name) {
				c.problems.Found(oneOf("providers", c.view.providers), []string{"policies", p.Name, "order", strconv.Itoa(j)},
					"there is no provider %q", name)
			}
		}
		filled := p.WithDefaults()
		c.policies[p.Name] = &filled
	}
	name := c.spec.DefaultPolicy
	if name == "" {
		builtIn := catalog.Policy{Name: catalog.DefaultPolicyName}.WithDefaults()
		c.view.fallback = &builtIn
		return
	}
	if c.view.fallback = c.policies[name]; c.view.fallback == nil {
		c.problems.Found(oneOf("policies", c.policies), []string{"default_policy"}, "there is no policy %q", name)
		c.view.fallback = &catalog.Policy{}
	}
}

// routeNames declares all routes before their references are resolved: a policy may name a route as
// its fallback that is declared later.
func (c *compiler) routeNames() {
	for i := range c.spec.Routes {
		r := &c.spec.Routes[i]
		if c.declare(r.Origin, "routes", r.Name) {
			c.view.routes[r.Name] = &Route{Route: r, Models: c.routeModels(r), Policy: c.routePolicy(r)}
		}
	}
	for i := range c.spec.Models {
		name := c.spec.Models[i].Name
		if _, named := c.view.routes[name]; !named {
			c.view.routes[name] = c.plain(name, c.view.models[name])
		}
	}
	c.spokenNames()
}

// plain is the route of a name that means one model.
func (c *compiler) plain(name string, m *Model) *Route {
	return &Route{Route: &catalog.Route{Name: name}, Models: []*Model{m}, Policy: c.view.fallback}
}

func (c *compiler) routeModels(r *catalog.Route) []*Model {
	if len(r.Models) == 0 {
		c.problems.Found("name at least one model", []string{"routes", r.Name, "models"}, "route %q has no model", r.Name)
	}
	found := make([]*Model, 0, len(r.Models))
	for j, name := range r.Models {
		if slices.Contains(r.Models[:j], name) {
			c.problems.Found("remove one of them", []string{"routes", r.Name, "models", strconv.Itoa(j)},
				"route %q names the model %q twice", r.Name, name)
			continue
		}
		m, ok := c.written[name]
		if !ok {
			c.problems.Found(oneOf("models", c.written), []string{"routes", r.Name, "models", strconv.Itoa(j)},
				"there is no model %q", name)
			continue
		}
		found = append(found, m)
	}
	return found
}

func (c *compiler) routePolicy(r *catalog.Route) *catalog.Policy {
	if r.Policy == "" {
		return c.view.fallback
	}
	p, ok := c.policies[r.Policy]
	if !ok {
		c.problems.Found(oneOf("policies", c.policies), []string{"routes", r.Name, "policy"}, "there is no policy %q", r.Policy)
		return c.view.fallback
	}
	return p
}

// routes resolves the fallbacks of every policy in use: a fallback is a model or the models of a
// route, each once.
func (c *compiler) routes() {
	fallbacks := map[*catalog.Policy][]*Model{}
	policies := append(slices.Collect(maps.Values(c.policies)), c.view.fallback)
	for _, p := range policies {
		for j, name := range p.Fallbacks {
			r, ok := c.view.routes[name]
			if !ok || r.among != nil {
				c.problems.Found("name a model or a route", []string{"policies", p.Name, "fallbacks", strconv.Itoa(j)},
					"there is no model or route %q", name)
				continue
			}
			for _, m := range r.Models {
				if !slices.Contains(fallbacks[p], m) {
					fallbacks[p] = append(fallbacks[p], m)
				}
			}
		}
	}
	for _, r := range c.view.routes {
		r.Fallbacks = fallbacks[r.Policy]
	}
	for _, r := range c.view.others {
		r.Fallbacks = fallbacks[r.Policy]
	}
}

func (c *compiler) accounts() {
	organizations := map[string]*account.Organization{}
	for i := range c.spec.Organizations {
		o := &c.spec.Organizations[i]
		if !c.merged(o.Origin, "organizations", o.Name) && c.declare(o.Origin, "organizations", o.Name) {
			organizations[o.Name] = o
			c.labelLimits(o)
			c.shares(o)
		}
	}
	projects := map[[2]string]*account.Project{}
	for i := range c.spec.Projects {
		p := &c.spec.Projects[i]
		if organizations[p.Organization] == nil {
			c.leftOut(p.Origin, []string{"organizations", p.Organization}, "project "+p.Organization+"/"+p.Name, "organization "+p.Organization)
			continue
		}
		parts := []string{"organizations", p.Organization, "projects", p.Name}
		if !c.merged(p.Origin, parts...) && c.declare(p.Origin, parts...) {
			projects[[2]string{p.Organization, p.Name}] = p
		}
	}
	for i := range c.spec.Keys {
		k := &c.spec.Keys[i]
		parts := []string{"organizations", k.Organization, "projects", k.Project, "keys", k.Name}
		project := projects[[2]string{k.Organization, k.Project}]
		if project == nil {
			c.leftOut(k.Origin, parts, "key "+k.ID, "project "+k.Organization+"/"+k.Project)
			continue
		}
		c.key(k, project, organizations[k.Organization], parts)
	}
	c.bounds()
}

// labelLimits checks that a label's value is bounded in one place: two bounds would count everything twice.
func (c *compiler) labelLimits(o *account.Organization) {
	for i, l := range o.LabelLimits {
		same := func(other account.LabelLimits) bool { return other.Label == l.Label && other.Value == l.Value }
		if slices.ContainsFunc(o.LabelLimits[:i], same) {
			c.problems.Found("put both into one entry", []string{"organizations", o.Name, "label_limits", strconv.Itoa(i)},
				"the label %s=%s is bounded twice", l.Label, l.Value)
		}
	}
}

// shares checks that the shares of an organization are no more than everything, and each is declared once.
func (c *compiler) shares(o *account.Organization) {
	sum := 0.0
	for i, s := range o.Shares {
		at := []string{"organizations", o.Name, "shares", strconv.Itoa(i)}
		same := func(other account.Share) bool { return other.Label == s.Label && other.Value == s.Value }
		if slices.ContainsFunc(o.Shares[:i], same) {
			c.problems.Found("remove one of them", at, "the label %s=%s has two shares", s.Label, s.Value)
		}
		const rounding = 1e-9
		if sum += s.Share; sum > 1+rounding && sum-s.Share <= 1+rounding {
			c.problems.Found("what is left of 1 belongs to all other projects", at, "the shares of %q are more than 1 together", o.Name)
		}
	}
}

// bounds works out what bounds each principal, once for all requests.
func (c *compiler) bounds() {
	for _, p := range c.view.principals {
		p.Part = account.PartOf(p.Organization, p.Project)
		p.Bounds = account.BoundsOf(p)
	}
}

func (c *compiler) key(k *account.APIKey, project *account.Project, organization *account.Organization, parts []string) {
	// A revoked key keeps its row; its name is free again, and its pin locks nobody in.
	if k.RevokedAt.IsZero() && !(c.named(k, parts) && c.pinned(k, parts)) {
		return
	}
	if other, taken := c.view.principals[k.Hash]; taken {
		c.problems.Found("give each key a secret of its own", append(parts, "secret"),
			"keys %q and %q have the same secret", other.Key.Name, k.Name)
		return
	}
	c.view.principals[k.Hash] = &account.Principal{Key: k, Project: project, Organization: organization}
}

// named says whether a key may have its name. A row may share it with a key of the file: the row was made
// without sight of the file, ids tell the two apart, and both are in somebody's hands.
func (c *compiler) named(k *account.APIKey, parts []string) bool {
	if !c.merged(k.Origin, parts...) {
		return c.declare(k.Origin, parts...)
	}
	c.warn("key %s of the database is named %s/%s/%s like a key of the configuration file; both are in use", k.ID, k.Organization, k.Project, k.Name)
	return true
}

// pinned says whether the provider exists to which a key is locked. A row may outlive the provider: then
// its key is left out, because it must reach no other one.
func (c *compiler) pinned(k *account.APIKey, parts []string) bool {
	if !k.Pin.Set() || c.view.Serves(k.Organization, k.Pin.Provider) {
		return true
	}
	if k.Origin == account.FromFile {
		c.problems.Found(oneOf("providers", c.view.providers), append(parts, "pin", "provider"), "there is no provider %q", k.Pin.Provider)
	} else {
		c.warn("key %s is not in use: it is pinned to provider %s, which does not exist", k.ID, k.Pin.Provider)
	}
	return false
}

func (c *compiler) warn(format string, args ...any) {
	c.view.Warnings = append(c.view.Warnings, fmt.Sprintf(format, args...))
}

// leftOut deals with a thing whose owner is gone. In a file that is a mistake; a row may outlive what
// a file used to declare, and must then not keep the whole gateway from starting.
func (c *compiler) leftOut(origin account.Origin, parts []string, what, owner string) {
	if origin == account.FromFile {
		c.problems.Found("declare it", parts, "%s belongs to %s, which does not exist", what, owner)
		return
	}
	c.warn("%s is not in use: %s does not exist any more", what, owner)
}

// oneOf is the hint of a broken reference.
func oneOf[V any](kind string, known map[string]V) string {
	if len(known) == 0 {
		return "no " + kind + " are declared"
	}
	names := slices.Sorted(maps.Keys(known))
	const most = 8
	list := ""
	for i, n := range names[:min(len(names), most)] {
		if i > 0 {
			list += ", "
		}
		list += n
	}
	if len(names) > most {
		list += ", …"
	}
	return "the " + kind + " are " + list
}
