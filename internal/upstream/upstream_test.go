package upstream

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"shareai/internal/account"
	"shareai/internal/catalog"
	"shareai/internal/openai"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const chatRequest = `{"messages":[{"role":"user","content":"hi"}],"model":"chat"}`

const chatReply = `{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}`

// wholeReply is an answer with a body of known length.
func wholeReply(body string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: Sun, 22 Nov 2026 17:00:00 GMT\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// sizedRequest is a request of about that many bytes with the model behind the messages.
func sizedRequest(size int) string {
	return `{"messages":[{"role":"user","content":"` + strings.Repeat("word ", size/5) + `"}],"model":"chat"}`
}

// newCall is a chat call to a provider on this machine.
func newCall(t testing.TB, baseURL, body string) *Call {
	t.Helper()
	request, err := openai.ParseRequest([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return &Call{
		Target: Target{
			Provider:   &catalog.Provider{Name: "alpha", Dialect: catalog.OpenAI, BaseURL: baseURL, PrivateNetwork: true},
			Deployment: &catalog.Deployment{Provider: "alpha", Model: "alpha-large"},
			Key:        catalog.ProviderKey{Name: "main", Secret: account.NewSecret("sk-alpha-secret")},
		},
		Endpoint: catalog.Chat, Request: request, RequestID: "req-1",
	}
}

func newClient(t testing.TB, options Options) *Client {
	t.Helper()
	c := New(options)
	t.Cleanup(c.Close)
	return c
}

// serve is an upstream that is down when the test ends.
func serve(t testing.TB, handler http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL
}

func answerWith(status int, contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

// failure is the error of a call that must fail.
func failure(ctx context.Context, t testing.TB, c *Client, call *Call) *Error {
	t.Helper()
	answer, err := c.Do(ctx, call)
	if err == nil {
		answer.Close()
		t.Fatal("the call succeeded")
	}
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("error is a %T: %v", err, err)
	}
	return e
}

// eachTransport runs a test over both transports for plain http: what they carry must look the same.
func eachTransport(t *testing.T, test func(t *testing.T, c *Client)) {
	t.Helper()
	t.Run("plain", func(t *testing.T) { test(t, newClient(t, Options{})) })
	t.Run("nethttp", func(t *testing.T) {
		c := newClient(t, Options{})
		c.private.plain = c.private.secure
		test(t, c)
	})
}

// rawServer speaks to each connection as a test says. Its listener and connections are closed when the
// test ends.
type rawServer struct {
	url      string
	accepted atomic.Int32
}

// serveRaw runs handle in a goroutine for every connection; the connection is closed when it returns.
func serveRaw(t testing.TB, handle func(conn net.Conn, r *bufio.Reader)) *rawServer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &rawServer{url: "http://" + listener.Addr().String()}
	var open sync.Map
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			s.accepted.Add(1)
			open.Store(conn, nil)
			running.Go(func() {
				defer conn.Close()
				handle(conn, bufio.NewReader(conn))
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		open.Range(func(conn, _ any) bool { _ = conn.(net.Conn).Close(); return true })
		running.Wait()
	})
	return s
}

// readRequest reads a whole request; false when the connection ended.
func readRequest(r *bufio.Reader) bool {
	req, err := http.ReadRequest(r)
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, req.Body)
	return err == nil
}

// answerEach answers every request of a connection with the same bytes.
func answerEach(text string) func(net.Conn, *bufio.Reader) {
	return func(conn net.Conn, r *bufio.Reader) {
		for readRequest(r) {
			if _, err := io.WriteString(conn, text); err != nil {
				return
			}
		}
	}
}

// answerOnce answers one request and closes.
func answerOnce(text string) func(net.Conn, *bufio.Reader) {
	return func(conn net.Conn, r *bufio.Reader) {
		if readRequest(r) {
			_, _ = io.WriteString(conn, text)
		}
	}
}

func discardLog() *log.Logger { return log.New(io.Discard, "", 0) }
