package node

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// nobody is the reading of a machine without anybody at it, or that does not tell.
const nobody = time.Duration(-1)

var hidIdleTime = regexp.MustCompile(`"HIDIdleTime"\s*=\s*(\d+)`)

// parseIoreg reads the nanoseconds since the last input from `ioreg -c IOHIDSystem`.
func parseIoreg(text []byte) time.Duration {
	found := hidIdleTime.FindSubmatch(text)
	if found == nil {
		return nobody
	}
	ns, err := strconv.ParseInt(string(found[1]), 10, 64)
	if err != nil {
		return nobody
	}
	return time.Duration(ns)
}

// parsePmset reads the first line of `pmset -g batt`: Now drawing from 'Battery Power'.
func parsePmset(text []byte) Power {
	switch {
	case bytes.Contains(text, []byte("'Battery Power'")):
		return Battery
	case bytes.Contains(text, []byte("'AC Power'")):
		return Mains
	default:
		return PowerUnknown
	}
}

// parseSession reads the properties that `loginctl show-session` prints: for how long the person of a session at the
// machine has been away, or nobody for a session that is not at the machine.
func parseSession(text []byte, now time.Time) time.Duration {
	p := map[string]string{}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		p[name] = value
	}
	if p["Class"] != "user" || p["State"] != "active" || p["Remote"] == "yes" {
		return nobody
	}
	if p["IdleHint"] != "yes" {
		return 0
	}
	since, err := strconv.ParseInt(p["IdleSinceHint"], 10, 64) // microseconds
	if err != nil || since == 0 {
		return 0
	}
	return max(now.Sub(time.UnixMicro(since)), 0)
}

// sessionIDs reads the first column of `loginctl list-sessions`.
func sessionIDs(text []byte) []string {
	var ids []string
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 0 {
			ids = append(ids, fields[0])
		}
	}
	return ids
}

// sooner is the shorter of two absences; nobody counts for nothing.
func sooner(a, b time.Duration) time.Duration {
	if a < 0 || b >= 0 && b < a {
		return b
	}
	return a
}
