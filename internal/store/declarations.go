package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"shareai/internal/account"
	"shareai/internal/catalog"
	"shareai/internal/seal"
	"shareai/internal/snapshot"
)

// The rows of declarations. Organizations, models, routes, policies and drills are a name and a document
// each; a drill's name is its id.
type (
	documentRow struct {
		Name     string `bun:",pk"`
		Document string
	}
	projectRow struct {
		bun.BaseModel `bun:"table:projects"`
		Organization  string `bun:",pk"`
		Name          string `bun:",pk"`
		Document      string
	}
	keyRow struct {
		bun.BaseModel `bun:"table:api_keys"`
		ID            string `bun:",pk"`
		Organization  string
		Project       string
		Name          string
		Hash          []byte
		Hint          string
		Models        string
		Scopes        string
		PinProvider   string
		PinModel      string
		CreatedAt     int64
		ExpiresAt     int64
		RevokedAt     int64
		Document      string
	}
	providerRow struct {
		bun.BaseModel  `bun:"table:providers"`
		Name           string `bun:",pk"`
		Dialect        string
		BaseURL        string
		APIVersion     string
		Region         string
		Retention      string
		PrivateNetwork bool
		OutputLimit    string
		Simulation     string
		Document       string
	}
	providerKeyRow struct {
		bun.BaseModel `bun:"table:provider_keys"`
		Provider      string `bun:",pk"`
		Name          string `bun:",pk"`
		Place         int
		Weight        int
		Sealed        []byte
	}
	settingRow struct {
		bun.BaseModel `bun:"table:settings"`
		Name          string `bun:",pk"`
		Value         string
	}
)

// The tables that consist of documentRows.
const (
	organizationsTable = "organizations"
	modelsTable        = "models"
	routesTable        = "routes"
	policiesTable      = "policies"
	drillsTable        = "drills"
)

// defaultPolicySetting is the name of the setting that holds the default policy's name.
const defaultPolicySetting = "default_policy"

// ownerDocument is the document of an organization, a project or an API key.
type ownerDocument struct {
	Labels  map[string]string `json:"labels,omitempty"`
	Limits  account.Limits    `json:"limits,omitzero"`
	Budgets []account.Budget  `json:"budgets,omitempty"`

	// Of an organization.
	LabelLimits []account.LabelLimits `json:"label_limits,omitempty"`
	Shares      []account.Share       `json:"shares,omitempty"`
	Operator    bool                  `json:"operator,omitempty"`
	Community   bool                  `json:"community,omitempty"`
}

// providerDocument is what nothing is searched by of a provider.
type providerDocument struct {
	Prefill catalog.PrefillForm `json:"prefill,omitempty"`
	Drained bool                `json:"drained,omitempty"`
	Probe   catalog.Probe       `json:"probe,omitzero"`
}

// Revision is the number of the last change. It implements snapshot.Source.
func (s *Store) Revision(ctx context.Context) (int64, error) {
	revision, err := readRevision(ctx, s.read)
	return revision, s.engine.failed("read the revision", err)
}

func readRevision(ctx context.Context, db bun.IDB) (int64, error) {
	var revision int64
	err := db.NewSelect().Table("revision").Column("value").Scan(ctx, &revision)
	return revision, err
}

// Load returns every declaration and the revision they have, as one consistent view. It implements
// snapshot.Source.
func (s *Store) Load(ctx context.Context) (snapshot.Spec, int64, error) {
	var spec snapshot.Spec
	var revision int64
	oneView := &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true}
	err := s.read.RunInTx(ctx, oneView, func(ctx context.Context, tx bun.Tx) error {
		var err error
		if revision, err = readRevision(ctx, tx); err != nil {
			return err
		}
		spec, err = loader{ctx: ctx, tx: tx, sealer: s.sealer}.spec()
		return err
	})
	if err != nil {
		return snapshot.Spec{}, 0, s.engine.failed("read the declarations", err)
	}
	return spec, revision, nil
}

// loader reads declarations within one transaction, whose context it carries.
type loader struct {
	ctx    context.Context
	tx     bun.Tx
	sealer *seal.Box
}

func (l loader) spec() (spec snapshot.Spec, err error) {
	for _, step := range []func(*snapshot.Spec) error{l.organizations, l.projects, l.keys, l.providers, l.documents, l.nodes, l.settings} {
		if err := step(&spec); err != nil {
			return snapshot.Spec{}, err
		}
	}
	return spec, nil
}

func (l loader) organizations(spec *snapshot.Spec) error {
	return eachDocument(l, organizationsTable, func(name string, d *ownerDocument) {
		spec.Organizations = append(spec.Organizations, account.Organization{
			Name: name, Limits: d.Limits, Budgets: d.Budgets, LabelLimits: d.LabelLimits, Shares: d.Shares, Operator: d.Operator, Community: d.Community, Origin: account.FromDatabase,
		})
	})
}

func (l loader) projects(spec *snapshot.Spec) error {
	var rows []projectRow
	if err := l.tx.NewSelect().Model(&rows).Order("organization", "name").Scan(l.ctx); err != nil {
		return err
	}
	for _, r := range rows {
		var d ownerDocument
		if err := decode(r.Document, &d, "projects", r.Name); err != nil {
			return err
		}
		spec.Projects = append(spec.Projects, account.Project{
			Organization: r.Organization, Name: r.Name, Labels: d.Labels, Limits: d.Limits, Budgets: d.Budgets,
			Origin: account.FromDatabase,
		})
	}
	return nil
}

