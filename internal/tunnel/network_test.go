package tunnel

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// deadWithin is the promise: a peer that is gone in silence is noticed on both ends.
const deadWithin = 10*time.Second + 1500*time.Millisecond // and what a loaded machine takes

// wall stands between agent and gateway, and can stop passing anything on without closing anything.
type wall struct {
	listener net.Listener
	target   string
	mu       sync.Mutex
	stalled  chan struct{} // closed when everything stalls
	conns    []net.Conn
}

func newWall(t *testing.T, target string) *wall {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wall{listener: listener, target: target, stalled: make(chan struct{})}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", target)
			if err != nil {
				_ = near.Close()
				continue
			}
			w.mu.Lock()
			w.conns = append(w.conns, near, far)
			w.mu.Unlock()
			all.Go(func() { w.pass(near, far) })
			all.Go(func() { w.pass(far, near) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		w.mu.Lock()
		for _, c := range w.conns {
			_ = c.Close()
		}
		w.mu.Unlock()
		all.Wait()
	})
	return w
}

// pass copies until the wall stalls; after that it reads nothing and closes nothing.
func (w *wall) pass(to, from net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		select {
		case <-w.stalled:
			return
		default:
		}
		if err != nil {
			_ = to.Close()
			return
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			_ = from.Close()
			return
		}
	}
}

func TestDeadPeerIsNoticed(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("waits ten seconds")
	}
	in := install(t, 1)
	w := newWall(t, strings.TrimPrefix(in.replicas[0].server.URL, "http://"))
	told := make(chan struct{})
	a := in.run(t, in.keys.enrol(t, "n1"), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		close(told)
	}), func(o *DialerOptions) { o.Gateways = []string{"http://" + w.listener.Addr().String()} })
	in.linked(t, "n1", 1)
	hub := in.replicas[0].hub
	response, err := hub.Transport("n1").RoundTrip(post(t.Context(), t, "/v1/chat/completions", "{}"))
	if err != nil {
		t.Fatal(err)
	}
	link := a.dialer.open()[0]
	_ = w.listener.Close()
	start := time.Now()
	close(w.stalled)
	failed := make(chan error, 1)
	go func() {
		_, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		failed <- err
	}()
	if err := receive(t, "the caller is told", failed); err == nil {
		t.Error("the caller got a whole answer")
	}
	caller := time.Since(start)
	receive(t, "the engine is told", told)
	engine := time.Since(start)
	receive(t, "the agent notices", link.carrier.closed)
	agent := time.Since(start)
	await(t, "the gateway notices", func() bool { return !hub.Look("n1").Linked })
	gateway := time.Since(start)
	t.Logf("caller %v, engine %v, agent %v, gateway %v", caller, engine, agent, gateway)
	if last := max(caller, engine, agent, gateway); last > deadWithin {
		t.Errorf("it took %v", last)
	}
}

// Through a proxy that wants a password, as the environment's HTTPS_PROXY would name it.
func TestThroughAProxy(t *testing.T) {
	t.Parallel()
	in := install(t, 1)
	secure := httptest.NewTLSServer(in.replicas[0].server.Config.Handler)
	t.Cleanup(secure.Close)
	passed := make(chan string, 10)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		want := "Basic " + base64.StdEncoding.EncodeToString([]byte("user:pass"))
		if r.Method != http.MethodConnect || r.Header.Get("Proxy-Authorization") != want {
			http.Error(w, "no", http.StatusProxyAuthRequired)
			return
		}
		far, err := net.Dial("tcp", r.Host)
		if err != nil {
			http.Error(w, "no", http.StatusBadGateway)
			return
		}
		near, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		passed <- r.Host
		_, _ = io.WriteString(near, "HTTP/1.1 200 OK\r\n\r\n")
		go func() {
			_, _ = io.Copy(far, buffered)
			_ = far.Close()
		}()
		_, _ = io.Copy(near, far)
		_ = near.Close()
	}))
	t.Cleanup(proxy.CloseClientConnections)
	t.Cleanup(proxy.Close)
	roots := x509.NewCertPool()
	roots.AddCert(secure.Certificate())
	through := func(user *url.Userinfo) func(*DialerOptions) {
		return func(o *DialerOptions) {
			u, err := url.Parse(proxy.URL)
			if err != nil {
				t.Fatal(err)
			}
			u.User = user
			o.Gateways, o.Proxy, o.RootCAs = []string{secure.URL}, http.ProxyURL(u), roots
		}
	}
	in.run(t, in.keys.enrol(t, "n1"), http.HandlerFunc(echo), through(url.UserPassword("user", "pass")))
	in.linked(t, "n1", 1)
	if status, text := ask(t, in.replicas[0].hub, "n1", "{}"); status != http.StatusOK || text != "{}" {
		t.Errorf("%d %s", status, text)
	}
	if host := receive(t, "the proxy is used", passed); "https://"+host != secure.URL {
		t.Errorf("the proxy was asked for %s", host)
	}
	// Without the password the error says what is wrong.
	options := DialerOptions{Identity: in.keys.enrol(t, "n2"), Board: new(Board), Engine: http.HandlerFunc(echo)}
	through(nil)(&options)
	d, err := NewDialer(options)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.dial(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "Proxy Authentication Required") {
		t.Errorf("without a password: %v", err)
	}
}

