package node

import (
	"context"
	"errors"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// graphics measures what others than the engines use of graphics processors, as far as that can be read: NVIDIA's by
// nvidia-smi, AMD's on Linux by sysfs. It is for one goroutine.
type graphics struct {
	root   string
	run    command
	absent bool // there is no nvidia-smi
	worked bool // requests ran at the last reading, and may have left their mark on this one
}

// read returns the share of others in the busiest processor, or Unknown.
func (g *graphics) read(ctx context.Context, running int, engines map[int32]bool) float64 {
	working := running > 0 || g.worked
	g.worked = running > 0
	if !g.absent {
		share, err := g.nvidia(ctx, working, engines)
		if err == nil {
			return share
		}
		g.absent = errors.Is(err, exec.ErrNotFound)
	}
	if working { // the driver does not say whose work it is
		return Unknown
	}
	return g.amd()
}

func (g *graphics) nvidia(ctx context.Context, working bool, engines map[int32]bool) (float64, error) {
	if working {
		text, err := g.run(ctx, "nvidia-smi", "pmon", "-c", "1", "-s", "u")
		if err != nil {
			return Unknown, err
		}
		return parsePmon(string(text), engines), nil
	}
	text, err := g.run(ctx, "nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits")
	if err != nil {
		return Unknown, err
	}
	return highest(strings.Split(string(text), "\n")), nil
}

// parsePmon adds up what `nvidia-smi pmon -s u` says of processes that are no engines, for each processor, and returns
// the highest sum. Its columns: gpu, pid, type, sm, mem, enc, dec, …, command.
func parsePmon(text string, engines map[int32]bool) float64 {
	share := float64(Unknown)
	sums := map[string]float64{}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 4 || strings.HasPrefix(f[0], "#") {
			continue
		}
		share = max(share, 0)
		pid, errPID := strconv.ParseInt(f[1], 10, 32)
		percent, errShare := strconv.ParseFloat(f[3], 64)
		if errPID != nil || errShare != nil || engines[int32(pid)] {
			continue // "-": nothing to say
		}
		sums[f[0]] += percent / 100
		share = max(share, min(sums[f[0]], 1))
	}
	return share
}

// amd reads gpu_busy_percent of every card.
func (g *graphics) amd() float64 {
	files, err := filepath.Glob(filepath.Join(g.root, "sys/class/drm/card*/device/gpu_busy_percent"))
	if err != nil {
		return Unknown
	}
	var lines []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err == nil {
			lines = append(lines, string(text))
		}
	}
	return highest(lines)
}

// highest is the highest of some percentages, as a share; Unknown when there is none.
func highest(lines []string) float64 {
	share := float64(Unknown)
	for _, line := range lines {
		if percent, err := strconv.ParseFloat(strings.TrimSpace(line), 64); err == nil && !math.IsNaN(percent) {
			share = max(share, min(max(percent/100, 0), 1))
		}
	}
	return share
}
