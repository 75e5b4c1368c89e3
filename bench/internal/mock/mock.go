// Package mock is the upstream of the benchmarks: a fast stand-in for an
// OpenAI-compatible API whose timing can be changed while it serves.
//
// It shares the machine with what is measured, so requests are parsed by net/http
// but answers are rendered in advance and written straight to the connection.
//
//	POST …/chat/completions   one fixed answer of about 1 kB, or a stream
//	POST …/embeddings         one vector
//	GET  …/models
//	GET  /_mock/set?…         the timing of chat answers from now on, see ParseBehaviour
package mock

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Behaviour is the timing of chat answers.
type Behaviour struct {
	Latency time.Duration // before the head of the answer
	Chunks  int           // content chunks in a stream, at least 1
	Gap     time.Duration // between the content chunks; 0 is as fast as they go
	Stamp   bool          // the text of a chunk tells when it was sent: "@" and 19 digits of Unix nanoseconds
}

// ParseBehaviour reads latency, chunks, gap and stamp. What is not named is as in
// a fresh mock: no latency, 100 chunks, no gap, no stamp.
func ParseBehaviour(q url.Values) (Behaviour, error) {
	b := Behaviour{Chunks: 100}
	for key := range q {
		var err error
		switch value := q.Get(key); key {
		case "latency":
			b.Latency, err = time.ParseDuration(value)
		case "gap":
			b.Gap, err = time.ParseDuration(value)
		case "chunks":
			b.Chunks, err = strconv.Atoi(value)
		case "stamp":
			b.Stamp, err = strconv.ParseBool(value)
		default:
			err = errors.New("unknown; there are latency, chunks, gap and stamp")
		}
		if err != nil {
			return Behaviour{}, fmt.Errorf("setting %s: %w", key, err)
		}
	}
	if b.Chunks < 1 || b.Latency < 0 || b.Gap < 0 {
		return Behaviour{}, errors.New("chunks must be at least 1, latency and gap not negative")
	}
	return b, nil
}

// Server is one listening mock.
type Server struct {
	listener net.Listener
	current  atomic.Pointer[replies]
}

// Listen opens addr, which must be a loopback address.
func Listen(addr string, b Behaviour) (*Server, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	if ip := net.ParseIP(host); !ip.IsLoopback() {
		return nil, fmt.Errorf("%s: the mock listens on loopback addresses only", addr)
	}
	listener, err := net.Listen("tcp", addr) //nolint:noctx // it returns at once
	if err != nil {
		return nil, err
	}
	s := &Server{listener: listener}
	s.current.Store(render(b))
	return s, nil
}

// URL is where the mock is reached, without a path.
func (s *Server) URL() string { return "http://" + s.listener.Addr().String() }

// Close stops listening. Connections that are open end when the client leaves.
func (s *Server) Close() error { return s.listener.Close() }

// Serve answers until Close.
func (s *Server) Serve() error {
	for {
		conn, err := s.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		go s.converse(conn)
	}
}

// converse answers the requests of one connection until one side has enough. An
// error ends it without a word: what came of it is for the client to report.
func (s *Server) converse(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	var body bytes.Buffer
	for {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		body.Reset()
		if _, err := body.ReadFrom(req.Body); err != nil {
			return
		}
		if err := s.answer(conn, req, body.Bytes()); err != nil || req.Close {
			return
		}
	}
}

func (s *Server) answer(conn net.Conn, req *http.Request, body []byte) error {
	now := s.current.Load()
	reply := response(http.StatusNotFound, `{"error":{"message":"no such address","type":"invalid_request_error","param":null,"code":"unknown_url"}}`)
	switch path := req.URL.Path; {
	case path == "/_mock/set":
		reply = s.set(req.URL.Query())
	case req.Method == http.MethodGet && strings.HasSuffix(path, "/models"):
		reply = now.models
	case req.Method == http.MethodPost && strings.HasSuffix(path, "/embeddings"):
		reply = now.embedding
	case req.Method == http.MethodPost && strings.HasSuffix(path, "/chat/completions"):
		if now.Latency > 0 {
			time.Sleep(now.Latency)
		}
		if says(body, "stream") {
			return now.stream(conn, body)
		}
		reply = now.chat
	}
	_, err := conn.Write(reply)
	return err
}

func (s *Server) set(q url.Values) []byte {
	b, err := ParseBehaviour(q)
	if err != nil {
		return response(http.StatusBadRequest, fmt.Sprintf(`{"error":{"message":%q}}`, err))
	}
	s.current.Store(render(b))
	return response(http.StatusOK, fmt.Sprintf(`{"now":%q}`, fmt.Sprintf("%+v", b)))
}

// says tells whether the member is true, in the two usual spellings. A search is
// enough for bodies that the benchmarks wrote, and costs far less than a parser.
func says(body []byte, member string) bool {
	return bytes.Contains(body, []byte(`"`+member+`":true`)) || bytes.Contains(body, []byte(`"`+member+`": true`))
}
