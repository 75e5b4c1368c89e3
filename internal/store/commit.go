package store

import (
	"context"
	"encoding/json"

	"github.com/uptrace/bun"

	"shareai/internal/account"
	"shareai/internal/audit"
	"shareai/internal/catalog"
	"shareai/internal/seal"
	"shareai/internal/snapshot"
)

// Commit applies a change that was validated at a revision and returns the new revision. What was done goes
// into the audit log in the same transaction. When the revision has moved since, nothing is changed and
// the error is snapshot.ErrStale.
func (s *Store) Commit(ctx context.Context, at int64, change snapshot.Change, acts ...audit.Act) (int64, error) {
	return s.commit(ctx, at, change, acts, func(context.Context, bun.Tx) error { return nil })
}

// commit is Commit with something more to do in the same transaction, once the revision is known to be the one.
func (s *Store) commit(ctx context.Context, at int64, change snapshot.Change, acts []audit.Act, more func(context.Context, bun.Tx) error) (int64, error) {
	err := s.write.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
		// First, because it locks the row: of two commits at one revision the second waits here, and
		// then finds the revision moved.
		raised, err := tx.NewUpdate().Table("revision").Set("value = value + 1").Where("value = ?", at).Exec(ctx)
		if err != nil {
			return err
		}
		if n, err := raised.RowsAffected(); err != nil || n != 1 {
			return firstOf(err, snapshot.ErrStale)
		}
		if err := more(ctx, tx); err != nil {
			return err
		}
		w := &writer{ctx: ctx, tx: tx, sealer: s.sealer}
		w.remove(change.Delete)
		w.put(change.Put)
		if w.err != nil {
			return w.err
		}
		return appendAudit(ctx, tx, at+1, acts)
	})
	if err != nil {
		return 0, s.engine.failed("store the change", err)
	}
	s.settle(ctx)
	return at + 1, nil
}

// settle hastens what was committed to the disk: neither a caller that leaves now nor a failure undoes it.
func (s *Store) settle(ctx context.Context) {
	if err := s.engine.settle(context.WithoutCancel(ctx)); err != nil {
		s.log.WarnContext(ctx, "a change may be lost if this machine fails within the next seconds", "error", err)
	}
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// writer changes declarations within one transaction, whose context it carries. After its first error
// it does nothing more.
type writer struct {
	ctx    context.Context
	tx     bun.Tx
	sealer *seal.Box
	err    error
}

func (w *writer) remove(names snapshot.Names) {
	w.delete("providers", "name", names.Providers)
	w.delete("provider_keys", "provider", names.Providers)
	w.delete(modelsTable, "name", names.Models)
	w.delete(routesTable, "name", names.Routes)
	w.delete(policiesTable, "name", names.Policies)
	w.delete(drillsTable, "name", names.Drills)
}

func (w *writer) delete(table, column string, names []string) {
	if w.err != nil || len(names) == 0 {
		return
	}
	_, w.err = w.tx.NewDelete().Table(table).Where("? IN (?)", bun.Ident(column), bun.List(names)).Exec(w.ctx)
}

func (w *writer) put(spec snapshot.Spec) {
	for _, o := range spec.Organizations {
		w.putDocument(organizationsTable, o.Name, ownerDocument{Limits: o.Limits, Budgets: o.Budgets, LabelLimits: o.LabelLimits, Shares: o.Shares, Operator: o.Operator, Community: o.Community})
	}
	for _, p := range spec.Projects {
		w.upsert(&projectRow{
			Organization: p.Organization, Name: p.Name,
			Document: w.encode(ownerDocument{Labels: p.Labels, Limits: p.Limits, Budgets: p.Budgets}),
		}, "(organization, name)")
	}
	for i := range spec.Keys {
		w.putKey(&spec.Keys[i])
	}
	for i := range spec.Providers {
		w.putProvider(&spec.Providers[i])
	}
	for _, m := range spec.Models {
		w.putDocument(modelsTable, m.Name, m)
	}
	for _, r := range spec.Routes {
		w.putDocument(routesTable, r.Name, r)
	}
	for _, p := range spec.Policies {
		w.putDocument(policiesTable, p.Name, p)
	}
	for _, d := range spec.Drills {
		w.putDocument(drillsTable, d.ID, d)
	}
	for i := range spec.Nodes {
		w.putNode(&spec.Nodes[i])
	}
	if spec.DefaultPolicy != "" {
		w.upsert(&settingRow{Name: defaultPolicySetting, Value: spec.DefaultPolicy}, "(name)")
	}
}

func (w *writer) putKey(k *account.APIKey) {
	w.upsert(&keyRow{
		ID: k.ID, Organization: k.Organization, Project: k.Project, Name: k.Name, Hash: k.Hash[:], Hint: k.Hint,
		Models: w.encode(k.Models), Scopes: w.encode(k.Scopes), PinProvider: k.Pin.Provider, PinModel: k.Pin.Model,
		CreatedAt: toMicro(k.CreatedAt), ExpiresAt: toMicro(k.Expires), RevokedAt: toMicro(k.RevokedAt),
		Document: w.encode(ownerDocument{Limits: k.Limits, Budgets: k.Budgets}),
	}, "(id)")
}

func (w *writer) putProvider(p *catalog.Provider) {
	w.upsert(&providerRow{
		Name: p.Name, Dialect: string(p.Dialect), BaseURL: p.BaseURL, APIVersion: p.APIVersion,
		Region: p.Region, Retention: p.Retention, PrivateNetwork: p.PrivateNetwork,
		OutputLimit: string(p.OutputLimit), Simulation: w.encode(p.Simulation),
		Document: w.encode(providerDocument{Prefill: p.Prefill, Drained: p.Drained, Probe: p.Probe}),
	}, "(name)")
	w.delete("provider_keys", "provider", []string{p.Name}) // those that the provider no longer has
	for place, k := range p.Keys {
		w.upsert(&providerKeyRow{
			Provider: p.Name, Name: k.Name, Place: place, Weight: k.Weight,
			Sealed: w.sealer.Seal(k.Secret, p.Name, k.Name),
		}, "(provider, name)")
	}
}

func (w *writer) putDocument(table, name string, document any) {
	row := &documentRow{Name: name, Document: w.encode(document)}
	if w.err == nil {
		_, w.err = w.tx.NewInsert().Model(row).ModelTableExpr("?", bun.Ident(table)).
			On("CONFLICT (name) DO UPDATE").Exec(w.ctx)
	}
}

// upsert inserts a row, or replaces every column but the identity of the row that is there.
func (w *writer) upsert(row any, identity string) {
	if w.err == nil {
		_, w.err = w.tx.NewInsert().Model(row).On("CONFLICT " + identity + " DO UPDATE").Exec(w.ctx)
	}
}

func (w *writer) encode(document any) string {
	text, err := json.Marshal(document)
	if w.err == nil {
		w.err = err
	}
	return string(text)
}
