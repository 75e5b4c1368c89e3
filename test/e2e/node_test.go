package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"shareai/test/engine"
)

// cloud is a provider that serves the engine's model as well: where requests go when the node does not serve.
const cloud = `
providers:
  - {name: cloud, dialect: simulated, simulated: {tokens: 8}}
models:
  - name: ` + engine.ChatModel + `
    deployments: [{provider: cloud, model: ` + engine.ChatModel + `, price: {input: 1, output: 1}}]
policies:
  - {name: own-first, strategy: order, order: ["node:*", cloud]}
default_policy: own-first
`

// agent is a running `shareai node`.
type agent struct {
	dir     string
	engine  []string // flags
	process *exec.Cmd
	log     *output
	ended   chan struct{}
}

// shareai runs a command and returns what it prints.
func shareai(t *testing.T, args ...string) string {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), binary, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("shareai %s: %v\n%s%s", strings.Join(args, " "), err, out, stderr.String())
	}
	return string(out)
}

var tokenForm = regexp.MustCompile(`nt-shareai-[A-Za-z0-9_-]{43}`)

// enrol makes a token and a node with it.
func enrol(t *testing.T, g *gateway, engineURL string) *agent {
	t.Helper()
	token := tokenForm.FindString(shareai(t, "nodes", "token", "--config", g.config, "--organization", "acme", "--name", "laptop"))
	if token == "" {
		t.Fatal("there is no token in what nodes token prints")
	}
	a := &agent{dir: t.TempDir()}
	a.engine = []string{"--engine", engineURL, "--discover", "off", "--concurrency", "4"}
	a.start(t, "--gateway", g.URL, "--token", token)
	return a
}

// start starts the agent. The first start enrols; later ones know who they are.
func (a *agent) start(t *testing.T, args ...string) {
	t.Helper()
	a.log, a.ended = &output{}, make(chan struct{})
	a.process = exec.Command(binary, slices.Concat([]string{"node", "--data-dir", a.dir}, a.engine, args)...)
	a.process.Stderr, a.process.Stdout = a.log, a.log
	if err := a.process.Start(); err != nil {
		t.Fatal(err)
	}
	ended, process := a.ended, a.process
	go func() { _ = process.Wait(); close(ended) }()
	t.Cleanup(func() {
		_ = process.Process.Kill()
		<-ended
		if t.Failed() {
			t.Logf("agent:\n%s", tail(a.log.String(), 3000))
		}
	})
}

func (a *agent) kill() {
	_ = a.process.Process.Kill()
	<-a.ended
}

const chatBody = `{"model":"` + engine.ChatModel + `","messages":[{"role":"user","content":"hello"}],"max_tokens":12,"temperature":0}`

