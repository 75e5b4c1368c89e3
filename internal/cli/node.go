package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"shareai/internal/account"
	"shareai/internal/node"
	"shareai/internal/telemetry"
)

type nodeCommands struct {
	Run    nodeRunCommand    `cmd:"" default:"withargs" help:"Serve the models of this machine, in the foreground."`
	Status nodeStatusCommand `cmd:"" help:"Show links, engines, models and load of the agent on this machine."`
	Pause  nodePauseCommand  `cmd:"" help:"Take no more requests, until resumed."`
	Resume nodeResumeCommand `cmd:"" help:"Take requests again."`
	Rotate nodeRotateCommand `cmd:"" help:"Replace the node's key by a new one."`

	Install   nodeInstallCommand   `cmd:"" help:"Have the service manager of this machine run the agent."`
	Start     nodeStartCommand     `cmd:"" help:"Start the service."`
	Stop      nodeStopCommand      `cmd:"" help:"Stop the service, until the machine starts again."`
	Uninstall nodeUninstallCommand `cmd:"" help:"Stop the service and remove it."`
}

// nodePlace says which agent's data a command works with.
type nodePlace struct {
	DataDir string `placeholder:"DIR" help:"Directory of the node's key and of node.yaml. Default: shareai/node in the user's folder for settings."`
}

func (p *nodePlace) dir() (string, error) {
	if p.DataDir != "" {
		return p.DataDir, nil
	}
	return node.DefaultDataDir()
}

type nodeRunCommand struct {
	Gateway string   `placeholder:"URL" help:"Address of the gateway. Needed once, to enrol."`
	Token   string   `placeholder:"TOKEN" help:"One-time token of the gateway. Needed once, to enrol; better set by the environment."`
	Name    string   `placeholder:"NAME" help:"What the node would like to be called. Default: the host's name."`
	Engine  []string `placeholder:"URL" help:"An engine, such as http://127.0.0.1:8000; may be repeated."`
	CAFile  string   `name:"ca-file" placeholder:"FILE" help:"Certificates in PEM to trust beside the system's."`
	nodePlace

	Discover    string `placeholder:"WHERE" help:"Engines on loopback that are found by themselves: all, usual (ports) or off. Default: all."`
	Concurrency int    `placeholder:"N" help:"Requests at once. Default: as many as the engines work on."`
	DailyTokens int64  `name:"tokens-per-day" placeholder:"N" help:"Tokens of a day, prompts and answers. Default: no limit."`

	Serve     string         `placeholder:"WHEN" help:"always, idle or schedule. Default: always."`
	Hours     []string       `sep:";" placeholder:"SPAN" help:"When the machine may serve, such as \"mon-fri 20:00-08:00\" or sat,sun; may be repeated. Default: at any time."`
	Grace     *time.Duration `placeholder:"SPAN" help:"How long running requests may go on when the owner needs the machine. Default: 10s."`
	StopGrace time.Duration  `placeholder:"SPAN" help:"How long they may when the agent is stopped. Default: 30s."`
	IdleAfter time.Duration  `placeholder:"SPAN" help:"Idle: how long the machine must be quiet. Default: 5m."`
	IdleCPU   float64        `name:"idle-cpu" placeholder:"SHARE" help:"Idle: share of the processors that other programs may use. Default: 0.25."`
	IdleGPU   float64        `name:"idle-gpu" placeholder:"SHARE" help:"Idle: the same of graphics processors. Default: 0.2."`
	OnBattery bool           `help:"Idle: serve on battery, too."`

	LogFormat logFormat `placeholder:"FORMAT" help:"text or json. Default: text."`
	LogLevel  logLevel  `placeholder:"LEVEL" help:"debug, info, warn or error. Default: info."`
}

// Help is the long help.
func (nodeRunCommand) Help() string {
	return `The machine dials the gateway and serves the models of its engines over that link: no port is opened. Engines
(Ollama, llama.cpp, vLLM, LM Studio, and what else speaks OpenAI's protocol on this machine) are found by themselves.

The first start enrols the machine with a token from the console; later starts need neither token nor gateway. What
can be set here can stand in node.yaml in the data directory as well; flags win.

    SHAREAI_TOKEN=… shareai node --gateway https://ai.example.org
    shareai node --engine http://127.0.0.1:8000 --concurrency 8
    shareai node --serve idle --hours "mon-fri 20:00-08:00" --hours sat,sun --tokens-per-day 2000000`
}

