package control

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"shareai/internal/audit"
	"shareai/internal/catalog"
	"shareai/internal/fault"
)

// The bounds of what a node advertises.
const (
	maxNodeModels  = 500
	maxNodeEngines = 32
	maxModelID     = 256 // characters
	maxContext     = 1_000_000_000
)

// nodeModelName is the shape of the names of models that clients send.
var nodeModelName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._:/@+-]{0,126}[A-Za-z0-9])?$`)

// AdvertiseNode stores what a node says that it serves, if that is not what is stored. What is not well-formed of it is
// left out. The error is RateLimited, and nothing is changed, when the node changes its mind all the time: say it
// again after RetryAfter. Of a node that is revoked, or not there, nothing is stored.
func (c *Control) AdvertiseNode(ctx context.Context, id string, said catalog.Advertised) error {
	said = WellFormed(said)
	admitted := false
	_, err := c.changeNode(byNode(ctx, id), "node.advertise", id, NodeFilter{}, func(n *catalog.Node, _ []catalog.Node) (bool, error) {
		if SameAdvertised(&n.Advertised, &said) {
			return false, nil
		}
		if !admitted {
			if wait := c.paces.Take(n.ID, c.o.Now()); wait > 0 {
				e := fault.New(fault.RateLimited, "node_changes_too_often", "The node changes what it serves too often.")
				e.RetryAfter = wait
				return false, e
			}
			admitted = true
		}
		n.Advertised = said
		return true, nil
	})
	return unlessGone(err)
}

// unlessGone leaves out that a node is not there any more: it says something while it is being shut out.
func unlessGone(err error) error {
	var f *fault.Error
	if errors.As(err, &f) && (f.Code == nodeNotFound || f.Code == nodeRevoked) {
		return nil
	}
	return err
}

// byNode makes a node the actor of what follows.
func byNode(ctx context.Context, id string) context.Context {
	return audit.WithActor(ctx, audit.Actor{Kind: audit.Node, ID: id, From: "its link"})
}

// SameAdvertised says whether both are the same, of what is well-formed.
func SameAdvertised(a, b *catalog.Advertised) bool {
	one, oneErr := json.Marshal(a)
	other, otherErr := json.Marshal(b)
	return oneErr == nil && otherErr == nil && bytes.Equal(one, other)
}

// WellFormed is what may be stored of what a node says, in the order of its names. A node is somebody else's machine: a
// name of any length and any characters may come from it.
func WellFormed(said catalog.Advertised) catalog.Advertised {
	a := catalog.Advertised{AgentVersion: plainText(said.AgentVersion, maxWord)}
	engines := map[string]bool{}
	for _, e := range said.Engines {
		e = catalog.NodeEngine{Name: plainText(e.Name, maxWord), Kind: plainText(e.Kind, maxWord), Version: plainText(e.Version, maxWord)}
		if e.Name == "" || engines[e.Name] || len(a.Engines) == maxNodeEngines {
			continue
		}
		engines[e.Name] = true
		a.Engines = append(a.Engines, e)
	}
	models := map[string]bool{}
	for _, m := range said.Models {
		if !isModelID(m.ID) || !nodeModelName.MatchString(m.Name) || models[m.ID] || len(a.Models) == maxNodeModels {
			continue
		}
		models[m.ID] = true
		a.Models = append(a.Models, catalog.NodeModel{
			ID: m.ID, Name: m.Name, Engine: plainText(m.Engine, maxWord), Context: min(max(m.Context, 0), maxContext),
			Capabilities: knownCapabilities(m.Capabilities),
		})
	}
	slices.SortFunc(a.Engines, func(a, b catalog.NodeEngine) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(a.Models, func(a, b catalog.NodeModel) int { return cmp.Compare(a.ID, b.ID) })
	return a
}

// knownCapabilities are those that there are, each once; nil stays nil, which means that nothing is known.
func knownCapabilities(said []catalog.Capability) []catalog.Capability {
	if said == nil {
		return nil
	}
	known := []catalog.Capability{}
	for _, c := range catalog.Capabilities {
		if slices.Contains(said, c) {
			known = append(known, c)
		}
	}
	return known
}

// isModelID says whether a text can be the id of a model: something to see, without spaces.
func isModelID(id string) bool {
	return id != "" && len(id) <= maxModelID && strings.IndexFunc(id, func(r rune) bool { return r == ' ' || r == unicode.ReplacementChar || !unicode.IsPrint(r) }) < 0
}

// plainText is what can be shown of a text, up to some number of characters.
func plainText(text string, most int) string {
	kept := 0
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if kept == most || r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return -1
		}
		kept++
		return r
	}, text))
}
