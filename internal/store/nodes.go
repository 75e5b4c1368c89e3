package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"shareai/internal/account"
	"shareai/internal/audit"
	"shareai/internal/catalog"
	"shareai/internal/snapshot"
)

// keptTokens is how long a token that has expired is kept for people to read.
const keptTokens = 30 * 24 * time.Hour

type (
	nodeRow struct {
		bun.BaseModel `bun:"table:nodes"`
		ID            string `bun:",pk"`
		Organization  string
		Name          string
		EnrolledAt    int64
		RevokedAt     int64
		Document      string
	}
	nodeTokenRow struct {
		bun.BaseModel `bun:"table:node_tokens"`
		ID            string `bun:",pk"`
		Hash          []byte
		Organization  string
		CreatedAt     int64
		ExpiresAt     int64
		RevokedAt     int64
		Uses          int
		Used          int
		UsedAt        int64
		Node          string
		Document      string
	}
)

// nodeDocument is what nothing is searched by of a node.
type nodeDocument struct {
	Labels     map[string]string   `json:"labels,omitempty"`
	Region     string              `json:"region,omitempty"`
	Retention  string              `json:"retention,omitempty"`
	Keys       []catalog.NodeKey   `json:"keys,omitempty"`
	Advertised catalog.Advertised  `json:"advertised,omitzero"`
	Prices     []catalog.NodePrice `json:"prices,omitempty"`
	Drained    bool                `json:"drained,omitempty"`
	EnrolledBy string              `json:"enrolled_by,omitempty"`
	Token      string              `json:"token,omitempty"`
	Machine    catalog.NodeMachine `json:"machine,omitzero"`
	Shared     *catalog.NodeShare  `json:"shared,omitempty"`
}

// nodeTokenDocument is what nothing is searched by of a token.
type nodeTokenDocument struct {
	Name      string            `json:"name,omitempty"`
	Labels    map[string]string `json:"labels,omitempty"`
	Region    string            `json:"region,omitempty"`
	CreatedBy string            `json:"created_by,omitempty"`
}

func (w *writer) putNode(n *catalog.Node) {
	w.upsert(&nodeRow{
		ID: n.ID, Organization: n.Organization, Name: n.Name,
		EnrolledAt: toMicro(n.EnrolledAt), RevokedAt: toMicro(n.RevokedAt),
		Document: w.encode(nodeDocument{
			Labels: n.Labels, Region: n.Region, Retention: n.Retention, Keys: n.Keys, Advertised: n.Advertised, Prices: n.Prices,
			Drained: n.Drained, EnrolledBy: n.EnrolledBy, Token: n.Token, Machine: n.Machine, Shared: n.Shared,
		}),
	}, "(id)")
	w.putHandle(n)
}

func (l loader) nodes(spec *snapshot.Spec) error {
	var rows []nodeRow
	if err := l.tx.NewSelect().Model(&rows).Order("id").Scan(l.ctx); err != nil {
		return err
	}
	for _, r := range rows {
		var d nodeDocument
		if err := decode(r.Document, &d, "nodes", r.ID); err != nil {
			return err
		}
		spec.Nodes = append(spec.Nodes, catalog.Node{
			ID: r.ID, Organization: r.Organization, Name: r.Name,
			EnrolledAt: fromMicro(r.EnrolledAt), RevokedAt: fromMicro(r.RevokedAt),
			Labels: d.Labels, Region: d.Region, Retention: d.Retention, Keys: d.Keys, Advertised: d.Advertised, Prices: d.Prices,
			Drained: d.Drained, EnrolledBy: d.EnrolledBy, Token: d.Token, Machine: d.Machine, Shared: d.Shared,
		})
	}
	return nil
}

// AddNodeToken adds a token, logs that, and removes those that expired long ago.
func (s *Store) AddNodeToken(ctx context.Context, t *catalog.NodeToken, acts ...audit.Act) error {
	err := s.write.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
		w := &writer{ctx: ctx, tx: tx}
		row := &nodeTokenRow{
			ID: t.ID, Hash: t.Hash[:], Organization: t.Organization, CreatedAt: toMicro(t.CreatedAt), ExpiresAt: toMicro(t.Expires),
			RevokedAt: toMicro(t.RevokedAt), Uses: t.Uses, Used: t.Used, UsedAt: toMicro(t.UsedAt), Node: t.NodeID,
			Document: w.encode(nodeTokenDocument{Name: t.Name, Labels: t.Labels, Region: t.Region, CreatedBy: t.CreatedBy}),
		}
		if w.err != nil {
			return w.err
		}
		if _, err := tx.NewInsert().Model(row).Exec(ctx); err != nil {
			return err
		}
		old := toMicro(t.CreatedAt.Add(-keptTokens))
		if _, err := tx.NewDelete().Model((*nodeTokenRow)(nil)).Where("expires_at < ?", old).Exec(ctx); err != nil {
			return err
		}
		return appendAudit(ctx, tx, 0, acts)
	})
	if err != nil {
		return s.engine.failed("store the token", err)
	}
	s.settle(ctx)
	return nil
}

