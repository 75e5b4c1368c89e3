package openai

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// checkTexts compares the choices' texts with what decoding finds.
func checkTexts(t *testing.T, data []byte, got []Choice) {
	t.Helper()
	answer, _ := decode(t, data).(map[string]any)
	list, _ := answer["choices"].([]any)
	for i, c := range got {
		choice, _ := list[i].(map[string]any)
		delta, inDelta := choice["delta"].(map[string]any)
		message, inMessage := choice["message"].(map[string]any)
		if inDelta && inMessage {
			continue
		}
		if inMessage {
			delta = message
		}
		want, ok := delta["content"].(string)
		if !ok {
			want, ok = choice["text"].(string)
		}
		if ok != (c.Text != nil) || DecodeText(c.Text) != want {
			t.Fatalf("%s\nchoice %d: text %q, want %q", data, i, c.Text, want)
		}
	}
}

// checkWithText checks that a chunk with its own text is the same chunk, and with another text differs
// in that alone.
func checkWithText(t *testing.T, c *Chunk) {
	t.Helper()
	before := string(c.Data)
	if len(c.Choices) != 1 || c.Choices[0].Text == nil {
		if got := string(c.WithText([]byte(">"), "x")); got != ">"+before {
			t.Fatalf("%s\nbecame %s", before, got)
		}
		return
	}
	const other = "\"new\" \\ é\n"
	edited := c.WithText(nil, other)
	var again Chunk
	if err := ParseChunk(edited, &again); err != nil {
		t.Fatalf("%s\nbecame %s: %v", before, edited, err)
	}
	if got := DecodeText(again.Choices[0].Text); got != other {
		t.Fatalf("%s\nbecame %s: text %q", before, edited, got)
	}
	was := bytes.Replace(edited, AppendString(nil, other), append(append([]byte{'"'}, c.Choices[0].Text...), '"'), 1)
	if string(was) != before || string(c.Data) != before {
		t.Fatalf("%s\nbecame %s", before, edited)
	}
}

func TestChoicesSayWhatTheyCarry(t *testing.T) {
	text := func(s string) []byte { return []byte(s) }
	for choice, want := range map[string]Choice{
		`{"delta":{"content":"a\"b"}}`:                                    {Content: true, Text: text(`a\"b`)},
		`{"delta":{"content":""}}`:                                        {Text: text("")},
		`{"delta":{"content":null}}`:                                      {},
		`{"delta":{"role":"assistant"}}`:                                  {},
		`{"message":{"content":"x"},"finish_reason":"stop"}`:              {Content: true, Text: text("x"), FinishReason: "stop"},
		`{"text":"x","index":1}`:                                          {Index: 1, Content: true, Text: text("x")},
		`{"text":"x","delta":{"content":"y"}}`:                            {Content: true, Text: text("y")},
		`{"delta":{"content":"y"},"text":"x"}`:                            {Content: true, Text: text("y")},
		`{"delta":{"content":null},"text":"x"}`:                           {Content: true, Text: text("x")},
		`{"delta":{"content":"a","content":"b"}}`:                         {Content: true, Other: true, Text: text("b")},
		`{"delta":{"content":[{"type":"text","text":"x"}]}}`:              {Content: true, Other: true},
		`{"delta":{"content":[]}}`:                                        {},
		`{"delta":{"content":{"parts":1}}}`:                               {Content: true, Other: true},
		`{"delta":{"reasoning_content":"x"}}`:                             {Content: true, Reasoning: true},
		`{"delta":{"reasoning":"x","content":""}}`:                        {Content: true, Reasoning: true, Text: text("")},
		`{"delta":{"reasoning":"","reasoning_details":[{}]}}`:             {Content: true, Reasoning: true},
		`{"delta":{"reasoning":null,"reasoning_content":""}}`:             {},
		`{"delta":{"refusal":"no"}}`:                                      {Content: true, Other: true},
		`{"delta":{"refusal":null,"audio":{"data":"x"}}}`:                 {Content: true, Other: true},
		`{"delta":{"images":[{}],"content":"x"}}`:                         {Content: true, Other: true, Text: text("x")},
		`{"delta":{"tool_calls":[{}],"content":""}}`:                      {Content: true, ToolCalls: true, Text: text("")},
		`{"delta":{"annotations":[{"content":"x"}]}}`:                     {},
		`{"delta":{"content":"x"},"message":{"content":"x"},"index":127}`: {Index: 127, Content: true, Other: true, Text: text("x")},
	} {
		var c Chunk
		if err := ParseChunk([]byte(` {"choices":[`+choice+`]}`), &c); err != nil {
			t.Fatalf("%s: %v", choice, err)
		}
		if diff := cmp.Diff([]Choice{want}, c.Choices); diff != "" {
			t.Errorf("%s\n%s", choice, diff)
		}
		checkWithText(t, &c)
	}
}

