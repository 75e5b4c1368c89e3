package timeline

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"shareai/internal/account"
	"shareai/internal/catalog"
	"shareai/internal/openai"
	"shareai/internal/routing"
	"shareai/internal/snapshot"
	"shareai/internal/telemetry"
	"shareai/internal/upstream"
	"shareai/internal/usage"
)

var update = flag.Bool("update", false, "write the golden traces anew")

// paper is a page without colours.
type paper struct{ out *bytes.Buffer }

func (p paper) Print(format string, args ...any) { fmt.Fprintf(p.out, format, args...) }
func (paper) Bold(text string) string            { return text }
func (paper) Faint(text string) string           { return text }

// asked is what the records of these tests have in common.
func asked() usage.Record {
	return usage.Record{
		ID: "req_01m8262p95kr6s3mgh33rnqk03", Start: time.Date(2026, 11, 22, 17, 1, 2, 345_000_000, time.UTC).UnixMicro(),
		Organization: "acme", Project: "app", KeyID: "key_1", Endpoint: "chat", Requested: "chat", Route: "chat", Policy: "careful",
		Status: 200, BytesIn: 1234, BytesOut: 9876, TraceID: "0af7651916cd43dd8448eb211c80319c",
	}
}

// told are requests of every kind that a trace has to tell.
func told() map[string]usage.Record {
	tokens := catalog.Tokens{Prompt: 1200, Cached: 1000, Completion: 32}

	usual := asked()
	usual.Duration, usual.Model, usual.Provider, usual.Deployment = 812_400, "llama", "alpha", "alpha/llama"
	usual.Reason, usual.Primary, usual.PrimaryCost, usual.PrimaryLatency = "primary", "alpha/llama", 14_700, 790_000
	usual.Tokens, usual.Cost = tokens, 14_700
	usual.Attempts = []usage.Attempt{{
		Provider: "alpha", Deployment: "alpha/llama", Model: "llama", ProviderKey: "main", Outcome: "ok", Status: 200,
		Offset: 300, Headers: 811_000, Duration: 812_000, Tokens: tokens, Cost: 14_700,
	}}
	usual.Candidates = []usage.Candidate{{Deployment: "alpha/llama", Model: "llama"}, {Deployment: "beta/llama-1", Model: "llama"}}

	over := asked()
	over.Stream, over.Duration, over.FirstToken = true, 2_400_000, 760_000
	over.Model, over.Provider, over.Deployment = "qwen", "gamma", "gamma/qwen-2.5-72b-instruct-turbo-long-name"
	over.Reason = "equivalent 0.92; delta/llama region; beta/llama-1 circuit; alpha/llama overloaded; alpha/llama first_token_timeout"
	over.Tokens, over.Cost, over.Primary, over.PrimaryCost, over.PrimaryLatency = tokens, 16_500, "alpha/llama", 14_700, 180_000
	over.Attempts = []usage.Attempt{
		{Provider: "alpha", Deployment: "alpha/llama", Model: "llama", ProviderKey: "main", Outcome: "overloaded", Status: 503, Message: "The server is busy.\x1b[2J Please try again later, or ask for a larger quota at our sales department.", Offset: 300, Headers: 2_100, Duration: 2_200},
		{Provider: "alpha", Deployment: "alpha/llama", Model: "llama", ProviderKey: "other", Outcome: "first_token_timeout", Status: 200, Message: "The provider took too long (first_token_timeout).", Offset: 152_500, Headers: 80_000, Duration: 400_000, Retry: true, Wait: 150_000, Circuit: "half_open"},
		{Provider: "gamma", Deployment: over.Deployment, Model: "qwen", Outcome: "ok", Status: 200, Offset: 552_700, Headers: 60_000, FirstToken: 207_300, Duration: 1_847_000, Tokens: tokens, Cost: 16_500},
	}
	over.Candidates = []usage.Candidate{
		{Deployment: "delta/llama", Model: "llama", Reason: "region"},
		{Deployment: "alpha/llama", Model: "llama"},
		{Deployment: "beta/llama-1", Model: "llama", Reason: "circuit"},
		{Deployment: over.Deployment, Model: "qwen", Origin: "equivalent", Grade: 0.92},
		{Deployment: "epsilon/mistral", Model: "mistral", Reason: "context_length", Origin: "policy"},
		{Deployment: "zeta/phi", Model: "phi", Origin: "request"},
	}

	resumed := asked()
	resumed.Stream, resumed.Duration, resumed.FirstToken, resumed.Resumed, resumed.Drill = true, 1_900_000, 210_000, true, "drill_7kq2"
	resumed.Model, resumed.Provider, resumed.Deployment, resumed.Reason = "llama", "beta", "beta/llama-1", "alpha/llama broken"
	resumed.Tokens, resumed.Cost, resumed.Primary, resumed.PrimaryCost = tokens.Add(tokens), 18_900, "alpha/llama", 14_700
	resumed.Attempts = []usage.Attempt{
		{Provider: "alpha", Deployment: "alpha/llama", Model: "llama", Outcome: "broken", Status: 200, Message: "The connection to the provider broke.", Offset: 300, Headers: 60_000, FirstToken: 209_000, Duration: 900_000, Tokens: catalog.Tokens{Prompt: 1200, Completion: 14, Estimated: true}, Cost: 6_300, Drill: "drill_7kq2"},
		{Provider: "gamma", Deployment: "gamma/llama", Model: "llama", Outcome: "client_error", Status: 400, Message: "Assistant prefill is not supported.", Offset: 901_000, Headers: 8_000, Duration: 8_100, Resumes: "prefill"},
		{Provider: "beta", Deployment: "beta/llama-1", Model: "llama", Outcome: "ok", Status: 200, Offset: 910_000, Headers: 90_000, FirstToken: 150_000, Duration: 989_000, Tokens: tokens, Cost: 12_600, Resumes: "restart"},
	}
	resumed.Candidates = []usage.Candidate{{Deployment: "alpha/llama", Model: "llama"}, {Deployment: "gamma/llama", Model: "llama"}, {Deployment: "beta/llama-1", Model: "llama"}}

	hedged := asked()
	hedged.Duration, hedged.Model, hedged.Provider, hedged.Deployment = 700_000, "llama", "beta", "beta/llama-1"
	hedged.Tokens, hedged.Cost, hedged.Primary, hedged.PrimaryCost, hedged.PrimaryLatency = tokens, 9_000, "alpha/llama", 14_700, 900_000
	hedged.Attempts = []usage.Attempt{
		{Provider: "alpha", Deployment: "alpha/llama", Model: "llama", Outcome: "hedged", Offset: 300, Duration: 699_000},
		{Provider: "beta", Deployment: "beta/llama-1", Model: "llama", Outcome: "ok", Status: 200, Offset: 500_000, Headers: 199_000, Duration: 199_400, Hedge: true, Tokens: tokens, Cost: 9_000},
	}
	hedged.Candidates = usual.Candidates

	failed := asked()
	failed.Duration, failed.Status, failed.Code, failed.Primary = 6_000, 502, "provider_error", "alpha/llama"
	failed.Attempts = []usage.Attempt{{Provider: "alpha", Deployment: "alpha/llama", Outcome: "connect_failed", Message: "Connection refused.", Offset: 300, Duration: 5_500}}
	failed.Candidates = []usage.Candidate{{Deployment: "alpha/llama", Model: "llama"}, {Deployment: "beta/llama-1", Model: "llama", Reason: "retention"}}

	none := asked()
	none.Duration, none.Status, none.Code = 400, 503, "no_candidate"
	none.Candidates = []usage.Candidate{{Deployment: "alpha/llama", Model: "llama", Reason: "price"}, {Deployment: "beta/llama-1", Model: "llama", Reason: "drained"}}

	return map[string]usage.Record{"usual": usual, "failover": over, "resumed": resumed, "hedged": hedged, "failed": failed, "no-candidate": none}
}

