package cluster_test

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"shareai/internal/cluster"
	"shareai/internal/cluster/clustertest"
	"shareai/internal/fault"
)

func TestMemory(t *testing.T) {
	t.Parallel()
	memory := new(cluster.Memory)
	clustertest.RunSignals(t, func(*testing.T) cluster.Signals { return memory })
}

func TestRedis(t *testing.T) {
	t.Parallel()
	server := redisServer(t)
	clustertest.RunSignals(t, func(t *testing.T) cluster.Signals { return newRedis(t, server, new(logBuffer)) })
}

// redisServer returns the URL of the Redis that the environment names.
func redisServer(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("needs a Redis server")
	}
	server := os.Getenv("SHAREAI_TEST_REDIS")
	if server == "" {
		t.Fatal("SHAREAI_TEST_REDIS is not set: run make test, or scripts/services.sh run go test …")
	}
	return server
}

func newRedis(t *testing.T, url string, log io.Writer) *cluster.Redis {
	t.Helper()
	r, err := cluster.NewRedis(t.Context(), url, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return r
}

// logBuffer is a log that may be written and read at the same time.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// lossLog is a log that tells when the connection is lost.
type lossLog struct{ lost chan struct{} }

func (l lossLog) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte("does not answer")) {
		select {
		case l.lost <- struct{}{}:
		default:
		}
	}
	return len(p), nil
}

// wire stands between a client and Redis, and can be cut.
type wire struct {
	listener net.Listener
	server   string
	mu       sync.Mutex
	cut      bool
	open     []net.Conn
	frozen   chan struct{} // while it is not closed, nothing passes; nil: everything does
	drops    atomic.Int32  // of answers that do not arrive, each with the end of its connection
}

// newWire returns a wire to the server of a URL, and the URL of its near end.
func newWire(t *testing.T, server string) (*wire, string) {
	t.Helper()
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{listener: listener, server: u.Host}
	accepting := make(chan struct{})
	go func() {
		defer close(accepting)
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			w.connect(near)
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-accepting
		w.setCut(true)
	})
	u.Host = listener.Addr().String()
	return w, u.String()
}

func (w *wire) connect(near net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut {
		_ = near.Close()
		return
	}
	far, err := net.Dial("tcp", w.server)
	if err != nil {
		_ = near.Close()
		return
	}
	w.open = append(w.open, near, far)
	for _, pair := range [][2]net.Conn{{near, far}, {far, near}} {
		go func() {
			_, _ = io.Copy(throttled{pair[0], w, pair[0] == near}, pair[1])
			_ = pair[0].Close()
			_ = pair[1].Close()
		}()
	}
}

// throttled writes when the wire is not frozen.
type throttled struct {
	net.Conn
	wire    *wire
	answers bool // to the client
}

func (c throttled) Write(p []byte) (int, error) {
	c.wire.mu.Lock()
	frozen := c.wire.frozen
	c.wire.mu.Unlock()
	if frozen != nil {
		<-frozen
	}
	if c.answers && c.wire.drops.Load() > 0 && c.wire.drops.Add(-1) >= 0 {
		return 0, io.ErrClosedPipe
	}
	return c.Conn.Write(p)
}

// freeze keeps every connection open and passes nothing on, until the returned function is called.
func (w *wire) freeze() (thaw func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.frozen = make(chan struct{})
	return sync.OnceFunc(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		close(w.frozen)
		w.frozen = nil
	})
}

// setCut ends every connection and lets no new one through, until it is called with false.
func (w *wire) setCut(cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = cut
	for _, c := range w.open {
		_ = c.Close()
	}
	w.open = nil
}

func TestRedisGoesAwayAndComesBack(t *testing.T) {
	t.Parallel()
	server := redisServer(t)
	w, near := newWire(t, server)
	var log logBuffer
	here, there := newRedis(t, near, &log), newRedis(t, server, new(logBuffer))
	wake, end, err := here.Subscribe(t.Context(), "test.away")
	if err != nil {
		t.Fatal(err)
	}
	defer end()

	w.setCut(true)
	if err := here.Publish(t.Context(), "test.away"); fault.From(err).Kind != fault.Unavailable {
		t.Errorf("publish over a cut wire: %v", err)
	}
	clustertest.Await(t, wake) // this process is told all the same
	if err := there.Publish(t.Context(), "test.away"); err != nil {
		t.Fatal(err)
	}
	w.setCut(false)
	clustertest.Await(t, wake) // for what was missed
	if err := there.Publish(t.Context(), "test.away"); err != nil {
		t.Fatal(err)
	}
	clustertest.Await(t, wake)
	if err := here.Ping(t.Context()); err != nil {
		t.Errorf("ping: %v", err)
	}
	if text := log.String(); strings.Count(text, "does not answer") != 1 || strings.Count(text, "restored") != 1 {
		t.Errorf("log:\n%s", text)
	}
}

// TestConnectionThatDiesInSilence freezes the wire: no error tells that the connection is dead.
func TestConnectionThatDiesInSilence(t *testing.T) {
	t.Parallel()
	server := redisServer(t)
	w, near := newWire(t, server)
	log := lossLog{lost: make(chan struct{}, 1)}
	here := newRedis(t, near, log)
	wake, end, err := here.Subscribe(t.Context(), "test.frozen")
	if err != nil {
		t.Fatal(err)
	}
	defer end()
	thaw := w.freeze()
	defer thaw()
	clustertest.Await(t, log.lost)
	w.setCut(true) // what was frozen must not come late
	w.setCut(false)
	thaw()
	clustertest.Await(t, wake)
}

func TestRedisThatIsNotThereYet(t *testing.T) {
	t.Parallel()
	server := redisServer(t)
	w, near := newWire(t, server)
	w.setCut(true)
	here := newRedis(t, near, new(logBuffer))
	wake, end, err := here.Subscribe(t.Context(), "test.early")
	if err != nil {
		t.Fatal(err)
	}
	defer end()
	w.setCut(false)
	clustertest.Await(t, wake)
}

// TestSilentRedis has a server that takes connections and never says a word, which is the worst that a
// network does.
func TestSilentRedis(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	here := newRedis(t, "redis://"+listener.Addr().String(), new(logBuffer))
	for _, call := range []func() error{
		func() error { return here.Publish(t.Context(), "test.silent") },
		func() error { return here.Ping(t.Context()) },
	} {
		start := time.Now()
		err := call()
		if took := time.Since(start); fault.From(err).Kind != fault.Unavailable || took > 1500*time.Millisecond {
			t.Errorf("%v after %v", err, took)
		}
	}
	start := time.Now()
	_ = here.Close()
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("close took %v", took)
	}
}

func TestBadRedisURL(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "hunter2", "http://u:hunter2@h/0", "redis://u:hunter2@h:port/0", "redis://u:hunter2@h/0?x=1"} {
		_, err := cluster.NewRedis(t.Context(), bad, slog.New(slog.DiscardHandler))
		if fault.From(err).Kind != fault.Invalid || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