func (l loader) keys(spec *snapshot.Spec) error {
	var rows []keyRow
	if err := l.tx.NewSelect().Model(&rows).Order("id").Scan(l.ctx); err != nil {
		return err
	}
	for _, r := range rows {
		k := account.APIKey{
			ID: r.ID, Name: r.Name, Organization: r.Organization, Project: r.Project, Hint: r.Hint,
			Pin:       account.Pin{Provider: r.PinProvider, Model: r.PinModel},
			CreatedAt: fromMicro(r.CreatedAt), Expires: fromMicro(r.ExpiresAt), RevokedAt: fromMicro(r.RevokedAt),
			Origin: account.FromDatabase,
		}
		if copy(k.Hash[:], r.Hash) != len(k.Hash) {
			return fmt.Errorf("api_keys %s: the hash is damaged", r.ID)
		}
		if err := decode(r.Models, &k.Models, "api_keys", r.ID); err != nil {
			return err
		}
		if err := decode(r.Scopes, &k.Scopes, "api_keys", r.ID); err != nil {
			return err
		}
		var d ownerDocument
		if err := decode(r.Document, &d, "api_keys", r.ID); err != nil {
			return err
		}
		k.Limits, k.Budgets = d.Limits, d.Budgets
		spec.Keys = append(spec.Keys, k)
	}
	return nil
}

func (l loader) providers(spec *snapshot.Spec) error {
	keys, err := l.providerKeys()
	if err != nil {
		return err
	}
	var rows []providerRow
	if err := l.tx.NewSelect().Model(&rows).Order("name").Scan(l.ctx); err != nil {
		return err
	}
	for _, r := range rows {
		p := catalog.Provider{
			Name: r.Name, Dialect: catalog.Dialect(r.Dialect), BaseURL: r.BaseURL, APIVersion: r.APIVersion,
			Keys: keys[r.Name], Region: r.Region, Retention: r.Retention, PrivateNetwork: r.PrivateNetwork,
			OutputLimit: catalog.OutputLimit(r.OutputLimit), Origin: account.FromDatabase,
		}
		if err := decode(r.Simulation, &p.Simulation, "providers", r.Name); err != nil {
			return err
		}
		var d providerDocument
		if err := decode(r.Document, &d, "providers", r.Name); err != nil {
			return err
		}
		p.Prefill, p.Drained, p.Probe = d.Prefill, d.Drained, d.Probe
		spec.Providers = append(spec.Providers, p)
	}
	return nil
}

// providerKeys opens every provider key and returns them by provider.
func (l loader) providerKeys() (map[string][]catalog.ProviderKey, error) {
	var rows []providerKeyRow
	if err := l.tx.NewSelect().Model(&rows).Order("provider", "place").Scan(l.ctx); err != nil {
		return nil, err
	}
	keys := make(map[string][]catalog.ProviderKey)
	for _, r := range rows {
		secret, err := l.sealer.Open(r.Sealed, r.Provider, r.Name)
		if err != nil {
			return nil, err
		}
		keys[r.Provider] = append(keys[r.Provider], catalog.ProviderKey{Name: r.Name, Secret: secret, Weight: r.Weight})
	}
	return keys, nil
}

func (l loader) documents(spec *snapshot.Spec) error {
	err := eachDocument(l, modelsTable, func(_ string, m *catalog.Model) {
		m.Origin = account.FromDatabase
		spec.Models = append(spec.Models, *m)
	})
	if err != nil {
		return err
	}
	err = eachDocument(l, routesTable, func(_ string, r *catalog.Route) {
		r.Origin = account.FromDatabase
		spec.Routes = append(spec.Routes, *r)
	})
	if err != nil {
		return err
	}
	err = eachDocument(l, policiesTable, func(_ string, p *catalog.Policy) {
		p.Origin = account.FromDatabase
		spec.Policies = append(spec.Policies, *p)
	})
	if err != nil {
		return err
	}
	return eachDocument(l, drillsTable, func(_ string, d *catalog.Drill) {
		d.Origin = account.FromDatabase
		spec.Drills = append(spec.Drills, *d)
	})
}

func (l loader) settings(spec *snapshot.Spec) error {
	var rows []settingRow
	if err := l.tx.NewSelect().Model(&rows).Where("name = ?", defaultPolicySetting).Scan(l.ctx); err != nil {
		return err
	}
	for _, r := range rows {
		spec.DefaultPolicy = r.Value
	}
	return nil
}

// eachDocument reads a table of documentRows and calls found for each, in the order of their names.
func eachDocument[T any](l loader, table string, found func(name string, document *T)) error {
	var rows []documentRow
	err := l.tx.NewSelect().Model(&rows).ModelTableExpr("?", bun.Ident(table)).
		ColumnExpr("name, document").Order("name").Scan(l.ctx)
	if err != nil {
		return err
	}
	for _, r := range rows {
		document := new(T)
		if err := decode(r.Document, document, table, r.Name); err != nil {
			return err
		}
		found(r.Name, document)
	}
	return nil
}

// decode reads a JSON document of a row.
func decode(document string, into any, table, name string) error {
	if err := json.Unmarshal([]byte(document), into); err != nil {
		return fmt.Errorf("%s %s: the document is damaged: %w", table, name, err)
	}
	return nil
}

// fromMicro and toMicro convert times; 0 and the zero time are the same.
func fromMicro(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}

func toMicro(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}
