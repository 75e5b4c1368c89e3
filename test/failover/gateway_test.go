// Package failover shows that the gateway stays up when its providers do not: a whole gateway in this
// process, over real connections, in front of walls that fail on demand (package faultwall).
//
// What follows from a fault is decided in one table (table_test.go) and a few rules over it
// (expect_test.go); the matrix goes through every endpoint, mode, fault and policy.
package failover

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"
	"time"

	"shareai/internal/app"
	"shareai/internal/store"
	"shareai/internal/usage"
	"shareai/test/faultwall"
)

const apiKey = "sk-shareai-wall-0123456789abcdef"

// patience bounds what should take a moment; a test that needs all of it has failed.
const patience = 20 * time.Second

// output is a log that many goroutines write and a test reads.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// gateway is a running instance with its client.
type gateway struct {
	t        testing.TB
	instance *app.Instance
	data     string
	url      string
	client   *http.Client
	log      *output
}

// start runs a gateway with a catalog: everything of a configuration file but organizations.
func start(t testing.TB, catalog string) *gateway {
	t.Helper()
	dir := t.TempDir()
	g := &gateway{t: t, data: filepath.Join(dir, "data"), log: &output{}}
	file := filepath.Join(dir, "shareai.yaml")
	text := "organizations:\n  - name: acme\n    projects:\n      - {name: app, keys: [{name: wall, secret: " + apiKey + "}]}\n" + catalog
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	g.instance, err = app.Start(t.Context(), app.Settings{
		ConfigFile: file, Listen: "127.0.0.1:0", DataDir: g.data, Version: "wall", Stderr: g.log,
	})
	if err != nil {
		t.Fatalf("the gateway does not start: %v", err)
	}
	g.url = "http://" + g.instance.Addresses().API
	g.client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true}}
	t.Cleanup(g.stop)
	return g
}

// stop ends it and stores what it still had to store.
func (g *gateway) stop() {
	g.client.CloseIdleConnections()
	if err := g.instance.Stop(); err != nil {
		g.t.Errorf("stop: %v", err)
	}
	if g.t.Failed() {
		for line := range strings.Lines(g.log.String()) {
			if strings.Contains(line, "level=ERROR") {
				g.t.Logf("the gateway says: %s", line)
			}
		}
	}
}

// records stops the gateway and opens what it has written down, until done is called.
func (g *gateway) records() (find func(id string) (usage.Record, error), done func()) {
	g.t.Helper()
	g.stop()
	rows, err := store.Open(g.t.Context(), store.Options{DataDir: g.data})
	if err != nil {
		g.t.Fatal(err)
	}
	return func(id string) (usage.Record, error) { return rows.Record(g.t.Context(), id) }, func() { _ = rows.Close() }
}

// wall starts a server that is well.
func wall(t testing.TB) *faultwall.Server {
	t.Helper()
	s, err := faultwall.Listen()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// provider is a line of a configuration: a wall with one key for each name.
func provider(name string, s *faultwall.Server, keys ...string) string {
	if len(keys) == 0 {
		keys = []string{"main"}
	}
	var list []string
	for _, k := range keys {
		list = append(list, fmt.Sprintf("{name: %s, secret: %s}", k, secret(name, k)))
	}
	return fmt.Sprintf("  - {name: %s, dialect: openai, base_url: %q, private_network: true, keys: [%s]}\n",
		name, s.URL(), strings.Join(list, ", "))
}

// secret is what a provider gets as its key.
func secret(provider, key string) string { return "sk-wall-" + provider + "-" + key }

// eventually waits until a condition holds.
func eventually(t testing.TB, what string, within time.Duration, holds func() bool) bool {
	t.Helper()
	if holds() {
		return true
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	end := time.NewTimer(within)
	defer end.Stop()
	for {
		select {
		case <-tick.C:
			if holds() {
				return true
			}
		case <-end.C:
			t.Errorf("not within %v: %s", within, what)
			return false
		}
	}
}

// traces is what a process leaves behind when it does not clean up.
type traces struct{ goroutines, files int }

// look counts. The pool of the database opens another connection when two want one, and keeps it: its files are no trace
// of a request.
func look() traces {
	const handles = "/proc/self/fd"
	files := 0
	list, err := os.ReadDir(handles)
	if err != nil {
		return traces{runtime.NumGoroutine(), 0}
	}
	for _, handle := range list {
		to, _ := os.Readlink(filepath.Join(handles, handle.Name()))
		if !strings.Contains(to, "shareai.db") {
			files++
		}
	}
	return traces{runtime.NumGoroutine(), files}
}

// settles waits until no more goroutines and open files are there than before.
func settles(t testing.TB, what string, before traces) {
	t.Helper()
	var now traces
	back := eventually(t, what+": goroutines and open files are back at their baseline", patience, func() bool {
		now = look()
		return now.goroutines <= before.goroutines && now.files <= before.files
	})
	if !back {
		var stacks bytes.Buffer
		_ = pprof.Lookup("goroutine").WriteTo(&stacks, 1)
		t.Fatalf("%s: %+v before, %+v now\n%s", what, before, now, stacks.String())
	}
}
