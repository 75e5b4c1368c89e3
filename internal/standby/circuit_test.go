package standby

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"shareai/internal/account"
)

// pipes is a network inside of a synctest bubble: connections are pipes, and time is the bubble's.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case p.conns <- far:
		return near, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	close(p.closed)
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{} }

// bubble is a stand-by whose vendor and gateway live in a synctest bubble.
type bubble struct {
	*Standby
	mu    sync.Mutex
	asked map[string]int
}

func newBubble(t *testing.T, vendor *http.HandlerFunc) *bubble {
	t.Helper()
	b := &bubble{asked: map[string]int{}}
	b.Standby = New(Options{
		Primary: address(t, "http://vendor/v1"), Gateway: address(t, "http://gateway"), Key: account.NewSecret(shareaiKey),
		Log: slog.New(slog.DiscardHandler),
	})
	serve := func(w *way, h http.HandlerFunc) {
		network := newPipes()
		w.transport.DialContext = network.dial
		server := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
			b.mu.Lock()
			b.asked[w.name]++
			b.mu.Unlock()
			body, _ := io.ReadAll(r.Body)
			r.Body = io.NopCloser(bytes.NewReader(body))
			h(out, r)
		})}
		go func() { _ = server.Serve(network) }()
		t.Cleanup(func() { _ = server.Close() })
	}
	serve(b.primary, func(w http.ResponseWriter, r *http.Request) { (*vendor)(w, r) })
	serve(b.gateway, gatewayWell)
	t.Cleanup(b.Close)
	return b
}

// count is how often a side was asked.
func (b *bubble) count(side string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.asked[side]
}

// ask returns the way that a request's answer took.
func (b *bubble) ask(t *testing.T, model string) string {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, chatPath, strings.NewReader(`{"model":"`+model+`","messages":[]}`))
	r.Header.Set("Authorization", "Bearer "+vendorKey)
	w := httptest.NewRecorder()
	b.ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		t.Errorf("%d: %s", w.Code, w.Body)
	}
	return w.Header().Get(Header)
}

// R17: every request is answered during an outage of a minute; the vendor is asked now and then only, and has its
// traffic back half a minute after it is well.
func TestTheCircuitOpensAndClosesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		vendor := status(503)
		b := newBubble(t, &vendor)
		for range 5 {
			if way := b.ask(t, "m"); way != "gateway" {
				t.Fatalf("answered by the %s", way)
			}
		}
		failing := b.count("primary")
		for range 600 {
			time.Sleep(100 * time.Millisecond)
			if way := b.ask(t, "m"); way != "gateway" {
				t.Fatalf("answered by the %s", way)
			}
		}
		if probes := b.count("primary") - failing; failing != 5 || probes < 2 || probes > 8 {
			t.Errorf("the vendor was asked %d times before its circuit opened and %d times after", failing, probes)
		}
		if way := b.ask(t, "another"); way != "gateway" || b.board.Deployment("another").State() != "closed" {
			t.Errorf("the circuit of another model: %s", way)
		}
		vendor = vendorWell
		well := time.Now()
		for b.board.Deployment("m").State() != "closed" {
			time.Sleep(100 * time.Millisecond)
			b.ask(t, "m")
			if time.Since(well) > 30*time.Second {
				t.Fatal("the vendor does not get its traffic back")
			}
		}
		before := b.count("gateway")
		for range 50 {
			if way := b.ask(t, "m"); way != "primary" {
				t.Errorf("answered by the %s", way)
			}
		}
		if b.count("gateway") != before {
			t.Error("the gateway was asked although the vendor is well")
		}
	})
}

func TestAVendorThatAsksToWaitIsNotAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		vendor := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", "60")
			status(429)(w, r)
		})
		b := newBubble(t, &vendor)
		b.ask(t, "m")
		vendor = vendorWell
		for range 59 {
			if way := b.ask(t, "m"); way != "gateway" {
				t.Fatalf("answered by the %s", way)
			}
			time.Sleep(time.Second)
		}
		time.Sleep(2 * time.Second)
		if way := b.ask(t, "m"); way != "primary" {
			t.Errorf("answered by the %s", way)
		}
	})
}

// A stream that breaks after its beginning counts, too: five of them open the circuit.
func TestBrokenStreamsOpenTheCircuit(t *testing.T) {
	r := newRig(t)
	r.vendor.set(func(w http.ResponseWriter, _ *http.Request) { cut(w, textEvent) })
	for i := range 50 {
		if g := r.ask(chatStream); g.way == "gateway" {
			if i < 5 {
				t.Errorf("open after %d", i)
			}
			return
		}
	}
	t.Error("the circuit stays closed")
}

func TestTheDefaultDeadlinesOfASilentVendor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		vendor := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { <-release })
		b := newBubble(t, &vendor)
		for body, want := range map[string]time.Duration{chatBody: 5 * time.Minute, chatStream: 30 * time.Second} {
			start := time.Now()
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, chatPath, strings.NewReader(body))
			r.Header.Set("Authorization", "Bearer "+vendorKey)
			w := httptest.NewRecorder()
			b.ServeHTTP(w, r)
			if took := time.Since(start); w.Header().Get(Header) != "gateway" || took != want {
				t.Errorf("by %s after %s, want %s", w.Header().Get(Header), took, want)
			}
		}
		close(release)
	})
}
