package families

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write testdata/equivalents.txt anew")

func TestFindKnowsManySpellings(t *testing.T) {
	for name, ids := range map[string][]string{
		"llama-3.3-70b": {
			"llama-3.3-70b", "meta-llama/Llama-3.3-70B-Instruct", "llama-3.3-70b-versatile", "accounts/fireworks/models/llama-v3p3-70b-instruct",
			"meta.llama3-3-70b-instruct-v1:0", "us.meta.llama3-3-70b-instruct-v1:0", "llama3.3:70b", "llama3.3", "llama3.3:latest",
			"meta-llama/llama-3.3-70b-instruct:free", "meta-llama/Llama-3.3-70B-Instruct-Turbo", "@cf/meta/llama-3.3-70b-instruct-fp8-fast",
			"bartowski/Llama-3.3-70B-Instruct-GGUF:Q4_K_M", "llama3.3:70b-instruct-q4_K_M", "Llama-3.3-70B-Instruct-Q8_0.gguf",
			"meta/llama-3.3-70b-instruct-maas", "Meta-Llama-3_3-70B-Instruct", "casperhansen/llama-3.3-70b-instruct-awq",
		},
		"llama-3.1-8b":       {"llama-3.1-8b-instant", "llama3.1", "llama3.1:8b", "meta-llama/Meta-Llama-3.1-8B-Instruct-Turbo", "meta.llama3-1-8b-instruct-v1:0"},
		"llama-3.2-3b":       {"llama3.2", "llama3.2:3b", "hf.co/bartowski/Llama-3.2-3B-Instruct-GGUF:Q6_K"},
		"llama-4-maverick":   {"meta-llama/Llama-4-Maverick-17B-128E-Instruct-FP8", "meta.llama4-maverick-17b-instruct-v1:0", "llama-4-maverick"},
		"gpt-4o":             {"gpt-4o", "openai/gpt-4o", "gpt-4o-2024-08-06", "GPT-4o"},
		"gpt-4o-mini":        {"gpt-4o-mini", "gpt-4o-mini-2024-07-18", "openai/gpt-4o-mini"},
		"gpt-4-turbo":        {"gpt-4-turbo-2024-04-09", "gpt-4-turbo-preview"},
		"gpt-3.5-turbo":      {"gpt-3.5-turbo-0125", "gpt-35-turbo"},
		"gpt-5-chat":         {"gpt-5-chat-latest"},
		"gpt-oss-20b":        {"openai/gpt-oss-20b", "gpt-oss:20b", "openai.gpt-oss-20b-1:0"},
		"o3":                 {"o3", "o3-2025-04-16", "openai/o3"},
		"claude-sonnet-4.5":  {"claude-sonnet-4-5", "claude-sonnet-4-5-20250929", "anthropic/claude-sonnet-4.5", "eu.anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-sonnet-4-5@20250929"},
		"claude-opus-4":      {"claude-opus-4-0", "claude-opus-4-20250514"},
		"claude-opus-4.6":    {"us.anthropic.claude-opus-4-6-v1"},
		"claude-fable-5":     {"anthropic.claude-fable-5-v1:0", "claude-fable-5"},
		"claude-fable-5.1":   {"anthropic.claude-fable-5-1-v1:0", "anthropic/claude-fable-5.1"},
		"claude-3.5-sonnet":  {"claude-3-5-sonnet-20241022", "anthropic.claude-3-5-sonnet-20241022-v2:0", "claude-3-5-sonnet-v2@20241022"},
		"gemini-2.5-flash":   {"gemini-2.5-flash", "models/gemini-2.5-flash", "google/gemini-2.5-flash-preview-05-20", "publishers/google/models/gemini-2.5-flash"},
		"qwen2.5-72b":        {"Qwen/Qwen2.5-72B-Instruct", "qwen-2.5-72b", "qwen2.5:72b-instruct-q8_0"},
		"qwen3-235b-a22b":    {"Qwen/Qwen3-235B-A22B", "qwen.qwen3-235b-a22b-2507-v1:0", "Qwen/Qwen3-235B-A22B-Instruct-2507", "qwen3:235b"},
		"mistral-large-3":    {"mistral-large-2512", "mistral-large-latest", "mistral.mistral-large-3-675b-instruct"},
		"mistral-large-2":    {"mistral-large-2411", "mistralai/Mistral-Large-Instruct-2407"},
		"mistral-nemo":       {"open-mistral-nemo-2407", "mistralai/Mistral-Nemo-Instruct-2407", "mistral-nemo"},
		"mixtral-8x7b":       {"mistralai/Mixtral-8x7B-Instruct-v0.1", "mixtral:8x7b", "mistral.mixtral-8x7b-instruct-v0:1"},
		"deepseek-v3.2":      {"deepseek.v3.2", "deepseek-ai/DeepSeek-V3.2-Exp", "accounts/fireworks/models/deepseek-v3p2"},
		"deepseek-r1":        {"deepseek-ai/DeepSeek-R1-0528", "deepseek/deepseek-r1:free", "us.deepseek.r1-v1:0"},
		"glm-4.6":            {"zai-org/GLM-4.6", "accounts/fireworks/models/glm-4p6", "z-ai/glm-4.6:exacto"},
		"kimi-k2":            {"moonshotai/Kimi-K2-Instruct-0905", "kimi-k2-0711-preview"},
		"kimi-k2.5":          {"accounts/fireworks/models/kimi-k2p5", "moonshotai/kimi-k2.5"},
		"gemma-3-27b":        {"google/gemma-3-27b-it", "gemma3:27b", "gemma3:27b-it-qat"},
		"phi-4":              {"microsoft/phi-4", "phi4", "phi4:14b"},
		"nova-pro":           {"amazon.nova-pro-v1:0", "us.amazon.nova-pro-v1:0", "amazon/nova-pro-v1"},
		"command-r-plus":     {"command-r-plus-08-2024"},
		"nomic-embed-text":   {"nomic-embed-text", "nomic-embed-text:latest", "nomic-ai/nomic-embed-text-v1.5"},
		"qwen3-embedding-8b": {"Qwen/Qwen3-Embedding-8B", "qwen3-embedding:8b"},
	} {
		for _, id := range ids {
			if e, ok := Find(id); !ok || e.Name != name {
				t.Errorf("%s is %v (%s), not %s", id, e, key(id), name)
			}
		}
	}
}

