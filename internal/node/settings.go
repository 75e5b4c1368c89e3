package node

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"shareai/internal/account"
)

// Settings are what the owner decides. A zero value means: as node.yaml says, else the default.
type Settings struct {
	Gateway string         // base URL; needed for the enrolment only
	Token   account.Secret // likewise
	Name    string         // that the node would like to have; default: the host's
	DataDir string         // default: DefaultDataDir
	CAFile  string         // certificates, in PEM, that are trusted beside the system's

	Engines     []EngineAddress
	Discover    Discovery // default: DiscoverAll
	Concurrency int       // requests at once; default: as many as the engines work on
	DailyTokens int64     // of prompts and answers, by the machine's local time; default: no limit
	Rules       Rules
	StopGrace   time.Duration // how long requests that run may go on when the agent is stopped; default 30 s

	Version string // of the agent
	Log     *slog.Logger
	Sensors Sensors // default: those of this machine

	listeners func(context.Context) ([]netip.AddrPort, error) // default: those of this machine
	pace      pace                                            // default: usualPace
}

// Sensors read the machine. It is called by one goroutine, and may take seconds.
type Sensors interface {
	Read(ctx context.Context, w Work) Readings
}

// pace is how often the agent looks around.
type pace struct{ scan, sense, step time.Duration }

// The defaults of rules.
const (
	defaultGrace     = 10 * time.Second
	defaultStopGrace = 30 * time.Second
	defaultAfter     = 5 * time.Minute
	defaultCPU       = 0.25
	defaultGPU       = 0.2
)

// DefaultDataDir is the folder for the data of this user's node.
func DefaultDataDir() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", &Problem{Message: "this user has no folder for settings", Hint: "give --data-dir", Cause: err}
	}
	return filepath.Join(dir, "shareai", "node"), nil
}

// settingsDocument is node.yaml.
type settingsDocument struct {
	Gateway     string         `yaml:"gateway"`
	Name        string         `yaml:"name"`
	CAFile      string         `yaml:"ca_file"`
	Engines     []engineEntry  `yaml:"engines"`
	Discover    Discovery      `yaml:"discover"`
	Concurrency int            `yaml:"concurrency"`
	DailyTokens int64          `yaml:"tokens_per_day"`
	Serve       Mode           `yaml:"serve"`
	Hours       []string       `yaml:"hours"`
	Grace       *time.Duration `yaml:"grace"`
	StopGrace   time.Duration  `yaml:"stop_grace"`
	Idle        idleDocument   `yaml:"idle"`
}

type engineEntry struct {
	URL  string `yaml:"url"`
	Name string `yaml:"name"`
	Key  string `yaml:"key"` // or ${NAME} of the environment
}

type idleDocument struct {
	After     time.Duration `yaml:"after"`
	CPU       float64       `yaml:"cpu"`
	GPU       float64       `yaml:"gpu"`
	OnBattery bool          `yaml:"on_battery"`
}

// complete adds what node.yaml says and the defaults, and checks the whole.
func (s Settings) complete(getenv func(string) (string, bool)) (Settings, error) {
	text, err := os.ReadFile(folder(s.DataDir).path(settingsFile))
	if err == nil {
		err = s.addDocument(text, getenv)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return s, err
	}
	r := &s.Rules
	s.Discover = cmp.Or(s.Discover, DiscoverAll)
	s.StopGrace = cmp.Or(s.StopGrace, defaultStopGrace)
	s.pace = cmp.Or(s.pace, pace{scan: 10 * time.Second, sense: 5 * time.Second, step: time.Second})
	r.Mode = cmp.Or(r.Mode, Always)
	r.After, r.CPU, r.GPU = cmp.Or(r.After, defaultAfter), cmp.Or(r.CPU, defaultCPU), cmp.Or(r.GPU, defaultGPU)
	r.Grace = cmp.Or(r.Grace, defaultGrace)
	r.OnBattery = cmp.Or(r.OnBattery, NotOnBattery)
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	s.Gateway = strings.TrimSuffix(strings.TrimSuffix(s.Gateway, "/"), "/v1")
	return s, s.check()
}

