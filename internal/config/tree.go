package config

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"shareai/internal/account"
)

// The bounds of a file. What is larger was not written by a person and could exhaust the process.
const (
	maxFile    = 1 << 20 // bytes
	maxDepth   = 32      // of lists and mappings in each other
	maxEntries = 10_000  // lines at one level of a list or mapping
	maxNodes   = 100_000 // after aliases are followed
)

const (
	tooDeep = "lists and mappings are nested more than 32 levels deep"
	tooMany = "a list or mapping has more than 10000 entries"
)

type kind uint8

const (
	null kind = iota
	scalar
	mapping
	sequence
)

// node is a value of the file. Aliases are followed, tags refused, references to the environment
// replaced.
type node struct {
	spot
	kind     kind
	text     string // of a scalar
	quoted   bool   // the scalar is text for certain: it was written in quotes or as a block
	expanded bool   // the scalar contains values of the environment
	broken   bool   // a problem was reported already; say nothing more about it
	entries  []entry
	items    []*node
	size     int // nodes in it, itself included
}

// spot is a place in the file, from 1; 0 means that it is not known.
type spot struct{ line, column int }

// entry is a field of a mapping.
type entry struct {
	spot
	name  string
	value *node
}

// field returns the value of a field, or nil.
func (n *node) field(name string) *node {
	for _, e := range n.entries {
		if e.name == name {
			return e.value
		}
	}
	return nil
}

// builder turns the parser's tree into nodes and collects problems on its way.
type builder struct {
	file     string
	getenv   func(string) (string, bool)
	anchors  map[string]*node
	nodes    int // what aliases have added so far
	secrets  []account.Secret
	problems []Problem
}

func (b *builder) problem(line, column int, hint, format string, args ...any) {
	b.problems = append(b.problems, Problem{
		File: b.file, Line: line, Column: column, Message: fmt.Sprintf(format, args...), Hint: hint,
	})
}

// build parses the source. It returns nil for an empty document and when nothing can be made of it.
func (b *builder) build(source []byte) (root *node) {
	defer func() {
		if recover() != nil { // the parser is not ours; a file must never end the process
			b.problem(0, 0, "simplify its formatting", "the YAML of this file can not be understood")
			root = nil
		}
	}()
	text, ok := b.readable(source)
	if !ok {
		return nil
	}
	tokens := lexer.Tokenize(protect(text))
	if t, why := excessive(tokens); t != nil {
		b.problem(t.Position.Line, t.Position.Column, "", "%s", why)
		return nil
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		b.syntax(err)
		return nil
	}
	if len(file.Docs) > 1 && file.Docs[1].Start != nil {
		at := file.Docs[1].Start.Position
		b.problem(at.Line, at.Column, "remove the line ---", "a configuration file is one YAML document, and a second one begins here")
		return nil
	}
	if len(file.Docs) == 0 || file.Docs[0].Body == nil {
		return nil
	}
	return b.node(file.Docs[0].Body, 0)
}

// readable checks that the source is text.
func (b *builder) readable(source []byte) (string, bool) {
	text := strings.TrimPrefix(string(source), "\ufeff")
	if len(source) > maxFile {
		b.problem(0, 0, "", "the file is larger than %d KiB", maxFile>>10)
		return "", false
	}
	for i, r := range text {
		allowed := r >= ' ' && r != 0x7f || r == '\n' || r == '\t' || r == '\r'
		if r == utf8.RuneError || !allowed || r == openMark || r == closeMark {
			before := text[:i]
			line := strings.Count(before, "\n") + 1
			column := utf8.RuneCountInString(before[strings.LastIndexByte(before, '\n')+1:]) + 1
			b.problem(line, column, "save the file as UTF-8 text", "there is a character here that is not text")
			return "", false
		}
	}
	return text, true
}