func TestKey(t *testing.T) {
	for id, want := range map[string]string{
		"GPT-4o": "gpt-4o", "qwen2.5": "qwen-2-5", "model-1080p-x": "model-1080p-x", "k2p5": "k-2-5", "vicuna-7b-v1.5": "vicuna-7b-1-5",
		"glm-4.5v": "glm-4-5v", "a//b__c": "b-c", "eu.vendor.model-v2:0:24k": "model", "vendor.model-v2": "model-2",
	} {
		if got := key(id); got != want {
			t.Errorf("%s: %s, want %s", id, got, want)
		}
	}
}

func TestFindDoesNotGuess(t *testing.T) {
	for _, id := range []string{
		"", "-", "/", "chat", "instruct", "latest", "my-model", "gpt", "gpt-9", "llama", "prod-1", "llama-3.3-70b-roleplay", "DeepSeek-R1-Distill-Llama-13B",
		"hermes-3-llama-3.1-70b", "ft:gpt-4o-2024-08-06:acme::abc123", ":", "...", "2024-08-06",
	} {
		if e, ok := Find(id); ok {
			t.Errorf("%q is taken for %s", id, e.Name)
		}
	}
}

func TestAnyTextIsAnID(t *testing.T) {
	for _, id := range []string{"v1", "a.b", "a.1", ".", "-v1", "-", "::", "@", "a.-v1:0", "é.ü/ß", strings.Repeat("-instruct", 50), "us.x-v", "p1p2p3", "\x00\xff"} {
		Find(id)
		At("api.openai.com", id)
	}
}

