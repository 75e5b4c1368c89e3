package tokenizer

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// The counts are those of js-tiktoken, another implementation.
func TestCountAgreesWithTheVocabulary(t *testing.T) {
	for _, c := range []struct {
		family, text string
		want         int64
	}{
		{"o200k", "", 0},
		{"o200k", "hello world", 2},
		{"cl100k", "hello world", 2},
		{"cl100k", "tiktoken is great!", 6},
		{"o200k", "tiktoken is great!", 6},
		{"cl100k", "antidisestablishmentarianism", 6},
		{"cl100k", "2 + 2 = 4", 7},
		{"cl100k", "お誕生日おめでとう", 9},
		{"o200k", "お誕生日おめでとう", 8},
		{"o200k", "func f(x int) { return x*2 }\n\n\treturn", 12},
		{"o200k", "Größenwahn — naïve café 東京 🙂🙃", 13},
		{"cl100k", "Größenwahn — naïve café 東京 🙂🙃", 16},
		{"claude", strings.Repeat(" word", 100), 120},
		{"a family that nobody knows", "hello world", 2},
	} {
		if got := Count(c.family, c.text); got != c.want {
			t.Errorf("%s, %q: %d, want %d", c.family, c.text, got, c.want)
		}
	}
}

// A text that is cut into pieces, and one that is sampled, have about as many tokens as the whole.
func TestPiecesAndSamplesAreClose(t *testing.T) {
	var sentences []string
	for i := range 40 {
		sentences = append(sentences, fmt.Sprintf("In the year %d, clerk number %d wrote %s about the harbour; func f%d() { return x[%d] }.\n",
			1900+i, i*i*37, strings.Repeat("very ", i%5), i, i))
	}
	block := strings.Join(sentences, "")
	whole, err := o200k().Count(block)
	if err != nil {
		t.Fatal(err)
	}
	for _, blocks := range []int{1, 50, 800} {
		want := int64(whole * blocks)
		if got := Count("o200k", strings.Repeat(block, blocks)); abs(got-want)*100 > want {
			t.Errorf("%d bytes: %d tokens, more than 1 %% from %d", blocks*len(block), got, want)
		}
	}
}

func TestWorkIsBounded(t *testing.T) {
	tl := newTally("o200k")
	tl.text(strings.Repeat("one two three ", 400_000))
	if tl.stride == 1 || tl.looked > stretch+pieceSize {
		t.Errorf("of the last stretch %d bytes were tokenized, one of %d pieces", tl.looked, tl.stride)
	}
}

func abs(n int64) int64 { return max(n, -n) }

