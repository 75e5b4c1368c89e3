package account

import "slices"

// Role is what a user is in an organization. Each role may do all that the ones below it may.
type Role string

// The roles.
const (
	Owner  Role = "owner"  // an admin who can make and unmake owners
	Admin  Role = "admin"  // administers
	Member Role = "member" // works with it: makes API keys, rehearses failovers
	Viewer Role = "viewer" // looks
)

// Roles lists the roles, the mightiest first.
var Roles = []Role{Owner, Admin, Member, Viewer}

// Includes says whether a role may do all that another one may. What is no role includes nothing.
func (r Role) Includes(other Role) bool {
	mine, theirs := slices.Index(Roles, r), slices.Index(Roles, other)
	return mine >= 0 && theirs >= mine
}

// Permission is what an operation of the administration asks for.
type Permission string

// The permissions. Each reads or writes one kind of thing.
const (
	// Public is for everybody. AnyCaller is for whoever is known at all; OwnAccount for users, about themselves.
	Public     Permission = "public"
	AnyCaller  Permission = "any_caller"
	OwnAccount Permission = "own_account"

	ReadOrganization  Permission = "organization.read"
	WriteOrganization Permission = "organization.write"
	ReadMembers       Permission = "members.read"
	WriteMembers      Permission = "members.write"
	ReadProjects      Permission = "projects.read"
	WriteProjects     Permission = "projects.write"
	ReadKeys          Permission = "keys.read"
	WriteKeys         Permission = "keys.write"
	ReadDrills        Permission = "drills.read"
	WriteDrills       Permission = "drills.write"
	ReadNodes         Permission = "nodes.read"
	WriteNodes        Permission = "nodes.write"
	ReadAlerts        Permission = "alerts.read"
	WriteAlerts       Permission = "alerts.write"
	ReadUsage         Permission = "usage.read"
	ReadRequests      Permission = "requests.read"
	ReadContents      Permission = "contents.read" // what was said in requests, where a policy logs it

	// These are about what all organizations of an installation share. ReadCatalog is what everybody who may
	// send requests can find out as well: models, routes, policies, and how deployments are doing.
	ReadCatalog    Permission = "catalog.read"
	WriteCatalog   Permission = "catalog.write"
	ReadProviders  Permission = "providers.read"
	WriteProviders Permission = "providers.write"
	ReadAudit      Permission = "audit.read"
	ReadSettings   Permission = "settings.read"
	WriteSettings  Permission = "settings.write"
	CreateTenants  Permission = "organizations.create"
)

// Demand is what a permission asks of whoever wants it.
type Demand struct {
	Permission Permission
	// Role is the least one that has it.
	Role Role
	// Operator says that the role has to be one in the organization that operates the installation.
	Operator bool
}

// Demands is the one table from roles to permissions.
var Demands = []Demand{
	{ReadOrganization, Viewer, false},
	{WriteOrganization, Admin, false},
	{ReadMembers, Viewer, false},
	{WriteMembers, Admin, false},
	{ReadProjects, Viewer, false},
	{WriteProjects, Admin, false},
	{ReadKeys, Viewer, false},
	{WriteKeys, Member, false},
	{ReadDrills, Viewer, false},
	{WriteDrills, Member, false},
	{ReadNodes, Viewer, false},
	{WriteNodes, Admin, false},
	{ReadAlerts, Viewer, false},
	{WriteAlerts, Admin, false},
	{ReadUsage, Viewer, false},
	{ReadRequests, Viewer, false},
	{ReadContents, Admin, false},
	{ReadCatalog, Viewer, false},
	{WriteCatalog, Admin, true},
	{ReadProviders, Viewer, true},
	{WriteProviders, Admin, true},
	{ReadAudit, Admin, true},
	{ReadSettings, Viewer, true},
	{WriteSettings, Admin, true},
	{CreateTenants, Admin, true},
}

// Grant is what a scope of an API key gives: the permissions of a role in the key's organization, or some
// permissions in the key's own project.
type Grant struct {
	Scope       Scope
	Role        Role         // empty: only what Permissions lists
	Permissions []Permission // in the key's project
}

// Grants is the one table from scopes to permissions. ScopeInference gives nothing here: it is for /v1.
var Grants = []Grant{
	{Scope: ScopeDrills, Permissions: []Permission{ReadDrills, WriteDrills}},
	{Scope: ScopeRead, Role: Viewer},
	{Scope: ScopeAdmin, Role: Admin},
}

// Reach is how far a permission goes.
type Reach uint8

// The reaches.
const (
	Nowhere    Reach = iota
	InProject        // the project of the caller's API key
	Everywhere       // the whole organization, or the installation where the permission is about that
)

// Caller is who wants to do something, as far as the tables ask.
type Caller struct {
	// Known says that it is not just anybody, User that it is a signed-in person.
	Known, User bool
	Role        Role    // of a user, in the organization in which he acts
	Scopes      []Scope // of an API key
	// Operator says that the organization in which the caller acts operates the installation.
	Operator bool
}

// Can says whether a caller has a permission, and how far it goes.
func Can(c Caller, p Permission) Reach {
	switch p {
	case Public:
		return Everywhere
	case AnyCaller:
		return everywhereIf(c.Known)
	case OwnAccount:
		return everywhereIf(c.User)
	}
	at := slices.IndexFunc(Demands, func(d Demand) bool { return d.Permission == p })
	if at < 0 || Demands[at].Operator && !c.Operator {
		return Nowhere
	}
	if c.User {
		return everywhereIf(c.Role.Includes(Demands[at].Role))
	}
	reach := Nowhere
	for _, g := range Grants {
		if !slices.Contains(c.Scopes, g.Scope) {
			continue
		}
		reach = max(reach, everywhereIf(g.Role.Includes(Demands[at].Role)))
		if slices.Contains(g.Permissions, p) {
			reach = max(reach, InProject)
		}
	}
	return reach
}

func everywhereIf(yes bool) Reach {
	if yes {
		return Everywhere
	}
	return Nowhere
}

// RoleFor is the least role that has a permission; empty: there is none that matters.
func RoleFor(p Permission) Role {
	for _, d := range Demands {
		if d.Permission == p {
			return d.Role
		}
	}
	return ""
}

// ScopesFor lists the scopes that give a permission, the narrowest first.
func ScopesFor(p Permission) []Scope {
	var scopes []Scope
	for _, g := range Grants {
		if Can(Caller{Known: true, Scopes: []Scope{g.Scope}, Operator: true}, p) > Nowhere && RoleFor(p) != "" {
			scopes = append(scopes, g.Scope)
		}
	}
	return scopes
}

// MayGrant says whether a caller has everything that a scope gives, so that nobody makes an API key that may do more
// than he himself.
func MayGrant(c Caller, s Scope) bool {
	for _, d := range Demands {
		asKey := Caller{Known: true, Scopes: []Scope{s}, Operator: c.Operator}
		if Can(asKey, d.Permission) > Can(c, d.Permission) {
			return false
		}
	}
	return true
}

// Operator is the organization that operates the installation: the one that is declared to, or else the only
// one there is. Empty: nobody is known to.
func Operator(organizations []Organization) string {
	names := map[string]bool{}
	only := ""
	for _, o := range organizations {
		if o.Operator {
			return o.Name
		}
		only = o.Name
		names[o.Name] = true
	}
	if len(names) != 1 {
		return ""
	}
	return only
}
