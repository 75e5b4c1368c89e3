package upstream

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"testing"
)

// FuzzAnswer gives any bytes as an answer. Whatever the plain transport takes for a whole answer, net/http
// must read in the same way: where the two differ, one of them could be made to mix up answers.
func FuzzAnswer(f *testing.F) {
	for _, wire := range wires {
		f.Add([]byte(wire.text))
	}
	f.Add([]byte(wholeStream))
	f.Add([]byte("HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\nabc"))
	f.Add([]byte("HTTP/1.0 200 OK\r\n\r\nuntil the end"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n"))
	f.Fuzz(func(t *testing.T, answer []byte) {
		conn, server := net.Pipe()
		go func() {
			go func() { _, _ = io.Copy(io.Discard, server) }()
			_, _ = server.Write(answer)
			_ = server.Close()
		}()
		got, err := exchangeOver(conn, "{}")
		if err != nil {
			return
		}
		want, err := standardBody(answer)
		if err != nil {
			t.Fatalf("taken for a whole answer with body %q, but net/http says %v", got, err)
		}
		if got != want {
			t.Fatalf("body %q, net/http reads %q", got, want)
		}
	})
}

// standardBody is the body of the final answer as net/http reads it.
func standardBody(answer []byte) (string, error) {
	r := bufio.NewReader(bytes.NewReader(answer))
	for {
		resp, err := http.ReadResponse(r, &http.Request{Method: http.MethodPost})
		if err != nil {
			return "", err
		}
		if resp.StatusCode < 200 {
			continue
		}
		body, err := io.ReadAll(resp.Body)
		return string(body), err
	}
}

// FuzzHead looks for heads that are taken although net/http refuses them, and for a disagreement about
// what a head says.
func FuzzHead(f *testing.F) {
	for _, wire := range wires {
		if end := bytes.Index([]byte(wire.text), []byte("\r\n\r\n")); end > 0 {
			f.Add(wire.text[:end+4])
		}
	}
	f.Add("HTTP/1.1 200 OK\r\nA: b\r\na: c\r\nConnection: close, x\r\n\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		h, err := parseHead(text)
		if err != nil {
			return
		}
		resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader([]byte(text))), &http.Request{Method: http.MethodPost})
		if err != nil {
			t.Fatalf("taken, but net/http says %v", err)
		}
		if resp.StatusCode != h.status || resp.ProtoMinor != h.minor {
			t.Fatalf("status %d of HTTP/1.%d, net/http reads %d of 1.%d", h.status, h.minor, resp.StatusCode, resp.ProtoMinor)
		}
		if h.status >= 200 && !h.chunked && h.length >= 0 && resp.ContentLength != h.length {
			t.Fatalf("length %d, net/http reads %d", h.length, resp.ContentLength)
		}
		if chunked := len(resp.TransferEncoding) == 1; h.status >= 200 && h.length != 0 && chunked != h.chunked {
			t.Fatalf("chunked %v, net/http reads %v", h.chunked, chunked)
		}
		if h.keepAlive && resp.Close {
			t.Fatal("kept, but net/http closes")
		}
		for name, values := range resp.Header {
			if name != "Connection" && name != "Content-Length" && len(h.header[name]) != len(values) {
				t.Fatalf("header %s: %q, net/http reads %q", name, h.header[name], values)
			}
		}
	})
}
