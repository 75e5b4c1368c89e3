package app

import (
	"context"
	"fmt"
	standard "log"
	"log/slog"
	"os"
	"os/signal"
	"runtime/pprof"
	"syscall"
)

// Serve runs a gateway until ctx ends, then stops it in order. SIGHUP makes it read its configuration
// file again. Its errors are one line each and say what to do.
func Serve(ctx context.Context, s Settings) error {
	s = s.withDefaults()
	roomyHeap()
	endProfile, err := profile(s.Getenv)
	if err != nil {
		return err
	}
	defer endProfile()
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	instance, err := Start(ctx, s)
	if err != nil {
		return err
	}
	// net/http says a few things about upstreams to the standard logger, quoting what they sent: let them
	// go through our redaction and format.
	standard.SetFlags(0)
	standard.SetOutput(slog.NewLogLogger(instance.log.Handler(), slog.LevelWarn).Writer())
	for {
		select {
		case <-hangup:
			_ = instance.Reload() // it is logged, and the running configuration goes on
		case <-ctx.Done():
			return instance.Stop()
		case <-instance.Done():
			return instance.Stop()
		}
	}
}

// profile writes a CPU profile to the file that SHAREAI_CPUPROFILE names, for benchmarks.
func profile(getenv func(string) (string, bool)) (end func(), err error) {
	path, ok := getenv("SHAREAI_CPUPROFILE")
	if !ok || path == "" {
		return func() {}, nil
	}
	file, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("SHAREAI_CPUPROFILE: %w", err)
	}
	if err := pprof.StartCPUProfile(file); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("SHAREAI_CPUPROFILE: %w", err)
	}
	return func() {
		pprof.StopCPUProfile()
		_ = file.Close()
	}, nil
}
