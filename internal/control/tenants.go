package control

import (
	"context"
	"slices"

	"shareai/internal/account"
	"shareai/internal/fault"
	"shareai/internal/snapshot"
)

// ManagedByFile refuses to change what the configuration file declares.
func ManagedByFile(what, name string) *fault.Error {
	return fault.New(fault.Conflict, "managed_by_file",
		"The "+what+" "+name+" is declared in the configuration file. Change it there; the gateway takes the file over by itself.").About(what)
}

// UpdateOrganization changes what is declared of an organization. edit does not change its name.
func (c *Control) UpdateOrganization(ctx context.Context, name string, edit func(*account.Organization)) (account.Organization, error) {
	var after account.Organization
	err := c.change(ctx, act{"organization.update", &name}, func(declared snapshot.Spec) (*snapshot.Change, error) {
		at := slices.IndexFunc(declared.Organizations, func(o account.Organization) bool { return o.Name == name })
		if at < 0 {
			return nil, missing("organization", name)
		}
		if after = declared.Organizations[at]; after.Origin == account.FromFile {
			return nil, ManagedByFile("organization", name)
		}
		edit(&after)
		return &snapshot.Change{Put: snapshot.Spec{Organizations: []account.Organization{after}}}, nil
	})
	return after, err
}

// UpdateProject changes what is declared of a project. edit changes neither its name nor whose it is.
func (c *Control) UpdateProject(ctx context.Context, organization, name string, edit func(*account.Project)) (account.Project, error) {
	var after account.Project
	address := organization + "/" + name
	err := c.change(ctx, act{"project.update", &address}, func(declared snapshot.Spec) (*snapshot.Change, error) {
		at := slices.IndexFunc(declared.Projects, func(p account.Project) bool { return p.Organization == organization && p.Name == name })
		if at < 0 {
			return nil, missing("project", address)
		}
		if after = declared.Projects[at]; after.Origin == account.FromFile {
			return nil, ManagedByFile("project", address)
		}
		edit(&after)
		return &snapshot.Change{Put: snapshot.Spec{Projects: []account.Project{after}}}, nil
	})
	return after, err
}

// UpdateKey changes the limits, budgets, models or expiry of an API key of an organization. edit changes nothing else.
func (c *Control) UpdateKey(ctx context.Context, organization, id string, edit func(*account.APIKey)) (account.APIKey, error) {
	var after account.APIKey
	err := c.change(ctx, act{"key.update", &id}, func(declared snapshot.Spec) (*snapshot.Change, error) {
		at := slices.IndexFunc(declared.Keys, func(k account.APIKey) bool { return k.ID == id && k.Organization == organization })
		if at < 0 {
			return nil, missing("key", id)
		}
		after = declared.Keys[at]
		switch {
		case after.Origin == account.FromFile:
			return nil, ManagedByFile("key", address(&after))
		case !after.RevokedAt.IsZero():
			return nil, fault.New(fault.Conflict, "key_revoked", "The key "+address(&after)+" is revoked for good. Create another one.").About("key")
		}
		edit(&after)
		for _, pattern := range after.Models {
			if err := account.CheckPattern(pattern); err != nil {
				return nil, fault.New(fault.Invalid, "invalid_model_pattern", "The models are not allowed: "+err.Error()+".").About("models")
			}
		}
		return &snapshot.Change{Put: snapshot.Spec{Keys: []account.APIKey{after}}}, nil
	})
	return after, err
}
