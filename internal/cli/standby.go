package cli

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"shareai/internal/account"
	"shareai/internal/standby"
	"shareai/internal/telemetry"
)

type standbyCommand struct {
	Primary string            `required:"" placeholder:"URL" help:"Base URL of the provider, as the SDK had it."`
	Gateway string            `required:"" placeholder:"URL" help:"Base URL of the ShareAI gateway."`
	Key     string            `required:"" placeholder:"KEY" help:"API key of the gateway. Better set by the environment."`
	Listen  string            `default:"127.0.0.1:8081" placeholder:"HOST:PORT" help:"Where the application finds it. Default: 127.0.0.1:8081."`
	Model   map[string]string `placeholder:"THEIRS=OURS" help:"What a model of the provider is called at the gateway; may be repeated. Default: the same."`

	ConnectTimeout    time.Duration `default:"2s" placeholder:"SPAN" help:"For TCP, and for TLS. Default: 2s."`
	HeaderTimeout     time.Duration `default:"30s" placeholder:"SPAN" help:"Streams: until the provider's answer begins. Default: 30s."`
	FirstTokenTimeout time.Duration `default:"30s" placeholder:"SPAN" help:"Streams: until the first content comes. Default: 30s."`
	IdleTimeout       time.Duration `default:"30s" placeholder:"SPAN" help:"Streams: between two pieces after that. Default: 30s."`
	AnswerTimeout     time.Duration `default:"5m" placeholder:"SPAN" help:"All others: until the whole answer is there. Default: 5m."`

	LogFormat logFormat `placeholder:"FORMAT" help:"text or json. Default: text."`
	LogLevel  logLevel  `placeholder:"LEVEL" help:"debug, info, warn or error. Default: info."`
}

// Help is the long help.
func (standbyCommand) Help() string {
	return `The safety net: the application keeps its SDK, its provider and that provider's key, and only its base URL becomes
http://127.0.0.1:8081/v1. Requests go straight to the provider as long as it is well, and to the gateway when it is not.

The gateway's key is at the disposal of whoever reaches the address: keep it on this machine.

    SHAREAI_KEY=sk-… shareai standby --primary https://api.example.com/v1 --gateway https://ai.example.org
    shareai standby … --model gpt-large=llama-3.3-70b --model gpt-small=llama-3.1-8b`
}

// Run runs the stand-by until ctx ends.
func (c *standbyCommand) Run(ctx context.Context, t *terminal) error {
	options, err := c.options(t)
	if err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", c.Listen)
	if err != nil {
		return &failure{message: fmt.Sprintf("can not listen on %q", c.Listen), hint: "use host:port such as 127.0.0.1:8081 with --listen (" + err.Error() + ")", cause: err}
	}
	log := options.Log
	if at, err := netip.ParseAddrPort(listener.Addr().String()); err == nil && !at.Addr().IsLoopback() {
		log.Warn("other machines can reach this address and use the gateway's key through it", "listen", listener.Addr().String())
	}
	log.Info("standing by", "listen", listener.Addr().String(), "primary", c.Primary, "gateway", c.Gateway)
	s := standby.New(options)
	defer s.Close()
	return standby.Serve(ctx, listener, s, log)
}

// options are the flags as the stand-by takes them.
func (c *standbyCommand) options(t *terminal) (standby.Options, error) {
	log, err := telemetry.NewLogger(t.err, telemetry.Format(c.LogFormat), c.LogLevel.or(slog.LevelInfo))
	if err != nil {
		return standby.Options{}, err
	}
	primary, err := webAddress("--primary", c.Primary)
	if err != nil {
		return standby.Options{}, err
	}
	gateway, err := webAddress("--gateway", c.Gateway)
	if err != nil {
		return standby.Options{}, err
	}
	for flag, span := range map[string]time.Duration{
		"--connect-timeout": c.ConnectTimeout, "--header-timeout": c.HeaderTimeout, "--first-token-timeout": c.FirstTokenTimeout,
		"--idle-timeout": c.IdleTimeout, "--answer-timeout": c.AnswerTimeout,
	} {
		if span <= 0 {
			return standby.Options{}, &failure{message: flag + " must be longer than nothing", hint: "give a span such as 30s or 5m", code: exitUsage}
		}
	}
	return standby.Options{
		Primary: primary, Gateway: gateway, Key: account.NewSecret(c.Key), Models: c.Model, Log: log,
		Timeouts: standby.Timeouts{
			Connect: c.ConnectTimeout, Headers: c.HeaderTimeout, FirstToken: c.FirstTokenTimeout,
			Idle: c.IdleTimeout, Answer: c.AnswerTimeout,
		},
	}, nil
}

// webAddress reads a base URL. What it has beside scheme, host and path would be sent somewhere, or logged.
func webAddress(flag, text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return nil, &failure{message: flag + " is no address of a web server", hint: "give a URL such as https://api.example.com/v1", code: exitUsage}
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, &failure{message: flag + " has more than a host and a path", hint: "leave out user, password, ? and #: " + strings.Join([]string{u.Scheme, "://", u.Host, u.EscapedPath()}, ""), code: exitUsage}
	}
	return u, nil
}
