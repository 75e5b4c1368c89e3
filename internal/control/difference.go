package control

import (
	"bytes"
	"encoding/json"
	"net/url"
	"slices"
	"time"

	"shareai/internal/account"
	"shareai/internal/alert"
	"shareai/internal/catalog"
	"shareai/internal/snapshot"
)

// Differences describes for the audit log what differs between declarations: as it was, and as it is. Each is
// a JSON document by kind and identity, nil when it would be empty. Secrets, their hashes and their hints are in
// neither; that one changed is said.
func Differences(before, after snapshot.Spec) (was, is json.RawMessage, err error) {
	old, err := describe(before)
	if err != nil {
		return nil, nil, err
	}
	current, err := describe(after)
	if err != nil {
		return nil, nil, err
	}
	markSecrets(current, before, after)
	for kind, documents := range current {
		for id, document := range documents {
			if bytes.Equal(old[kind][id], document) {
				delete(old[kind], id)
				delete(documents, id)
			}
		}
	}
	if was, err = old.encode(); err != nil {
		return nil, nil, err
	}
	is, err = current.encode()
	return was, is, err
}

// description is the JSON documents of declarations, by kind and identity.
type description map[string]map[string]json.RawMessage

// encode leaves out kinds without documents.
func (d description) encode() (json.RawMessage, error) {
	for kind, documents := range d {
		if len(documents) == 0 {
			delete(d, kind)
		}
	}
	if len(d) == 0 {
		return nil, nil
	}
	return json.Marshal(d)
}

func describe(s snapshot.Spec) (description, error) {
	d := description{}
	steps := []func() error{
		func() error { return each(d, "organizations", s.Organizations, describeOrganization) },
		func() error { return each(d, "projects", s.Projects, describeProject) },
		func() error { return each(d, "keys", s.Keys, describeKey) },
		func() error { return each(d, "providers", s.Providers, describeProvider) },
		func() error {
			return each(d, "models", s.Models, func(m *catalog.Model) (string, any) { return m.Name, m })
		},
		func() error {
			return each(d, "routes", s.Routes, func(r *catalog.Route) (string, any) { return r.Name, r })
		},
		func() error {
			return each(d, "policies", s.Policies, func(p *catalog.Policy) (string, any) { return p.Name, p })
		},
		func() error {
			return each(d, "drills", s.Drills, func(r *catalog.Drill) (string, any) { return r.ID, r })
		},
		func() error { return each(d, "nodes", s.Nodes, describeNode) },
		func() error {
			return each(d, "receivers", s.Alerts.Receivers, func(r *alert.Receiver) (string, any) { return r.Name, r })
		},
		func() error { return describeAlerts(d, s.Alerts) },
		func() error { return describeCommunity(d, s.Community) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, err
		}
	}
	if s.DefaultPolicy != "" {
		name, err := json.Marshal(s.DefaultPolicy)
		if err != nil {
			return nil, err
		}
		d["settings"] = map[string]json.RawMessage{"default_policy": name}
	}
	return d, nil
}

// describeAlerts adds the rules of alerts, where a file declares them.
func describeAlerts(d description, s alert.Settings) error {
	if s.Every == 0 {
		return nil
	}
	return each(d, "alerts", []alert.Settings{s}, func(s *alert.Settings) (string, any) {
		return "rules", struct {
			Every time.Duration `json:"every"`
			alert.Rules
		}{s.Every, s.Rules}
	})
}

// describeCommunity adds the terms of the community, where a file declares one.
func describeCommunity(d description, t catalog.CommunityTerms) error {
	if t == (catalog.CommunityTerms{}) {
		return nil
	}
	return each(d, "community", []catalog.CommunityTerms{t}, func(t *catalog.CommunityTerms) (string, any) { return "terms", t })
}

