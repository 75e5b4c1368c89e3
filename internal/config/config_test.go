package config

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"shareai/internal/account"
	"shareai/internal/catalog"
	"shareai/internal/snapshot"
)

var update = flag.Bool("update", false, "write the golden files anew")

func environment(variables map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		v, ok := variables[name]
		return v, ok
	}
}

// ready has every variable that the examples use.
func ready() func(string) (string, bool) {
	return environment(map[string]string{
		"SHAREAI_SECRETS_KEY": "0123456789abcdef0123456789abcdef", "APP_KEY": "sk-app-0123456789abcdef",
		"ALPHA_KEY": "sk-alpha-0123456789", "BETA_KEY": "sk-beta-0123456789", "AZURE_KEY": "azure-0123456789",
		"DATABASE_URL": "postgres://shareai:hunter2@db/shareai", "CI_KEY": "sk-ci-0123456789abcdef",
		"ALERT_SECRET": "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3", "SLACK_URL": "https://chat.example/hook/T0KEN", "SMTP_PASSWORD": "geheim-0123456789",
		"SSO_SECRET": "sso-0123456789", "EMPTY": "", "WEIGHT": "7", "SYNTAX": `a: "b" {c} # d`,
	})
}

func load(t testing.TB, source string) (*File, error) {
	t.Helper()
	return parse("shareai.yaml", []byte(source), ready())
}

