package snapshot

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"shareai/internal/account"
	"shareai/internal/catalog"
)

// drills finds the keys that each drill concerns. One that is over stays a row, for people to read, and
// is left out: it can not run again. What a drill is about may be gone; then it is left out with a warning,
// because a rehearsal must not keep a gateway from starting. Of several about one deployment the first
// counts: the newest, which is what whoever started it expects.
func (c *compiler) drills(now time.Time) {
	var running []*catalog.Drill
	for i := range c.spec.Drills {
		if d := &c.spec.Drills[i]; !d.OverAt(now) {
			running = append(running, d)
		}
	}
	slices.SortFunc(running, func(a, b *catalog.Drill) int {
		return cmp.Or(b.Starts.Compare(a.Starts), strings.Compare(a.ID, b.ID))
	})
	for _, d := range running {
		if why := c.undrillable(d); why != "" {
			c.warn("drill %s does not run: %s", d.ID, why)
			continue
		}
		for _, p := range c.view.principals {
			if concerns(d, p.Key) {
				c.drill(p.Key.ID, d)
			}
		}
	}
}

func (c *compiler) drill(keyID string, d *catalog.Drill) {
	if c.view.drills == nil {
		c.view.drills = map[string][]*catalog.Drill{}
	}
	c.view.drills[keyID] = append(c.view.drills[keyID], d)
}

// concerns says whether a drill is about the requests of a key.
func concerns(d *catalog.Drill, k *account.APIKey) bool {
	return d.Organization == k.Organization && d.Project == k.Project &&
		(d.KeyID == "" || d.KeyID == k.ID) && k.RevokedAt.IsZero()
}

// undrillable says why a drill can not run; empty when it can.
func (c *compiler) undrillable(d *catalog.Drill) string {
	if err := d.Check(); err != nil {
		return err.Error()
	}
	if _, ok := c.origins[Problem{Parts: []string{"organizations", d.Organization, "projects", d.Project}}.Path()]; !ok {
		return "there is no project " + d.Organization + "/" + d.Project
	}
	if d.KeyID != "" && !c.hasKey(d) {
		return "its project has no key " + d.KeyID + " in force"
	}
	if !c.hasTarget(d) {
		return "no model is served by " + d.Target()
	}
	return ""
}

func (c *compiler) hasKey(d *catalog.Drill) bool {
	for _, p := range c.view.principals {
		if concerns(d, p.Key) {
			return true
		}
	}
	return false
}

// hasTarget says whether a deployment exists that the drill can make fail.
func (c *compiler) hasTarget(d *catalog.Drill) bool {
	for _, m := range c.view.models {
		for i := range m.Targets {
			if t := &m.Targets[i]; t.Provider.OpenTo(d.Organization) && d.Hits(t.Provider, t.ID) {
				return true
			}
		}
	}
	return false
}