func TestATraceReadsLikeAStory(t *testing.T) {
	for name, record := range told() {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			Draw(paper{&out}, Of(&record, map[string]string{"key_1": "acme/app/ci"}))
			golden := filepath.Join("testdata", name+".txt")
			if *update {
				if err := os.WriteFile(golden, out.Bytes(), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), out.String()); diff != "" {
				t.Error(diff)
			}
			for line := range strings.Lines(out.String()) {
				if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > PageWidth {
					t.Errorf("%d characters: %s", n, line)
				}
				if strings.ContainsRune(line, '\x1b') {
					t.Errorf("a provider moves the cursor: %q", line)
				}
			}
		})
	}
}

// Everything that a record holds is in its JSON, under some name.
func TestATraceAsJSONIsWhole(t *testing.T) {
	record := told()["resumed"]
	record.Attempts[2].Retry, record.Attempts[2].Hedge, record.Attempts[2].Wait, record.Attempts[2].Circuit = true, true, 5, "half_open"
	document, err := json.Marshal(Of(&record, nil))
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{
		`"reason":"alpha/llama broken"`, `"resumed":true`, `"drill":"drill_7kq2"`, `"retry":true`, `"hedge":true`, `"wait_us":5`,
		`"resumes":"restart"`, `"circuit":"half_open"`, `"candidates":[{"deployment":"alpha/llama","model":"llama"},`,
		`"primary":{"deployment":"alpha/llama","cost_usd":"0.0000147","cost_nano_usd":14700}`,
		`"difference":{"cost_usd":"0.0000042","cost_nano_usd":4200,"lost_us":159700}`,
	} {
		if !strings.Contains(string(document), part) {
			t.Errorf("missing: %s", part)
		}
	}
	refused := asked()
	if document, err = json.Marshal(Of(&refused, nil)); err != nil || !strings.Contains(string(document), `"candidates":[],"attempts":[]}`) {
		t.Errorf("%s, %v", document, err)
	}
	if t.Failed() {
		t.Logf("%s", document)
	}
}

