//go:build !linux && !darwin

package tunnel

import "syscall"

// keepQueueShort does nothing: this system has no such option.
func keepQueueShort(_, _ string, _ syscall.RawConn) error { return nil }

// endDeadConnections does nothing: gateways with several replicas run on Linux.
func endDeadConnections(_, _ string, _ syscall.RawConn) error { return nil }
