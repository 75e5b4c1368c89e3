package cli

import (
	"context"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"shareai/internal/node"
	"shareai/internal/service"
)

// nodeService is the agent's name at service managers; the packages know it, too.
const nodeService = "shareai-node"

// comesUp is how long a service may take until its agent answers.
const comesUp = 10 * time.Second

// serviceScope says whose service a command works with.
type serviceScope struct {
	User bool `help:"The service of this user, which runs while the user is signed in, in place of that of the machine."`
}

func (s serviceScope) scope() service.Scope {
	if s.User {
		return service.OfUser
	}
	return service.OfMachine
}

// machineNodeDir is where the agent keeps its data as a service of the machine.
func machineNodeDir(getenv func(string) (string, bool)) string {
	switch runtime.GOOS {
	case "windows":
		if dir, _ := getenv("ProgramData"); dir != "" {
			return filepath.Join(dir, "ShareAI", "node")
		}
		return `C:\ProgramData\ShareAI\node`
	case "darwin":
		return "/Library/Application Support/shareai/node"
	default:
		return "/var/lib/" + nodeService
	}
}

// agentDir is the folder of the agent that a command speaks to: this user's own, or that of the machine where there is
// no other.
func (p *nodePlace) agentDir() (string, error) {
	dir, err := p.dir()
	if err != nil || p.DataDir != "" {
		return dir, err
	}
	machine := machineNodeDir(os.LookupEnv)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(machine); err == nil {
			return machine, nil
		}
	}
	return dir, nil
}

// folder is where the agent of the service keeps its data.
func (s serviceScope) folder(given nodePlace, getenv func(string) (string, bool)) (string, error) {
	dir := machineNodeDir(getenv)
	if s.User {
		var err error
		if dir, err = given.dir(); err != nil {
			return "", err
		}
	} else if given.DataDir != "" {
		dir = given.DataDir
	}
	dir, err := filepath.Abs(dir) // the service starts in another one
	if err == nil && !s.User && runtime.GOOS == "linux" && filepath.Dir(dir) != "/var/lib" {
		return "", &failure{
			message: "a service of the machine keeps its data below /var/lib, not in " + dir,
			hint:    "leave --data-dir out for " + machineNodeDir(getenv), code: exitUsage,
		}
	}
	return dir, err
}

func (s serviceScope) open(dir string, arguments []string) (*service.Service, error) {
	found, err := service.New(service.Unit{
		Name: nodeService, Title: "ShareAI node", Description: "Serves local models to a ShareAI gateway",
		Arguments: arguments, Scope: s.scope(), Folder: dir,
	})
	if errors.Is(err, service.ErrNoManager) {
		return nil, &failure{
			message: "this machine has no service manager (systemd, launchd or Windows), as containers mostly have none",
			hint:    "run the agent in the foreground, under whatever starts programs here: " + programName + " node run --gateway URL --token TOKEN", cause: err,
		}
	}
	return found, err
}

type nodeInstallCommand struct {
	nodeRunCommand
	serviceScope
}

// Help is the long help.
func (nodeInstallCommand) Help() string {
	return `It enrols the machine, unless it is a node already, and has systemd, launchd or Windows run the agent from now
on: now, when the machine starts, and after a failure. The service runs "shareai node run" with the flags that are
given here. Run it again to change them.

A service of the machine needs root, or an administrator. With --user it is yours, and runs while you are signed in.
Addresses of proxies (HTTPS_PROXY, HTTP_PROXY, NO_PROXY) are kept from the environment of this command.

    sudo shareai node install --gateway https://ai.example.org --token TOKEN
    shareai node install --user --gateway https://ai.example.org --token TOKEN --serve idle`
}

