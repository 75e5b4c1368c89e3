package app

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"shareai/internal/gateway"
	"shareai/internal/telemetry"
)

// The bounds of a connection. The gateway lifts the one on reading and sets its own for writing
// the answer, which may take long; what sets none is bound by these.
const (
	headerTime     = 10 * time.Second  // for the head of a request
	pageTime       = 30 * time.Second  // to write a page
	idleTime       = 120 * time.Second // between two requests of a connection
	maxHeaderBytes = 64 << 10
	leaveTime      = 5 * time.Second // for handlers whose connections were cut off
)

// site is everything that is served, on one listener or on two.
type site struct {
	version   string
	log       *slog.Logger
	addresses Addresses
	api       http.Handler
	admin     http.Handler // /api/
	nodes     *nodes
	metrics   *telemetry.Metrics
	condition *condition
	gate      gate
	servers   []*http.Server
	interrupt func() // ends the work of requests whose clients have left
}

// public is the handler of the API's listener. Without a listener for administration it serves that
// as well.
func (s *site) public() http.Handler {
	mux := http.NewServeMux()
	s.addHealth(mux)
	if s.addresses.Admin == "" {
		s.addAdministration(mux)
	}
	s.nodes.serve(s, mux)
	mux.Handle("/", s.page(notFound))
	api := s.guarded(s.metrics.Track(s.api))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Not by the mux: it answers an unclean path with a redirect, which is no answer of this API.
		if strings.HasPrefix(r.URL.Path, "/v1/") {
			api.ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// administration is the handler of the listener for administration.
func (s *site) administration() http.Handler {
	mux := http.NewServeMux()
	s.addHealth(mux)
	s.addAdministration(mux)
	mux.Handle("/", s.page(notFound))
	return mux
}

func (s *site) addHealth(mux *http.ServeMux) {
	mux.Handle("/healthz", s.page(getOnly(s.condition.alive)))
	mux.Handle("/readyz", s.page(getOnly(s.condition.ready)))
}

func (s *site) addAdministration(mux *http.ServeMux) {
	mux.Handle("/{$}", s.page(getOnly(s.home)))
	mux.Handle("/api/", s.page(s.admin.ServeHTTP))
	mux.Handle("/metrics", s.page(getOnly(s.metrics.Handler().ServeHTTP)))
}

// serve answers requests on the listeners until the instance stops.
func (i *Instance) serve(l listeners) {
	s := i.site
	s.start(l.api, s.public(), i.fail)
	if l.admin != nil {
		s.start(l.admin, s.administration(), i.fail)
	}
	i.then("listeners", func() error { return s.drain(i.life, i.settings.Grace) })
}

// start serves one listener. failed is told when it ends by itself.
func (s *site) start(l net.Listener, handler http.Handler, failed func(error)) {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	server := &http.Server{
		Handler:           handler,
		Protocols:         protocols,
		ReadHeaderTimeout: headerTime,
		ReadTimeout:       gateway.BodyTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
	s.servers = append(s.servers, server)
	go func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			failed(err)
		}
	}()
}

// drain stops accepting and lets running requests end. What is still running after the grace is cut
// off; its handlers are waited for, because they have records to write.
func (s *site) drain(ctx context.Context, grace time.Duration) error {
	s.condition.draining.Store(true)
	s.log.Info("stopping: running requests may end", "grace", grace.String())
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	s.nodes.hub.Drain(ctx)
	results := make(chan error, len(s.servers))
	for _, server := range s.servers {
		go func() { results <- server.Shutdown(ctx) }()
	}
	var errs []error
	for range s.servers {
		errs = append(errs, <-results)
	}
	if errors.Join(errs...) == nil {
		return nil
	}
	for _, server := range s.servers {
		_ = server.Close()
	}
	s.interrupt()
	s.log.Warn("requests were cut off because they ran longer than the grace")
	select {
	case <-s.gate.shut():
		return nil
	case <-time.After(leaveTime):
		return errors.New("requests are still running")
	}
}
