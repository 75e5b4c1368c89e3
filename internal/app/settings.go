package app

import (
	"cmp"
	"io"
	"log/slog"
	"os"
	"time"

	"shareai/internal/account"
	"shareai/internal/config"
)

// Settings are what flags and environment variables say. What they leave empty, the configuration
// file says, and what that leaves out has its default.
type Settings struct {
	ConfigFile string // empty: there is none

	Listen      string         // host:port of the API
	AdminListen string         // host:port of metrics and administration
	DataDir     string         // made when it is missing
	Database    string         // postgres:// URL
	Redis       string         // redis:// URL
	SecretsKey  account.Secret // seals provider keys
	PublicURL   string         // where users and nodes reach the gateway
	PeerURL     string         // where other replicas reach this one
	Downloads   string         // directory of what /install.sh installs

	Log LogSettings
	// OTLPEndpoint is the base URL of an OTLP/HTTP collector. Empty: no traces are made.
	OTLPEndpoint string
	// Grace is how long running requests may go on after the process was told to stop. Zero: 30 s.
	Grace time.Duration
	// Flush is how long stopping waits after that until every usage record is stored. What is not
	// stored by then waits in the journal for the next start. Zero: 10 s.
	Flush time.Duration

	// Program is how the user called this program, for commands to copy. Empty: shareai.
	Program string
	// Version is shown by `/` and in metrics and traces.
	Version string
	// Getenv looks up the variables that the configuration file names. Nil: os.LookupEnv.
	Getenv func(string) (string, bool)
	// Stderr takes the log. Nil: os.Stderr.
	Stderr io.Writer
	// Ready is called once, when all listeners accept. Nil: nobody is told.
	Ready func(Addresses)
}

// LogSettings say how and how much is logged.
type LogSettings struct {
	Format string // text or json; empty: text
	// Level is the least level that is logged. The zero value is info; at debug there is a line for
	// each request.
	Level slog.Level
}

// Addresses are where a running instance listens, as host:port with the real port.
type Addresses struct {
	API   string
	Admin string // empty: the same listener
}

const (
	defaultGrace = 30 * time.Second
	defaultFlush = 10 * time.Second
)

func (s Settings) withDefaults() Settings {
	s.Grace = cmp.Or(s.Grace, defaultGrace)
	s.Flush = cmp.Or(s.Flush, defaultFlush)
	s.Program = cmp.Or(s.Program, "shareai")
	s.Version = cmp.Or(s.Version, "unknown")
	if s.Getenv == nil {
		s.Getenv = os.LookupEnv
	}
	if s.Stderr == nil {
		s.Stderr = os.Stderr
	}
	return s
}

// over returns what the file says with what the settings say in its place.
func (s Settings) over(file config.Boot) config.Boot {
	boot := file
	boot.Listen = cmp.Or(s.Listen, file.Listen)
	boot.AdminListen = cmp.Or(s.AdminListen, file.AdminListen)
	boot.DataDir = cmp.Or(s.DataDir, file.DataDir)
	boot.Database = firstSecret(account.NewSecret(s.Database), file.Database)
	boot.Redis = firstSecret(account.NewSecret(s.Redis), file.Redis)
	boot.SecretsKey = firstSecret(s.SecretsKey, file.SecretsKey)
	boot.PublicURL = cmp.Or(s.PublicURL, file.PublicURL)
	boot.PeerURL = cmp.Or(s.PeerURL, file.PeerURL)
	boot.Downloads = cmp.Or(s.Downloads, file.Downloads)
	return boot
}

// firstSecret is cmp.Or for secrets, which can not be compared by ==.
func firstSecret(a, b account.Secret) account.Secret {
	if a.Empty() {
		return b
	}
	return a
}

// changed names the settings that differ between two starts.
func changed(before, after config.Boot) []string {
	var names []string
	for _, s := range []struct {
		name string
		same bool
	}{
		{"listen", before.Listen == after.Listen},
		{"admin_listen", before.AdminListen == after.AdminListen},
		{"data_dir", before.DataDir == after.DataDir},
		{"database", before.Database.Equal(after.Database)},
		{"redis", before.Redis.Equal(after.Redis)},
		{"secrets_key", before.SecretsKey.Equal(after.SecretsKey)},
		{"retention", before.Retention == after.Retention},
		{"public_url", before.PublicURL == after.PublicURL},
		{"peer_url", before.PeerURL == after.PeerURL},
		{"downloads", before.Downloads == after.Downloads},
	} {
		if !s.same {
			names = append(names, s.name)
		}
	}
	return names
}
