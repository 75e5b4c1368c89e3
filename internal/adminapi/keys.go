package adminapi

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"shareai/internal/account"
	"shareai/internal/control"
	"shareai/internal/fault"
)

// Keys are the use cases of API keys.
type Keys interface {
	CreateKey(ctx context.Context, r control.KeyRequest) (control.CreatedKey, error)
	UpdateKey(ctx context.Context, organization, id string, edit func(*account.APIKey)) (account.APIKey, error)
	RevokeKey(ctx context.Context, ref string) (account.APIKey, error)
}

// Key is an API key of ours. Its secret is told once.
type Key struct {
	ID        string     `json:"id" example:"key_k3w7q2m5x4c6a2zt7d5b"`
	Name      string     `json:"name"`
	Project   string     `json:"project"`
	State     string     `json:"state" enum:"active,expired,revoked"`
	Hint      string     `json:"hint,omitempty" doc:"The first and last characters, to tell keys apart."`
	Models    []string   `json:"models" nullable:"false" doc:"Names and patterns that it may use; empty: all."`
	Pin       string     `json:"pin,omitempty" doc:"PROVIDER or PROVIDER/MODEL."`
	Scopes    []string   `json:"scopes" nullable:"false"`
	Limits    Limits     `json:"limits"`
	Budgets   []Budget   `json:"budgets" nullable:"false"`
	Created   *time.Time `json:"created,omitempty" doc:"Missing for keys of the configuration file."`
	Expires   *time.Time `json:"expires,omitempty" doc:"Missing: never."`
	Revoked   *time.Time `json:"revoked,omitempty"`
	ManagedBy string     `json:"managed_by" enum:"file,database" doc:"What the file declares can only be changed there."`
	Secret    string     `json:"secret,omitempty" doc:"The key itself. Told once, when it is created."`
}

// KeyList is a page of API keys.
type KeyList struct {
	Keys []Key `json:"keys" nullable:"false" doc:"By project, name and creation."`
	NextCursor
}

// KeyStart is a request for an API key.
type KeyStart struct {
	Name    string     `json:"name" maxLength:"63" doc:"Unique among the keys of its project that are in force."`
	Project string     `json:"project,omitempty" maxLength:"63" doc:"Missing: that of the API key that asks; a user names one."`
	Models  []string   `json:"models,omitempty" nullable:"false" maxItems:"100"`
	Pin     string     `json:"pin,omitempty" maxLength:"400" doc:"PROVIDER or PROVIDER/MODEL."`
	Scopes  []string   `json:"scopes,omitempty" nullable:"false" maxItems:"10" doc:"Of inference, drills, read and admin; missing: inference. Nobody gives more than he has."`
	Limits  Limits     `json:"limits,omitempty"`
	Budgets []Budget   `json:"budgets,omitempty" nullable:"false" maxItems:"20"`
	Expires *time.Time `json:"expires,omitempty"`
}

// KeyChange changes an API key. What is missing stays.
type KeyChange struct {
	Models  *[]string  `json:"models,omitempty" nullable:"false" maxItems:"100"`
	Limits  *Limits    `json:"limits,omitempty"`
	Budgets *[]Budget  `json:"budgets,omitempty" nullable:"false" maxItems:"20"`
	Expires *time.Time `json:"expires,omitempty"`
}

type (
	keysInput struct {
		Page
		Project string `query:"project" maxLength:"63" doc:"Only keys of this project."`
		State   string `query:"state" enum:"active,all" default:"all" doc:"Only keys in force, or all."`
	}
	keysAnswer  struct{ Body KeyList }
	keyAnswer   struct{ Body Key }
	keyInput    struct{ Body KeyStart }
	keyPatching struct {
		ID   string `path:"id" maxLength:"100"`
		Body KeyChange
	}
)

func (a *API) addKeys() {
	keys := func(id, method, path, summary, description string) huma.Operation {
		return huma.Operation{OperationID: id, Method: method, Path: "/api/v1/keys" + path, Tags: []string{"API keys"}, Summary: summary, Description: description}
	}
	operation(a, keys("list-keys", http.MethodGet, "", "List API keys", "Those that expired or were revoked included."), account.ReadKeys, a.listKeys)
	operation(a, keys("get-key", http.MethodGet, "/{id}", "Show an API key", ""), account.ReadKeys, a.getKey)
	create := keys("create-key", http.MethodPost, "", "Create an API key", "The answer has the key itself, which is told once.")
	create.DefaultStatus = http.StatusCreated
	operation(a, create, account.WriteKeys, a.createKey)
	operation(a, keys("update-key", http.MethodPatch, "/{id}", "Change an API key", "Its models, limits, budgets and expiry."), account.WriteKeys, a.updateKey)
	operation(a, keys("revoke-key", http.MethodDelete, "/{id}", "Revoke an API key", "At once and for good. It stays in lists."), account.WriteKeys, a.revokeKey)
}

func viewKey(k *account.APIKey, now time.Time) Key {
	v := Key{
		ID: k.ID, Name: k.Name, Project: k.Project, State: string(k.StateAt(now)), Hint: k.Hint, Models: append([]string{}, k.Models...), Pin: k.Pin.String(),
		Scopes: []string{}, Limits: Limits(k.Limits), Budgets: viewBudgets(k.Budgets), Created: moment(k.CreatedAt), Expires: moment(k.Expires), Revoked: moment(k.RevokedAt),
		ManagedBy: string(k.Origin),
	}
	for _, s := range account.Scopes {
		if k.May(s) {
			v.Scopes = append(v.Scopes, string(s))
		}
	}
	return v
}

