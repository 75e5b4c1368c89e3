package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"shareai/internal/adminapi"
	"shareai/internal/app"
	"shareai/internal/catalog"
	"shareai/internal/control"
)

type nodesCommands struct {
	List    nodesListCommand    `cmd:"" help:"List the machines that serve models through this gateway."`
	Show    nodesShowCommand    `cmd:"" help:"Show a node: its machine, engines, models, prices and keys."`
	Token   nodesTokenCommand   `cmd:"" help:"Make a token with which a machine becomes a node, and show it, once."`
	Tokens  nodesTokensCommand  `cmd:"" help:"List tokens; they themselves are not kept."`
	Revoke  nodesRevokeCommand  `cmd:"" help:"Shut a node out for good, or end a token."`
	Rename  nodesRenameCommand  `cmd:"" help:"Give a node another name."`
	Drain   nodesDrainCommand   `cmd:"" help:"Keep new requests away from a node."`
	Resume  nodesResumeCommand  `cmd:"" help:"Let a node that was drained take requests again."`
	Price   nodesPriceCommand   `cmd:"" help:"Set what models cost on a node."`
	Share   nodesShareCommand   `cmd:"" help:"Let other organizations use a node."`
	Unshare nodesUnshareCommand `cmd:"" help:"Stop that."`
}

// nodeReference is the argument that names a node.
type nodeReference struct {
	Node         string `arg:"" name:"node" help:"ID (node_…), name, or organization/name."`
	Organization string `placeholder:"NAME" help:"Only nodes of this organization."`
}

func (r *nodeReference) among() control.NodeFilter {
	return control.NodeFilter{Organization: r.Organization}
}

// withControl runs f over the gateway's data.
func (p *place) withControl(ctx context.Context, t *terminal, f func(*app.Local) error) error {
	local, err := p.open(ctx, t)
	if err != nil {
		return err
	}
	defer func() { _ = local.Close() }()
	return f(local)
}

type nodesListCommand struct {
	Organization string `placeholder:"NAME" help:"Only nodes of this organization."`
	All          bool   `help:"Those that are revoked as well."`
	output
	place `group:"Where the gateway keeps its data:"`
}

// Help is the long help.
func (nodesListCommand) Help() string {
	return `It shows what the gateway's data knows. Which nodes are connected at the moment, and what they do, the running
gateway says: GET /api/v1/nodes, and shareai node status on the machine itself.`
}

// Run lists the nodes.
func (c *nodesListCommand) Run(ctx context.Context, t *terminal) error {
	return c.withControl(ctx, t, func(local *app.Local) error {
		nodes, err := local.Control.ListNodes(ctx, control.NodeFilter{Organization: c.Organization})
		if err != nil {
			return err
		}
		views := []adminapi.Node{}
		for i := range nodes {
			if c.All || !nodes[i].Revoked() {
				views = append(views, adminapi.ViewNode(&nodes[i]))
			}
		}
		if c.JSON {
			return t.json(map[string][]adminapi.Node{"nodes": views})
		}
		if len(views) == 0 {
			t.print("No nodes. Add a machine with: %s nodes token\n", t.program)
			return nil
		}
		tb := &table{columns: []column{
			{title: "ID"}, {title: "NAME"}, {title: "STATE"}, {title: "MODELS", align: right}, {title: "SYSTEM"}, {title: "AGENT"}, {title: "REGION"}, {title: "ENROLLED"},
		}}
		for _, v := range views {
			tb.add(v.ID, v.Organization+"/"+v.Name, string(v.State), strconv.Itoa(len(v.Models)),
				strings.Trim(v.Machine.OS+"/"+v.Machine.Arch, "/"), v.Machine.AgentVersion, v.Region, v.Enrolled.Format("2006-01-02"))
		}
		t.table("", tb)
		return nil
	})
}

type nodesShowCommand struct {
	nodeReference
	output
	place `group:"Where the gateway keeps its data:"`
}

// Run shows a node.
func (c *nodesShowCommand) Run(ctx context.Context, t *terminal) error {
	return c.withControl(ctx, t, func(local *app.Local) error {
		node, err := local.Control.FindNode(ctx, c.Node, c.among())
		if err != nil {
			return err
		}
		v := adminapi.ViewNode(&node)
		if c.JSON {
			return t.json(v)
		}
		t.printNode(&v)
		return nil
	})
}

