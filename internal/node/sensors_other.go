//go:build !linux && !darwin && !windows

package node

import (
	"context"
	"time"
)

func (m *machineSensors) away(context.Context) time.Duration { return nobody }

func (m *machineSensors) power(context.Context) Power { return PowerUnknown }
