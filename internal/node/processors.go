package node

import (
	"context"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/shirou/gopsutil/v4/cpu"
	netstat "github.com/shirou/gopsutil/v4/net"
	"github.com/shirou/gopsutil/v4/process"
)

// enginePrograms begin the names of programs that are engines. Those that a listening port gives away need not be here;
// that of another user does, because only its owner can see which process a port belongs to.
var enginePrograms = []string{"ollama", "llama-server", "llama-box", "llamafile", "vllm", "lm studio", "lm-studio", "lms", "koboldcpp", "sglang"}

// processors measures what others than the engines use of them. It is for one goroutine.
type processors struct {
	last    *cpu.TimesStat
	spent   map[int32]float64 // seconds that a process of the engines has used
	engines map[int32]bool
	listed  time.Time
}

// read returns the share of others since the last reading, and the processes of the engines.
func (p *processors) read(ctx context.Context, ports []uint16) (share float64, engines map[int32]bool) {
	if p.engines == nil || time.Since(p.listed) > processesFor {
		p.engines, p.listed = engineProcesses(ctx, ports), time.Now()
	}
	all, err := cpu.TimesWithContext(ctx, false)
	if err != nil || len(all) == 0 {
		return Unknown, p.engines
	}
	ours := p.spend(ctx)
	now, last := &all[0], p.last
	p.last = now
	if last == nil {
		return Unknown, p.engines
	}
	return othersShare(now, last, ours), p.engines
}

// othersShare is the share of all processors that was used between two moments, but for so many seconds of the engines.
func othersShare(now, last *cpu.TimesStat, engines float64) float64 {
	busy := func(t *cpu.TimesStat) float64 { return t.User + t.System + t.Nice + t.Irq + t.Softirq }
	total := func(t *cpu.TimesStat) float64 { return busy(t) + t.Idle + t.Iowait + t.Steal }
	span := total(now) - total(last)
	if span <= 0 {
		return Unknown
	}
	return min(max((busy(now)-busy(last)-engines)/span, 0), 1)
}

// spend is what the engines have used since it was called last, in seconds of one processor. What one has used before it
// was seen first counts for nothing.
func (p *processors) spend(ctx context.Context) (seconds float64) {
	seen := map[int32]float64{}
	for pid := range p.engines {
		times, err := (&process.Process{Pid: pid}).TimesWithContext(ctx)
		if err != nil {
			continue
		}
		seen[pid] = times.User + times.System
		if before, ok := p.spent[pid]; ok {
			seconds += max(seen[pid]-before, 0)
		}
	}
	p.spent = seen
	return seconds
}

// engineProcesses are the processes that listen at the engines' ports or have an engine's name, those that they have
// started, and the agent.
func engineProcesses(ctx context.Context, ports []uint16) map[int32]bool {
	engines := map[int32]bool{int32(os.Getpid()): true}
	if connections, err := netstat.ConnectionsWithoutUidsWithContext(ctx, "tcp"); err == nil && len(ports) > 0 {
		for i := range connections {
			c := &connections[i]
			if c.Pid > 0 && strings.EqualFold(c.Status, "LISTEN") && slices.Contains(ports, uint16(c.Laddr.Port)) {
				engines[c.Pid] = true
			}
		}
	}
	all, err := process.ProcessesWithContext(ctx)
	if err != nil {
		return engines
	}
	parents := make(map[int32]int32, len(all))
	for _, p := range all {
		if name, err := p.NameWithContext(ctx); err == nil && isEngineProgram(name) {
			engines[p.Pid] = true
		}
		if parent, err := p.PpidWithContext(ctx); err == nil {
			parents[p.Pid] = parent
		}
	}
	for pid := range parents {
		for at, steps := pid, 0; at > 1 && steps < 64; at, steps = parents[at], steps+1 {
			if engines[at] {
				engines[pid] = true
				break
			}
		}
	}
	return engines
}

func isEngineProgram(name string) bool {
	name = strings.TrimSuffix(strings.ToLower(name), ".exe")
	return slices.ContainsFunc(enginePrograms, func(engine string) bool {
		rest, ok := strings.CutPrefix(name, engine)
		return ok && (rest == "" || strings.ContainsAny(rest[:1], " -_.:"))
	})
}