func TestWithTextLeavesSeveralChoicesAlone(t *testing.T) {
	var c Chunk
	if err := ParseChunk([]byte(`{"choices":[{"text":"a"},{"text":"b","index":1}]}`), &c); err != nil {
		t.Fatal(err)
	}
	checkWithText(t, &c)
}

func TestDecodeTextPutsPiecesTogether(t *testing.T) {
	for raw, want := range map[string]string{
		``: "", `plain`: "plain", `a\n\"b\"`: "a\n\"b\"", `\ud83c` + `\udf0d`: "🌍", `\ud83c`: "\ufffd", `é`: "é",
	} {
		if got := DecodeText([]byte(raw)); got != want {
			t.Errorf("%s: %q, want %q", raw, got, want)
		}
	}
	if raw := []byte("plain text"); testing.AllocsPerRun(10, func() { _ = DecodeText(raw) }) > 1 {
		t.Error("plain text is copied more than once")
	}
}

func TestIsEmpty(t *testing.T) {
	for answer, want := range map[string]bool{
		`{"choices":[{"message":{"content":""},"finish_reason":"stop"}]}`:         true,
		`{"choices":[{"message":{"content":null}}]}`:                              true,
		`{"choices":[{"message":{"content":null},"finish_reason":"tool_calls"}]}`: true,
		`{"choices":[]}`:               true,
		`{"data":[]}`:                  true,
		`{"data":[{"embedding":[1]}]}`: false,
		`{"choices":[{"message":{"content":" "},"finish_reason":"stop"}]}`:                                                    false,
		`{"choices":[{"message":{"reasoning":"x"},"finish_reason":"stop"}]}`:                                                  false,
		`{"choices":[{"message":{"content":null,"tool_calls":[{}]},"finish_reason":"tool_calls"}]}`:                           false,
		`{"choices":[{"message":{"content":""},"finish_reason":"length"}]}`:                                                   false,
		`{"choices":[{"message":{"content":""},"finish_reason":"content_filter"}]}`:                                           false,
		`{"choices":[{"message":{"content":""},"finish_reason":"SAFETY"}]}`:                                                   false,
		`{"choices":[{"message":{"content":""},"finish_reason":"stop"},{"message":{"content":"x"},"finish_reason":"stop"}]}`:  false,
		`{"choices":[{"message":{"content":""},"finish_reason":"stop"},{"message":{"content":""},"finish_reason":"length"}]}`: false,
		`{"choices":[],"error":{"message":"x"}}`:                                                                              false,
	} {
		r, err := ParseReply([]byte(answer))
		if err != nil {
			t.Fatal(err)
		}
		if r.IsEmpty() != want {
			t.Errorf("%s: empty %v", answer, !want)
		}
		if r.Err != nil {
			continue
		}
		var c Chunk // the same in a stream, which may say it chunk by chunk
		if err := ParseChunk([]byte(answer), &c); err != nil {
			t.Fatal(err)
		}
		p := Progress{}
		p.Observe(&c)
		p.Observe(&Chunk{})
		if p.IsEmpty() != want {
			t.Errorf("a stream of %s: empty %v", answer, !want)
		}
	}
}

func TestTheChunkWithAnEscapedKeyIsValid(t *testing.T) {
	var c Chunk
	if err := ParseChunk([]byte(`{"choices":[{"delta":{"cont\u0065nt":"x"}}]}`), &c); err != nil {
		t.Fatal(err)
	}
	if !json.Valid(c.WithText(nil, "y")) {
		t.Error("WithText broke it")
	}
}