// each adds the documents of one kind.
func each[T any](d description, kind string, declared []T, view func(*T) (id string, document any)) error {
	documents := make(map[string]json.RawMessage, len(declared))
	for i := range declared {
		id, document := view(&declared[i])
		text, err := json.Marshal(document)
		if err != nil {
			return err
		}
		documents[id] = text
	}
	d[kind] = documents
	return nil
}

// ownerView is an organization or a project in the audit log.
type ownerView struct {
	Labels      map[string]string     `json:"labels,omitempty"`
	Limits      account.Limits        `json:"limits,omitzero"`
	Budgets     []account.Budget      `json:"budgets,omitempty"`
	LabelLimits []account.LabelLimits `json:"label_limits,omitempty"`
	Shares      []account.Share       `json:"shares,omitempty"`
	Operator    bool                  `json:"operator,omitempty"`
	Community   bool                  `json:"community,omitempty"`
}

func describeOrganization(o *account.Organization) (string, any) {
	return o.Name, ownerView{Limits: o.Limits, Budgets: o.Budgets, LabelLimits: o.LabelLimits, Shares: o.Shares, Operator: o.Operator, Community: o.Community}
}

func describeProject(p *account.Project) (string, any) {
	return p.Organization + "/" + p.Name, ownerView{Labels: p.Labels, Limits: p.Limits, Budgets: p.Budgets}
}

// keyView is an API key in the audit log.
type keyView struct {
	Name         string           `json:"name"`
	Organization string           `json:"organization"`
	Project      string           `json:"project"`
	Models       []string         `json:"models,omitempty"`
	Pin          account.Pin      `json:"pin,omitzero"`
	Scopes       []account.Scope  `json:"scopes,omitempty"`
	Limits       account.Limits   `json:"limits,omitzero"`
	Budgets      []account.Budget `json:"budgets,omitempty"`
	Created      time.Time        `json:"created,omitzero"`
	Expires      time.Time        `json:"expires,omitzero"`
	Revoked      time.Time        `json:"revoked,omitzero"`
}

func describeKey(k *account.APIKey) (string, any) {
	return k.ID, keyView{
		Name: k.Name, Organization: k.Organization, Project: k.Project, Models: k.Models, Pin: k.Pin, Scopes: k.Scopes,
		Limits: k.Limits, Budgets: k.Budgets, Created: k.CreatedAt, Expires: k.Expires, Revoked: k.RevokedAt,
	}
}

// providerView is a provider in the audit log.
type providerView struct {
	Dialect        catalog.Dialect     `json:"dialect"`
	BaseURL        string              `json:"base_url,omitempty"`
	APIVersion     string              `json:"api_version,omitempty"`
	Keys           []providerKeyView   `json:"keys,omitempty"`
	Region         string              `json:"region,omitempty"`
	Retention      string              `json:"retention,omitempty"`
	PrivateNetwork bool                `json:"private_network,omitempty"`
	OutputLimit    catalog.OutputLimit `json:"output_limit,omitempty"`
	Prefill        catalog.PrefillForm `json:"prefill,omitempty"`
	Drained        bool                `json:"drained,omitempty"`
	Probe          catalog.Probe       `json:"probe,omitzero"`
	Simulation     catalog.Simulation  `json:"simulation,omitzero"`
}

type providerKeyView struct {
	Name   string `json:"name"`
	Weight int    `json:"weight,omitempty"`
}

func describeProvider(p *catalog.Provider) (string, any) {
	v := providerView{
		Dialect: p.Dialect, BaseURL: plainURL(p.BaseURL), APIVersion: p.APIVersion, Region: p.Region, Retention: p.Retention,
		PrivateNetwork: p.PrivateNetwork, OutputLimit: p.OutputLimit, Prefill: p.Prefill, Drained: p.Drained,
		Probe: p.Probe, Simulation: p.Simulation,
	}
	for _, k := range p.Keys {
		v.Keys = append(v.Keys, providerKeyView{Name: k.Name, Weight: k.Weight})
	}
	return p.Name, v
}

