package gateway

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// head is a request's head, for tests that write to a socket.
func head(path string, lines ...string) string {
	return "POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAuthorization: Bearer " + testKey + "\r\n" +
		strings.Join(append(lines, "\r\n"), "\r\n")
}

// dribble gives one byte, says so, and then nothing until it is told to end.
type dribble struct {
	began chan struct{}
	end   chan struct{}
	first bool
}

func (d *dribble) Read(p []byte) (int, error) {
	if !d.first {
		d.first = true
		p[0] = '{'
		return 1, nil
	}
	close(d.began)
	<-d.end
	return 0, errors.New("gone")
}

// A body holds what has come of it, not what was announced, and gives it back.
func TestABodyThatDoesNotComeHoldsLittle(t *testing.T) {
	for name, size := range map[string]int64{"declared": MaxBody, "chunked": -1} {
		t.Run(name, func(t *testing.T) {
			budget := bodyBudget{limit: maxBodiesInFlight}
			held := holding{budget: &budget}
			from := &dribble{began: make(chan struct{}), end: make(chan struct{})}
			done := make(chan error)
			go func() { _, err := readBody(from, size, &held); done <- err }()
			<-from.began
			if used := budget.used.Load(); used > firstRoom {
				t.Errorf("%d bytes are held", used)
			}
			close(from.end)
			if err := <-done; err == nil {
				t.Error("half a body was taken for a whole one")
			}
			held.free()
			if used := budget.used.Load(); used != 0 {
				t.Errorf("%d bytes are held in the end", used)
			}
		})
	}
}

func TestABodyHoldsItsSize(t *testing.T) {
	for _, size := range []int{0, 1, firstRoom - 1, firstRoom, firstRoom + 1, 5*firstRoom + 3} {
		text := strings.Repeat("x", size)
		for _, declared := range []int64{int64(size), -1} {
			budget := bodyBudget{limit: maxBodiesInFlight}
			held := holding{budget: &budget}
			body, err := readBody(iotest.HalfReader(strings.NewReader(text)), declared, &held)
			if err != nil || string(body) != text || budget.used.Load() != int64(size) {
				t.Errorf("%d declared as %d: %d bytes, %d held, %v", size, declared, len(body), budget.used.Load(), err)
			}
		}
	}
}

func TestABodyThatFindsNoRoom(t *testing.T) {
	for _, limit := range []int64{10, firstRoom + 10} { // at once, and on the way
		budget := bodyBudget{limit: limit}
		held := holding{budget: &budget}
		_, err := readBody(strings.NewReader(strings.Repeat("x", 2*firstRoom)), -1, &held)
		if !errors.Is(err, errOverloaded) {
			t.Errorf("limit %d: %v", limit, err)
		}
		held.free()
		if budget.used.Load() != 0 {
			t.Errorf("limit %d: %d bytes are held", limit, budget.used.Load())
		}
	}
}

func TestASmallBodyIsOneAllocation(t *testing.T) {
	budget := bodyBudget{limit: maxBodiesInFlight}
	held := holding{budget: &budget}
	from := strings.NewReader(hi)
	if n := testing.AllocsPerRun(100, func() {
		from.Reset(hi)
		_, _ = readBody(from, int64(len(hi)), &held)
		held.free()
	}); n > 1 {
		t.Errorf("%v allocations", n)
	}
}

