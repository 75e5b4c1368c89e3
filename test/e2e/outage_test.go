package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// line is a TCP connection to a server that can be cut and mended, as a network is.
type line struct {
	net.Listener
	to    string
	mu    sync.Mutex
	cut   bool
	conns map[net.Conn]bool
}

func newLine(t *testing.T, to string) *line {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &line{Listener: l, to: to, conns: map[net.Conn]bool{}}
	t.Cleanup(func() { _ = l.Close(); n.set(true) })
	go n.accept()
	return n
}

func (n *line) accept() {
	for {
		in, err := n.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", n.to)
		if err != nil || !n.add(in, out) {
			_ = in.Close()
			if out != nil {
				_ = out.Close()
			}
			continue
		}
		go pass(in, out)
		go pass(out, in)
	}
}

func pass(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	_ = to.Close()
	_ = from.Close()
}

func (n *line) add(conns ...net.Conn) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range conns {
		n.conns[c] = true
	}
	return !n.cut
}

// set cuts the line, breaking what runs over it, or mends it.
func (n *line) set(cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut = cut
	if cut {
		for c := range n.conns {
			_ = c.Close()
		}
		clear(n.conns)
	}
}

// throughLine gives the database of a URL another address, and makes a fresh database for the test.
func throughLine(t *testing.T, database string) (cuttable string, n *line) {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	n = newLine(t, u.Host)
	u.Host = n.Addr().String()
	return u.String(), n
}

// A database that is away costs no request and no record.
func TestADatabaseThatIsAwayCostsNothing(t *testing.T) {
	slow(t)
	database, wire := throughLine(t, freshDatabase(t, postgres(t)))
	config := configure(t, "database: "+database, simulated)
	g := serve(t, config)

	stop := make(chan struct{})
	time.AfterFunc(1*time.Second, func() { wire.set(true) })
	time.AfterFunc(6*time.Second, func() { close(stop) })
	received, failed := load(t, g.URL, 8, stop)
	if failed > 0 {
		t.Errorf("%d requests failed while the database was away", failed)
	}
	if resp, err := http.Get(g.URL + "/readyz"); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("not ready without a database: %v, %v", resp, err)
	}

	wire.set(false)
	end := time.Now().Add(20 * time.Second)
	for n := 0; n != len(received); n = g.requests(t) {
		if time.Now().After(end) {
			t.Fatalf("%d records of %d answers\n%s", n, len(received), tail(g.log.String(), 2000))
		}
		<-time.After(100 * time.Millisecond)
	}
	t.Logf("%d answers, 5 s of them without a database, each with its record", len(received))
}

// A change on one replica reaches the others within 2 s, without any signal between them.
func TestAChangeReachesTheOtherReplica(t *testing.T) {
	slow(t)
	database := freshDatabase(t, postgres(t))
	one := serve(t, configure(t, "database: "+database, simulated))
	two := serve(t, configure(t, "database: "+database, simulated))

	created := one.command(t, "keys", "create", "--organization", "acme", "--project", "app", "--name", "new", "--json")
	secret := field(t, created, "secret")
	status := func() int {
		r, _ := http.NewRequest(http.MethodGet, two.URL+"/v1/models", nil)
		r.Header.Set("Authorization", "Bearer "+secret)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	awaitStatus := func(want int) {
		t.Helper()
		changed := time.Now()
		for status() != want {
			if time.Since(changed) > 2*time.Second {
				t.Fatalf("not %d after 2 s", want)
			}
			<-time.After(20 * time.Millisecond)
		}
	}
	awaitStatus(http.StatusOK)
	one.command(t, "keys", "revoke", field(t, created, "id"))
	awaitStatus(http.StatusUnauthorized)
}

// field takes a string member out of a JSON text.
func field(t *testing.T, text, name string) string {
	t.Helper()
	_, rest, ok := strings.Cut(text, fmt.Sprintf("%q:", name))
	if !ok {
		t.Fatalf("no %q in %s", name, text)
	}
	_, rest, _ = strings.Cut(rest, `"`)
	value, _, _ := strings.Cut(rest, `"`)
	return value
}
