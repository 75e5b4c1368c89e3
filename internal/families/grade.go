package families

import (
	"cmp"
	"math"
	"slices"
)

// Graded is a model with how well it stands in for another one, from 0 to 1.
type Graded struct {
	*Entry
	Grade float64
}

// Worthwhile is the grade from which a model counts as an equivalent of another one.
const Worthwhile = 0.5

// Grade says how well b stands in for a, from 0 (not at all) to 1 (the same model). It is a product, in which each
// factor is 1 where b is no worse:
//
//	tier          by how many tiers b follows instructions less well, or better (0.97 for each)
//	line          0.95 for another series: another character, another way with prompts
//	tokenizer     0.98 for another vocabulary: other counts, other limits in effect
//	context       (b/a)^0.2 for a smaller one: half of it is 0.87
//	capabilities  for each that a has and b lacks: tools 0.7, vision 0.8, reasoning 0.85; a request that
//	              needs one is not sent to a model without it in any case
//	reasoning     0.96 where b reasons and a does not: slower, and it writes more
//	purpose       0.85 where b is made for something that a is not, such as code; 0.95 where only a is
//	cost          1/(1 + 0.05·log2(b/a)) for a dearer one: twice is 0.95
//
// What is unknown of b and known of a costs a little; what is unknown of a costs nothing. Models that are not on the map
// are equivalent to themselves alone, and so are embedding models: vectors of two models can not be compared.
func Grade(a, b *Entry) float64 {
	switch {
	case a == b:
		return 1
	case a.Tier == 0 || b.Tier == 0: // strangers, and models that make vectors
		return 0
	}
	grade := byTier(a.Tier-b.Tier) * byContext(a.Context, b.Context) * byCapabilities(a, b) * byPurpose(a, b) * byCost(a, b)
	if a.Line != b.Line {
		grade *= otherLine
	}
	if a.Tokenizer != b.Tokenizer || a.Tokenizer == "" {
		grade *= otherTokenizer
	}
	return min(grade, notTheSame)
}

const (
	otherLine      = 0.95
	otherTokenizer = 0.98
	unknown        = 0.95 // known of a, unknown of b
	notTheSame     = 0.99 // the most that another model can get
)

// byTier takes by how many tiers b is below a; below zero it is above.
func byTier(below int) float64 {
	if below <= 0 {
		return math.Pow(0.97, float64(-below))
	}
	return []float64{0.8, 0.5, 0.3, 0.15, 0.05}[min(below, 5)-1]
}

func byContext(a, b int64) float64 {
	switch {
	case a == 0 || b >= a:
		return 1
	case b == 0:
		return unknown
	default:
		return math.Pow(float64(b)/float64(a), 0.2)
	}
}

func byCapabilities(a, b *Entry) float64 {
	grade := 1.0
	for _, c := range []struct {
		name    string
		missing float64
	}{{Tools, 0.7}, {Vision, 0.8}, {Reasoning, 0.85}} {
		switch {
		case !slices.Contains(a.Can, c.name) || slices.Contains(b.Can, c.name):
		case slices.Contains(b.Lacks, c.name):
			grade *= c.missing
		default:
			grade *= unknown
		}
	}
	return grade
}

func byPurpose(a, b *Entry) float64 {
	grade := 1.0
	switch {
	case b.For == a.For:
	case b.For == "":
		grade = 0.95
	default:
		grade = 0.85
	}
	if slices.Contains(b.Can, Reasoning) && slices.Contains(a.Lacks, Reasoning) {
		grade *= 0.96
	}
	return grade
}

func byCost(a, b *Entry) float64 {
	from, to := a.Price.blended(), b.Price.blended()
	if from == 0 || to <= from { // 0 is unknown: no multiple of it is dear
		return 1
	}
	return 1 / (1 + 0.05*math.Log2(float64(to)/float64(from)))
}

// Equivalents grades others as stand-ins for a and returns those that are worth it, best first; equals stay in order.
func Equivalents(a *Entry, others []*Entry) []Graded {
	var list []Graded
	for _, b := range others {
		if grade := Grade(a, b); a != b && grade >= Worthwhile {
			list = append(list, Graded{Entry: b, Grade: grade})
		}
	}
	slices.SortStableFunc(list, func(x, y Graded) int { return cmp.Compare(y.Grade, x.Grade) })
	return list
}
