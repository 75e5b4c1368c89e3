package openai

import (
	"encoding/json"
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

func TestContinueByteForByte(t *testing.T) {
	for _, c := range []struct {
		name string
		c    Continuation
		body string
		want string
	}{
		{
			"a chat",
			Continuation{Text: `He said "`},
			`{"model":"m", "messages":[ {"role":"user","content":"go on"} ], "x":1.0}`,
			`{"model":"m", "messages":[ {"role":"user","content":"go on"},{"role":"assistant","content":"He said \""} ], "x":1.0}`,
		},
		{
			"a member",
			Continuation{Text: "a", Member: "prefix"},
			`{"model":"m","messages":[{"role":"user","content":"x"}]}`,
			`{"model":"m","messages":[{"role":"user","content":"x"},{"role":"assistant","content":"a","prefix":true}]}`,
		},
		{
			"final",
			Continuation{Text: "a", Final: true},
			`{"messages":[{"role":"user","content":"x"}],"add_generation_prompt":true,"model":"m"}`,
			`{"messages":[{"role":"user","content":"x"},{"role":"assistant","content":"a"}],"add_generation_prompt":false,"model":"m","continue_final_message":true}`,
		},
		{
			"a prompt",
			Continuation{Text: "b\nc", Final: true, Member: "prefix", Tokens: 3},
			`{"model":"m","prompt":"\u0061 ","max_tokens":10}`,
			`{"model":"m","prompt":"\u0061 b\nc","max_tokens":7}`,
		},
		{
			"limits",
			Continuation{Text: "a", Tokens: 5},
			`{"model":"m","messages":[{"role":"user"}],"max_tokens":5,"max_completion_tokens":1e2}`,
			`{"model":"m","messages":[{"role":"user"},{"role":"assistant","content":"a"}],"max_tokens":1,"max_completion_tokens":95}`,
		},
		{
			"no limits",
			Continuation{Text: "a", Tokens: 5},
			`{"model":"m","messages":[{"role":"user"}],"max_tokens":-1,"max_completion_tokens":null}`,
			`{"model":"m","messages":[{"role":"user"},{"role":"assistant","content":"a"}],"max_tokens":-1,"max_completion_tokens":null}`,
		},
		{
			"an assistant before",
			Continuation{Text: "a"},
			`{"model":"m","messages":[{"role":"assistant"},{"content":[{"role":"assistant"}]}]}`,
			`{"model":"m","messages":[{"role":"assistant"},{"content":[{"role":"assistant"}]},{"role":"assistant","content":"a"}]}`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := ParseRequest([]byte(c.body))
			if err != nil {
				t.Fatal(err)
			}
			got, err := r.Continue(c.c)
			if err != nil {
				t.Fatal(err)
			}
			if string(got.Body) != c.want {
				t.Errorf("got  %s\nwant %s", got.Body, c.want)
			}
			if string(r.Body) != c.body {
				t.Errorf("the client's body became %s", r.Body)
			}
		})
	}
}

func TestContinueRefuses(t *testing.T) {
	for name, body := range map[string]string{
		"the assistant spoke last": `{"model":"m","messages":[{"role":"user"},{"role":"assistant","content":"x"}]}`,
		"no messages":              `{"model":"m","messages":[]}`,
		"messages are no list":     `{"model":"m","messages":"x"}`,
		"messages are null":        `{"model":"m","messages":null,"prompt":"x"}`,
		"a list of prompts":        `{"model":"m","prompt":["a"]}`,
		"a list of tokens":         `{"model":"m","prompt":[1,2]}`,
		"an echoed prompt":         `{"model":"m","prompt":"a","echo":true}`,
		"an input":                 `{"model":"m","input":"a"}`,
		"several choices":          `{"model":"m","messages":[{"role":"user"}],"n":2}`,
	} {
		r, err := ParseRequest([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := r.Continue(Continuation{Text: "a"}); err == nil || got != nil {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

// TestContinueIsAnEdit compares Continue with decoding, changing and encoding.
func TestContinueIsAnEdit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		body := map[string]any{"model": "m", "x": rapid.Float64().Draw(t, "x"), "user": rapid.String().Draw(t, "user")}
		c := Continuation{
			Text: string([]rune(rapid.String().Draw(t, "text"))), Member: rapid.SampledFrom([]string{"", "prefix", "partial"}).Draw(t, "member"),
			Final: rapid.Bool().Draw(t, "final"), Tokens: rapid.Int64Range(0, 50).Draw(t, "tokens"),
		}
		limit := rapid.Int64Range(1, 100).Draw(t, "limit")
		body["max_tokens"] = limit
		chat := rapid.Bool().Draw(t, "chat")
		messages := []any{map[string]any{"role": "user", "content": rapid.String().Draw(t, "content")}}
		prompt := rapid.String().Draw(t, "prompt")
		if chat {
			body["messages"] = messages
		} else {
			body["prompt"] = prompt
		}
		raw, err := json.MarshalIndent(body, "", rapid.SampledFrom([]string{"", "  "}).Draw(t, "indent"))
		if err != nil {
			t.Fatal(err)
		}
		r, err := ParseRequest(raw)
		if err != nil {
			t.Fatal(err)
		}
		got, err := r.Continue(c)
		if err != nil {
			t.Fatal(err)
		}
		body["max_tokens"] = max(1, limit-c.Tokens)
		if chat {
			message := map[string]any{"role": "assistant", "content": c.Text}
			if c.Member != "" {
				message[c.Member] = true
			}
			body["messages"] = append(messages, message)
			if c.Final {
				body["continue_final_message"], body["add_generation_prompt"] = true, false
			}
		} else {
			body["prompt"] = prompt + c.Text
		}
		want, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		var a, b any
		if json.Unmarshal(got.Body, &a) != nil || json.Unmarshal(want, &b) != nil || !reflect.DeepEqual(a, b) {
			t.Fatalf("got  %s\nwant %s", got.Body, want)
		}
		if got.MaxTokens != max(1, limit-c.Tokens) {
			t.Fatalf("MaxTokens %d", got.MaxTokens)
		}
	})
}