func TestAt(t *testing.T) {
	for _, c := range []struct{ host, id, provider, want string }{
		{"api.groq.com", "llama-3.3-70b-versatile", "groq", "llama-3.3-70b-versatile"},
		{"API.Groq.com", "LLAMA-3.3-70b-versatile", "groq", "llama-3.3-70b-versatile"},
		{"api.groq.com", "gpt-4o", "", ""},
		{"acme.openai.azure.com", "gpt-4o", "azure", "gpt-4o"},
		{"openai.azure.com", "gpt-4o", "", ""},
		{"bedrock-runtime.eu-west-1.amazonaws.com", "meta.llama3-3-70b-instruct-v1:0", "bedrock", "meta.llama3-3-70b-instruct-v1:0"},
		{"bedrock-runtime.amazonaws.com", "meta.llama3-3-70b-instruct-v1:0", "", ""},
		{"api.openai.com.evil.example", "gpt-4o", "", ""},
		{"api.openai.com", "gpt-4.1-2031-01-01", "openai", "gpt-4.1"}, // a date that the catalogue does not have
		{"", "gpt-4o", "", ""},
	} {
		o, ok := At(c.host, c.id)
		if ok != (c.want != "") || ok && (o.Provider != c.provider || o.ID != c.want) {
			t.Errorf("%s at %s: %+v", c.id, c.host, o)
		}
	}
	if p, ok := PriceAt("api.openai.com", "gpt-4o"); !ok || p.Input <= 0 || p.Output <= p.Input || p.Cached > p.Input {
		t.Errorf("price %+v, %t", p, ok)
	}
	want := Offer{
		Provider: "anthropic", ID: "claude-sonnet-4-5", Context: 200_000, MaxOutput: 64_000, Can: []string{Tools, Vision, Reasoning}, Priced: true,
		Price: Price{Input: 3e9, Output: 15e9, Cached: 300e6, CacheWrite: 3.75e9, CacheWrite1h: 6e9},
		Above: []Above{{200_000, Price{Input: 6e9, Output: 22.5e9, Cached: 600e6, CacheWrite: 7.5e9, CacheWrite1h: 12e9}}},
	}
	if o, ok := At("api.anthropic.com", "claude-sonnet-4-5"); !ok || !reflect.DeepEqual(*o, want) {
		t.Errorf("%+v", o)
	}
	if p, ok := PriceAt("openrouter.ai", "meta-llama/llama-3.3-70b-instruct:free"); ok && p != (Price{}) {
		t.Errorf("free: %+v", p)
	}
}

// The catalogue is written by a script; what is in it must make sense all the same.
func TestTheCatalogueIsSane(t *testing.T) {
	c, err := readCatalogue(catalogueFile)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := time.Parse(time.DateOnly, c.Date); err != nil {
		t.Error(err)
	}
	if len(c.Models) < 1500 || len(c.Providers) < 25 || len(c.Sources) != 2 {
		t.Errorf("%d models at %d providers from %d sources", len(c.Models), len(c.Providers), len(c.Sources))
	}
	const most = 1000 * 1_000_000_000 // USD 1000 per million tokens
	served, priced := map[string]int{}, 0
	for _, m := range c.Models {
		served[m.At]++
		o := m.offer()
		where := m.At + "/" + m.ID
		switch p := o.Price; {
		case o.Priced && (p.Input < 0 || p.Input > most || p.Output < 0 || p.Output > most):
			t.Errorf("%s: price %+v", where, p)
		case o.Priced && p.Cached > p.Input:
			t.Errorf("%s: cached input is dearer than fresh: %+v", where, p)
		case p.CacheWrite > 0 && p.CacheWrite < p.Input && strings.Contains(m.ID, "gemini"):
			t.Errorf("%s: to write into the cache is cheaper than not to: %+v", where, p)
		case p.CacheWrite1h > 0 && p.CacheWrite1h < p.CacheWrite:
			t.Errorf("%s: an hour in the cache is cheaper than minutes: %+v", where, p)
		case o.Context < 0 || o.Context > 100_000_000 || o.MaxOutput < 0 || o.MaxOutput > 10_000_000:
			t.Errorf("%s: context %d, output %d", where, o.Context, o.MaxOutput)
		}
		before := Above{Price: o.Price}
		for _, above := range o.Above {
			if above.Tokens < 1000 || above.Tokens <= before.Tokens || above.Price == before.Price || above.Price.Input < before.Price.Input {
				t.Errorf("%s: for longer prompts %+v, before that %+v", where, above, before)
			}
			before = above
		}
		for _, word := range o.Can {
			if word != Tools && word != Vision && word != Reasoning {
				t.Errorf("%s can %q", where, word)
			}
		}
		if o.Priced {
			priced++
		}
	}
	if priced*10 < len(c.Models)*9 {
		t.Errorf("only %d of %d models have a price", priced, len(c.Models))
	}
	for _, p := range c.Providers {
		if served[p.Name] == 0 || len(p.Hosts) == 0 {
			t.Errorf("provider %s has %d models and the hosts %v", p.Name, served[p.Name], p.Hosts)
		}
		delete(served, p.Name)
	}
	if len(served) > 0 {
		t.Errorf("no such providers: %v", served)
	}
}

