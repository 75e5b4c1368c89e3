package adminapi

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"shareai/internal/account"
	"shareai/internal/audit"
	"shareai/internal/fault"
)

// The names of the ways to authenticate, in the document.
const (
	keyScheme     = "key"
	sessionScheme = "session"
)

// organizationParameter is the query parameter that every operation takes.
const organizationParameter = "organization"

// Sessions know who is signed in.
type Sessions interface {
	// SignedIn returns whose session a token is. The error of one that is not in force is fault.Unauthenticated.
	SignedIn(ctx context.Context, token account.Secret) (*account.SignedIn, error)
}

// Caller is who calls an operation, and how far the operation's permission goes for him.
type Caller struct {
	// Organization is the one in which he acts; empty only where the operation asks for none.
	Organization string
	// Project is the one to which he is confined; empty: he may act in the whole organization.
	Project string
	// Key is his API key, or nil.
	Key *account.APIKey
	// User is who is signed in, or nil.
	User *account.SignedIn

	rights account.Caller
}

// Can says whether the caller has another permission than that of the operation, in whatever project.
func (c *Caller) Can(p account.Permission) bool { return account.Can(c.rights, p) > account.Nowhere }

// MayGrant says whether the caller may make an API key with a scope.
func (c *Caller) MayGrant(s account.Scope) bool { return account.MayGrant(c.rights, s) }

// By is the caller in words, for people.
func (c *Caller) By() string {
	switch {
	case c.Key != nil:
		return "API key " + c.Key.Name + " (" + c.Key.ID + ")"
	case c.User != nil:
		return c.User.User.Email
	default:
		return "somebody"
	}
}

// ProjectOf is the project in which the caller acts when the request names one, or none with "". An API key acts in
// its own project unless it may, and does, name another.
func (c *Caller) ProjectOf(named string) (string, error) {
	switch {
	case c.Project != "" && named != "" && named != c.Project:
		return "", fault.New(fault.NotFound, "project_not_found", "There is no project "+named+" for this API key, which is confined to "+c.Project+".").About("project")
	case c.Project != "":
		return c.Project, nil
	case named != "":
		return named, nil
	case c.Key != nil:
		return c.Key.Project, nil
	default:
		return "", fault.New(fault.Invalid, "project_required", "Say in which project of "+c.Organization+".").About("project")
	}
}

// ProjectsOf narrows a list to a project, as ProjectOf; empty: those of the whole organization.
func (c *Caller) ProjectsOf(named string) (string, error) {
	if c.Project == "" {
		return named, nil
	}
	return c.ProjectOf(named)
}

type callerKey struct{}

// authorize lets a request in whose caller has the permission of the operation, before anything else of it is read.
func (a *API) authorize(ctx huma.Context, next func(huma.Context)) {
	r, w := humago.Unwrap(ctx)
	permission, _ := ctx.Operation().Metadata[permissionOf].(account.Permission)
	caller, err := a.caller(r, permission)
	if err != nil {
		a.refuse(r, w, ctx.Operation().OperationID, err)
		return
	}
	acting := audit.WithActor(r.Context(), caller.actor(host(r.RemoteAddr)))
	next(huma.WithContext(ctx, context.WithValue(acting, callerKey{}, caller)))
}

// refuse answers a request that is not let in.
func (a *API) refuse(r *http.Request, w http.ResponseWriter, operation string, err error) {
	e := fault.From(err)
	if e.Kind == fault.Internal {
		a.Log.ErrorContext(r.Context(), "a caller could not be found out", slog.String("operation", operation), slog.Any("error", e))
	}
	writeFault(r.Context(), w, e)
}

// caller finds out who calls, in which organization, and whether he may.
func (a *API) caller(r *http.Request, p account.Permission) (*Caller, error) {
	if p == account.Public {
		return &Caller{}, nil
	}
	c, err := a.authenticate(r)
	if err != nil {
		return nil, err
	}
	if account.RoleFor(p) != "" { // it is about an organization, or the installation
		if err := a.place(c, r.URL.Query().Get(organizationParameter)); err != nil {
			return nil, err
		}
	}
	switch account.Can(c.rights, p) {
	case account.Everywhere:
		return c, nil
	case account.InProject:
		c.Project = c.Key.Project
		return c, nil
	default:
		return nil, c.lacks(p)
	}
}

// authenticate finds out who calls. An API key that is sent wins over a cookie, which browsers send by themselves.
func (a *API) authenticate(r *http.Request) (*Caller, error) {
	token := a.sessionToken(r)
	if r.Header.Get("Authorization") == "" && !token.Empty() {
		user, err := a.Sessions.SignedIn(r.Context(), token)
		if err != nil {
			return nil, err
		}
		return &Caller{User: user, rights: account.Caller{Known: true, User: true}}, nil
	}
	principal, err := a.Snapshots.Current().Authenticate(r.Header, a.Snapshots.Stale)
	if err != nil {
		return nil, err
	}
	return &Caller{
		Key: principal.Key, Organization: principal.Organization.Name,
		rights: account.Caller{Known: true, Scopes: principal.Key.Scopes},
	}, nil
}

