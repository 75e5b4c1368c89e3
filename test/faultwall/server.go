package faultwall

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
)

// Prefill is what a server makes of the beginning of an answer in a request.
type Prefill int

// What servers do.
const (
	Honour Prefill = iota // goes on behind it
	Refuse                // answers 400
	Ignore                // answers from the start
)

// Server is one wall. It is safe for concurrent use.
type Server struct {
	address string
	served  sync.WaitGroup

	mu       sync.Mutex
	listener *net.TCPListener // nil while it is down
	life     context.Context  // of what runs until it goes down
	end      context.CancelFunc
	conns    map[*net.TCPConn]bool
	closed   bool

	choose  func(call int, r *Request) Fault
	early   Fault // strikes before a request is read; without a name: none
	prefill Prefill
	voice   string
	gate    func(ctx context.Context, piece int)

	requests []*Request
	calls    int
	active   int
}

// Listen starts a server on a free port of the loopback interface. It is well.
func Listen() (*Server, error) {
	s := &Server{conns: map[*net.TCPConn]bool{}}
	s.Heal()
	var err error
	for range 50 {
		// Below the ports that the system hands out to clients, so that nobody takes it while the server is down.
		s.address = fmt.Sprintf("127.0.0.1:%d", 20_000+rand.IntN(12_000))
		if err = s.Revive(); err == nil {
			return s, nil
		}
	}
	return nil, err
}

// URL is the base URL for clients, up to the version.
func (s *Server) URL() string { return "http://" + s.address + "/v1" }

// Fail makes every call fail in one way from now on.
func (s *Server) Fail(f Fault) {
	s.Script(func(int, *Request) Fault { return f })
	s.mu.Lock()
	if f.early {
		s.early = f
	}
	s.mu.Unlock()
	if f.down {
		s.Kill()
	}
}

// Heal ends every failure but Kill's.
func (s *Server) Heal() { s.Script(func(int, *Request) Fault { return Fault{} }) }

// Script chooses the fault of each call, by its number from 0 and what it asks. Faults that strike before
// a request is read can not be chosen.
func (s *Server) Script(choose func(call int, r *Request) Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.choose, s.early = choose, Fault{}
}

// Prefills says what the server makes of the beginning of an answer.
func (s *Server) Prefills(p Prefill) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.prefill = p
}

// Speak gives the server another voice: other texts than the other servers give. Empty: the common one.
func (s *Server) Speak(voice string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.voice = voice
}

// Gate is called before each piece of content of a stream. The context ends when the server goes down.
func (s *Server) Gate(wait func(ctx context.Context, piece int)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gate = wait
}

// Calls is how many calls there were. Only those that a fault let in count with their request.
func (s *Server) Calls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

// Requests are the calls that were read, in the order of their arrival.
func (s *Server) Requests() []*Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*Request(nil), s.requests...)
}

// Active is how many calls are being answered.
func (s *Server) Active() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.active
}

// Connections is how many connections are open, used or not.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Kill ends the server as a power cut would: the listener is gone, so that connections are refused, and
// every connection is reset.
func (s *Server) Kill() {
	s.mu.Lock()
	if s.listener != nil {
		_ = s.listener.Close()
		s.listener = nil
	}
	for c := range s.conns {
		reset(c)
	}
	clear(s.conns)
	s.end() // last, so that what wakes up has nobody left to talk to
	s.mu.Unlock()
}

// Revive listens again, at the same address.
func (s *Server) Revive() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	address, err := net.ResolveTCPAddr("tcp4", s.address)
	if err != nil {
		return err
	}
	l, err := net.ListenTCP("tcp4", address)
	if err != nil {
		return err
	}
	s.listener = l
	s.life, s.end = context.WithCancel(context.Background())
	life := s.life
	s.served.Go(func() { s.accept(life, l) })
	return nil
}

// Close ends the server for good and waits until nothing of it is left.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.Kill()
	s.served.Wait()
}

func (s *Server) accept(life context.Context, l *net.TCPListener) {
	for {
		conn, err := l.AcceptTCP()
		if err != nil {
			return
		}
		s.mu.Lock()
		up := s.listener == l
		if up {
			s.conns[conn] = true
			s.served.Go(func() { s.serve(life, conn) })
		}
		s.mu.Unlock()
		if !up {
			reset(conn)
		}
	}
}

// reset closes a connection so that the other side gets RST instead of FIN.
func reset(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}

// serve answers the calls of one connection.
func (s *Server) serve(life context.Context, conn *net.TCPConn) {
	defer func() {
		_ = conn.Close()
		s.mu.Lock()
		delete(s.conns, conn)
		s.mu.Unlock()
	}()
	in := bufio.NewReader(conn)
	if f, struck := s.strikeEarly(); struck {
		f.play(&exchange{Server: s, conn: conn, in: in, life: life, request: &Request{}})
		s.leave()
		return
	}
	for {
		call, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		body, err := io.ReadAll(call.Body)
		if err != nil {
			return
		}
		x := &exchange{Server: s, conn: conn, in: in, life: life}
		if call.Method == http.MethodGet { // a probe: whatever else fails, the list of models is there
			x.reply(http.StatusOK, "application/json", `{"object":"list","data":[]}`)
			continue
		}
		request, err := Read(call.URL.Path, body)
		if err != nil {
			x.reply(http.StatusBadRequest, "application/json", failure("The body is not valid JSON.", "invalid_request_error", ""))
			return
		}
		request.Header = call.Header
		x.request = request
		f := s.enter(request, x)
		again := f.perform(x)
		s.leave()
		if !again || call.Close {
			return
		}
	}
}

func (s *Server) strikeEarly() (Fault, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.early.Name == "" {
		return Fault{}, false
	}
	s.calls++
	s.active++
	return s.early, true
}

// enter notes a call and chooses its fault.
func (s *Server) enter(r *Request, x *exchange) Fault {
	s.mu.Lock()
	call := s.calls
	s.calls++
	s.active++
	s.requests = append(s.requests, r)
	x.gate = s.gate
	if x.prefill = s.prefill; s.voice != "" {
		r.question = append(r.question, s.voice)
	}
	choose := s.choose
	s.mu.Unlock()
	return choose(call, r)
}

func (s *Server) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.active--
}

// errGone says that the client has left.
var errGone = errors.New("the client has left")
