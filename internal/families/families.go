package families

import (
	"cmp"
	_ "embed"
	"encoding/json"
	"slices"
	"strings"
	"sync"
)

//go:embed map.json
var mapFile []byte

// The capabilities that the catalogue judges, as catalog.Capability writes them.
const (
	Tools     = "tools"
	Vision    = "vision"
	Reasoning = "reasoning"
)

// Entry is a model, whoever serves it.
type Entry struct {
	Name      string // "llama-3.3-70b"
	Line      string // the series that it belongs to: "llama"; empty: not on the map
	Tier      int    // how well it follows instructions, 1 to 6; 0: not on the map, never graded
	Tokenizer string // the vocabulary: "llama3"; empty: unknown
	For       string // what it is made for: "code"; empty: everything
	Embedding bool   // makes vectors, not text
	Context   int64  // tokens, as most providers state; 0: unknown
	MaxOutput int64  // tokens, the largest that a provider states; 0: unknown
	// Can is what it can do at most providers, Lacks what it can do at none. What is in neither is unknown.
	Can, Lacks []string
	Price      Price // the median over providers
	Priced     bool
	Offers     []*Offer // where the catalogue has it
}

// index is both files, ready to be asked.
type index struct {
	catalogue
	entries []*Entry          // those of the map first, in its order
	byKey   map[string]*Entry // by name and by every other id, as keys
	offers  map[place]*Offer
}

// A place is where an offer is found: by its id in lower case, or by its key.
type place struct{ provider, id string }

// shipped is what is embedded. It is read once, at the first question.
var shipped = sync.OnceValue(func() *index {
	x, err := load(catalogueFile, mapFile)
	if err != nil {
		panic("families: " + err.Error()) // both files are part of the binary, and a test reads them
	}
	return x
})

// Find returns the model that an id means, in the spelling of any provider or engine, with or without a date, packing
// or vendor. Names that the map and the catalogue do not have are not guessed at.
func Find(id string) (*Entry, bool) { return lookup(shipped().byKey, key(id)) }

// At returns a model as the provider with this host serves it: "api.groq.com". Ids are the provider's own; one that
// differs from the catalogue's by a date alone is taken for the same.
func At(host, id string) (*Offer, bool) {
	x := shipped()
	for i := range x.Providers {
		if x.Providers[i].serves(strings.ToLower(host)) {
			return x.at(x.Providers[i].Name, id)
		}
	}
	return nil, false
}

func (x *index) at(provider, id string) (*Offer, bool) {
	k := key(id)
	short, _ := undated(k)
	for _, known := range []string{strings.ToLower(id), k, short} {
		if o, ok := x.offers[place{provider, known}]; ok {
			return o, true
		}
	}
	return nil, false
}

// PriceAt returns what the provider with this host charges for a model.
func PriceAt(host, id string) (Price, bool) {
	o, ok := At(host, id)
	if !ok || !o.Priced {
		return Price{}, false
	}
	return o.Price, true
}

// All lists every model, those of the map first. The list and its entries are shared and must not be written to.
func All() []*Entry { return shipped().entries }

// Date is the day of the catalogue: 2026-11-10.
func Date() string { return shipped().Date }

// Sources says where the catalogue's facts are from.
func Sources() []Source { return shipped().Sources }

// family is a line of map.json.
type family struct {
	Name      string   `json:"name"`
	Kind      string   `json:"kind"`
	Line      string   `json:"line"`
	Tier      int      `json:"tier"`
	Tokenizer string   `json:"tokenizer"`
	For       string   `json:"for"`
	Also      []string `json:"also"`
}

func load(catalogueText, mapText []byte) (*index, error) {
	facts, err := readCatalogue(catalogueText)
	if err != nil {
		return nil, err
	}
	var curated struct {
		Families []family `json:"families"`
	}
	if err := json.Unmarshal(mapText, &curated); err != nil {
		return nil, err
	}
	x := &index{
		catalogue: facts,
		entries:   make([]*Entry, 0, 2*len(curated.Families)),
		byKey:     make(map[string]*Entry, 4*len(curated.Families)),
		offers:    make(map[place]*Offer, 2*len(facts.Models)),
	}
	for _, f := range curated.Families {
		x.add(&Entry{
			Name: f.Name, Line: f.Line, Tier: f.Tier, Tokenizer: f.Tokenizer, For: f.For, Embedding: f.Kind == kindEmbedding,
		}, f.Also)
	}
	for i := range facts.Models {
		x.offer(facts.Models[i].offer())
	}
	for _, e := range x.entries {
		e.settle()
	}
	x.Models = nil // all of it is in the offers now
	return x, nil
}

func (x *index) add(e *Entry, also []string) {
	x.entries = append(x.entries, e)
	x.byKey[key(e.Name)] = e
	for _, id := range also {
		x.byKey[key(id)] = e
	}
}

// offer files an offer under its model. What is not on the map becomes a model of its own, without a tier.
func (x *index) offer(o Offer) {
	k := key(o.ID)
	e, ok := lookup(x.byKey, k)
	if !ok {
		e = &Entry{Name: k, Embedding: o.Embedding}
		x.add(e, nil)
	}
	e.Offers = append(e.Offers, &o)
	x.offers[place{o.Provider, strings.ToLower(o.ID)}] = &o
	if _, taken := x.offers[place{o.Provider, k}]; !taken {
		x.offers[place{o.Provider, k}] = &o
	}
}

// settle makes one statement of what the providers say. Those whose capabilities are known say more than the others.
func (e *Entry) settle() {
	current := slices.DeleteFunc(slices.Clone(e.Offers), func(o *Offer) bool { return o.Can == nil })
	e.judge(current)
	if len(current) == 0 {
		current = e.Offers
	}
	var contexts []int64
	for _, o := range current {
		contexts = append(contexts, o.Context)
		e.MaxOutput = max(e.MaxOutput, o.MaxOutput)
	}
	if e.Context = mostStated(contexts); e.Context > 0 {
		e.MaxOutput = min(e.MaxOutput, e.Context)
	}
	priced := slices.DeleteFunc(slices.Clone(e.Offers), func(o *Offer) bool { return o.Price.blended() == 0 })
	if e.Priced = len(priced) > 0; e.Priced {
		slices.SortFunc(priced, func(a, b *Offer) int { return cmp.Compare(a.Price.blended(), b.Price.blended()) })
		e.Price = priced[(len(priced)-1)/2].Price
	}
}

// judge says what the model can do, from offers whose capabilities are known.
func (e *Entry) judge(offers []*Offer) {
	for _, c := range []string{Tools, Vision, Reasoning} {
		able := 0
		for _, o := range offers {
			if slices.Contains(o.Can, c) {
				able++
			}
		}
		switch {
		case 2*able > len(offers):
			e.Can = append(e.Can, c)
		case able == 0 && len(offers) > 0:
			e.Lacks = append(e.Lacks, c)
		}
	}
}

// mostStated is the number that most providers state; among equally many the largest one, since too small a limit keeps
// a request from a model that could have taken it, and too large a one is found out by the provider.
func mostStated(numbers []int64) int64 {
	slices.Sort(numbers)
	best, most, run := int64(0), 0, 0
	for i, n := range numbers {
		if run++; i > 0 && n != numbers[i-1] {
			run = 1
		}
		if n > 0 && run >= most {
			best, most = n, run
		}
	}
	return best
}
