package upstream

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

const streamRequest = `{"messages":[{"role":"user","content":"hi"}],"model":"chat","stream":true}`

// wires are whole answers in every framing, with the body that a client must see.
var wires = map[string]struct{ text, body string }{
	"length":           {"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{\"a\":\"hello\"}", `{"a":"hello"}`},
	"length twice":     {"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\nContent-Length: 2\r\n\r\n{}", `{}`},
	"empty":            {"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 0\r\n\r\n", ``},
	"no reason":        {"HTTP/1.1 200\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}", `{}`},
	"bare line feeds":  {"HTTP/1.1 200 OK\nContent-Type: application/json\nContent-Length: 2\n\n{}", `{}`},
	"chunked":          {"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"a\":\r\n8\r\n\"hello\"}\r\n0\r\n\r\n", `{"a":"hello"}`},
	"chunk extensions": {"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: Chunked\r\n\r\n5;a=b;c=\"d\"\r\n{\"a\":\r\n8\r\n\"hello\"}\r\n0;last\r\n\r\n", `{"a":"hello"}`},
	"trailers":         {"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nTrailer: X-A\r\n\r\n2\r\n{}\r\n0\r\nX-A: b\r\nX-C: d\r\n\r\n", `{}`},
	"provisional":      {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}", `{}`},
	"HTTP/1.0 kept":    {"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n{}", `{}`},
	"many headers":     {"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nX-Long: " + strings.Repeat("x", 20_000) + "\r\nX-Odd:\t a b \t\r\nx-empty:\r\n\r\n{}", `{}`},
}

func TestFramings(t *testing.T) {
	eachTransport(t, func(t *testing.T, c *Client) {
		for name, wire := range wires {
			server := serveRaw(t, answerEach(wire.text))
			for range 3 {
				answer, err := c.Do(t.Context(), newCall(t, server.url, chatRequest))
				if err != nil {
					t.Errorf("%s: %v", name, err)
					break
				}
				if string(answer.Body) != wire.body {
					t.Errorf("%s: body %q", name, answer.Body)
				}
				answer.Close()
			}
			usedAgain(t, c, server, name)
		}
	})
}

// usedAgain wants all answers to have come over one connection. net/http's transport gives a connection back
// in a goroutine of its own, at times after the next request has opened another.
func usedAgain(t *testing.T, c *Client, server *rawServer, name string) {
	t.Helper()
	if n := server.accepted.Load(); n != 1 && c.private.plain != c.private.secure {
		t.Errorf("%s: %d connections for answers in a row", name, n)
	}
}

// TestCutAtEveryByte has an answer end at each of its bytes. None may be taken for a whole one.
func TestCutAtEveryByte(t *testing.T) {
	eachTransport(t, func(t *testing.T, c *Client) {
		for name, wire := range wires {
			if name == "many headers" || name == "bare line feeds" {
				continue // the first is long, the second is the same as others
			}
			var at atomic.Int64
			server := serveRaw(t, func(conn net.Conn, r *bufio.Reader) {
				answerOnce(wire.text[:at.Load()])(conn, r)
			})
			for k := range len(wire.text) {
				at.Store(int64(k))
				answer, err := c.Do(t.Context(), newCall(t, server.url, chatRequest))
				if err == nil {
					// The body may be whole although the last bytes of its frame are missing: then its end never came.
					t.Errorf("%s cut at %d of %d: taken for an answer: %q", name, k, len(wire.text), answer.Body)
					answer.Close()
					continue
				}
				if !errors.Is(err, Broken) {
					t.Errorf("%s cut at %d: %v", name, k, err)
				}
			}
			if n := int(server.accepted.Load()); n != len(wire.text) {
				t.Errorf("%s: %d connections for %d requests: a fresh one is no reason to try again", name, n, len(wire.text))
			}
		}
	})
}

const wholeStream = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n" +
	"0a\r\ndata: {}\n\n\r\n" + "1d\r\ndata: {\"a\":1}\n\ndata: [DONE]\n\n\r\n" + "0\r\n\r\n"

