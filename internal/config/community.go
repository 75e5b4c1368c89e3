package config

import (
	"shareai/internal/catalog"
)

// community reads whether organizations may share nodes, and on which conditions.
func (d *decoder) community(into *catalog.CommunityTerms) reader {
	return func(v value) {
		var fee float64
		d.mapping(v, fields{
			"enabled": d.boolean(&into.Enabled),
			"fee":     d.number(&fee, span{0, 1, false}),
			"max_price": func(v value) {
				into.MaxPrice = &catalog.CommunityPrice{}
				d.mapping(v, fields{"input": d.perMillion(&into.MaxPrice.Input), "output": d.perMillion(&into.MaxPrice.Output)}, "input", "output")
			},
		})
		into.Fee = catalog.FeeFrom(fee)
	}
}
