package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"shareai/internal/adminapi"
	"shareai/internal/app"
	"shareai/internal/catalog"
	"shareai/internal/control"
	"shareai/internal/enrol"
)

type nodesTokenCommand struct {
	Organization string            `placeholder:"NAME" help:"Organization that the node belongs to. Default: default."`
	Name         string            `placeholder:"NAME" help:"Name of the node. Default: the machine says; for several machines, numbers follow."`
	Region       string            `placeholder:"NAME" help:"Where the machine is; policies confine traffic to regions."`
	Label        map[string]string `placeholder:"NAME=VALUE" help:"Label of the node; may be repeated."`
	For          span              `default:"15m" placeholder:"SPAN" help:"How long it holds, at most 15m. Default: 15m."`
	Uses         int               `default:"1" placeholder:"N" help:"How many machines it is for, at most 1000. Default: 1."`
	Gateway      string            `placeholder:"URL" help:"Address under which the machine reaches the gateway. Default: public_url of the configuration, or where it listens."`
	output
	place `group:"Where the gateway keeps its data:"`
}

// Help is the long help.
func (nodesTokenCommand) Help() string {
	return `It prints the command to run on the machine, which installs the agent and makes the machine a node. The machine
needs to reach the gateway; nothing has to reach the machine.

    shareai nodes token
    shareai nodes token --organization acme --name gpu-1 --region eu --label team=search
    shareai nodes token --name fleet --uses 20`
}

// Run makes a token.
func (c *nodesTokenCommand) Run(ctx context.Context, t *terminal) error {
	if c.For <= 0 || c.Uses <= 0 { // not what a request means by leaving them out
		return &failure{message: "a token holds for a time above 0, and for one machine at least", hint: "see " + programName + " nodes token --help", code: exitUsage}
	}
	return c.withControl(ctx, t, func(local *app.Local) error {
		made, err := local.Control.CreateNodeToken(ctx, control.NodeTokenRequest{
			Organization: c.Organization, Name: c.Name, Region: c.Region, Labels: c.Label, For: time.Duration(c.For), Uses: c.Uses,
		})
		if err != nil {
			return err
		}
		v := adminapi.ViewNodeToken(&made.Token, time.Now())
		v.Secret = made.Secret.Reveal()
		if c.JSON {
			return t.json(v)
		}
		boot := local.File.Boot
		t.printToken(&v, strings.TrimSuffix(cmp.Or(c.Gateway, boot.PublicURL, "http://"+reachable(boot.Listen)), "/"))
		if c.Gateway == "" && boot.PublicURL == "" {
			t.print("\nOther machines need an address that they can reach: set public_url in the configuration, or give --gateway.\n")
		}
		return nil
	})
}

func (t *terminal) printToken(v *adminapi.NodeToken, gateway string) {
	t.print("Token %s of %s is ready:\n\n  %s\n\n", v.ID, v.Organization, t.styled(bold, v.Secret))
	machines := "one machine"
	if v.Uses > 1 {
		machines = strconv.Itoa(v.Uses) + " machines"
	}
	t.print("It is for %s, until %s, and can not be shown again. On the machine, run:\n\n", machines, v.Expires.Format("15:04 UTC"))
	for _, c := range []struct{ where, command string }{
		{"Linux, macOS", "curl -fsSL " + gateway + "/install.sh | sh -s -- --token " + v.Secret},
		{"Windows, in a terminal of an administrator", "& ([scriptblock]::Create((irm " + gateway + "/install.ps1))) --token " + v.Secret},
		{"where the program is there already", programName + " node --gateway " + gateway + " --token " + v.Secret},
	} {
		t.print("  %s\n  %s\n\n", t.styled(faint, "# "+c.where), c.command)
	}
	t.print("Then see: %s nodes list\n", t.program)
}

type nodesTokensCommand struct {
	Organization string `placeholder:"NAME" help:"Only tokens of this organization."`
	All          bool   `help:"Those that can not be used any more as well. They are kept for 30 days."`
	output
	place `group:"Where the gateway keeps its data:"`
}

