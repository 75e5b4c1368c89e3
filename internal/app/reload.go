package app

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"

	"shareai/internal/config"
	"shareai/internal/snapshot"
)

// reloader puts a changed configuration file in force.
type reloader struct {
	settings Settings
	boot     config.Boot // what this process was started with
	keeper   *snapshot.Keeper
	log      *slog.Logger
	audit    *fileAudit // nil: nothing is logged

	mu      sync.Mutex               // one reload at a time
	running snapshot.Spec            // what the file in force declares
	refused atomic.Bool              // the newest file is not in force
	restart atomic.Pointer[[]string] // settings of the newest file that need a restart
}

func newReloader(s Settings, file *config.File, keeper *snapshot.Keeper, log *slog.Logger) *reloader {
	r := &reloader{settings: s, boot: s.over(file.Boot), keeper: keeper, log: log, running: file.Spec}
	r.restart.Store(new([]string))
	return r
}

var errNoFile = errors.New("there is no configuration file to read again: start with --config FILE")

// reload reads the file again. A file with a mistake changes nothing; the error has been logged.
func (r *reloader) reload() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.settings.ConfigFile == "" {
		r.log.Warn("the configuration was not read again", "error", errNoFile)
		return errNoFile
	}
	before := r.running
	file, err := config.LoadStable(r.settings.ConfigFile, r.settings.Getenv)
	if err == nil {
		err = r.replace(file)
	}
	r.refused.Store(err != nil)
	r.audit.reloaded(before, r.running, err)
	if err != nil {
		r.keeper.RefuseFile(err)
		r.log.Error("the configuration file has a mistake; the running configuration stays in force", "revision", r.keeper.Current().Revision)
		r.logProblems(err)
		return err
	}
	for _, w := range file.Warnings {
		r.log.Warn(fmt.Sprintf("%s:%d: %s", file.Path, w.Line, w.Message))
	}
	names := changed(r.boot, r.settings.over(file.Boot))
	r.restart.Store(&names)
	if len(names) > 0 {
		r.log.Warn("some settings of the file take effect at the next start only", "settings", strings.Join(names, ", "))
	}
	r.log.Info("the configuration file was read again", "file", file.Path)
	return nil
}

// replace puts a file in force.
func (r *reloader) replace(file *config.File) error {
	if emptied(r.running, file.Spec) {
		return &config.Error{Problems: []config.Problem{{
			File: file.Path, Message: "the file declares nothing; the running configuration stays",
			Hint: "restart the gateway if that is what you want",
		}}}
	}
	if err := explain(file, r.keeper.SetFile(file.Spec)); err != nil {
		return err
	}
	r.running = file.Spec
	return nil
}

// emptied tells a file that has lost everything, or every model and key. That is a file half written or
// truncated far more often than a wish, and taking it over would end every request.
func emptied(before, after snapshot.Spec) bool {
	serves := func(s *snapshot.Spec) bool { return len(s.Models)+len(s.Keys) > 0 }
	declares := func(s *snapshot.Spec) bool {
		return serves(s) || len(s.Organizations)+len(s.Projects)+len(s.Providers)+len(s.Routes)+len(s.Policies) > 0
	}
	return serves(&before) && !serves(&after) || declares(&before) && !declares(&after)
}

// logProblems writes one line for each mistake, so that file:line stays together.
func (r *reloader) logProblems(err error) {
	var problems *config.Error
	if !errors.As(err, &problems) {
		r.log.Error(err.Error())
		return
	}
	for _, p := range problems.Problems {
		r.log.Error(p.String())
	}
}
