package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"shareai/internal/account"
)

// complete completes settings with a file.
func complete(t *testing.T, s Settings, file string) (Settings, error) {
	t.Helper()
	s.DataDir = t.TempDir()
	if file != "" {
		if err := os.WriteFile(filepath.Join(s.DataDir, settingsFile), []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return s.complete(func(name string) (string, bool) { return "from-" + name, name == "VLLM_KEY" })
}

const wholeFile = `
gateway: https://ai.example.com
name: laptop
ca_file: /etc/ca.pem
engines:
  - {url: "http://127.0.0.1:8000", name: fast, key: "${VLLM_KEY}"}
discover: usual
concurrency: 3
tokens_per_day: 1000
serve: idle
hours: ["mon-fri 20:00-08:00", "sat,sun"]
grace: 0s
stop_grace: 1m
idle: {after: 2m, cpu: 0.5, gpu: 0.1, on_battery: true}
`

func TestSettingsOfTheFile(t *testing.T) {
	s, err := complete(t, Settings{}, wholeFile)
	if err != nil {
		t.Fatal(err)
	}
	want := Settings{
		Gateway: "https://ai.example.com", Name: "laptop", CAFile: "/etc/ca.pem", Discover: DiscoverUsual, Concurrency: 3, DailyTokens: 1000,
		StopGrace: time.Minute, Engines: []EngineAddress{{URL: "http://127.0.0.1:8000", Name: "fast", Key: account.NewSecret("from-VLLM_KEY")}},
		Rules: Rules{Mode: Idle, Hours: s.Rules.Hours, Grace: AtOnce, After: 2 * time.Minute, CPU: 0.5, GPU: 0.1, OnBattery: EvenOnBattery},
	}
	same := cmp.Comparer(func(a, b account.Secret) bool { return a.Equal(b) })
	if diff := cmp.Diff(want, s, same, cmpopts.IgnoreUnexported(Settings{}), cmpopts.IgnoreFields(Settings{}, "Log", "DataDir")); diff != "" {
		t.Error(diff)
	}
	if len(s.Rules.Hours) != 2 {
		t.Errorf("hours %v", s.Rules.Hours)
	}
}

func TestFlagsWin(t *testing.T) {
	w, err := ParseWindow("sun")
	if err != nil {
		t.Fatal(err)
	}
	given := Settings{
		Gateway: "https://other.example.com", Name: "desk", Discover: DiscoverOff, Concurrency: 1, DailyTokens: 5, StopGrace: time.Second,
		Engines: []EngineAddress{{URL: "http://127.0.0.1:1"}}, Rules: Rules{Mode: Always, Hours: Hours{w}, Grace: time.Second, After: time.Second, CPU: 0.1, GPU: 0.9},
	}
	s, err := complete(t, given, wholeFile)
	if err != nil {
		t.Fatal(err)
	}
	if s.Gateway != given.Gateway || s.Name != "desk" || s.Discover != DiscoverOff || s.Concurrency != 1 || s.DailyTokens != 5 || s.StopGrace != time.Second ||
		len(s.Engines) != 1 || s.Engines[0].URL != "http://127.0.0.1:1" || s.Rules.Mode != Always || len(s.Rules.Hours) != 1 ||
		s.Rules.Grace != time.Second || s.Rules.After != time.Second || s.Rules.CPU != 0.1 || s.Rules.GPU != 0.9 {
		t.Errorf("%+v", s)
	}
}

func TestDefaults(t *testing.T) {
	s, err := complete(t, Settings{Gateway: "https://ai.example.com/v1/"}, "")
	if err != nil {
		t.Fatal(err)
	}
	if s.Gateway != "https://ai.example.com" || s.Discover != DiscoverAll || s.Rules.Mode != Always || s.Rules.Grace != 10*time.Second ||
		s.StopGrace != 30*time.Second || s.Rules.After != 5*time.Minute || s.Rules.CPU != 0.25 || s.Rules.GPU != 0.2 || s.Rules.OnBattery != NotOnBattery {
		t.Errorf("%+v", s)
	}
}

func TestSettingsThatMakeNoSense(t *testing.T) {
	for file, want := range map[string]string{
		"gatewway: x":                         "gatewway",
		"serve: sometimes":                    `"sometimes" is no way to serve`,
		"serve: schedule":                     "needs hours",
		"hours: [late]":                       `"late" is no span`,
		"discover: everywhere":                "no way to discover",
		"discover: off":                       "nothing to serve",
		"concurrency: -1":                     "below nothing",
		"idle: {cpu: 30}":                     "between 0 and 1",
		"engines: [{url: x, key: '${NONE}'}]": "has no NONE",
		"gateway: https://me:hidden@x":        "no address of a gateway",
		"engines: [{url: x, key: hidden, x}]": "",
	} {
		_, err := complete(t, Settings{}, file)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: %v", file, err)
		}
	}
}

func TestTokensOfADay(t *testing.T) {
	dir := folder(t.TempDir())
	tokens, err := openTokens(dir, 100)
	if err != nil {
		t.Fatal(err)
	}
	tokens.add(monday, 60)
	tokens.add(monday, -5)
	if tokens.spent(monday) || tokens.today(monday) != 60 {
		t.Errorf("%d", tokens.today(monday))
	}
	if err := tokens.keep(); err != nil {
		t.Fatal(err)
	}
	if tokens, err = openTokens(dir, 100); err != nil || tokens.today(monday) != 60 {
		t.Errorf("after a restart: %v, %d", err, tokens.today(monday))
	}
	tokens.add(monday, 40)
	if !tokens.spent(monday) || tokens.spent(monday.Add(12*time.Hour)) || tokens.today(monday.Add(12*time.Hour)) != 0 {
		t.Error("the limit is of a day")
	}
	if unlimited, err := openTokens(folder(t.TempDir()), 0); err != nil || unlimited.spent(monday) {
		t.Error("no limit, and it is reached")
	}
}

// A file that is damaged is said to be, and never replaced behind the owner's back.
func TestDamagedFiles(t *testing.T) {
	dir := folder(t.TempDir())
	for _, text := range []string{"", "{", `{"node":"node_1"}`, `{"node":"node_1","key":"k","private_key":"AAAA"}`} {
		if err := os.WriteFile(dir.path(identityFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := loadIdentity(dir); err == nil || !strings.Contains(err.Error(), identityFile) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
