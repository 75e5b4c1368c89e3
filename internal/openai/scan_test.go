package openai

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// scanOne scans a text that is one value of any kind.
func scanOne(text string) *scanner {
	s := &scanner{src: []byte(text)}
	s.finish(s.value(skipSpace(s.src, 0), 0))
	return s
}

func TestScannerAcceptsExactlyJSON(t *testing.T) {
	texts := []string{
		`0`, `-0`, `12`, `1.5e-7`, `1E+9`, `01`, `1.`, `.5`, `-`, `+1`, `1e`, `1e+`, `0x1`, `--1`, `1.2.3`, `00`,
		`true`, `false`, `null`, `tru`, `True`, `nul`, `nullx`, `truefalse`,
		`""`, `"a`, `"`, `"\"`, `"\\"`, `"\/\b\f\n\r\t\""`, `"\x"`, `"\u12"`, `"\u12g4"`, `"\uABCD\uabcd"`, `"\ud800"`,
		"\"a\nb\"", "\"a\x00\"", "\"\x7f\"", "\"12345678\x1f\"", `"1234567\n"`, `"12345678"`, `"1234567"x`,
		`[]`, `[1]`, `[1,]`, `[,1]`, `[1 2]`, `[1,2`, `[`, `]`, `[}`, `[[],[[]]]`,
		`{}`, `{"a":1}`, `{"a":1,}`, `{,}`, `{"a"}`, `{"a":}`, `{a:1}`, `{"a":1 "b":2}`, `{"a":1`, `{"a`, `{`, `}`, `{]`,
		`{"a":{"b":[{"c":[]}]}}`, ` [ 1 , { "a" : [ ] } ] `, "\t\r\n{}\n", "\v{}", "\u00a0{}",
		"\"é世🌍\"", "\"\xff\"", "\"aaaaaaaaaaaa\xc3\"", "\"\xed\xa0\x80\"", "\xff", `"` + strings.Repeat("ab", 40) + `"`,
		``, ` `, `//x`, `1 2`, `[]x`,
	}
	for _, text := range texts {
		if got, want := scanOne(text), consult([]byte(text)); (got.problem == "") != want.valid {
			t.Errorf("%q: problem %q, encoding/json says valid = %v", text, got.problem, want.valid)
		}
	}
}

// jsonText makes JSON with odd spacing, and text that is nearly JSON.
func jsonText() *rapid.Generator[string] {
	leaf := rapid.SampledFrom([]string{
		`0`, `-1.5e9`, `123456789012345678901234567890`, `true`, `false`, `null`, `""`, `"x"`, `"é\u00e9\n"`, `"\ud83d\ude00"`,
		`"a longer text, with \"quotes\" and more than eight bytes"`, "\"\x01\"", "\"\xff\"", `01`, `tru`, `"`,
	})
	space := rapid.SampledFrom([]string{"", "", "", " ", "\n\t", "\r\n  "})
	var value func(depth int) *rapid.Generator[string]
	value = func(depth int) *rapid.Generator[string] {
		return rapid.Custom(func(t *rapid.T) string {
			kind := rapid.IntRange(0, 3).Draw(t, "kind")
			if depth == 0 || kind < 2 {
				return leaf.Draw(t, "leaf")
			}
			brackets, parts := "[]", []string(nil)
			if kind == 3 {
				brackets = "{}"
			}
			for i := range rapid.IntRange(0, 4).Draw(t, "n") {
				part := space.Draw(t, "s") + value(depth-1).Draw(t, "v") + space.Draw(t, "s")
				if kind == 3 {
					part = fmt.Sprintf(`%s"k%d"%s:%s`, space.Draw(t, "s"), i, space.Draw(t, "s"), part)
				}
				parts = append(parts, part)
			}
			return brackets[:1] + strings.Join(parts, ",") + brackets[1:]
		})
	}
	return value(4)
}

func TestScannerAgreesWithEncodingJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := jsonText().Draw(t, "text")
		if cut := rapid.IntRange(0, 3).Draw(t, "damage"); cut == 0 && len(text) > 1 {
			at := rapid.IntRange(0, len(text)-1).Draw(t, "at")
			text = text[:at] + rapid.SampledFrom([]string{"", "}", "]", ",", ":", `"`, `\`, "0"}).Draw(t, "with") + text[at+1:]
		}
		if got, want := scanOne(text), consult([]byte(text)); (got.problem == "") != want.valid {
			t.Fatalf("%q: problem %q at %d, encoding/json says valid = %v", text, got.problem, got.at, want.valid)
		}
	})
}

func TestScannerFindsTheStopAtEveryPosition(t *testing.T) {
	for _, stop := range []byte{'"', '\\', 0x00, 0x1f, '\n'} {
		for at := range 40 {
			for _, filler := range []byte{' ', '!', '#', '[', ']', 0x7f, 0x80, 0xff, 0x21, 0x23} {
				text := strings.Repeat(string([]byte{filler}), at) + string([]byte{stop}) + strings.Repeat("\"\xff", 10)
				got, seen := run([]byte(text), 0)
				if got != at {
					t.Fatalf("stop %#x behind %d of %#x: found at %d", stop, at, filler, got)
				}
				if (seen&highs != 0) != (filler >= 0x80 && at > 0) {
					t.Fatalf("stop %#x behind %d of %#x: high bytes seen: %#x", stop, at, filler, seen)
				}
			}
		}
	}
}

func TestScannerBoundsDepth(t *testing.T) {
	for _, nest := range []struct{ open, inner, closing string }{{"[", "", "]"}, {`{"a":`, "1", "}"}, {`[{"a":`, "0", "}]"}} {
		levels := MaxDepth / (strings.Count(nest.open, "[") + strings.Count(nest.open, "{"))
		ok := strings.Repeat(nest.open, levels) + nest.inner + strings.Repeat(nest.closing, levels)
		if s := scanOne(ok); s.problem != "" {
			t.Errorf("%d levels of %s: %s", MaxDepth, nest.open, s.problem)
		}
		if s := scanOne(nest.open + ok + nest.closing); !strings.Contains(s.problem, "nested") {
			t.Errorf("more than %d levels of %s: problem %q", MaxDepth, nest.open, s.problem)
		}
	}
	if s := scanOne(strings.Repeat("[", 20<<20)); s.at != MaxDepth {
		t.Errorf("20 MiB of brackets: stopped at %d", s.at)
	}
}

func TestScannerSaysWhere(t *testing.T) {
	for text, at := range map[string]int{
		`{"a":tru}`: 5, `{"a" 1}`: 5, `{"a":"x`: 5, "{\"a\":\"xé\xff\"}": 9, "{\"a\":\"b\nc\"}": 7, `{"a":"\q"}`: 6, `{"a":1.x}`: 7, `{"a":1]`: 6,
	} {
		if s := scanOne(text); s.problem == "" || s.at != at {
			t.Errorf("%q: %q at %d, want %d", text, s.problem, s.at, at)
		}
	}
}
