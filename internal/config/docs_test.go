package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"shareai/internal/snapshot"
)

const documentation = "../../docs/configuration.md"

func glob(t testing.TB, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		t.Fatalf("%s: %d files, %v", pattern, len(paths), err)
	}
	return paths
}

// Every example of the documentation works as it stands.
func TestTheDocumentationsExamples(t *testing.T) {
	text, err := os.ReadFile(documentation)
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllSubmatchIndex(text, -1)
	if len(blocks) < 5 {
		t.Fatalf("only %d examples", len(blocks))
	}
	for _, b := range blocks {
		line := strings.Count(string(text[:b[2]]), "\n")
		where := fmt.Sprintf("example on line %d", line)
		f, err := parse(where, text[b[2]:b[3]], ready())
		if err != nil {
			t.Error(err)
			continue
		}
		if _, err := snapshot.Compile(f.Spec); err != nil {
			var problems snapshot.Problems
			errors.As(err, &problems)
			t.Error(f.Explain(problems))
		}
	}
}

// Every field of the format is described.
func TestTheDocumentationIsComplete(t *testing.T) {
	text, err := os.ReadFile(documentation)
	if err != nil {
		t.Fatal(err)
	}
	root := tree(t, "testdata/everything.yaml")
	listed := regexp.MustCompile(`the fields here are ([a-z0-9_, ]+)`)
	seen := map[string]bool{}
	for _, s := range slots(root) {
		if s.field >= 0 || s.node.kind != mapping {
			continue
		}
		extra := &node{kind: scalar, text: "x"}
		s.node.entries = append(s.node.entries, entry{name: "zz9zz9zz9zz9", value: extra})
		_, err := parse("x.yaml", []byte(write(root, slot{}, "")), ready())
		s.node.entries = s.node.entries[:len(s.node.entries)-1]
		if err == nil {
			continue // labels
		}
		for _, m := range listed.FindAllStringSubmatch(err.Error(), -1) {
			for _, name := range strings.Split(m[1], ", ") {
				seen[name] = true
			}
		}
	}
	if len(seen) < 60 {
		t.Errorf("only %d fields were found", len(seen))
	}
	for name := range seen {
		if !strings.Contains(string(text), "`"+name+"`") {
			t.Errorf("docs/configuration.md does not describe %s", name)
		}
	}
}
