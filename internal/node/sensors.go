package node

import (
	"context"
	"os/exec"
	"time"
)

const (
	// commandTime bounds a program that is asked for a reading.
	commandTime = 4 * time.Second
	// processesFor is how long the list of the engines' processes is used.
	processesFor = 30 * time.Second
)

// Work is what the sensors must know of the engines, whose share they leave out.
type Work struct {
	Ports   []uint16 // at which engines listen on this machine
	Running int      // requests in flight
}

// machineSensors read the machine that the agent runs on.
type machineSensors struct {
	processors processors
	graphics   graphics
	run        command
	root       string // of the file system; "/" but in tests
}

// command runs a program of the system and returns what it prints.
type command func(ctx context.Context, name string, args ...string) ([]byte, error)

func newMachineSensors() *machineSensors {
	return &machineSensors{
		processors: processors{spent: map[int32]float64{}},
		graphics:   graphics{root: "/", run: runCommand},
		run:        runCommand, root: "/",
	}
}

// Read implements Sensors. It may take seconds.
func (m *machineSensors) Read(ctx context.Context, w Work) Readings {
	cpu, engines := m.processors.read(ctx, w.Ports)
	return Readings{CPU: cpu, GPU: m.graphics.read(ctx, w.Running, engines), Away: m.away(ctx), Power: m.power(ctx)}
}

// runCommand finds the program where the system has its own, in the order of PATH.
func runCommand(ctx context.Context, name string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	c := exec.CommandContext(ctx, name, args...)
	c.WaitDelay = time.Second
	return c.Output()
}