// Run enrols the machine and registers the service.
func (c *nodeInstallCommand) Run(ctx context.Context, t *terminal) error {
	dir, err := c.folder(c.nodePlace, t.getenv)
	if err != nil {
		return ownerFailure(err)
	}
	c.DataDir = dir
	arguments, err := c.arguments()
	if err != nil {
		return err
	}
	s, err := c.open(dir, arguments)
	if err != nil {
		return err
	}
	if err := s.Allowed(); err != nil { // before the token is used up
		return err
	}
	who, err := c.enrol(ctx, t)
	if err != nil {
		return err
	}
	if err := s.Install(); err != nil {
		return err
	}
	if err := s.Start(); err != nil {
		return err
	}
	t.print("The service %s runs the node %s of %s", nodeService, t.styled(bold, who.Name), who.Organization)
	if !answers(ctx, dir) {
		t.print(" as soon as it starts. It has not answered yet; its log says why: %s\n", logHint(c.serviceScope, dir))
		return nil
	}
	t.print(".\nSee how it is: %s\n", c.command(t, "status"))
	if c.User && runtime.GOOS == "linux" {
		t.print("It ends when you sign out, unless you allow it to stay: loginctl enable-linger\n")
	}
	return nil
}

// enrol makes the machine a node, in the folder that the service is going to have.
func (c *nodeInstallCommand) enrol(ctx context.Context, t *terminal) (node.Enrolled, error) {
	settings, err := c.settings(t)
	if err != nil {
		return node.Enrolled{}, ownerFailure(err)
	}
	dir := settings.DataDir
	if !c.User {
		err = service.Protect(dir)
	}
	var who node.Enrolled
	if err == nil {
		who, err = node.Enrol(ctx, settings, t.getenv)
	}
	if err == nil {
		err = node.KeepProxies(dir, t.getenv)
	}
	if err == nil && c.CAFile != "" {
		err = node.KeepCA(dir, c.CAFile)
	}
	if err == nil && !c.User {
		err = service.HandOver(dir)
	}
	if err == nil && who.Before && c.Token != "" {
		t.print("This machine is the node %s of %s already; the token was not used.\n", who.Name, who.Organization)
	}
	return who, ownerFailure(err)
}

// command is a command for the user to copy.
func (s serviceScope) command(t *terminal, name string) string {
	command := t.program + " node " + name
	if !s.User && runtime.GOOS != "windows" {
		command = "sudo " + command
	}
	if s.User && name != "status" {
		command += " --user"
	}
	return command
}

// logHint says where a service's log is.
func logHint(s serviceScope, dir string) string {
	switch {
	case runtime.GOOS == "linux" && s.User:
		return "journalctl --user -u " + nodeService
	case runtime.GOOS == "linux":
		return "journalctl -u " + nodeService
	default:
		return filepath.Join(dir, nodeService+".log")
	}
}

