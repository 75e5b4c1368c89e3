package openai

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseReplyReadsRealAnswers(t *testing.T) {
	for _, c := range []struct {
		name    string
		content bool
		choices []Choice
		usage   Usage
	}{
		{"ollama/chat", true, []Choice{{Content: true, FinishReason: "stop"}}, Usage{Prompt: 20, Completion: 14, Reported: true}},
		{"ollama/chat-length", true, []Choice{{Content: true, FinishReason: "length"}}, Usage{Prompt: 20, Completion: 3, Reported: true}},
		{"ollama/chat-tools", true, []Choice{{Content: true, ToolCalls: true, FinishReason: "tool_calls"}}, Usage{Prompt: 122, Completion: 7, Reported: true}},
		{"ollama/completion", true, []Choice{{Content: true, FinishReason: "length"}}, Usage{Prompt: 21, Completion: 8, Reported: true}},
		{"ollama/embeddings", true, nil, Usage{Prompt: 5, Reported: true}},
		{"node-llama-cpp/chat", true, []Choice{{Content: true, FinishReason: "stop"}}, Usage{Prompt: 20, Completion: 20, Reported: true}},
		{"node-llama-cpp/chat-tools", true, []Choice{{Content: true, ToolCalls: true, FinishReason: "tool_calls"}}, Usage{Prompt: 180, Completion: 6, Reported: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, body := fixture(t, c.name)
			r, err := ParseReply(body)
			if err != nil {
				t.Fatal(err)
			}
			if r.Content != c.content || r.Err != nil {
				t.Errorf("content %v, error %v", r.Content, r.Err)
			}
			checkTexts(t, body, r.Choices)
			for i := range r.Choices {
				r.Choices[i].Text = nil
			}
			if diff := cmp.Diff(c.choices, r.Choices); diff != "" {
				t.Error(diff)
			}
			if c.name == "ollama/embeddings" {
				c.usage.Prompt = r.Usage.Prompt // depends on the recording; that it is there matters
			}
			if diff := cmp.Diff(c.usage, r.Usage); diff != "" || r.Usage.Prompt == 0 {
				t.Error(diff)
			}
		})
	}
}

