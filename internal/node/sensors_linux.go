package node

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// away asks logind for the sessions at the machine's own screens. A desktop that does not tell it of idleness makes
// xprintidle worth installing; without both nobody is taken to be there.
func (m *machineSensors) away(ctx context.Context) time.Duration {
	longest := nobody
	list, err := m.run(ctx, "loginctl", "list-sessions", "--no-legend", "--no-pager")
	if err == nil {
		for _, id := range sessionIDs(list) {
			text, err := m.run(ctx, "loginctl", "show-session", id, "-p", "Class", "-p", "State", "-p", "Remote", "-p", "IdleHint", "-p", "IdleSinceHint")
			if err == nil {
				longest = sooner(longest, parseSession(text, time.Now()))
			}
		}
	}
	if os.Getenv("DISPLAY") == "" {
		return longest
	}
	text, err := m.run(ctx, "xprintidle")
	if err != nil {
		return longest
	}
	ms, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return longest
	}
	return time.Duration(ms) * time.Millisecond // X knows better than the hint of a desktop that gives none
}

// power reads sysfs. The batteries of mice and headsets are none of the machine's.
func (m *machineSensors) power(context.Context) Power {
	supplies, err := filepath.Glob(filepath.Join(m.root, "sys/class/power_supply/*"))
	if err != nil {
		return PowerUnknown
	}
	from := PowerUnknown
	for _, dir := range supplies {
		read := func(name string) string {
			text, _ := os.ReadFile(filepath.Join(dir, name))
			return strings.TrimSpace(string(text))
		}
		switch {
		case read("scope") == "Device":
		case read("type") == "Mains" && read("online") == "1":
			return Mains
		case read("type") == "Battery" && read("status") == "Discharging":
			from = Battery
		case read("type") == "Battery" && from == PowerUnknown:
			from = Mains
		}
	}
	return from
}
