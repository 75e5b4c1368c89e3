package standby

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"
)

const (
	headerTime     = 10 * time.Second  // for the head of a request
	idleTime       = 120 * time.Second // between two requests of a connection
	maxHeaderBytes = 64 << 10
	// graceTime is how long running requests may go on after the stand-by was told to stop.
	graceTime = 30 * time.Second
)

// Serve answers requests on a listener until ctx ends, then lets running ones end.
func Serve(ctx context.Context, l net.Listener, h http.Handler, log *slog.Logger) error {
	server := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: headerTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	log.Info("stopping: running requests may end", "grace", graceTime.String())
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), graceTime)
	defer cancel()
	err := server.Shutdown(grace)
	if errors.Is(err, context.DeadlineExceeded) {
		log.Warn("requests were cut off because they ran longer than the grace")
		err = server.Close()
	}
	return err
}