func TestTheComparisonWithThePrimary(t *testing.T) {
	usual := int64(-5_000)
	for want, v := range map[string]Trace{
		"": {Deployment: "a", Primary: &Primary{Deployment: "a", CostNano: 5}, Difference: &Difference{}},
		"the same cost and +230 ms against the primary a":                                                                 {Deployment: "a", Primary: &Primary{Deployment: "a", CostNano: 5}, Difference: &Difference{Lost: 230_000}},
		"cost +$0.0001 (+12 %) and +230 ms against the primary a":                                                         {Deployment: "b", Primary: &Primary{Deployment: "a", CostNano: 833_333}, Difference: &Difference{CostNano: 100_000, Lost: 230_000}},
		"cost -$0.0001 (-0.5 %) and no time lost against the primary a":                                                   {Deployment: "b", Primary: &Primary{Deployment: "a", CostNano: 20_000_000}, Difference: &Difference{CostNano: -100_000}},
		"cost +$0.0001 and no time lost against the primary a, whose first token usually takes 20 ms (this one: -5.0 ms)": {Deployment: "b", Stream: true, Primary: &Primary{Deployment: "a", Latency: 20_000}, Difference: &Difference{CostNano: 100_000, Usual: &usual}},
	} {
		if got := v.compared(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestBarsAreOnOneTimeLine(t *testing.T) {
	const total = 70_000 // a character is 1 ms
	marks := func(parts ...any) string {
		var b strings.Builder
		for i := 0; i < len(parts); i += 2 {
			b.WriteString(strings.Repeat(parts[i].(string), parts[i+1].(int)))
		}
		return b.String()
	}
	for _, c := range []struct {
		name    string
		attempt usage.Attempt
		want    string
	}{
		{"a stream", usage.Attempt{Outcome: "ok", Headers: 10_000, FirstToken: 30_000, Duration: 70_000}, marks(".", 10, "-", 20, "#", 40)},
		{"a whole answer", usage.Attempt{Outcome: "ok", Headers: 60_000, Duration: 70_000}, marks(".", 60, "#", 10)},
		{"no answer", usage.Attempt{Outcome: "headers_timeout", Duration: 20_000}, marks(".", 19, "x", 1)},
		{"headers and no content", usage.Attempt{Outcome: "overloaded", Headers: 5_000, Duration: 20_000}, marks(".", 5, "-", 14, "x", 1)},
		{"a stream that broke, after a wait", usage.Attempt{Outcome: "broken", Wait: 10_000, Offset: 30_000, Headers: 5_000, FirstToken: 8_000, Duration: 20_000}, marks(" ", 20, "~", 10, ".", 5, "-", 3, "#", 11, "x", 1)},
		{"in no time", usage.Attempt{Outcome: "connect_failed", Offset: 70_000}, marks(" ", 69, "x", 1)},
		{"beyond the end", usage.Attempt{Outcome: "ok", Offset: 60_000, Duration: 90_000, FirstToken: 500_000}, marks(" ", 60, ".", 9, "#", 1)},
	} {
		if got := bar(&c.attempt, total); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	if got := bar(&usage.Attempt{Duration: 5}, 0); got != "" {
		t.Errorf("no time at all: %q", got)
	}
}

func TestABarNeverPanics(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Range(-1_000_000, 1_000_000_000)
		a := usage.Attempt{
			Outcome: rapid.SampledFrom([]string{"ok", "broken"}).Draw(t, "outcome"), Wait: n.Draw(t, "wait"), Offset: n.Draw(t, "offset"),
			Headers: n.Draw(t, "headers"), FirstToken: n.Draw(t, "first"), Duration: n.Draw(t, "duration"),
		}
		if got := bar(&a, n.Draw(t, "total")); len(got) > barWidth {
			t.Fatalf("%d characters", len(got))
		}
	})
}

func TestWrap(t *testing.T) {
	for text, want := range map[string][]string{
		"":                           {""},
		"one two three":              {"one two", "three"},
		"incomprehensibilities ok":   {"incomprehensibilities", "ok"},
		"a\nb\x1b[31mc \u202e\xff d": {"a b [31mc", "? d"},
	} {
		if diff := cmp.Diff(want, wrap(text, 9)); diff != "" {
			t.Errorf("%q: %s", text, diff)
		}
	}
}

// R39: docs/traces.md explains every outcome and every reason, and no other; so does the trace itself.
func TestEveryWordOfATraceIsExplained(t *testing.T) {
	document, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "traces.md"))
	if err != nil {
		t.Fatal(err)
	}
	var outcomes []string
	for _, o := range upstream.Outcomes {
		outcomes = append(outcomes, string(o))
	}
	compare(t, "outcomes in docs/traces.md", outcomes, tableOf(string(document), "Outcomes"))
	declared := reasonsOf(t)
	compare(t, "reasons in docs/traces.md", declared, tableOf(string(document), "Reasons"))
	var words []string
	for r := range reasons {
		words = append(words, string(r))
	}
	compare(t, "reasons in words", declared, words)
}

