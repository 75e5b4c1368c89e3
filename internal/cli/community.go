package cli

import (
	"context"
	"maps"
	"slices"
	"strconv"

	"shareai/internal/account"
	"shareai/internal/adminapi"
	"shareai/internal/app"
	"shareai/internal/catalog"
	"shareai/internal/control"
)

type nodesShareCommand struct {
	nodeReference
	Handle      string      `required:"" placeholder:"HANDLE" help:"Others know the node as community:HANDLE: 3 to 40 of a-z, 0-9 and '-'. It is the node's for good."`
	Price       []nodePrice `placeholder:"PRICE" help:"MODEL=INPUT/OUTPUT in USD per million tokens, several times; * is every model without a price of its own. What has no price is free."`
	Models      []string    `placeholder:"PATTERN" help:"Only models whose names match. Default: all of the node's."`
	DisplayName string      `placeholder:"NAME" help:"On the page of contributors. Default: the handle."`
	Listed      bool        `help:"Consent to be on the public page of contributors."`
	Retention   string      `placeholder:"HOW" help:"How long the machine keeps what others ask: none, unknown, or days such as 30d. Default: unknown."`
	output
	place `group:"Where the gateway keeps its data:"`
}

// Help is the long help.
func (nodesShareCommand) Help() string {
	return `The node serves organizations that take part in the community, where their policies allow it. The gateway's
configuration says whether there is one, and on which conditions. Sharing a node again replaces what was offered.

    shareai nodes share desk --handle green-desk --price "*=0.05/0.20" --models "llama*" --listed --display-name "Green Desk"`
}

// Run shares a node.
func (c *nodesShareCommand) Run(ctx context.Context, t *terminal) error {
	return c.withControl(ctx, t, func(local *app.Local) error {
		r := control.ShareRequest{Handle: c.Handle, DisplayName: c.DisplayName, Listed: c.Listed, Models: c.Models, Retention: c.Retention}
		for _, p := range c.Price {
			r.Prices = append(r.Prices, p.NodePrice)
		}
		node, err := local.Control.ShareNode(ctx, c.Node, c.among(), r)
		return t.nodeChanged(&node, err, c.output, "is shared as "+catalog.CommunityPrefix+c.Handle)
	})
}

type nodesUnshareCommand struct {
	nodeReference
	output
	place `group:"Where the gateway keeps its data:"`
}

// Run ends the sharing of a node.
func (c *nodesUnshareCommand) Run(ctx context.Context, t *terminal) error {
	return c.withControl(ctx, t, func(local *app.Local) error {
		node, err := local.Control.UnshareNode(ctx, c.Node, c.among())
		return t.nodeChanged(&node, err, c.output, "is not shared")
	})
}

type communityCommands struct {
	Statement communityStatementCommand `cmd:"" help:"Show what an organization's nodes earned in a month, and what it spent at nodes of others."`
	Accounts  communityAccountsCommand  `cmd:"" help:"Show who is owed how much over all time."`
	Join      communityJoinCommand      `cmd:"" help:"Let nodes of others serve an organization, where a policy says so."`
	Leave     communityLeaveCommand     `cmd:"" help:"Keep nodes of others from serving an organization."`
}

type communityStatementCommand struct {
	Organization string `required:"" placeholder:"NAME" help:"Whose statement."`
	Month        string `placeholder:"YYYY-MM" help:"In UTC. Default: the present one."`
	Format       format `default:"table" placeholder:"FORMAT" help:"Print a table, csv or json. Default: table."`
	output
	place `group:"Where the gateway keeps its data:"`
}

// Run prints a statement.
func (c *communityStatementCommand) Run(ctx context.Context, t *terminal) error {
	return c.withControl(ctx, t, func(local *app.Local) error {
		from, to, err := local.Control.CommunityMonth(c.Month)
		if err != nil {
			return err
		}
		s, err := local.Store.CommunityStatement(ctx, c.Organization, from.UnixMicro(), to.UnixMicro())
		if err != nil {
			return err
		}
		v := adminapi.ViewCommunityStatement(c.Organization, from, &s)
		switch {
		case c.JSON || c.Format == asJSON:
			return t.json(v)
		case c.Format == asCSV:
			text, err := v.CSV()
			t.print("%s", text)
			return err
		}
		t.print("%s\n\n", t.styled(bold, v.Organization+", "+v.Month))
		tb := &table{columns: []column{
			{title: "HANDLE"},
			{title: "MODEL"},
			{title: "REQUESTS", align: right},
			{title: "PROMPT", align: right},
			{title: "ANSWER", align: right},
			{title: "EARNED", align: right},
			{title: "FEE", align: right},
			{title: "NET", align: right},
		}}
		for _, l := range v.Lines {
			tb.add(l.Handle, l.Model, strconv.FormatInt(l.Requests, 10), strconv.FormatInt(l.PromptTokens, 10), strconv.FormatInt(l.CompletionTokens, 10),
				"$"+l.EarnedUSD, "$"+l.FeeUSD, "$"+l.NetUSD)
		}
		if len(v.Lines) > 0 {
			t.table("", tb)
			t.print("\n")
		}
		t.print("earned $%s, after the fee $%s; spent $%s; balance over all time $%s\n", v.EarnedUSD, v.NetUSD, v.SpentUSD, v.BalanceUSD)
		return nil
	})
}

type communityAccountsCommand struct {
	output
	place `group:"Where the gateway keeps its data:"`
}

// Run prints the balances.
func (c *communityAccountsCommand) Run(ctx context.Context, t *terminal) error {
	return c.withControl(ctx, t, func(local *app.Local) error {
		balances, err := local.Store.CommunityAccounts(ctx)
		if err != nil {
			return err
		}
		amounts := map[string]string{}
		tb := &table{columns: []column{{title: "ACCOUNT"}, {title: "BALANCE", align: right}}}
		for _, name := range slices.Sorted(maps.Keys(balances)) {
			amounts[name] = catalog.FormatUSD(balances[name])
			tb.add(name, "$"+amounts[name])
		}
		if c.JSON {
			return t.json(map[string]map[string]string{"balances_usd": amounts})
		}
		t.table("", tb)
		return nil
	})
}

type communityJoinCommand struct{ membership }

// Run lets an organization take part.
func (c *communityJoinCommand) Run(ctx context.Context, t *terminal) error {
	return c.change(ctx, t, (*control.Control).JoinCommunity, "takes part in the community. Its policies decide which prompts nodes of others may see")
}

type communityLeaveCommand struct{ membership }

// Run ends that.
func (c *communityLeaveCommand) Run(ctx context.Context, t *terminal) error {
	return c.change(ctx, t, (*control.Control).LeaveCommunity, "does not take part in the community")
}

// membership is what joining and leaving need.
type membership struct {
	Organization string `arg:"" help:"Its name."`
	output
	place `group:"Where the gateway keeps its data:"`
}

func (m *membership) change(ctx context.Context, t *terminal, how func(*control.Control, context.Context, string) (account.Organization, error), what string) error {
	return m.withControl(ctx, t, func(local *app.Local) error {
		o, err := how(local.Control, ctx, m.Organization)
		switch {
		case err != nil:
			return err
		case m.JSON:
			return t.json(adminapi.Membership{Member: o.Community})
		}
		t.print("%s %s.\n", m.Organization, what)
		return nil
	})
}
