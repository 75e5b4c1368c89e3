package cli

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"shareai/internal/account"
	"shareai/internal/app"
	"shareai/internal/catalog"
	"shareai/internal/cli/timeline"
	"shareai/internal/smoke"
	"shareai/internal/snapshot"
)

type smokeCommand struct {
	Gateway       string        `placeholder:"URL" help:"Base URL of the gateway. Default: the running demo's."`
	Key           string        `placeholder:"KEY" help:"API key to test with. Better set by the environment. Default: the demo's."`
	RateKey       string        `placeholder:"KEY" help:"API key with a limit of requests that the test may use up. Default: the demo's."`
	QuotaKey      string        `placeholder:"KEY" help:"API key with a budget that the test may use up. Default: the demo's."`
	Models        []string      `placeholder:"NAME" help:"Test only these models and routes. Default: all that the key may use."`
	FailoverModel string        `default:"${failover_model}" placeholder:"NAME" help:"Model whose first deployment fails on purpose. Default: ${failover_model}."`
	Timeout       time.Duration `default:"1m" placeholder:"SPAN" help:"Longest wait for one answer. Default: 1m."`
	output
	place `group:"Where the gateway keeps its data:"`
}

// Help is the long help.
func (smokeCommand) Help() string {
	return `Asks every model that the key may use at every provider that serves it, as a client would; on providers that
charge this costs a few short answers each. Exit code 1 means that a line failed.

Without --gateway and --key it tests the demo in --data-dir (data/demo). With --config, --data-dir or --database it
also compares the answers with the gateway's own records.

    shareai smoke
    SHAREAI_KEY=sk-… shareai smoke --gateway https://ai.example.org`
}

// Run performs the test.
func (c *smokeCommand) Run(ctx context.Context, t *terminal) error {
	if err := c.find(t); err != nil {
		return err
	}
	options := smoke.Options{
		Gateway: c.Gateway, Key: c.Key, RateKey: c.RateKey, QuotaKey: c.QuotaKey, Models: c.Models, Rehearsal: c.FailoverModel, Timeout: c.Timeout,
	}
	if c.Config != "" || c.DataDir != "" || c.Database != "" {
		local, err := c.open(ctx, t)
		if err != nil {
			return err
		}
		defer func() { _ = local.Close() }()
		options.Ledger = ledger{local}
		if options.Known, err = known(ctx, local, c.Key); err != nil {
			return err
		}
	}
	if !c.JSON {
		t.print("Smoke test of %s\n", c.Gateway)
		var part smoke.Part
		options.Observe = func(l smoke.Line) {
			if l.Part != part {
				part = l.Part
				t.print("\n%s\n", t.styled(bold, string(rune('0'+part))+". "+part.Title()))
			}
			t.finding(l)
		}
	}
	report := smoke.Run(ctx, options)
	if c.JSON {
		if err := t.json(report); err != nil {
			return err
		}
	} else {
		t.print("\n%d passed, %d failed, %d not available here\n", report.Passed, report.Failed, report.NotAvailable)
	}
	if report.Failed > 0 {
		return errFailed
	}
	return nil
}

// find completes the flags with what a running demo has left in its directory. The demo's key is for the
// demo alone: it is not sent to a gateway that was named.
func (c *smokeCommand) find(t *terminal) error {
	if c.Gateway != "" {
		if !strings.Contains(c.Gateway, "://") {
			c.Gateway = "http://" + c.Gateway
		}
		if c.Key == "" {
			return &failure{message: "no API key is given", hint: "give SHAREAI_KEY or --key; " + t.program + " keys create makes one", code: exitUsage}
		}
		return nil
	}
	dir := c.DataDir
	if dir == "" {
		dir = filepath.FromSlash(defaultDemoDir)
	}
	url, err := os.ReadFile(filepath.Join(dir, demoURL))
	if errors.Is(err, fs.ErrNotExist) {
		return &failure{
			message: "no gateway is given and no demo is running in " + dir,
			hint:    "start one with " + t.program + " demo, or give --gateway URL and --key KEY",
			code:    exitUsage,
		}
	} else if err != nil {
		return err
	}
	c.Gateway = strings.TrimSpace(string(url))
	if c.Config == "" {
		c.Config, c.DataDir = filepath.Join(dir, demoConfig), ""
	}
	keys, err := demoKeys(c.Config, t.getenv)
	c.Key, c.RateKey, c.QuotaKey = cmp.Or(c.Key, keys.first), cmp.Or(c.RateKey, keys.rate), cmp.Or(c.QuotaKey, keys.quota)
	return err
}

