package config

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"shareai/internal/snapshot"
)

// canary is a secret in a wrong place. Every piece of it that is long enough to matter has a digit.
const canary = "sk-9f8e7d6c5b4a3g2h1i0j"

// leaked returns the piece of the canary that a text shows.
func leaked(text string) string {
	const enough = 6
	for i := 0; i+enough <= len(canary); i++ {
		if strings.Contains(text, canary[i:i+enough]) {
			return canary[i : i+enough]
		}
	}
	return ""
}

// slot is a place in a document: a value, or the name of a field.
type slot struct {
	node  *node
	field int // index of the field whose name is meant; -1: the value itself
}

func slots(n *node) []slot {
	all := []slot{{n, -1}}
	for i, e := range n.entries {
		all = append(all, slot{n, i})
		all = append(all, slots(e.value)...)
	}
	for _, item := range n.items {
		all = append(all, slots(item)...)
	}
	return all
}

// write writes a document with one slot replaced.
func write(n *node, at slot, with string) string {
	if at.node == n && at.field < 0 {
		return with
	}
	var parts []string
	switch n.kind {
	case mapping:
		for i, e := range n.entries {
			name := e.name
			if at.node == n && at.field == i {
				name = with
			}
			parts = append(parts, name+": "+write(e.value, at, with))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case sequence:
		for _, item := range n.items {
			parts = append(parts, write(item, at, with))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case scalar:
		if n.quoted || n.expanded || strings.ContainsAny(n.text, ":{}[],*") {
			return strconv.Quote(n.text)
		}
		return n.text
	default:
		return "~"
	}
}

// tree parses a document.
func tree(t testing.TB, path string) *node {
	t.Helper()
	source, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b := builder{file: path, getenv: ready(), anchors: map[string]*node{}}
	root := b.build(source)
	if err := failure(b.problems); err != nil {
		t.Fatal(err)
	}
	return root
}

// said is everything that loading and compiling a document tells.
func said(source string, getenv func(string) (string, bool)) string {
	f, err := parse("x.yaml", []byte(source), getenv)
	if err != nil {
		return err.Error()
	}
	text := fmt.Sprint(f.Warnings)
	_, err = snapshot.Compile(f.Spec)
	var problems snapshot.Problems
	if errors.As(err, &problems) {
		text += f.Explain(problems).Error()
	}
	return text
}

// A secret that got into any slot of the file is not shown: neither as a value of the wrong kind, nor
// as an unknown field, nor by way of the environment.
func TestNoSlotShowsASecret(t *testing.T) {
	getenv := func(name string) (string, bool) {
		if name == "CANARY" {
			return canary, true
		}
		return ready()(name)
	}
	n := 0
	for _, path := range []string{"testdata/contract.yaml", "testdata/everything.yaml"} {
		root := tree(t, path)
		for _, s := range slots(root) {
			// A literal that is a well-formed name may be shown as what does not exist; that is the last form.
			for _, with := range []string{canary + "%", `"` + canary + `!"`, "[" + canary + "]", "{" + canary + ": " + canary + "}", "${CANARY}", `"x ${CANARY}"`} {
				if s.field >= 0 && strings.ContainsAny(with, "$[{") {
					continue
				}
				source := write(root, s, with)
				if piece := leaked(said(source, getenv)); piece != "" {
					t.Errorf("%s with %s at line %d shows %q:\n%s", path, with, s.node.line, piece, said(source, getenv))
				}
				n++
			}
		}
	}
	if n < 1000 {
		t.Errorf("only %d slots were tried", n)
	}
}

func TestWhatIsSecretIsNotPrinted(t *testing.T) {
	f := mustLoad(t, strings.ReplaceAll(`
database: postgres://u:CANARY@db/x
redis: redis://:CANARY@cache/0
secrets_key: CANARY
providers: [{name: a, dialect: openai, base_url: "https://a.example", keys: [{name: k, secret: CANARY}]}]
organizations: [{name: o, projects: [{name: p, keys: [{name: k, secret: CANARY}]}]}]
`, "CANARY", canary))
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if piece := leaked(fmt.Sprintf(verb, f)); piece != "" {
			t.Errorf("%s shows %q", verb, piece)
		}
	}
}

// Whatever damage a file with secrets has, the error does not quote it.
func TestSyntaxErrorsShowNoSecret(t *testing.T) {
	source := "secrets_key: " + canary + "\nproviders:\n  - {name: a, dialect: openai, keys: [{name: k, secret: \"" + canary + "\"}]}\n" +
		"organizations:\n  - name: o\n    projects:\n      - name: p\n        keys:\n          - name: k\n            secret: |\n              " + canary + "\n"
	for n := range source {
		if piece := leaked(said(source[:n], ready())); piece != "" {
			t.Fatalf("cut at %d: %q", n, piece)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		text := source
		for range rapid.IntRange(1, 3).Draw(t, "changes") {
			at := rapid.IntRange(0, len(text)-1).Draw(t, "at")
			what := rapid.SampledFrom([]string{"", " ", "\n", "\t", ":", ": ", "\"", "'", "{", "}", "[", "]", "- ", "#", "|", "&", "*", "!", "%", "@", "? ", ",", "\\", "${", "<<: "}).Draw(t, "what")
			skip := rapid.IntRange(0, 1).Draw(t, "skip")
			text = text[:at] + what + text[at+skip:]
		}
		if piece := leaked(said(text, ready())); piece != "" {
			t.Fatalf("%q in:\n%s\n%s", piece, said(text, ready()), text)
		}
	})
}

func FuzzLoad(f *testing.F) {
	for _, pattern := range []string{"testdata/*.yaml", "testdata/bad/*.yaml"} {
		for _, path := range glob(f, pattern) {
			source, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(source)
		}
	}
	f.Fuzz(func(t *testing.T, source []byte) {
		file, err := parse("x.yaml", source, ready())
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || len(e.Problems) == 0 || err.Error() == "" {
				t.Fatalf("not an *Error: %v", err)
			}
			return
		}
		_, err = snapshot.Compile(file.Spec)
		var problems snapshot.Problems
		if errors.As(err, &problems) && file.Explain(problems) == nil {
			t.Fatal("problems without an explanation")
		}
	})
}
