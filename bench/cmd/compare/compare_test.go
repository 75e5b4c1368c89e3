//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"shareai/bench/internal/load"
	"shareai/bench/internal/mock"
)

// TestMain lets the test binary stand in for every program of a comparison: under
// the name of one it does what that one does, badly enough.
func TestMain(m *testing.M) {
	stands := map[string]func([]string) error{"upstream": serveMock, "minimal": serveMinimal, "shareai": beShareAI}
	if stand, found := stands[filepath.Base(os.Args[0])]; found {
		if err := stand(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func serveMock(args []string) error {
	s, err := mock.Listen(args[1], mock.Behaviour{Chunks: 100})
	if err != nil {
		return err
	}
	return s.Serve()
}

func serveMinimal(args []string) error { return http.ListenAndServe(args[1], forward(args[3])) }

// forward passes every request on to an address. (httputil.ReverseProxy will not do:
// once in a while it breaks a stream off.)
func forward(to string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		resp, err := http.Post(to+r.URL.Path, "application/json", bytes.NewReader(body))
		if err != nil {
			panic(err)
		}
		defer resp.Body.Close()
		w.Header().Set("Content-Type", resp.Header.Get("Content-Type"))
		for buf := make([]byte, 4096); ; {
			n, err := resp.Body.Read(buf)
			if _, err := w.Write(buf[:n]); err != nil {
				return
			}
			if err == io.EOF {
				return
			}
			if err := http.NewResponseController(w).Flush(); err != nil {
				return
			}
		}
	})
}

// beShareAI serves, adding the requests it answered to a file when it is stopped, or
// prints that number. BENCH_LOSE makes it forget as many.
func beShareAI(args []string) error {
	config := args[len(args)-1]
	if args[0] == "usage" {
		config = args[2]
	}
	count := filepath.Join(filepath.Dir(config), "count")
	var n, lost int64
	if b, err := os.ReadFile(count); err == nil {
		_, _ = fmt.Sscan(string(b), &n)
	}
	_, _ = fmt.Sscan(os.Getenv("BENCH_LOSE"), &lost)
	if args[0] == "usage" {
		fmt.Printf(`{"total":{"requests":%d}}`, n-lost)
		return nil
	}
	text, err := os.ReadFile(config)
	if err != nil {
		return err
	}
	find := func(pattern string) string { return string(regexp.MustCompile(pattern).FindSubmatch(text)[1]) }
	proxy, secret := forward(strings.TrimSuffix(find(`base_url: (\S+)`), "/v1")), find(`secret: (sk-bench\w*-\w+)`)
	var served atomic.Int64
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/readyz":
		case r.Header.Get("Authorization") != "Bearer "+secret:
			w.WriteHeader(http.StatusUnauthorized)
		default:
			served.Add(1)
			proxy.ServeHTTP(w, r)
		}
	})
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	go func() {
		if err := http.ListenAndServe(find(`listen: (\S+)`), handler); err != nil {
			panic(err)
		}
	}()
	<-stop
	return os.WriteFile(count, fmt.Append(nil, n+served.Load()), 0o600)
}

