package upstream

import (
	"bufio"
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"shareai/internal/catalog"
	"shareai/internal/egress"
)

func TestGuards(t *testing.T) {
	const no, private, yes = "nowhere", "private only", "anywhere"
	public := egress.PublicOnly()
	for address, want := range map[string]string{
		"8.8.8.8": yes, "2606:4700::1111": yes, "100.63.255.255": yes, "172.32.0.1": yes,
		"127.0.0.1": private, "127.9.9.9": private, "10.0.0.1": private, "172.16.0.1": private, "172.31.255.255": private,
		"192.168.1.1": private, "100.64.0.1": private, "100.127.255.255": private, "198.18.0.1": private,
		"::1": private, "fc00::1": private, "fd12:3456::1": private, "fe80::1": private, "fe80::1%eth0": private,
		"::ffff:10.0.0.1": private, "::ffff:127.0.0.1": private, "64:ff9b::10.0.0.1": private, "2002:7f00:1::": private,
		"64:ff9b::8.8.8.8": private, "2001:db8::1": private, "::7f00:1": private, "::ffff:0:127.0.0.1": private,
		"0.0.0.0": no, "0.1.2.3": no, "::": no, "224.0.0.1": no, "239.255.255.255": no, "240.0.0.1": no,
		"255.255.255.255": no, "ff02::1": no, "ff0e::1": no, "ff02::1%eth0": no,
		"169.254.169.254": no, "169.254.170.2": no, "169.254.0.1": no, "168.63.129.16": no, "100.100.100.200": no,
		"192.0.0.192": no, "fd00:ec2::254": no, "fd00:ec2::23": no, "fd20:ce::254": no, "fe80::a9fe:a9fe%eth0": no,
		"::ffff:169.254.169.254": no, "::ffff:0:0": no, "64:ff9b::169.254.169.254": no, "64:ff9b:1::a9fe:a9fe": no,
		"2002:a9fe:a9fe::1": no, "::a9fe:a9fe": no, "::ffff:0:169.254.169.254": no, "2001:0:1:2:3:4:5:6": no,
		"2002:0:0::1": no,
	} {
		addr := netip.MustParseAddr(address)
		got := no
		if egress.AnywhereBut(addr) == nil {
			got = private
		}
		if err := public(addr); err == nil {
			if got == no {
				t.Errorf("%s: the public guard lets through what the private one refuses", address)
			}
			got = yes
		} else if !errors.Is(err, egress.ErrRefused) {
			t.Errorf("%s: %v", address, err)
		}
		if got != want {
			t.Errorf("%s may be reached %s, want %s", address, got, want)
		}
	}
}

// nameServer is a resolver whose names a test makes up. What it does not know does not exist.
func nameServer(t *testing.T, look func(name string) []netip.Addr) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if reply := answerName(buf[:n], look); reply != nil {
				_, _ = conn.WriteTo(reply, from)
			}
		}
	}()
	t.Cleanup(func() { _ = conn.Close(); <-done })
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

func answerName(query []byte, look func(name string) []netip.Addr) []byte {
	var m dnsmessage.Message
	if m.Unpack(query) != nil || len(m.Questions) != 1 {
		return nil
	}
	q := m.Questions[0]
	m.Response, m.Additionals = true, nil
	addrs := look(strings.TrimSuffix(q.Name.String(), "."))
	if addrs == nil {
		m.RCode = dnsmessage.RCodeNameError
	}
	for _, addr := range addrs {
		h := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class}
		switch {
		case q.Type == dnsmessage.TypeA && addr.Is4():
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: addr.As4()}})
		case q.Type == dnsmessage.TypeAAAA && addr.Is6():
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AAAAResource{AAAA: addr.As16()}})
		}
	}
	out, err := m.Pack()
	if err != nil {
		return nil
	}
	return out
}

func noNames(string) []netip.Addr { return nil }