// operator is the organization that operates the installation, or empty.
func (a *API) operator() string { return account.Operator(a.Snapshots.Current().Spec().Organizations) }

// place finds the organization in which a caller acts. One that he does not belong to does not exist for him.
func (a *API) place(c *Caller, named string) error {
	notFound := fault.New(fault.NotFound, "organization_not_found", "There is no such organization, or you do not belong to it.").About(organizationParameter)
	if c.Key != nil {
		if named != "" && named != c.Organization {
			return notFound
		}
	} else {
		if named == "" {
			var err error
			if named, err = onlyOrganization(c.User.Memberships); err != nil {
				return err
			}
		}
		if c.rights.Role = c.User.RoleIn(named); c.rights.Role == "" {
			return notFound
		}
		c.Organization = named
	}
	c.rights.Operator = a.operator() == c.Organization
	return nil
}

// onlyOrganization is where a user acts who names no organization.
func onlyOrganization(memberships []account.Membership) (string, error) {
	switch len(memberships) {
	case 0:
		return "", fault.New(fault.Forbidden, "no_organization", "You belong to no organization. Ask one of its admins for an invitation, or create one.")
	case 1:
		return memberships[0].Organization, nil
	}
	names := make([]string, len(memberships))
	for i := range memberships {
		names[i] = memberships[i].Organization
	}
	return "", fault.New(fault.Invalid, "organization_required",
		"You belong to several organizations. Say which with ?organization=NAME: "+strings.Join(names, ", ")+".").About(organizationParameter)
}

// lacks says what a caller would need.
func (c *Caller) lacks(p account.Permission) error {
	least := account.RoleFor(p)
	operators := slices.ContainsFunc(account.Demands, func(d account.Demand) bool { return d.Permission == p && d.Operator })
	switch {
	case p == account.OwnAccount:
		return fault.New(fault.Forbidden, "session_required", "This is about the account of a person. Sign in; an API key has none.")
	case c.Key != nil && (!operators || c.rights.Operator):
		words := make([]string, 0, 2)
		for _, s := range account.ScopesFor(p) {
			words = append(words, string(s))
		}
		return fault.New(fault.Forbidden, "missing_scope", fmt.Sprintf(
			"This API key (%s) lacks the scope %s. Use a key that has it; `shareai keys create --scope %s` makes one.", c.Key.Name, strings.Join(words, " or "), words[0]))
	case operators && !c.rights.Operator:
		return fault.New(fault.Forbidden, "operator_required", "This concerns all organizations of this installation. Only the one that operates it may do so, which is set by `operator: true` in the configuration file or by the set-up.")
	default:
		return fault.New(fault.Forbidden, "missing_role", fmt.Sprintf(
			"This needs the role %s in %s; yours is %s. An admin can change it.", least, c.Organization, c.rights.Role))
	}
}

// actor is the caller in the audit log.
func (c *Caller) actor(from string) audit.Actor {
	switch {
	case c.Key != nil:
		return audit.Actor{Kind: audit.APIKey, ID: c.Key.ID, Name: c.Key.Name, From: from}
	case c.User != nil:
		return audit.Actor{Kind: audit.Member, ID: c.User.User.ID, Name: c.User.User.Email, From: from}
	default:
		return audit.Actor{Kind: audit.Anonymous, From: from}
	}
}

// host is the address of a peer without its port.
func host(peer string) string {
	if h, _, err := net.SplitHostPort(peer); err == nil {
		return h
	}
	return peer
}

// permissionOf is where an operation's metadata has its permission.
const permissionOf = "permission"

// demand writes into an operation what it asks of its caller.
func demand(op *huma.Operation, p account.Permission) {
	op.Metadata = map[string]any{permissionOf: p}
	op.Extensions = map[string]any{"x-permission": string(p)}
	op.Security = []map[string][]string{} // not nil: the document has none for all
	if p == account.Public {
		return
	}
	op.Security = append(op.Security, map[string][]string{sessionScheme: {}})
	if p != account.OwnAccount {
		// One of the scopes is enough: an alternative for each.
		for _, s := range account.ScopesFor(p) {
			op.Security = append(op.Security, map[string][]string{keyScheme: {string(s)}})
		}
	}
	if p == account.AnyCaller {
		op.Security = append(op.Security, map[string][]string{keyScheme: {}})
	}
	if account.RoleFor(p) == "" {
		return
	}
	op.Parameters = append(op.Parameters, &huma.Param{
		Name: organizationParameter, In: "query", Schema: &huma.Schema{Type: huma.TypeString},
		Description: "The organization in which to act. Needed by users who belong to several.",
	})
	note := "\n\nFor users with the role " + string(account.RoleFor(p)) + " or above"
	for i, s := range account.ScopesFor(p) {
		note += []string{", and API keys with the scope ", " or "}[min(i, 1)] + string(s)
	}
	op.Description += note + "."
}
