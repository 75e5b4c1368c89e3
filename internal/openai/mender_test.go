package openai

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// rawChunk is a chunk whose string is written as the bytes are, however they were cut.
func rawChunk(choice int, member, raw string) string {
	return fmt.Sprintf(`{"id":"x","choices":[{"index":%d,"delta":{%q:"%s"},"finish_reason":null}]}`, choice, member, raw)
}

// mended is the text of each choice's content in what a client sees of the chunks.
func mended(tb interface{ Fatalf(string, ...any) }, m *Mender, chunks []string) map[int]string {
	texts := map[int]string{}
	for _, data := range chunks {
		var c Chunk
		if err := m.ParseChunk([]byte(data), &c); err != nil {
			tb.Fatalf("%q: %v", data, err)
		}
		if !utf8.Valid(c.Data) || !json.Valid(c.Data) {
			tb.Fatalf("%q became %q", data, c.Data)
		}
		for _, choice := range c.Choices {
			texts[choice.Index] += DecodeText(choice.Text)
		}
	}
	return texts
}

func TestMenderPutsCutCharactersTogether(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var chunks []string
		want := map[int]string{}
		pieces := map[int][]string{}
		for choice := range rapid.IntRange(1, 3).Draw(t, "choices") {
			text := strings.Map(func(r rune) rune {
				if r < ' ' || r == '"' || r == '\\' || r == utf8.RuneError {
					return 'x'
				}
				return r
			}, rapid.StringN(0, 30, -1).Draw(t, "text"))
			want[choice] = text
			for rest := text; rest != ""; { // cut anywhere, also several times inside of one character
				n := rapid.IntRange(1, min(5, len(rest))).Draw(t, "n")
				pieces[choice] = append(pieces[choice], rawChunk(choice, "content", rest[:n]))
				rest = rest[n:]
			}
		}
		for len(pieces) > 0 { // the choices' chunks come in any order among each other
			choice := rapid.SampledFrom(slices.Sorted(keysOf(pieces))).Draw(t, "choice")
			if len(pieces[choice]) == 0 {
				delete(pieces, choice)
				continue
			}
			chunks = append(chunks, pieces[choice][0])
			pieces[choice] = pieces[choice][1:]
		}
		var m Mender
		got := mended(t, &m, chunks)
		for choice, text := range want {
			if got[choice] != text {
				t.Fatalf("choice %d: %q, want %q", choice, got[choice], text)
			}
		}
		if len(m.halves) != 0 {
			t.Fatalf("left over: %v", m.halves)
		}
	})
}