func TestStreamCutAtEveryByte(t *testing.T) {
	eachTransport(t, func(t *testing.T, c *Client) {
		var at atomic.Int64
		server := serveRaw(t, func(conn net.Conn, r *bufio.Reader) { answerOnce(wholeStream[:at.Load()])(conn, r) })
		for k := range len(wholeStream) + 1 {
			at.Store(int64(k))
			answer, err := c.Do(t.Context(), newCall(t, server.url, streamRequest))
			if err != nil {
				if !errors.Is(err, Broken) {
					t.Errorf("cut at %d: %v", k, err)
				}
				continue
			}
			events := 0
			for {
				if _, err = answer.Stream.Next(); err != nil {
					break
				}
				events++
			}
			var e *Error
			switch {
			case k == len(wholeStream):
				if !errors.Is(err, io.EOF) || events != 3 {
					t.Errorf("the whole stream: %d events, %v", events, err)
				}
			case !errors.As(err, &e) || e.Outcome != Broken:
				t.Errorf("cut at %d: after %d events: %v", k, events, err)
			}
			answer.Close()
		}
	})
}

func TestConnectionsThatMayNotBeUsedAgain(t *testing.T) {
	eachTransport(t, func(t *testing.T, c *Client) {
		for name, text := range map[string]string{
			"close":              "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}",
			"close among others": "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: x, Close\r\nContent-Length: 2\r\n\r\n{}",
			"HTTP/1.0":           "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
		} {
			answersApart(t, c, name, func(conn net.Conn, r *bufio.Reader) {
				answerOnce(text)(conn, r)
				_, _ = io.Copy(io.Discard, r) // leave closing to the client
			})
		}
		answersApart(t, c, "until close", answerOnce("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{}"))
		answersApart(t, c, "1.0 until close", answerOnce("HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{}"))
	})
}

// TestSurplusBytes come right behind an answer. net/http's transport is not asked: it may use the connection
// again before it has seen them.
func TestSurplusBytes(t *testing.T) {
	for name, text := range map[string]string{
		"announced": "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 6\r\n\r\n\"evil\"",
		"chunked":   "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n",
		"empty":     "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 0\r\n\r\n{}",
	} {
		answersApart(t, newClient(t, Options{}), name, func(conn net.Conn, r *bufio.Reader) {
			answerOnce(text)(conn, r)
			_, _ = io.Copy(io.Discard, r)
		})
	}
}

// answersApart asks three times and wants each answer, {} or nothing, from a connection of its own.
func answersApart(t *testing.T, c *Client, name string, handle func(net.Conn, *bufio.Reader)) {
	t.Helper()
	server := serveRaw(t, handle)
	for range 3 {
		answer, err := c.Do(t.Context(), newCall(t, server.url, chatRequest))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if body := string(answer.Body); body != "{}" && body != "" {
			t.Fatalf("%s: answer %q", name, body)
		}
		answer.Close()
	}
	if n := server.accepted.Load(); n != 3 {
		t.Errorf("%s: %d connections, want 3", name, n)
	}
}

