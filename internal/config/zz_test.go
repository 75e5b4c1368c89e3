package config
import ("testing";"time";"fmt";"strings")
func TestZZ(t *testing.T) {
	for _, u := range []string{"[", "- ", "a: [", "{a: ", "*a ", "a:\n", "'x' ", "\"", "|\n", "# \n", "[],", "a: 1\n", "- a\n", "x ", "%x\n", "---\n", "\\", ",", ": ", "!!map ", "[a,", "é", "${A}", "a: &x {}\n", "- *x\n", "- |\n x\n", "- >\n", "? a\n", "- - \n", "a:\n  - b\n", "  x\n", "[a, b],", "<<: *a\n", "- {a: 1}\n", "providers: [{name: a}]\n", "${", "$", "- \"a\"\n", "- a: 1\n  b: 1\n", "a: 1, ", " a: 1\nb:\n", "...\n", "? - a\n", "&a\n", "a:\n? b\n"} {
		for _, pre := range []string{"", "providers:\n", "providers: [", "a: &a {b: 1}\n", "providers: {"} {
		var ds []string
		for _, size := range []int{1<<15, 1<<17, 1<<20} {
		s := strings.Repeat(u, size/len(u)-10)
		t0 := time.Now()
		load(t, pre+s)
		d := time.Since(t0)
		ds = append(ds, d.Round(time.Millisecond).String())
		if d > 1000*time.Millisecond { fmt.Printf("%q %q: %v\n", pre, u, ds); break }
		}
		}
	}
}
