// Package engine runs a real inference engine, llama.cpp behind the OpenAI protocol, for end-to-end tests.
//
// The models are written by package gguf when the engine starts; the engine itself is the Node.js program server.mjs
// beside this file, which scripts/install-test-deps.sh gives its libraries.
package engine

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"shareai/test/engine/gguf"
)

// What the engine serves.
const (
	ChatModel  = "tiny-chat"  // chat completions and completions
	EmbedModel = "tiny-embed" // embeddings of gguf.EmbedWidth dimensions
)

const (
	startTimeout = 60 * time.Second // it takes one; the rest is for a machine that is busy with other tests
	stopTimeout  = 5 * time.Second
)

// Start runs an engine until the test and its subtests end, and returns its base URL, such as
// http://127.0.0.1:41234/v1. It is skipped under -short.
func Start(t testing.TB) (baseURL string) {
	t.Helper()
	baseURL, _ = StartMortal(t)
	return baseURL
}

// StartMortal is Start for a test that kills the engine's process: kill does so at once, as when it runs out of memory.
func StartMortal(t testing.TB) (baseURL string, kill func()) {
	t.Helper()
	if testing.Short() {
		t.Skip("a real engine is too slow for -short")
	}
	dir, err := folder()
	if err != nil {
		t.Fatal(err)
	}
	chat, embed := filepath.Join(t.TempDir(), "chat.gguf"), filepath.Join(t.TempDir(), "embed.gguf")
	if err := errors.Join(os.WriteFile(chat, gguf.Chat(1), 0o600), os.WriteFile(embed, gguf.Embed(1), 0o600)); err != nil {
		t.Fatal(err)
	}

	cmd := exec.CommandContext(t.Context(), "node", "server.mjs", chat, embed)
	cmd.Dir = dir
	cmd.WaitDelay = stopTimeout
	var messages bytes.Buffer
	cmd.Stderr = &messages
	stdin, errIn := cmd.StdinPipe()
	stdout, errOut := cmd.StdoutPipe()
	if err := errors.Join(errIn, errOut); err != nil {
		t.Fatal(err)
	}
	cmd.Cancel = stdin.Close // the engine ends with its standard input, even when this process is killed
	if err := cmd.Start(); err != nil {
		t.Fatalf("start the engine: %v", err)
	}
	t.Cleanup(func() { _ = cmd.Wait() })

	timeout := time.AfterFunc(startTimeout, func() { _ = cmd.Process.Kill() })
	defer timeout.Stop()
	baseURL, err = readURL(stdout)
	if err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // messages is complete only then
		t.Fatalf("the engine did not start: %v\n%s", err, messages.Bytes())
	}
	return baseURL, func() { _ = cmd.Process.Kill() }
}

// folder finds test/engine above the package under test, with its libraries installed.
func folder() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		engine := filepath.Join(dir, "test", "engine")
		if _, err := os.Stat(filepath.Join(engine, "server.mjs")); err != nil {
			continue
		}
		if _, err := os.Stat(filepath.Join(engine, "node_modules")); err != nil {
			return "", errors.New("the test engine is not installed: run make test, or scripts/install-test-deps.sh")
		}
		return engine, nil
	}
	return "", errors.New("test/engine is not above the working directory")
}

// readURL waits for the line that the engine prints when it is ready.
func readURL(stdout io.Reader) (string, error) {
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	if err != nil {
		return "", err
	}
	var ready struct{ URL string }
	if err := json.Unmarshal(line, &ready); err != nil || ready.URL == "" {
		return "", fmt.Errorf("unexpected first line %q", line)
	}
	return ready.URL, nil
}