// TestBytesThatNobodyAskedFor arrive while the connection is idle: they must not become the next answer.
func TestBytesThatNobodyAskedFor(t *testing.T) {
	late := make(chan struct{})
	said := make(chan struct{}, 1)
	server := serveRaw(t, func(conn net.Conn, r *bufio.Reader) {
		answerOnce(wholeReply(chatReply))(conn, r)
		<-late
		_, _ = io.WriteString(conn, "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		said <- struct{}{}
		answerEach(wholeReply(chatReply))(conn, r)
	})
	c := newClient(t, Options{})
	call := newCall(t, server.url, chatRequest)
	for range 2 {
		answer, err := c.Do(t.Context(), call)
		if err != nil {
			t.Fatal(err)
		}
		answer.Close()
		if server.accepted.Load() == 1 {
			close(late)
			<-said
		}
	}
	if n := server.accepted.Load(); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
}

// TestStaleConnection has the server close a connection while the next request is on its way.
func TestStaleConnection(t *testing.T) {
	for name, end := range map[string]struct {
		last        string // what the server still says to the second request
		connections int32
		outcome     Outcome
	}{
		"closed without a byte": {"", 1, Broken}, // it was read, and may have been carried out
		"closed after a byte":   {"H", 1, Broken},
		"closed within a body":  {"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{", 1, Broken},
	} {
		t.Run(name, func(t *testing.T) {
			var served atomic.Int32
			server := serveRaw(t, func(conn net.Conn, r *bufio.Reader) {
				for readRequest(r) {
					if served.Add(1) == 2 {
						_, _ = io.WriteString(conn, end.last)
						return
					}
					_, _ = io.WriteString(conn, wholeReply(chatReply))
				}
			})
			c := newClient(t, Options{})
			call := newCall(t, server.url, chatRequest)
			answer, err := c.Do(t.Context(), call)
			if err != nil {
				t.Fatal(err)
			}
			answer.Close()
			answer, err = c.Do(t.Context(), call)
			got := OK
			if err == nil {
				answer.Close()
			} else if !errors.As(err, &got) {
				t.Fatal(err)
			}
			if got != end.outcome || server.accepted.Load() != end.connections {
				t.Errorf("%s over %d connections, want %s over %d: %v", got, server.accepted.Load(), end.outcome, end.connections, err)
			}
		})
	}
}

// gone is a connection whose peer went away unseen: a write takes so many bytes more, then it fails.
type gone struct {
	net.Conn
	takes *atomic.Int64
}

func (c gone) Write(p []byte) (int, error) {
	if left := c.takes.Add(int64(-len(p))); left < 0 {
		n, _ := c.Conn.Write(p[:max(0, left+int64(len(p)))])
		_ = c.Conn.Close()
		return n, net.ErrClosed
	}
	return c.Conn.Write(p)
}

func (c gone) SyscallConn() (syscall.RawConn, error) { return c.Conn.(syscall.Conn).SyscallConn() }

// TestUnsentRequest is sent again, once, over a fresh connection.
func TestUnsentRequest(t *testing.T) {
	for _, size := range []int{100, 2 * inlineBody} {
		for name, c := range map[string]struct {
			takes int64 // bytes that the pooled connection still takes
			fresh int64 // bytes that the others take
			ok    bool
		}{
			"nothing was written": {0, 1 << 30, true},
			"a part was written":  {50, 1 << 30, true},
			"twice":               {50, 50, false},
		} {
			t.Run(fmt.Sprintf("%d/%s", size, name), func(t *testing.T) {
				server := serveRaw(t, answerEach(wholeReply(chatReply)))
				first, others := new(atomic.Int64), new(atomic.Int64)
				first.Store(1 << 30)
				others.Store(c.fresh)
				dials := 0
				transport := newPlainTransport(func(ctx context.Context, network, address string) (net.Conn, error) {
					dials++
					conn, err := new(net.Dialer).DialContext(ctx, network, address)
					if dials == 1 {
						return gone{conn, first}, err
					}
					return gone{conn, others}, err
				}, Options{}.withDefaults())
				defer transport.CloseIdleConnections()
				ask := func() error {
					req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.url, strings.NewReader(sizedRequest(size)))
					if err != nil {
						t.Fatal(err)
					}
					resp, err := transport.RoundTrip(req)
					if err != nil {
						return err
					}
					_, _ = io.Copy(io.Discard, resp.Body)
					return resp.Body.Close()
				}
				if err := ask(); err != nil {
					t.Fatal(err)
				}
				first.Store(c.takes)
				if err := ask(); (err == nil) != c.ok || dials != 2 {
					t.Errorf("%d connections, %v", dials, err)
				}
			})
		}
	}
}

// TestARequestThatWasReadIsNotSentAgain, however large it is.
func TestARequestThatWasReadIsNotSentAgain(t *testing.T) {
	for _, size := range []int{100, 2 * inlineBody} {
		var served atomic.Int32
		server := serveRaw(t, func(conn net.Conn, r *bufio.Reader) {
			for readRequest(r) && served.Add(1) == 1 {
				_, _ = io.WriteString(conn, wholeReply(chatReply))
			}
		})
		c := newClient(t, Options{})
		call := newCall(t, server.url, sizedRequest(size))
		answer, err := c.Do(t.Context(), call)
		if err != nil {
			t.Fatal(err)
		}
		answer.Close()
		if e := failure(t.Context(), t, c, call); e.Outcome != Broken || served.Load() != 2 {
			t.Errorf("%v after %d requests, want broken after 2", e, served.Load())
		}
	}
}