// normalised is what AppendTo promises, the slow way.
func normalised(t *testing.T, body []byte, id, model string) []byte {
	t.Helper()
	v, _ := decode(t, body).(map[string]any)
	v["model"] = model
	if v["object"] != "list" {
		v["id"] = id
	}
	choices, _ := v["choices"].([]any)
	for _, c := range choices {
		message, _ := c.(map[string]any)["message"].(map[string]any)
		if calls, _ := message["tool_calls"].([]any); len(calls) > 0 && message["content"] == "" {
			message["content"] = nil
		}
	}
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestAppendToPutsRightWhatEnginesGetWrong(t *testing.T) {
	for _, engine := range []string{"ollama", "node-llama-cpp"} {
		for _, name := range []string{"chat", "chat-tools", "chat-length", "completion", "embeddings", "embeddings-base64"} {
			t.Run(engine+"/"+name, func(t *testing.T) {
				_, body := fixture(t, engine+"/"+name)
				r, err := ParseReply(body)
				if err != nil {
					t.Fatal(err)
				}
				got := r.AppendTo([]byte("before"), "chatcmpl-own", "served")
				if string(got[:6]) != "before" {
					t.Fatal("AppendTo does not append")
				}
				sameJSON(t, got[6:], normalised(t, body, "chatcmpl-own", "served"))
			})
		}
	}
}

func TestAppendToLeavesTheRestByteForByte(t *testing.T) {
	for body, want := range map[string]string{
		`{"id" : 5, "x":1.10,"model":null , "choices":[ {"message":{"content":"","tool_calls":[ {} ]},"index":0} ]}`: `{"id" : "I", "x":1.10,"model":"M" , "choices":[ {"message":{"content":null,"tool_calls":[ {} ]},"index":0} ]}`,
		`{"choices":[{"message":{"content":"","tool_calls":[]}}]}`:                                                   `{"id":"I","model":"M","choices":[{"message":{"content":"","tool_calls":[]}}]}`,
		`{"choices":[{"message":{"content":""}},{"message":{"tool_calls":[1],"content":""}}],"id":"a"}`:              `{"model":"M","choices":[{"message":{"content":""}},{"message":{"tool_calls":[1],"content":null}}],"id":"I"}`,
		`{"object":"list","data":[],"model":"a"}`:                                                                    `{"object":"list","data":[],"model":"M"}`,
		`{"data":[]}`: `{"model":"M","data":[]}`,
		`{"model":"a","choices":[],"model":"b","id":"c","id":"d"}`: `{"model":"M","choices":[],"model":"M","id":"I","id":"I"}`,
	} {
		r, err := ParseReply([]byte(body))
		if err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		if got := string(r.AppendTo(nil, "I", "M")); got != want {
			t.Errorf("%s\ngot  %s\nwant %s", body, got, want)
		}
	}
}

func TestParseReplyRefusesWhatIsNoAnswer(t *testing.T) {
	for _, body := range []string{
		``, `null`, `[]`, `"x"`, `{}`, `{"id":"x"}`, `{"choices":null}`, `{"choices":[1]}`, `{"choices":[{"index":-1}]}`,
		`{"choices":[{"index":128}]}`, `{"choices":[{"index":"0"}]}`, `{"choices":[{"index":1.5}]}`, `{"choices":[]`, `{"choices":[]}x`,
		`{"choices":[],"choices":[]}`, "{\"choices\":[{\"text\":\"\xff\"}]}", `<html>`, `{"choices":[` + strings.Repeat("{},", 128) + `{}]}`,
	} {
		_, err := ParseReply([]byte(body))
		var m *MalformedError
		if !errors.As(err, &m) || m.Error() == "" {
			t.Errorf("%.50s: error %v", body, err)
		}
	}
}

func TestParseReplyFindsAnErrorInsideA200(t *testing.T) {
	for body, want := range map[string]UpstreamError{
		`{"error":{"message":"overloaded","type":"server_error","code":503}}`:    {Status: 200, Message: "overloaded", Type: "server_error", Code: "503"},
		`{"error":"model not loaded"}`:                                           {Status: 200, Message: "model not loaded"},
		`{"object":"error","message":"too long","type":"BadRequest","code":400}`: {Status: 200, Message: "too long", Type: "BadRequest", Code: "400"},
		`{"choices":[],"error":{"message":"half"}}`:                              {Status: 200, Message: "half"},
	} {
		r, err := ParseReply([]byte(body))
		if err != nil || r.Err == nil {
			t.Errorf("%s: %+v, %v", body, r.Err, err)
			continue
		}
		if diff := cmp.Diff(want, *r.Err); diff != "" {
			t.Errorf("%s: %s", body, diff)
		}
	}
	if r, err := ParseReply([]byte(`{"choices":[],"error":null}`)); err != nil || r.Err != nil {
		t.Errorf("error null: %v, %v", r.Err, err)
	}
}

func TestUsage(t *testing.T) {
	for block, want := range map[string]Usage{
		`null`: {}, `5`: {}, `{}`: {}, `{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}`: {},
		`{"prompt_tokens":9,"completion_tokens":12,"total_tokens":21,"prompt_tokens_details":{"audio_tokens":0,"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":5}}`: {Prompt: 9, Cached: 4, Completion: 12, Reasoning: 5, Reported: true},
		`{"prompt_tokens":9,"completion_tokens":2,"prompt_cache_hit_tokens":8,"prompt_cache_miss_tokens":1}`:                                                                           {Prompt: 9, Cached: 8, Completion: 2, Reported: true},
		`{"prompt_tokens":9,"completion_tokens":2,"cached_tokens":3,"prompt_tokens_details":null}`:                                                                                     {Prompt: 9, Cached: 3, Completion: 2, Reported: true},
		`{"input_tokens":9,"output_tokens":2,"input_tokens_details":{"cached_tokens":1},"output_tokens_details":{"reasoning_tokens":1}}`:                                               {Prompt: 9, Cached: 1, Completion: 2, Reasoning: 1, Reported: true},
		// Reasoning that is not part of completion_tokens: the total says so.
		`{"prompt_tokens":32,"completion_tokens":9,"total_tokens":141,"completion_tokens_details":{"reasoning_tokens":100}}`:    {Prompt: 32, Completion: 109, Reasoning: 100, Reported: true},
		`{"prompt_tokens":1e3,"completion_tokens":2.0}`:                                                                         {Prompt: 1000, Completion: 2, Reported: true},
		`{"prompt_tokens":5,"completion_tokens":null,"total_tokens":5}`:                                                         {Prompt: 5, Reported: true},
		`{"prompt_tokens":-5,"completion_tokens":"7"}`:                                                                          {},
		`{"prompt_tokens":5,"completion_tokens":2,"cached_tokens":50,"completion_tokens_details":{"reasoning_tokens":50}}`:      {Prompt: 5, Cached: 5, Completion: 2, Reasoning: 2, Reported: true},
		`{"prompt_tokens":99999999999999999999999,"completion_tokens":1e300}`:                                                   {Prompt: maxTokens, Completion: maxTokens, Reported: true},
		`{"prompt_tokens":5,"prompt_tokens_details":{"cached_tokens":2,"x":{"cached_tokens":4}},"y":{"completion_tokens":100}}`: {Prompt: 5, Cached: 2, Reported: true},
		// What Anthropic's members count comes on top of input_tokens, and is mostly in prompt_tokens; the total settles it.
		`{"input_tokens":10,"cache_read_input_tokens":7,"cache_creation_input_tokens":3,"output_tokens":2}`:                   {Prompt: 20, Cached: 7, CacheWrite: 3, Completion: 2, Reported: true},
		`{"input_tokens":10,"cache_read_input_tokens":7,"output_tokens":2,"total_tokens":12}`:                                 {Prompt: 10, Cached: 7, Completion: 2, Reported: true},
		`{"prompt_tokens":10,"cache_read_input_tokens":7,"cache_creation_input_tokens":3,"completion_tokens":2}`:              {Prompt: 10, Cached: 7, CacheWrite: 3, Completion: 2, Reported: true},
		`{"prompt_tokens":10,"cache_read_input_tokens":7,"completion_tokens":2,"total_tokens":19}`:                            {Prompt: 17, Cached: 7, Completion: 2, Reported: true},
		`{"prompt_tokens":3,"cache_read_input_tokens":7,"completion_tokens":2}`:                                               {Prompt: 10, Cached: 7, Completion: 2, Reported: true},
		`{"input_tokens":1,"cache_creation":{"ephemeral_1h_input_tokens":4,"ephemeral_5m_input_tokens":5},"output_tokens":2}`: {Prompt: 10, CacheWrite: 9, CacheWrite1h: 4, Completion: 2, Reported: true},
		`{"prompt_tokens":10,"completion_tokens":2,"total_tokens":16,"prompt_tokens_details":{"cached_tokens":4}}`:            {Prompt: 14, Cached: 4, Completion: 2, Reported: true},
		`{"prompt_tokens":10,"completion_tokens":2,"total_tokens":16}`:                                                        {Prompt: 10, Completion: 6, Reasoning: 4, Reported: true},
		`{"prompt_tokens":10,"completion_tokens":2,"total_tokens":11}`:                                                        {Prompt: 10, Completion: 2, Reported: true},
		`{"total_tokens":16}`: {Prompt: 16, Reported: true},
		`{"prompt_tokens":9,"completion_tokens":8,"prompt_tokens_details":{"audio_tokens":99,"cache_write_tokens":99},"completion_tokens_details":{"audio_tokens":3}}`: {Prompt: 9, CacheWrite: 9, AudioInput: 9, Completion: 8, AudioOutput: 3, Reported: true},
		`{"prompt_tokens":9,"cache_creation":7,"prompt_tokens_details":[1],"x":{"cached_tokens":4}}`:                                                                   {Prompt: 9, Reported: true},
	} {
		r, err := ParseReply([]byte(`{"choices":[],"usage":` + block + `}`))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, r.Usage); diff != "" {
			t.Errorf("%s: %s", block, diff)
		}
	}
}