// programs makes a folder in which the test binary has all the names.
func programs(t *testing.T) options {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"upstream", "minimal", "shareai"} {
		if err := os.Symlink(self, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("TMPDIR", dir)
	o, err := parse([]string{"-bin", dir, "-shareai", filepath.Join(dir, "shareai"), "-json", filepath.Join(dir, "out.json"), "-patience", "0"})
	if err != nil {
		t.Fatal(err)
	}
	o.targets = "direct,minimal,shareai"
	return o
}

func tiny() []scenario {
	return []scenario{
		{
			Name: "A", Title: "unary", Mode: load.Unary, Body: 300, Conns: 2, Count: 20, Duration: time.Minute, Warmup: 5, Rounds: 2,
			Unit: perRequest, Columns: []column{requestRate, latency50, added50},
		},
		{
			Name: "E", Title: "streams", Mode: load.Stream, Body: 300, Conns: 4, Count: 8, Duration: time.Minute, Rounds: 1,
			Unit: perChunk, Chunks: 5, Gap: time.Millisecond, Fresh: true, Columns: []column{lag99, memoryPerStream},
		},
	}
}

func TestWholeComparison(t *testing.T) {
	o := programs(t)
	var out bytes.Buffer
	// Whether the CPU bars are reached says nothing here, so neither does the error.
	if err := run(t.Context(), o, tiny(), &out); err != nil && err.Error() != "a bar was not reached" {
		t.Fatal(err)
	}
	for _, want := range []string{
		"### A: unary", "### E: streams", "### Start and idle", "| direct | – | – |",
		"PASS: every request answered in full: 0 failed",
		"PASS: a record for every answered request: 53 written, 53 answered", // 5 + 2 × 20 + 8
		"not measured: B, CPU per request at most 1.5 × minimal",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in\n%s", want, out.String())
		}
	}
	var saved struct {
		Samples []sample `json:"samples"`
	}
	text, err := os.ReadFile(o.json)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &saved); err != nil {
		t.Fatal(err)
	}
	var order []string
	for _, s := range saved.Samples {
		order = append(order, fmt.Sprint(s.Scenario, s.Round, s.Target))
		if s.OK != s.Sent || s.Wall <= 0 || s.Latency99 <= 0 || s.Target != "direct" && s.RSSPeak < 1<<20 {
			t.Errorf("implausible: %+v", s)
		}
	}
	want := []string{"A1direct", "A1minimal", "A1shareai", "A2direct", "A2minimal", "A2shareai", "E1direct", "E1minimal", "E1shareai"}
	if diff := cmp.Diff(want, order); diff != "" {
		t.Error(diff)
	}
	if left, _ := filepath.Glob(filepath.Join(os.Getenv("TMPDIR"), "shareai-bench-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestLostRecordsFailTheComparison(t *testing.T) {
	o := programs(t)
	o.targets = "shareai"
	t.Setenv("BENCH_LOSE", "1")
	once := tiny()[0]
	once.Rounds = 1
	var out bytes.Buffer
	err := run(t.Context(), o, []scenario{once}, &out)
	if err == nil || !strings.Contains(out.String(), "FAIL: a record for every answered request: 24 written, 25 answered") {
		t.Errorf("%v\n%s", err, out.String())
	}
}

func TestMissingProgramsStopTheComparison(t *testing.T) {
	o := programs(t)
	o.shareai = filepath.Join(o.bin, "nothing")
	err := run(t.Context(), o, tiny(), new(bytes.Buffer))
	if err == nil || !strings.Contains(err.Error(), "run `make build` first") {
		t.Errorf("%v", err)
	}
	o = programs(t)
	if err := os.Remove(filepath.Join(o.bin, "minimal")); err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), o, tiny(), new(bytes.Buffer)); err == nil || !strings.Contains(err.Error(), "minimal") {
		t.Errorf("%v", err)
	}
}

func TestATargetThatRefusesEverythingStopsTheComparison(t *testing.T) {
	o := programs(t)
	o.targets = "minimal"
	sc := tiny()[0]
	sc.Chunks = 3 // unary answers are not what is asked for
	err := run(t.Context(), o, []scenario{sc}, new(bytes.Buffer))
	if err == nil || !strings.Contains(err.Error(), "scenario A, minimal: no request of the warm-up was answered well") {
		t.Errorf("%v", err)
	}
}

func TestCommandLine(t *testing.T) {
	for _, bad := range [][]string{{"-scenarios", "A,Z"}, {"-targets", "apache"}, {"-rounds", "-1"}, {"A"}, {"-speed"}} {
		if err := command(t.Context(), bad, new(bytes.Buffer)); err == nil {
			t.Errorf("%v was accepted", bad)
		}
	}
	o, err := parse([]string{"-scenarios", "D,A", "-rounds", "7"})
	if err != nil {
		t.Fatal(err)
	}
	chosen, err := choose(o)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"A", "D"}, scenarioNames(chosen)); diff != "" || chosen[0].Rounds != 7 {
		t.Errorf("rounds %d, %s", chosen[0].Rounds, diff)
	}
}
