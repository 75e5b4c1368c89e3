package snapshot

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"shareai/internal/catalog"
	"shareai/internal/families"
	"shareai/internal/tokenizer"
)

// target compiles one model with one deployment at a host and returns it.
func target(t *testing.T, host string, m catalog.Model, d catalog.Deployment) Target {
	t.Helper()
	d.Provider = "there"
	m.Deployments = []catalog.Deployment{d}
	if m.Name == "" {
		m.Name = "some-model"
	}
	view, err := Compile(Spec{
		Providers: []catalog.Provider{{Name: "there", Dialect: catalog.OpenAI, BaseURL: "https://" + host + "/v1"}},
		Models:    []catalog.Model{m},
	})
	if err != nil {
		t.Fatal(err)
	}
	compiled, _ := view.Model(m.Name)
	if diff := cmp.Diff(d, compiled.Deployments[0]); diff != "" || compiled.Targets[0].ID != "there/"+d.Model {
		t.Errorf("the declaration has changed:\n%s", diff)
	}
	return compiled.Targets[0]
}

func TestPricesComeFromTheCatalogueUnlessDeclared(t *testing.T) {
	known, ok := families.PriceAt("api.groq.com", "llama-3.3-70b-versatile")
	if !ok {
		t.Fatal("the catalogue has no price")
	}
	catalogued := catalog.Price{Input: known.Input, Output: known.Output, CachedInput: known.Cached}
	own := catalog.Price{Input: 1, Output: 2, CachedInput: 3}
	for _, c := range []struct {
		name, host string
		d          catalog.Deployment
		want       catalog.Price
		learnt     bool
	}{
		{"not declared", "api.groq.com", catalog.Deployment{}, catalogued, true},
		{"declared", "api.groq.com", catalog.Deployment{Price: own}, own, false},
		{"declared to be nothing", "api.groq.com", catalog.Deployment{Priced: true}, catalog.Price{}, false},
		{"elsewhere", "llm.example", catalog.Deployment{}, catalog.Price{}, false},
	} {
		c.d.Model = "llama-3.3-70b-versatile"
		got := target(t, c.host, catalog.Model{}, c.d)
		if got.Deployment.Price != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got.Deployment.Price, c.want)
		}
		if learnt := strings.HasPrefix(got.PriceVersion, "catalogue-"+families.Date()); learnt != c.learnt {
			t.Errorf("%s: version %q", c.name, got.PriceVersion)
		}
	}
}

// Every kind of tokens has the catalogue's price, and so have longer prompts.
func TestAllOfAPriceComesFromTheCatalogue(t *testing.T) {
	got := target(t, "api.anthropic.com", catalog.Model{}, catalog.Deployment{Model: "claude-sonnet-4-5"})
	want := catalog.Price{
		Input: 3e9, Output: 15e9, CachedInput: 300e6, CacheWrite: 3.75e9, CacheWrite1h: 6e9,
		Above: &catalog.Above{Tokens: 200_000, Price: catalog.Price{Input: 6e9, Output: 22.5e9, CachedInput: 600e6, CacheWrite: 7.5e9, CacheWrite1h: 12e9}},
	}
	if diff := cmp.Diff(want, got.Deployment.Price); diff != "" {
		t.Error(diff)
	}
	if got.PriceVersion != "catalogue-"+families.Date()+"-"+want.Version() {
		t.Errorf("version %q", got.PriceVersion)
	}
	if spoken := target(t, "generativelanguage.googleapis.com", catalog.Model{}, catalog.Deployment{Model: "gemini-2.5-flash"}); spoken.Deployment.Price.AudioInput != 1e9 {
		t.Errorf("sound: %+v", spoken.Deployment.Price)
	}
}

