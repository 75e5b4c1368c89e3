package snapshot

import (
	"cmp"
	"slices"
	"strconv"

	"shareai/internal/catalog"
	"shareai/internal/families"
)

// mostLearnt is how many equivalents a model gets from the map: each is looked at for every request.
const mostLearnt = 8

// equivalents finds the models that may stand in for each other: those declared, with their grade, and among the
// declared models those that the map of well-known models thinks close enough.
func (c *compiler) equivalents() {
	var entries []*families.Entry
	of := map[*families.Entry][]*Model{}
	for _, m := range c.compiled {
		entry, ok := entryOf(m)
		if !ok || c.written[m.Name] == nil || slices.Contains(of[entry], m) {
			continue
		}
		if of[entry] == nil {
			entries = append(entries, entry) // in the order of declaration, which decides between equals
		}
		of[entry] = append(of[entry], m)
	}
	for _, compiled := range c.compiled {
		compiled.Equivalents = c.declared(compiled.Model)
		if entry, ok := entryOf(compiled); ok {
			learn(compiled, entry, entries, of)
		}
		compiled.Equivalents = slices.DeleteFunc(compiled.Equivalents, func(e Equivalent) bool { return e.Grade == 0 })
		slices.SortStableFunc(compiled.Equivalents, func(a, b Equivalent) int { return cmp.Compare(b.Grade, a.Grade) })
	}
}

// declared resolves the equivalents that a model declares.
func (c *compiler) declared(m *catalog.Model) []Equivalent {
	var list []Equivalent
	for j, e := range m.Equivalents {
		other, ok := c.written[e.Model]
		if !ok {
			c.problems.Found(oneOf("models", c.written), []string{"models", m.Name, "equivalents", strconv.Itoa(j), "model"},
				"there is no model %q", e.Model)
			continue
		}
		if other.Model == m {
			c.problems.Found("remove it", []string{"models", m.Name, "equivalents", strconv.Itoa(j), "model"},
				"model %q is its own equivalent", m.Name)
			continue
		}
		list = append(list, Equivalent{Model: other, Grade: e.Grade})
	}
	return list
}

// learn adds the closest models that are not declared as equivalents, not even with the grade 0.
func learn(m *Model, entry *families.Entry, entries []*families.Entry, of map[*families.Entry][]*Model) {
	closest := append([]families.Graded{{Entry: entry, Grade: 1}}, families.Equivalents(entry, entries)...)
	room := mostLearnt
	for _, g := range closest {
		for _, other := range of[g.Entry] {
			declared := slices.ContainsFunc(m.Equivalents, func(e Equivalent) bool { return e.Model == other })
			if other == m || declared || room == 0 {
				continue
			}
			m.Equivalents = append(m.Equivalents, Equivalent{Model: other, Grade: g.Grade})
			room--
		}
	}
}

// entryOf finds a model on the map, by the ids under which it is deployed and then by its name. Only models that have a
// grade count, and not what nodes call them: one organization's node would decide what stands in for everybody.
func entryOf(m *Model) (*families.Entry, bool) {
	for i := range m.Targets {
		t := &m.Targets[i]
		if e, ok := families.Find(t.Deployment.Model); ok && e.Tier > 0 && t.Provider.Node == "" {
			return e, true
		}
	}
	e, ok := families.Find(m.Name)
	return e, ok && e.Tier > 0
}