func TestMalformedHeads(t *testing.T) {
	head := func(lines ...string) string {
		return "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\n{}"
	}
	c := newClient(t, Options{})
	for name, text := range map[string]string{
		"not HTTP":            "SSH-2.0-OpenSSH_9.6\r\n\r\n",
		"HTTP/2":              "HTTP/2 200 OK\r\n\r\n{}",
		"HTTP/1.2":            "HTTP/1.2 200 OK\r\nContent-Length: 2\r\n\r\n{}",
		"http":                "http/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
		"empty line first":    "\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
		"status 99":           "HTTP/1.1 099 OK\r\n\r\n{}",
		"status 1000":         "HTTP/1.1 1000 OK\r\n\r\n{}",
		"status 600":          "HTTP/1.1 600 OK\r\n\r\n{}",
		"status +20":          "HTTP/1.1 +20 OK\r\n\r\n{}",
		"two spaces":          "HTTP/1.1  200 OK\r\n\r\n{}",
		"switching":           "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
		"folded line":         head("X-A: b", " c", "Content-Length: 2"),
		"folded by a tab":     head("X-A: b", "\tContent-Length: 2"),
		"space before colon":  head("Content-Length : 2"),
		"no colon":            head("Content-Length"),
		"no name":             head(": 2"),
		"control character":   head("X-A: b\x00c", "Content-Length: 2"),
		"bare CR":             head("X-A: b\rContent-Length: 3", "Content-Length: 2"),
		"name with quotes":    head("\"X\": 1", "Content-Length: 2"),
		"two lengths":         head("Content-Length: 2", "Content-Length: 3"),
		"list of lengths":     head("Content-Length: 2, 2"),
		"negative length":     head("Content-Length: -2"),
		"signed length":       head("Content-Length: +2"),
		"hexadecimal length":  head("Content-Length: 0x2"),
		"empty length":        head("Content-Length:"),
		"huge length":         head("Content-Length: 99999999999999999999"),
		"length and chunked":  head("Content-Length: 2", "Transfer-Encoding: chunked"),
		"gzip, chunked":       head("Transfer-Encoding: gzip, chunked"),
		"chunked twice":       head("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
		"identity":            head("Transfer-Encoding: identity", "Content-Length: 2"),
		"chunked with 1.0":    strings.Replace(head("Transfer-Encoding: chunked"), "1.1", "1.0", 1),
		"long line":           head("X-A: "+strings.Repeat("a", maxHead), "Content-Length: 2"),
		"many lines":          head(strings.Repeat("X-A: b\r\n", maxHead/8)+"X-B: c", "Content-Length: 2"),
		"endless provisional": strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", maxHead/24),
	} {
		server := serveRaw(t, answerOnce(text))
		e := failure(t.Context(), t, c, newCall(t, server.url, chatRequest))
		var bad badHeadError
		if e.Outcome != BadAnswer || !errors.As(e, &bad) {
			t.Errorf("%s: %v", name, e)
		}
	}
}

func TestMalformedChunks(t *testing.T) {
	c := newClient(t, Options{})
	for name, body := range map[string]string{
		"no size":          "\r\n{}\r\n0\r\n\r\n",
		"bad size":         "x\r\n{}\r\n0\r\n\r\n",
		"huge size":        "fffffffffffffffff\r\n{}\r\n0\r\n\r\n",
		"size with sign":   "+2\r\n{}\r\n0\r\n\r\n",
		"bare line feed":   "2\n{}\n0\n\n",
		"longer than said": "2\r\n{}x\r\n0\r\n\r\n",
		"bad trailer":      "2\r\n{}\r\n0\r\nX-A: b\n\r\n",
		"long trailer":     "2\r\n{}\r\n0\r\n" + strings.Repeat("X-A: b\r\n", maxTrailer/4) + "\r\n",
		"long line":        "2\r\n{}\r\n0\r\nX-A: " + strings.Repeat("b", plainBuffer) + "\r\n\r\n",
		"extensions only":  strings.Repeat("1;"+strings.Repeat("x", 3000)+"\r\n \r\n", 20) + "0\r\n\r\n",
	} {
		server := serveRaw(t, answerOnce("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"+body))
		if e := failure(t.Context(), t, c, newCall(t, server.url, chatRequest)); e.Outcome != Broken && e.Outcome != BadAnswer {
			t.Errorf("%s: %v", name, e)
		}
	}
}

func TestAnswersWithoutBody(t *testing.T) {
	eachTransport(t, func(t *testing.T, c *Client) {
		for _, status := range []string{"204 No Content", "304 Not Modified"} {
			server := serveRaw(t, answerEach("HTTP/1.1 "+status+"\r\nContent-Type: application/json\r\n\r\n"))
			for range 3 {
				if answer, err := c.Do(t.Context(), newCall(t, server.url, chatRequest)); err == nil {
					if len(answer.Body) != 0 {
						t.Errorf("%s: body %q", status, answer.Body)
					}
					answer.Close()
				}
			}
			usedAgain(t, c, server, status)
		}
	})
}

// TestEarlyAnswer has the server refuse a request before it has read it.
func TestEarlyAnswer(t *testing.T) {
	refusal := "HTTP/1.1 413 Payload Too Large\r\nContent-Type: application/json\r\nContent-Length: 31\r\n\r\n{\"error\":{\"message\":\"too big\"}}"
	for _, size := range []int{1 << 10, 100 << 10, 256 << 10, 16 << 20} {
		for name, then := range map[string]func(conn net.Conn, end <-chan struct{}){
			"resetting": func(net.Conn, <-chan struct{}) {}, // closing with unread bytes
			"half-open": func(conn net.Conn, _ <-chan struct{}) {
				_ = conn.(*net.TCPConn).CloseWrite()
				_, _ = io.Copy(io.Discard, conn)
			},
			"idle":       func(_ net.Conn, end <-chan struct{}) { <-end },
			"reading on": func(conn net.Conn, _ <-chan struct{}) { _, _ = io.Copy(io.Discard, conn) },
		} {
			t.Run(fmt.Sprintf("%d/%s", size, name), func(t *testing.T) {
				end := make(chan struct{})
				defer close(end)
				server := serveRaw(t, func(conn net.Conn, r *bufio.Reader) {
					_, _ = r.ReadString('\n')
					_, _ = io.WriteString(conn, refusal)
					then(conn, end)
				})
				c := newClient(t, Options{})
				for range 2 {
					e := failure(t.Context(), t, c, newCall(t, server.url, sizedRequest(size)))
					if e.Status != 413 || !strings.Contains(e.Message, "too big") {
						t.Fatal(e)
					}
					if size < 16<<20 || name != "idle" {
						break // all was sent, perhaps: then the connection may be used again
					}
				}
			})
		}
	}
}

// TestLargeRequests arrive whole and unchanged, many at once, over connections that are used again.
func TestLargeRequests(t *testing.T) {
	eachTransport(t, func(t *testing.T, c *Client) {
		url := serve(t, func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil || int64(len(body)) != r.ContentLength {
				t.Errorf("read %d of %d: %v", len(body), r.ContentLength, err)
			}
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(body)
		})
		var group sync.WaitGroup
		for _, size := range []int{100, gatherSize - 200, gatherSize, 3 * gatherSize, inlineBody - 60, inlineBody, 2 << 20} {
			group.Go(func() {
				for range 3 {
					call := newCall(t, url, sizedRequest(size))
					answer, err := c.Do(t.Context(), call)
					if err != nil {
						t.Error(err)
						return
					}
					want := strings.Replace(sizedRequest(size), `"chat"`, `"alpha-large"`, 1)
					if string(answer.Body) != want {
						t.Errorf("a request of %d bytes came back with %d", len(want), len(answer.Body))
					}
					answer.Close()
				}
			})
		}
		group.Wait()
	})
}