func TestLimitsComeFromTheCatalogueUnlessDeclared(t *testing.T) {
	offer, _ := families.At("api.openai.com", "gpt-4o")
	entry, _ := families.Find("llama-3.3-70b")
	set := catalog.SetOf
	for _, c := range []struct {
		name, host string
		m          catalog.Model
		d          catalog.Deployment
		want       Limits
	}{
		{
			"what the provider is known for", "api.openai.com",
			catalog.Model{},
			catalog.Deployment{Model: "gpt-4o"},
			Limits{
				Context: offer.Context, MaxOutput: offer.MaxOutput, Can: set(catalog.Tools, catalog.Vision),
				Lacks: set(catalog.Reasoning, catalog.Embedding), Tokenizer: "o200k",
			},
		},
		{
			"the deployment's word", "api.openai.com",
			catalog.Model{Context: 6, MaxOutput: 5, Capabilities: []catalog.Capability{catalog.Audio}},
			catalog.Deployment{Model: "gpt-4o", Context: 8, MaxOutput: 7, Capabilities: []catalog.Capability{catalog.Logprobs}},
			Limits{Context: 8, MaxOutput: 7, Can: set(catalog.Logprobs), Known: true, Tokenizer: "o200k"},
		},
		{
			"the model's word", "api.openai.com",
			catalog.Model{Context: 6, MaxOutput: 5, Capabilities: []catalog.Capability{catalog.Audio}},
			catalog.Deployment{Model: "gpt-4o"},
			Limits{Context: 6, MaxOutput: 5, Can: set(catalog.Audio), Known: true, Tokenizer: "o200k"},
		},
		{
			"a known model at home", "llm.example",
			catalog.Model{},
			catalog.Deployment{Model: "llama3.3:70b"},
			Limits{Context: entry.Context, Can: set(catalog.Tools), Lacks: set(catalog.Vision), Tokenizer: "llama3"},
		},
		{
			"a known name for an unknown id", "llm.example",
			catalog.Model{Name: "llama-3.3-70b"},
			catalog.Deployment{Model: "prod-1"},
			Limits{Context: entry.Context, Can: set(catalog.Tools), Lacks: set(catalog.Vision), Tokenizer: "llama3"},
		},
		{
			"text only", "llm.example",
			catalog.Model{Capabilities: []catalog.Capability{}},
			catalog.Deployment{Model: "prod-1"},
			Limits{Known: true},
		},
		{
			"a deployment for text only", "llm.example",
			catalog.Model{Capabilities: []catalog.Capability{catalog.Tools}},
			catalog.Deployment{Model: "prod-1", Capabilities: []catalog.Capability{}},
			Limits{Known: true},
		},
		{"nothing", "llm.example", catalog.Model{}, catalog.Deployment{Model: "prod-1"}, Limits{}},
		{
			"what is declared to lack", "llm.example",
			catalog.Model{},
			catalog.Deployment{Model: "llama3.3:70b", Lacks: []catalog.Capability{catalog.Tools}},
			Limits{Context: entry.Context, Lacks: set(catalog.Tools, catalog.Vision), Tokenizer: "llama3"},
		},
		{
			"an embedding model", "llm.example",
			catalog.Model{},
			catalog.Deployment{Model: "nomic-embed-text"},
			Limits{Can: set(catalog.Embedding), Known: true},
		},
	} {
		if got := target(t, c.host, c.m, c.d).Limits; got != c.want {
			t.Errorf("%s:\n%+v\nwant\n%+v", c.name, got, c.want)
		}
	}
}

func TestASimulatedProviderCanBeAnyModel(t *testing.T) {
	view, err := Compile(Spec{
		Providers: []catalog.Provider{{Name: "here", Dialect: catalog.Simulated}},
		Models:    []catalog.Model{{Name: "llama-3.3-70b", Deployments: []catalog.Deployment{{Provider: "here", Model: "llama-3.3-70b"}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	m, _ := view.Model("llama-3.3-70b")
	if got := m.Targets[0]; got.Limits != (Limits{}) || got.Deployment.HasPrice() {
		t.Errorf("%+v", got)
	}
}

// R6
func TestEquivalentsOfTheMap(t *testing.T) {
	for _, c := range []struct {
		name, models, of, want string
		declared               []catalog.Equivalent
	}{
		{"the closest first", "gpt-4o gpt-4.1 llama-3.3-70b llama-3.1-8b", "gpt-4o", "gpt-4.1 llama-3.3-70b", nil},
		{"the same model under two names", "gpt-4o openai/gpt-4o gpt-4.1", "gpt-4o", "openai/gpt-4o gpt-4.1", nil},
		{"strangers have none", "mine gpt-4o", "mine", "", nil},
		{"vectors have none", "text-embedding-3-large text-embedding-3-small", "text-embedding-3-large", "", nil},
		{
			"what is declared wins", "gpt-4o gpt-4.1 mine", "gpt-4o", "mine gpt-4.1",
			[]catalog.Equivalent{{Model: "gpt-4.1", Grade: 0.3}, {Model: "mine", Grade: 0.4}},
		},
		{"0 is never", "gpt-4o gpt-4.1 gpt-5-mini", "gpt-4o", "gpt-5-mini", []catalog.Equivalent{{Model: "gpt-4.1", Grade: 0}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			spec := Spec{Providers: []catalog.Provider{{Name: "here", Dialect: catalog.Simulated}}}
			for _, name := range strings.Fields(c.models) {
				m := catalog.Model{Name: name, Deployments: []catalog.Deployment{{Provider: "here", Model: name}}}
				if name == c.of {
					m.Equivalents = c.declared
				}
				spec.Models = append(spec.Models, m)
			}
			view, err := Compile(spec)
			if err != nil {
				t.Fatal(err)
			}
			m, _ := view.Model(c.of)
			var got []string
			for _, e := range m.Equivalents {
				got = append(got, e.Name)
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

// Every model is looked at for every request: there must not be too many.
func TestEquivalentsAreFew(t *testing.T) {
	spec := Spec{Providers: []catalog.Provider{{Name: "here", Dialect: catalog.Simulated}}}
	for _, e := range families.All()[:60] {
		spec.Models = append(spec.Models, catalog.Model{Name: e.Name, Deployments: []catalog.Deployment{{Provider: "here", Model: e.Name}}})
	}
	view, err := Compile(spec)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range spec.Models {
		if compiled, _ := view.Model(m.Name); len(compiled.Equivalents) > mostLearnt {
			t.Errorf("%s has %d", m.Name, len(compiled.Equivalents))
		}
	}
}

// The map names no vocabulary that counting does not tell apart.
func TestVocabulariesOfTheMapAreCounted(t *testing.T) {
	counted := tokenizer.Families()
	for _, e := range families.All() {
		if e.Tokenizer != "" && !slices.Contains(counted, e.Tokenizer) {
			t.Errorf("%s has the vocabulary %q", e.Name, e.Tokenizer)
		}
	}
}
