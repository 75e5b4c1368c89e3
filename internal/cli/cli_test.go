package cli

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"shareai/internal/account"
	"shareai/internal/config"
	"shareai/internal/fault"
	"shareai/internal/store"
)

func nothing(string) (string, bool) { return "", false }

func TestExitCodes(t *testing.T) {
	for args, want := range map[string]int{
		"version": exitOK, "version --json": exitOK, "--help": exitOK, "help": exitOK, "serve --help": exitOK,
		"": exitUsage, "demoo": exitUsage, "serve --what": exitUsage, "trace": exitUsage, "keys": exitUsage,
		"usage --since 1h --until 2h": exitUsage, "usage --since soon": exitUsage,
		"config check /nowhere/at/all.yaml":                    exitFailed,
		"smoke --gateway http://127.0.0.1:1 --key x --json":    exitFailed,
		"smoke --gateway http://127.0.0.1:1 --key x extra-arg": exitUsage,
	} {
		var out, err bytes.Buffer
		e := Environment{Args: append([]string{"shareai"}, strings.Fields(args)...), Stdout: &out, Stderr: &err, Getenv: nothing, Version: "1"}
		if got := Run(t.Context(), e); got != want {
			t.Errorf("%q: %d, want %d\n%s%s", args, got, want, out.String(), err.String())
		}
	}
}

func TestErrorsAreOneOrTwoLines(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
		code int
	}{
		{errors.New("dial db: password=hunter22 refused"), "shareai: dial db: password=[redacted] refused\n", 1},
		{&failure{message: "no", hint: "do\nthis"}, "shareai: no\n  do\n  this\n", 1},
		{&failure{message: "no", code: exitUsage}, "shareai: no\n", 2},
		{errFailed, "", 1},
		{fmt.Errorf("x: %w", fault.New(fault.NotFound, "c", "There is none.")), "shareai: There is none.\n", 1},
		{fault.New(fault.Internal, "c", "Something.").Because(errors.New("disk full")), "shareai: Something.: disk full\n", 1},
		{&config.Error{Problems: []config.Problem{{File: "a.yaml", Line: 3, Column: 5, Message: "bad", Hint: "mend it"}}}, "shareai: a.yaml:3:5: bad (mend it)\n", 1},
		{
			&config.Error{Problems: []config.Problem{{File: "a.yaml", Line: 3, Column: 1, Message: "bad"}, {File: "a.yaml", Message: "worse"}}},
			"shareai: the configuration has 2 problems\n  a.yaml:3:1: bad\n  a.yaml: worse\n", 1,
		},
		{t.Context().Err(), "", 0},
	} {
		var out bytes.Buffer
		code := (&terminal{err: &out}).exit(c.err)
		if out.String() != c.want || code != c.code {
			t.Errorf("%v: %d %q", c.err, code, out.String())
		}
	}
}

func TestMoments(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"24h": now.Add(-24 * time.Hour), "7d": now.AddDate(0, 0, -7), "2w": now.AddDate(0, 0, -14), "90m": now.Add(-90 * time.Minute),
		"2026-11-01": time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), "2026-11-01T15:04:05Z": time.Date(2026, 11, 1, 15, 4, 5, 0, time.UTC),
		"": {},
	} {
		var m moment
		if err := m.UnmarshalText([]byte(text)); err != nil {
			t.Errorf("%q: %v", text, err)
		}
		if got := m.before(now); !got.Equal(want) {
			t.Errorf("%q: %s", text, got)
		}
		if m.span > 0 && !m.after(now).Equal(now.Add(m.span)) {
			t.Errorf("%q: after is %s", text, m.after(now))
		}
	}
	for _, bad := range []string{"yesterday", "-1h", "0h", "7 d", "99999999d", "1.5d", "2026-13-01", "d"} {
		if err := new(moment).UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func TestTheDemosFileIsForItsOwnerAndWrittenOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), `a "quoted" dir`)
	path := filepath.Join(dir, demoConfig)
	first := demoCommand{DataDir: dir, DemoKey: `key-with-"quote"-0123`}
	if err := first.write(path); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if file, err := checkFile(path, nothing); err != nil || file.DataDir != dir {
		t.Errorf("%+v, %v", file, err)
	}
	if err := (&demoCommand{DataDir: dir}).write(path); err != nil {
		t.Fatal(err)
	}
	if keys, err := demoKeys(path, nothing); err != nil || keys.first != first.DemoKey {
		t.Errorf("%q, %v", keys.first, err)
	}
}

func TestADemoKeyFromTheEnvironment(t *testing.T) {
	path := filepath.Join(t.TempDir(), demoConfig)
	text := "organizations: [{name: o, projects: [{name: p, keys: [{name: k, secret: \"${MINE}\"}]}]}]"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	getenv := func(name string) (string, bool) { return "value of " + name, true }
	if keys, err := demoKeys(path, getenv); err != nil || keys.first != "value of MINE" {
		t.Errorf("%q, %v", keys.first, err)
	}
}

