package notify

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"net"
	"net/textproto"
	"strings"
	"sync"
	"testing"
)

// mailServer is an SMTP server that takes messages as RFC 5321 says and keeps them.
type mailServer struct {
	t        *testing.T
	listener net.Listener
	tls      *tls.Config // nil: it offers no STARTTLS
	implicit bool
	password string // of user "gateway"; empty: nobody has to sign in

	mu       sync.Mutex
	messages []mailMessage
	deferred int // how many messages it puts off first
}

type mailMessage struct {
	from      string
	to        []string
	data      string
	encrypted bool
	user      string
}

func (s *mailServer) start() (host string, port int) {
	s.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	if s.listener = listener; s.implicit {
		s.listener = tls.NewListener(listener, s.tls)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := s.listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() { s.serve(conn) })
		}
	})
	s.t.Cleanup(func() { _ = s.listener.Close(); all.Wait() })
	return "127.0.0.1", listener.Addr().(*net.TCPAddr).Port
}

func (s *mailServer) received() []mailMessage {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]mailMessage(nil), s.messages...)
}

// serve is one session.
func (s *mailServer) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	m := mailMessage{encrypted: s.implicit}
	text := textproto.NewConn(conn)
	say := func(line string) { _ = text.PrintfLine("%s", line) }
	say("220 test.example ESMTP")
	for {
		line, err := text.ReadLine()
		if err != nil {
			return
		}
		verb, rest, _ := strings.Cut(line, " ")
		switch strings.ToUpper(verb) {
		case "EHLO":
			say("250-test.example")
			if s.tls != nil && !m.encrypted {
				say("250-STARTTLS")
			}
			if s.password != "" {
				say("250-AUTH PLAIN LOGIN")
			}
			say("250 8BITMIME")
		case "STARTTLS":
			say("220 go ahead")
			conn = tls.Server(conn, s.tls)
			text, m = textproto.NewConn(conn), mailMessage{encrypted: true}
		case "AUTH":
			plain, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(rest, "PLAIN "))
			parts := strings.Split(string(plain), "\x00")
			if len(parts) != 3 || parts[2] != s.password {
				say("535 5.7.8 authentication failed")
				continue
			}
			m.user = parts[1]
			say("235 2.7.0 welcome")
		case "MAIL":
			if s.password != "" && m.user == "" {
				say("530 5.7.0 authentication required")
				continue
			}
			m.from, m.to = address(rest), nil
			say("250 2.1.0 ok")
		case "RCPT":
			m.to = append(m.to, address(rest))
			say("250 2.1.5 ok")
		case "DATA":
			say("354 go on")
			data, err := readDot(text.R)
			if err != nil {
				return
			}
			m.data = data
			say(s.take(m))
		case "QUIT":
			say("221 bye")
			return
		case "NOOP", "RSET":
			say("250 ok")
		default:
			say("502 not known")
		}
	}
}

func (s *mailServer) take(m mailMessage) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.deferred > 0 {
		s.deferred--
		return "451 4.3.0 try again later"
	}
	s.messages = append(s.messages, m)
	return "250 2.0.0 taken"
}

func address(rest string) string {
	_, path, _ := strings.Cut(rest, "<")
	path, _, _ = strings.Cut(path, ">")
	return path
}

func readDot(r *bufio.Reader) (string, error) {
	data, err := textproto.NewReader(r).ReadDotBytes()
	return string(data), err
}
