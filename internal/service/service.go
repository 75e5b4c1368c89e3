// Package service has a program run by the service manager of its machine: systemd, launchd or that of Windows. It
// writes the unit and asks the manager; what the program does is nobody's business here.
package service

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/kardianos/service"
)

// Scope is who a service belongs to.
type Scope string

// The scopes. A service of the machine needs the rights of an administrator; one of a user runs while the user is
// signed in, or, with systemd, from the start where lingering is enabled.
const (
	OfMachine Scope = "machine"
	OfUser    Scope = "user"
)

// Unit describes a service.
type Unit struct {
	Name        string // for the manager: "shareai-node"
	Title       string // for people
	Description string // one sentence
	Program     string // absolute path; empty: this program
	Arguments   []string
	Scope       Scope
	// Folder is where the program keeps its data. systemd makes it for a service of the machine, below /var/lib, by
	// its last element, and lets the service alone use it.
	Folder string
}

// State is what a service does.
type State string

// The states.
const (
	NotInstalled State = "not installed"
	Stopped      State = "stopped"
	Running      State = "running"
	Failed       State = "failed"
)

// ErrNoManager says that the machine has no manager that is known here, as in a container.
var ErrNoManager = errors.New("this machine has no service manager (systemd, launchd or Windows): run the command in the foreground, under whatever starts programs here")

// ErrNoUserServices says that the manager runs services of the machine only.
var ErrNoUserServices = errors.New("Windows has no services of a user: leave --user out, in a terminal that was opened as administrator") //nolint:staticcheck // it is the name of the system

// Service is a unit at its manager.
type Service struct {
	inner service.Service
	name  string
	scope Scope
}

// New finds the manager.
func New(u Unit) (*Service, error) {
	if u.Scope == OfUser && runtime.GOOS == "windows" {
		return nil, ErrNoUserServices
	}
	if u.Program == "" {
		program, err := os.Executable()
		if err == nil {
			program, err = filepath.EvalSymlinks(program)
		}
		if err != nil {
			return nil, fmt.Errorf("where this program lies can not be found out: %w", err)
		}
		u.Program = program
	}
	inner, err := service.New(idle{}, &service.Config{
		Name: u.Name, DisplayName: u.Title, Description: u.Description,
		Executable: u.Program, Arguments: u.Arguments,
		Option: service.KeyValue{
			"UserService":   u.Scope == OfUser,
			"SystemdScript": u.systemd(),
			"LaunchdConfig": u.launchd(),
			"OnFailure":     "restart", "OnFailureDelayDuration": "5s", // Windows
		},
	})
	switch {
	case errors.Is(err, service.ErrNoServiceSystemDetected), err == nil && !known(service.Platform()):
		return nil, ErrNoManager
	case err != nil:
		return nil, err
	}
	return &Service{inner, u.Name, u.Scope}, nil
}

// known are the managers whose units are ours. The library knows more, with units that nobody here has tried.
func known(platform string) bool {
	return platform == "linux-systemd" || platform == "darwin-launchd" || platform == "windows-service"
}

// Allowed says whether this user may change the service. The error says what to do.
func (s *Service) Allowed() error {
	switch {
	case s.scope == OfUser || administrator():
		return nil
	case runtime.GOOS == "windows":
		return errors.New("a service needs an administrator: run it in a terminal that was opened as administrator")
	default:
		return errors.New("a service of the machine needs root: run it with sudo, or add --user for a service of your own")
	}
}

// Install registers the service, to be started with the machine or the user's session. One that is there is replaced.
func (s *Service) Install() error {
	if err := s.Allowed(); err != nil {
		return err
	}
	_ = s.remove() // mostly there is none; what can not be removed is in the way of what comes now, which says so
	return explained(s.inner.Install())
}

// Uninstall stops the service and removes it from its manager. It says whether there was one.
func (s *Service) Uninstall() (bool, error) {
	if err := s.Allowed(); err != nil {
		return false, err
	}
	if state, err := s.State(); state == NotInstalled && err == nil {
		return false, nil
	}
	return true, explained(s.remove())
}

func (s *Service) remove() error {
	_ = s.inner.Stop() // it may not be running
	return s.inner.Uninstall()
}

// Start starts the service.
func (s *Service) Start() error {
	if err := s.Allowed(); err != nil {
		return err
	}
	return explained(s.inner.Start())
}

// Stop stops it. It starts again with the machine.
func (s *Service) Stop() error {
	if err := s.Allowed(); err != nil {
		return err
	}
	return explained(s.inner.Stop())
}

// State asks what the service does.
func (s *Service) State() (State, error) {
	status, err := s.inner.Status()
	switch {
	case errors.Is(err, service.ErrNotInstalled) && s.written():
		return Stopped, nil // systemd does not run while an image is made: it knows of nothing then
	case errors.Is(err, service.ErrNotInstalled):
		return NotInstalled, nil
	case err != nil && strings.Contains(err.Error(), "failed state"): // the library has no type for it
		return Failed, nil
	case err != nil:
		return "", explained(err)
	case status == service.StatusRunning:
		return Running, nil
	default:
		return Stopped, nil
	}
}

// written says whether the unit for systemd is where the library puts it.
func (s *Service) written() bool {
	dir := "/etc/systemd/system"
	if s.scope == OfUser {
		home, err := os.UserHomeDir()
		if err != nil {
			return false
		}
		dir = filepath.Join(home, ".config/systemd/user")
	}
	_, err := os.Stat(filepath.Join(dir, s.name+".service"))
	return err == nil
}

// explained says what to do about an error of the manager.
func explained(err error) error {
	switch {
	case err == nil:
		return nil
	case strings.Contains(err.Error(), "connect to bus"):
		return fmt.Errorf("systemd does not run for this user: sign in at the machine or by ssh, not by su or sudo (%w)", err)
	default:
		return fmt.Errorf("the service manager: %w", err)
	}
}

// Hosted says whether the manager of Windows has started this process. Its output goes nowhere then.
func Hosted() bool { return runtime.GOOS == "windows" && !service.Interactive() }

// Run does the work of a program that a manager may have started, until ctx ends or the manager stops it. The manager
// of Windows wants to be spoken to; the others send signals, which end ctx.
func Run(ctx context.Context, name string, work func(context.Context) error) error {
	if !Hosted() {
		return work(ctx)
	}
	h := &hosted{ctx: ctx, work: work, ended: make(chan error, 1)}
	s, err := service.New(h, &service.Config{Name: name})
	if err != nil {
		return err
	}
	if err := s.Run(); err != nil {
		return err
	}
	return h.err
}

// idle stands for the program where it is only registered.
type idle struct{}

func (idle) Start(service.Service) error { return nil }
func (idle) Stop(service.Service) error  { return nil }

// hosted is work that a manager starts and stops.
type hosted struct {
	ctx    context.Context // of the program
	work   func(context.Context) error
	cancel context.CancelFunc
	ended  chan error
	err    error
}

// Start implements service.Interface.
func (h *hosted) Start(s service.Service) error {
	ctx, cancel := context.WithCancel(h.ctx)
	h.cancel = cancel
	go func() {
		h.ended <- h.work(ctx)
		if ctx.Err() == nil {
			_ = s.Stop() // it ended by itself: the manager has to know
		}
	}()
	return nil
}

// Stop implements service.Interface.
func (h *hosted) Stop(service.Service) error {
	h.cancel()
	h.err = <-h.ended
	return nil
}
