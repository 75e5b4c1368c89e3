package control

import (
	"context"
	"slices"

	"shareai/internal/account"
	"shareai/internal/catalog"
	"shareai/internal/fault"
	"shareai/internal/snapshot"
)

// Kind is a kind of declaration of the catalogue.
type Kind string

// The kinds.
const (
	Providers Kind = "provider"
	Models    Kind = "model"
	Routes    Kind = "route"
	Policies  Kind = "policy"
)

// Putting says what Put is to find.
type Putting string

// The ways to put.
const (
	Create  Putting = "create" // there must be none of the name
	Replace Putting = "update" // there must be one
)

// Put declares one provider, model, route or policy. A provider that is replaced keeps its keys.
func (c *Control) Put(ctx context.Context, kind Kind, put snapshot.Spec, how Putting) error {
	name, err := nameIn(kind, &put)
	if err != nil {
		return err
	}
	return c.change(ctx, act{string(kind) + "." + string(how), &name}, func(declared snapshot.Spec) (*snapshot.Change, error) {
		origin, there := originOf(kind, name, &declared)
		switch {
		case how == Create && there:
			return nil, exists(string(kind), name)
		case how == Replace && !there:
			return nil, missing(string(kind), name)
		case origin == account.FromFile:
			return nil, ManagedByFile(string(kind), name)
		}
		change := snapshot.Change{Put: fromDatabase(put)}
		if kind == Providers && there {
			at := slices.IndexFunc(declared.Providers, func(p catalog.Provider) bool { return p.Name == name })
			change.Put.Providers[0].Keys = declared.Providers[at].Keys
		}
		return &change, nil
	})
}

// Delete removes a declaration that nothing refers to.
func (c *Control) Delete(ctx context.Context, kind Kind, name string) error {
	return c.change(ctx, act{string(kind) + ".delete", &name}, func(declared snapshot.Spec) (*snapshot.Change, error) {
		switch origin, there := originOf(kind, name, &declared); {
		case !there:
			return nil, missing(string(kind), name)
		case origin == account.FromFile:
			return nil, ManagedByFile(string(kind), name)
		}
		var change snapshot.Change
		switch names := []string{name}; kind {
		case Providers:
			change.Delete.Providers = names
		case Models:
			change.Delete.Models = names
		case Routes:
			change.Delete.Routes = names
		case Policies:
			change.Delete.Policies = names
		}
		return &change, nil
	})
}

// EditProvider changes a provider: its keys, or whether it takes requests. what names the act. edit may refuse.
func (c *Control) EditProvider(ctx context.Context, name, what string, edit func(*catalog.Provider) error) (catalog.Provider, error) {
	var after catalog.Provider
	err := c.change(ctx, act{"provider." + what, &name}, func(declared snapshot.Spec) (*snapshot.Change, error) {
		at := slices.IndexFunc(declared.Providers, func(p catalog.Provider) bool { return p.Name == name })
		if at < 0 {
			return nil, missing("provider", name)
		}
		if after = declared.Providers[at]; after.Origin == account.FromFile {
			return nil, ManagedByFile("provider", name)
		}
		after.Keys = slices.Clone(after.Keys)
		if err := edit(&after); err != nil {
			return nil, err
		}
		return &snapshot.Change{Put: snapshot.Spec{Providers: []catalog.Provider{after}}}, nil
	})
	return after, err
}

// SetDefaultPolicy makes a policy hold for whatever names none.
func (c *Control) SetDefaultPolicy(ctx context.Context, name string) error {
	return c.change(ctx, act{"policy.default", &name}, func(declared snapshot.Spec) (*snapshot.Change, error) {
		if c.o.File().DefaultPolicy != "" {
			return nil, fault.New(fault.Conflict, "managed_by_file", "default_policy is declared in the configuration file. Change it there.")
		}
		if _, there := originOf(Policies, name, &declared); !there {
			return nil, missing("policy", name)
		}
		return &snapshot.Change{Put: snapshot.Spec{DefaultPolicy: name}}, nil
	})
}

// nameIn is the name of the one declaration that a spec has.
func nameIn(kind Kind, s *snapshot.Spec) (string, error) {
	switch {
	case kind == Providers && len(s.Providers) == 1:
		return s.Providers[0].Name, nil
	case kind == Models && len(s.Models) == 1:
		return s.Models[0].Name, nil
	case kind == Routes && len(s.Routes) == 1:
		return s.Routes[0].Name, nil
	case kind == Policies && len(s.Policies) == 1:
		return s.Policies[0].Name, nil
	default:
		return "", fault.New(fault.Invalid, "invalid_value", "One "+string(kind)+" is declared at a time.")
	}
}

func originOf(kind Kind, name string, s *snapshot.Spec) (origin account.Origin, there bool) {
	found := func(n string, o account.Origin) {
		if n == name && !there {
			origin, there = o, true
		}
	}
	switch kind {
	case Providers:
		for i := range s.Providers {
			found(s.Providers[i].Name, s.Providers[i].Origin)
		}
	case Models:
		for i := range s.Models {
			found(s.Models[i].Name, s.Models[i].Origin)
		}
	case Routes:
		for i := range s.Routes {
			found(s.Routes[i].Name, s.Routes[i].Origin)
		}
	case Policies:
		for i := range s.Policies {
			found(s.Policies[i].Name, s.Policies[i].Origin)
		}
	}
	return origin, there
}

// fromDatabase is what was read by the rules of the file, for the store.
func fromDatabase(s snapshot.Spec) snapshot.Spec {
	put := snapshot.Spec{
		Providers: slices.Clone(s.Providers), Models: slices.Clone(s.Models), Routes: slices.Clone(s.Routes), Policies: slices.Clone(s.Policies),
	}
	for i := range put.Providers {
		put.Providers[i].Origin = account.FromDatabase
	}
	for i := range put.Models {
		put.Models[i].Origin = account.FromDatabase
	}
	for i := range put.Routes {
		put.Routes[i].Origin = account.FromDatabase
	}
	for i := range put.Policies {
		put.Policies[i].Origin = account.FromDatabase
	}
	return put
}
