package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"shareai/test/engine"
)

// A request all the way through: client, gateway, a real inference engine, and back.
func TestARealEngine(t *testing.T) {
	slow(t)
	base := engine.Start(t)
	g := serve(t, configure(t, "", fmt.Sprintf(`
providers:
  - {name: llama-cpp, dialect: openai, base_url: %q, private_network: true}
models:
  - name: small
    deployments: [{provider: llama-cpp, model: %s, price: {input: 1, output: 2}}]
  - name: vectors
    deployments: [{provider: llama-cpp, model: %s, price: {input: 1, output: 0}}]
`, base, engine.ChatModel, engine.EmbedModel)))

	t.Run("unary", func(t *testing.T) {
		_, body := post(t, g, "/v1/chat/completions", `{"model":"small","messages":[{"role":"user","content":"hello"}],"max_completion_tokens":8,"temperature":0}`)
		var c struct {
			ID, Model string
			Choices   []struct {
				Message      struct{ Content string }
				FinishReason string `json:"finish_reason"`
			}
			Usage struct {
				Prompt     int `json:"prompt_tokens"`
				Completion int `json:"completion_tokens"`
			}
		}
		if err := json.Unmarshal([]byte(body), &c); err != nil {
			t.Fatalf("%v in %s", err, body)
		}
		if c.Model != "small" || len(c.Choices) != 1 || c.Choices[0].Message.Content == "" || c.Choices[0].FinishReason == "" || c.Usage.Prompt == 0 || c.Usage.Completion > 8 {
			t.Errorf("%s", body)
		}
	})
	t.Run("stream", func(t *testing.T) {
		resp, body := post(t, g, "/v1/chat/completions", `{"model":"small","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"hello"}],"max_tokens":24,"temperature":0}`)
		if !strings.HasSuffix(body, "data: [DONE]\n\n") || strings.Count(body, `"role"`) != 1 || !strings.Contains(body, `"x-shareai-cost":"`) {
			t.Errorf("%s", body)
		}
		if resp.Trailer.Get("X-Shareai-Cost") == "" {
			t.Error("no cost in the trailer")
		}
	})
	t.Run("completions", func(t *testing.T) {
		if _, body := post(t, g, "/v1/completions", `{"model":"small","prompt":"the gateway","max_tokens":6}`); !strings.Contains(body, `"text":`) {
			t.Errorf("%s", body)
		}
	})
	t.Run("embeddings", func(t *testing.T) {
		_, body := post(t, g, "/v1/embeddings", `{"model":"vectors","input":["one","two"]}`)
		var e struct {
			Data []struct{ Embedding []float64 }
		}
		if err := json.Unmarshal([]byte(body), &e); err != nil || len(e.Data) != 2 || len(e.Data[0].Embedding) == 0 {
			t.Errorf("%v: %.300s", err, body)
		}
	})
	t.Run("the engine's own refusal", func(t *testing.T) {
		resp, body := post(t, g, "/v1/chat/completions", `{"model":"small","messages":[]}`)
		if resp.StatusCode != http.StatusBadRequest || !strings.Contains(body, `"request_id"`) {
			t.Errorf("%d %s", resp.StatusCode, body)
		}
	})
}

func post(t *testing.T, g *gateway, path, body string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+key)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%v after %s", err, text)
	}
	return resp, string(text)
}
