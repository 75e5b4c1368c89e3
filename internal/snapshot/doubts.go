package snapshot

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"shareai/internal/account"
	"shareai/internal/catalog"
)

// lengths finds answers that are longer than what they have to fit into.
func (c *compiler) lengths(m *catalog.Model) {
	check := func(output, context int64, parts ...string) {
		if context > 0 && output > context {
			c.problems.Found("the context holds prompt and answer together", append(append([]string{"models", m.Name}, parts...), "max_output"),
				"max_output is %d, more than the context of %d", output, context)
		}
	}
	check(m.MaxOutput, m.Context)
	for j := range m.Deployments {
		d := &m.Deployments[j]
		check(d.MaxOutput, cmp.Or(d.Context, m.Context), "deployments", strconv.Itoa(j))
	}
}

// doubts warns of what can be meant and seldom is: names that mean nothing, yet are no broken references.
// What they stand for may come later, so that they are no problems.
func (c *compiler) doubts() {
	for i := range c.spec.Keys {
		if k := &c.spec.Keys[i]; k.RevokedAt.IsZero() {
			c.keyDoubts(k)
		}
	}
	for i := range c.spec.Routes {
		r := &c.spec.Routes[i]
		for _, name := range r.Projects {
			if name != "*" && !c.hasProject(name) {
				c.warn("route %s is open to the project %s, which does not exist", r.Name, name)
			}
		}
	}
	for i := range c.spec.Policies {
		p := &c.spec.Policies[i]
		for _, region := range p.Regions {
			if !c.hasProvider(func(p *catalog.Provider) bool { return p.Region == region }) {
				c.warn("policy %s admits the region %s, in which there is no provider", p.Name, region)
			}
		}
		for _, retention := range p.Retention {
			if !c.hasProvider(func(p *catalog.Provider) bool { return cmp.Or(p.Retention, "unknown") == retention }) {
				c.warn("policy %s accepts the retention %s, which no provider has", p.Name, retention)
			}
		}
	}
}

func (c *compiler) keyDoubts(k *account.APIKey) {
	name := k.Organization + "/" + k.Project + "/" + k.Name
	if c.view.Serves(k.Organization, k.Pin.Provider) && k.Pin.Model != "" && !c.deployed[k.Pin.String()] {
		c.warn("key %s is pinned to %s, which no model has as a deployment: it can use nothing", name, k.Pin)
	}
	for _, model := range k.Models {
		if _, ok := c.view.routes[model]; !ok && !strings.ContainsAny(model, "*?") {
			c.warn("key %s may use %s, and there is no model or route of this name", name, model)
		}
	}
}

// hasProject finds "project" or "organization/project".
func (c *compiler) hasProject(name string) bool {
	return slices.ContainsFunc(c.spec.Projects, func(p account.Project) bool {
		return name == p.Name || name == p.Organization+"/"+p.Name
	})
}

func (c *compiler) hasProvider(accept func(*catalog.Provider) bool) bool {
	for _, p := range c.view.providers {
		if accept(p) {
			return true
		}
	}
	return false
}
