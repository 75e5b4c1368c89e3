// Command minimal is the yardstick of the benchmarks: the least that a gateway
// written in Go with the standard library can do. It reads the request, finds the
// model in it, forwards it with a key of its own, and copies the answer back,
// flushing a stream as it comes. It knows no clients, limits, retries or records.
package main

import (
	"bytes"
	"flag"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/tidwall/gjson"
)

// maxBody is the largest request body in bytes.
const maxBody = 32 << 20

func main() {
	log.SetFlags(0)
	log.SetPrefix("minimal: ")
	addr := flag.String("addr", "127.0.0.1:9101", "address to listen on")
	upstream := flag.String("upstream", "http://127.0.0.1:9001", "where requests go")
	flag.Parse()
	const idle = 4096 // one upstream connection for each of the slow streams, kept
	p := &proxy{
		upstream: *upstream,
		transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
			MaxIdleConns:        idle,
			MaxIdleConnsPerHost: idle,
			IdleConnTimeout:     90 * time.Second,
			DisableCompression:  true,
		},
		buffers: sync.Pool{New: func() any { return new([32 << 10]byte) }},
	}
	server := &http.Server{Addr: *addr, Handler: p, ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(server.ListenAndServe())
}

type proxy struct {
	upstream  string
	transport http.RoundTripper
	buffers   sync.Pool // of *[32 << 10]byte
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := readBody(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if r.Method == http.MethodPost && gjson.GetBytes(body, "model").Str == "" {
		http.Error(w, "model is missing", http.StatusBadRequest)
		return
	}
	out, err := http.NewRequestWithContext(r.Context(), r.Method, p.upstream+r.URL.Path, bytes.NewReader(body))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	out.Header.Set("Content-Type", r.Header.Get("Content-Type"))
	out.Header.Set("Authorization", "Bearer sk-upstream")
	resp, err := p.transport.RoundTrip(out)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	maps.Copy(w.Header(), resp.Header)
	w.WriteHeader(resp.StatusCode)
	p.relay(w, resp)
}

func readBody(r *http.Request) ([]byte, error) {
	if r.ContentLength < 0 || r.ContentLength > maxBody {
		return io.ReadAll(io.LimitReader(r.Body, maxBody))
	}
	body := make([]byte, r.ContentLength)
	_, err := io.ReadFull(r.Body, body)
	return body, err
}

// relay copies the body; a stream is flushed after every read. An answer that
// breaks off upstream breaks off here too.
func (p *proxy) relay(w http.ResponseWriter, resp *http.Response) {
	flush := func() error { return nil }
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		flush = http.NewResponseController(w).Flush
	}
	buf := p.buffers.Get().(*[32 << 10]byte)
	defer p.buffers.Put(buf)
	for {
		n, err := resp.Body.Read(buf[:])
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return
			}
			if err := flush(); err != nil {
				return
			}
		}
		if err == io.EOF {
			return
		}
		if err != nil {
			panic(http.ErrAbortHandler)
		}
	}
}
