package engine_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"shareai/test/engine"
	"shareai/test/engine/gguf"
)

// reply holds what these tests look at of an answer, whole or streamed.
type reply struct {
	ID      string
	Choices []struct {
		Message      message
		Delta        message
		FinishReason string `json:"finish_reason"`
	}
	Data []struct{ Embedding []float64 }

	Usage *struct {
		PromptTokens     int `json:"prompt_tokens"`
		CompletionTokens int `json:"completion_tokens"`
	}
}

type message struct {
	Role      string
	Content   string
	ToolCalls []struct {
		Function struct{ Name, Arguments string }
	} `json:"tool_calls"`
}

func TestEngine(t *testing.T) {
	baseURL := engine.Start(t)

	t.Run("unary chat ends by itself and counts its tokens", func(t *testing.T) {
		got := decode(t, post(t, baseURL+"/chat/completions",
			`{"model":"tiny-chat","temperature":0,"messages":[{"role":"user","content":"Hello"}]}`))
		choice := got.Choices[0]
		if choice.Message.Content == "" || choice.Message.Role != "assistant" || choice.FinishReason != "stop" {
			t.Errorf("answer = %+v", choice)
		}
		if got.Usage.PromptTokens == 0 || got.Usage.CompletionTokens < len(strings.Fields(choice.Message.Content)) {
			t.Errorf("usage = %+v for %q", got.Usage, choice.Message.Content)
		}
	})
	t.Run("a letter of four byte tokens arrives whole", func(t *testing.T) {
		answer := post(t, baseURL+"/completions", `{"model":"tiny-chat","temperature":0,"prompt":"My favourite animal is a"}`)
		if text := string(answer); !strings.Contains(text, "🦊") && !strings.Contains(text, "provider") {
			t.Errorf("answer = %s", text)
		}
	})
	t.Run("stream", func(t *testing.T) { testStream(t, baseURL) })
	t.Run("two tool calls", func(t *testing.T) {
		got := decode(t, post(t, baseURL+"/chat/completions", `{"model":"tiny-chat","messages":[{"role":"user","content":"Hello"}],`+
			`"tools":[{"type":"function","function":{"name":"get_weather"}},{"type":"function","function":{"name":"get_time"}}]}`))
		calls := got.Choices[0].Message.ToolCalls
		if len(calls) != 2 || calls[0].Function.Arguments != `{"city":"London"}` || calls[1].Function.Name != "get_time" {
			t.Errorf("tool calls = %+v", calls)
		}
	})
	t.Run("embeddings of texts that share words are closer", func(t *testing.T) {
		got := decode(t, post(t, baseURL+"/embeddings",
			`{"model":"tiny-embed","input":["the gateway answers","the gateway asks","small thoughts"]}`))
		first, near, far := got.Data[0].Embedding, got.Data[1].Embedding, got.Data[2].Embedding
		if len(first) != gguf.EmbedWidth || dot(first, near) < dot(first, far)+0.2 {
			t.Errorf("%d dimensions, near %.2f, far %.2f", len(first), dot(first, near), dot(first, far))
		}
	})
}

func testStream(t *testing.T, baseURL string) {
	body := post(t, baseURL+"/chat/completions", `{"model":"tiny-chat","stream":true,"stream_options":{"include_usage":true},`+
		`"max_tokens":40,"ignore_eos":true,"temperature":0,"messages":[{"role":"user","content":"Hello"}]}`)
	var text strings.Builder
	var roles, chunks int
	var finish, last string
	var counted *reply
	lines := bufio.NewScanner(bytes.NewReader(body))
	for lines.Scan() {
		data, found := strings.CutPrefix(lines.Text(), "data: ")
		if !found {
			continue
		}
		if last = data; data == "[DONE]" {
			break
		}
		chunk := decode(t, []byte(data))
		chunks++
		if chunk.Usage != nil {
			counted = &chunk
		}
		for _, choice := range chunk.Choices {
			text.WriteString(choice.Delta.Content)
			if choice.Delta.Role != "" {
				roles++
			}
			finish += choice.FinishReason
		}
	}
	if last != "[DONE]" || roles != 1 || finish != "length" || chunks < 20 || text.Len() == 0 {
		t.Errorf("last %q, %d roles, finish %q, %d chunks, text %q", last, roles, finish, chunks, text.String())
	}
	if counted == nil {
		t.Fatal("no usage chunk")
	}
	if counted.Usage.CompletionTokens != 40 || len(counted.Choices) != 0 {
		t.Errorf("usage chunk = %+v, %d choices", *counted.Usage, len(counted.Choices))
	}
}

func TestEngineStopsWithItsTest(t *testing.T) {
	var baseURL string
	t.Run("inner", func(t *testing.T) {
		baseURL = engine.Start(t)
		if got := get(t, baseURL+"/models"); got == nil {
			t.Fatal("no answer while the test runs")
		}
	})
	if got := get(t, baseURL+"/models"); got != nil {
		t.Errorf("still answers after the test: %s", got)
	}
}

func dot(a, b []float64) (sum float64) {
	for i := range a {
		sum += a[i] * b[i]
	}
	return sum
}

func decode(t *testing.T, body []byte) (r reply) {
	t.Helper()
	if err := json.Unmarshal(body, &r); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	return r
}

func post(t *testing.T, url, body string) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", resp.Status, answer, err)
	}
	return answer
}

// get returns the body, or nil where nothing answers.
func get(t *testing.T, url string) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return body
}
