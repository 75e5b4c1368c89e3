package app

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"shareai/internal/account"
	"shareai/internal/config"
)

// refused is the error of a start that has to fail.
func refused(t *testing.T, s Settings) error {
	t.Helper()
	if s.Listen == "" {
		s.Listen = "127.0.0.1:0"
	}
	if s.DataDir == "" {
		s.DataDir = t.TempDir()
	}
	s.Stderr = &output{}
	i, err := Start(t.Context(), s)
	if err == nil {
		_ = i.Stop()
		t.Fatal("it started")
	}
	return err
}

func TestAStartThatCanNotSucceedSaysWhatToDo(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	other := run(t, "")
	notADir := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(notADir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		settings Settings
		says     []string
		is       error
	}{
		"port taken":         {Settings{Listen: taken.Addr().String()}, []string{taken.Addr().String(), "--listen"}, syscall.EADDRINUSE},
		"port taken, admin":  {Settings{AdminListen: taken.Addr().String()}, []string{taken.Addr().String(), "--admin-listen"}, syscall.EADDRINUSE},
		"no address":         {Settings{Listen: "nonsense"}, []string{"nonsense", "host:port", "--listen"}, nil},
		"address elsewhere":  {Settings{Listen: "192.0.2.1:80"}, []string{"192.0.2.1:80", "127.0.0.1:8080"}, nil},
		"port out of range":  {Settings{Listen: "127.0.0.1:99999"}, []string{"127.0.0.1:99999", "host:port"}, nil},
		"data dir":           {Settings{DataDir: filepath.Join(notADir, "data")}, []string{notADir, "can not be written", "--data-dir"}, nil},
		"journal in use":     {Settings{DataDir: filepath.Join(other.dir, "data")}, []string{filepath.Join(other.dir, "data"), "--data-dir"}, nil},
		"database away":      {Settings{Database: "postgres://u:hunter22@127.0.0.1:1/x?connect_timeout=2"}, []string{"127.0.0.1:1"}, nil},
		"database malformed": {Settings{Database: "mysql://u:hunter22@127.0.0.1:1/x"}, []string{"postgres://"}, nil},
		"redis malformed":    {Settings{Redis: "http://u:hunter22@127.0.0.1:1/x"}, []string{"redis://"}, nil},
		"log format":         {Settings{Log: LogSettings{Format: "xml"}}, []string{"xml", "json"}, nil},
		"collector":          {Settings{OTLPEndpoint: "nonsense"}, []string{"OTLP", "http://127.0.0.1:4318"}, nil},
		"no file":            {Settings{ConfigFile: "/does/not/exist.yaml"}, []string{"/does/not/exist.yaml"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			err := refused(t, c.settings)
			text := err.Error()
			t.Log(text)
			for _, part := range c.says {
				if !strings.Contains(text, part) {
					t.Errorf("%q does not say %q", text, part)
				}
			}
			if c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("%q is not %v", text, c.is)
			}
			if strings.Contains(text, "\n") || strings.Contains(text, "hunter22") {
				t.Errorf("not one line without a secret: %q", text)
			}
		})
	}
}

func TestAMistakeInTheFileIsShownWithItsLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "shareai.yaml")
	for name, c := range map[string]struct{ yaml, says string }{
		"unknown field":    {"listn: 127.0.0.1:0\n", path + ":1:"},
		"unknown provider": {"models:\n  - name: m\n    deployments:\n      - {provider: nobody, model: x}\n", path + ":4:"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(path, []byte(c.yaml), 0o600); err != nil {
				t.Fatal(err)
			}
			err := refused(t, Settings{ConfigFile: path})
			var problems *config.Error
			if !errors.As(err, &problems) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %q, want one with %q", err, c.says)
			}
		})
	}
}

func TestFlagsWinOverTheFile(t *testing.T) {
	file := config.Boot{Listen: "a:1", AdminListen: "a:2", DataDir: "a", Database: account.NewSecret("a"), Redis: account.NewSecret("a"), SecretsKey: account.NewSecret("a")}
	if got := (Settings{}).over(file); !cmp.Equal(got, file) {
		t.Errorf("empty settings changed the file: %+v", got)
	}
	all := Settings{Listen: "b:1", AdminListen: "b:2", DataDir: "b", Database: "b", Redis: "b", SecretsKey: account.NewSecret("b")}
	want := config.Boot{Listen: "b:1", AdminListen: "b:2", DataDir: "b", Database: account.NewSecret("b"), Redis: account.NewSecret("b"), SecretsKey: account.NewSecret("b")}
	if got := all.over(file); !cmp.Equal(got, want) {
		t.Errorf("settings do not win: %+v", got)
	}
	if names := strings.Join(changed(file, want), " "); names != "listen admin_listen data_dir database redis secrets_key" {
		t.Errorf("changed: %s", names)
	}
	kept := file
	kept.Retention.Records = time.Hour
	if names := strings.Join(changed(file, kept), " "); names != "retention" {
		t.Errorf("changed: %s", names)
	}
	if names := changed(want, all.over(file)); len(names) != 0 {
		t.Errorf("changed: %v", names)
	}
}

func TestWarningsOfTheFileAreLogged(t *testing.T) {
	caching := strings.Replace(yaml("http://127.0.0.1:1", "good"), "attempts: {total: 1}", "cache: {ttl: 1m}", 1)
	r := run(t, caching, func(s *Settings) { s.Log.Level = slog.LevelWarn })
	if want := r.file + ":14: "; !strings.Contains(r.log.String(), want) {
		t.Errorf("the log lacks %q:\n%s", want, r.log)
	}
}