// answers waits until the agent of a folder answers.
func answers(ctx context.Context, dir string) bool {
	ctx, cancel := context.WithTimeout(ctx, comesUp)
	defer cancel()
	owner := node.NewOwner(dir)
	defer owner.Close()
	tick := time.NewTicker(comesUp / 50)
	defer tick.Stop()
	for {
		if _, err := owner.Status(ctx); err == nil {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
}

// arguments are the command line of the service, with every flag that decides how the agent runs. The token is left out:
// it was used. So is the name, which the node has by then.
func (c *nodeRunCommand) arguments() ([]string, error) {
	list := []string{"node", "run", "--data-dir=" + c.DataDir}
	text := func(flag, value string) {
		if value != "" {
			list = append(list, "--"+flag+"="+value)
		}
	}
	span := func(flag string, d time.Duration) {
		if d != 0 {
			text(flag, d.String())
		}
	}
	number := func(flag string, n float64) {
		if n != 0 {
			text(flag, strconv.FormatFloat(n, 'f', -1, 64))
		}
	}
	if u, err := url.Parse(c.Gateway); err == nil && u.User != nil {
		return nil, &failure{message: "--gateway has a password in it, which every user of this machine could read", hint: "give the address alone", code: exitUsage}
	}
	text("gateway", c.Gateway)
	for _, e := range c.Engine {
		text("engine", e)
	}
	if c.CAFile != "" {
		text("ca-file", node.KeptCA(c.DataDir))
	}
	text("discover", c.Discover)
	number("concurrency", float64(c.Concurrency))
	number("tokens-per-day", float64(c.DailyTokens))
	text("serve", c.Serve)
	for _, h := range c.Hours {
		text("hours", h)
	}
	if c.Grace != nil {
		text("grace", c.Grace.String())
	}
	span("stop-grace", c.StopGrace)
	span("idle-after", c.IdleAfter)
	number("idle-cpu", c.IdleCPU)
	number("idle-gpu", c.IdleGPU)
	if c.OnBattery {
		list = append(list, "--on-battery")
	}
	text("log-format", string(c.LogFormat))
	if c.LogLevel.set {
		text("log-level", strings.ToLower(c.LogLevel.level.String()))
	}
	return list, nil
}

// maxServiceLog is the size at which the log of a Windows service begins anew; the one before is kept.
const maxServiceLog = 10 << 20

// hosted runs the agent as the manager of this system wants it. Under that of Windows there is nobody who reads the
// output: the log is a file beside the data.
func (c *nodeRunCommand) hosted(ctx context.Context, t *terminal, work func(context.Context, *terminal) error) error {
	if !service.Hosted() {
		return work(ctx, t)
	}
	dir, err := c.dir()
	if err != nil {
		return err
	}
	path := filepath.Join(dir, nodeService+".log")
	if about, err := os.Stat(path); err == nil && about.Size() > maxServiceLog {
		_ = os.Rename(path, path+".1")
	}
	log, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	own := *t
	own.out, own.err, own.colors = log, log, false
	return service.Run(ctx, nodeService, func(ctx context.Context) error {
		err := work(ctx, &own)
		_ = own.exit(err) // in the log
		return err
	})
}

type nodeStartCommand struct{ serviceScope }

// Run starts the service.
func (c *nodeStartCommand) Run(ctx context.Context, t *terminal) error {
	s, err := c.installed(t)
	if err == nil {
		err = s.Start()
	}
	if err == nil {
		t.print("Started. See how it is: %s\n", c.command(t, "status"))
	}
	return err
}

type nodeStopCommand struct{ serviceScope }

// Run stops the service.
func (c *nodeStopCommand) Run(ctx context.Context, t *terminal) error {
	s, err := c.installed(t)
	if err == nil {
		err = s.Stop()
	}
	if err == nil {
		t.print("Stopped; it starts again with the machine. To take no requests for longer: %s\n", c.command(t, "pause"))
	}
	return err
}

// installed is the service, which has to be there.
func (s serviceScope) installed(t *terminal) (*service.Service, error) {
	found, err := s.open("", nil)
	if err != nil {
		return nil, err
	}
	if err := found.Allowed(); err != nil {
		return nil, err
	}
	if state, err := found.State(); err != nil || state == service.NotInstalled {
		return nil, errors.Join(err, &failure{
			message: "the agent is not installed as a service" + map[bool]string{true: " of this user"}[s.User],
			hint:    "install it: " + s.command(t, "install") + " --gateway URL --token TOKEN",
		})
	}
	return found, nil
}

type nodeUninstallCommand struct {
	Purge bool `help:"Remove its data as well: the key with which it is a node, its settings, its counts."`
	serviceScope
	nodePlace
}

// Run removes the service.
func (c *nodeUninstallCommand) Run(_ context.Context, t *terminal) error {
	dir, err := c.folder(c.nodePlace, t.getenv)
	if err != nil {
		return ownerFailure(err)
	}
	s, err := c.open(dir, nil)
	if err != nil {
		return err
	}
	had, err := s.Uninstall()
	if err != nil {
		return err
	}
	if had {
		t.print("The service %s is removed.\n", nodeService)
	} else {
		t.print("There is no service %s.\n", nodeService)
	}
	if !c.Purge {
		t.print("Its data stays in %s; --purge removes it, too.\n", dir)
		return nil
	}
	if err := node.Purge(dir); err != nil {
		return ownerFailure(err)
	}
	t.print("Its data is removed. At the gateway its name stays until somebody revokes the node: %s nodes revoke NAME\n", programName)
	return nil
}
