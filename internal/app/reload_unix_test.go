//go:build unix

package app

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestSIGHUPReadsTheFileAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "shareai.yaml")
	if err := os.WriteFile(path, []byte(yaml("http://127.0.0.1:1", "good")), 0o600); err != nil {
		t.Fatal(err)
	}
	log := &output{}
	ctx, cancel := context.WithCancel(t.Context())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- Serve(ctx, Settings{
			ConfigFile: path, Listen: "127.0.0.1:0", DataDir: t.TempDir(), Stderr: log, Ready: func(Addresses) { close(ready) },
		})
	}()
	<-ready
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the file is read again", func() bool { return strings.Contains(log.String(), "was read again") })
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Serve: %v", err)
	}
}
