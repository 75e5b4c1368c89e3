package app

import (
	"context"

	"shareai/internal/adminapi"
	"shareai/internal/catalog"
	"shareai/internal/control"
	"shareai/internal/snapshot"
)

// NodeLink implements adminapi.NodeLinks.
func (n *nodes) NodeLink(id string) adminapi.NodeLink {
	v := n.hub.Look(id)
	link := adminapi.NodeLink{
		Linked: v.Linked, Draining: v.Draining, Capacity: v.Capacity, InFlight: v.InFlight, Queued: v.Queued, Idle: v.Idle, Speed: v.TokensPerSecond,
	}
	if !v.LastSeen.IsZero() {
		seen := v.LastSeen.UTC()
		link.LastSeen = &seen
	}
	return link
}

// keeping stores what nodes say, and asks the store only where the running snapshot has something else: after a
// restart all nodes say at once what is known.
type keeping struct {
	keeper *snapshot.Keeper
	uses   *control.Control
}

func (k keeping) advertised(ctx context.Context, node string, a catalog.Advertised) error {
	a = control.WellFormed(a)
	if n, ok := k.keeper.Current().Node(node); ok && control.SameAdvertised(&n.Advertised, &a) {
		return nil
	}
	return k.uses.AdvertiseNode(ctx, node, a)
}

func (k keeping) linked(ctx context.Context, node, key string) error {
	if n, ok := k.keeper.Current().Node(node); ok && len(n.Keys) == 1 {
		return nil
	}
	return k.uses.NodeKeyUsed(ctx, node, key)
}