// What a drill knows of a deployment is kept apart, and telemetry leaves it out by its name.
func TestTheHealthOfADrillIsNoMetric(t *testing.T) {
	view, err := snapshot.Compile(snapshot.Spec{
		Organizations: []account.Organization{{Name: "acme"}},
		Projects:      []account.Project{{Organization: "acme", Name: "app"}},
		Providers:     []catalog.Provider{{Name: "alpha", Dialect: catalog.Simulated}},
		Models:        []catalog.Model{{Name: "llama", Deployments: []catalog.Deployment{{Provider: "alpha", Model: "l"}}}},
		Policies:      []catalog.Policy{{Name: "p"}},
		DefaultPolicy: "p",
	})
	if err != nil {
		t.Fatal(err)
	}
	plan, err := routing.Make(view, routing.Ask{
		Principal: &account.Principal{
			Key: &account.APIKey{}, Project: &account.Project{Organization: "acme", Name: "app"}, Organization: &account.Organization{Name: "acme"},
		},
		Endpoint: catalog.Chat, Request: &openai.Request{Model: "llama"}, Draw: func() float64 { return 0 },
		Drills: []*catalog.Drill{{ID: "drill_1", Provider: "alpha"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if id := plan.Candidates[0].HealthID; !strings.HasPrefix(id, telemetry.DrillScope) {
		t.Errorf("%q does not begin with %q", id, telemetry.DrillScope)
	}
}

func compare(t *testing.T, what string, want, got []string) {
	t.Helper()
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s:\n%s", what, diff)
	}
}

// tableOf are the words in the first column of the tables below a heading.
func tableOf(document, heading string) []string {
	_, section, _ := strings.Cut(document, "\n## "+heading+"\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var words []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|").FindAllStringSubmatch(section, -1) {
		words = append(words, row[1])
	}
	return words
}

// reasonsOf reads the constants of type routing.Reason out of the package's source: nothing lists them
// while the program runs.
func reasonsOf(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "..", "routing", "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, is := n.(*ast.ValueSpec)
			if !is || len(spec.Values) != 1 {
				return true
			}
			kind, _ := spec.Type.(*ast.Ident)
			value, _ := spec.Values[0].(*ast.BasicLit)
			if kind == nil || value == nil || kind.Name != "Reason" {
				return true
			}
			if word, _ := strconv.Unquote(value.Value); routing.Reason(word) != routing.Kept {
				found[word] = true
			}
			return true
		})
	}
	return slices.Collect(maps.Keys(found))
}
