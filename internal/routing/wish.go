package routing

import (
	"slices"

	"shareai/internal/account"
	"shareai/internal/catalog"
	"shareai/internal/snapshot"
)

// Wish is the client's own say about providers. Its form in the body is OpenRouter's: `models`,
// `fallbacks` and the `provider` object; for clients that can not add fields there are headers. A wish
// narrows what the policy allows and never widens it.
//
// Order, Only and Ignore name providers ("alpha") or single deployments ("alpha/llama-70b").
type Wish struct {
	Pin    account.Pin
	Order  []string // tried first, in this order
	Only   []string // none: all
	Ignore []string
	// AllowFallbacks false leaves the primary alone, or the providers of Order.
	AllowFallbacks bool
	// Fallbacks are further models or routes, in order.
	Fallbacks []Fallback
	// MaxPrice is the most that a deployment may charge; nil: no matter.
	MaxPrice *PriceCeiling
	// Sort replaces the policy's strategy; empty: it does not.
	Sort catalog.Strategy
	// NoDataCollection leaves only providers that keep nothing.
	NoDataCollection bool
}

// Fallback is a model or route that the request names, and the parameter in which it does.
type Fallback struct{ Model, Param string }

// PriceCeiling bounds prices, in nano-dollars per million tokens.
type PriceCeiling struct{ Prompt, Completion int64 }

func (w *Wish) accepts(t *snapshot.Target) bool {
	names := func(name string) bool { return named(t, name) }
	switch {
	case slices.ContainsFunc(w.Ignore, names):
		return false
	case len(w.Only) > 0 && !slices.ContainsFunc(w.Only, names):
		return false
	default:
		return w.AllowFallbacks || len(w.Order) == 0 || slices.ContainsFunc(w.Order, names)
	}
}

// anyNode stands for every node of the organization in a list of providers, anyShared for every node that others share.
const (
	anyNode   = catalog.NodePrefix + "*"
	anyShared = catalog.CommunityPrefix + "*"
)

// named says whether a name in a list of providers means the deployment.
func named(t *snapshot.Target, name string) bool {
	switch name {
	case t.Provider.Name, t.ID:
		return true
	case anyNode:
		return t.Provider.Node != "" && t.Provider.Community == ""
	case anyShared:
		return t.Provider.Community != ""
	default:
		return false
	}
}

func (w *Wish) acceptsRetention(t *snapshot.Target) bool {
	return !w.NoDataCollection || t.Provider.Retention == retainsNothing
}

const retainsNothing = "none"

func (w *Wish) tooDear(t *snapshot.Target) bool {
	most, price := w.MaxPrice, &t.Deployment.Price
	return most != nil && (price.Input > most.Prompt || price.Output > most.Completion)
}