// Clients that announce large bodies and send none lock nobody out.
func TestIdleUploadsLockNobodyOut(t *testing.T) {
	e := newEngine(t, saying(200, reply))
	s := newStand(t, nil, e)
	for i := range 40 {
		conn, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		length := fmt.Sprintf("Content-Length: %d", MaxBody)
		if i%2 == 0 {
			length = "Transfer-Encoding: chunked"
		}
		// The 100 says that the handler reads the body: it has its memory.
		if _, err := io.WriteString(conn, head("/v1/chat/completions", length, "Expect: 100-continue")); err != nil {
			t.Fatal(err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.ReadFull(conn, make([]byte, len("HTTP/1.1 100 Continue\r\n\r\n"))); err != nil {
			t.Fatal(err)
		}
	}
	if resp, body := s.post(t, "/v1/chat/completions", hi); resp.StatusCode != 200 {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}

// A client that closed its sending side may still read: it must not take silence for success.
func TestAHalfClosedClientGetsNoEmptySuccess(t *testing.T) {
	stuck := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	for name, c := range map[string]struct {
		body   string
		answer http.HandlerFunc
		begun  bool
	}{
		"unary":                   {hi, stuck, false},
		"stream":                  {hiStream, stuck, false},
		"a stream that has begun": {hiStream, streaming(helloChunk, "WAIT"), true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStand(t, nil, newEngine(t, c.answer))
			conn, err := net.Dial("tcp", s.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
			if _, err := io.WriteString(conn, head("/v1/chat/completions", fmt.Sprintf("Content-Length: %d", len(c.body)))+c.body); err != nil {
				t.Fatal(err)
			}
			var answer []byte
			for c.begun && !strings.Contains(string(answer), "Hello") {
				part := make([]byte, 4096)
				n, err := conn.Read(part)
				if err != nil {
					t.Fatal(err)
				}
				answer = append(answer, part[:n]...)
			}
			_ = conn.(*net.TCPConn).CloseWrite()
			rest, _ := io.ReadAll(conn)
			answer = append(answer, rest...)
			switch {
			case c.begun && strings.HasSuffix(string(answer), "\r\n0\r\n\r\n"), c.begun && strings.Contains(string(answer), "X-Shareai-Cost: "):
				t.Errorf("the stream ends cleanly: %s", answer)
			case !c.begun && (!strings.HasPrefix(string(answer), "HTTP/1.1 499 ") || !strings.Contains(string(answer), "client_closed_request")):
				t.Errorf("answer %q", answer)
			}
			r := s.book.last(t)
			if r.Status != 499 || r.BytesOut == 0 {
				t.Errorf("record: status %d, %d bytes out", r.Status, r.BytesOut)
			}
		})
	}
}

// Every path is answered in OpenAI's shape; none is redirected.
func TestUncleanPathsAreNotRedirected(t *testing.T) {
	s := newStand(t, nil, newEngine(t, saying(200, reply)))
	for _, path := range []string{"/v1//chat/completions", "/v1/../v1/models", "/v1/./models", "//v1/models", "/v1/models/.", "/v1/chat/completions//"} {
		answer := raw(t, s, head(path, "Content-Length: 0"))
		top, body, _ := strings.Cut(answer, "\r\n\r\n")
		if !strings.HasPrefix(top, "HTTP/1.1 404 ") || !strings.Contains(top, "\r\nX-Request-Id: req_") {
			t.Errorf("%s: %s", path, answer)
			continue
		}
		if f := parseFailure(t, body); f.Error.Code != "unknown_url" {
			t.Errorf("%s: %s", path, body)
		}
	}
}

func TestEmbeddingsAreNotStreamed(t *testing.T) {
	e := newEngine(t, saying(200, reply))
	s := newStand(t, nil, e)
	resp, body := s.post(t, "/v1/embeddings", `{"model":"llama","input":"hi","stream":true}`)
	if f := parseFailure(t, body); resp.StatusCode != 400 || f.Error.Param != "stream" || e.calls() != 0 {
		t.Errorf("%d %s after %d calls", resp.StatusCode, body, e.calls())
	}
	if r := s.book.last(t); r.Status != 400 {
		t.Errorf("record %+v", r)
	}
}

// A defect between the record and the answer leaves no answer; that is not an empty success.
func TestAPanicWhileSettlingIsNoEmptySuccess(t *testing.T) {
	s := newStand(t, nil, newEngine(t, saying(200, reply)))
	s.gateway.Observers = []Observer{spoiled{}}
	if answer := raw(t, s, head("/v1/chat/completions", fmt.Sprintf("Content-Length: %d", len(hi)))+hi); answer != "" {
		t.Errorf("answer %q", answer)
	}
}