// nodeView is a node in the audit log.
type nodeView struct {
	Name         string              `json:"name"`
	Organization string              `json:"organization"`
	Labels       map[string]string   `json:"labels,omitempty"`
	Region       string              `json:"region,omitempty"`
	Retention    string              `json:"retention,omitempty"`
	Keys         map[string]string   `json:"keys"` // fingerprints by id
	AgentVersion string              `json:"agent_version,omitempty"`
	Models       []string            `json:"models,omitempty"`
	MoreModels   int                 `json:"more_models,omitempty"` // that are not named
	Prices       []catalog.NodePrice `json:"prices,omitempty"`
	Drained      bool                `json:"drained,omitempty"`
	Machine      catalog.NodeMachine `json:"machine,omitzero"`
	Token        string              `json:"token,omitempty"` // its id
	EnrolledBy   string              `json:"enrolled_by,omitempty"`
	Enrolled     time.Time           `json:"enrolled,omitzero"`
	Revoked      time.Time           `json:"revoked,omitzero"`
	Shared       *catalog.NodeShare  `json:"shared,omitempty"`
}

// auditedModels is how many models of a node the audit log names.
const auditedModels = 50

func describeNode(n *catalog.Node) (string, any) {
	v := nodeView{
		Name: n.Name, Organization: n.Organization, Labels: n.Labels, Region: n.Region, Retention: n.Retention,
		Keys: map[string]string{}, AgentVersion: n.Advertised.AgentVersion, Prices: n.Prices, Drained: n.Drained,
		Machine: n.Machine, Token: n.Token, EnrolledBy: n.EnrolledBy, Enrolled: n.EnrolledAt, Revoked: n.RevokedAt, Shared: n.Shared,
	}
	for _, k := range n.Keys {
		v.Keys[k.ID] = k.Fingerprint()
	}
	models := n.Advertised.Models
	v.MoreModels = max(0, len(models)-auditedModels)
	for _, m := range models[:len(models)-v.MoreModels] {
		v.Models = append(v.Models, m.ID)
	}
	return n.ID, v
}

// plainURL leaves out where a URL may carry credentials.
func plainURL(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return u.String()
}

// markSecrets notes which secrets are others than before, in documents of their own: nothing else tells.
func markSecrets(d description, before, after snapshot.Spec) {
	changed := map[string]json.RawMessage{}
	hashes := map[string]account.KeyHash{}
	for i := range before.Keys {
		hashes[before.Keys[i].ID] = before.Keys[i].Hash
	}
	for i := range after.Keys {
		if old, ok := hashes[after.Keys[i].ID]; ok && old != after.Keys[i].Hash {
			changed["key "+after.Keys[i].ID] = json.RawMessage("true")
		}
	}
	secrets := map[[2]string]account.Secret{}
	for i := range before.Providers {
		for _, k := range before.Providers[i].Keys {
			secrets[[2]string{before.Providers[i].Name, k.Name}] = k.Secret
		}
	}
	for i := range after.Providers {
		for _, k := range after.Providers[i].Keys {
			name := after.Providers[i].Name
			if old, ok := secrets[[2]string{name, k.Name}]; ok && !old.Equal(k.Secret) {
				changed["provider key "+name+"/"+k.Name] = json.RawMessage("true")
			}
		}
	}
	markReceivers(changed, before.Alerts, after.Alerts)
	d["secrets_changed"] = changed
}

// markReceivers notes which receivers of alerts have another address or secret than before.
func markReceivers(changed map[string]json.RawMessage, before, after alert.Settings) {
	for i := range after.Receivers {
		r := &after.Receivers[i]
		old, known := before.Receiver(r.Name)
		if known && !slices.EqualFunc(old.Secrets(), r.Secrets(), account.Secret.Equal) {
			changed["receiver "+r.Name] = json.RawMessage("true")
		}
	}
}
