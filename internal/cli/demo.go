package cli

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"text/template"

	"github.com/goccy/go-yaml"

	"shareai/internal/account"
	"shareai/internal/app"
)

type demoCommand struct {
	Listen   string   `placeholder:"HOST:PORT" help:"Where the API listens; port 0 takes a free one. Default: as the file says, 127.0.0.1:8080."`
	DataDir  string   `default:"${demo_dir}" placeholder:"DIR" help:"Where the demo keeps everything. Default: ${demo_dir}."`
	Node     bool     `default:"true" negatable:"" help:"Start a node beside the gateway, in a process of its own."`
	DemoKey  string   `placeholder:"KEY" help:"The demo's API key, when its file is first written. Default: generated."`
	LogLevel logLevel `placeholder:"LEVEL" help:"debug (a line for each request), info, warn or error. Default: warn."`
	output
}

// Help is the long help.
func (demoCommand) Help() string {
	return `The first start writes shareai.yaml into the directory: two simulated providers, a third one that always
fails, three models and an API key. A node runs beside it, in a process of its own, and serves one of the models. Change it while the demo runs and see what happens; delete the directory to
begin anew.`
}

// defaultDemoDir is where the demo lives unless told otherwise.
const defaultDemoDir = "data/demo"

// The files of a demo's directory.
const (
	demoConfig = "shareai.yaml" // holds the API key, so that it is readable by its owner only
	demoURL    = "gateway.url"  // where the demo listens, while it runs
)

//go:embed demo.yaml
var demoTemplate string

// Run runs the demo until ctx ends.
func (c *demoCommand) Run(ctx context.Context, t *terminal) error {
	path := filepath.Join(c.DataDir, demoConfig)
	if err := c.write(path); err != nil {
		return err
	}
	keys, err := demoKeys(path, t.getenv)
	if err != nil {
		return err
	}
	key := keys.first
	if c.DemoKey != "" && c.DemoKey != key {
		return &failure{
			message: path + " has another API key than the one that was given",
			hint:    "unset SHAREAI_DEMO_KEY, or delete the directory to begin anew",
		}
	}
	url := filepath.Join(c.DataDir, demoURL)
	defer func() { _ = os.Remove(url) }()
	settings := app.Settings{
		ConfigFile: path, Listen: c.Listen,
		Log:     app.LogSettings{Level: c.LogLevel.or(slog.LevelWarn)},
		Program: t.program, Version: t.version, Getenv: t.getenv, Stderr: t.err,
	}
	stopNode := func() {}
	settings.Ready = func(a app.Addresses) {
		d := demo{Gateway: "http://" + reachable(a.API), Key: key, Config: path}
		if err := os.WriteFile(url, []byte(d.Gateway+"\n"), 0o644); err != nil {
			_, _ = fmt.Fprintf(t.err, "%s: `smoke` will not find this demo by itself: %v\n", programName, err)
		}
		if c.Node {
			stop, err := c.startNode(ctx, t, d.Gateway, settings)
			if err != nil {
				_, _ = fmt.Fprintf(t.err, "%s: the demo goes on without its node: %v\n", programName, err)
			} else {
				stopNode = stop
			}
		}
		c.announce(t, d)
	}
	err = app.Serve(ctx, settings)
	stopNode()
	if errors.Is(err, syscall.EADDRINUSE) {
		message, _ := explain(err)
		return &failure{message: message, hint: "choose another: " + t.program + " demo --listen 127.0.0.1:0 takes any free port", cause: err}
	}
	return err
}

// write makes the demo's file unless there is one.
func (c *demoCommand) write(path string) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	key := c.DemoKey
	if key == "" {
		key = account.GenerateKey().Reveal()
	}
	dir, err := filepath.Abs(c.DataDir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	var text strings.Builder
	values := map[string]string{
		"DataDir": strconv.Quote(dir), "Key": strconv.Quote(key),
		"RateKey": strconv.Quote(account.GenerateKey().Reveal()), "QuotaKey": strconv.Quote(account.GenerateKey().Reveal()),
	}
	if err := template.Must(template.New(demoConfig).Parse(demoTemplate)).Execute(&text, values); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text.String()), 0o600)
}

// keysOfDemo are the API keys of the demo's file: the first one that it declares, and those whose limits are there to be
// used up. One that it does not have is empty.
type keysOfDemo struct{ first, rate, quota string }

func demoKeys(path string, getenv func(string) (string, bool)) (keys keysOfDemo, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return keys, err
	}
	var file struct {
		Organizations []struct {
			Name     string `yaml:"name"`
			Projects []struct {
				Keys []struct {
					Secret string `yaml:"secret"`
				} `yaml:"keys"`
			} `yaml:"projects"`
		} `yaml:"organizations"`
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		return keys, &failure{message: path + " is not valid", hint: programName + " config check " + path, cause: err}
	}
	for _, o := range file.Organizations {
		into := &keys.first
		switch o.Name {
		case "demo-rate":
			into = &keys.rate
		case "demo-quota":
			into = &keys.quota
		}
		for _, p := range o.Projects {
			for _, k := range p.Keys {
				*into = cmp.Or(*into, os.Expand(k.Secret, func(name string) string { value, _ := getenv(name); return value }))
			}
		}
	}
	return keys, nil
}

// reachable is the address by which a listener on this machine can be reached: one that listens on all
// interfaces has none of its own.
func reachable(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// demo is a running demo, as JSON.
type demo struct {
	Gateway string `json:"gateway"`
	Key     string `json:"key"`
	Config  string `json:"config"`
}

// announce says that the demo is ready and what to do with it.
func (c *demoCommand) announce(t *terminal, d demo) {
	if c.JSON {
		_ = t.json(d)
		return
	}
	smoke := t.program + " smoke"
	if filepath.Clean(c.DataDir) != filepath.Clean(defaultDemoDir) {
		smoke += " --data-dir " + quote(c.DataDir)
	}
	config := " --config " + quote(d.Config)
	t.print("\n%s\n\n", t.styled(bold, "The ShareAI demo is running. Ctrl-C ends it."))
	t.print("  URL      %s/v1\n", d.Gateway)
	t.print("  API key  %s\n", d.Key)
	t.print("  Models   demo-chat, demo-embed, and demo-failover, whose first provider is down\n")
	t.print("  Node     %s, which serves demo-chat as well, from a process of its own\n", demoNodeName)
	t.print("  File     %s: change it while the demo runs\n\n", d.Config)
	t.print("Ask for an answer:\n\n%s\n", d.curl("curl", `{"model": "demo-chat", "messages": [{"role": "user", "content": "Hello!"}]}`))
	t.print("The same as a stream:\n\n%s\n", d.curl("curl -N", `{"model": "demo-chat", "stream": true, "messages": [{"role": "user", "content": "Hello!"}]}`))
	t.print("Then see what happened:\n\n")
	t.print("  %s\n", smoke)
	t.print("  %s usage%s\n", t.program, config)
	t.print("  %s trace%s REQUEST_ID\n\n", t.program, config)
	t.print("REQUEST_ID is the header x-request-id of an answer; curl -i shows it.\n")
}

// curl is a command line to paste into a shell.
func (d demo) curl(command, body string) string {
	return fmt.Sprintf("  %s %s/v1/chat/completions \\\n    -H %s \\\n    -H 'Content-Type: application/json' \\\n    -d %s\n",
		command, d.Gateway, quote("Authorization: Bearer "+d.Key), quote(body))
}

// quote makes one word of a POSIX shell. What has no special meaning stays as it is.
func quote(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-./:@%+=,", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