// Run lists the tokens.
func (c *nodesTokensCommand) Run(ctx context.Context, t *terminal) error {
	return c.withControl(ctx, t, func(local *app.Local) error {
		tokens, err := local.Control.ListNodeTokens(ctx, control.NodeFilter{Organization: c.Organization})
		if err != nil {
			return err
		}
		now, views := time.Now(), []adminapi.NodeToken{}
		for i := range tokens {
			if c.All || tokens[i].StateAt(now) == catalog.NodeTokenOpen {
				views = append(views, adminapi.ViewNodeToken(&tokens[i], now))
			}
		}
		if c.JSON {
			return t.json(map[string][]adminapi.NodeToken{"tokens": views})
		}
		if len(views) == 0 {
			t.print("No tokens. Make one with: %s nodes token\n", t.program)
			return nil
		}
		tb := &table{columns: []column{
			{title: "ID"}, {title: "ORGANIZATION"}, {title: "STATE"}, {title: "USED", align: right}, {title: "EXPIRES"}, {title: "NAME"}, {title: "LAST NODE"}, {title: "BY"},
		}}
		for _, v := range views {
			tb.add(v.ID, v.Organization, v.State, fmt.Sprintf("%d/%d", v.Used, v.Uses), v.Expires.Format("2006-01-02 15:04 UTC"), v.Name, v.NodeID, v.CreatedBy)
		}
		t.table("", tb)
		return nil
	})
}

// isNodeToken says whether a reference means a token rather than a node.
func isNodeToken(ref string) bool {
	return strings.HasPrefix(ref, "ntok_") || enrol.IsToken(strings.TrimSpace(ref))
}

type nodesPriceCommand struct {
	nodeReference
	Prices []nodePrice `arg:"" name:"price" help:"MODEL=INPUT/OUTPUT or MODEL=INPUT/OUTPUT/CACHED, in USD per million tokens; * is every model without a price of its own. MODEL=free takes a price away."`
	output
	place `group:"Where the gateway keeps its data:"`
}

// Help is the long help.
func (nodesPriceCommand) Help() string {
	return `A model without a price costs nothing. Prices that are not named stay as they are.

    shareai nodes price laptop tiny=0.05/0.20 "*=0.10/0.40/0.02"
    shareai nodes price laptop tiny=free`
}

// nodePrice is what a model is to cost.
type nodePrice struct {
	catalog.NodePrice
	free bool
}

// UnmarshalText reads the argument.
func (p *nodePrice) UnmarshalText(text []byte) error {
	model, amounts, ok := strings.Cut(string(text), "=")
	parts := strings.Split(amounts, "/")
	*p = nodePrice{NodePrice: catalog.NodePrice{Model: model}, free: amounts == "free"}
	if p.free && model != "" {
		return nil
	}
	into := []*int64{&p.Price.Input, &p.Price.Output, &p.Price.CachedInput}
	if !ok || model == "" || len(parts) < 2 || len(parts) > len(into) {
		return fmt.Errorf("%q has another form than MODEL=INPUT/OUTPUT, for example tiny=0.05/0.20, or MODEL=free", string(text))
	}
	for i, part := range parts {
		amount, err := strconv.ParseFloat(part, 64)
		if err == nil {
			*into[i], err = catalog.NanoPerMillion(amount)
		}
		if err != nil {
			return fmt.Errorf("the price %q of %s is not a number of USD between 0 and %d", part, model, catalog.MaxUSDPerMillion)
		}
	}
	return nil
}

// Run sets prices.
func (c *nodesPriceCommand) Run(ctx context.Context, t *terminal) error {
	return c.withControl(ctx, t, func(local *app.Local) error {
		node, err := local.Control.FindNode(ctx, c.Node, c.among())
		if err != nil {
			return err
		}
		prices := slices.Clone(node.Prices)
		for _, p := range c.Prices {
			prices = slices.DeleteFunc(prices, func(have catalog.NodePrice) bool { return have.Model == p.Model })
			if !p.free {
				prices = append(prices, p.NodePrice)
			}
		}
		node, err = local.Control.SetNodePrices(ctx, node.ID, c.among(), prices)
		return t.nodeChanged(&node, err, c.output, "has these prices now")
	})
}
