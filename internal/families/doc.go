// Package families knows the well-known models: which ids mean the same model, what it can take and do, what providers
// charge for it, and how well another one stands in for it (R6).
//
// Two files are embedded. catalogue.json has the facts, for each model at each provider; a script writes it from
// published catalogues, and nobody edits it. map.json is kept by hand: names, the series a model belongs to, its
// vocabulary, and a tier, which is a judgement. The map has no numbers: those of its entries are what most providers
// state.
//
// Both are read at the first use, and only then. What is declared in configuration wins over all of this; snapshot sees
// to that.
package families
