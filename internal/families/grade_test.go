package families

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// anEntry draws a model of the map, with numbers of any kind.
func anEntry(t *rapid.T, label string) *Entry {
	e := *rapid.SampledFrom(All()).Filter(func(e *Entry) bool { return e.Tier > 0 }).Draw(t, label)
	e.Context = rapid.SampledFrom([]int64{0, 1, 8192, 131072, 1 << 40}).Draw(t, "context")
	if e.Priced = rapid.Bool().Draw(t, "priced"); e.Priced {
		e.Price = Price{Input: rapid.Int64Range(0, 1e12).Draw(t, "input"), Output: rapid.Int64Range(0, 1e12).Draw(t, "output")}
	}
	return &e
}

// R6
func TestGrades(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := anEntry(t, "a"), anEntry(t, "b")
		grade := Grade(a, b)
		if Grade(a, a) != 1 {
			t.Fatalf("%s does not stand in for itself", a.Name)
		}
		if grade <= 0 || grade > notTheSame {
			t.Fatalf("%s for %s: %v", b.Name, a.Name, grade)
		}
		for _, worse := range []func(*Entry){
			func(e *Entry) { e.Context = max(a.Context, 2) / 2 },
			func(e *Entry) {
				e.Price = Price{Input: 2*a.Price.Input + 2, Output: 2*a.Price.Output + 2}
				e.Priced = true
			},
			func(e *Entry) { e.Tier = max(a.Tier-1, 1) },
			func(e *Entry) { e.Line = "another" },
			func(e *Entry) { e.Tokenizer = "another" },
			func(e *Entry) { e.Can, e.Lacks = nil, []string{Tools, Vision, Reasoning} },
			func(e *Entry) { e.For = "another" },
		} {
			twin := *a
			best := Grade(a, &twin)
			worse(&twin)
			if got := Grade(a, &twin); got > best {
				t.Fatalf("%s: worse is better: %v after %v: %+v", a.Name, got, best, twin)
			}
		}
	})
}

func TestWhatLowersAGrade(t *testing.T) {
	model := func(change func(*Entry)) *Entry {
		e := &Entry{
			Name: "m", Line: "l", Tier: 4, Tokenizer: "o200k", Context: 100_000, Can: []string{Tools, Vision, Reasoning},
			Price: Price{Input: 1000, Output: 1000}, Priced: true,
		}
		change(e)
		return e
	}
	a := model(func(*Entry) {})
	lacking := func(c string) func(*Entry) {
		return func(e *Entry) {
			e.Can = slices.DeleteFunc(e.Can, func(have string) bool { return have == c })
			e.Lacks = []string{c}
		}
	}
	for name, c := range map[string]struct {
		change       func(*Entry)
		least, most  float64
		symmetric    bool
		otherWayBest bool // the other way round nothing is lost
	}{
		"nothing":            {func(*Entry) {}, 0.99, 0.99, true, true},
		"half the context":   {func(e *Entry) { e.Context = 50_000 }, 0.85, 0.9, false, true},
		"no tools":           {lacking(Tools), 0.7, 0.7, false, true},
		"no vision":          {lacking(Vision), 0.8, 0.8, false, true},
		"no reasoning":       {lacking(Reasoning), 0.85, 0.85, false, false},
		"vision unknown":     {func(e *Entry) { e.Can = []string{Tools, Reasoning} }, 0.95, 0.95, false, true},
		"twice the price":    {func(e *Entry) { e.Price = Price{Input: 2000, Output: 2000} }, 0.95, 0.96, false, true},
		"another line":       {func(e *Entry) { e.Line = "k" }, 0.95, 0.95, true, false},
		"another vocabulary": {func(e *Entry) { e.Tokenizer = "qwen" }, 0.98, 0.98, true, false},
		"one tier below":     {func(e *Entry) { e.Tier-- }, 0.8, 0.8, false, false},
		"two tiers below":    {func(e *Entry) { e.Tier -= 2 }, 0.5, 0.5, false, false},
		"for code":           {func(e *Entry) { e.For = "code" }, 0.85, 0.85, false, false},
	} {
		b := model(c.change)
		there, back := Grade(a, b), Grade(b, a)
		if there < c.least || there > c.most {
			t.Errorf("%s: %v", name, there)
		}
		if c.symmetric && there != back || c.otherWayBest && back != notTheSame {
			t.Errorf("%s: %v there, %v back", name, there, back)
		}
	}
}

func TestStrangersAndVectorsHaveNoEquivalents(t *testing.T) {
	embedding, _ := Find("text-embedding-3-large")
	other, _ := Find("text-embedding-3-small")
	chat, _ := Find("gpt-4o")
	stranger := &Entry{Name: "stranger"}
	if Grade(embedding, other) != 0 || Grade(embedding, chat) != 0 || Grade(chat, embedding) != 0 || Grade(chat, stranger) != 0 || Grade(stranger, chat) != 0 {
		t.Error("a grade where there is nothing to compare")
	}
	if Grade(stranger, stranger) != 1 || Grade(embedding, embedding) != 1 {
		t.Error("a model is itself")
	}
	if list := Equivalents(embedding, All()); len(list) != 0 {
		t.Errorf("%v", list)
	}
}

func TestEquivalentsAreSortedAndWorthIt(t *testing.T) {
	for _, e := range All()[:100] {
		list := Equivalents(e, All())
		for i, g := range list {
			if g.Grade < Worthwhile || g.Entry == e || i > 0 && g.Grade > list[i-1].Grade {
				t.Fatalf("%s: %s has %v at %d", e.Name, g.Name, g.Grade, i)
			}
		}
	}
}
