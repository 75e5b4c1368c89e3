package config

import (
	"slices"
)

// Warning is something in the file that this version accepts and does not act upon.
type Warning struct {
	Line    int
	Message string
}

// notYet lists what the format has and this version does not act upon: a pattern of the path, in which
// "*" stands for one part, the values that need it, and what to tell the operator. Whoever makes one of them work removes its line.
var notYet = []struct {
	path    []string
	values  []string // none: every value but an empty one, zero and off
	message string
}{
	{[]string{"routes", "*", "endpoints", "*"}, []string{"responses", "messages"}, "the endpoints responses and messages are not served in this version"},
	{[]string{"policies", "*", "cache"}, nil, "answers are not cached in this version"},
}

func (d *decoder) warn(v value) {
	for _, n := range notYet {
		if !matches(n.path, v.path) {
			continue
		}
		if n.values == nil && v.says() || slices.ContainsFunc(n.values, v.reads) {
			w := Warning{Line: v.line, Message: n.message}
			if !slices.Contains(d.warnings, w) { // several entries of a list on one line
				d.warnings = append(d.warnings, w)
			}
		}
	}
}

func matches(pattern, path []string) bool {
	return slices.EqualFunc(pattern, path, func(p, part string) bool { return p == "*" || p == part })
}

// reads tells whether a text is the wanted one, or begins like it where that ends with "*".
func (n *node) reads(want string) bool {
	return n.text == want
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
