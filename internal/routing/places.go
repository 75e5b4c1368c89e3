package routing

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"shareai/internal/account"
	"shareai/internal/fault"
	"shareai/internal/openai"
	"shareai/internal/snapshot"
)

// pin is the pin in force: that of the key, narrowed by that of the request. checkPlaces has seen to it that
// they agree.
func (a *Ask) pin() account.Pin {
	if wished := a.Wish.Pin; wished.Model != "" || !a.Principal.Key.Pin.Set() {
		return wished
	}
	return a.Principal.Key.Pin
}

// checkPlaces refuses a request that speaks of a provider which does not exist, or is pinned to another than
// its key: a misspelt name must not quietly mean nobody, or everybody.
func checkPlaces(view *snapshot.Snapshot, ask *Ask, route *snapshot.Route) error {
	w := &ask.Wish
	organization := ask.Principal.Project.Organization
	if w.Pin.Set() {
		if err := checkPin(ask); err != nil {
			return err
		}
		if !view.Serves(organization, placeOf(w.Pin.Provider)) {
			return nowhere(organization, route, w.Pin.Provider, PinHeader)
		}
	}
	for _, l := range [...]struct {
		names []string
		where member
	}{{w.Only, onlyMember}, {w.Ignore, ignoreMember}, {w.Order, orderMember}} {
		for _, name := range l.names {
			if !view.Serves(organization, placeOf(name)) {
				return nowhere(organization, route, name, l.where.of(ask.Request))
			}
		}
	}
	return nil
}

func checkPin(ask *Ask) error {
	key, wished := ask.Principal.Key.Pin, ask.Wish.Pin
	if !key.Set() || wished.Provider == key.Provider && (key.Model == "" || wished.Model == "" || wished.Model == key.Model) {
		return nil
	}
	return fault.New(fault.Invalid, "invalid_value", fmt.Sprintf(
		"The request is pinned to %s, and its API key to %s. Leave the header %s out, or use another key.", clip(wished.String()), key, PinHeader)).About(PinHeader)
}

// placeOf is the provider or the node in a name, which may be that of a deployment. Models come and go at a provider,
// so that a deployment which is not there is none of the candidates, and no mistake.
func placeOf(name string) string {
	provider, _, _ := strings.Cut(name, "/")
	return provider
}

// nowhere names what there is instead, as far as the request may know it.
func nowhere(organization string, route *snapshot.Route, name, param string) error {
	var served []string
	for _, m := range route.Models {
		for i := range m.Targets {
			p := m.Targets[i].Provider
			if p.OpenTo(organization) && len(served) < mostReasons && !slices.Contains(served, p.Name) {
				served = append(served, p.Name)
			}
		}
	}
	return fault.New(fault.Invalid, "invalid_value", fmt.Sprintf(
		"There is no provider %q. %q is served by %s: name one of these, or leave %s out.",
		clip(placeOf(name)), route.Name, strings.Join(served, ", "), param)).About(param)
}

// member is a part of a wish that the body can say, or a header.
type member struct {
	name, header string
	said         func(*preferences) bool
}

var (
	onlyMember   = member{"provider.only", OnlyHeader, func(p *preferences) bool { return p.Only != nil }}
	ignoreMember = member{"provider.ignore", IgnoreHeader, func(p *preferences) bool { return p.Ignore != nil }}
	orderMember  = member{"provider.order", OrderHeader, func(p *preferences) bool { return p.Order != nil }}
	priceMember  = member{"provider.max_price", MaxPriceHeader, func(p *preferences) bool { return p.MaxPrice != nil }}
	dataMember   = member{"provider.data_collection", DataCollectionHeader, func(p *preferences) bool { return p.DataCollection != nil }}
)

// of is the name of the parameter by which a request said it. Only refusals ask, so that reading the body
// once more costs nothing that matters.
func (m member) of(r *openai.Request) string {
	if raw, ok := r.Field("provider"); ok {
		var p preferences
		if json.Unmarshal(raw, &p) == nil && m.said(&p) {
			return m.name
		}
	}
	return m.header
}