// excessive returns the token at which the file becomes more than the parser can take, and why; or
// nil. The parser recurses on brackets (nesting by indentation grows with the square of the depth and
// is bounded by the size of the file), and its time grows with the square of the number of entries.
func excessive(tokens token.Tokens) (at *token.Token, why string) {
	line := 0
	var commas []int         // by open bracket
	entries := map[int]int{} // by column: lines of the list or mapping that is open there
	var before *token.Token
	for _, t := range tokens {
		column := t.Position.Column
		if t.Position.Line != line {
			line = t.Position.Line
			maps.DeleteFunc(entries, func(c, _ int) bool { return c > column })
			entries[column]++
		} else if t.Type == token.SequenceEntryType && before.Type == token.SequenceEntryType {
			return t, "a list directly inside a list is nowhere possible"
		}
		before = t
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			commas = append(commas, 0)
		case token.SequenceEndType, token.MappingEndType:
			commas = commas[:max(len(commas)-1, 0)]
		case token.CollectEntryType:
			if len(commas) > 0 {
				commas[len(commas)-1]++
			}
		case token.MappingKeyType:
			return t, "fields are written \"name: value\", without a question mark"
		}
		if len(commas) > maxDepth {
			return t, tooDeep
		}
		if entries[column] > maxEntries || len(commas) > 0 && commas[len(commas)-1] > maxEntries {
			return t, tooMany
		}
	}
	return nil, ""
}

// syntaxErrors says in our words what the parser's messages mean. Its own are not passed on: some of
// them quote the file.
var syntaxErrors = []struct{ in, message, hint string }{
	{"tab character", "there is a tab where it has no meaning", "indent with spaces"},
	{"\t", "there is a tab where it has no meaning", "indent with spaces"},
	{"double-quoted text", "a text in double quotes does not end", "close it with \""},
	{"single-quoted text", "a text in single quotes does not end", "close it with '; write '' for one inside"},
	{"escape", "there is an unknown escape in double quotes", `write \\ for a backslash, or use single quotes`},
	{"reserved character", "a text can not begin with this character", "put it in quotes"},
	{"mapping value is not allowed", "there is a second colon on this line, or the indentation is wrong", "put text that contains \": \" in quotes"},
	{"value is not allowed", "this does not fit what stands above it", "check the indentation"},
	{"unexpected key name", "this does not fit what stands above it", "check the indentation"},
	{"non-map value", "this is not a field", "write \"name: value\", with a space behind the colon"},
	{"',' or '}'", "a mapping in braces is not closed, or lacks a comma", "put text that contains braces or commas in quotes"},
	{"',' or ']'", "a list in brackets is not closed, or lacks a comma", "put text that contains brackets or commas in quotes"},
	{"end token", "a list or mapping in brackets is not closed", ""},
	{"corresponding to", "this bracket closes nothing", "put text that contains brackets in quotes"},
	{"header option", "behind | or > there may only be an indentation and + or -", "put text that contains | or > in quotes"},
}

// syntax reports a parser's error.
func (b *builder) syntax(err error) {
	var detailed interface {
		GetToken() *token.Token
		GetMessage() string
	}
	if !errors.As(err, &detailed) {
		b.problem(0, 0, "", "this is not valid YAML")
		return
	}
	line, column := place(detailed.GetToken())
	for _, known := range syntaxErrors {
		if strings.Contains(detailed.GetMessage(), known.in) {
			b.problem(line, column, known.hint, "%s", known.message)
			return
		}
	}
	b.problem(line, column, "check the indentation and the quotes", "this is not valid YAML")
}

func place(t *token.Token) (line, column int) {
	if t == nil || t.Position == nil {
		return 0, 0
	}
	return t.Position.Line, t.Position.Column
}

