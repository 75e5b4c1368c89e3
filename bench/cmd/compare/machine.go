//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// machine is where and when a comparison ran.
type machine struct {
	When   time.Time `json:"when"`
	CPU    string    `json:"cpu"`
	CPUs   int       `json:"cpus"`
	Kernel string    `json:"kernel"`
	Go     string    `json:"go"`
	Nginx  string    `json:"nginx,omitempty"`
}

func describeMachine(b *bench) machine {
	m := machine{
		When:   time.Now().UTC().Truncate(time.Second),
		CPU:    cpuModel(),
		CPUs:   runtime.NumCPU(),
		Kernel: "unknown",
		Go:     runtime.Version(),
	}
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = strings.TrimSpace(string(release))
	}
	if c := b.find("nginx"); c != nil {
		if out, err := exec.Command(c.spec.Command[0], "-v").CombinedOutput(); err == nil { //nolint:noctx // it prints and ends
			_, version, _ := bytes.Cut(bytes.TrimSpace(out), []byte("/"))
			m.Nginx = string(version)
		}
	}
	return m
}

func cpuModel() string {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown CPU"
	}
	for line := range strings.Lines(string(b)) {
		if key, value, found := strings.Cut(line, ":"); found && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

func (m machine) String() string {
	s := fmt.Sprintf("%s, %d × %s, Linux %s, %s", m.When.Format(time.DateOnly), m.CPUs, m.CPU, m.Kernel, m.Go)
	if m.Nginx != "" {
		s += ", nginx " + m.Nginx
	}
	return s
}