// nginxConfiguration is what docs/operations.md recommends, on a free port.
const nginxConfiguration = `
daemon off;
master_process off;
pid %[1]s/pid;
error_log %[1]s/error.log;
events {}
http {
  access_log off;
  client_body_temp_path %[1]s; proxy_temp_path %[1]s; fastcgi_temp_path %[1]s; uwsgi_temp_path %[1]s; scgi_temp_path %[1]s;
  map $http_upgrade $connection_upgrade { default upgrade; '' ''; }
  server {
    listen 127.0.0.1:%[2]s ssl http2;
    ssl_certificate %[1]s/cert.pem;
    ssl_certificate_key %[1]s/key.pem;
    location / {
      proxy_pass %[3]s;
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
      proxy_set_header Host $host;
      proxy_buffering off;
      proxy_read_timeout 8s; # shorter than the default: only the link's own pings keep it open
    }
  }
}
`

func TestThroughNginx(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("needs nginx")
	}
	nginx, err := exec.LookPath("nginx")
	if err != nil {
		t.Fatal("nginx is not installed: apt-get install nginx-light, or run go test -short")
	}
	in := install(t, 1)
	dir := t.TempDir()
	certificate := httptest.NewTLSServer(nil) // for its certificate
	defer certificate.Close()
	writeCertificate(t, dir, &certificate.TLS.Certificates[0])
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(free.Addr().String())
	_ = free.Close()
	configuration := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(configuration, fmt.Appendf(nil, nginxConfiguration, dir, port, in.replicas[0].server.URL), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	server := exec.CommandContext(ctx, nginx, "-p", dir, "-c", configuration)
	server.Stderr = os.Stderr
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		_ = server.Wait()
	})
	roots := x509.NewCertPool()
	roots.AddCert(certificate.Certificate())
	next := make(chan struct{})
	a := in.run(t, in.keys.enrol(t, "n1"), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/streamed" {
			echo(w, r)
			return
		}
		_, _ = io.WriteString(w, "chunk")
		_ = http.NewResponseController(w).Flush()
		<-next
	}), func(o *DialerOptions) { o.Gateways, o.RootCAs = []string{"https://127.0.0.1:" + port}, roots })
	in.linked(t, "n1", 1)
	hub := in.replicas[0].hub
	body := strings.Repeat("x", 1<<20)
	if status, text := ask(t, hub, "n1", body); status != http.StatusOK || text != body {
		t.Errorf("%d, %d bytes", status, len(text))
	}
	response, err := hub.Transport("n1").RoundTrip(post(t.Context(), t, "/v1/streamed", "{}"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(response.Body, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	// A stream that is silent for longer than nginx waits goes on: heartbeats and pings travel beside it.
	link := a.dialer.open()[0]
	select {
	case <-link.carrier.closed:
		t.Error("nginx has closed the link")
	case <-time.After(9 * time.Second):
	}
	close(next)
	if rest, err := io.ReadAll(response.Body); err != nil || len(rest) > 0 {
		t.Errorf("%q, %v", rest, err)
	}
	_ = response.Body.Close()
}

// TestAgainstABlackHole has both ends in network namespaces of their own, and the frames between them lost in silence.
func TestAgainstABlackHole(t *testing.T) {
	t.Parallel()
	if role := os.Getenv("TUNNEL_NETWORK_ROLE"); role != "" {
		playRole(t, role)
		return
	}
	if testing.Short() {
		t.Skip("waits ten seconds")
	}
	if _, err := exec.LookPath("ip"); err != nil || os.Getuid() != 0 {
		t.Skip("needs root and ip(8); TestDeadPeerIsNoticed shows the same without them")
	}
	net := newNamespaces(t)
	gateway := net.play(t, net.gateway, "gateway")
	agent := net.play(t, net.agent, "agent")
	expect(t, gateway, "linked")
	expect(t, agent, "linked")
	start := time.Now()
	net.blackHole(t)
	expect(t, gateway, "lost")
	atGateway := time.Since(start)
	expect(t, agent, "lost")
	t.Logf("gateway %v, agent at most %v", atGateway, time.Since(start))
	if took := time.Since(start); took > deadWithin {
		t.Errorf("it took %v", took)
	}
}

// expect waits for a line.
func expect(t *testing.T, lines <-chan string, want string) {
	t.Helper()
	for {
		if line := receive(t, want, lines); line == want {
			return
		}
	}
}

type namespaces struct{ gateway, agent string }

func newNamespaces(t *testing.T) *namespaces {
	t.Helper()
	suffix := fmt.Sprint(os.Getpid())
	n := &namespaces{gateway: "shareai-g" + suffix, agent: "shareai-a" + suffix}
	for _, command := range []string{
		"netns add " + n.gateway, "netns add " + n.agent,
		"-n " + n.gateway + " link add link0 type veth peer name link0 netns " + n.agent,
		"-n " + n.gateway + " addr add 10.98.0.1/24 dev link0", "-n " + n.agent + " addr add 10.98.0.2/24 dev link0",
		"-n " + n.gateway + " link set link0 up", "-n " + n.agent + " link set link0 up",
	} {
		if out, err := exec.CommandContext(t.Context(), "ip", strings.Fields(command)...).CombinedOutput(); err != nil {
			n.remove(context.WithoutCancel(t.Context()))
			t.Skipf("no network namespaces here: ip %s: %v: %s", command, err, out)
		}
	}
	t.Cleanup(func() { n.remove(context.WithoutCancel(t.Context())) })
	return n
}

func (n *namespaces) remove(ctx context.Context) {
	for _, name := range []string{n.gateway, n.agent} {
		_ = exec.CommandContext(ctx, "ip", "netns", "del", name).Run()
	}
}

// blackHole has each end send to a hardware address that nobody has.
func (n *namespaces) blackHole(t *testing.T) {
	t.Helper()
	for name, peer := range map[string]string{n.gateway: "10.98.0.2", n.agent: "10.98.0.1"} {
		command := exec.CommandContext(t.Context(), "ip", "-n", name, "neigh", "replace", peer, "dev", "link0", "lladdr", "02:00:00:00:00:99", "nud", "permanent")
		if out, err := command.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
}

// play runs this test in a namespace, in one of the roles, and returns the lines that it says.
func (n *namespaces) play(t *testing.T, namespace, role string) <-chan string {
	t.Helper()
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	command := exec.CommandContext(ctx, "ip", "netns", "exec", namespace, os.Args[0], "-test.run=^TestAgainstABlackHole$", "-test.timeout=60s")
	command.Env = append(os.Environ(), "TUNNEL_NETWORK_ROLE="+role)
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 100)
	var reading sync.WaitGroup
	reading.Go(func() {
		for scanner := bufio.NewScanner(out); scanner.Scan(); {
			lines <- scanner.Text()
		}
	})
	t.Cleanup(func() {
		stop()
		reading.Wait()
		_ = command.Wait()
	})
	return lines
}

// playRole is one end, in a process of its own. Both ends know the key.
func playRole(t *testing.T, role string) {
	in := &installation{keys: newKeyring()}
	id := in.keys.fixed("n1")
	if role == "agent" {
		in.front = &httptest.Server{URL: "http://10.98.0.1:8080"}
		a := in.run(t, id, http.HandlerFunc(echo))
		await(t, "it is linked", func() bool { return len(a.dialer.open()) == 1 })
		fmt.Println("linked")
		<-a.dialer.open()[0].carrier.closed
		fmt.Println("lost")
		return
	}
	hub, err := NewHub(HubOptions{Keys: in.keys, Audience: "test", Replica: "r0"})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "10.98.0.1:8080")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = http.Serve(listener, hub) }()
	await(t, "it is linked", func() bool { return hub.Look("n1").Linked })
	fmt.Println("linked")
	await(t, "it is lost", func() bool { return !hub.Look("n1").Linked })
	fmt.Println("lost")
}

func writeCertificate(t *testing.T, dir string, c *tls.Certificate) {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string][2]any{"cert.pem": {"CERTIFICATE", c.Certificate[0]}, "key.pem": {"PRIVATE KEY", key}} {
		text := fmt.Sprintf("-----BEGIN %[1]s-----\n%[2]s\n-----END %[1]s-----\n", block[0], base64.StdEncoding.EncodeToString(block[1].([]byte)))
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