// servedBy asks until the answer comes from the wanted provider.
func servedBy(t *testing.T, g *gateway, provider string) (*http.Response, string) {
	t.Helper()
	end := time.Now().Add(30 * time.Second)
	for {
		resp, body := post(t, g, "/v1/chat/completions", chatBody)
		if resp.StatusCode == http.StatusOK && resp.Header.Get("X-Shareai-Provider") == provider {
			return resp, body
		}
		if time.Now().After(end) {
			t.Fatalf("not served by %s: %d %v %s", provider, resp.StatusCode, resp.Header, body)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// stream begins a stream and returns it after its first piece of content.
func stream(t *testing.T, g *gateway, words string) (*bufio.Scanner, context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, g.URL+"/v1/chat/completions", strings.NewReader(
		`{"model":"`+engine.ChatModel+`","stream":true,"messages":[{"role":"user","content":"`+words+`"}],"max_tokens":400,"temperature":0,"ignore_eos":true}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+key)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); _ = resp.Body.Close() })
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if strings.Contains(lines.Text(), `"content":"`) {
			return lines, cancel
		}
	}
	t.Fatalf("a stream without content: %d %v", resp.StatusCode, lines.Err())
	return nil, nil
}

// end reads a stream to its end and says whether it was finished, and whether it told of an error.
func end(lines *bufio.Scanner) (done, failed bool) {
	for lines.Scan() {
		done = done || lines.Text() == "data: [DONE]"
		failed = failed || strings.Contains(lines.Text(), `"error"`)
	}
	return done, failed || lines.Err() != nil
}

// R19, R21, R22, R26: an engine on a machine without an open port serves, by way of two programs, as any provider does.
func TestANode(t *testing.T) {
	slow(t)
	whole := t // for what outlives the part that starts it
	base, killEngine := engine.StartMortal(t)
	g := serve(t, configure(t, "", cloud))
	a := enrol(t, g, base)

	resp, body := servedBy(t, g, "node:laptop")
	if resp.Header.Get("X-Shareai-Cost") != "0" || !strings.Contains(body, `"finish_reason"`) {
		t.Errorf("%v %s", resp.Header, body)
	}
	t.Run("embeddings of a model that only the node has", func(t *testing.T) {
		resp, body := post(t, g, "/v1/embeddings", `{"model":"`+engine.EmbedModel+`","input":["one","two"]}`)
		var e struct {
			Data []struct{ Embedding []float64 }
		}
		if err := json.Unmarshal([]byte(body), &e); err != nil || len(e.Data) != 2 || len(e.Data[0].Embedding) == 0 {
			t.Errorf("%d %v: %.300s", resp.StatusCode, err, body)
		}
	})
	t.Run("a stream, and one that the client leaves", func(t *testing.T) {
		lines, _ := stream(t, g, "hello")
		if done, failed := end(lines); !done || failed {
			t.Errorf("done %v, failed %v", done, failed)
		}
		_, leave := stream(t, g, "a long story")
		leave()
		a.await(t, `"running":0`)
	})
	t.Run("the status says so", func(t *testing.T) {
		if text := shareai(t, "node", "status", "--data-dir", a.dir); !strings.Contains(text, engine.ChatModel) || !strings.Contains(text, g.URL) {
			t.Errorf("%s", text)
		}
		if text := shareai(t, "nodes", "list", "--config", g.config); !strings.Contains(text, "laptop") {
			t.Errorf("%s", text)
		}
	})
	t.Run("nobody can reach it", func(t *testing.T) { hasNoPort(t, a.process.Process.Pid) })
	t.Run("the agent is killed in the middle of a stream", func(t *testing.T) {
		lines, _ := stream(t, g, "tell me more")
		a.kill()
		if done, failed := end(lines); done == failed {
			t.Errorf("done %v, failed %v: neither whole nor an honest error", done, failed)
		}
		servedBy(t, g, "cloud")
		a.start(whole)
		servedBy(t, g, "node:laptop")
	})
	t.Run("the gateway is killed", func(t *testing.T) {
		g.kill()
		g = serve(whole, g.config)
		servedBy(t, g, "node:laptop")
	})
	t.Run("the engine is killed in the middle of a stream", func(t *testing.T) {
		lines, _ := stream(t, g, "and more")
		killEngine()
		if done, failed := end(lines); done == failed {
			t.Errorf("done %v, failed %v: neither whole nor an honest error", done, failed)
		}
		servedBy(t, g, "cloud")
	})
	t.Run("its owner stops it", func(t *testing.T) {
		_ = a.process.Process.Signal(syscall.SIGTERM)
		select {
		case <-a.ended:
		case <-time.After(40 * time.Second):
			t.Error("the agent does not end")
		}
	})
}

// await asks the agent's status until it contains a text.
func (a *agent) await(t *testing.T, text string) {
	t.Helper()
	limit := time.Now().Add(20 * time.Second)
	for {
		status := strings.Join(strings.Fields(shareai(t, "node", "status", "--json", "--data-dir", a.dir)), "")
		if strings.Contains(status, text) {
			return
		}
		if time.Now().After(limit) {
			t.Fatalf("the status never says %s: %s", text, status)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// hasNoPort looks at every socket of a process: none listens, and none takes datagrams.
func hasNoPort(t *testing.T, pid int) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("sockets of a process are read from /proc")
	}
	own := map[string]bool{}
	handles, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range handles {
		if to, err := os.Readlink(filepath.Join(fmt.Sprintf("/proc/%d/fd", pid), h.Name())); err == nil {
			if inode, ok := strings.CutPrefix(to, "socket:["); ok {
				own[strings.TrimSuffix(inode, "]")] = true
			}
		}
	}
	sockets := 0
	for _, table := range []string{"tcp", "tcp6", "udp", "udp6"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, table))
		if err != nil {
			continue
		}
		for _, line := range strings.Split(string(text), "\n")[1:] {
			f := strings.Fields(line)
			if len(f) < 10 || !own[f[9]] {
				continue
			}
			sockets++
			const listening = "0A"
			if f[3] == listening || strings.HasPrefix(table, "udp") {
				t.Errorf("the agent has a %s socket at %s in state %s", table, f[1], f[3])
			}
		}
	}
	if sockets == 0 {
		t.Error("not even the agent's own link was found: the test looks at the wrong place")
	}
}
