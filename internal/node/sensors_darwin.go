package node

import (
	"context"
	"time"
)

// away asks the system for the time since the last input of any device.
func (m *machineSensors) away(ctx context.Context) time.Duration {
	text, err := m.run(ctx, "ioreg", "-c", "IOHIDSystem", "-d", "4", "-r")
	if err != nil {
		return nobody
	}
	return parseIoreg(text)
}

func (m *machineSensors) power(ctx context.Context) Power {
	text, err := m.run(ctx, "pmset", "-g", "batt")
	if err != nil {
		return PowerUnknown
	}
	return parsePmset(text)
}
