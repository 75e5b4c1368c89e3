package standby

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
)

// tlsVendor puts a vendor with TLS and HTTP/2 before the rig's stand-by.
func tlsVendor(t *testing.T, h http.HandlerFunc) (*httptest.Server, func(*Options)) {
	t.Helper()
	server := httptest.NewUnstartedServer(h)
	server.EnableHTTP2 = true
	server.Config.ErrorLog = nil
	server.StartTLS()
	t.Cleanup(server.Close)
	return server, func(o *Options) { o.Primary = address(t, server.URL+"/v1") }
}

func TestACertificateThatIsNotTrustedIsAFailure(t *testing.T) {
	_, vendor := tlsVendor(t, vendorWell)
	r := newRig(t, vendor)
	r.ask(chatBody).check(t, http.StatusOK, "gateway", ownReply)
}

func TestAVendorWithHTTP2(t *testing.T) {
	server, vendor := tlsVendor(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch {
		case r.ProtoMajor != 2:
			t.Errorf("it was asked by %s", r.Proto)
		case strings.Contains(string(body), "cut"):
			cut(w, textEvent)
		default:
			events(w, wholeStream)
		}
	})
	r := newRig(t, vendor)
	trusted := x509.NewCertPool()
	trusted.AddCert(server.Certificate())
	r.standby.primary.transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: trusted}
	r.ask(chatStream).check(t, http.StatusOK, "primary", wholeStream)
	if g := r.ask(`{"model":"cut","stream":true,"messages":[]}`); g.err == nil || g.way != "primary" || g.body != textEvent {
		t.Errorf("by %s, %v: %q", g.way, g.err, g.body)
	}
}

// Vendors close connections that were idle for a while, sometimes just as the next request is on its way. That
// is no outage.
func TestAConnectionThatWasClosedMeanwhileIsNoFailure(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var refused atomic.Int64
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() { // one answer for each connection; the next request on it finds it closed
				defer func() { _ = conn.Close() }()
				in := bufio.NewReader(conn)
				for first := true; ; first = false {
					request, err := http.ReadRequest(in)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, request.Body)
					if !first {
						refused.Add(1)
						return
					}
					_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: "+
						strconv.Itoa(len(vendorReply))+"\r\n\r\n"+vendorReply)
				}
			}()
		}
	}()
	defer func() { _ = listener.Close() }()
	r := newRig(t, func(o *Options) { o.Primary = address(t, "http://"+listener.Addr().String()) })
	for range 20 {
		r.ask(chatBody).check(t, http.StatusOK, "primary", vendorReply)
	}
	if refused.Load() == 0 {
		t.Error("no request met a closed connection")
	}
}

func TestTrailersOfTheGatewayArrive(t *testing.T) {
	r := newRig(t)
	r.vendor.Close()
	r.gateway.set(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", "X-Shareai-Cost")
		events(w, ownStream)
		w.Header().Set("X-Shareai-Cost", "0.1")
	})
	response, err := http.DefaultTransport.RoundTrip(r.request(http.MethodPost, chatPath, chatStream))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if _, err := io.ReadAll(response.Body); err != nil || response.Trailer.Get("X-Shareai-Cost") != "0.1" {
		t.Errorf("trailer %v, %v", response.Trailer, err)
	}
}

// BenchmarkUnary is what the stand-by adds to a request: compare the two.
func BenchmarkUnary(b *testing.B) {
	vendor := httptest.NewServer(http.HandlerFunc(vendorWell))
	defer vendor.Close()
	s := New(Options{Primary: address(b, vendor.URL), Gateway: address(b, "http://127.0.0.1:1")})
	defer s.Close()
	front := httptest.NewServer(s)
	defer front.Close()
	for name, base := range map[string]string{"direct": vendor.URL, "standby": front.URL} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				q, err := http.NewRequestWithContext(b.Context(), http.MethodPost, base+chatPath, strings.NewReader(chatBody))
				if err != nil {
					b.Fatal(err)
				}
				q.Header.Set("Authorization", "Bearer k")
				response, err := http.DefaultTransport.RoundTrip(q)
				if err != nil {
					b.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, response.Body)
				_ = response.Body.Close()
			}
		})
	}
}
