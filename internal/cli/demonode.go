package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"shareai/internal/account"
	"shareai/internal/app"
	"shareai/internal/catalog"
	"shareai/internal/control"
	"shareai/internal/node"
	"shareai/internal/telemetry"
	"shareai/internal/upstream"
)

// demoNodeName is what the demo calls its node.
const demoNodeName = "demo-node"

// demoNodeTime is how long the demo's node may take to end.
const demoNodeTime = 10 * time.Second

// demoNodeCommand is the demo's node: the agent that users run, in a process of its own, in front of a simulated engine.
// It is no command for users.
type demoNodeCommand struct {
	Gateway string `required:""`
	Token   string
	DataDir string `required:""`
}

// Run serves until ctx ends or whoever started it is gone, whose end of the standard input then closes.
func (c *demoNodeCommand) Run(ctx context.Context, t *terminal) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	engine := &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		Handler: upstream.SimulatedEngine(&catalog.Provider{
			Name: demoNodeName, Simulation: catalog.Simulation{Latency: 60 * time.Millisecond, TokensPerSecond: 120, Tokens: 32},
		}, "demo-chat"),
	}
	defer func() { _ = engine.Close() }()
	go func() { _ = engine.Serve(listener) }()
	log, err := telemetry.NewLogger(t.err, telemetry.Text, slog.LevelError)
	if err != nil {
		return err
	}
	return node.Run(ctx, node.Settings{
		Gateway: c.Gateway, Token: account.NewSecret(c.Token), DataDir: c.DataDir, Discover: node.DiscoverOff, Concurrency: 8,
		Engines: []node.EngineAddress{{URL: "http://" + listener.Addr().String()}},
		Version: t.version, Log: log,
	}, t.getenv)
}

// startNode starts the demo's node in a process of its own, and returns what ends it. Its first start needs a token.
func (c *demoCommand) startNode(ctx context.Context, t *terminal, gateway string, s app.Settings) (stop func(), err error) {
	dir := filepath.Join(c.DataDir, "node")
	token, err := demoToken(ctx, dir, s)
	if err != nil {
		return nil, err
	}
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, program, "demo-node", "--gateway", gateway, "--data-dir", dir)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), "SHAREAI_TOKEN="+token.Reveal())
	cmd.Stderr = t.err
	alive, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	cmd.Cancel = alive.Close // it ends in order
	cmd.WaitDelay = demoNodeTime
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return func() {
		_ = alive.Close()
		_ = cmd.Wait()
	}, nil
}

// demoToken makes a token, unless the node is enrolled.
func demoToken(ctx context.Context, dir string, s app.Settings) (account.Secret, error) {
	if _, err := os.Stat(filepath.Join(dir, "identity.json")); !errors.Is(err, fs.ErrNotExist) {
		return account.Secret{}, err
	}
	local, err := app.OpenLocal(ctx, s)
	if err != nil {
		return account.Secret{}, err
	}
	defer func() { _ = local.Close() }()
	made, err := local.Control.CreateNodeToken(ctx, control.NodeTokenRequest{Organization: "demo", Name: demoNodeName})
	if err != nil {
		return account.Secret{}, fmt.Errorf("make a token for the demo's node: %w", err)
	}
	return made.Secret, nil
}
