// Package procstat reads from Linux's /proc what a tree of processes costs: CPU
// time and resident memory.
package procstat

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of the times in /proc; the kernel shows user space 1/100 s
// on every architecture that Go supports.
const tick = 10 * time.Millisecond

// Tree returns pid and all its living descendants, parents first.
func Tree(pid int) []int {
	children := map[int][]int{}
	files, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is well formed
	for _, file := range files {
		child, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			continue
		}
		if s, err := readStat(child); err == nil { // it may have ended meanwhile
			children[s.parent] = append(children[s.parent], child)
		}
	}
	tree := []int{pid}
	for i := 0; i < len(tree); i++ {
		tree = append(tree, children[tree[i]]...)
	}
	return tree
}

// CPU is the user and system time that the processes have used so far, together
// with that of their children which have ended and been waited for. A process
// that is gone counts as nothing.
func CPU(pids ...int) (total time.Duration) {
	for _, pid := range pids {
		if s, err := readStat(pid); err == nil {
			total += s.cpu
		}
	}
	return total
}

// RSS is the resident memory of the processes in bytes. A page that several of
// them share counts once for each.
func RSS(pids ...int) int64 { return sumStatus("VmRSS", pids) }

// PeakRSS is the sum of each process's own highest resident memory in bytes,
// since it started or since ResetPeak.
func PeakRSS(pids ...int) int64 { return sumStatus("VmHWM", pids) }

// ResetPeak makes PeakRSS count from now.
func ResetPeak(pids ...int) error {
	var errs []error
	for _, pid := range pids {
		errs = append(errs, os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0))
	}
	return errors.Join(errs...)
}

// Machine is the time of all CPUs since boot, by what they did with it.
type Machine struct{ Busy, Idle, Steal time.Duration }

// ReadMachine reads the machine's counters as they are now.
func ReadMachine() (Machine, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return Machine{}, err
	}
	return parseMachine(b)
}

// Since is what was added between an earlier reading and this one.
func (m Machine) Since(earlier Machine) Machine {
	return Machine{m.Busy - earlier.Busy, m.Idle - earlier.Idle, m.Steal - earlier.Steal}
}

// Total is all time, whatever it was used for.
func (m Machine) Total() time.Duration { return m.Busy + m.Idle + m.Steal }

func parseMachine(b []byte) (Machine, error) {
	line, _, _ := strings.Cut(string(b), "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return Machine{}, fmt.Errorf("/proc/stat begins with %q", line)
	}
	var t [8]time.Duration // user nice system idle iowait irq softirq steal
	for i := range t {
		n, err := strconv.ParseInt(fields[i+1], 10, 64)
		if err != nil {
			return Machine{}, fmt.Errorf("/proc/stat: %w", err)
		}
		t[i] = time.Duration(n) * tick
	}
	return Machine{Busy: t[0] + t[1] + t[2] + t[5] + t[6], Idle: t[3] + t[4], Steal: t[7]}, nil
}

type stat struct {
	parent int
	cpu    time.Duration
}

func readStat(pid int) (stat, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, err
	}
	return parseStat(b)
}

// parseStat reads the line "pid (name) state ppid …": the fields are counted from
// the last parenthesis, because a name may hold spaces and parentheses.
func parseStat(b []byte) (stat, error) {
	const parent, firstTime, times = 1, 11, 4 // utime stime cutime cstime
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < firstTime+times {
		return stat{}, fmt.Errorf("process statistics of %d fields", len(fields))
	}
	var s stat
	var err error
	if s.parent, err = strconv.Atoi(fields[parent]); err != nil {
		return stat{}, err
	}
	for _, field := range fields[firstTime : firstTime+times] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return stat{}, err
		}
		s.cpu += time.Duration(n) * tick
	}
	return s, nil
}

func sumStatus(key string, pids []int) (total int64) {
	for _, pid := range pids {
		if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)); err == nil {
			total += statusBytes(b, key)
		}
	}
	return total
}

// statusBytes finds the line "key:   123 kB"; a process that is ending has none.
func statusBytes(b []byte, key string) int64 {
	for line := range strings.Lines(string(b)) {
		if rest, found := strings.CutPrefix(line, key+":"); found {
			n, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return n << 10
		}
	}
	return 0
}