func mustLoad(t testing.TB, source string) *File {
	t.Helper()
	f, err := load(t, source)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestTheContractsExample(t *testing.T) {
	f, err := Load("testdata/contract.yaml", ready())
	if err != nil {
		t.Fatal(err)
	}
	wantBoot := Boot{Listen: "127.0.0.1:8080", DataDir: "./data", SecretsKey: account.NewSecret("0123456789abcdef0123456789abcdef")}
	key := account.NewSecret("sk-app-0123456789abcdef")
	want := snapshot.Spec{
		Organizations: []account.Organization{{
			Name: "acme", Origin: account.FromFile,
			Limits:  account.Limits{RequestsPerMinute: 6000, TokensPerMinute: 2_000_000, Concurrency: 200},
			Budgets: []account.Budget{{Period: "month", NanoUSD: 500_000_000_000, AlertAt: []float64{0.5, 0.8}, OnExceed: "reject"}},
		}},
		Projects: []account.Project{{
			Organization: "acme", Name: "app", Labels: map[string]string{"environment": "production", "team": "search"}, Origin: account.FromFile,
		}},
		Keys: []account.APIKey{{
			ID: "key_file_2e89ac8e5e0dd0c8", Name: "ci", Organization: "acme", Project: "app", Hash: key.Hash(), Hint: account.Hint(key),
			Models: []string{"*"}, Expires: time.Date(2027, 12, 31, 0, 0, 0, 0, time.UTC), Origin: account.FromFile,
		}},
		Providers: []catalog.Provider{{
			Name: "alpha", Dialect: catalog.OpenAI, BaseURL: "https://api.alpha.example/v1",
			Keys:   []catalog.ProviderKey{{Name: "main", Secret: account.NewSecret("sk-alpha-0123456789"), Weight: 1}},
			Region: "eu", Retention: "none", Origin: account.FromFile,
		}},
		Models: []catalog.Model{{
			Name: "llama-3.3-70b", Context: 131072, MaxOutput: 8192, Origin: account.FromFile,
			Capabilities: []catalog.Capability{"tools", "json_schema", "vision", "reasoning", "prefill"},
			Deployments: []catalog.Deployment{
				{Provider: "alpha", Model: "llama-3.3-70b-versatile", Weight: 3, Price: catalog.Price{Input: 590_000_000, Output: 790_000_000, CachedInput: 100_000_000}, Priced: true},
				{Provider: "beta", Model: "meta/llama-3.3-70b", Weight: 1, Price: catalog.Price{Input: 700_000_000, Output: 900_000_000, CachedInput: 700_000_000}, Priced: true},
			},
			Equivalents: []catalog.Equivalent{{Model: "qwen-2.5-72b", Grade: 0.92}},
		}},
		Routes: []catalog.Route{{
			Name: "chat", Models: []string{"llama-3.3-70b"}, Endpoints: []catalog.Endpoint{catalog.Chat}, Projects: []string{"*"},
			Policy: "careful", Origin: account.FromFile,
		}},
		Policies: []catalog.Policy{{
			Name: "careful", Strategy: catalog.Ordered, Order: []string{"alpha", "beta", "node:*"}, Equivalents: "closest", MaxPriceRatio: 1.2,
			Regions: []string{"eu"}, Retention: []string{"none"}, OnContentFilter: "return",
			Attempts: catalog.Attempts{Total: 5, PerDeployment: 2},
			Deadlines: catalog.Deadlines{
				Connect: 2 * time.Second, Headers: 10 * time.Second, FirstToken: 10 * time.Second, Idle: 15 * time.Second, Total: 5 * time.Minute,
			},
			Resume: "auto", Origin: account.FromFile,
		}},
		DefaultPolicy: "careful",
	}
	secrets := cmp.Comparer(func(a, b account.Secret) bool { return a.Reveal() == b.Reveal() })
	if diff := cmp.Diff(wantBoot, f.Boot, secrets); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(want, f.Spec, secrets, cmpopts.EquateEmpty()); diff != "" {
		t.Error(diff)
	}
	var warned []string
	for _, w := range f.Warnings {
		warned = append(warned, fmt.Sprintf("%d: %s", w.Line, w.Message))
	}
	if warned != nil {
		t.Errorf("warnings: %q", warned)
	}
}

// Only the values that have no effect are warned of, and once where they share a line.
func TestWarningsAreAboutValues(t *testing.T) {
	for _, c := range []struct{ route, policy, want string }{
		{"endpoints: [chat, completions, embeddings]", "order: [alpha], on_content_filter: return, max_price_ratio: 1.2", "[]"},
		{"endpoints: [chat, responses, messages]", "attempts: {total: 3}", "[{7 the endpoints responses and messages are not served in this version}]"},
		{"endpoints: []", `order: [alpha, "node:a", "node:*"]`, "[]"},
		{"endpoints: []", "on_content_filter: fallback, attempts: {per_deployment: 2}, strategy: latency, equivalents: any, resume: auto", "[]"},
		{"endpoints: []", "cache: {ttl: 0s}", "[]"},
		{"endpoints: []", "cache: {ttl: 1m}", "[{9 answers are not cached in this version}]"},
	} {
		text := `providers:
  - {name: alpha, dialect: simulated}
models:
  - name: m
    deployments: [{provider: alpha, model: x}]
routes:
  - {name: r, models: [m], ` + c.route + `}
policies:
  - {name: p, ` + c.policy + `}
`
		f, err := parse("x.yaml", []byte(text), ready())
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(f.Warnings); got != c.want {
			t.Errorf("%s, %s: %s, want %s", c.route, c.policy, got, c.want)
		}
	}
}

func TestNothingIsAConfigurationToo(t *testing.T) {
	none, err := Load("", ready())
	if err != nil {
		t.Fatal(err)
	}
	for _, source := range []string{"", "\n", "# only a comment\n", "---\n", "{}", "\ufeff", "listen:\n", "providers: []\nlisten: \"\"\n", "null\n"} {
		f, err := load(t, source)
		if err != nil {
			t.Errorf("%q: %v", source, err)
			continue
		}
		if diff := cmp.Diff(none.Boot, f.Boot); diff != "" {
			t.Errorf("%q: %s", source, diff)
		}
		if diff := cmp.Diff(snapshot.Spec{}, f.Spec, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%q: %s", source, diff)
		}
	}
	if none.Listen != DefaultListen || none.DataDir != DefaultDataDir {
		t.Errorf("defaults: %+v", none.Boot)
	}
}

func TestAFileThatCanNotBeRead(t *testing.T) {
	for _, path := range []string{filepath.Join(t.TempDir(), "missing.yaml"), t.TempDir()} {
		_, err := Load(path, ready())
		var e *Error
		if !errors.As(err, &e) || !strings.HasPrefix(err.Error(), path+": the file can not be read: ") {
			t.Errorf("error: %v", err)
		}
	}
}

func TestSettings(t *testing.T) {
	f := mustLoad(t, `
admin_listen: ":9090"
database: ${DATABASE_URL}
redis: rediss://r:6379/2
providers:
  - {name: alpha, dialect: azure, base_url: "https://x.openai.azure.com/openai/", api_version: 2024-10-21, output_limit: max_tokens, retention: 30d,
     private_network: true, keys: [{name: a, secret: "${ALPHA_KEY}", weight: ${WEIGHT}}, {name: b, secret: pre-${BETA_KEY}-post}]}
  - name: fake
    dialect: simulated
    simulated: {latency: 50ms, tokens_per_second: 80, tokens: 64, fault: 503, fault_share: 0.5}
models:
  - name: Qwen/Qwen2.5-72B
    deployments:
      - {provider: fake, model: m1}
      - {provider: fake, model: m2, price: {output: 1e-3}}
organizations:
  - name: acme
    projects:
      - name: app
        labels: {tier: 1, owner: ""}
        keys:
          - {name: pinned, secret: "plain-secret-0123456789", pin: {provider: alpha, model: x}, expires: "2027-12-31T18:00:00+02:00"}
`)
	if f.AdminListen != ":9090" || f.Database.Reveal() != "postgres://shareai:hunter2@db/shareai" || f.Redis.Reveal() != "rediss://r:6379/2" {
		t.Error("boot settings")
	}
	alpha, fake := f.Spec.Providers[0], f.Spec.Providers[1]
	if alpha.BaseURL != "https://x.openai.azure.com/openai" || alpha.APIVersion != "2024-10-21" || alpha.OutputLimit != catalog.OutputLimitMaxTokens ||
		!alpha.PrivateNetwork || alpha.Retention != "30d" || alpha.Keys[0].Weight != 7 || alpha.Keys[1].Secret.Reveal() != "pre-sk-beta-0123456789-post" {
		t.Errorf("%+v", alpha)
	}
	want := catalog.Simulation{Latency: 50 * time.Millisecond, TokensPerSecond: 80, Tokens: 64, Fault: catalog.FaultBusy, FaultShare: 0.5}
	if fake.Simulation != want {
		t.Errorf("%+v", fake.Simulation)
	}
	if d := f.Spec.Models[0].Deployments; d[0].Price != (catalog.Price{}) || d[1].Price != (catalog.Price{Output: 1_000_000}) {
		t.Errorf("%+v", d)
	}
	k := f.Spec.Keys[0]
	if k.Pin != (account.Pin{Provider: "alpha", Model: "x"}) || !k.Expires.Equal(time.Date(2027, 12, 31, 16, 0, 0, 0, time.UTC)) {
		t.Errorf("%+v", k)
	}
	if labels := f.Spec.Projects[0].Labels; labels["tier"] != "1" || len(labels) != 2 {
		t.Errorf("%v", labels)
	}
}

// A variable's value is text, whatever it means in YAML.
func TestVariablesAreReplacedAfterParsing(t *testing.T) {
	label := func(written string) string {
		f, err := load(t, "organizations: [{name: a, projects: [{name: p, labels: {x: "+written+"}}]}]")
		if err != nil {
			t.Fatalf("%s: %v", written, err)
		}
		return f.Spec.Projects[0].Labels["x"]
	}
	for written, want := range map[string]string{
		"${SYNTAX}": `a: "b" {c} # d`, `"${SYNTAX}"`: `a: "b" {c} # d`, "'-${SYNTAX}-'": `-a: "b" {c} # d-`,
		"${EMPTY}": "", "$${SYNTAX}": "${SYNTAX}", "$$${WEIGHT}": "$${WEIGHT}", "a$b": "a$b", `"$$"`: "$$", "${WEIGHT}${WEIGHT}": "77",
		`"é${WEIGHT}"`: "é7",
	} {
		if got := label(written); got != want {
			t.Errorf("%s is %q, want %q", written, got, want)
		}
	}
}

func TestKeysOfTheFileHaveStableIdentities(t *testing.T) {
	const source = "organizations: [{name: %s, projects: [{name: %s, keys: [{name: %s, secret: %s}]}]}]"
	id := func(organization, project, name, secret string) string {
		return mustLoad(t, fmt.Sprintf(source, organization, project, name, secret)).Spec.Keys[0].ID
	}
	first := id("acme", "app", "ci", "first-secret-0123456789")
	if first != id("acme", "app", "ci", "other-secret-0123456789") {
		t.Error("a new secret changes the identity")
	}
	if first == id("acme", "app", "cd", "first-secret-0123456789") || first == id("other", "app", "ci", "first-secret-0123456789") {
		t.Error("two keys have one identity")
	}
}

func TestAnchors(t *testing.T) {
	f := mustLoad(t, `
policies:
  - &base
    name: one
    deadlines: &d {connect: 1s, total: 1m}
  - <<: *base
    name: two
  - {name: three, deadlines: {<<: [*d], total: 2m}}
`)
	if p := f.Spec.Policies; p[1].Name != "two" || p[1].Deadlines.Total != time.Minute || p[2].Deadlines.Connect != time.Second || p[2].Deadlines.Total != 2*time.Minute {
		t.Errorf("%+v", p)
	}
}

// Every file under testdata/bad has the errors of the .txt beside it.
func TestErrors(t *testing.T) {
	paths, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(paths) < 10 {
		t.Fatalf("%d files, %v", len(paths), err)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			source, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			f, err := parse(filepath.Base(path), source, ready())
			if err == nil {
				if _, problems := snapshot.Compile(f.Spec); problems != nil {
					var list snapshot.Problems
					errors.As(problems, &list)
					err = f.Explain(list)
				}
			}
			if err == nil {
				t.Fatal("no error")
			}
			golden := strings.TrimSuffix(path, ".yaml") + ".txt"
			if *update {
				if err := os.WriteFile(golden, []byte(err.Error()+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, readErr := os.ReadFile(golden)
			if readErr != nil {
				t.Fatal(readErr)
			}
			if diff := cmp.Diff(string(want), err.Error()+"\n"); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// What would keep the parser busy for minutes, or end the process, is refused at once.
func TestExcessiveFilesAreRefused(t *testing.T) {
	for _, c := range []struct{ source, want string }{
		{strings.Repeat("[", 100), "more than 32 levels"},
		{strings.Repeat("{a: ", 100), "more than 32 levels"},
		{strings.Repeat("- ", 100), "a list directly inside a list"},
		{strings.Repeat("a: 1\n", 20_000), "more than 10000 entries"},
		{"models:\n" + strings.Repeat("  -\n", 20_000), "more than 10000 entries"},
		{"models: [" + strings.Repeat("a,", 20_000) + "]", "more than 10000 entries"},
		{"models: {" + strings.Repeat("a,", 20_000) + "}", "more than 10000 entries"},
		{"? " + strings.Repeat("a", 100), "without a question mark"},
		{"listen: " + strings.Repeat("x", maxFile), "larger than 1024 KiB"},
	} {
		_, err := load(t, c.source)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.20q…: %.200v", c.source, err)
		}
	}
}

func TestALargeFileIsFine(t *testing.T) {
	var b strings.Builder
	b.WriteString("providers: [{name: a, dialect: simulated}]\nmodels:\n")
	const models = 5000
	for i := range models {
		fmt.Fprintf(&b, "  - name: model-%d\n    context: 131072\n    deployments:\n      - {provider: a, model: m%d, price: {input: 0.5, output: 1.5}}\n", i, i)
	}
	if f := mustLoad(t, b.String()); len(f.Spec.Models) != models {
		t.Errorf("%d models", len(f.Spec.Models))
	}
}

func TestTheListOfProblemsIsBounded(t *testing.T) {
	_, err := load(t, "models:\n"+strings.Repeat("  - {context: x}\n", 1000))
	if n := strings.Count(err.Error(), "\n"); n != mostProblems || !strings.HasSuffix(err.Error(), "and 1900 more") {
		t.Errorf("%d lines, the last: %s", n, err.Error()[strings.LastIndex(err.Error(), "\n"):])
	}
}

func TestRetentionIsWholeDays(t *testing.T) {
	for text, want := range map[string]time.Duration{"90d": 90 * 24 * time.Hour, `""`: 0, "1d": 24 * time.Hour} {
		f, err := parse("x.yaml", []byte("retention: {records: "+text+"}"), ready())
		if err != nil || f.Retention.Records != want {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, text := range []string{"0d", "90", "24h", "-1d", "99999d", "[1d]"} {
		if _, err := parse("x.yaml", []byte("retention: {records: "+text+"}"), ready()); err == nil || !strings.Contains(err.Error(), "x.yaml:1:22: ") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// What is not said of a price costs like what it is a part of, and 0 says that it costs nothing.
func TestPrices(t *testing.T) {
	for text, want := range map[string]catalog.Price{
		`{}`:                    {},
		`{input: 1, output: 2}`: {Input: 1e9, Output: 2e9, CachedInput: 1e9},
		`{input: 1, cached_input: 0, cache_write: 0, reasoning: 0.5, request: 0.012}`: {
			Input: 1e9, CacheWrite: catalog.Free, Reasoning: 500_000_000, Request: 12_000_000,
		},
		`{input: 3, output: 15, cached_input: 0.3, cache_write: 3.75, cache_write_1h: 6, audio_input: 7, audio_output: 8, request: 1,
		   above: {tokens: 200000, input: 6, output: 22.5, above: {tokens: 400000, input: 9, output: 9, request: 0}}}`: {
			Input: 3e9, Output: 15e9, CachedInput: 300_000_000, CacheWrite: 3_750_000_000, CacheWrite1h: 6e9, AudioInput: 7e9, AudioOutput: 8e9, Request: 1e9,
			Above: &catalog.Above{Tokens: 200_000, Price: catalog.Price{
				Input: 6e9, Output: 22_500_000_000, CachedInput: 6e9, Request: 1e9,
				Above: &catalog.Above{Tokens: 400_000, Price: catalog.Price{Input: 9e9, Output: 9e9, CachedInput: 9e9}},
			}},
		},
	} {
		text = "providers: [{name: alpha, dialect: simulated}]\nmodels: [{name: m, deployments: [{provider: alpha, model: x, price: " + text + "}]}]\n"
		got, err := parse("x.yaml", []byte(text), ready())
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if diff := cmp.Diff(want, got.Spec.Models[0].Deployments[0].Price); diff != "" {
			t.Errorf("%s\n%s", text, diff)
		}
	}
}
