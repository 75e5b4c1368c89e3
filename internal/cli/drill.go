package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"shareai/internal/adminapi"
	"shareai/internal/catalog"
	"shareai/internal/control"
)

type drillCommands struct {
	Start drillStartCommand `cmd:"" help:"Make a part of the providers fail for one project or key, for a time."`
	List  drillListCommand  `cmd:"" help:"List the drills that run."`
	Stop  drillStopCommand  `cmd:"" help:"End a drill before its time."`
}

// drills are where drills are started: in the gateway's data, or by its API.
type drills interface {
	start(ctx context.Context, r control.DrillRequest) (adminapi.Drill, error)
	list(ctx context.Context, f control.DrillFilter) ([]adminapi.Drill, error)
	stop(ctx context.Context, id string) (adminapi.Drill, error)
	// keys maps the ids of keys to their names, as far as they are known.
	keys(ctx context.Context) map[string]string
	// flags are what a further command needs to find the same place.
	flags() string
	close()
}

// drillPlace says where the drills are.
type drillPlace struct {
	Gateway string `placeholder:"URL" help:"Work through the API of this gateway instead of its data."`
	Key     string `placeholder:"KEY" help:"With --gateway: API key with the scope drills. Better set by the environment."`
	place   `group:"Where the gateway keeps its data:"`
}

func (p *drillPlace) openDrills(ctx context.Context, t *terminal) (drills, error) {
	if p.Gateway == "" {
		local, err := p.open(ctx, t)
		if err != nil {
			return nil, err
		}
		return &localDrills{local: local, place: &p.place}, nil
	}
	if p.Key == "" {
		return nil, &failure{
			message: "no API key is given",
			hint:    "give SHAREAI_KEY or --key; " + t.program + " keys create --scope drills makes one",
			code:    exitUsage,
		}
	}
	return newRemoteDrills(p.Gateway, p.Key), nil
}

// span is a flag for a span of time, which takes days as other flags do.
type span time.Duration

// UnmarshalText reads a flag.
func (s *span) UnmarshalText(text []byte) error {
	d, err := catalog.ParseSpan(string(text))
	if err != nil {
		return fmt.Errorf("%q is not a span of time such as 90s, 30m or 1d", text)
	}
	*s = span(d)
	return nil
}

type drillStartCommand struct {
	Project      string  `placeholder:"NAME" help:"Project whose requests fail. With --gateway: the key's own."`
	Organization string  `placeholder:"NAME" help:"Its organization. Default: the only one with such a project."`
	OnlyKey      string  `placeholder:"NAME|ID" help:"Only the requests of this API key of the project. Default: of all its keys."`
	Provider     string  `placeholder:"NAME" help:"This provider fails; or:"`
	Deployment   string  `placeholder:"PROVIDER/MODEL" help:"this deployment; or:"`
	Region       string  `placeholder:"NAME" help:"every provider of this region."`
	Fault        string  `required:"" enum:"blackhole,5xx,503,429,slow_first_token,cut,bad_chunk" placeholder:"FAULT" help:"How it fails: ${enum}."`
	Share        float64 `default:"1" placeholder:"SHARE" help:"Share of the attempts that fail, above 0 and at most 1. Default: 1."`
	For          span    `default:"10m" placeholder:"SPAN" help:"How long, at most 24h: 90s, 30m, 1d. Default: 10m."`
	output
	drillPlace
}

// Help is the long help.
func (drillStartCommand) Help() string {
	return `A drill shows what failover does, without an outage: for the requests of one project or key the chosen provider
fails, everybody else is served as ever. A running gateway follows within two seconds, and the drill ends by itself.

  blackhole         never an answer
  5xx, 503          500 or 503 at once
  429               429 at once, with Retry-After
  slow_first_token  a stream begins and says nothing; other answers do not come
  cut               the provider's own answer breaks off half-way (which costs what it said)
  bad_chunk         an answer that can not be read

    shareai drill start --project app --provider alpha --fault 5xx
    shareai drill start --project app --only-key staging --region eu --fault blackhole --share 0.5 --for 30m`
}

// Run starts a drill.
func (c *drillStartCommand) Run(ctx context.Context, t *terminal) error {
	if c.Gateway != "" && c.Project+c.Organization != "" {
		return &failure{message: "--gateway leaves no choice of the project: it is that of the key", hint: "leave --project and --organization out", code: exitUsage}
	}
	if c.Gateway == "" && c.Project == "" {
		return &failure{message: "no project is given", hint: "give --project NAME; " + t.program + " keys list shows them", code: exitUsage}
	}
	if c.Share == 0 || c.For == 0 { // not what a request means by leaving them out
		return &failure{message: "a drill has a share above 0 and a time above 0", hint: "see " + programName + " drill start --help", code: exitUsage}
	}
	at, err := c.openDrills(ctx, t)
	if err != nil {
		return err
	}
	defer at.close()
	d, err := at.start(ctx, control.DrillRequest{
		Organization: c.Organization, Project: c.Project, Key: c.OnlyKey,
		Provider: c.Provider, Deployment: c.Deployment, Region: c.Region,
		Fault: catalog.DrillFault(c.Fault), Share: c.Share, For: time.Duration(c.For), By: "command line",
	})
	if err != nil {
		return err
	}
	if c.JSON {
		return t.json(d)
	}
	t.print("Drill %s runs: %s,\n", t.styled(bold, d.ID), happens(&d))
	t.print("for %s, until %s.\n\n", concerned(&d, at.keys(ctx)), second(d.Ends))
	t.print("A running gateway follows within two seconds. To end it before its time:\n\n")
	t.print("  %s drill stop%s %s\n", t.program, at.flags(), d.ID)
	return nil
}

