package tunnel

import (
	"context"
	"net"
	"sync"

	"github.com/coder/websocket"
)

// carrier is the connection inside a WebSocket. Closing it closes at once: HTTP/2 has its own way to say good-bye, and
// the closing handshake of WebSocket would wait for a peer that may be gone.
type carrier struct {
	net.Conn
	socket *websocket.Conn
	once   sync.Once
	closed chan struct{}
}

// newCarrier returns a carrier that ends with ctx.
func newCarrier(ctx context.Context, socket *websocket.Conn) *carrier {
	return &carrier{Conn: websocket.NetConn(ctx, socket, websocket.MessageBinary), socket: socket, closed: make(chan struct{})}
}

// Close implements net.Conn.
func (c *carrier) Close() error {
	c.once.Do(func() {
		_ = c.socket.CloseNow()
		close(c.closed)
	})
	return nil
}