func (t *terminal) printNode(v *adminapi.Node) {
	fact := func(name, value string) {
		if value != "" {
			t.print("%-10s  %s\n", name, value)
		}
	}
	t.print("%s\n\n", t.styled(bold, v.Organization+"/"+v.Name))
	fact("id", v.ID)
	fact("state", string(v.State))
	fact("machine", strings.Join(slices.DeleteFunc([]string{v.Machine.Hostname, v.Machine.OS, v.Machine.Arch}, func(s string) bool { return s == "" }), ", "))
	fact("agent", v.Machine.AgentVersion)
	fact("region", v.Region)
	for _, name := range slices.Sorted(maps.Keys(v.Labels)) {
		fact("label", name+"="+v.Labels[name])
	}
	fact("enrolled", v.Enrolled.Format("2006-01-02 15:04 UTC")+", with the token "+v.TokenID)
	fact("by", v.EnrolledBy)
	if v.Revoked != nil {
		fact("revoked", v.Revoked.Format("2006-01-02 15:04 UTC"))
	}
	if s := v.Share; s != nil && s.Active {
		fact("shared", catalog.CommunityPrefix+s.Handle+" since "+s.Since.Format("2006-01-02"))
	}
	for _, e := range v.Engines {
		fact("engine", strings.TrimSpace(e.Name+" "+e.Version))
	}
	for _, k := range v.Keys {
		fact("key", k.ID+" "+k.Fingerprint+" since "+k.Created.Format("2006-01-02"))
	}
	for _, p := range v.Prices {
		fact("price", fmt.Sprintf("%s: $%s in, $%s out per million tokens", p.Model, usd(p.Input), usd(p.Output)))
	}
	if len(v.Models) == 0 {
		t.print("\nIt has not said yet which models it serves.\n")
		return
	}
	t.print("\n")
	tb := &table{columns: []column{{title: "MODEL"}, {title: "ID"}, {title: "ENGINE"}, {title: "CONTEXT", align: right}, {title: "CAPABILITIES"}}}
	for _, m := range v.Models {
		context := "-"
		if m.Context > 0 {
			context = strconv.FormatInt(m.Context, 10)
		}
		tb.add(m.Name, m.ID, m.Engine, context, strings.Join(m.Capabilities, ","))
	}
	t.table("", tb)
}

func usd(amount float64) string { return strconv.FormatFloat(amount, 'f', -1, 64) }

type nodesRevokeCommand struct {
	Ref          string `arg:"" name:"node" help:"A node's id (node_…), name, or organization/name; or a token's id (ntok_…), or the token itself, for one that has leaked."`
	Organization string `placeholder:"NAME" help:"Only what belongs to this organization."`
	output
	place `group:"Where the gateway keeps its data:"`
}

// Run revokes a node or a token.
func (c *nodesRevokeCommand) Run(ctx context.Context, t *terminal) error {
	return c.withControl(ctx, t, func(local *app.Local) error {
		among := control.NodeFilter{Organization: c.Organization}
		if isNodeToken(c.Ref) {
			token, err := local.Control.RevokeNodeToken(ctx, c.Ref, among)
			if err != nil {
				return err
			}
			v := adminapi.ViewNodeToken(&token, time.Now())
			if c.JSON {
				return t.json(v)
			}
			t.print("The token %s of %s is %s: no machine becomes a node with it.\n", v.ID, v.Organization, v.State)
			if v.Used > 0 {
				t.print("It was used: the node %s stays. Revoke it as well if you do not know it.\n", v.NodeID)
			}
			return nil
		}
		node, err := local.Control.RevokeNode(ctx, c.Ref, among)
		return t.nodeChanged(&node, err, c.output, "is revoked. A running gateway closes its links within two seconds")
	})
}

// nodeChanged says what became of a node.
func (t *terminal) nodeChanged(n *catalog.Node, err error, how output, what string) error {
	if err != nil {
		return err
	}
	v := adminapi.ViewNode(n)
	if how.JSON {
		return t.json(v)
	}
	t.print("Node %s of %s (%s) %s.\n", v.Name, v.Organization, v.ID, what)
	return nil
}

type nodesRenameCommand struct {
	nodeReference
	Name string `arg:"" help:"Its new name, unique in its organization: a-z, 0-9, '.', '_' and '-'. Policies that name the node do not follow."`
	output
	place `group:"Where the gateway keeps its data:"`
}

// Run renames a node.
func (c *nodesRenameCommand) Run(ctx context.Context, t *terminal) error {
	return c.withControl(ctx, t, func(local *app.Local) error {
		node, err := local.Control.RenameNode(ctx, c.Node, c.Name, c.among())
		return t.nodeChanged(&node, err, c.output, "has this name now")
	})
}

type nodesDrainCommand struct {
	nodeReference
	output
	place `group:"Where the gateway keeps its data:"`
}

// Run drains a node.
func (c *nodesDrainCommand) Run(ctx context.Context, t *terminal) error {
	return c.withControl(ctx, t, func(local *app.Local) error {
		node, err := local.Control.DrainNode(ctx, c.Node, c.among())
		return t.nodeChanged(&node, err, c.output, "gets no new requests; what runs on it ends by itself")
	})
}

type nodesResumeCommand struct {
	nodeReference
	output
	place `group:"Where the gateway keeps its data:"`
}

// Run resumes a node.
func (c *nodesResumeCommand) Run(ctx context.Context, t *terminal) error {
	return c.withControl(ctx, t, func(local *app.Local) error {
		node, err := local.Control.ResumeNode(ctx, c.Node, c.among())
		return t.nodeChanged(&node, err, c.output, "takes requests again")
	})
}
