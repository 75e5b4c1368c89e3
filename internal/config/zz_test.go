package config
import ("testing";"time";"fmt";"strings")
func TestZZ(t *testing.T) {
	for _, u := range []string{"a:\n", "-\n", "- a:\n", "- {a: }\n", "- [,\n", "{},", "a: 1\n", "[{a: b}],", "a: &x {}\n", "- *x\n",  "? a\n", "- - \n", "a:\n  - b\n", "  x\n", "- a: 1\n  b: 1\n", " a: 1\nb:\n",  "&a\n", "a:\n? b\n", "a,", "a: b,", "a:,", "[a:,", "- !!x\n", "- &a\n", "  -\n  -\n -\n", "- &a b\n", "!a b\n", "- !a b\n", "-\n-\n  a:\n", "- a:\n    b:\n"} {
		for _, pre := range []string{"", "providers:\n", "providers: [", "providers: {"} {
		var ds []string
		for _, size := range []int{1<<15, 1<<17, 1<<20} {
		s := strings.Repeat(u, size/len(u)-10)
		t0 := time.Now()
		load(t, pre+s)
		d := time.Since(t0)
		ds = append(ds, d.Round(time.Millisecond).String())
		if d > 1500*time.Millisecond { fmt.Printf("%q %q: %v\n", pre, u, ds); break }
		}
		}
	}
}
