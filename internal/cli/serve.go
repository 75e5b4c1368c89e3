package cli

import (
	"context"
	"log/slog"

	"shareai/internal/app"
)

type serveCommand struct {
	Listen       string `placeholder:"HOST:PORT" help:"Where the API listens. Default: as the file says, or 127.0.0.1:8080."`
	AdminListen  string `placeholder:"HOST:PORT" help:"A listener of its own for metrics and administration. Default: the API's."`
	place        `group:"Where the gateway keeps its data:"`
	OTLPEndpoint string    `name:"otlp-endpoint" placeholder:"URL" help:"OTLP/HTTP collector that gets a trace of every request. Default: none."`
	LogFormat    logFormat `placeholder:"FORMAT" help:"text or json. Default: text."`
	LogLevel     logLevel  `placeholder:"LEVEL" help:"debug (a line for each request), info, warn or error. Default: info."`
}

// Help is the long help.
func (serveCommand) Help() string {
	return `Without a configuration file the gateway starts empty, with its SQLite database in ./data: enough to
answer, but with no model to offer. See "shareai demo" for a gateway with models, and its file for an example.

A changed file, or SIGHUP, puts the new configuration in force without dropping a request; a file with a
mistake changes nothing and is reported. SIGTERM or Ctrl-C lets running requests end first.

    shareai serve --config shareai.yaml
    SHAREAI_DATABASE=postgres://user:password@db/shareai shareai serve --config shareai.yaml --log-format json`
}

// Run runs the gateway until ctx ends.
func (c *serveCommand) Run(ctx context.Context, t *terminal) error {
	s := c.settings(t)
	s.Listen, s.AdminListen, s.OTLPEndpoint = c.Listen, c.AdminListen, c.OTLPEndpoint
	s.Log = app.LogSettings{Format: string(c.LogFormat), Level: c.LogLevel.or(slog.LevelInfo)}
	return app.Serve(ctx, s)
}