// TestNoSpellingReachesThisMachine has a server on every loopback address and tries to reach it
// through a provider that may not be on a private network.
func TestNoSpellingReachesThisMachine(t *testing.T) {
	var hits atomic.Int32
	server := serveRaw(t, func(conn net.Conn, _ *bufio.Reader) { hits.Add(1); _, _ = io.WriteString(conn, wholeReply(chatReply)) })
	port := server.url[strings.LastIndexByte(server.url, ':')+1:]
	resolver := nameServer(t, func(name string) []netip.Addr {
		switch name {
		case "internal.example", "internal.example.":
			return []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1")}
		case "mapped.example":
			return []netip.Addr{netip.MustParseAddr("::ffff:127.0.0.1"), netip.MustParseAddr("64:ff9b::7f00:1")}
		case "metadata.google.internal", "metadata.example":
			return []netip.Addr{netip.MustParseAddr("169.254.169.254"), netip.MustParseAddr("fd00:ec2::254")}
		}
		return nil
	})
	client := newClient(t, Options{Resolver: resolver})
	for _, host := range []string{
		"127.0.0.1", "127.1", "127.0.1", "127.000.000.001", "0177.0.0.1", "0x7f.0.0.1", "0x7f000001", "2130706433", "017700000001",
		"127.0.0.1.", "127.0.0.2", "127.255.255.254", "0", "0.0.0.0", "0x0", "00000000", "localhost", "LOCALHOST", "localhost.", "ip6-localhost",
		"[::1]", "[0:0:0:0:0:0:0:1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:127.0.0.1]", "[::127.0.0.1]",
		"[64:ff9b::127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[fe80::1]", "[fe80::1%25lo]", "[::1%25lo]", "[::ffff:0:127.0.0.1]",
		"10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1", "169.254.169.254", "[fd00:ec2::254]", "2852039166", "0xa9fea9fe",
		"internal.example", "INTERNAL.example", "internal.example.", "mapped.example", "metadata.google.internal", "metadata.example",
		"%31%32%37.0.0.1", "１２７.0.0.1", "127。0。0。1", "⑫7.0.0.1", "127.0.0.1%00.example.com", "user@127.0.0.1", "user:pass@127.0.0.1",
		"example.com@127.0.0.1", "127.0.0.1#@example.com", "127.0.0.1?@example.com", "127.0.0.1\\@example.com", "[::1]]", "[127.0.0.1]", "",
	} {
		for _, scheme := range []string{"http", "https", "HTTP", "file", "gopher", "unix", "ftp"} {
			call := newCall(t, scheme+"://"+host+":"+port+"/v1", chatRequest)
			call.Provider.PrivateNetwork = false
			e := failure(t.Context(), t, client, call)
			switch e.Outcome {
			case RefusedAddress, DNSFailed, NotFound:
			default:
				t.Errorf("%s://%s: %v", scheme, host, e)
			}
		}
	}
	if n := hits.Load(); n != 0 {
		t.Errorf("%d connections reached this machine", n)
	}
	call := newCall(t, server.url+"/v1", chatRequest)
	answer, err := client.Do(t.Context(), call)
	if err != nil || hits.Load() != 1 {
		t.Fatalf("the server of this test can not be reached at all: %v", err)
	}
	answer.Close()
}

func TestPrivateNetworkStillHasNoMetadata(t *testing.T) {
	client := newClient(t, Options{Resolver: nameServer(t, func(name string) []netip.Addr {
		return []netip.Addr{netip.MustParseAddr("169.254.169.254"), netip.MustParseAddr("fd00:ec2::254")}
	})})
	for _, base := range []string{
		"http://169.254.169.254", "https://169.254.169.254", "http://[fd00:ec2::254]", "http://[::ffff:169.254.169.254]",
		"http://0.0.0.0:1", "http://[::]:1", "http://224.0.0.1", "http://metadata.google.internal",
	} {
		if e := failure(t.Context(), t, client, newCall(t, base, chatRequest)); e.Outcome != RefusedAddress {
			t.Errorf("%s: %v", base, e)
		}
	}
}

