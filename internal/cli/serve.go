package cli

import (
	"context"
	"log/slog"

	"shareai/internal/app"
	"shareai/internal/config"
)

type serveCommand struct {
	Listen       string `placeholder:"HOST:PORT" help:"Where the API listens. Default: as the file says, or 127.0.0.1:8080."`
	AdminListen  string `placeholder:"HOST:PORT" help:"A listener of its own for metrics and administration. Default: the API's."`
	PublicURL    string `name:"public-url" placeholder:"URL" help:"Where users and nodes reach the gateway, such as https://ai.example.com. Default: as the file says."`
	PeerURL      string `name:"peer-url" placeholder:"URL" help:"Where other replicas reach this one. Default: as the file says."`
	Downloads    string `placeholder:"DIR" help:"Directory of what /install.sh installs, as make dist makes it. Default: as the file says, or this program alone."`
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
	for flag, address := range map[string]string{"--public-url": c.PublicURL, "--peer-url": c.PeerURL} {
		if address != "" && !config.IsSite(address) {
			return &failure{message: flag + " must be http:// or https:// with a host, and nothing after it", hint: "for example https://ai.example.com", code: exitUsage}
		}
	}
	s := c.settings(t)
	s.Listen, s.AdminListen, s.OTLPEndpoint = c.Listen, c.AdminListen, c.OTLPEndpoint
	s.PublicURL, s.PeerURL, s.Downloads = c.PublicURL, c.PeerURL, c.Downloads
	s.Log = app.LogSettings{Format: string(c.LogFormat), Level: c.LogLevel.or(slog.LevelInfo)}
	return app.Serve(ctx, s)
}