// Run runs the agent until ctx ends.
func (c *nodeRunCommand) Run(ctx context.Context, t *terminal) error {
	return c.hosted(ctx, t, func(ctx context.Context, t *terminal) error {
		s, err := c.settings(t)
		if err == nil {
			err = node.AdoptEnvironment(s.DataDir)
		}
		if err == nil {
			err = node.Run(ctx, s, t.getenv)
		}
		return ownerFailure(err)
	})
}

// settings are the flags as the agent takes them.
func (c *nodeRunCommand) settings(t *terminal) (node.Settings, error) {
	log, err := telemetry.NewLogger(t.err, telemetry.Format(c.LogFormat), c.LogLevel.or(slog.LevelInfo))
	if err != nil {
		return node.Settings{}, err
	}
	dir, err := c.dir()
	if err != nil {
		return node.Settings{}, err
	}
	s := node.Settings{
		Gateway: c.Gateway, Token: account.NewSecret(c.Token), Name: c.Name, DataDir: dir, CAFile: c.CAFile,
		Discover: node.Discovery(c.Discover), Concurrency: c.Concurrency, DailyTokens: c.DailyTokens, StopGrace: c.StopGrace,
		Rules:   node.Rules{Mode: node.Mode(c.Serve), After: c.IdleAfter, CPU: c.IdleCPU, GPU: c.IdleGPU},
		Version: t.version, Log: log,
	}
	if c.Grace != nil {
		s.Rules.Grace = max(*c.Grace, node.AtOnce)
	}
	if c.OnBattery {
		s.Rules.OnBattery = node.EvenOnBattery
	}
	for _, url := range c.Engine {
		s.Engines = append(s.Engines, node.EngineAddress{URL: url})
	}
	for _, text := range c.Hours {
		w, err := node.ParseWindow(text)
		if err != nil {
			return s, &failure{message: "--hours: " + err.Error(), hint: "see shareai node --help", code: exitUsage}
		}
		s.Rules.Hours = append(s.Rules.Hours, w)
	}
	return s, nil
}

// ownerFailure gives an error of the agent its second line.
func ownerFailure(err error) error {
	var p *node.Problem
	if errors.As(err, &p) {
		f := &failure{message: p.Message, hint: p.Hint, cause: err}
		if p.Final {
			f.code = exitFinal
		}
		return f
	}
	return err
}

type nodeStatusCommand struct {
	output
	nodePlace
}

// Run shows how the agent is.
func (c *nodeStatusCommand) Run(ctx context.Context, t *terminal) error {
	return c.ask(func(o *node.Owner) error {
		s, err := o.Status(ctx)
		switch {
		case err != nil:
			return err
		case c.JSON:
			return t.json(s)
		}
		t.nodeStatus(&s, time.Now())
		return nil
	})
}

type nodePauseCommand struct {
	Now bool `help:"End requests that run at once, without the grace."`
	nodePlace
}

// Run pauses the agent.
func (c *nodePauseCommand) Run(ctx context.Context, t *terminal) error {
	return c.ask(func(o *node.Owner) error {
		pause := o.Pause
		if c.Now {
			pause = o.PauseAtOnce
		}
		s, err := pause(ctx)
		if err == nil {
			t.print("Paused, also after a restart. %s\n", stillRunning(&s))
		}
		return err
	})
}

func stillRunning(s *node.Status) string {
	switch {
	case s.Phase == node.Leaving && s.Until != nil:
		return fmt.Sprintf("Requests that run (%d) may go on until %s.", s.Load.Running, s.Until.Local().Format("15:04:05"))
	default:
		return "Nothing runs."
	}
}

type nodeResumeCommand struct{ nodePlace }

