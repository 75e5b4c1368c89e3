package snapshot

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"shareai/internal/account"
	"shareai/internal/alert"
)

// alerts checks that receivers can be told apart.
func (c *compiler) alerts() {
	for i := range c.spec.Alerts.Receivers {
		c.declare(account.FromFile, "alerts", "receivers", c.spec.Alerts.Receivers[i].Name)
	}
}

// Alerts are the settings of alerts; the defaults where nothing is declared.
func (s *Snapshot) Alerts() alert.Settings {
	if s.spec.Alerts.Every == 0 {
		return alert.Defaults()
	}
	return s.spec.Alerts
}

// ModelNames lists the canonical models, sorted.
func (s *Snapshot) ModelNames() []string { return slices.Sorted(maps.Keys(s.models)) }

// Bounds lists everything with budgets that somebody can spend, each once and in one order.
func (s *Snapshot) Bounds() []account.Bound {
	type identity struct {
		scope account.BoundScope
		id    string
	}
	all := map[identity]account.Bound{}
	for _, p := range s.principals {
		for _, b := range p.Bounds {
			if len(b.Budgets) > 0 && (b.Scope != account.ByKey || p.Key.StateAt(time.Now()) != account.Revoked) {
				b.Spending.Organization = p.Organization.Name // a key's records have it too
				all[identity{b.Scope, b.ID}] = b
			}
		}
	}
	for name, m := range s.models {
		if len(m.Budgets) > 0 {
			all[identity{account.ByModel, name}] = account.Bound{
				Scope: account.ByModel, ID: name, Name: name, Budgets: m.Budgets, Spending: account.Spending{Model: name},
			}
		}
	}
	return slices.SortedFunc(maps.Values(all), func(a, b account.Bound) int {
		return cmp.Or(cmp.Compare(a.Scope, b.Scope), cmp.Compare(a.ID, b.ID))
	})
}
