package config

import "slices"

// Warning is something in the file that this version accepts and does not act upon.
type Warning struct {
	Line    int
	Message string
}

// notYet lists what the format has and this version does not act upon: a pattern of the path, in which
// "*" stands for one part, the values that need it, and what to tell the operator. Whoever makes one
// of them work removes its line.
var notYet = []struct {
	path    []string
	values  []string // none: every value but an empty one, zero and off
	message string
}{
	{[]string{"organizations", "*", "limits"}, nil, "limits of organizations are not enforced in this version"},
	{[]string{"organizations", "*", "budgets"}, nil, "budgets of organizations are not enforced in this version"},
	{[]string{"organizations", "*", "projects", "*", "limits"}, nil, "limits of projects are not enforced in this version"},
	{[]string{"organizations", "*", "projects", "*", "budgets"}, nil, "budgets of projects are not enforced in this version"},
	{[]string{"models", "*", "equivalents"}, nil, "equivalents of models are not used in this version"},
	{[]string{"policies", "*", "equivalents"}, nil, "equivalents are not used in this version"},
	{[]string{"policies", "*", "strategy"}, []string{"latency"}, "the strategy latency behaves like order in this version"},
	{[]string{"policies", "*", "max_price_ratio"}, nil, "max_price_ratio is not enforced in this version"},
	{[]string{"policies", "*", "resume"}, []string{"auto"}, "broken streams are not resumed in this version"},
	{[]string{"policies", "*", "cache"}, nil, "answers are not cached in this version"},
}

func (d *decoder) warn(v value) {
	for _, n := range notYet {
		if !matches(n.path, v.path) {
			continue
		}
		if n.values == nil && v.says() || slices.Contains(n.values, v.text) {
			d.warnings = append(d.warnings, Warning{Line: v.line, Message: n.message})
		}
	}
}

func matches(pattern, path []string) bool {
	return slices.EqualFunc(pattern, path, func(p, part string) bool { return p == "*" || p == part })
}

// says tells whether a value is more than a way of writing nothing.
func (n *node) says() bool {
	switch n.kind {
	case scalar:
		return !slices.Contains([]string{"", "0", "0s", "off", "false"}, n.text)
	case mapping:
		return slices.ContainsFunc(n.entries, func(e entry) bool { return e.value.says() })
	default:
		return len(n.items) > 0
	}
}
