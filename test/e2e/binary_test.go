// Package e2e runs the real binary as a user does and holds it to its promises: nothing in here
// reaches into the process.
package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// binary is where TestMain built the command.
var binary string

func TestMain(m *testing.M) { os.Exit(build(m)) }

func build(m *testing.M) int {
	dir, err := os.MkdirTemp("", "shareai-e2e-*")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary = filepath.Join(dir, "shareai")
	out, err := exec.Command("go", "build", "-o", binary, "shareai/cmd/shareai").CombinedOutput()
	if err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// postgres is the URL of the test database server, or the end of the test.
func postgres(t *testing.T) string {
	t.Helper()
	url := os.Getenv("SHAREAI_TEST_POSTGRES")
	if url == "" {
		t.Fatal("SHAREAI_TEST_POSTGRES is not set: run `make test`, or `scripts/services.sh run go test ./test/e2e`")
	}
	return url
}

func slow(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("a process of its own is too slow for -short")
	}
}

// gateway is a running `shareai serve`.
type gateway struct {
	URL     string
	config  string
	process *exec.Cmd
	log     *output
	ended   chan struct{}
}

// output collects what a process prints.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string { o.mu.Lock(); defer o.mu.Unlock(); return o.text.String() }

const key = "sk-e2e-0123456789abcdef0123456789"

// configure writes a configuration file with the given catalog and returns its path. The gateway
// listens on a free port and keeps its data beside the file.
func configure(t *testing.T, boot, catalog string) string {
	t.Helper()
	return configureBounded(t, boot, "limits: {}", catalog)
}

// configureBounded is configure with what bounds the one project: a line of YAML.
func configureBounded(t *testing.T, boot, bounds, catalog string) string {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "shareai.yaml")
	text := fmt.Sprintf("listen: %s\ndata_dir: %s\n%s\norganizations:\n  - name: acme\n    projects:\n      - name: app\n        %s\n        keys: [{name: e2e, secret: %s}]\n%s",
		freePort(t), filepath.Join(dir, "data"), boot, bounds, key, catalog)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// serve starts a gateway and waits until it is ready.
func serve(t *testing.T, config string) *gateway {
	t.Helper()
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	g := &gateway{URL: "http://" + strings.TrimPrefix(first, "listen: "), config: config, log: &output{}, ended: make(chan struct{})}
	g.process = exec.Command(binary, "serve", "--config", config)
	g.process.Stderr, g.process.Stdout = g.log, g.log
	g.process.Env = append(os.Environ(), "HOME="+t.TempDir())
	if err := g.process.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = g.process.Wait(); close(g.ended) }()
	t.Cleanup(func() {
		g.kill()
		if t.Failed() {
			t.Logf("gateway %s:\n%s", g.URL, tail(g.log.String(), 4000))
		}
	})
	g.await(t, "/readyz")
	return g
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

// await polls a path until it answers 200.
func (g *gateway) await(t *testing.T, path string) {
	t.Helper()
	end := time.After(30 * time.Second)
	for {
		resp, err := http.Get(g.URL + path)
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-g.ended:
			t.Fatalf("the gateway ended:\n%s", g.log)
		case <-end:
			t.Fatalf("%s is not ready:\n%s", g.URL+path, g.log)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// kill ends the process as a power cut would end it for its own memory: without a word.
func (g *gateway) kill() {
	_ = g.process.Process.Kill()
	<-g.ended
}

// stop asks the process to end and waits.
func (g *gateway) stop(t *testing.T) {
	t.Helper()
	if err := g.process.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-g.ended:
	case <-time.After(60 * time.Second):
		t.Fatalf("the gateway does not stop:\n%s", g.log)
	}
}

// command runs a command against the gateway's data and returns its standard output.
func (g *gateway) command(t *testing.T, args ...string) string {
	t.Helper()
	out, err := g.try(args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// try is command for what may fail.
func (g *gateway) try(args ...string) (string, error) {
	cmd := exec.Command(binary, append(args, "--config", g.config)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("shareai %s: %w\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out), nil
}

// requests is the number of records in the store.
func (g *gateway) requests(t *testing.T) int {
	t.Helper()
	var usage struct {
		Total struct{ Requests int }
	}
	if err := json.Unmarshal([]byte(g.command(t, "usage", "--json")), &usage); err != nil {
		t.Fatal(err)
	}
	return usage.Total.Requests
}

// answer is what a client received in full: it has the request id of every complete answer.
type answer struct {
	id     string
	status int
	body   string
}

// errIncomplete is an answer that broke off.
var errIncomplete = fmt.Errorf("the answer is not complete")

// ask sends a chat request and returns the answer if it came in full.
func ask(ctx context.Context, client *http.Client, url, body string) (answer, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+key)
	resp, err := client.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	a := answer{id: resp.Header.Get("X-Request-Id"), status: resp.StatusCode}
	var text strings.Builder
	done := !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream")
	lines := bufio.NewReader(resp.Body)
	for {
		line, err := lines.ReadString('\n')
		text.WriteString(line)
		if strings.HasPrefix(line, "data: [DONE]") {
			done = true // from here on the client holds the whole answer
			break
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return a, err
		}
	}
	a.body = text.String()
	if !done {
		return a, errIncomplete
	}
	return a, nil
}
