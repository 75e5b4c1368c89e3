package openai

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
)

func TestStreamsOfRealEngines(t *testing.T) {
	for _, engine := range []string{"ollama", "node-llama-cpp"} {
		for _, name := range []string{"chat-stream-usage", "chat-tools-stream", "chat-tools-parallel-stream", "completion-stream"} {
			for _, include := range []bool{true, false} {
				t.Run(engine+"/"+name, func(t *testing.T) {
					data, done, end := payloads(t, engine+"/"+name)
					if !done || !errors.Is(end, io.EOF) {
						t.Fatalf("done %v, end %v", done, end)
					}
					checkStream(t, data, include)
				})
			}
		}
	}
}

// checkStream compares a stream's chunks after the editor with the same done the slow way.
func checkStream(t *testing.T, data []string, include bool) {
	t.Helper()
	editor := StreamEditor{ID: "own-1", Model: "served", IncludeUsage: include}
	naive := naiveEditor{id: "own-1", model: "served", include: include, introduced: map[string]bool{}}
	var p Progress
	var c Chunk
	for i, d := range data {
		if err := ParseChunk([]byte(d), &c); err != nil {
			t.Fatalf("%s: %v", d, err)
		}
		p.Observe(&c)
		checkTexts(t, []byte(d), c.Choices)
		checkWithText(t, &c)
		got := editor.AppendChunk(nil, &c)
		want := naive.edit(t, []byte(d))
		if want == nil || len(got) == 0 {
			if want != nil || len(got) != 0 {
				t.Fatalf("chunk %d: %s\ngot  %s\nwant %s", i, d, got, want)
			}
			continue
		}
		sameJSON(t, got, want)
	}
	if !p.Finished() || p.ContentBytes() == 0 {
		t.Errorf("finished %v, %d bytes of content", p.Finished(), p.ContentBytes())
	}
}

// naiveEditor does what StreamEditor promises by decoding and encoding.
type naiveEditor struct {
	id, model  string
	include    bool
	introduced map[string]bool
}