func TestRequest(t *testing.T) {
	for _, c := range []struct {
		name, body string
		want       int64
	}{
		{"one message", `{"messages":[{"role":"user","content":"hello world"}]}`, perRequest + perMessage + 2},
		{"parts, and an image that is no text", `{"messages":[{"role":"user","content":[{"type":"text","text":"hello world"},
			{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAABBBBCCCC"}}]}]}`, perRequest + perMessage + 2 + perMedium},
		{"an answer of a tool", `{"messages":[{"role":"tool","tool_call_id":"call_12345","content":"hello world"}]}`, perRequest + perMessage + 2},
		{"a text prompt", `{"prompt":"hello world"}`, perRequest + 2},
		{"a prompt of tokens", `{"prompt":[11,22,33]}`, perRequest + 3},
		{"inputs", `{"input":["hello world","hello world"]}`, perRequest + 4},
		{"a response", `{"instructions":"hello world","input":[{"role":"user","content":[{"type":"input_text","text":"hello world"}]}]}`, perRequest + perMessage + 4},
		{"tools count too", `{"messages":[],"tools":[{"x":1}]}`, perRequest + Count("o200k", `[{"x":1}]`)},
		{"escapes are one character", `{"prompt":"\u0068ello world"}`, perRequest + 2},
		{"what is no prompt does not count", `{"model":"m","user":"hello world","metadata":{"a":"b"}}`, perRequest},
		{"null", `{"messages":null}`, perRequest},
	} {
		if got := Request("o200k", fieldsOf(t, c.body)); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

// The pieces of an answer are one text; what stands around them in a call is none of it.
func TestAnswer(t *testing.T) {
	for values, said := range map[string]string{
		``:                  "",
		`"hello"" wor""ld"`: "hello world",
		`"\u0068ello"`:      "hello",
		`[{"index":0,"id":"call_1234567890","type":"function","function":{"name":"f","arguments":"{\"a"}}][{"index":0,"function":{"arguments":"\":1}"}}]`: `f{"a":1}`,
		`[{"type":"text","text":"hi"}]"!"`: "hi!",
		`"cut`:                             "",
		`]]"x"`:                            "",
	} {
		if got, want := Answer("o200k", []byte(values)), Count("o200k", said); got != want {
			t.Errorf("%s: %d, want %d", values, got, want)
		}
	}
	if got := Answer("o200k", []byte(`{"id":"audio_1","data":"UklGRiQAAABXQVZFZm10IBAAAAAB","transcript":"hello world","expires_at":1}`)); got != perMedium+2 {
		t.Errorf("sound: %d", got)
	}
	if a, b := Answer("claude", []byte(`"hello world hello world"`)), Count("claude", "hello world hello world"); a != b {
		t.Errorf("%d, want %d", a, b)
	}
}

func fieldsOf(t interface{ Fatal(...any) }, body string) func(string) ([]byte, bool) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal([]byte(body), &members); err != nil {
		t.Fatal(err)
	}
	return func(name string) ([]byte, bool) { raw, ok := members[name]; return raw, ok }
}

// Whatever JSON stands where a prompt should: counting ends, and never counts less than nothing.
func TestRequestTakesAnyJSON(t *testing.T) {
	value := rapid.Custom(func(t *rapid.T) any { return anything(t, 4) })
	rapid.Check(t, func(t *rapid.T) {
		raw, err := json.Marshal(map[string]any{"messages": value.Draw(t, "messages"), "tools": value.Draw(t, "tools")})
		if err != nil {
			t.Fatal(err)
		}
		if n := Request("llama3", fieldsOf(t, string(raw))); n < perRequest {
			t.Fatalf("%d tokens in %s", n, raw)
		}
	})
}

func anything(t *rapid.T, depth int) any {
	names := rapid.SampledFrom([]string{"role", "content", "text", "image_url", "type", "x"})
	switch kind := rapid.IntRange(0, 5).Draw(t, "kind"); {
	case kind == 0:
		return nil
	case kind == 1:
		return rapid.Float64Range(-9, 9).Draw(t, "number")
	case kind == 2 || depth == 0:
		return rapid.String().Draw(t, "text")
	case kind == 3:
		return rapid.Bool().Draw(t, "bool")
	case kind == 4:
		list := make([]any, rapid.IntRange(0, 3).Draw(t, "length"))
		for i := range list {
			list[i] = anything(t, depth-1)
		}
		return list
	default:
		object := map[string]any{}
		for range rapid.IntRange(0, 3).Draw(t, "members") {
			object[names.Draw(t, "name")] = anything(t, depth-1)
		}
		return object
	}
}

func TestPiecesKeepEveryCharacter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		unit := rapid.StringN(1, 40, -1).Draw(t, "unit")
		text := strings.Repeat(unit, 2*pieceSize/len(unit)+1)
		rest := text
		for len(rest) > 0 {
			end := pieceEnd(rest)
			if end < 1 || end > pieceSize {
				t.Fatalf("a piece of %d bytes", end)
			}
			if !utf8.ValidString(rest[:end]) && utf8.ValidString(text) {
				t.Fatalf("%q cuts a character in two", rest[:end])
			}
			rest = rest[end:]
		}
	})
}

func TestVocabulariesAreShared(t *testing.T) {
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for _, family := range Families() {
				if n := Count(family, "hello world"); n < 2 || n > 3 {
					t.Errorf("%s: %d", family, n)
				}
			}
		})
	}
	wg.Wait()
}

// White space is the slowest there is: its time must grow with its length, not with the square.
func BenchmarkCount(b *testing.B) {
	for name, unit := range map[string]string{"text": "The quick brown fox jumps over the lazy dog. ", "space": "   \n", "letters": "a"} {
		text := strings.Repeat(unit, 256<<10/len(unit))
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				Count("o200k", text)
			}
		})
	}
}
