package app

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func sha256Base64(s string) string {
	sum := sha256.Sum256([]byte(s))
	return base64.StdEncoding.EncodeToString(sum[:])
}

func newServer(t *testing.T, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func TestStartAndStopLeaveNothingBehind(t *testing.T) {
	provider := newProvider(t)
	for range 2 {
		before := goleak.IgnoreCurrent()
		r := run(t, yaml(provider.URL, "good"), func(s *Settings) { s.AdminListen = "127.0.0.1:0" })
		if got := r.ask(http.MethodPost, "/v1/chat/completions", hello); got.status != 200 {
			t.Fatalf("status %d: %s", got.status, got.body)
		}
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				if err := r.Stop(); err != nil {
					t.Errorf("Stop: %v", err)
				}
			})
		}
		all.Wait()
		if err := r.Stop(); err != nil {
			t.Errorf("another Stop: %v", err)
		}
		provider.CloseClientConnections()
		if err := goleak.Find(before); err != nil {
			t.Errorf("left behind: %v", err)
		}
	}
}

func TestAFailedStartLeavesNothingBehind(t *testing.T) {
	before := goleak.IgnoreCurrent()
	_, err := Start(t.Context(), Settings{
		Listen: "127.0.0.1:0", DataDir: t.TempDir(), Stderr: &output{}, OTLPEndpoint: "not a URL",
	})
	if err == nil || !strings.Contains(err.Error(), "OTLP") {
		t.Errorf("error %v", err)
	}
	if err := goleak.Find(before); err != nil {
		t.Errorf("left behind: %v", err)
	}
}

func TestStopLetsAStreamEndAndKeepsItsRecord(t *testing.T) {
	provider := newProvider(t)
	r := run(t, yaml(provider.URL, "slow"))
	next, _ := r.events(streamed("slow"))
	await(t, next, "one")
	stopped := make(chan error, 1)
	go func() { stopped <- r.Stop() }()
	eventually(t, "the listener is closed", func() bool {
		_, err := client.Get(r.url + "/healthz")
		return err != nil
	})
	if s := r.site.condition.state(); s.Status != unavailable {
		t.Errorf("while stopping readyz says %+v", s)
	}
	provider.next <- struct{}{}
	provider.next <- struct{}{}
	last := ""
	for data := next(); data != ""; data = next() {
		last = data
	}
	if last != "[DONE]" {
		t.Errorf("the stream ended with %q", last)
	}
	if err := <-stopped; err != nil {
		t.Errorf("Stop: %v", err)
	}
	if pending := r.count(t); pending != 1 {
		t.Errorf("%d records are stored", pending)
	}
}

func TestAfterTheGraceRequestsAreCutOffAndKeepTheirRecord(t *testing.T) {
	provider := newProvider(t)
	r := run(t, yaml(provider.URL, "slow"), func(s *Settings) { s.Grace = time.Millisecond })
	next, _ := r.events(streamed("slow"))
	await(t, next, "one")
	if err := r.Stop(); err != nil {
		t.Errorf("Stop: %v", err)
	}
	<-provider.left
	for data := next(); data != ""; data = next() {
		if data == "[DONE]" {
			t.Error("a stream that was cut off ended with [DONE]")
		}
	}
	if n := r.count(t); n != 1 {
		t.Errorf("%d records are stored", n)
	}
}

func TestHandlersAreWaitedForAfterTheirConnectionsAreCut(t *testing.T) {
	r := run(t, "")
	entered, release := make(chan struct{}), make(chan struct{})
	s := &site{log: r.log.logger(), metrics: r.site.metrics, condition: &condition{}, interrupt: func() {}, nodes: r.site.nodes, admin: http.NotFoundHandler(), api: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(entered)
		<-release
	})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.start(l, s.public(), func(err error) { t.Errorf("the listener failed: %v", err) })
	cut := make(chan error, 1)
	go func() {
		_, err := client.Get("http://" + l.Addr().String() + "/v1/x")
		cut <- err
	}()
	<-entered
	drained := make(chan error, 1)
	go func() { drained <- s.drain(t.Context(), time.Millisecond) }()
	if err := <-cut; err == nil {
		t.Error("the request was answered")
	}
	select {
	case err := <-drained:
		close(release)
		t.Fatalf("drained while a handler runs: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(release)
	if err := <-drained; err != nil {
		t.Errorf("drain: %v", err)
	}
}

func TestServeEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ready, ended := make(chan Addresses, 1), make(chan error, 1)
	go func() {
		ended <- Serve(ctx, Settings{
			Listen: "127.0.0.1:0", DataDir: t.TempDir(), Stderr: &output{}, Ready: func(a Addresses) { ready <- a },
		})
	}()
	a := <-ready
	if got := send(t, "GET", "http://"+a.API+"/healthz", ""); got.status != 200 {
		t.Errorf("healthz: %d", got.status)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

func TestAListenerThatFailsEndsTheInstance(t *testing.T) {
	r := run(t, "")
	cause := errors.New("the network is gone")
	r.fail(cause)
	<-r.Done()
	if err := r.Stop(); !errors.Is(err, cause) {
		t.Errorf("Stop: %v", err)
	}
	r.stopped = nil // for the cleanup
}

func TestTheGateWaitsForWhoIsInside(t *testing.T) {
	var g gate
	for range 2 {
		if !g.enter() {
			t.Fatal("an open gate is shut")
		}
	}
	g.leave()
	empty := g.shut()
	if g.enter() {
		t.Error("somebody got through a shut gate")
	}
	select {
	case <-empty:
		t.Error("empty while somebody is inside")
	default:
	}
	g.leave()
	<-empty
	<-g.shut()
	var nobody gate
	<-nobody.shut()
}
