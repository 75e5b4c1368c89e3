package cli

import (
	"strconv"
	"strings"

	"shareai/internal/catalog"
	"shareai/internal/families"
)

type modelsCommand struct {
	Name string `arg:"" optional:"" help:"A model's name or id, in any provider's spelling. Default: list all."`
	output
}

// Help is the long help.
func (modelsCommand) Help() string {
	return `What is known of models before anything is declared: limits, prices at each provider, and which
others come close. What a configuration declares wins over it. The grades of equivalents go from 0 to 1; they and the
tiers behind them are a judgement, which docs/models.md explains.

    shareai models
    shareai models llama3.3:70b
    shareai models meta-llama/Llama-3.3-70B-Instruct --json`
}

// modelInfo is a model as JSON. Limits are tokens, prices nano-dollars per million tokens; what is missing is unknown.
type modelInfo struct {
	Name        string           `json:"name"`
	Series      string           `json:"series,omitempty"`
	Tier        int              `json:"tier,omitempty"` // 1 to 6
	Tokenizer   string           `json:"tokenizer,omitempty"`
	For         string           `json:"for,omitempty"`
	Embedding   bool             `json:"embedding,omitempty"`
	Context     int64            `json:"context,omitempty"`
	MaxOutput   int64            `json:"max_output,omitempty"`
	Can         []string         `json:"can,omitempty"`
	Lacks       []string         `json:"lacks,omitempty"`
	Price       *modelPrice      `json:"price,omitempty"` // the median of the providers'
	Offers      []modelOffer     `json:"offers,omitempty"`
	Equivalents []modelStandIn   `json:"equivalents,omitempty"`
	Catalogue   *modelsCatalogue `json:"catalogue,omitempty"`
}

type modelPrice struct {
	Input  int64 `json:"input_nano_usd_per_million"`
	Output int64 `json:"output_nano_usd_per_million"`
	Cached int64 `json:"cached_input_nano_usd_per_million"`

	// Those that have a price of their own.
	CacheWrite   int64 `json:"cache_write_nano_usd_per_million,omitempty"`
	CacheWrite1h int64 `json:"cache_write_1h_nano_usd_per_million,omitempty"`
	Reasoning    int64 `json:"reasoning_nano_usd_per_million,omitempty"`
	AudioInput   int64 `json:"audio_input_nano_usd_per_million,omitempty"`
	AudioOutput  int64 `json:"audio_output_nano_usd_per_million,omitempty"`
}

// dearerPrice is what a provider takes for longer prompts.
type dearerPrice struct {
	Tokens int64       `json:"tokens"`
	Price  *modelPrice `json:"price"`
}

type modelOffer struct {
	Provider    string        `json:"provider"`
	ID          string        `json:"id"`
	Context     int64         `json:"context,omitempty"`
	MaxOutput   int64         `json:"max_output,omitempty"`
	Can         []string      `json:"can,omitempty"`
	Price       *modelPrice   `json:"price,omitempty"`
	DearerAbove int64         `json:"dearer_above,omitempty"` // tokens of the prompt
	Above       []dearerPrice `json:"above,omitempty"`
}

type modelStandIn struct {
	Name  string  `json:"name"`
	Grade float64 `json:"grade"`
}

type modelsCatalogue struct {
	Date    string            `json:"date"`
	Sources []families.Source `json:"sources"`
}

// Run prints what is known of one model, or lists all.
func (c *modelsCommand) Run(t *terminal) error {
	if c.Name == "" {
		return c.list(t)
	}
	e, ok := families.Find(c.Name)
	if !ok {
		return unknownModel(c.Name)
	}
	info := infoOf(e)
	for _, g := range families.Equivalents(e, families.All()) {
		info.Equivalents = append(info.Equivalents, modelStandIn{Name: g.Name, Grade: float64(int(g.Grade*100+0.5)) / 100})
	}
	for _, o := range e.Offers {
		offer := modelOffer{
			Provider: o.Provider, ID: o.ID, Context: o.Context, MaxOutput: o.MaxOutput, Can: o.Can, Price: priceIf(o.Priced, o.Price),
		}
		for i, above := range o.Above {
			if i == 0 {
				offer.DearerAbove = above.Tokens
			}
			offer.Above = append(offer.Above, dearerPrice{above.Tokens, priceIf(true, above.Price)})
		}
		info.Offers = append(info.Offers, offer)
	}
	info.Catalogue = &modelsCatalogue{Date: families.Date(), Sources: families.Sources()}
	if c.JSON {
		return t.json(info)
	}
	t.model(&info)
	return nil
}

func (c *modelsCommand) list(t *terminal) error {
	all := []modelInfo{}
	for _, e := range families.All() {
		if e.Tier > 0 || e.Embedding {
			all = append(all, infoOf(e))
		}
	}
	if c.JSON {
		return t.json(all)
	}
	tb := table{columns: []column{
		{"MODEL", left}, {"TIER", right}, {"CONTEXT", right}, {"CAN", left}, {"INPUT", right}, {"OUTPUT", right},
	}}
	for i := range all {
		m := &all[i]
		in, out, _ := prices(m.Price)
		tb.add(m.Name, orNothing(int64(m.Tier)), orNothing(m.Context), m.abilities(), in, out)
	}
	t.table("", &tb)
	t.print("\nCatalogue of %s. Prices are the median of the providers', in USD per million tokens.\n", families.Date())
	return nil
}