// NodeTokens returns every token that is kept, the newest first.
func (s *Store) NodeTokens(ctx context.Context) ([]catalog.NodeToken, error) {
	var rows []nodeTokenRow
	if err := s.read.NewSelect().Model(&rows).Order("created_at DESC", "id").Scan(ctx); err != nil {
		return nil, s.engine.failed("read the tokens", err)
	}
	tokens := make([]catalog.NodeToken, len(rows))
	for i := range rows {
		var err error
		if tokens[i], err = rows[i].token(); err != nil {
			return nil, s.engine.failed("read the tokens", err)
		}
	}
	return tokens, nil
}

// FindNodeToken returns the token that has a hash; false: there is none.
func (s *Store) FindNodeToken(ctx context.Context, hash account.KeyHash) (catalog.NodeToken, bool, error) {
	var row nodeTokenRow
	err := s.read.NewSelect().Model(&row).Where("hash = ?", hash[:]).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return catalog.NodeToken{}, false, nil
	}
	if err != nil {
		return catalog.NodeToken{}, false, s.engine.failed("read the token", err)
	}
	token, err := row.token()
	return token, err == nil, s.engine.failed("read the token", err)
}

func (r *nodeTokenRow) token() (catalog.NodeToken, error) {
	t := catalog.NodeToken{
		ID: r.ID, Organization: r.Organization, CreatedAt: fromMicro(r.CreatedAt), Expires: fromMicro(r.ExpiresAt),
		RevokedAt: fromMicro(r.RevokedAt), Uses: r.Uses, Used: r.Used, UsedAt: fromMicro(r.UsedAt), NodeID: r.Node,
	}
	if copy(t.Hash[:], r.Hash) != len(t.Hash) {
		return t, fmt.Errorf("node_tokens %s: the hash is damaged", r.ID)
	}
	var d nodeTokenDocument
	if err := decode(r.Document, &d, "node_tokens", r.ID); err != nil {
		return t, err
	}
	t.Name, t.Labels, t.Region, t.CreatedBy = d.Name, d.Labels, d.Region, d.CreatedBy
	return t, nil
}

// RevokeNodeToken ends a token and logs that. The error is catalog.ErrNodeTokenSpent, and nothing is changed, when it
// is not there, or revoked already.
func (s *Store) RevokeNodeToken(ctx context.Context, id string, now time.Time, acts ...audit.Act) error {
	err := s.write.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
		done, err := tx.NewUpdate().Model((*nodeTokenRow)(nil)).Set("revoked_at = ?", toMicro(now)).
			Where("id = ? AND revoked_at = 0", id).Exec(ctx)
		if err != nil {
			return err
		}
		if n, err := done.RowsAffected(); err != nil || n != 1 {
			return firstOf(err, catalog.ErrNodeTokenSpent)
		}
		return appendAudit(ctx, tx, 0, acts)
	})
	if err != nil {
		return s.engine.failed("store the change", err)
	}
	s.settle(ctx)
	return nil
}

// CommitNode is Commit for a change that adds the one node of change.Put, and uses its token in the same transaction.
// The error is catalog.ErrNodeTokenSpent, and nothing is changed, when the token can not be used any more.
func (s *Store) CommitNode(ctx context.Context, at int64, change snapshot.Change, acts ...audit.Act) (int64, error) {
	node := &change.Put.Nodes[0]
	return s.commit(ctx, at, change, acts, func(ctx context.Context, tx bun.Tx) error {
		now := toMicro(node.EnrolledAt)
		used, err := tx.NewUpdate().Model((*nodeTokenRow)(nil)).
			Set("used = used + 1").Set("used_at = ?", now).Set("node = ?", node.ID).
			Where("id = ? AND used < uses AND revoked_at = 0 AND expires_at > ?", node.Token, now).Exec(ctx)
		if err != nil {
			return err
		}
		if n, err := used.RowsAffected(); err != nil || n != 1 {
			return firstOf(err, catalog.ErrNodeTokenSpent)
		}
		return nil
	})
}

// installationSetting is the name of the setting that tells this installation from all others.
const installationSetting = "installation"

// Installation returns what tells this installation from all others. It is made once, by whoever asks first.
func (s *Store) Installation(ctx context.Context) (string, error) {
	row := &settingRow{Name: installationSetting, Value: account.GenerateID("inst_")}
	_, err := s.write.NewInsert().Model(row).On("CONFLICT (name) DO NOTHING").Exec(ctx)
	if err == nil {
		err = s.read.NewSelect().Model(row).WherePK().Scan(ctx)
	}
	return row.Value, s.engine.failed("read the installation's id", err)
}
