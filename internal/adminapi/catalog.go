package adminapi

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"shareai/internal/account"
	"shareai/internal/catalog"
	"shareai/internal/config"
	"shareai/internal/control"
	"shareai/internal/fault"
	"shareai/internal/snapshot"
)

// Catalog are the use cases of what all organizations share.
type Catalog interface {
	Put(ctx context.Context, kind control.Kind, put snapshot.Spec, how control.Putting) error
	Delete(ctx context.Context, kind control.Kind, name string) error
	EditProvider(ctx context.Context, name, what string, edit func(*catalog.Provider) error) (catalog.Provider, error)
	SetDefaultPolicy(ctx context.Context, name string) error
}

// Managed is who declares something.
type Managed struct {
	ManagedBy string `json:"managed_by,omitempty" enum:"file,database" readOnly:"true" doc:"What the file declares can only be changed there."`
}

// section is one kind of declaration: what it is called, how the file lists it, and how the API shows it.
type section[T, V any] struct {
	kind  control.Kind
	list  string // in the file, and in addresses
	read  account.Permission
	write account.Permission
	all   func(*snapshot.Spec) []T
	name  func(*T) string
	view  func(*T) V
	// tag groups it in the document.
	tag string
}

type (
	listBody[V any] struct {
		Items []V `json:"items" nullable:"false" doc:"By name."`
		NextCursor
	}
	listAnswer[V any] struct{ Body listBody[V] }
	itemAnswer[V any] struct{ Body V }
	itemInput[V any]  struct{ Body V }
	namedInput[V any] struct {
		Name string `path:"name" maxLength:"128" doc:"A / in it is sent as %2F."`
		Body V
	}
)

// addSection adds list, get, create, replace and delete of one kind. Its views have the shape of the file.
func addSection[T, V any](a *API, s section[T, V]) {
	op := func(id, method, path, summary string) huma.Operation {
		return huma.Operation{OperationID: id, Method: method, Path: "/api/v1/" + s.list + path, Tags: []string{s.tag}, Summary: summary}
	}
	operation(a, op("list-"+s.list, http.MethodGet, "", "List "+s.list), s.read, func(_ context.Context, _ *Caller, in *Page) (*listAnswer[V], error) {
		spec := a.Snapshots.Current().Spec()
		page, next, err := pageOf(s.all(&spec), *in, s.name)
		out := &listAnswer[V]{Body: listBody[V]{Items: make([]V, len(page)), NextCursor: next}}
		for i := range page {
			out.Body.Items[i] = s.view(&page[i])
		}
		return out, err
	})
	operation(a, op("get-"+string(s.kind), http.MethodGet, "/{name}", "Show a "+string(s.kind)), s.read, func(_ context.Context, _ *Caller, in *byName) (*itemAnswer[V], error) {
		return s.show(a, in.Name)
	})
	create := op("create-"+string(s.kind), http.MethodPost, "", "Declare a "+string(s.kind))
	create.DefaultStatus = http.StatusCreated
	operation(a, create, s.write, func(ctx context.Context, _ *Caller, in *itemInput[V]) (*itemAnswer[V], error) {
		return s.put(ctx, a, in.Body, "")
	})
	operation(a, op("replace-"+string(s.kind), http.MethodPut, "/{name}", "Replace a "+string(s.kind)), s.write, func(ctx context.Context, _ *Caller, in *namedInput[V]) (*itemAnswer[V], error) {
		return s.put(ctx, a, in.Body, in.Name)
	})
	operation(a, op("delete-"+string(s.kind), http.MethodDelete, "/{name}", "Remove a "+string(s.kind)), s.write, func(ctx context.Context, _ *Caller, in *byName) (*nothing, error) {
		err := a.Catalog.Delete(ctx, s.kind, in.Name)
		if err == nil {
			a.refresh(ctx)
		}
		return nil, err
	})
}

func (s *section[T, V]) show(a *API, name string) (*itemAnswer[V], error) {
	spec := a.Snapshots.Current().Spec()
	all := s.all(&spec)
	at := slices.IndexFunc(all, func(t T) bool { return s.name(&t) == name })
	if at < 0 {
		return nil, fault.New(fault.NotFound, string(s.kind)+"_not_found", "There is no such "+string(s.kind)+".").About("name")
	}
	return &itemAnswer[V]{Body: s.view(&all[at])}, nil
}

