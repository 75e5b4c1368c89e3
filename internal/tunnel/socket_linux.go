package tunnel

import (
	"errors"
	"syscall"
)

// Options of TCP that package syscall does not name.
const (
	tcpUserTimeout  = 18
	tcpNotSentLowat = 25
)

// keepQueueShort lets the kernel hold 16 KiB that were not sent yet, and no more: what is queued there can not be
// overtaken, and over a slow uplink it is seconds during which no small answer gets out.
func keepQueueShort(_, _ string, c syscall.RawConn) error {
	return setOption(c, tcpNotSentLowat, 16<<10)
}

// endDeadConnections ends a connection whose other end has acknowledged nothing for ten seconds. The default is a
// quarter of an hour.
func endDeadConnections(_, _ string, c syscall.RawConn) error {
	return setOption(c, tcpUserTimeout, 10_000)
}

// setOption sets an option. A kernel that does not know it is not a reason to have no connection.
func setOption(c syscall.RawConn, option, value int) error {
	return c.Control(func(fd uintptr) {
		err := syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, option, value)
		_ = errors.Is(err, syscall.ENOPROTOOPT)
	})
}
