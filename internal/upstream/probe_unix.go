//go:build unix

package upstream

import (
	"net"
	"syscall"
)

// canProbe says whether an idle connection can be looked at without reading from it.
const canProbe = true

// probe looks whether an idle connection is still silent. Between two answers a server has nothing
// to say: an end of file, or bytes that nobody asked for (a farewell, the rest of an answer that was
// longer than announced), mean that the next answer on it could not be trusted.
type probe struct {
	raw   syscall.RawConn
	look  func(fd uintptr) bool
	quiet bool
	buf   [1]byte
}

// newProbe makes a probe; on a connection without a socket it always says no.
func newProbe(conn net.Conn) *probe {
	p := &probe{}
	if s, ok := conn.(syscall.Conn); ok {
		if raw, err := s.SyscallConn(); err == nil {
			p.raw = raw
		}
	}
	p.look = func(fd uintptr) bool {
		_, _, err := syscall.Recvfrom(int(fd), p.buf[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		p.quiet = err == syscall.EAGAIN || err == syscall.EWOULDBLOCK
		return true // looked once; do not wait for more
	}
	return p
}

func (p *probe) silent() bool {
	p.quiet = false
	return p.raw != nil && p.raw.Read(p.look) == nil && p.quiet
}