// TestRebinding has a name that is harmless when it is looked up first and not the next time.
func TestRebinding(t *testing.T) {
	eachTransport(t, func(t *testing.T, _ *Client) {
		server := serveRaw(t, answerOnce(strings.Replace(wholeReply(chatReply), "\r\n", "\r\nConnection: close\r\n", 1)))
		port := server.url[strings.LastIndexByte(server.url, ':'):]
		var turned atomic.Bool
		client := newClient(t, Options{Resolver: nameServer(t, func(string) []netip.Addr {
			if turned.Load() {
				return []netip.Addr{netip.MustParseAddr("169.254.169.254")}
			}
			return []netip.Addr{netip.MustParseAddr("127.0.0.1")}
		})})
		if strings.HasSuffix(t.Name(), "nethttp") {
			client.private.plain = client.private.secure
		}
		call := newCall(t, "http://rebind.example"+port, chatRequest)
		answer, err := client.Do(t.Context(), call)
		if err != nil {
			t.Fatal(err)
		}
		answer.Close()
		turned.Store(true)
		if e := failure(t.Context(), t, client, call); e.Outcome != RefusedAddress {
			t.Errorf("after the name has turned: %v", e)
		}
	})
}

func TestMixedAddressesAreCheckedOneByOne(t *testing.T) {
	server := serve(t, answerWith(200, "application/json", chatReply))
	client := newClient(t, Options{Resolver: nameServer(t, func(string) []netip.Addr {
		return []netip.Addr{netip.MustParseAddr("169.254.169.254"), netip.MustParseAddr("127.0.0.1")}
	})})
	answer, err := client.Do(t.Context(), newCall(t, "http://mixed.example"+server[strings.LastIndexByte(server, ':'):], chatRequest))
	if err != nil {
		t.Fatalf("the allowed address was not tried: %v", err)
	}
	answer.Close()
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	var hits atomic.Int32
	inside := serve(t, func(http.ResponseWriter, *http.Request) { hits.Add(1) })
	eachTransport(t, func(t *testing.T, c *Client) {
		for _, status := range []int{301, 302, 303, 307, 308, 300, 304} {
			server := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", inside+"/v1/chat/completions")
				w.WriteHeader(status)
			})
			e := failure(t.Context(), t, c, newCall(t, server, chatRequest))
			if e.Outcome != BadAnswer || e.Status != status || !strings.Contains(e.Message, "redirect") {
				t.Errorf("status %d: %v", status, e)
			}
		}
	})
	if hits.Load() != 0 {
		t.Error("a redirect was followed")
	}
}

func TestThereIsNoProxy(t *testing.T) {
	// net/http reads the environment once for all, so that setting it here would prove nothing.
	if newTransport(&outlet{}, Options{}).Proxy != nil {
		t.Error("a proxy would be asked")
	}
}

func TestConnectFailures(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := listener.Addr().String()
	_ = listener.Close()
	client := newClient(t, Options{Resolver: nameServer(t, noNames)})
	for base, want := range map[string]Outcome{
		"http://" + nobody: ConnectFailed, "https://" + nobody: ConnectFailed,
		"http://nobody.example": DNSFailed, "https://nobody.example": DNSFailed,
	} {
		e := failure(t.Context(), t, client, newCall(t, base, chatRequest))
		if e.Outcome != want || e.Status != 0 || e.Cause == nil {
			t.Errorf("%s: %v, want %s", base, e, want)
		}
		if strings.Contains(e.Message, "127.0.0.1") || strings.Contains(e.Message, "nobody") {
			t.Errorf("the message names the address: %s", e.Message)
		}
	}
}

// deaf accepts connections and never says a word; gone hears when one is closed.
func deaf(t *testing.T, gone chan<- struct{}) (host string) {
	t.Helper()
	server := serveRaw(t, func(conn net.Conn, _ *bufio.Reader) {
		_, _ = io.Copy(io.Discard, conn)
		signal(gone)
	})
	return strings.TrimPrefix(server.url, "http://")
}