// Run ends a pause.
func (c *nodeResumeCommand) Run(ctx context.Context, t *terminal) error {
	return c.ask(func(o *node.Owner) error {
		s, err := o.Resume(ctx)
		if err == nil {
			t.print("Resumed: %s.\n", s.Why.Text())
		}
		return err
	})
}

type nodeRotateCommand struct{ nodePlace }

// Run replaces the key.
func (c *nodeRotateCommand) Run(ctx context.Context, t *terminal) error {
	return c.ask(func(o *node.Owner) error {
		_, err := o.Rotate(ctx)
		if err == nil {
			t.print("The node has a new key; the old one is not accepted any more.\n")
		}
		return err
	})
}

// ask speaks to the agent on this machine.
func (p *nodePlace) ask(do func(*node.Owner) error) error {
	dir, err := p.agentDir()
	if err != nil {
		return ownerFailure(err)
	}
	owner := node.NewOwner(dir)
	defer owner.Close()
	return ownerFailure(do(owner))
}

// nodeStatus prints how an agent is.
func (t *terminal) nodeStatus(s *node.Status, now time.Time) {
	color := green
	if s.Phase != node.Serving {
		color = red
	}
	t.print("%s of %s (%s), agent %s\n", t.styled(bold, s.Name), s.Organization, s.Node, s.Version)
	t.print("%s for %s: %s\n", t.styled(color, string(s.Phase)), now.Sub(s.Since).Round(time.Second), s.Why.Text())
	if s.Until != nil {
		t.print("requests that run may go on for %s\n", s.Until.Sub(now).Round(time.Second))
	}
	serve := string(s.Rules.Mode)
	if len(s.Rules.Hours) > 0 {
		serve += ", " + strings.Join(s.Rules.Hours, "; ")
	}
	t.print("serves    %s%s\n", serve, machineText(&s.Machine))
	t.print("load      %d running, %d waiting, room for %d\n", s.Load.Running, s.Load.Queued, s.Load.Capacity)
	t.print("tokens    %d today%s\n", s.Tokens.Today, tokenLimit(s.Tokens.Limit))
	if len(s.Links) == 0 {
		t.print("links     %s to %s\n", t.styled(red, "none"), strings.Join(s.Gateways, ", "))
	}
	for _, l := range s.Links {
		t.print("link      %s, replica %s, for %s, %d running\n", l.Gateway, l.Replica, now.Sub(l.Opened).Round(time.Second), l.Running)
	}
	for _, m := range s.Missing {
		t.print("missing   %s\n", m)
	}
	for i := range s.Engines {
		e := &s.Engines[i]
		t.print("\n%s\n", strings.TrimSpace(fmt.Sprintf("%s  %s  %s", t.styled(bold, e.Name), e.URL, e.Version)))
		tb := &table{columns: []column{{title: "MODEL"}, {title: "CALLED"}, {title: "CONTEXT", align: right}, {title: "CAN"}}}
		for _, m := range e.Models {
			tb.add(m.ID, m.Name, contextText(m.Context), capabilityText(&m))
		}
		t.table("", tb)
	}
}

func contextText(tokens int64) string {
	if tokens == 0 {
		return "?"
	}
	return fmt.Sprint(tokens)
}

func capabilityText(m *node.ModelStatus) string {
	var list []string
	for _, c := range m.Capabilities {
		list = append(list, string(c))
	}
	return strings.Join(list, ", ")
}

func tokenLimit(limit int64) string {
	if limit == 0 {
		return ""
	}
	return fmt.Sprintf(" of %d", limit)
}

// machineText is what the sensors said.
func machineText(m *node.MachineStatus) string {
	var b strings.Builder
	for _, share := range []struct {
		name string
		of   *float64
	}{{"CPU", m.CPU}, {"GPU", m.GPU}} {
		if share.of != nil {
			fmt.Fprintf(&b, ", %s %d%% used by others", share.name, int(*share.of*100+0.5))
		}
	}
	if m.Away != nil {
		fmt.Fprintf(&b, ", last input %s ago", (time.Duration(*m.Away) * time.Second).String())
	}
	if m.Battery != nil && *m.Battery {
		b.WriteString(", on battery")
	}
	return b.String()
}