// known reads how names are served from the gateway's configuration, so that the test leaves no refused
// requests behind in the usage report.
func known(ctx context.Context, local *app.Local, key string) (map[string]smoke.Known, error) {
	rows, _, err := local.Store.Load(ctx)
	if err != nil {
		return nil, err
	}
	view, err := compile(local.File, snapshot.Join(local.File.Spec, rows))
	if err != nil {
		return nil, err
	}
	organization := ""
	if principal, ok := view.Principal(account.HashKey(key)); ok {
		organization = principal.Project.Organization
	}
	names := map[string]smoke.Known{}
	for _, name := range view.Names() {
		route, _ := view.RouteOf(organization, name)
		k := smoke.Known{Mode: mode(route)}
		for _, m := range route.Models {
			for _, target := range m.Targets {
				if target.Provider.OpenTo(organization) && !slices.Contains(k.Providers, target.Provider.Name) {
					k.Providers = append(k.Providers, target.Provider.Name)
				}
			}
		}
		names[name] = k
	}
	return names, nil
}

// mode is the way to ask a route; empty when the configuration does not say.
func mode(r *snapshot.Route) smoke.Mode {
	if slices.ContainsFunc(r.Models, func(m *snapshot.Model) bool { return slices.Contains(m.Capabilities, "embeddings") }) {
		return smoke.Embeddings
	}
	switch {
	case len(r.Endpoints) == 0:
		return ""
	case r.Serves(catalog.Chat):
		return smoke.Chat
	case r.Serves(catalog.Embeddings):
		return smoke.Embeddings
	case r.Serves(catalog.Completions):
		return smoke.Completions
	default:
		return ""
	}
}

// finding prints one line of the report, and what a comparison rests on.
func (t *terminal) finding(l smoke.Line) {
	mark, text := t.styled(green, "pass"), l.Subject
	switch l.Verdict {
	case smoke.Fail:
		mark = t.styled(red, "FAIL")
	case smoke.NotAvailable:
		mark = t.styled(faint, "   -")
		text = strings.TrimPrefix(l.Subject+": not available", ": ")
	}
	if l.Detail != "" {
		text += ": " + l.Detail
	}
	t.print("  %s  %s\n", mark, text)
	if l.Verdict == smoke.Fail && l.RequestID != "" {
		t.print("        request %s\n", l.RequestID)
	}
	if len(l.Calls) == 0 {
		return
	}
	tb := &table{columns: []column{
		{title: "MODEL"},
		{title: "PROVIDER"},
		{title: "MODE"},
		{title: "LATENCY", align: right},
		{title: "FIRST TOKEN", align: right},
		{title: "TOKENS", align: right},
		{title: "COST USD", align: right},
	}}
	costs := make([]string, len(l.Calls))
	for i, c := range l.Calls {
		costs[i] = catalog.FormatUSD(c.Cost)
	}
	digits := decimals(costs)
	for i, c := range l.Calls {
		tb.add(c.Model, c.Provider, string(c.Mode), duration(milliseconds(c.Duration)), duration(milliseconds(c.FirstToken)),
			timeline.Number(c.Tokens.Prompt)+" + "+timeline.Number(c.Tokens.Completion), padded(costs[i], digits))
	}
	t.table("        ", tb)
}

// ledger is the gateway's database as the smoke test reads it.
type ledger struct{ local *app.Local }

// Entry implements smoke.Ledger.
func (l ledger) Entry(ctx context.Context, requestID string) (smoke.Entry, error) {
	r, err := awaitRecord(ctx, l.local, requestID)
	if err != nil {
		return smoke.Entry{}, err
	}
	return smoke.Entry{Tokens: smoke.Tokens{Prompt: r.Tokens.Prompt, Completion: r.Tokens.Completion}, Cost: r.Cost}, nil
}