// node converts a value.
func (b *builder) node(n ast.Node, depth int) *node {
	line, column := 0, 0
	if n != nil {
		line, column = place(n.GetToken())
	}
	made := &node{spot: spot{line, column}, size: 1}
	if depth > maxDepth {
		b.broken(made, "", tooDeep)
		return made
	}
	switch n := n.(type) {
	case nil, *ast.NullNode:
	case *ast.StringNode:
		made.quoted = n.Token.Type != token.StringType
		b.expand(made, n.Value)
	case *ast.LiteralNode:
		made.quoted = true
		b.expand(made, n.Value.Value)
	case *ast.BoolNode, *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		made.kind, made.text = scalar, n.GetToken().Value
	case *ast.MappingNode:
		b.mapping(made, n.Values, depth)
	case *ast.MappingValueNode:
		b.mapping(made, []*ast.MappingValueNode{n}, depth)
	case *ast.SequenceNode:
		made.kind = sequence
		for _, item := range n.Values {
			child := b.node(item, depth+1)
			made.items = append(made.items, child)
			made.size += child.size
		}
	case *ast.AnchorNode:
		made = b.node(n.Value, depth)
		b.anchors[label(n.Name)] = made
	case *ast.AliasNode:
		return b.alias(n, made)
	case *ast.TagNode:
		b.broken(made, "remove it", "tags such as !!str are not supported")
	default:
		b.broken(made, "", "this form of YAML is not supported")
	}
	return made
}

func (b *builder) broken(n *node, hint, message string) {
	n.broken = true
	b.problem(n.line, n.column, hint, "%s", message)
}

// label is the name of an anchor, an alias or a field.
func label(n ast.Node) string {
	if n == nil || n.GetToken() == nil {
		return ""
	}
	return n.GetToken().Value
}

// alias returns the node behind an alias. Its size counts once for every use.
func (b *builder) alias(n *ast.AliasNode, made *node) *node {
	found, ok := b.anchors[label(n.Value)]
	if !ok {
		b.broken(made, "anchors are declared with & before they are used with *", "there is no such anchor above")
		return made
	}
	before := b.nodes
	if b.nodes += found.size; b.nodes > maxNodes {
		made.broken = true
		if before <= maxNodes { // said once
			b.broken(made, "write the values out", fmt.Sprintf("with its aliases followed, the file has more than %d values", maxNodes))
		}
		return made
	}
	return found
}

// mapping fills in the fields of a mapping. Its own place is that of its first field.
func (b *builder) mapping(made *node, pairs []*ast.MappingValueNode, depth int) {
	made.kind = mapping
	var merged []*node
	seen := map[string]int{}
	for i, pair := range pairs {
		line, column := place(pair.Key.GetToken())
		if i == 0 {
			made.spot = spot{line, column}
		}
		value := b.node(pair.Value, depth+1)
		if value.line == 0 || value.kind == null {
			value.spot = spot{line, column}
		}
		made.size += value.size
		if pair.Key.IsMergeKey() {
			merged = append(merged, value)
			continue
		}
		key := restore(label(pair.Key))
		if first, twice := seen[key]; twice {
			b.problem(line, column, fmt.Sprintf("the first is on line %d", first), "%s is given twice", shown(key))
			continue
		}
		seen[key] = line
		made.entries = append(made.entries, entry{spot: spot{line, column}, name: key, value: value})
	}
	for _, m := range merged {
		b.merge(made, m, seen)
	}
}

// merge adds the fields of what stands behind "<<", unless they were seen.
func (b *builder) merge(into, from *node, seen map[string]int) {
	switch from.kind {
	case mapping:
		for _, e := range from.entries {
			if _, there := seen[e.name]; !there {
				seen[e.name] = e.line
				into.entries = append(into.entries, e)
			}
		}
	case sequence:
		for _, item := range from.items {
			b.merge(into, item, seen)
		}
	default:
		if !from.broken {
			b.broken(from, "for example <<: *anchor", "<< takes a mapping")
		}
	}
}

var fieldShape = regexp.MustCompile(`^[a-z][a-z_]{0,39}$`)

// shown names a field in a message, unless it does not look like one: a secret may have slipped into
// the place of a name.
func shown(field string) string {
	if fieldShape.MatchString(field) {
		return field
	}
	return "a field"
}