// keyPlace orders keys in lists.
func keyPlace(k *account.APIKey) string {
	return strings.Join([]string{k.Project, k.Name, k.CreatedAt.UTC().Format(time.RFC3339Nano), k.ID}, "\x00")
}

// keysOf are the API keys of the caller's organization, of one project or, with "", of all.
func (a *API) keysOf(caller *Caller, project string) []account.APIKey {
	return slices.DeleteFunc(slices.Clone(a.Snapshots.Current().Spec().Keys), func(k account.APIKey) bool {
		return k.Organization != caller.Organization || project != "" && k.Project != project
	})
}

func (a *API) listKeys(_ context.Context, caller *Caller, in *keysInput) (*keysAnswer, error) {
	project, err := caller.ProjectsOf(in.Project)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	all := slices.DeleteFunc(a.keysOf(caller, project), func(k account.APIKey) bool {
		return in.State == "active" && k.StateAt(now) != account.Active
	})
	keys, next, err := pageOf(all, in.Page, keyPlace)
	out := &keysAnswer{Body: KeyList{Keys: make([]Key, len(keys)), NextCursor: next}}
	for i := range keys {
		out.Body.Keys[i] = viewKey(&keys[i], now)
	}
	return out, err
}

// key finds an API key of the caller's organization.
func (a *API) key(caller *Caller, id string) (*account.APIKey, error) {
	keys := a.keysOf(caller, caller.Project)
	at := slices.IndexFunc(keys, func(k account.APIKey) bool { return k.ID == id })
	if at < 0 {
		return nil, fault.New(fault.NotFound, "key_not_found", "There is no such API key.").About("id")
	}
	return &keys[at], nil
}

func (a *API) getKey(_ context.Context, caller *Caller, in *byID) (*keyAnswer, error) {
	k, err := a.key(caller, in.ID)
	if err != nil {
		return nil, err
	}
	return &keyAnswer{Body: viewKey(k, time.Now())}, nil
}

// mayHandle refuses what concerns a key that may do more than the caller.
func mayHandle(caller *Caller, scopes []account.Scope) error {
	for _, s := range scopes {
		if !caller.MayGrant(s) {
			return fault.New(fault.Forbidden, "missing_role", "An API key with the scope "+string(s)+" may do more than you. Ask an admin.").About("scopes")
		}
	}
	return nil
}

func (a *API) createKey(ctx context.Context, caller *Caller, in *keyInput) (*keyAnswer, error) {
	project, err := caller.ProjectOf(in.Body.Project)
	if err != nil {
		return nil, err
	}
	bounds, err := budgets(in.Body.Budgets)
	if err != nil {
		return nil, err
	}
	request := control.KeyRequest{
		Name: in.Body.Name, Organization: caller.Organization, Project: project, Models: in.Body.Models, Limits: account.Limits(in.Body.Limits), Budgets: bounds,
	}
	request.Pin.Provider, request.Pin.Model, _ = strings.Cut(in.Body.Pin, "/")
	for _, s := range in.Body.Scopes {
		request.Scopes = append(request.Scopes, account.Scope(s))
	}
	if in.Body.Expires != nil {
		request.Expires = in.Body.Expires.UTC().Truncate(time.Microsecond)
	}
	if err := mayHandle(caller, request.Scopes); err != nil {
		return nil, err
	}
	created, err := a.Keys.CreateKey(ctx, request)
	if err != nil {
		return nil, err
	}
	a.refresh(ctx)
	v := viewKey(&created.Key, time.Now())
	v.Secret = created.Secret.Reveal()
	return &keyAnswer{Body: v}, nil
}

func (a *API) updateKey(ctx context.Context, caller *Caller, in *keyPatching) (*keyAnswer, error) {
	k, err := a.key(caller, in.ID)
	if err != nil {
		return nil, err
	}
	if err := mayHandle(caller, k.Scopes); err != nil {
		return nil, err
	}
	var bounds []account.Budget
	if in.Body.Budgets != nil {
		if bounds, err = budgets(*in.Body.Budgets); err != nil {
			return nil, err
		}
	}
	after, err := a.Keys.UpdateKey(ctx, caller.Organization, k.ID, func(k *account.APIKey) {
		if in.Body.Models != nil {
			k.Models = *in.Body.Models
		}
		if in.Body.Limits != nil {
			k.Limits = account.Limits(*in.Body.Limits)
		}
		if in.Body.Budgets != nil {
			k.Budgets = bounds
		}
		if in.Body.Expires != nil {
			k.Expires = in.Body.Expires.UTC().Truncate(time.Microsecond)
		}
	})
	if err != nil {
		return nil, err
	}
	a.refresh(ctx)
	return &keyAnswer{Body: viewKey(&after, time.Now())}, nil
}

func (a *API) revokeKey(ctx context.Context, caller *Caller, in *byID) (*keyAnswer, error) {
	k, err := a.key(caller, in.ID)
	if err != nil {
		return nil, err
	}
	if err := mayHandle(caller, k.Scopes); err != nil {
		return nil, err
	}
	revoked, err := a.Keys.RevokeKey(ctx, k.ID)
	if err != nil {
		return nil, err
	}
	a.refresh(ctx)
	return &keyAnswer{Body: viewKey(&revoked, time.Now())}, nil
}
