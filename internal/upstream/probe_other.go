//go:build !unix

package upstream

import "net"

// canProbe is false: without a look at its idle connections a pool is not safe, so that net/http's
// transport, which keeps a goroutine reading from each, carries plain http as well.
const canProbe = false

type probe struct{}

func newProbe(net.Conn) *probe { return &probe{} }

func (*probe) silent() bool { return false }
