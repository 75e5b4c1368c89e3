//go:build unix

package upstream

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"shareai/internal/egress"
	"shareai/internal/openai"
)

// fastServer answers every request with the same bytes, from as little code as possible, so that
// the figures are the client's.
func fastServer(b *testing.B, reply string) string {
	b.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go answerAll(conn, reply)
		}
	}()
	return "http://" + listener.Addr().String()
}

func answerAll(conn net.Conn, reply string) {
	defer conn.Close()
	r := bufio.NewReaderSize(conn, 64<<10)
	for {
		length := 0
		for {
			line, err := r.ReadSlice('\n')
			if err != nil {
				return
			}
			if len(line) == 2 {
				break
			}
			if v, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
				length, _ = strconv.Atoi(string(bytes.TrimSpace(v)))
			}
		}
		if _, err := r.Discard(length); err != nil {
			return
		}
		if _, err := io.WriteString(conn, reply); err != nil {
			return
		}
	}
}

// cpu reports the user and system time of the process for each operation: the server's part is in
// it, and the same for all.
func cpu(b *testing.B) func() {
	var before, after syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &before)
	return func() {
		_ = syscall.Getrusage(syscall.RUSAGE_SELF, &after)
		spent := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
		b.ReportMetric(float64(spent)/1e3/float64(b.N), "cpu-µs/op")
	}
}

// BenchmarkUnary compares the transports by themselves and within Do.
func BenchmarkUnary(b *testing.B) {
	for _, size := range []int{300, 10_000, 100_000} {
		base := fastServer(b, wholeReply(chatReply+strings.Repeat(" ", 600)))
		body := sizedRequest(size)
		payload := []byte(body)
		options := Options{}.withDefaults()
		out := newEgress(egress.AnywhereBut, nil, nil)
		standard, plain := newTransport(out, options), newPlainTransport(out.dial, options)
		for name, transport := range map[string]carrier{"nethttp": standard, "plain": plain} {
			b.Run(fmt.Sprintf("%d/%s", size, name), func(b *testing.B) {
				defer transport.CloseIdleConnections()
				b.ReportAllocs()
				defer cpu(b)()
				for b.Loop() {
					req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, base+"/v1/chat/completions", bytes.NewReader(payload))
					if err != nil {
						b.Fatal(err)
					}
					resp, err := transport.RoundTrip(req)
					if err != nil {
						b.Fatal(err)
					}
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
				}
			})
			plain.closed = false
		}
		b.Run(fmt.Sprintf("%d/do", size), func(b *testing.B) {
			client := newClient(b, Options{})
			call := newCall(b, base+"/v1", body)
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			b.ReportAllocs()
			defer cpu(b)()
			for b.Loop() {
				answer, err := client.Do(ctx, call)
				if err != nil {
					b.Fatal(err)
				}
				answer.Close()
			}
		})
	}
}

// BenchmarkStream reads streams of 100 chunks that arrive in bunches; an operation is one chunk.
func BenchmarkStream(b *testing.B) {
	const chunks = 100
	var stream strings.Builder
	stream.WriteString("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
	for range chunks - 1 {
		event := string(openai.AppendEvent(nil, []byte(`{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"word"},"finish_reason":null}]}`)))
		fmt.Fprintf(&stream, "%x\r\n%s\r\n", len(event), event)
	}
	done := string(openai.AppendDone(nil))
	fmt.Fprintf(&stream, "%x\r\n%s\r\n0\r\n\r\n", len(done), done)
	base := fastServer(b, stream.String())
	options := Options{}.withDefaults()
	out := newEgress(egress.AnywhereBut, nil, nil)
	for name, transport := range map[string]carrier{"nethttp": newTransport(out, options), "plain": newPlainTransport(out.dial, options)} {
		b.Run(name, func(b *testing.B) {
			client := newClient(b, Options{})
			client.private.plain = transport
			call := newCall(b, base+"/v1", `{"messages":[],"model":"chat","stream":true}`)
			b.ReportAllocs()
			defer cpu(b)()
			left := 0
			var answer *Answer
			var err error
			for b.Loop() {
				if left == 0 {
					if answer, err = client.Do(b.Context(), call); err != nil {
						b.Fatal(err)
					}
					left = chunks
				}
				if _, err := answer.Stream.Next(); err != nil {
					b.Fatal(err)
				}
				if left--; left == 0 {
					answer.Close()
				}
			}
			if left > 0 {
				answer.Close()
			}
		})
	}
}
