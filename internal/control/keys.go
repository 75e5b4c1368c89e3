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

// The organization and project of a key that names none. They come into being with the first such key.
const (
	DefaultOrganization = "default"
	DefaultProject      = "default"
)

// KeyRequest describes an API key to be created.
type KeyRequest struct {
	Name         string
	Organization string   // empty: DefaultOrganization
	Project      string   // empty: DefaultProject
	Models       []string // patterns; none: every model
	Pin          account.Pin
	Scopes       []account.Scope // none: inference only
	Limits       account.Limits
	Budgets      []account.Budget
	Expires      time.Time // zero: never
	Create       bool      // create the organization and the project when they are missing
}

// CreatedKey is a new API key. Secret is shown once and can not be had again.
type CreatedKey struct {
	Key    account.APIKey
	Secret account.Secret
}

// CreateKey makes an API key.
func (c *Control) CreateKey(ctx context.Context, r KeyRequest) (CreatedKey, error) {
	makeOrganization, makeProject := r.Create || r.Organization == "", r.Create || r.Project == ""
	r.Organization, r.Project = cmp.Or(r.Organization, DefaultOrganization), cmp.Or(r.Project, DefaultProject)
	now := c.o.Now()
	if err := r.check(now); err != nil {
		return CreatedKey{}, err
	}
	secret := account.GenerateKey()
	key := account.APIKey{
		ID: account.GenerateKeyID(), Name: r.Name, Organization: r.Organization, Project: r.Project,
		Hash: secret.Hash(), Hint: account.Hint(secret), Models: r.Models, Pin: r.Pin, Scopes: r.Scopes,
		Limits: r.Limits, Budgets: r.Budgets, CreatedAt: now.UTC().Truncate(time.Microsecond), Expires: r.Expires, Origin: account.FromDatabase,
	}
	err := c.change(ctx, act{"key.create", &key.ID}, func(declared snapshot.Spec) (*snapshot.Change, error) {
		var put snapshot.Spec
		if !hasOrganization(declared, r.Organization) {
			if !makeOrganization {
				return nil, missing("organization", r.Organization)
			}
			put.Organizations = []account.Organization{{Name: r.Organization, Origin: account.FromDatabase}}
		}
		if !hasProject(declared, r.Organization, r.Project) {
			if !makeProject {
				return nil, missing("project", r.Organization+"/"+r.Project)
			}
			put.Projects = []account.Project{{Organization: r.Organization, Name: r.Project, Origin: account.FromDatabase}}
		}
		if err := checkPin(r.Pin, declared.Providers); err != nil {
			return nil, err
		}
		for i := range declared.Keys {
			if k := &declared.Keys[i]; address(k) == address(&key) && k.RevokedAt.IsZero() {
				return nil, fault.New(fault.Conflict, "key_exists",
					"The key "+address(&key)+" exists already. Choose another name, or revoke it first.").About("key")
			}
		}
		put.Keys = []account.APIKey{key}
		return &snapshot.Change{Put: put}, nil
	})
	if err != nil {
		return CreatedKey{}, err
	}
	return CreatedKey{Key: key, Secret: secret}, nil
}

// check says what is wrong with a request by itself.
func (r *KeyRequest) check(now time.Time) error {
	for _, named := range []struct{ what, name string }{{"key", r.Name}, {"organization", r.Organization}, {"project", r.Project}} {
		if err := checkName(named.what, named.name); err != nil {
			return err
		}
	}
	for _, pattern := range r.Models {
		if err := account.CheckPattern(pattern); err != nil {
			return fault.New(fault.Invalid, "invalid_model_pattern", "The models are not allowed: "+err.Error()+".").About("models")
		}
	}
	for _, scope := range r.Scopes {
		if err := account.CheckScope(scope); err != nil {
			return fault.New(fault.Invalid, "invalid_scope", "The scopes are not allowed: "+err.Error()+".").About("scopes")
		}
	}
	if !r.Expires.IsZero() && !r.Expires.After(now) {
		return fault.New(fault.Invalid, "invalid_expiry", "The key would expire before it exists. Choose a time in the future.").About("expires")
	}
	if r.Pin.Model != "" && r.Pin.Provider == "" {
		return fault.New(fault.Invalid, "invalid_pin", "A key is pinned to a provider, or to a provider and its model; name the provider.").About("pin")
	}
	return nil
}