// TestCancel ends calls in each of their phases. No socket and no goroutine may stay: the servers
// wait for the client to close, and goleak looks at the end.
func TestCancel(t *testing.T) {
	for name, said := range map[string]string{
		"before the head": "", "within the head": "HTTP/1.1 200 OK\r\nContent-", "after the head": "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n",
		"within the body": "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{}", "within a chunk": "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
		"before the trailer": "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n", "within an error": "HTTP/1.1 500 Oops\r\nContent-Length: 10\r\n\r\nx",
	} {
		t.Run(name, func(t *testing.T) {
			eachTransport(t, func(t *testing.T, c *Client) {
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				gone := make(chan struct{})
				server := serveRaw(t, func(conn net.Conn, r *bufio.Reader) {
					answerOnce(said)(conn, r)
					cancel(IdleTimeout)
					_, _ = io.Copy(io.Discard, r)
					close(gone)
				})
				e := failure(ctx, t, c, newCall(t, server.url, chatRequest))
				if e.Outcome != IdleTimeout || !errors.Is(e, context.Cause(ctx)) {
					t.Error(e)
				}
				<-gone
			})
		})
	}
}

// TestCancelWhileSending has a server that reads nothing of a request that is larger than all buffers.
func TestCancelWhileSending(t *testing.T) {
	for _, size := range []int{inlineBody - 100, 32 << 20} {
		ctx, cancel := context.WithCancelCause(t.Context())
		end := make(chan struct{})
		server := serveRaw(t, func(net.Conn, *bufio.Reader) { cancel(TotalTimeout); <-end })
		c := newClient(t, Options{})
		if e := failure(ctx, t, c, newCall(t, server.url, sizedRequest(size))); e.Outcome != TotalTimeout {
			t.Error(e)
		}
		close(end)
	}
}

