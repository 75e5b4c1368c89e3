package app

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"os/user"
	"slices"
	"strconv"
	"sync"
	"time"

	"shareai/internal/audit"
	"shareai/internal/config"
	"shareai/internal/control"
	"shareai/internal/fault"
	"shareai/internal/snapshot"
	"shareai/internal/store"
)

// localUser is who runs this program, as the operating system has it.
func localUser() audit.Actor {
	a := audit.Actor{Kind: audit.User, Name: "uid " + strconv.Itoa(os.Getuid()), From: machine()}
	if u, err := user.Current(); err == nil {
		a.Name = cmp.Or(u.Username, a.Name)
	}
	return a
}

// machine is this machine's name.
func machine() string {
	name, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return name
}

// The bounds of what is kept for a database that is away, of the time for one try, and of what is said of a file.
const (
	maxPendingActs   = 1000
	auditTime        = 2 * time.Second
	auditAgain       = 10 * time.Second
	maxAuditProblems = 20
)

// fileAudit logs what the configuration file does. A database that is away does not keep a file from being put
// in force: the acts wait in memory until it is back. Its methods do nothing on nil.
type fileAudit struct {
	life context.Context
	rows *store.Store
	log  *slog.Logger
	path string

	refused []string // the problems of the newest file, which is not in force; guarded by the reloader

	mu      sync.Mutex
	pending []audit.Act
}

// auditFile begins to log what the file does. That it was read at the start is the first act.
func (i *Instance) auditFile(rows *store.Store, file *config.File) {
	if file.Path == "" {
		return
	}
	f := &fileAudit{life: i.life, rows: rows, log: i.log, path: file.Path}
	i.reloader.audit = f
	f.note("file.start", nil, f.encode(startView{Host: machine(), Declares: counts(&file.Spec)}))
	i.background("audit of the file", f.run)
	i.then("audit of the file", f.close)
}

// startView is what is said of a file at the start. What it said before that is not known.
type startView struct {
	Host     string         `json:"host"`
	Declares map[string]int `json:"declares"`
}

func counts(s *snapshot.Spec) map[string]int {
	return map[string]int{
		"organizations": len(s.Organizations), "projects": len(s.Projects), "keys": len(s.Keys), "providers": len(s.Providers),
		"models": len(s.Models), "routes": len(s.Routes), "policies": len(s.Policies),
	}
}

// reloadView is what is said of a file that was read again.
type reloadView struct {
	Host     string          `json:"host"`
	Declares json.RawMessage `json:"declares,omitempty"` // of what changed
	Problems []string        `json:"problems,omitempty"` // why it was refused
}

// reloaded logs that the file was put in force or refused. One that declares what it did before is no act.
func (f *fileAudit) reloaded(before, after snapshot.Spec, refused error) {
	if f == nil {
		return
	}
	if refused != nil {
		problems := problemsOf(refused)
		if !slices.Equal(problems, f.refused) { // a file may be read several times until it is mended
			f.note("file.refuse", nil, f.encode(reloadView{Host: machine(), Problems: problems}))
		}
		f.refused = problems
		return
	}
	f.refused = nil
	was, is, err := control.Differences(before, after)
	if err != nil {
		f.log.Error("the audit log does not say what the configuration file changed", "error", err)
	} else if was == nil && is == nil {
		return
	}
	f.note("file.reload", was, f.encode(reloadView{Host: machine(), Declares: is}))
}

// problemsOf are the problems of a file, in the words of the log.
func problemsOf(err error) []string {
	var known *config.Error
	if !errors.As(err, &known) {
		return []string{fault.Redact(err.Error())}
	}
	var lines []string
	for _, p := range known.Problems[:min(len(known.Problems), maxAuditProblems)] {
		lines = append(lines, fault.Redact(p.String()))
	}
	return lines
}

func (f *fileAudit) encode(document any) json.RawMessage {
	text, err := json.Marshal(document)
	if err != nil {
		f.log.Error("the audit log does not say what the configuration file did", "error", err)
		return nil
	}
	return text
}

// note logs an act now, or when the database is back.
func (f *fileAudit) note(name string, before, after json.RawMessage) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.pending) == maxPendingActs {
		f.log.Error("the audit log lacks an act: too many wait for the database", "act", name)
		return
	}
	f.pending = append(f.pending, audit.Act{
		At: time.Now(), Who: audit.Actor{Kind: audit.File, Name: "file", From: f.path},
		Name: name, Subject: f.path, Before: before, After: after,
	})
	f.flush()
}

// flush logs what waits; the lock is held.
func (f *fileAudit) flush() {
	if len(f.pending) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(f.life, auditTime)
	defer cancel()
	if err := f.rows.Audit(ctx, f.pending...); err != nil {
		f.log.Warn("acts of the configuration file wait for the audit log", "acts", len(f.pending), "error", err)
		return
	}
	f.pending = nil
}

// run tries again what could not be logged.
func (f *fileAudit) run(ctx context.Context) {
	again := time.NewTicker(auditAgain)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-again.C:
			f.mu.Lock()
			f.flush()
			f.mu.Unlock()
		}
	}
}

// close tries for the last time.
func (f *fileAudit) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.flush()
	if len(f.pending) > 0 {
		f.log.Error("the audit log lacks acts of the configuration file: the database is away", "acts", len(f.pending))
	}
	return nil
}
