package control

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"shareai/internal/account"
	"shareai/internal/catalog"
	"shareai/internal/fault"
	"shareai/internal/snapshot"
)

// What a drill is when its request does not say.
const (
	DefaultDrillTime  = 10 * time.Minute
	DefaultDrillShare = 1.0
)

// The bounds of the drills of one project. Those that are over are kept for people to read.
const (
	MaxRunningDrills = 20
	keptDrills       = 100
	keptDrillTime    = 30 * 24 * time.Hour
)

// DrillRequest describes a drill to be started.
type DrillRequest struct {
	Organization string // empty: that of the only project of this name
	Project      string
	Key          string // name or id of a key of the project; empty: all of them
	// Exactly one of the three.
	Provider, Deployment, Region string
	Fault                        catalog.DrillFault
	Share                        float64       // 0: DefaultDrillShare
	For                          time.Duration // 0: DefaultDrillTime
	By                           string        // who asks for it, in words
}

// StartDrill starts a drill at once and returns it.
func (c *Control) StartDrill(ctx context.Context, r DrillRequest) (catalog.Drill, error) {
	now := c.o.Now().UTC().Truncate(time.Microsecond)
	drill := catalog.Drill{
		ID:       account.GenerateID("drill_"),
		Provider: r.Provider, Deployment: r.Deployment, Region: r.Region,
		Fault: r.Fault, Share: cmp.Or(r.Share, DefaultDrillShare),
		Starts: now, Ends: now.Add(cmp.Or(r.For, DefaultDrillTime)), By: r.By, Origin: account.FromDatabase,
	}
	if err := drill.Check(); err != nil {
		return catalog.Drill{}, fault.New(fault.Invalid, "invalid_drill", "This drill can not be started: "+err.Error()+".")
	}
	err := c.change(ctx, act{"drill.start", &drill.ID}, func(declared snapshot.Spec) (*snapshot.Change, error) {
		project, err := findProject(declared.Projects, r.Organization, r.Project)
		if err != nil {
			return nil, err
		}
		drill.Organization, drill.Project = project.Organization, project.Name
		if drill.KeyID, err = drilledKey(declared.Keys, project, r.Key); err != nil {
			return nil, err
		}
		if err := checkTarget(&drill, &declared); err != nil {
			return nil, err
		}
		if running(declared.Drills, project, now) >= MaxRunningDrills {
			return nil, fault.New(fault.Conflict, "too_many_drills",
				"The project "+project.Organization+"/"+project.Name+" has 20 drills running already. Stop one first.")
		}
		return &snapshot.Change{
			Put:    snapshot.Spec{Drills: []catalog.Drill{drill}},
			Delete: snapshot.Names{Drills: outdated(declared.Drills, now)},
		}, nil
	})
	if err != nil {
		return catalog.Drill{}, err
	}
	return drill, nil
}

// findProject returns the project that is meant.
func findProject(projects []account.Project, organization, name string) (*account.Project, error) {
	if name == "" {
		return nil, fault.New(fault.Invalid, "project_missing", "Name the project whose requests the drill is about.").About("project")
	}
	var found *account.Project
	for i := range projects {
		p := &projects[i]
		if p.Name != name || organization != "" && p.Organization != organization {
			continue
		}
		if found != nil && found.Organization != p.Organization {
			return nil, fault.New(fault.Conflict, "project_ambiguous",
				"Several organizations have a project "+name+", "+found.Organization+" and "+p.Organization+" among them. Name the organization.").About("organization")
		}
		found = p
	}
	if found == nil {
		return nil, missing("project", strings.TrimPrefix(organization+"/"+name, "/"))
	}
	return found, nil
}

// drilledKey returns the id of the key of a project that ref means; empty when ref is.
func drilledKey(keys []account.APIKey, project *account.Project, ref string) (string, error) {
	if ref == "" {
		return "", nil
	}
	var ids []string
	for i := range keys {
		k := &keys[i]
		of := k.Organization == project.Organization && k.Project == project.Name && k.RevokedAt.IsZero()
		if of && (k.ID == ref || k.Name == ref) && !slices.Contains(ids, k.ID) {
			ids = append(ids, k.ID)
		}
	}
	switch len(ids) {
	case 1:
		return ids[0], nil
	case 0: // ref is not repeated: it may be a secret
		return "", fault.New(fault.Invalid, "key_not_found",
			"The project "+project.Organization+"/"+project.Name+" has no such key. Give its name or its id (key_…); keys list shows both.").About("key")
	default:
		return "", fault.New(fault.Conflict, "key_ambiguous",
			"Several keys have this name. Give the id of one: "+strings.Join(ids, ", ")+".").About("key")
	}
}

// checkTarget refuses a drill that could make nothing fail for its project. Compiling would not: it leaves such a
// drill out. What the project does not reach is to it as if it were not there, and is not named.
func checkTarget(d *catalog.Drill, declared *snapshot.Spec) error {
	kind, nameOf := "provider", func(t *snapshot.Target) string { return t.Provider.Name }
	switch {
	case d.Deployment != "":
		kind, nameOf = "deployment", func(t *snapshot.Target) string { return t.ID }
	case d.Region != "":
		kind, nameOf = "region", func(t *snapshot.Target) string { return t.Provider.Region }
	}
	view, err := snapshot.Compile(*declared)
	if err != nil {
		return fault.New(fault.Conflict, "declarations_broken",
			"The declarations have mistakes, so that what could fail is not known. Correct them first.").Because(err)
	}
	known, hit := map[string]bool{}, false
	for _, t := range reached(view, d, declared.Keys) {
		hit = hit || d.Hits(t.Provider, t.ID)
		known[nameOf(t)] = true
	}
	if hit {
		return nil
	}
	delete(known, "") // a provider without a region
	return fault.New(fault.Invalid, kind+"_not_found",
		"Nothing that the project may use is served by "+d.Target()+". "+listed(kind, known)).About(kind)
}

