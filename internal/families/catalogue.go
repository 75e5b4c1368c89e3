package families

import (
	_ "embed"
	"encoding/json"
	"strings"
)

//go:embed catalogue.json
var catalogueFile []byte

// Offer is a model as one provider serves it, as the catalogue has it.
type Offer struct {
	Provider  string // "groq"
	ID        string // the provider's id of the model
	Embedding bool   // makes vectors, not text
	Context   int64  // tokens, prompt and answer together; 0: unknown
	MaxOutput int64  // tokens; 0: unknown
	// Can is which of tools, vision and reasoning the model has here; nil: unknown. The catalogue judges no other
	// capability.
	Can    []string
	Price  Price
	Priced bool // the price is known, also when it is nothing
	// Above is what the provider takes for longer prompts, shortest first.
	Above []Above
}

// Price is nano-dollars per million tokens. Of those after Cached, 0 says that the kind has no price of its own.
type Price struct {
	Input, Output, Cached                                        int64
	CacheWrite, CacheWrite1h, Reasoning, AudioInput, AudioOutput int64
}

// Above is the price of requests whose prompt has more tokens than that.
type Above struct {
	Tokens int64
	Price  Price
}

// blended is what three tokens in and one out cost: the usual mix, for comparing prices.
func (p Price) blended() int64 { return (3*p.Input + p.Output) / 4 }

// catalogue is catalogue.json.
type catalogue struct {
	Date      string     `json:"date"`
	Sources   []Source   `json:"sources"`
	Providers []provider `json:"providers"`
	Models    []model    `json:"models"`
}

// Source is where the catalogue's facts are from.
type Source struct {
	Package   string `json:"package"`
	Version   string `json:"version"`
	Published string `json:"published"` // a day: 2026-11-10
	Licence   string `json:"licence"`
}

type provider struct {
	Name  string   `json:"name"`
	Hosts []string `json:"hosts"` // one * in each at most
}

type model struct {
	At      string   `json:"at"`
	ID      string   `json:"id"`
	Kind    string   `json:"kind"`
	Context int64    `json:"context"`
	Output  int64    `json:"output"`
	Can     []string `json:"can"`
	Price   []int64  `json:"price"`
	Above   []struct {
		Tokens int64   `json:"tokens"`
		Price  []int64 `json:"price"`
	} `json:"above"`
}

func readCatalogue(text []byte) (catalogue, error) {
	var c catalogue
	err := json.Unmarshal(text, &c)
	return c, err
}

func (m *model) offer() Offer {
	o := Offer{
		Provider: m.At, ID: m.ID, Embedding: m.Kind == kindEmbedding, Context: m.Context, MaxOutput: m.Output,
		Can: m.Can, Priced: m.Price != nil, Price: priceOf(m.Price),
	}
	for _, above := range m.Above {
		o.Above = append(o.Above, Above{Tokens: above.Tokens, Price: priceOf(above.Price)})
	}
	return o
}

// priceOf reads a price, whose last zeros are left out.
func priceOf(list []int64) (p Price) {
	for i, to := range [...]*int64{
		&p.Input, &p.Output, &p.Cached, &p.CacheWrite, &p.CacheWrite1h, &p.Reasoning, &p.AudioInput, &p.AudioOutput,
	} {
		if i < len(list) {
			*to = list[i]
		}
	}
	return p
}

const kindEmbedding = "embedding"

// serves says whether one of the provider's hosts is this one.
func (p *provider) serves(host string) bool {
	for _, h := range p.Hosts {
		before, after, pattern := strings.Cut(h, "*")
		if h == host || pattern && len(host) > len(before)+len(after) && strings.HasPrefix(host, before) && strings.HasSuffix(host, after) {
			return true
		}
	}
	return false
}