func TestCanceledBefore(t *testing.T) {
	eachTransport(t, func(t *testing.T, c *Client) {
		server := serveRaw(t, answerEach(wholeReply(chatReply)))
		call := newCall(t, server.url, chatRequest)
		answer, err := c.Do(t.Context(), call) // so that there is a pooled connection
		if err != nil {
			t.Fatal(err)
		}
		answer.Close()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if e := failure(ctx, t, c, call); e.Outcome != Canceled || !errors.Is(e, context.Canceled) {
			t.Error(e)
		}
		ctx, cancel = context.WithDeadline(t.Context(), time.Unix(1, 0))
		defer cancel()
		if e := failure(ctx, t, c, call); e.Outcome != TotalTimeout || !errors.Is(e, context.DeadlineExceeded) {
			t.Error(e)
		}
	})
}

// TestByteByByte has an answer come in the smallest pieces there are.
func TestByteByByte(t *testing.T) {
	for name, wire := range wires {
		if name == "many headers" {
			continue
		}
		client, server := net.Pipe()
		go func() {
			r := bufio.NewReader(server)
			if readRequest(r) {
				for i := range len(wire.text) {
					_, _ = io.WriteString(server, wire.text[i:i+1])
				}
			}
			_ = server.Close()
		}()
		body, err := exchangeOver(client, chatRequest)
		if err != nil || body != wire.body {
			t.Errorf("%s: %q, %v", name, body, err)
		}
	}
}