// One id must not lead to two models, and what is on the map must be spelled as the catalogue spells it.
func TestTheMapIsSane(t *testing.T) {
	var file struct{ Families []family }
	if err := json.Unmarshal(mapFile, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Families) < 250 {
		t.Errorf("%d families", len(file.Families))
	}
	taken := map[string]string{}
	for _, f := range file.Families {
		for _, id := range append([]string{f.Name}, f.Also...) {
			k := key(id)
			if other := taken[k]; other != "" && other != f.Name {
				t.Errorf("%s is both %s and %s", id, other, f.Name)
			}
			taken[k] = f.Name
		}
		embedding := f.Kind == kindEmbedding
		if embedding != (f.Tier == 0) || embedding != (f.Line == "") || f.Tier > 6 {
			t.Errorf("%s: kind %q, tier %d, line %q", f.Name, f.Kind, f.Tier, f.Line)
		}
	}
	unserved := 0
	for _, e := range All() {
		if e.Tier > 0 && len(e.Offers) == 0 {
			unserved++ // small open models that people run themselves
		}
		for _, o := range e.Offers {
			if o.Embedding != e.Embedding {
				t.Errorf("%s at %s is filed under %s", o.ID, o.Provider, e.Name)
			}
		}
	}
	if unserved > 30 {
		t.Errorf("%d models of the map are served nowhere: is their spelling right?", unserved)
	}
}

func TestReading(t *testing.T) {
	if _, err := load([]byte("{"), mapFile); err == nil {
		t.Error("a broken catalogue was read")
	}
	if _, err := load(catalogueFile, []byte("{")); err == nil {
		t.Error("a broken map was read")
	}
}

func TestStatementsAreThoseOfMost(t *testing.T) {
	x, err := load([]byte(`{"models": [
		{"at": "a", "id": "m", "context": 100, "output": 10, "can": ["tools", "vision"], "price": [3, 4, 1]},
		{"at": "b", "id": "m", "context": 200, "output": 900, "can": ["tools"], "price": [1, 2, 1]},
		{"at": "c", "id": "m", "context": 200, "output": 20, "can": ["tools"], "price": [9, 9, 9]},
		{"at": "d", "id": "m", "context": 999, "price": [0, 0, 0]}
	]}`), []byte(`{"families": [{"name": "m", "line": "l", "tier": 1}]}`))
	if err != nil {
		t.Fatal(err)
	}
	e := x.byKey["m"]
	offers := e.Offers
	e.Offers = nil
	want := &Entry{
		Name: "m", Line: "l", Tier: 1, Context: 200, MaxOutput: 200, Can: []string{Tools}, Lacks: []string{Reasoning},
		Price: Price{Input: 3, Output: 4, Cached: 1}, Priced: true,
	}
	if diff := cmp.Diff(want, e); diff != "" || len(offers) != 4 {
		t.Errorf("%d offers, %s", len(offers), diff)
	}
}

// The table is here to be read: does it make sense who stands in for whom? `go test ./internal/families -update`
// writes it anew.
func TestTopEquivalents(t *testing.T) {
	var table strings.Builder
	for _, name := range []string{
		"gpt-3.5-turbo", "gpt-4o", "gpt-4o-mini", "gpt-4.1", "gpt-5", "gpt-5-mini", "gpt-6-sol", "o3", "o4-mini", "gpt-oss-120b",
		"claude-sonnet-4.5", "claude-opus-5.5", "claude-haiku-4.5", "gemini-2.5-pro", "gemini-2.5-flash", "gemma-3-27b",
		"llama-3.1-8b", "llama-3.3-70b", "llama-4-maverick", "qwen2.5-72b", "qwen3-235b-a22b", "qwen3-coder-480b-a35b", "mistral-large-3",
		"mistral-small-3.2-24b", "deepseek-v3.2", "deepseek-r1", "glm-5.3", "kimi-k2.6", "minimax-m2.5", "grok-4", "command-a", "nova-pro", "phi-4",
		"text-embedding-3-large",
	} {
		e, ok := Find(name)
		if !ok {
			t.Fatalf("%s is not known", name)
		}
		list := Equivalents(e, All())
		fmt.Fprintf(&table, "%s (tier %d, %d equivalents)\n", e.Name, e.Tier, len(list))
		for _, g := range list[:min(len(list), 8)] {
			fmt.Fprintf(&table, "    %.2f  %s\n", g.Grade, g.Name)
		}
	}
	const golden = "testdata/equivalents.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(table.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), table.String()); diff != "" {
		t.Errorf("the top equivalents have changed (-update if that is meant):\n%s", diff)
	}
}

func TestListsAreComplete(t *testing.T) {
	if !slices.ContainsFunc(All(), func(e *Entry) bool { return e.Name == "gpt-4o" }) || Date() == "" || len(Sources()) == 0 {
		t.Error("a list is empty")
	}
}

func BenchmarkLoad(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := load(catalogueFile, mapFile); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFind(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		Find("accounts/fireworks/models/llama-v3p3-70b-instruct")
	}
}