// happens is what a drill does: "half of the attempts at provider alpha are answered with 500".
func happens(d *adminapi.Drill) string {
	subject := "every attempt at " + target(d)
	if d.Share < 1 {
		subject = percent(d.Share) + " of the attempts at " + target(d)
	}
	switch catalog.DrillFault(d.Fault) {
	case catalog.DrillBlackhole:
		return subject + " gets no answer"
	case catalog.DrillServer:
		return subject + " is answered with 500"
	case catalog.DrillBusy:
		return subject + " is answered with 503"
	case catalog.DrillLimited:
		return subject + " is answered with 429"
	case catalog.DrillSlow:
		return subject + " gets no first token"
	case catalog.DrillCut:
		return subject + " breaks off half-way"
	case catalog.DrillBadChunk:
		return subject + " is answered with something that can not be read"
	default:
		return subject + " fails: " + d.Fault
	}
}

func second(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

func percent(share float64) string { return strconv.FormatFloat(share*100, 'g', 4, 64) + " %" }

// target is what fails.
func target(d *adminapi.Drill) string {
	return (&catalog.Drill{Provider: d.Provider, Deployment: d.Deployment, Region: d.Region}).Target()
}

// concerned is whose requests fail.
func concerned(d *adminapi.Drill, keys map[string]string) string {
	project := d.Organization + "/" + d.Project
	if d.KeyID == "" {
		return "every key of " + project
	}
	if address := keys[d.KeyID]; address != "" {
		return "key " + address
	}
	return d.KeyID + " of " + project
}

type drillListCommand struct {
	Organization string `placeholder:"NAME" help:"Only drills of this organization."`
	Project      string `placeholder:"NAME" help:"Only drills of projects with this name."`
	All          bool   `help:"Also those that are over; they are kept for 30 days."`
	output
	drillPlace
}

// Run lists drills.
func (c *drillListCommand) Run(ctx context.Context, t *terminal) error {
	at, err := c.openDrills(ctx, t)
	if err != nil {
		return err
	}
	defer at.close()
	filter := control.DrillFilter{Organization: c.Organization, Project: c.Project, RunningAt: time.Now()}
	if c.All {
		filter.RunningAt = time.Time{}
	}
	found, err := at.list(ctx, filter)
	if err != nil {
		return err
	}
	if c.JSON {
		return t.json(adminapi.DrillList{Drills: append([]adminapi.Drill{}, found...)})
	}
	if len(found) == 0 {
		t.print("No drills run.\n")
		return nil
	}
	keys := at.keys(ctx)
	tb := &table{columns: []column{
		{title: "ID"}, {title: "STATE"}, {title: "FAILS"}, {title: "FAULT"}, {title: "SHARE", align: right}, {title: "FOR"}, {title: "ENDS"}, {title: "BY"},
	}}
	for i := range found {
		d := &found[i]
		ends := d.Ends
		if d.Stopped != nil {
			ends = *d.Stopped
		}
		tb.add(d.ID, string(d.State), target(d), d.Fault, percent(d.Share), concerned(d, keys), second(ends), d.By)
	}
	t.table("", tb)
	return nil
}

type drillStopCommand struct {
	ID string `arg:"" name:"id" help:"The drill's id, drill_…"`
	output
	drillPlace
}

// Run stops a drill.
func (c *drillStopCommand) Run(ctx context.Context, t *terminal) error {
	at, err := c.openDrills(ctx, t)
	if err != nil {
		return err
	}
	defer at.close()
	d, err := at.stop(ctx, c.ID)
	if err != nil {
		return err
	}
	switch {
	case c.JSON:
		return t.json(d)
	case d.State == adminapi.DrillEnded:
		t.print("Drill %s had ended already.\n", d.ID)
	default:
		t.print("Drill %s is stopped. A running gateway follows within two seconds.\n", d.ID)
	}
	return nil
}

// placeFlags repeats the flags that say where the data is; a secret stays in the environment.
func placeFlags(p *place) string {
	var b strings.Builder
	for _, f := range []struct{ name, value string }{{"--config", p.Config}, {"--data-dir", p.DataDir}} {
		if f.value != "" {
			b.WriteString(" " + f.name + " " + quote(f.value))
		}
	}
	return b.String()
}
