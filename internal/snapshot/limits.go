package snapshot

import (
	"net/url"

	"shareai/internal/catalog"
	"shareai/internal/families"
)

// newTarget resolves a deployment. What is declared of it counts; what is not is taken from the catalogue and the map
// of well-known models, if they know the provider or the model.
func newTarget(m *catalog.Model, d *catalog.Deployment, p *catalog.Provider) Target {
	found := lookUp(m, d, p)
	version := d.Price.Version()
	if offer := found.offer; !d.HasPrice() && offer != nil && offer.Priced {
		priced := *d // the declaration stays as it was written
		priced.Price = priceOf(offer)
		d, version = &priced, "catalogue-"+families.Date()+"-"+priced.Price.Version()
	}
	return Target{ID: d.ID(), HealthID: d.ID(), Model: m, Deployment: d, Provider: p, PriceVersion: version, Limits: limitsOf(m, d, p, found)}
}

// priceOf is what the catalogue says that an offer costs.
func priceOf(offer *families.Offer) catalog.Price {
	full := func(p families.Price) catalog.Price {
		return catalog.Price{
			Input: p.Input, Output: p.Output, CachedInput: p.Cached, CacheWrite: p.CacheWrite, CacheWrite1h: p.CacheWrite1h,
			Reasoning: p.Reasoning, AudioInput: p.AudioInput, AudioOutput: p.AudioOutput,
		}
	}
	price := full(offer.Price)
	last := &price
	for _, above := range offer.Above {
		last.Above = &catalog.Above{Tokens: above.Tokens, Price: full(above.Price)}
		last = &last.Above.Price
	}
	return price
}

// known is what the catalogue and the map say about a deployment. Either may be nil.
type known struct {
	offer *families.Offer // of this model at this provider
	entry *families.Entry // of the model, whoever serves it
}

func lookUp(m *catalog.Model, d *catalog.Deployment, p *catalog.Provider) known {
	var k known
	if p.Dialect == catalog.Simulated { // pretends to be any model, and charges what is declared
		return k
	}
	if u, err := url.Parse(p.BaseURL); err == nil {
		k.offer, _ = families.At(u.Hostname(), d.Model)
	}
	var ok bool
	if k.entry, ok = families.Find(d.Model); !ok {
		k.entry, _ = families.Find(m.Name)
	}
	return k
}

// limitsOf puts together what a deployment can take.
func limitsOf(m *catalog.Model, d *catalog.Deployment, p *catalog.Provider, k known) Limits {
	l := Limits{Context: d.Context, MaxOutput: d.MaxOutput, Lacks: catalog.SetOf(d.Lacks...), Drained: d.Drained || p.Drained}
	fill(&l.Context, m.Context)
	fill(&l.MaxOutput, m.MaxOutput)
	if k.offer != nil {
		fill(&l.Context, k.offer.Context)
		fill(&l.MaxOutput, k.offer.MaxOutput)
	}
	if k.entry != nil {
		// The longest answer is the provider's say, not the model's: from elsewhere it is not taken.
		fill(&l.Context, k.entry.Context)
		l.Tokenizer = k.entry.Tokenizer
	}
	can := d.Capabilities
	if can == nil {
		can = m.Capabilities
	}
	if l.Can, l.Known = catalog.SetOf(can...), can != nil; !l.Known {
		l.learn(k)
	}
	return l
}

// learn fills in what is not declared. The catalogue judges tools, vision and reasoning alone: of a model that writes
// text it says what it can do and what it can not, and leaves the rest open. That a model makes vectors says all.
func (l *Limits) learn(k known) {
	switch {
	case k.offer != nil && k.offer.Embedding, k.entry != nil && k.entry.Embedding:
		l.Can, l.Known = catalog.SetOf(catalog.Embedding), true
	case k.offer != nil && k.offer.Can != nil:
		l.Can = setOf(k.offer.Can)
		l.Lacks |= catalog.SetOf(catalog.Tools, catalog.Vision, catalog.Reasoning, catalog.Embedding) &^ l.Can
	case k.entry != nil:
		l.Can = setOf(k.entry.Can) &^ l.Lacks
		// An engine may ignore a wish for reasoning that it can not fulfil; an image can not be ignored.
		l.Lacks |= setOf(k.entry.Lacks) & catalog.SetOf(catalog.Vision)
	}
}

func setOf(words []string) catalog.CapabilitySet {
	var s catalog.CapabilitySet
	for _, w := range words {
		s |= catalog.SetOf(catalog.Capability(w))
	}
	return s
}

func fill(field *int64, value int64) {
	if *field == 0 {
		*field = value
	}
}