// exchangeOver sends a request over the connection and reads the answer's body.
func exchangeOver(conn net.Conn, request string) (string, error) {
	transport := newPlainTransport(func(context.Context, string, string) (net.Conn, error) { return conn, nil }, Options{}.withDefaults())
	defer transport.CloseIdleConnections()
	req, err := http.NewRequest(http.MethodPost, "http://alpha.example/v1/chat/completions", strings.NewReader(request))
	if err != nil {
		return "", err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

// TestIdleConnectionsExpire runs on a clock of its own.
func TestIdleConnectionsExpire(t *testing.T) {
	server := serveRaw(t, answerEach(wholeReply(chatReply)))
	synctest.Test(t, func(t *testing.T) {
		c := New(Options{IdleTimeout: time.Minute})
		defer c.Close()
		call := newCall(t, server.url, chatRequest)
		ask := func() {
			answer, err := c.Do(t.Context(), call)
			if err != nil {
				t.Fatal(err)
			}
			answer.Close()
		}
		ask()
		time.Sleep(plainIdle - time.Second)
		ask()
		if n := server.accepted.Load(); n != 1 {
			t.Errorf("%d connections before the time is over", n)
		}
		time.Sleep(3 * time.Minute)
		if n := idleCount(c); n != 0 {
			t.Errorf("%d idle connections after their time", n)
		}
		ask()
		if n := server.accepted.Load(); n != 2 {
			t.Errorf("%d connections after the time is over", n)
		}
	})
}

func idleCount(c *Client) int {
	pool := c.private.plain.(*plainTransport)
	pool.mu.Lock()
	defer pool.mu.Unlock()
	n := 0
	for _, list := range pool.idle {
		n += len(list)
	}
	return n
}

func TestIdleConnectionsAreBounded(t *testing.T) {
	const calls, kept = 8, 3
	var together sync.WaitGroup
	together.Add(calls)
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		together.Done()
		together.Wait()
		answerWith(200, "application/json", chatReply)(w, r)
	})
	c := newClient(t, Options{IdlePerHost: kept})
	var group sync.WaitGroup
	for range calls {
		group.Go(func() {
			answer, err := c.Do(t.Context(), newCall(t, url, chatRequest))
			if err != nil {
				t.Error(err)
				return
			}
			answer.Close()
		})
	}
	group.Wait()
	if n := idleCount(c); n != kept {
		t.Errorf("%d idle connections, want %d", n, kept)
	}
	c.Close()
	if n := idleCount(c); n != 0 {
		t.Errorf("%d idle connections after Close", n)
	}
}

// TestConcurrentUse looks for answers that reach the wrong caller.
func TestConcurrentUse(t *testing.T) {
	eachTransport(t, func(t *testing.T, c *Client) {
		url := serve(t, func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			w.Header().Set("Content-Type", "application/json")
			if len(body)%3 == 0 {
				w.(http.Flusher).Flush() // chunked
			}
			_, _ = w.Write(body)
		})
		var group sync.WaitGroup
		for worker := range 8 {
			group.Go(func() {
				for i := range 100 {
					request := fmt.Sprintf(`{"messages":[],"model":"alpha-large","n":1,"user":"%d-%s"}`, worker, strings.Repeat("x", i))
					ctx, cancel := context.WithCancel(t.Context())
					if i%7 == 0 {
						cancel()
					}
					answer, err := c.Do(ctx, newCall(t, url, request))
					if err == nil {
						if string(answer.Body) != request {
							t.Errorf("asked %s, got %s", request, answer.Body)
						}
						answer.Close()
					} else if i%7 != 0 {
						t.Error(err)
					}
					cancel()
				}
			})
		}
		group.Wait()
	})
}

func TestRequestsThatCanNotBeSent(t *testing.T) {
	transport := newPlainTransport(func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, server); _ = server.Close() }()
		return client, nil
	}, Options{}.withDefaults())
	for name, spoil := range map[string]func(*http.Request){
		"header value":     func(r *http.Request) { r.Header.Set("X-A", "b\r\nX-Evil: 1") },
		"header name":      func(r *http.Request) { r.Header["X A"] = []string{"b"} },
		"framing header":   func(r *http.Request) { r.Header.Set("Transfer-Encoding", "chunked") },
		"host":             func(r *http.Request) { r.Host = "a b" },
		"path":             func(r *http.Request) { r.URL.Opaque = "/a b\r\n" },
		"shorter body":     func(r *http.Request) { r.ContentLength++ },
		"longer body":      func(r *http.Request) { r.ContentLength-- },
		"unknown length":   func(r *http.Request) { r.ContentLength = -1 },
		"another method":   func(r *http.Request) { r.Method = "GET" },
		"another scheme":   func(r *http.Request) { r.URL.Scheme = "https" },
		"large and longer": func(r *http.Request) { r.ContentLength = inlineBody + 1 },
	} {
		req, err := http.NewRequest(http.MethodPost, "http://alpha.example/", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		spoil(req)
		if resp, err := transport.RoundTrip(req); err == nil {
			_ = resp.Body.Close()
			t.Errorf("%s: was sent", name)
		}
	}
}
