package app

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"net/http"
	"os"
	"runtime"

	"shareai/internal/adminapi"
	"shareai/internal/alert"
	"shareai/internal/config"
	"shareai/internal/control"
	"shareai/internal/enrol"
	"shareai/internal/install"
	"shareai/internal/routing"
	"shareai/internal/snapshot"
	"shareai/internal/store"
	"shareai/internal/tunnel"
	"shareai/internal/upstream"
)

// nodes joins the links of nodes to both planes: the data plane sends requests over them, the control plane says whose
// they are and keeps what they serve.
type nodes struct {
	keeper    *snapshot.Keeper
	hub       *tunnel.Hub
	community *community
	enrolment http.Handler
	installer http.Handler
}

// ground is what the links of nodes stand on.
type ground struct {
	keeper *snapshot.Keeper
	rows   *store.Store
	uses   *control.Control
	shared shared
	boot   config.Boot
}

// nodes begins to take links in once the site serves.
func (i *Instance) nodes(ctx context.Context, on ground) (*nodes, error) {
	keeper, rows, uses := on.keeper, on.rows, on.uses
	installation, err := rows.Installation(ctx)
	if err != nil {
		return nil, err
	}
	hub, err := tunnel.NewHub(tunnel.HubOptions{
		Keys: nodeKeys{keeper}, Audience: installation, Replica: replicaName(),
		Directory: on.shared.links, Nonces: on.shared.nonces, PeerURL: on.boot.PeerURL, PeerSecret: rows.Secret("node peers"),
		DrainTime: i.settings.Grace, Log: i.log,
		Advertised: keeping{keeper, uses}.advertised,
		Rekey: func(ctx context.Context, node string, public ed25519.PublicKey) (string, error) {
			key, err := uses.RekeyNode(ctx, node, public)
			if err == nil {
				err = keeper.Refresh(ctx) // its next dial may be here
			}
			return key.ID, err
		},
		Linked: keeping{keeper, uses}.linked,
		Refused: func(ctx context.Context, r tunnel.Refusal) {
			uses.LogNodeRefusal(ctx, control.NodeRefusal{Node: r.Node, Key: r.Key, Reason: r.Reason, From: r.Remote})
		},
	})
	if err != nil {
		return nil, err
	}
	i.background("node links", hub.Run)
	changes := keeper.Changes()
	i.background("node revocations", func(ctx context.Context) {
		for {
			select {
			case <-ctx.Done():
				return
			case <-changes:
				hub.Check(ctx)
			}
		}
	})
	i.then("links of nodes", func() error {
		ctx, cancel := context.WithTimeout(i.life, i.settings.Grace)
		defer cancel()
		return hub.Close(ctx)
	})
	n := &nodes{keeper: keeper, hub: hub, community: i.community(keeper, rows), installer: i.installer(on.boot)}
	enrolment := adminapi.EnrolmentOptions{Nodes: uses, Snapshots: keeper, Audience: installation, Log: i.log}
	if on.boot.PublicURL != "" {
		enrolment.GatewayURLs = []string{on.boot.PublicURL}
	}
	n.enrolment = adminapi.NewEnrolment(enrolment)
	return n, nil
}

// installer serves what machines need to become nodes.
func (i *Instance) installer(boot config.Boot) http.Handler {
	program, err := os.Executable()
	if err != nil {
		i.log.Warn("the agent can not be had from this gateway: where its program lies can not be found out", "error", err)
	}
	return install.New(install.Options{
		Dir: boot.Downloads, Program: program, Platform: runtime.GOOS + "_" + runtime.GOARCH, URL: boot.PublicURL, Log: i.log,
	}).Handler()
}

// replicaName is another one for every process, so that what a dead one has left in the directory is nobody's.
func replicaName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "replica"
	}
	return host + "-" + rand.Text()[:8]
}

// nodeKeys gives the keys of nodes from the running snapshot.
type nodeKeys struct{ keeper *snapshot.Keeper }

// NodeKey implements tunnel.Keys.
func (k nodeKeys) NodeKey(node, key string) (ed25519.PublicKey, error) {
	view := k.keeper.Current()
	n, ok := view.Node(node)
	if !ok {
		if view.Revoked(node) {
			return nil, tunnel.ErrRevokedNode
		}
		return nil, tunnel.ErrUnknownNode
	}
	if found, ok := n.KeyOf(key); ok {
		return found.Public, nil
	}
	return nil, tunnel.ErrUnknownNode
}

// Link implements routing.Links.
func (n *nodes) Link(id string) routing.Link {
	v := n.hub.Look(id)
	return routing.Link{
		Up: v.Linked, Resting: v.Draining || v.Capacity == 0, Capacity: int64(v.Capacity), Load: int64(v.InFlight + v.Queued),
		Reliability: n.community.reliability(id),
	}
}

// Nodes implements watch.Nodes.
func (n *nodes) Nodes(context.Context) ([]alert.Node, error) {
	var list []alert.Node
	for declared := range n.keeper.Current().Nodes() {
		v := n.hub.Look(declared.ID)
		list = append(list, alert.Node{
			ID: declared.ID, Organization: declared.Organization, Name: declared.Name, Linked: v.Linked, LastSeen: v.LastSeen,
		})
	}
	return list, nil
}

// Node implements upstream.Nodes.
func (n *nodes) Node(id string) http.RoundTripper { return way{n.hub.Transport(id)} }

// way is a link with the outcomes of attempts.
type way struct{ link http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (w way) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := w.link.RoundTrip(r)
	switch {
	case errors.Is(err, tunnel.ErrAway):
		return nil, &upstream.Error{Outcome: upstream.NodeAway, Message: "The node is not connected.", Cause: err}
	case errors.Is(err, tunnel.ErrBusy):
		return nil, &upstream.Error{Outcome: upstream.NodeBusy, Message: "The node has as much to do as its owner allows.", Cause: err}
	}
	return resp, err
}

// serve adds the paths of nodes to the public listener.
func (n *nodes) serve(s *site, mux *http.ServeMux) {
	mux.Handle(tunnel.PathTunnel, n.hub)
	mux.Handle(tunnel.PathPeer, s.guarded(http.HandlerFunc(n.hub.ServePeer)))
	for _, path := range []string{"/install.sh", "/install.ps1"} {
		mux.Handle(path, s.page(n.installer.ServeHTTP))
	}
	mux.Handle("/download/", n.installer) // may take longer than a page
	for _, path := range []string{"/contributors", "/contributors.json"} {
		mux.Handle(path, s.page(getOnly(n.community.serve)))
	}
	mux.Handle(enrol.Path, s.page(n.enrolment.ServeHTTP))
}