// deafResolver never answers; gone hears when a look-up is given up.
func deafResolver(gone chan<- struct{}) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		signal(gone)
		return nil, ctx.Err()
	}}
}

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func TestConnectDeadlineCoversNamesAndTLS(t *testing.T) {
	host := deaf(t, nil)
	for _, base := range []string{"http://slow.example", "https://slow.example", "https://" + host} {
		client := newClient(t, Options{Resolver: deafResolver(nil)})
		call := newCall(t, base, chatRequest)
		call.Connect = 20 * time.Millisecond
		start := time.Now()
		if e := failure(t.Context(), t, client, call); e.Outcome != ConnectTimeout {
			t.Errorf("%s: %v", base, e)
		}
		if took := time.Since(start); took < call.Connect || took > catalog.DefaultConnect {
			t.Errorf("%s: took %s", base, took)
		}
	}
}

// TestCancelWhileConnecting ends calls that no one would ever answer. The dialing ends with the call, and
// not only when the client is closed.
func TestCancelWhileConnecting(t *testing.T) {
	for _, base := range []string{"http://slow.example", "https://slow.example", "https://HOST", "http://HOST"} {
		gone := make(chan struct{}, 1)
		client := newClient(t, Options{Resolver: deafResolver(gone)})
		call := newCall(t, strings.Replace(base, "HOST", deaf(t, gone), 1), chatRequest)
		call.Connect = time.Hour
		ctx, cancel := context.WithCancelCause(t.Context())
		timer := time.AfterFunc(20*time.Millisecond, func() { cancel(HeadersTimeout) })
		start := time.Now()
		e := failure(ctx, t, client, call)
		timer.Stop()
		if e.Outcome != HeadersTimeout || !errors.Is(e, HeadersTimeout) {
			t.Errorf("%s: %v", base, e)
		}
		<-gone
		if took := time.Since(start); took > 4*time.Second { // a look-up ends by itself after 5 s
			t.Errorf("%s: took %s", base, took)
		}
	}
}

// serveTLS is an upstream with a certificate of its own; roots trusts it.
func serveTLS(t *testing.T, handler http.HandlerFunc) (url string, roots *x509.CertPool) {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.EnableHTTP2 = true
	server.Config.ErrorLog = discardLog()
	server.StartTLS()
	t.Cleanup(server.Close)
	roots = x509.NewCertPool()
	roots.AddCert(server.Certificate())
	return server.URL, roots
}

func TestTLS(t *testing.T) {
	var protocol atomic.Value
	url, roots := serveTLS(t, func(w http.ResponseWriter, r *http.Request) {
		protocol.Store(r.Proto)
		answerWith(200, "application/json", chatReply)(w, r)
	})
	client := newClient(t, Options{RootCAs: roots})
	for range 2 {
		answer, err := client.Do(t.Context(), newCall(t, url+"/v1", chatRequest))
		if err != nil {
			t.Fatal(err)
		}
		if string(answer.Body) != chatReply || protocol.Load() != "HTTP/2.0" {
			t.Errorf("%s over %v", answer.Body, protocol.Load())
		}
		answer.Close()
	}
	stranger := newClient(t, Options{RootCAs: x509.NewCertPool()})
	if e := failure(t.Context(), t, stranger, newCall(t, url, chatRequest)); e.Outcome != TLSFailed {
		t.Errorf("an unknown authority: %v", e)
	}
	plain := serve(t, answerWith(200, "application/json", chatReply))
	if e := failure(t.Context(), t, client, newCall(t, strings.Replace(plain, "http:", "https:", 1), chatRequest)); e.Outcome != TLSFailed {
		t.Errorf("a server without TLS: %v", e)
	}
}

// TestLanesShareNoConnection proves that a provider without private_network can not use a connection that
// another one opened.
func TestLanesShareNoConnection(t *testing.T) {
	server := serve(t, answerWith(200, "application/json", chatReply))
	client := newClient(t, Options{})
	answer, err := client.Do(t.Context(), newCall(t, server, chatRequest))
	if err != nil {
		t.Fatal(err)
	}
	answer.Close()
	call := newCall(t, server, chatRequest)
	call.Provider.PrivateNetwork = false
	if e := failure(t.Context(), t, client, call); e.Outcome != RefusedAddress {
		t.Error(e)
	}
}