func TestContentIsWhatAUserGets(t *testing.T) {
	for message, want := range map[string]struct {
		content bool
		bytes   int
	}{
		`{}`: {}, `{"role":"assistant"}`: {}, `{"content":""}`: {}, `{"content":null}`: {}, `{"content":[]}`: {}, `{"content":[ ]}`: {},
		`{"tool_calls":[]}`: {}, `{"tool_calls":null}`: {}, `{"refusal":null}`: {}, `{"reasoning_content":"","content":""}`: {}, `{"other":"x"}`: {},
		`{"content":"x"}`: {true, 1}, `{"content":" "}`: {true, 1}, `{"content":[{"type":"text","text":"abc"}]}`: {true, 7},
		`{"reasoning":"why"}`: {true, 3}, `{"reasoning_content":"why","content":null}`: {true, 3}, `{"refusal":"no"}`: {true, 2},
		`{"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]}`: {true, 2}, `{"function_call":{"name":"f"}}`: {true, 1},
		`null`: {}, `"x"`: {},
	} {
		for _, member := range []string{"delta", "message"} {
			var c Chunk
			if err := ParseChunk([]byte(fmt.Sprintf(`{"choices":[{"index":3,%q:%s,"logprobs":{"content":[{"token":"x"}]}}]}`, member, message)), &c); err != nil {
				t.Fatalf("%s: %v", message, err)
			}
			if c.Content != want.content || c.Choices[0].Content != want.content || c.ContentBytes != want.bytes || c.Choices[0].Index != 3 {
				t.Errorf("%s %s: %v, %d bytes; want %+v", member, message, c.Content, c.ContentBytes, want)
			}
		}
	}
}