func (n *naiveEditor) edit(tb testing.TB, data []byte) []byte {
	tb.Helper()
	v, _ := decode(tb, data).(map[string]any)
	choices, isList := v["choices"].([]any)
	_, hasUsage := v["usage"].(map[string]any)
	if hasUsage && len(choices) == 0 && !n.include || !hasUsage && !isList && v["error"] == nil {
		return nil
	}
	v["id"], v["model"] = n.id, n.model
	if !n.include {
		delete(v, "usage")
	}
	if !isList {
		v["choices"] = []any{}
	}
	for _, choice := range choices {
		if choice, ok := choice.(map[string]any); ok {
			n.editChoice(choice)
		}
	}
	raw, err := json.Marshal(v)
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

func (n *naiveEditor) editChoice(c map[string]any) {
	index := "0"
	if i, ok := c["index"].(json.Number); ok {
		index = i.String()
	}
	for _, member := range []string{"delta", "message"} {
		delta, _ := c[member].(map[string]any)
		if _, ok := delta["role"]; ok && n.introduced[index] {
			delete(delta, "role")
		} else if ok {
			n.introduced[index] = true
		}
		tools := false
		for _, d := range []string{"delta", "message"} {
			d, _ := c[d].(map[string]any)
			for _, k := range []string{"tool_calls", "function_call"} {
				switch v := d[k].(type) {
				case []any:
					tools = tools || len(v) > 0
				case map[string]any:
					tools = tools || len(v) > 0
				case string:
					tools = tools || v != ""
				}
			}
		}
		finish, _ := c["finish_reason"].(string)
		if delta["content"] == "" && (finish != "" || tools) {
			delete(delta, "content")
		}
	}
	if c["finish_reason"] == "" {
		c["finish_reason"] = nil
	}
}

func TestAppendChunkByteForByte(t *testing.T) {
	for _, c := range []struct{ name, data, want string }{
		{
			"first delta", `{"id":"a","model":"b","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}`,
			`{"id":"I","model":"M","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}`,
		},
		{
			"role again", `{"id":"a","choices":[{"index":0,"delta":{"role":"assistant", "content":" x"}}],"model":"b"}`,
			`{"id":"I","choices":[{"index":0,"delta":{"content":" x"}}],"model":"M"}`,
		},
		{
			"role again, last", `{"id":"a","model":"b","choices":[{"index":0,"delta":{"content":" x", "role":"assistant"}}]}`,
			`{"id":"I","model":"M","choices":[{"index":0,"delta":{"content":" x"}}]}`,
		},
		{
			"role again, alone", `{"id":"a","model":"b","choices":[{"index":0,"delta":{"role":"assistant"}}]}`,
			`{"id":"I","model":"M","choices":[{"index":0,"delta":{}}]}`,
		},
		{
			"role of another choice", `{"id":"a","model":"b","choices":[{"delta":{"role":"assistant"},"index":1}]}`,
			`{"id":"I","model":"M","choices":[{"delta":{"role":"assistant"},"index":1}]}`,
		},
		{
			"the end", `{"id":"a","model":"b","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":"stop"}]}`,
			`{"id":"I","model":"M","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`,
		},
		{
			"the end, with more", `{"id":"a","model":"b","choices":[{"index":0,"delta":{"x":1,"role":"assistant","content":""},"finish_reason":"stop"}]}`,
			`{"id":"I","model":"M","choices":[{"index":0,"delta":{"x":1},"finish_reason":"stop"}]}`,
		},
		{
			"text at the end stays", `{"id":"a","model":"b","choices":[{"index":0,"delta":{"content":"."},"finish_reason":"stop"}]}`,
			`{"id":"I","model":"M","choices":[{"index":0,"delta":{"content":"."},"finish_reason":"stop"}]}`,
		},
		{
			"empty content beside a tool call", `{"id":"a","model":"b","choices":[{"index":0,"delta":{"content":"","tool_calls":[{"index":0}]}}]}`,
			`{"id":"I","model":"M","choices":[{"index":0,"delta":{"tool_calls":[{"index":0}]}}]}`,
		},
		{
			"empty finish reason", `{"id":"a","model":"b","choices":[{"index":0,"delta":{"content":"x"},"finish_reason":""}]}`,
			`{"id":"I","model":"M","choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}]}`,
		},
		{"no id, no model", ` {"x":1.0, "choices":[]} `, `{"id":"I","model":"M","x":1.0, "choices":[]}`},
		{"no id", `{"model":"b","choices":[]}`, `{"id":"I","model":"M","choices":[]}`},
		{"no model", `{"choices":[],"id":"a"}`, `{"model":"M","choices":[],"id":"I"}`},
		{"usage null", `{"id":"a","model":"b","choices":[],"usage":null}`, `{"id":"I","model":"M","choices":[]}`},
		{"usage first", `{"usage":null , "id":"a","model":"b","choices":[]}`, `{"id":"I","model":"M","choices":[]}`},
		{"usage with content", `{"id":"a","usage":{"prompt_tokens":1},"model":"b","choices":[{"text":"x"}]}`, `{"id":"I","model":"M","choices":[{"text":"x"}]}`},
		{"usage chunk", `{"id":"a","model":"b","choices":[],"usage":{"prompt_tokens":1}}`, ``},
		{"usage chunk of zeros", `{"id":"a","model":"b","choices":[],"usage":{"prompt_tokens":0}}`, ``},
		{"filter results", `{"choices":[],"prompt_filter_results":[]}`, `{"id":"I","model":"M","choices":[],"prompt_filter_results":[]}`},
		{"something else", `{"type":"ping"}`, ``},
		{"an error", `{"error":{"message":"x"}}`, `{"id":"I","model":"M","error":{"message":"x"},"choices":[]}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := StreamEditor{ID: "I", Model: "M"}
			if c.name != "first delta" {
				s.introduced.add(0)
			}
			var chunk Chunk
			if err := ParseChunk([]byte(c.data), &chunk); err != nil {
				t.Fatal(err)
			}
			if got := string(s.AppendChunk([]byte(">"), &chunk)); got != ">"+c.want {
				t.Errorf("got  %s\nwant >%s", got, c.want)
			}
		})
	}
}

func TestUsageChunkForAClientThatAsked(t *testing.T) {
	s := StreamEditor{ID: "I", Model: "M", IncludeUsage: true}
	var c Chunk
	if err := ParseChunk([]byte(`{"id":"a","model":"b","usage":{"prompt_tokens":3,"completion_tokens":4} } `), &c); err != nil {
		t.Fatal(err)
	}
	got := AppendMember(s.AppendChunk(nil, &c), "x-shareai-cost", []byte(`"0.0000123"`))
	want := `{"id":"I","model":"M","usage":{"prompt_tokens":3,"completion_tokens":4},"choices":[],"x-shareai-cost":"0.0000123"}`
	sameJSON(t, got, []byte(want))

	own := s.AppendUsage(nil, "chat.completion.chunk", 1795289211, Usage{Prompt: 9, Cached: 4, Completion: 12, Reasoning: 5})
	if err := ParseChunk(own, &c); err != nil {
		t.Fatal(err)
	}
	if want := (Usage{Prompt: 9, Cached: 4, Completion: 12, Reasoning: 5, Reported: true}); c.Usage != want || len(c.Choices) != 0 || string(s.AppendChunk(nil, &c)) != string(own) {
		t.Errorf("own usage chunk: %s", own)
	}
}

func TestAppendMember(t *testing.T) {
	for object, want := range map[string]string{
		`{}`: `{"k":1}`, `{ }`: `{"k":1}`, `{"a":{}}`: `{"a":{},"k":1}`, "{\"a\":\"}\"\n}": `{"a":"}","k":1}`,
	} {
		if got := string(AppendMember([]byte(object), "k", []byte("1"))); got != want {
			t.Errorf("%s: %s, want %s", object, got, want)
		}
	}
}

func TestAppendString(t *testing.T) {
	for _, s := range []string{"", "plain", "q\"b\\s/", "\x00\x1f\n\r\t\x7f", "é世🌍\u2028", "bad\xff\xc3", "\xed\xa0\x80"} {
		raw := AppendString(nil, s)
		var got string
		if err := json.Unmarshal(raw, &got); err != nil || got != string([]rune(s)) {
			t.Errorf("%q: %s decodes to %q, %v", s, raw, got, err)
		}
		if scanned := scanOne(string(raw)); scanned.problem != "" {
			t.Errorf("%q: %s", s, scanned.problem)
		}
	}
}

func TestAStreamThatEndsCleanlyWithoutAFinishReasonIsNotFinished(t *testing.T) {
	for _, name := range []string{"runner-killed-mid-stream", "server-killed-mid-stream"} {
		data, done, _ := payloads(t, "ollama-faults/"+name)
		var p Progress
		var c Chunk
		for _, d := range data {
			if err := ParseChunk([]byte(d), &c); err != nil {
				t.Fatal(err)
			}
			p.Observe(&c)
		}
		if done || p.Finished() || p.ContentBytes() == 0 {
			t.Errorf("%s: done %v, finished %v", name, done, p.Finished())
		}
	}
}

func TestProgressWaitsForEveryChoice(t *testing.T) {
	var p Progress
	var c Chunk
	if p.Finished() {
		t.Error("finished before it began")
	}
	for _, step := range []struct {
		data     string
		finished bool
	}{
		{`{"choices":[]}`, false},
		{`{"choices":[{"index":0,"delta":{"role":"assistant"}}]}`, false},
		{`{"choices":[{"index":127,"delta":{"content":"x"},"finish_reason":null}]}`, false},
		{`{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`, false},
		{`{"choices":[{"index":127,"delta":{},"finish_reason":""}],"usage":{"prompt_tokens":1,"completion_tokens":1}}`, false},
		{`{"choices":[{"index":127,"delta":{},"finish_reason":"weird"}],"usage":{"prompt_tokens":0,"completion_tokens":0}}`, true},
		{`{"choices":[]}`, true},
	} {
		if err := ParseChunk([]byte(step.data), &c); err != nil {
			t.Fatal(err)
		}
		p.Observe(&c)
		if p.Finished() != step.finished {
			t.Errorf("after %s: finished %v", step.data, p.Finished())
		}
	}
	if want := (Usage{Prompt: 1, Completion: 1, Reported: true}); p.Usage() != want || p.ContentBytes() != 1 {
		t.Errorf("usage %+v, %d bytes", p.Usage(), p.ContentBytes())
	}
}

func TestIsDone(t *testing.T) {
	for data, want := range map[string]bool{"[DONE]": true, "\t[DONE]\n": true, "": false, "[done]": false, "[]": false} {
		if IsDone([]byte(data)) != want {
			t.Errorf("IsDone(%q) = %v", data, !want)
		}
	}
}

// usualChunk is 250 bytes, as most chunks are.
const usualChunk = `{"id":"chatcmpl-6fc16109-7c04-4e2b-8f52-1485c6bdc17f","object":"chat.completion.chunk","created":1795289212,"model":"tiny-chat","system_fingerprint":"node-llama-cpp","choices":[{"index":0,"delta":{"content":" node"},"logprobs":null,"finish_reason":null}]}`

func TestTheUsualChunkIsNotAllocated(t *testing.T) {
	var c Chunk
	s := StreamEditor{ID: "chatcmpl-0123456789abcdef", Model: "llama-3.3-70b"}
	data, dst := []byte(usualChunk), make([]byte, 0, 1024)
	if err := ParseChunk(data, &c); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() {
		if err := ParseChunk(data, &c); err != nil {
			t.Error(err)
		}
		dst = AppendEvent(dst[:0], s.AppendChunk(dst[512:512], &c))
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkParseChunk(b *testing.B) {
	var c Chunk
	data := []byte(usualChunk)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if err := ParseChunk(data, &c); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendChunk(b *testing.B) {
	var c Chunk
	if err := ParseChunk([]byte(usualChunk), &c); err != nil {
		b.Fatal(err)
	}
	s := StreamEditor{ID: "chatcmpl-0123456789abcdef", Model: "llama-3.3-70b"}
	dst := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		dst = s.AppendChunk(dst[:0], &c)
	}
}

func FuzzParseChunk(f *testing.F) {
	f.Add([]byte(usualChunk))
	for _, name := range []string{"ollama/chat-stream-usage", "ollama/chat-tools-stream", "node-llama-cpp/completion-stream"} {
		data, _, _ := payloads(f, name)
		for _, d := range data {
			f.Add([]byte(d))
		}
	}
	f.Add([]byte(`{"choices":[{"delta":{"content":"","role":"x"},"finish_reason":"","index":5}],"usage":null,"model":1,"id":[]}`))
	f.Add([]byte(`{"error":{"message":"x"},"object":"error"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var c Chunk
		o := consult(data)
		err := ParseChunk(data, &c)
		if err == nil && (!o.valid || !o.object || o.depth > MaxDepth) {
			t.Fatalf("%q was accepted: %+v", data, o)
		}
		if err != nil {
			return
		}
		for _, include := range []bool{false, true} {
			checkEdited(t, data, &c, o, include)
		}
	})
}

// checkEdited checks what an editor makes of any chunk.
func checkEdited(t *testing.T, data []byte, c *Chunk, o oracle, include bool) {
	t.Helper()
	s := StreamEditor{ID: "I", Model: "M", IncludeUsage: include}
	s.introduced.add(0)
	got := s.AppendChunk(nil, c)
	if len(got) > 0 && !json.Valid(got) {
		t.Fatalf("%q became %q", data, got)
	}
	if o.anyTwice || bytes.Contains(data, []byte(`\`)) {
		return // decoding and encoding again loses twins, and escaped keys are not looked at
	}
	checkTexts(t, data, c.Choices)
	checkWithText(t, c)
	naive := naiveEditor{id: "I", model: "M", include: include, introduced: map[string]bool{"0": true}}
	want := naive.edit(t, data)
	if want == nil || len(got) == 0 {
		if want != nil || len(got) != 0 {
			t.Fatalf("%q became %q, want %q", data, got, want)
		}
		return
	}
	if g, w := decode(t, got), decode(t, want); !reflect.DeepEqual(g, w) {
		t.Fatalf("%q\nbecame %s\nwant   %s", data, got, want)
	}
}

func TestMalformedChunks(t *testing.T) {
	for _, data := range []string{"", "{", "[DONE]", "null", usualChunk[:100], usualChunk + "}", strings.Replace(usualChunk, " node", "\xff", 1)} {
		var m *MalformedError
		if err := ParseChunk([]byte(data), new(Chunk)); !errors.As(err, &m) {
			t.Errorf("%.40q: %v", data, err)
		}
	}
}