// addDocument fills in what the file says and the settings do not.
func (s *Settings) addDocument(text []byte, getenv func(string) (string, bool)) error {
	wrong := func(err error) error {
		return &Problem{Message: folder(s.DataDir).path(settingsFile) + ": " + err.Error(), Hint: "docs/nodes.md lists what the file may say", Cause: err}
	}
	var d settingsDocument
	if err := yaml.UnmarshalWithOptions(text, &d, yaml.Strict()); err != nil {
		return wrong(errors.New(yaml.FormatError(err, false, false))) // the lines themselves may hold a key
	}
	s.Gateway, s.Name, s.CAFile = cmp.Or(s.Gateway, d.Gateway), cmp.Or(s.Name, d.Name), cmp.Or(s.CAFile, d.CAFile)
	s.Discover, s.Concurrency = cmp.Or(s.Discover, d.Discover), cmp.Or(s.Concurrency, d.Concurrency)
	s.DailyTokens, s.StopGrace = cmp.Or(s.DailyTokens, d.DailyTokens), cmp.Or(s.StopGrace, d.StopGrace)
	r := &s.Rules
	r.Mode, r.After = cmp.Or(r.Mode, d.Serve), cmp.Or(r.After, d.Idle.After)
	r.CPU, r.GPU = cmp.Or(r.CPU, d.Idle.CPU), cmp.Or(r.GPU, d.Idle.GPU)
	if r.Grace == 0 && d.Grace != nil {
		r.Grace = max(*d.Grace, AtOnce)
	}
	if r.OnBattery == "" && d.Idle.OnBattery {
		r.OnBattery = EvenOnBattery
	}
	if len(r.Hours) == 0 {
		for _, text := range d.Hours {
			w, err := ParseWindow(text)
			if err != nil {
				return wrong(fmt.Errorf("hours: %w", err))
			}
			r.Hours = append(r.Hours, w)
		}
	}
	if len(s.Engines) > 0 {
		return nil
	}
	for _, e := range d.Engines {
		key, err := expand(e.Key, getenv)
		if err != nil {
			return wrong(err)
		}
		s.Engines = append(s.Engines, EngineAddress{URL: e.URL, Name: e.Name, Key: account.NewSecret(key)})
	}
	return nil
}

var variable = regexp.MustCompile(`^\$\{(\w+)\}$`)

// expand replaces a value that is ${NAME} by that variable of the environment.
func expand(value string, getenv func(string) (string, bool)) (string, error) {
	name := variable.FindStringSubmatch(value)
	if name == nil {
		return value, nil
	}
	found, ok := getenv(name[1])
	if !ok || found == "" {
		return "", fmt.Errorf("the environment has no %s", name[1])
	}
	return found, nil
}

// check says what makes no sense.
func (s *Settings) check() error {
	r := &s.Rules
	wrong := func(message, hint string) error { return &Problem{Message: message, Hint: hint} }
	if s.Gateway != "" {
		u, err := url.Parse(s.Gateway)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			return wrong("--gateway is no address of a gateway", "give a URL such as https://ai.example.com")
		}
	}
	switch {
	case r.Mode != Always && r.Mode != Idle && r.Mode != Schedule:
		return wrong(fmt.Sprintf("%q is no way to serve", r.Mode), "use always, idle or schedule")
	case r.Mode == Schedule && len(r.Hours) == 0:
		return wrong("serving by schedule needs hours", `give for example --hours "mon-fri 20:00-08:00" --hours sat,sun`)
	case s.Discover != DiscoverAll && s.Discover != DiscoverUsual && s.Discover != DiscoverOff:
		return wrong(fmt.Sprintf("%q is no way to discover engines", s.Discover), "use all, usual or off")
	case s.Discover == DiscoverOff && len(s.Engines) == 0:
		return wrong("there is nothing to serve: discovery is off and no engine is named", "give --engine URL")
	case s.Concurrency < 0 || s.DailyTokens < 0:
		return wrong("a cap can not be below nothing", "leave it out for no cap")
	case r.CPU < 0 || r.CPU > 1 || r.GPU < 0 || r.GPU > 1:
		return wrong("a share of the processors is between 0 and 1", "0.25 means a quarter")
	case r.After < 0 || s.StopGrace < 0:
		return wrong("a span of time can not be below nothing", "give a span such as 5m")
	}
	return nil
}

// client speaks to the gateway for the enrolment. It follows no redirect: the token is for whom the owner named.
func (s *Settings) client() (*http.Client, error) {
	roots, err := s.roots()
	if err != nil {
		return nil, err
	}
	return &http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: 10 * time.Second,
			DialContext:     (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// roots are the certificates that are trusted; nil: the system's.
func (s *Settings) roots() (*x509.CertPool, error) {
	if s.CAFile == "" {
		return nil, nil //nolint:nilnil // which is what crypto/tls takes for the system's
	}
	text, err := os.ReadFile(s.CAFile)
	if err != nil {
		return nil, &Problem{Message: "the file of --ca-file can not be read", Hint: err.Error(), Cause: err}
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(text) {
		return nil, &Problem{Message: s.CAFile + " has no certificate in it", Hint: "give a file with certificates in PEM (-----BEGIN CERTIFICATE-----)"}
	}
	return pool, nil
}
