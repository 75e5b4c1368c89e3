package cli

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"shareai/internal/account"
	"shareai/internal/app"
)

// place says which gateway's data a command works with.
type place struct {
	Config     string `placeholder:"FILE" help:"Configuration file."`
	DataDir    string `placeholder:"DIR" help:"Directory of the database, the journal and the secrets key. Default: as the file says, or ./data."`
	Database   string `placeholder:"URL" help:"postgres:// URL. Default: SQLite in the data directory."`
	Redis      string `placeholder:"URL" help:"redis:// URL that the replicas share. Default: none, one process alone."`
	SecretsKey string `placeholder:"KEY" help:"Seals the keys of providers in the database. Better set by the environment. Default: generated once into the data directory."`
}

func (p *place) settings(t *terminal) app.Settings {
	return app.Settings{
		ConfigFile: p.Config, DataDir: p.DataDir, Database: p.Database, Redis: p.Redis,
		SecretsKey: account.NewSecret(p.SecretsKey),
		Log:        app.LogSettings{Level: slog.LevelWarn},
		Program:    t.program,
		Version:    t.version, Getenv: t.getenv, Stderr: t.err,
	}
}

// open opens the data for a command. The gateway may be running or not.
func (p *place) open(ctx context.Context, t *terminal) (*app.Local, error) {
	return app.OpenLocal(ctx, p.settings(t))
}

// logFormat is text or json; empty means the default, because an environment often sets what it does
// not mean to change to nothing.
type logFormat string

// UnmarshalText reads the flag.
func (f *logFormat) UnmarshalText(text []byte) error {
	switch *f = logFormat(text); *f {
	case "", "text", "json":
		return nil
	default:
		return fmt.Errorf("%q is no log format; use text or json", string(text))
	}
}

// logLevel is a level, or not set.
type logLevel struct {
	level slog.Level
	set   bool
}

// UnmarshalText reads the flag.
func (l *logLevel) UnmarshalText(text []byte) error {
	levels := map[string]slog.Level{
		"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "warning": slog.LevelWarn, "error": slog.LevelError,
	}
	if len(text) == 0 {
		*l = logLevel{}
		return nil
	}
	level, known := levels[strings.ToLower(string(text))]
	if !known {
		return fmt.Errorf("%q is no log level; use debug, info, warn or error", string(text))
	}
	*l = logLevel{level: level, set: true}
	return nil
}

// or returns the level, or another one when none is set.
func (l logLevel) or(other slog.Level) slog.Level {
	if l.set {
		return l.level
	}
	return other
}

// output is the form of a command's result.
type output struct {
	JSON bool `name:"json" help:"Print the result as JSON."`
}
