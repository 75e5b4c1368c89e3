package tunnel

import (
	"context"
	"errors"
	"fmt"
	"io"
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

// Read implements net.Conn. An error of the WebSocket may wrap io.EOF, for a connection that was cut; taken for a clean end
// by somebody who asks errors.Is, it would make a whole answer of a piece.
func (c *carrier) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil && err != io.EOF { //nolint:errorlint // a wrapped io.EOF is just what is looked for
		err = fmt.Errorf("%w: %v", errConnection, err) //nolint:errorlint // see above
	}
	return n, err //nolint:wrapcheck // io.EOF has to stay what it is
}

// errConnection says that the connection failed.
var errConnection = errors.New("the connection failed")

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