func infoOf(e *families.Entry) modelInfo {
	return modelInfo{
		Name: e.Name, Series: e.Line, Tier: e.Tier, Tokenizer: e.Tokenizer, For: e.For, Embedding: e.Embedding,
		Context: e.Context, MaxOutput: e.MaxOutput, Can: e.Can, Lacks: e.Lacks, Price: priceIf(e.Priced, e.Price),
	}
}

func priceIf(known bool, p families.Price) *modelPrice {
	if !known {
		return nil
	}
	return &modelPrice{
		Input: p.Input, Output: p.Output, Cached: p.Cached, CacheWrite: p.CacheWrite, CacheWrite1h: p.CacheWrite1h,
		Reasoning: p.Reasoning, AudioInput: p.AudioInput, AudioOutput: p.AudioOutput,
	}
}

// unknownModel suggests names that contain what was asked for.
func unknownModel(name string) error {
	const most = 8
	var near []string
	for _, e := range families.All() {
		if len(near) < most && len(name) > 2 && strings.Contains(e.Name, strings.ToLower(name)) {
			near = append(near, e.Name)
		}
	}
	hint := "`shareai models` lists what is known; any other model works as well, with its limits and prices declared"
	if len(near) > 0 {
		hint = "known are " + strings.Join(near, ", ")
	}
	return &failure{message: "nothing is known of the model " + strconv.Quote(name), hint: hint}
}

// model prints one model for people.
func (t *terminal) model(m *modelInfo) {
	t.print("%s\n", t.styled(bold, m.Name))
	about := table{columns: []column{{"", left}, {"", left}}}
	for _, fact := range [][2]string{
		{"series", m.Series},
		{"made for", m.For},
		{"tier", tierText(m.Tier)},
		{"context", orNothing(m.Context)},
		{"output", orNothing(m.MaxOutput)},
		{"can", m.abilities()},
		{"can not", strings.Join(m.Lacks, ", ")},
		{"tokenizer", m.Tokenizer},
	} {
		if fact[1] != "" {
			about.add(fact[0], fact[1])
		}
	}
	t.rows("  ", &about)
	t.offers(m)
	t.standIns(m)
}

// rows prints a table without its head.
func (t *terminal) rows(indent string, tb *table) {
	widths := make([]int, len(tb.columns))
	for _, row := range tb.rows {
		for i, cell := range row {
			widths[i] = max(widths[i], len(cell))
		}
	}
	for _, row := range tb.rows {
		t.print("%s%s\n", indent, tb.line(row, widths))
	}
}

func (t *terminal) offers(m *modelInfo) {
	if len(m.Offers) == 0 {
		t.print("\nNo provider of the catalogue of %s has it.\n", m.Catalogue.Date)
		return
	}
	t.print("\nProviders, by the catalogue of %s; prices in USD per million tokens\n", m.Catalogue.Date)
	tb := table{columns: []column{
		{"PROVIDER", left}, {"MODEL ID", left}, {"CONTEXT", right}, {"INPUT", right}, {"CACHED", right}, {"OUTPUT", right}, {"DEARER ABOVE", right},
	}}
	for i := range m.Offers {
		o := &m.Offers[i]
		in, out, cached := prices(o.Price)
		tb.add(o.Provider, o.ID, orNothing(o.Context), in, cached, out, orNothing(o.DearerAbove))
	}
	t.table("  ", &tb)
}

func (t *terminal) standIns(m *modelInfo) {
	const most = 12
	switch {
	case m.Embedding:
		t.print("\nIt makes vectors, which no other model's can be compared with: it has no equivalents.\n")
	case len(m.Equivalents) == 0:
		t.print("\nNo other model is known to come close.\n")
	default:
		t.print("\nThe closest of %d equivalents\n", len(m.Equivalents))
		for _, e := range m.Equivalents[:min(len(m.Equivalents), most)] {
			t.print("  %.2f  %s\n", e.Grade, e.Name)
		}
	}
}

func (m *modelInfo) abilities() string {
	if m.Embedding {
		return "embeddings"
	}
	return strings.Join(m.Can, ", ")
}

func tierText(tier int) string {
	if tier == 0 {
		return ""
	}
	return strconv.Itoa(tier) + " of 6, a judgement"
}

// orNothing is a number, or nothing where it is unknown.
func orNothing(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

// prices are dollars per million tokens; empty where they are unknown.
func prices(p *modelPrice) (input, output, cached string) {
	if p == nil {
		return "", "", ""
	}
	return catalog.FormatUSD(p.Input), catalog.FormatUSD(p.Output), catalog.FormatUSD(p.Cached)
}
