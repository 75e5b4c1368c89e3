//go:build linux

package procstat

import (
	"os"
	"os/exec"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseStat(t *testing.T) {
	line := "42 (odd) name (x) S 7 42 42 0 -1 4194560 100 0 0 0 150 50 3 2 20 0 5 0 100 0 0"
	got, err := parseStat([]byte(line))
	if err != nil {
		t.Fatal(err)
	}
	want := stat{parent: 7, cpu: 2050 * time.Millisecond}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(stat{})); diff != "" {
		t.Error(diff)
	}
	for _, bad := range []string{"", "42 (x) S", "42 (x) S no 42 42 0 -1 0 1 0 0 0 1 1 1 1"} {
		if _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestParseMachine(t *testing.T) {
	now, err := parseMachine([]byte("cpu  100 1 50 1000 10 2 3 4 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n"))
	if err != nil {
		t.Fatal(err)
	}
	got := now.Since(Machine{Busy: 560 * time.Millisecond})
	want := Machine{Busy: time.Second, Idle: 10100 * time.Millisecond, Steal: 40 * time.Millisecond}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got.Total() != 11140*time.Millisecond {
		t.Errorf("total %v", got.Total())
	}
	if _, err := parseMachine([]byte("intr 1 2 3")); err == nil {
		t.Error("a file without the cpu line was accepted")
	}
}

func TestStatusBytes(t *testing.T) {
	status := []byte("Name:\tx\nVmHWM:\t   2048 kB\nVmRSS:\t   1024 kB\n")
	if got := statusBytes(status, "VmRSS"); got != 1<<20 {
		t.Errorf("VmRSS %d", got)
	}
	if got := statusBytes(status, "VmSwap"); got != 0 {
		t.Errorf("a missing line reads as %d", got)
	}
}

func TestOwnProcess(t *testing.T) {
	me := os.Getpid()
	before := CPU(me)
	for deadline := time.Now().Add(10 * time.Second); CPU(me)-before < 2*tick; {
		if time.Now().After(deadline) {
			t.Fatal("spinning does not show as CPU time")
		}
	}
	block := make([]byte, 64<<20)
	for i := range block {
		block[i] = 1
	}
	if rss := RSS(me); rss < 64<<20 || PeakRSS(me) < rss/2 {
		t.Errorf("resident %d, peak %d with 64 MiB in use", rss, PeakRSS(me))
	}
	runtime.KeepAlive(block)
	if RSS(-1) != 0 || CPU(-1) != 0 {
		t.Error("a process that does not exist costs something")
	}
}

func TestTreeHoldsTheChild(t *testing.T) {
	child := exec.Command("cat") // lives until its input is closed
	stdin, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if tree := Tree(os.Getpid()); tree[0] != os.Getpid() || !slices.Contains(tree, child.Process.Pid) {
		t.Errorf("tree %v lacks %d", tree, child.Process.Pid)
	}
	if err := stdin.Close(); err != nil {
		t.Fatal(err)
	}
	if err := child.Wait(); err != nil {
		t.Fatal(err)
	}
}
