package cli

import (
	"strings"
	"testing"
)

// A spreadsheet takes a cell that begins like a formula for one: a name is text.
func TestAnExportedNameIsNoFormula(t *testing.T) {
	r := report{By: []string{"label:team"}}
	for _, name := range []string{"=HYPERLINK(1)", "+1", "-1", "@x", "\tx", "search", "a=b", ""} {
		r.Rows = append(r.Rows, sums{Group: map[string]string{"label:team": name}})
	}
	var out strings.Builder
	if err := r.writeCSV(&out); err != nil {
		t.Fatal(err)
	}
	var cells []string
	for line := range strings.Lines(out.String()) {
		first, _, _ := strings.Cut(line, ",")
		cells = append(cells, first)
	}
	if got, want := strings.Join(cells, "|"), "label:team|'=HYPERLINK(1)|'+1|'-1|'@x|'\tx|search|a=b|"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
