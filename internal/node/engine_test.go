package node

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"shareai/internal/openai"
	llama "shareai/test/engine"
	"shareai/test/engine/gguf"
)

// read reads a whole answer of the node.
func (g *gateway) read(t *testing.T, path, body string) string {
	t.Helper()
	response, err := g.ask(t.Context(), t, path, body)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%v, status %d: %s", err, response.StatusCode, text)
	}
	return string(text)
}

// A real engine behind the agent behind a real hub.
func TestARealEngine(t *testing.T) {
	url, kill := llama.StartMortal(t)
	g := openGateway(t)
	// Its probes wait while it computes, so they are as slow as in life.
	r := begin(t, Settings{
		Gateway: g.URL, Token: g.token(), Engines: []EngineAddress{{URL: url}}, Concurrency: 2,
		pace: pace{scan: 10 * time.Second, sense: time.Second, step: 50 * time.Millisecond},
	})
	r.await("it serves", serving)
	serve(t, g, llama.ChatModel, llama.EmbedModel)

	t.Run("killed in the middle of an answer", func(t *testing.T) {
		response, err := g.ask(t.Context(), t, "/v1/chat/completions", endless(llama.ChatModel))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		if _, err := io.ReadFull(response.Body, make([]byte, 200)); err != nil {
			t.Fatal(err)
		}
		kill()
		if text, err := io.ReadAll(response.Body); err == nil || strings.Contains(string(text), "[DONE]") {
			t.Errorf("the stream ended cleanly: %v %s", err, text)
		}
		r.await("it notices", func(s Status) bool { return s.Why == NoEngine })
	})
}

func endless(model string) string {
	return fmt.Sprintf(`{"model":%q,"stream":true,"messages":[{"role":"user","content":"hello"}],"max_tokens":1500,"ignore_eos":true}`, model)
}

// serve sends a real engine what users send.
func serve(t *testing.T, g *gateway, chat, embed string) {
	t.Helper()
	wait(t, "the gateway knows the models", func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		return len(g.reported.Models) == 2 && g.hub.Look("node_1").Capacity > 0
	})
	t.Run("unary", func(t *testing.T) {
		text := g.read(t, "/v1/chat/completions", fmt.Sprintf(`{"model":%q,"messages":[{"role":"user","content":"hello"}],"max_tokens":8,"temperature":0}`, chat))
		reply, err := openai.ParseReply([]byte(text))
		if err != nil || !reply.Content || !reply.Usage.Reported {
			t.Errorf("%v %s", err, text)
		}
	})
	t.Run("stream", func(t *testing.T) {
		text := g.read(t, "/v1/chat/completions", fmt.Sprintf(`{"model":%q,"stream":true,"messages":[{"role":"user","content":"hello"}],"max_tokens":24,"temperature":0}`, chat))
		if !strings.HasSuffix(text, "data: [DONE]\n\n") || strings.Count(text, "data: ") < 3 {
			t.Error(text)
		}
	})
	t.Run("embeddings", func(t *testing.T) {
		var list struct {
			Data []struct{ Embedding []float64 }
		}
		text := g.read(t, "/v1/embeddings", fmt.Sprintf(`{"model":%q,"input":["one","two"]}`, embed))
		if err := json.Unmarshal([]byte(text), &list); err != nil || len(list.Data) != 2 || len(list.Data[0].Embedding) != gguf.EmbedWidth {
			t.Errorf("%v %.200s", err, text)
		}
	})
	t.Run("cancel", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		response, err := g.ask(ctx, t, "/v1/chat/completions", endless(chat))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(response.Body, make([]byte, 200)); err != nil {
			t.Fatal(err)
		}
		cancel()
		_ = response.Body.Close()
		wait(t, "its place is free", func() bool { return g.hub.Look("node_1").InFlight == 0 })
		g.read(t, "/v1/chat/completions", fmt.Sprintf(`{"model":%q,"messages":[{"role":"user","content":"hello"}],"max_tokens":2}`, chat))
	})
	t.Run("the engine's own refusal", func(t *testing.T) {
		response, err := g.ask(t.Context(), t, "/v1/chat/completions", fmt.Sprintf(`{"model":%q,"messages":[]}`, chat))
		if err != nil || response.StatusCode != http.StatusBadRequest {
			t.Fatalf("%v %v", err, response)
		}
		_ = response.Body.Close()
	})
}

// The same with Ollama, on machines that have it.
func TestOllama(t *testing.T) {
	program, err := exec.LookPath("ollama")
	if err != nil {
		t.Skip("THERE IS NO ollama ON THIS MACHINE: the agent was not tried with it, only with its recorded answers")
	}
	if testing.Short() {
		t.Skip("a real engine is too slow for -short")
	}
	free := httptest.NewServer(nil)
	host := free.Listener.Addr().String()
	free.Close()
	dir := t.TempDir()
	environment := []string{
		"OLLAMA_HOST=" + host, "OLLAMA_MODELS=" + filepath.Join(dir, "models"), "HOME=" + dir, "OLLAMA_NO_CLOUD=1", "OLLAMA_NUM_PARALLEL=2", "OLLAMA_CONTEXT_LENGTH=2048",
	}
	server := exec.CommandContext(t.Context(), program, "serve")
	server.Env = environment
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Wait() })
	wait(t, "Ollama answers", func() bool {
		response, err := http.Get("http://" + host)
		if err == nil {
			_ = response.Body.Close()
		}
		return err == nil
	})
	for name, text := range map[string][]byte{llama.ChatModel: gguf.Chat(1), llama.EmbedModel: gguf.Embed(1)} {
		file := filepath.Join(dir, name)
		writeFile(t, file+".gguf", text)
		writeFile(t, file, []byte("FROM "+file+".gguf\nPARAMETER num_thread 1\n"))
		create := exec.CommandContext(t.Context(), program, "create", name, "-f", file)
		create.Env = environment
		if out, err := create.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	g := openGateway(t)
	r := begin(t, Settings{Gateway: g.URL, Token: g.token(), Engines: []EngineAddress{{URL: "http://" + host}}})
	if s := r.await("it serves", serving); s.Engines[0].Kind != Ollama || s.Engines[0].Models[0].Name != llama.ChatModel {
		t.Errorf("%+v", s.Engines)
	}
	serve(t, g, llama.ChatModel+":latest", llama.EmbedModel+":latest")
}

func writeFile(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}