func TestQuote(t *testing.T) {
	for in, want := range map[string]string{
		"data/demo/shareai.yaml": "data/demo/shareai.yaml", "my demo": "'my demo'", "it's": `'it'\''s'`, "": "''",
		"$(reboot)": "'$(reboot)'", "a;b": "'a;b'", "~x": "'~x'",
	} {
		if got := quote(in); got != want {
			t.Errorf("%q: %s", in, got)
		}
	}
}

func TestReachable(t *testing.T) {
	for in, want := range map[string]string{
		"127.0.0.1:8080": "127.0.0.1:8080", "0.0.0.0:80": "127.0.0.1:80", "[::]:80": "127.0.0.1:80", ":80": "127.0.0.1:80",
		"[::1]:80": "[::1]:80", "gateway.example:80": "gateway.example:80",
	} {
		if got := reachable(in); got != want {
			t.Errorf("%q: %s", in, got)
		}
	}
}

func TestAKeyIsFoundByItsName(t *testing.T) {
	keys := []account.APIKey{
		{ID: "key_1", Name: "ci", Organization: "a", Project: "p", RevokedAt: time.Unix(1, 0)},
		{ID: "key_2", Name: "ci", Organization: "a", Project: "p"},
		{ID: "key_3", Name: "web", Organization: "a", Project: "p"},
		{ID: "key_4", Name: "web", Organization: "b", Project: "p"},
	}
	for ref, want := range map[string]string{"ci": "key_2", "key_9": "key_9", "a/p/web": "a/p/web", "none": "none"} {
		if got, err := keyReference(keys, ref); err != nil || got != want {
			t.Errorf("%q: %q, %v", ref, got, err)
		}
	}
	_, err := keyReference(keys, "web")
	if _, hint := explain(err); hint != "say which: key_3 (a/p/web), key_4 (b/p/web)" {
		t.Errorf("%v: %s", err, hint)
	}
}

func TestTheTotalIsTheSumOfTheRows(t *testing.T) {
	r := report{By: []string{"model"}}
	// The second query saw a record more: only its means may be used.
	r.fill([]store.UsageRow{
		{Values: []string{"a"}, Requests: 2, Failures: 1, FailedOver: 2, PromptTokens: 10, CompletionTokens: 5, Cost: 1_500, MeanDuration: 10 * time.Millisecond},
		{Values: []string{"b"}, Requests: 1, Canceled: 1, Estimated: 1, CachedTokens: 3, ReasoningTokens: 4, CacheWriteTokens: 5, CacheWrite1hTokens: 6, AudioInputTokens: 7, AudioOutputTokens: 8, Cost: 1_000_000_000},
	}, []store.UsageRow{{Requests: 4, Cost: 7, MeanDuration: 20 * time.Millisecond, MeanFirstToken: 5 * time.Millisecond}})
	want := sums{
		Requests: 3, Failures: 1, Canceled: 1, FailedOver: 2, Estimated: 1, PromptTokens: 10, CachedTokens: 3, CompletionTokens: 5, ReasoningTokens: 4,
		CacheWrite: 5, CacheWrite1h: 6, AudioInput: 7, AudioOutput: 8,
		CostUSD: "1.0000015", CostNano: 1_000_001_500, MeanMS: 20, MeanFirstTokenMS: 5, USDPerMillion: 66666.7667,
	}
	if diff := cmp.Diff(want, r.Total); diff != "" {
		t.Error(diff)
	}
}

func TestUsageTable(t *testing.T) {
	r := report{By: []string{"key", "provider"}, From: time.Unix(0, 0).UTC(), To: time.Unix(3600, 0).UTC()}
	r.fill([]store.UsageRow{
		{Values: []string{"key_1", "alpha"}, Requests: 1234567, FailedOver: 12, PromptTokens: 10, Cost: 1_500, MeanDuration: 12345 * time.Millisecond},
		{Values: []string{"key_2", ""}, Requests: 1, Failures: 1, Cost: 2_000_000_000, Estimated: 1},
	}, nil)
	var out bytes.Buffer
	(&terminal{out: &out}).usage(&r, map[string]string{"key_1": "acme/app/ci"})
	want := `1970-01-01 00:00 UTC to 1970-01-01 01:00 UTC

KEY          PROVIDER   REQUESTS  FAILED  FAILOVER  PROMPT  CACHED  COMPLETION   COST USD    MEAN  FIRST TOKEN
acme/app/ci  alpha     1,234,567       0        12      10       0           0  0.0000015  12.3 s            -
key_2        -                 1       1         0       0       0           0  2.0000000       -            -
total                  1,234,568       1        12      10       0           0  2.0000015       -            -

The tokens of 1 request are estimates: the provider reported none.
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestColoursAreForTerminals(t *testing.T) {
	var out bytes.Buffer
	e := Environment{Args: []string{"shareai"}, Stdout: &out, Stderr: &out, Getenv: nothing}
	if newTerminal(e).colors {
		t.Error("a file is coloured")
	}
	plain, coloured := &terminal{}, &terminal{colors: true}
	if plain.styled(red, "x") != "x" || coloured.styled(red, "x") != "\x1b[31mx\x1b[0m" {
		t.Error("styles")
	}
}