// checkPin refuses a pin to a provider that is not declared. Compiling would not: it leaves such a key out.
func checkPin(pin account.Pin, providers []catalog.Provider) error {
	names := make([]string, len(providers))
	for i := range providers {
		names[i] = providers[i].Name
	}
	if !pin.Set() || slices.Contains(names, pin.Provider) {
		return nil
	}
	known := "no providers are declared"
	if len(names) > 0 {
		slices.Sort(names)
		known = "the providers are " + strings.Join(names, ", ")
	}
	return fault.New(fault.Invalid, "invalid_change",
		"This can not be done: there is no provider "+pin.Provider+" ("+known+").").About("pin")
}

// address is organization/project/name.
func address(k *account.APIKey) string { return k.Organization + "/" + k.Project + "/" + k.Name }

// KeyFilter selects API keys. An empty field matches everything.
type KeyFilter struct{ Organization, Project string }

// ListKeys returns the API keys of the store and of the configuration file, expired and revoked ones
// included, by organization, project, name and time of creation.
func (c *Control) ListKeys(ctx context.Context, f KeyFilter) ([]account.APIKey, error) {
	rows, _, err := c.o.Rows.Load(ctx)
	if err != nil {
		return nil, fault.From(err)
	}
	keys := slices.DeleteFunc(snapshot.Join(c.o.File(), rows).Keys, func(k account.APIKey) bool {
		return f.Organization != "" && f.Organization != k.Organization || f.Project != "" && f.Project != k.Project
	})
	slices.SortStableFunc(keys, func(a, b account.APIKey) int {
		return cmp.Or(strings.Compare(a.Organization, b.Organization), strings.Compare(a.Project, b.Project),
			strings.Compare(a.Name, b.Name), a.CreatedAt.Compare(b.CreatedAt))
	})
	return keys, nil
}

// RevokeKey ends an API key at once and returns it. ref is its ID, organization/project/name, or the key
// itself, for one that has leaked. A key that is revoked already stays as it is.
func (c *Control) RevokeKey(ctx context.Context, ref string) (account.APIKey, error) {
	var revoked account.APIKey
	err := c.change(ctx, act{"key.revoke", &revoked.ID}, func(declared snapshot.Spec) (*snapshot.Change, error) {
		found := findKey(declared.Keys, ref)
		if found == nil { // ref is not repeated: it may be a secret
			return nil, fault.New(fault.NotFound, "key_not_found",
				"There is no such key. Give its id (key_…) or organization/project/name; keys list shows both.").About("key")
		}
		if others := namesakes(declared.Keys, found); ref == address(found) && len(others) > 1 {
			return nil, fault.New(fault.Conflict, "key_ambiguous",
				"Several keys have this name. Give the id of one: "+strings.Join(others, ", ")+".").About("key")
		}
		revoked = *found
		if !revoked.RevokedAt.IsZero() {
			return nil, nil
		}
		if revoked.Origin == account.FromFile {
			return nil, fault.New(fault.Conflict, "managed_by_file",
				"The key "+address(&revoked)+" is declared in the configuration file. Remove it there; the gateway takes the file over by itself.").About("key")
		}
		revoked.RevokedAt = c.o.Now().UTC().Truncate(time.Microsecond)
		return &snapshot.Change{Put: snapshot.Spec{Keys: []account.APIKey{revoked}}}, nil
	})
	if err != nil {
		return account.APIKey{}, err
	}
	return revoked, nil
}

// namesakes returns the ids of all keys in force with the name of one.
func namesakes(keys []account.APIKey, of *account.APIKey) []string {
	var ids []string
	for i := range keys {
		if k := &keys[i]; address(k) == address(of) && k.RevokedAt.IsZero() {
			ids = append(ids, k.ID)
		}
	}
	return ids
}

// findKey returns the key that ref means, or nil. Of several with one name, all but one of them revoked,
// it is the one that is not.
func findKey(keys []account.APIKey, ref string) *account.APIKey {
	if ref == "" {
		return nil
	}
	var found *account.APIKey
	hash := account.HashKey(ref)
	for i := range keys {
		k := &keys[i]
		switch {
		case k.ID == ref || k.Hash == hash:
			return k
		case address(k) == ref && (found == nil || !found.RevokedAt.IsZero()):
			found = k
		}
	}
	return found
}