func BenchmarkReply(b *testing.B) {
	for _, name := range []string{"ollama/chat", "ollama/embeddings"} {
		_, body := fixture(b, name)
		b.Run(name, func(b *testing.B) {
			dst := make([]byte, 0, 2*len(body))
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				r, err := ParseReply(body)
				if err != nil {
					b.Fatal(err)
				}
				dst = r.AppendTo(dst[:0], "chatcmpl-0123456789abcdef", "llama-3.3-70b")
			}
		})
	}
}

// What an answer said is kept value by value, whatever engines call it, and what some say twice is kept once.
func TestWhatWasSaid(t *testing.T) {
	for body, want := range map[string]Produced{
		`{"message":{"role":"assistant","content":"hello"}}`:                                                          {Sample: []byte(`"hello"`), Bytes: 5},
		`{"message":{"content":"","refusal":null,"tool_calls":[]}}`:                                                   {},
		`{"message":{"content":null,"tool_calls":[{"id":"c","function":{"name":"f","arguments":"{}"}}]}}`:             {Sample: []byte(`[{"id":"c","function":{"name":"f","arguments":"{}"}}]`), Bytes: 4},
		`{"message":{"reasoning_content":"hm","reasoning":"hm","reasoning_details":[{"text":"hm"}],"content":"yes"}}`: {Sample: []byte(`"hm""yes"`), Bytes: 5, Reasoning: 2},
		`{"message":{"reasoning_content":"","reasoning":"hm"}}`:                                                       {Sample: []byte(`"hm"`), Bytes: 2, Reasoning: 2},
		`{"text":"plain"}`: {Sample: []byte(`"plain"`), Bytes: 5},
	} {
		r, err := ParseReply([]byte(` {"id":"x","choices":[` + body + `]}`))
		if err != nil {
			t.Fatal(err)
		}
		want.Sampled, want.Unreported = want.Bytes, want.Bytes
		if diff := cmp.Diff(want, r.Produced()); diff != "" {
			t.Errorf("%s\n%s", body, diff)
		}
	}
}

// Of a stream a bounded part is kept, and all of it is counted.
func TestASampleIsBounded(t *testing.T) {
	var p Progress
	var c Chunk
	total := 0
	for i := range 3000 {
		text := strings.Repeat("x", 1+i%97)
		if i == 5 {
			text = strings.Repeat("long ", 100_000)
		}
		total += len(text)
		if err := ParseChunk([]byte(`{"choices":[{"delta":{"content":"`+text+`"}}]}`), &c); err != nil {
			t.Fatal(err)
		}
		p.Observe(&c)
	}
	said := p.Produced()
	if said.Bytes != total || said.Unreported != total || len(said.Sample) > maxSample || len(said.Sample) < maxSample/2 || said.Sampled < maxSample/2 || said.Sampled > len(said.Sample) {
		t.Errorf("%d of %d bytes in a sample of %d", said.Sampled, said.Bytes, len(said.Sample))
	}
	if err := ParseChunk([]byte(`{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}`), &c); err != nil {
		t.Fatal(err)
	}
	if p.Observe(&c); p.Produced().Unreported != 0 {
		t.Errorf("%d bytes after the usage", p.Produced().Unreported)
	}
}
