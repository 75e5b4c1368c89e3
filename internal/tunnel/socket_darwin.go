package tunnel

import "syscall"

// tcpNotSentLowat is an option of TCP that package syscall does not name.
const tcpNotSentLowat = 0x201

// keepQueueShort lets the kernel hold 16 KiB that were not sent yet, and no more: what is queued there can not be
// overtaken, and over a slow uplink it is seconds during which no small answer gets out.
func keepQueueShort(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) {
		// A kernel that does not know the option is not a reason to have no connection.
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpNotSentLowat, 16<<10)
	})
}

// endDeadConnections does nothing here: gateways with several replicas run on Linux.
func endDeadConnections(_, _ string, _ syscall.RawConn) error { return nil }
