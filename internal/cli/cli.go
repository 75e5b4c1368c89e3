package cli

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"shareai/internal/smoke"
)

// Environment is what surrounds a command.
type Environment struct {
	Args    []string // the program's own name first
	Stdout  io.Writer
	Stderr  io.Writer
	Getenv  func(string) (string, bool) // as os.LookupEnv
	Version string                      // of the program
}

// The exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
	exitFinal  = 3 // starting again changes nothing: the unit of the agent's service knows this number
)

// commands is the command line.
type commands struct {
	Help helpFlag `short:"h" help:"Say what a command does and which flags it has."`

	Serve     serveCommand      `cmd:"" help:"Run the gateway."`
	Demo      demoCommand       `cmd:"" help:"Run a gateway with simulated providers, to try everything without an account."`
	Config    configCommands    `cmd:"" help:"Work with configuration files."`
	Keys      keysCommands      `cmd:"" help:"Create, list and revoke API keys."`
	Users     usersCommands     `cmd:"" help:"List and create users of the console, and let back in who locked himself out."`
	Usage     usageCommand      `cmd:"" help:"Sum up requests, tokens and cost."`
	Prompts   promptsCommand    `cmd:"" help:"Show which prompts cost most."`
	Trace     traceCommand      `cmd:"" help:"Show what happened to one request."`
	Alerts    alertsCommands    `cmd:"" help:"Show what people were alerted of, and test whether messages arrive."`
	Audit     auditCommands     `cmd:"" help:"List, check and export what administrators did."`
	Drill     drillCommands     `cmd:"" help:"Rehearse a failover: make a provider fail for one project or key."`
	Models    modelsCommand     `cmd:"" help:"Show what is known of models: limits, prices, equivalents."`
	Smoke     smokeCommand      `cmd:"" help:"Test a running gateway through its public API, line by line."`
	Nodes     nodesCommands     `cmd:"" help:"Add, list and shut out the machines that serve models through this gateway."`
	Community communityCommands `cmd:"" help:"Show what shared nodes earned, and let organizations take part."`
	Node      nodeCommands      `cmd:"" help:"Serve the models of this machine through a gateway."`
	DemoNode  demoNodeCommand   `cmd:"" hidden:""`
	Standby   standbyCommand    `cmd:"" help:"Take over for an application when its provider fails."`
	Version   versionCommand    `cmd:"" help:"Print the version."`
}

const description = "ShareAI keeps an application online when an AI provider is not: one OpenAI-compatible endpoint " +
	"in front of many providers. Start with `shareai demo`.\n\n" +
	"Every flag can be set by the environment variable that its help names in brackets; the flag wins."

// Run runs the command that e.Args names until it is done or ctx ends, and returns the exit code.
func Run(ctx context.Context, e Environment) int {
	t := newTerminal(e)
	return t.exit(run(ctx, t, e.Args[1:]))
}

func run(ctx context.Context, t *terminal, args []string) error {
	stdout := t.out
	if len(args) == 0 {
		args, stdout = []string{"--help"}, t.err
	} else if args[0] == "help" {
		args = append(args[1:len(args):len(args)], "--help")
	}
	parser, err := kong.New(&commands{},
		kong.Name(programName),
		kong.Description(description),
		kong.Writers(stdout, t.err),
		kong.NoDefaultHelp(),
		kong.Resolvers(environment(t.getenv)),
		kong.Vars{"demo_dir": defaultDemoDir, "failover_model": smoke.DefaultRehearsal},
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true, WrapUpperBound: 100}),
		kong.ValueFormatter(helpWithVariable),
	)
	if err != nil {
		return err
	}
	parsed, err := parser.Parse(args)
	if errors.Is(err, errHelp) {
		if stdout == t.err {
			return errUsage
		}
		return nil
	}
	if err != nil {
		return misuse(err, t, args)
	}
	parsed.BindTo(ctx, (*context.Context)(nil))
	return parsed.Run(t)
}

const programName = "shareai"

// helpFlag prints help in place of running the command.
type helpFlag bool

var errHelp = errors.New("help was shown")

// IgnoreDefault keeps --help from being taken for a command's own.
func (helpFlag) IgnoreDefault() {}

// BeforeReset is called by kong once the command line is read.
func (helpFlag) BeforeReset(ctx *kong.Context) error {
	if err := ctx.PrintUsage(false); err != nil {
		return err
	}
	return errHelp
}

// variable is the name of a flag's environment variable; --help has none.
func variable(flag string) string {
	if flag == "help" {
		return ""
	}
	return "SHAREAI_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// environment finds flags that the command line leaves out. A variable that is empty is not set:
// containers are often started with all of them, whether they have a value or not.
func environment(getenv func(string) (string, bool)) kong.Resolver {
	return kong.ResolverFunc(func(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
		name := variable(flag.Name)
		if name == "" {
			return nil, nil
		}
		if value, _ := getenv(name); value != "" {
			return value, nil
		}
		return nil, nil
	})
}

// helpWithVariable names a flag's environment variable behind its help.
func helpWithVariable(v *kong.Value) string {
	if v.Flag == nil || variable(v.Flag.Name) == "" {
		return v.Help
	}
	return v.Help + " [" + variable(v.Flag.Name) + "]"
}

// misuse turns an error of parsing into one that points to the right help, and to the environment when
// the value came from there.
func misuse(err error, t *terminal, args []string) error {
	help, message := programName+" --help", err.Error()
	var parse *kong.ParseError
	if errors.As(err, &parse) && parse.Context != nil {
		if path := commandPath(parse.Context); path != "" {
			help = programName + " " + path + " --help"
		}
	}
	if flag, _, found := strings.Cut(message, ": "); found && strings.HasPrefix(flag, "--") {
		given := slices.ContainsFunc(args, func(arg string) bool { return arg == flag || strings.HasPrefix(arg, flag+"=") })
		name := variable(strings.TrimPrefix(flag, "--"))
		if value, _ := t.getenv(name); value != "" && !given {
			message += " (from " + name + ")"
		}
	}
	return &failure{message: message, hint: "see " + help, code: exitUsage}
}

// commandPath is the command that was recognised before the error, "keys create".
func commandPath(ctx *kong.Context) string {
	var names []string
	for _, p := range ctx.Path {
		if p.Command != nil {
			names = append(names, p.Command.Name)
		}
	}
	return strings.Join(names, " ")
}
