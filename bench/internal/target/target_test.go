//go:build linux

package target

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestMain lets the test binary stand in for a target: with BENCH_TARGET set it
// serves there instead of running tests.
func TestMain(m *testing.M) {
	if address := os.Getenv("BENCH_TARGET"); address != "" {
		err := http.ListenAndServe(address, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/ready" {
				w.WriteHeader(http.StatusNotFound)
			}
		}))
		panic(err)
	}
	os.Exit(m.Run())
}

func self(t *testing.T) Spec {
	t.Helper()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	address, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	return Spec{Name: "self", Address: address, Command: []string{binary}, Ready: "/ready"}
}

func TestStartAndStop(t *testing.T) {
	s := self(t)
	p, err := Start(t.Context(), s, filepath.Join(t.TempDir(), "log"), "BENCH_TARGET="+s.Address)
	if err != nil {
		t.Fatal(err)
	}
	if !p.Alive() || p.Startup <= 0 || p.Startup > startLimit {
		t.Errorf("alive %v after %v", p.Alive(), p.Startup)
	}
	for range 2 {
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
	}
	if p.Alive() {
		t.Error("alive after Stop")
	}
	if conn, err := net.DialTimeout("tcp", s.Address, time.Second); err == nil {
		conn.Close()
		t.Error("it still listens")
	}
}

func TestStartTellsWhyNot(t *testing.T) {
	s := self(t)
	s.Command = []string{"/bin/sh", "-c", "echo the port is taken; exit 3"}
	_, err := Start(t.Context(), s, filepath.Join(t.TempDir(), "log"))
	if err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "the port is taken") {
		t.Errorf("%v", err)
	}
	s.Command = []string{"/does/not/exist"}
	if _, err := Start(t.Context(), s, filepath.Join(t.TempDir(), "log")); err == nil {
		t.Error("a missing program started")
	}
}

func TestConfigurations(t *testing.T) {
	dir := t.TempDir()
	for name, spec := range map[string]func(string, string, string) (Spec, error){"nginx.conf": Nginx, "shareai.yaml": ShareAI} {
		s, err := spec("/some/binary", dir, "127.0.0.1:9001")
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{s.Address, dir, "127.0.0.1:9001"} {
			if !strings.Contains(string(b), want) {
				t.Errorf("%s lacks %s:\n%s", name, want, b)
			}
		}
		if !strings.Contains(strings.Join(s.Command, " "), filepath.Join(dir, name)) {
			t.Errorf("%s is not in %v", name, s.Command)
		}
	}
}
