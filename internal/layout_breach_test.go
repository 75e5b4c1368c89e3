package internal_test

import (
	"fmt"
	"go/token"
	"slices"
	"strings"
	"testing"
)

// Every rule lets through what is right and finds what is wrong. Each case is a small tree that differs from a good one
// in the one point that its rule is about.
func TestEveryRuleCanFail(t *testing.T) {
	const good = "// Package fault is fine.\npackage fault\n\nfunc F() {}\n"
	breaks := func(lines int) string { return strings.Repeat("\n", lines) }
	tests := []struct {
		rule  string
		files map[string]string // path -> text; text without a package clause gets one
		want  string            // part of the one breach; "" = none
	}{
		{"every package is on the floor plan", files{"internal/fault/a.go": good}, ""},
		{"every package is on the floor plan", files{"internal/store/storetest/a.go": ""}, ""},
		{"every package is on the floor plan", files{"internal/novelty/a.go": ""}, "internal/novelty has no place"},

		{"imports go down", files{"internal/gateway/a.go": `import "shareai/internal/attempt"`}, ""},
		{"imports go down", files{"internal/cli/a.go": `import "shareai/internal/store"`}, ""},
		{"imports go down", files{"internal/store/storetest/a.go": `import "shareai/internal/store"`}, ""},
		{"imports go down", files{"internal/store/a_test.go": `import "shareai/internal/store/storetest"`}, ""},
		{"imports go down", files{"internal/app/a_test.go": `import "shareai/test/engine"`}, ""},
		{"imports go down", files{"test/e2e/a_test.go": `import "shareai/test/engine"`}, ""},
		{"imports go down", files{"bench/cmd/load/a.go": `import "shareai/bench/internal/hist"`}, ""},
		{"imports go down", files{"internal/routing/a.go": `import "shareai/internal/gateway"`}, "floor 6 is not below floor 4"},
		{"imports go down", files{"internal/routing/a_test.go": `import "shareai/internal/store"`}, "floor 4 is not below floor 4"},
		{"imports go down", files{"internal/gateway/a.go": `import "shareai/internal/control"`}, "the data plane does not know the control plane"},
		{"imports go down", files{"internal/control/a.go": `import "shareai/internal/upstream"`}, "the control plane does not know the data plane"},
		{"imports go down", files{"internal/app/a.go": `import "shareai/internal/store/storetest"`}, "it is for tests"},
		{"imports go down", files{"internal/app/a.go": `import "shareai/test/engine"`}, "it is for tests"},
		{"imports go down", files{"internal/app/a.go": `import "shareai/bench/load"`}, "does not lean on what is outside"},
		{"imports go down", files{"test/e2e/a_test.go": `import "shareai/internal/store"`}, ""},
		{"imports go down", files{"bench/cmd/load/a.go": `import "shareai/internal/fault"`}, "measured from outside"},
		{"imports go down", files{"cmd/shareai/main.go": `import "shareai/internal/app"`}, "main only hands over to cli"},

		{"libraries have an owner", files{"internal/store/a.go": `import "github.com/jackc/pgx/v5/pgconn"`}, ""},
		{"libraries have an owner", files{"internal/gateway/a_test.go": `import "pgregory.net/rapid"`}, ""},
		{"libraries have an owner", files{"internal/store/storetest/a.go": `import "pgregory.net/rapid"`}, ""},
		{"libraries have an owner", files{"internal/gateway/a.go": `import "github.com/jackc/pgx/v5"`}, "is not a library of internal/gateway"},
		{"libraries have an owner", files{"internal/store/a.go": `import "github.com/jackc/pgx/v55"`}, "is not a library of internal/store"},

		{"packages say what they are", files{"internal/fault/a.go": good, "internal/fault/b.go": "package fault"}, ""},
		{"packages say what they are", files{"internal/fault/a.go": "package fault"}, "internal/fault has no package comment"},

		{"names say what is inside", files{"internal/fault/redact.go": ""}, ""},
		{"names say what is inside", files{"internal/fault/util.go": ""}, "internal/fault/util.go"},
		{"names say what is inside", files{"internal/fault/helpers_test.go": ""}, "internal/fault/helpers_test.go"},
		{"names say what is inside", files{"internal/openai/types/a.go": ""}, `package "types"`},
		{"names say what is inside", files{"internal/openai/a.go": "package common"}, `package "common"`},

		{"functions are short", files{"internal/fault/a.go": "func f() {" + breaks(59) + "}" + strings.Repeat("\nfunc g() {}", 30)}, ""},
		{"functions are short", files{"internal/fault/a_test.go": "func f() {" + breaks(200) + "}"}, ""},
		{"functions are short", files{"internal/fault/a.go": "func f() {" + breaks(100) + "}" + strings.Repeat("\nfunc g() {}", 30)}, "f has 101 lines"},
		{"functions are short", files{"internal/fault/a.go": strings.Repeat("func f() {"+breaks(60)+"}\n", 3)}, "one function in twenty has 61 lines"},

		{"files and packages are small", files{"internal/fault/a.go": breaks(590)}, ""},
		{"files and packages are small", files{"internal/fault/a_test.go": breaks(700)}, ""},
		{"files and packages are small", files{"internal/fault/a.go": "var t = []int{" + breaks(700) + "}"}, ""},
		{"files and packages are small", files{"internal/fault/a.go": "func f() {}" + breaks(601)}, "internal/fault/a.go has 602 lines"},
		{"files and packages are small", manyFiles("internal/fault", 9, "func f() {}"+breaks(590)), "internal/fault has 5319 lines"},

		{"parameters are few and speak", files{"internal/fault/a.go": "func F(a, b, c, d, e int) {}\nfunc f(x bool) {}"}, ""},
		{"parameters are few and speak", files{"internal/fault/a.go": "func f(a, b, c, d, e, g int) {}"}, "f has 6 parameters"},
		{"parameters are few and speak", files{"internal/fault/a.go": "type T int\nfunc (T) Do(force bool) {}"}, "Do has a bool parameter"},

		{"no init", files{"internal/fault/a.go": "type T int\nfunc (T) init() {}"}, ""},
		{"no init", files{"internal/fault/a_test.go": "func init() {}"}, "init hides"},

		{"package variables do not change", files{"internal/fault/a.go": "var v = 1\nfunc f() int { v := v; v++; return v }"}, ""},
		{"package variables do not change", files{"internal/fault/a.go": "import \"sync\"\nvar v sync.Pool"}, ""},
		{"package variables do not change", files{"internal/fault/a.go": "var v = 1", "internal/fault/b.go": "func f() { v++ }"}, "variable v changes"},
		{"package variables do not change", files{"internal/fault/a.go": "var v = map[int]int{}\nfunc f() { v[1] = 2 }"}, "variable v changes"},
		{"package variables do not change", files{"internal/fault/a.go": "var v = map[int]int{}\nfunc f() { delete(v, 1) }"}, "variable v changes"},
		{"package variables do not change", files{"internal/fault/a.go": "import \"x/y\"\nvar v y.T\nfunc f() { v.a.b = 2 }"}, "variable v changes"},
		{"package variables do not change", files{"internal/fault/a.go": "import \"sync\"\nvar v sync.Mutex"}, "variable v changes"},
		{"package variables do not change", files{"internal/fault/a.go": "import \"sync/atomic\"\nvar v = &atomic.Pointer[int]{}"}, "variable v changes"},

		{"nobody sleeps", files{"internal/fault/a_test.go": "import (\n\"testing/synctest\"\n\"time\"\n)\nfunc f() { synctest.Test(nil, func() { time.Sleep(1) }) }"}, ""},
		{"nobody sleeps", files{"internal/fault/a.go": "import \"time\"\nfunc f() { time.After(1) }"}, ""},
		{"nobody sleeps", files{"bench/cmd/load/a.go": "import \"time\"\nfunc f() { time.Sleep(1) }"}, ""},
		{"nobody sleeps", files{"internal/fault/a_test.go": "import \"time\"\nfunc f() { time.Sleep(1) }"}, "do not sleep"},
		{"nobody sleeps", files{"internal/fault/a.go": "import clock \"time\"\nfunc f() { clock.Sleep(1) }"}, "do not sleep"},

		{"contexts come from the caller", files{"internal/app/a.go": "import \"context\"\nfunc f() { context.Background() }"}, ""},
		{"contexts come from the caller", files{"internal/store/a_test.go": "import \"context\"\nfunc f() { context.Background() }"}, ""},
		{"contexts come from the caller", files{"internal/store/a.go": "import \"context\"\nfunc f() { context.Background() }"}, "context.Background below app"},
		{"contexts come from the caller", files{"internal/store/a.go": "import \"context\"\nfunc f() { context.TODO() }"}, "context.TODO below app"},
	}
	failed := map[string]bool{}
	for i, tt := range tests {
		t.Run(fmt.Sprintf("%02d %s", i, tt.rule), func(t *testing.T) {
			breaches := ruleNamed(t, tt.rule).check(parse(t, tt.files))
			switch {
			case tt.want == "" && len(breaches) != 0:
				t.Errorf("breaches = %q, want none", breaches)
			case tt.want != "" && (len(breaches) != 1 || !strings.Contains(breaches[0], tt.want)):
				t.Errorf("breaches = %q, want one with %q", breaches, tt.want)
			}
		})
		failed[tt.rule] = failed[tt.rule] || tt.want != ""
	}
	for _, r := range rules {
		if !failed[r.name] {
			t.Errorf("no case breaks the rule %q", r.name)
		}
	}
}

type files = map[string]string

func manyFiles(dir string, n int, text string) files {
	all := files{}
	for i := range n {
		all[fmt.Sprintf("%s/f%d.go", dir, i)] = text
	}
	return all
}

func ruleNamed(t *testing.T, name string) rule {
	t.Helper()
	i := slices.IndexFunc(rules, func(r rule) bool { return r.name == name })
	if i < 0 {
		t.Fatalf("no rule %q", name)
	}
	return rules[i]
}

func parse(t *testing.T, files files) tree {
	t.Helper()
	sources := tree{files: token.NewFileSet()}
	for path, text := range files {
		if !strings.Contains("\n"+text, "\npackage ") {
			text = "package p\n" + text
		}
		if err := sources.add(path, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	return sources
}
