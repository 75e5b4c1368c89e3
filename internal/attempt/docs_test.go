package attempt

import (
	"os"
	"strings"
	"testing"

	"shareai/internal/upstream"
)

// docs/failover.md has the rules as a table for users. Each outcome stands in it once, and says the same.
func TestTheDocumentedRulesAreTheRules(t *testing.T) {
	text, err := os.ReadFile("../../docs/failover.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[upstream.Outcome][]string{}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 5 || !strings.HasPrefix(strings.TrimSpace(cells[0]), "`") {
			continue
		}
		for name := range strings.SplitSeq(cells[0], ",") {
			o := upstream.Outcome(strings.Trim(strings.TrimSpace(name), "`"))
			if rows[o] != nil {
				t.Errorf("%s stands twice in the table", o)
			}
			rows[o] = cells
		}
	}
	for o, r := range rules {
		cells := rows[o]
		if cells == nil {
			t.Errorf("%s is not in docs/failover.md", o)
			continue
		}
		if class := strings.Trim(strings.TrimSpace(cells[4]), "`"); class != string(r.class) {
			t.Errorf("%s: the class is %q, documented as %q", o, r.class, class)
		}
		if said := strings.Contains(cells[3], "yes"); said != r.ill {
			t.Errorf("%s: counts against the circuit: %v, documented as %q", o, r.ill, cells[3])
		}
		again := r.scope == ofDeployment || r.scope == ofKey
		if said := !strings.HasPrefix(strings.TrimSpace(cells[2]), "no"); said != again {
			t.Errorf("%s: may be tried again: %v, documented as %q", o, again, cells[2])
		}
	}
	if len(rows) != len(rules) {
		t.Errorf("%d outcomes are documented, %d have a rule", len(rows), len(rules))
	}
}
