package adminapi

import (
	"context"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"shareai/internal/account"
	"shareai/internal/catalog"
	"shareai/internal/control"
	"shareai/internal/fault"
	"shareai/internal/snapshot"
)

// ProviderKeyStart is a key of a provider to be added, or replaced.
type ProviderKeyStart struct {
	Name   string `json:"name" maxLength:"63"`
	Secret string `json:"secret" minLength:"1" maxLength:"4000" writeOnly:"true" doc:"Sealed at rest, and never shown."`
	Weight int    `json:"weight,omitempty" minimum:"0" maximum:"1000000" doc:"Share of the traffic among the provider's keys; 0 counts as 1."`
}

type (
	providerKeyInput struct {
		Name string `path:"name" maxLength:"63"`
		Body ProviderKeyStart
	}
	providerKeyNamed struct {
		Name string `path:"name" maxLength:"63"`
		Key  string `path:"key" maxLength:"63"`
	}
)

func (a *API) addProviders() {
	addSection(a, section[catalog.Provider, Provider]{
		kind: control.Providers, list: "providers", read: account.ReadProviders, write: account.WriteProviders, tag: "Providers",
		all: func(s *snapshot.Spec) []catalog.Provider { return s.Providers }, name: func(p *catalog.Provider) string { return p.Name }, view: viewProvider,
	})
	op := func(id, method, path, summary, description string) huma.Operation {
		return huma.Operation{OperationID: id, Method: method, Path: "/api/v1/providers/{name}" + path, Tags: []string{"Providers"}, Summary: summary, Description: description}
	}
	operation(a, op("put-provider-key", http.MethodPost, "/keys", "Add a key to a provider", "Or replace the one of its name."), account.WriteProviders, a.putProviderKey)
	operation(a, op("delete-provider-key", http.MethodDelete, "/keys/{key}", "Remove a provider's key", ""), account.WriteProviders, a.deleteProviderKey)
	operation(a, op("drain-provider", http.MethodPost, "/drain", "Drain a provider", "It takes no new requests; those that run end."), account.WriteProviders, a.drainProvider)
	operation(a, op("resume-provider", http.MethodPost, "/resume", "Let a drained provider take requests again", ""), account.WriteProviders, a.resumeProvider)
}

// edited answers with a provider that was changed.
func (a *API) editProvider(ctx context.Context, name, what string, edit func(*catalog.Provider) error) (*itemAnswer[Provider], error) {
	p, err := a.Catalog.EditProvider(ctx, name, what, edit)
	if err != nil {
		return nil, err
	}
	a.refresh(ctx)
	return &itemAnswer[Provider]{Body: viewProvider(&p)}, nil
}

func (a *API) putProviderKey(ctx context.Context, _ *Caller, in *providerKeyInput) (*itemAnswer[Provider], error) {
	if err := account.CheckName(in.Body.Name); err != nil {
		return nil, invalid("name", "The key's name is not allowed: "+err.Error()+".")
	}
	for _, r := range in.Body.Secret {
		if r <= ' ' || r > '~' {
			return nil, invalid("secret", "A provider's key consists of printable ASCII characters without spaces. Look for a line break at its end.")
		}
	}
	key := catalog.ProviderKey{Name: in.Body.Name, Secret: account.NewSecret(in.Body.Secret), Weight: in.Body.Weight}
	return a.editProvider(ctx, in.Name, "key", func(p *catalog.Provider) error {
		if at := slices.IndexFunc(p.Keys, func(k catalog.ProviderKey) bool { return k.Name == key.Name }); at >= 0 {
			p.Keys[at] = key
		} else {
			p.Keys = append(p.Keys, key)
		}
		return nil
	})
}

func (a *API) deleteProviderKey(ctx context.Context, _ *Caller, in *providerKeyNamed) (*itemAnswer[Provider], error) {
	return a.editProvider(ctx, in.Name, "key", func(p *catalog.Provider) error {
		at := slices.IndexFunc(p.Keys, func(k catalog.ProviderKey) bool { return k.Name == in.Key })
		if at < 0 {
			return fault.New(fault.NotFound, "provider_key_not_found", "The provider has no key of this name.").About("key")
		}
		p.Keys = slices.Delete(p.Keys, at, at+1)
		return nil
	})
}

func (a *API) drainProvider(ctx context.Context, _ *Caller, in *byName) (*itemAnswer[Provider], error) {
	return a.editProvider(ctx, in.Name, "drain", func(p *catalog.Provider) error { p.Drained = true; return nil })
}

func (a *API) resumeProvider(ctx context.Context, _ *Caller, in *byName) (*itemAnswer[Provider], error) {
	return a.editProvider(ctx, in.Name, "resume", func(p *catalog.Provider) error { p.Drained = false; return nil })
}