// put reads a view by the rules of the file, and declares it. replaces is the name in the address; empty: it is new.
func (s *section[T, V]) put(ctx context.Context, a *API, view V, replaces string) (*itemAnswer[V], error) {
	spec, err := s.readView(view)
	if err != nil {
		return nil, err
	}
	name := s.name(&s.all(&spec)[0])
	how := control.Create
	if replaces != "" {
		how = control.Replace
		if name != replaces {
			return nil, invalid("name", "The name in the address and the one in the body differ. A name stays; declare a new "+string(s.kind)+", and remove this one.")
		}
	}
	if err := a.Catalog.Put(ctx, s.kind, spec, how); err != nil {
		return nil, err
	}
	a.refresh(ctx)
	return s.show(a, name)
}

func (s *section[T, V]) readView(view V) (snapshot.Spec, error) {
	spec, err := readEntry(s.list, view)
	if err == nil && len(s.all(&spec)) != 1 {
		err = invalid("", "This is no "+string(s.kind)+".")
	}
	return spec, err
}

// readEntry reads a view by the rules of the file; nil is nothing.
func readEntry(list string, view any) (snapshot.Spec, error) {
	text, err := json.Marshal(view)
	if err != nil {
		return snapshot.Spec{}, err
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil || members == nil {
		return snapshot.Spec{}, err
	}
	delete(members, "managed_by") // as it was shown, like the names of a provider's keys
	if list == "providers" {
		delete(members, "keys")
	}
	if text, err = json.Marshal(members); err != nil {
		return snapshot.Spec{}, err
	}
	return config.ReadEntry(list, text)
}

func (a *API) addCatalog() {
	a.addProviders()
	addSection(a, section[catalog.Model, Model]{
		kind: control.Models, list: "models", read: account.ReadCatalog, write: account.WriteCatalog, tag: "Models",
		all: func(s *snapshot.Spec) []catalog.Model { return s.Models }, name: func(m *catalog.Model) string { return m.Name }, view: viewModel,
	})
	addSection(a, section[catalog.Route, Route]{
		kind: control.Routes, list: "routes", read: account.ReadCatalog, write: account.WriteCatalog, tag: "Routes and policies",
		all: func(s *snapshot.Spec) []catalog.Route { return s.Routes }, name: func(r *catalog.Route) string { return r.Name }, view: viewRoute,
	})
	addSection(a, section[catalog.Policy, Policy]{
		kind: control.Policies, list: "policies", read: account.ReadCatalog, write: account.WriteCatalog, tag: "Routes and policies",
		all: func(s *snapshot.Spec) []catalog.Policy { return s.Policies }, name: func(p *catalog.Policy) string { return p.Name }, view: viewPolicy,
	})
	operation(a, huma.Operation{
		OperationID: "get-default-policy", Method: http.MethodGet, Path: "/api/v1/default-policy", Tags: []string{"Routes and policies"}, Summary: "Show which policy holds for whatever names none",
	}, account.ReadCatalog, a.getDefaultPolicy)
	operation(a, huma.Operation{
		OperationID: "set-default-policy", Method: http.MethodPut, Path: "/api/v1/default-policy", Tags: []string{"Routes and policies"}, Summary: "Choose the policy that holds for whatever names none",
	}, account.WriteCatalog, a.setDefaultPolicy)
}

// DefaultPolicy names a policy.
type DefaultPolicy struct {
	Policy string `json:"policy" maxLength:"63" doc:"Empty: the built-in one."`
}

func (a *API) getDefaultPolicy(context.Context, *Caller, *nothing) (*itemAnswer[DefaultPolicy], error) {
	return &itemAnswer[DefaultPolicy]{Body: DefaultPolicy{Policy: a.Snapshots.Current().Spec().DefaultPolicy}}, nil
}

func (a *API) setDefaultPolicy(ctx context.Context, _ *Caller, in *itemInput[DefaultPolicy]) (*itemAnswer[DefaultPolicy], error) {
	if err := a.Catalog.SetDefaultPolicy(ctx, in.Body.Policy); err != nil {
		return nil, err
	}
	a.refresh(ctx)
	return &itemAnswer[DefaultPolicy]{Body: in.Body}, nil
}
