//go:build linux

package target

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"syscall"
	"time"
)

const (
	startLimit = 30 * time.Second
	stopLimit  = 20 * time.Second
	pollEvery  = 5 * time.Millisecond
)

// Process is a started target.
type Process struct {
	Startup time.Duration // from start to ready
	name    string
	cmd     *exec.Cmd
	ended   chan struct{} // closed when it has ended, with err set before
	err     error
}

// Start runs the command of s with env added to the environment, appends what it
// prints to logFile, and waits until it is ready. The target is told to end when
// the calling thread does: call Start from a goroutine that is locked to one that
// lives as long as the program.
func Start(ctx context.Context, s Spec, logFile string, env ...string) (*Process, error) {
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	p := &Process{name: s.Name, ended: make(chan struct{})}
	p.cmd = exec.Command(s.Command[0], s.Command[1:]...) //nolint:noctx // it outlives ctx, which bounds the start
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.Env = append(os.Environ(), env...)
	// A group of its own: an interrupt from the terminal is for the benchmark, which
	// then stops its targets in order.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	begin := time.Now()
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", s.Name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	if err := p.await(ctx, s); err != nil {
		return nil, errors.Join(fmt.Errorf("%s did not start: %w; its last words:\n%s", s.Name, err, tail(logFile)), p.Stop())
	}
	p.Startup = time.Since(begin)
	return p, nil
}

func (p *Process) await(ctx context.Context, s Spec) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startLimit, fmt.Errorf("not ready after %v", startLimit))
	defer cancel()
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	for !s.serves(ctx) {
		select {
		case <-poll.C:
		case <-p.ended:
			return fmt.Errorf("it ended: %w", p.err)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// serves says whether the target is ready.
func (s Spec) serves(ctx context.Context) bool {
	if s.Ready == "" {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", s.Address)
		if err != nil {
			return false
		}
		return conn.Close() == nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.Address+s.Ready, nil)
	if err != nil {
		return false
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	return resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
}

// PID is its process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Alive says whether it is still running.
func (p *Process) Alive() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// Stop asks it to end, and kills it with all that it started when it does not in
// 20 s, which is an error. Stopping what has ended does nothing.
func (p *Process) Stop() error {
	if !p.Alive() {
		return nil
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.ended:
		return nil
	case <-time.After(stopLimit):
	}
	err := fmt.Errorf("%s did not end within %v of SIGTERM and was killed", p.name, stopLimit)
	if kill := syscall.Kill(-p.PID(), syscall.SIGKILL); kill != nil {
		return errors.Join(err, kill)
	}
	<-p.ended
	return err
}

// tail is the end of a log.
func tail(file string) []byte {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	lines := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
	return bytes.Join(lines[max(0, len(lines)-5):], []byte("\n"))
}