// reached returns the deployments that requests of the drill's project, or of its one key, can come to.
func reached(view *snapshot.Snapshot, d *catalog.Drill, keys []account.APIKey) []*snapshot.Target {
	var own []*account.APIKey
	for i := range keys {
		k := &keys[i]
		if k.Organization == d.Organization && k.Project == d.Project && k.RevokedAt.IsZero() && (d.KeyID == "" || d.KeyID == k.ID) {
			own = append(own, k)
		}
	}
	if len(own) == 0 {
		own = []*account.APIKey{{}} // one that is made later
	}
	var found []*snapshot.Target
	for _, name := range view.Names() {
		route, _ := view.RouteOf(d.Organization, name)
		if !route.OpenTo(d.Organization, d.Project) {
			continue
		}
		for _, k := range own {
			if !k.Allows(name) {
				continue
			}
			for _, m := range models(route) {
				for i := range m.Targets {
					if t := &m.Targets[i]; t.At(k.Pin) && t.Provider.OpenTo(d.Organization) {
						found = append(found, t)
					}
				}
			}
		}
	}
	return found
}

// models are those of a route, and all that its policy lets stand in for them.
func models(route *snapshot.Route) []*snapshot.Model {
	list := slices.Concat(route.Models, route.Fallbacks)
	if route.Policy.Equivalents == catalog.EquivalentsOff {
		return list
	}
	for _, m := range route.Models {
		for _, e := range m.Equivalents {
			list = append(list, e.Model)
		}
	}
	return list
}

// listed names what there is to choose from.
func listed(kind string, known map[string]bool) string {
	if len(known) == 0 {
		return "There is no " + kind + " to choose from."
	}
	names := make([]string, 0, len(known))
	for name := range known {
		names = append(names, name)
	}
	slices.Sort(names)
	const most = 12
	if len(names) > most {
		names = append(names[:most], "…")
	}
	return "Those in use: " + strings.Join(names, ", ") + "."
}

func running(drills []catalog.Drill, of *account.Project, now time.Time) int {
	n := 0
	for i := range drills {
		if d := &drills[i]; d.Organization == of.Organization && d.Project == of.Name && !d.OverAt(now) {
			n++
		}
	}
	return n
}

// outdated returns the ids of the drills that were over long ago, and of the oldest of a project that had very many.
func outdated(drills []catalog.Drill, now time.Time) []string {
	over := slices.DeleteFunc(slices.Clone(drills), func(d catalog.Drill) bool { return !d.OverAt(now) })
	slices.SortFunc(over, func(a, b catalog.Drill) int { return b.Starts.Compare(a.Starts) })
	kept := map[[2]string]int{}
	var ids []string
	for i := range over {
		d := &over[i]
		of := [2]string{d.Organization, d.Project}
		if kept[of]++; kept[of] > keptDrills || now.Sub(d.Ends) > keptDrillTime {
			ids = append(ids, d.ID)
		}
	}
	return ids
}

// DrillFilter selects drills. An empty field matches everything.
type DrillFilter struct {
	Organization, Project string
	RunningAt             time.Time // only those that run at this moment; zero: those that are over as well
}

func (f *DrillFilter) matches(d *catalog.Drill) bool {
	return (f.Organization == "" || f.Organization == d.Organization) &&
		(f.Project == "" || f.Project == d.Project) &&
		(f.RunningAt.IsZero() || d.ActiveAt(f.RunningAt))
}

// ListDrills returns drills, the one that started last first.
func (c *Control) ListDrills(ctx context.Context, f DrillFilter) ([]catalog.Drill, error) {
	rows, _, err := c.o.Rows.Load(ctx)
	if err != nil {
		return nil, fault.From(err)
	}
	drills := slices.DeleteFunc(slices.Clone(rows.Drills), func(d catalog.Drill) bool { return !f.matches(&d) })
	slices.SortFunc(drills, func(a, b catalog.Drill) int {
		return cmp.Or(b.Starts.Compare(a.Starts), strings.Compare(a.ID, b.ID))
	})
	return drills, nil
}

// StopDrill ends a drill of those that the filter matches, at once, and returns it. One that is over
// already stays as it is.
func (c *Control) StopDrill(ctx context.Context, id string, among DrillFilter) (catalog.Drill, error) {
	var stopped catalog.Drill
	err := c.change(ctx, act{"drill.stop", &stopped.ID}, func(declared snapshot.Spec) (*snapshot.Change, error) {
		at := slices.IndexFunc(declared.Drills, func(d catalog.Drill) bool { return d.ID == id && among.matches(&d) })
		if at < 0 {
			return nil, fault.New(fault.NotFound, "drill_not_found",
				"There is no such drill. Give its id (drill_…); drill list shows it.").About("id")
		}
		stopped = declared.Drills[at]
		now := c.o.Now().UTC().Truncate(time.Microsecond)
		if stopped.OverAt(now) {
			return nil, nil
		}
		stopped.Stopped = now
		return &snapshot.Change{Put: snapshot.Spec{Drills: []catalog.Drill{stopped}}}, nil
	})
	if err != nil {
		return catalog.Drill{}, err
	}
	return stopped, nil
}