func keysOf[V any](m map[int]V) func(func(int) bool) {
	return func(yield func(int) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func TestMenderKnowsTheMembersOfADelta(t *testing.T) {
	var m Mender
	var c Chunk
	want := []string{
		`{"choices":[{"delta":{"reasoning":"","content":"a"},"text":"a"}]}`,
		`{"choices":[{"delta":{"role" : "x","reasoning" : "世","content":"é!"},"text":"é!"}]}`,
	}
	for i, data := range []string{
		"{\"choices\":[{\"delta\":{\"reasoning\":\"\xe4\xb8\",\"content\":\"a\xc3\"},\"text\":\"a\xc3\"}]}",
		"{\"choices\":[{\"delta\":{\"role\" : \"x\",\"reasoning\" : \"\x96\",\"content\":\"\xa9!\"},\"text\":\"\xa9!\"}]}",
	} {
		if err := m.ParseChunk([]byte(data), &c); err != nil || string(c.Data) != want[i] {
			t.Fatalf("%s, %v\nwant %s", c.Data, err, want[i])
		}
	}
}

func TestMenderMendsArgumentsOfToolCalls(t *testing.T) {
	var m Mender
	var c Chunk
	call := `{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"%s"}}]}}]}`
	for i, args := range []string{`{\"a\":\"` + "\xf0\x9f", "\x8c", "\x8d" + `\"}`} {
		if err := m.ParseChunk(fmt.Appendf(nil, call, args), &c); err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf(call, []string{`{\"a\":\"`, "", `🌍\"}`}[i]); string(c.Data) != want {
			t.Errorf("%s, want %s", c.Data, want)
		}
	}
}

func TestMenderLeavesTheRestMalformed(t *testing.T) {
	first := rawChunk(0, "content", "a\xf0\x9f")
	for name, chunks := range map[string][]string{
		"no rest was awaited":             {rawChunk(0, "content", "\x8c\x8d")},
		"another choice":                  {first, rawChunk(1, "content", "\x8c\x8d")},
		"another member":                  {first, rawChunk(0, "reasoning", "\x8c\x8d")},
		"more than the rest":              {first, rawChunk(0, "content", "\x8c\x8d\x8d")},
		"less than the rest":              {first, rawChunk(0, "content", "\x8c!")},
		"no character":                    {rawChunk(0, "content", "\xed"), rawChunk(0, "content", "\xa0\x80")},
		"in the middle":                   {rawChunk(0, "content", "a\xf0\x9fb")},
		"never UTF-8":                     {rawChunk(0, "content", "a\xff")},
		"the end of a broken text":        {rawChunk(0, "content", "\xff\xf0\x9f")},
		"outside of a string":             {first + "\xf0\x9f"},
		"a key":                           {rawChunk(0, "con\xc3", "x")},
		"several choices":                 {"{\"choices\":[{\"text\":\"\xc3\"},{\"text\":\"x\",\"index\":1}]}"},
		"no choice":                       {"{\"choices\":[],\"x\":\"\xc3\"}"},
		"not closed":                      {"{\"choices\":[{\"text\":\"\xc3"},
		"the rest comes a chunk too late": {first, rawChunk(0, "content", "b"), rawChunk(0, "content", "\x8c\x8d")},
		"UTF-8, but no JSON":              {`{"choices":`},
	} {
		var m Mender
		var c Chunk
		for _, data := range chunks[:len(chunks)-1] {
			if err := m.ParseChunk([]byte(data), &c); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		var malformed *MalformedError
		if err := m.ParseChunk([]byte(chunks[len(chunks)-1]), &c); !errors.As(err, &malformed) {
			t.Errorf("%s: %v, %s", name, err, c.Data)
		}
	}
}

func TestMenderIsNotFilledUp(t *testing.T) {
	var m Mender
	var c Chunk
	for i := range 100_000 {
		data := rawChunk(i%maxChoices, fmt.Sprint("k", i), "\xf0\x9f\x8c")
		if err := m.ParseChunk([]byte(data), &c); err != nil {
			t.Fatal(err)
		}
	}
	if len(m.halves) > maxChoices {
		t.Errorf("%d halves", len(m.halves))
	}
}

func TestMenderCostsNothingForWhatIsWellFormed(t *testing.T) {
	var m Mender
	var c Chunk
	data := []byte(usualChunk)
	if n := testing.AllocsPerRun(100, func() {
		if err := m.ParseChunk(data, &c); err != nil {
			t.Error(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzMender(f *testing.F) {
	f.Add([]byte(rawChunk(0, "content", "a\xf0\x9f")), []byte(rawChunk(0, "content", "\x8c\x8d")))
	f.Add([]byte(rawChunk(0, "content", "\\\xc3")), []byte(rawChunk(0, "content", "\xa9\"")))
	f.Add([]byte("{\"choices\":[{\"text\":\"\xe4\xb8\"}]}"), []byte("{\"choices\":[{\"text\":\"\x96\xe4\"}]}"))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		var m Mender
		for _, data := range [][]byte{first, second} {
			var mended, plain Chunk
			before := string(data)
			err := m.ParseChunk(data, &mended)
			if string(data) != before {
				t.Fatalf("%q became %q", before, data)
			}
			if plainErr := ParseChunk(data, &plain); plainErr == nil && (err != nil || string(plain.Data) != string(mended.Data)) {
				t.Fatalf("%q: %v, %q", data, err, mended.Data)
			}
			if err == nil && (!utf8.Valid(mended.Data) || !json.Valid(mended.Data)) {
				t.Fatalf("%q became %q", data, mended.Data)
			}
		}
	})
}
