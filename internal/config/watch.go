package config

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// settleTime is how long after the first sign of a change the file is looked at: editors and
	// deployment tools touch it several times.
	settleTime = 100 * time.Millisecond
	// Even with notifications the file is looked at now and then: network file systems send none, and a
	// directory that is replaced as a whole takes its watch with it.
	lookEvery = 10 * time.Second
	// pollEvery is how often the file is looked at where there are no notifications at all.
	pollEvery = 2 * time.Second
)

// Watch calls onChange whenever the content of the file is different from what it was last, beginning
// with what Load read, until ctx ends. It watches directories rather than the file, so that it sees a
// file that is replaced by renaming and the swapped symbolic links of a Kubernetes config map. While
// the file is missing nothing happens; when it is back, that is a change even with the old content. Where the system gives no notifications it says so and polls.
func Watch(ctx context.Context, file *File, log *slog.Logger, onChange func()) {
	if file.Path == "" {
		return
	}
	w := newWatch(file)
	every := lookEvery
	var events chan fsnotify.Event
	var failures chan error
	notify, err := fsnotify.NewWatcher()
	if err == nil {
		defer func() { _ = notify.Close() }()
		w.notify, events, failures = notify, notify.Events, notify.Errors
		err = w.follow()
	}
	if err != nil {
		every = pollEvery
		log.Warn("no notifications of file changes; the configuration file is looked at regularly instead",
			"file", file.Path, "every", every, "error", err)
	}
	regularly := time.NewTicker(every)
	defer regularly.Stop()
	settle := time.NewTimer(0) // a change since Load is seen at once
	defer settle.Stop()
	settling := true
	for {
		select {
		case <-ctx.Done():
			return
		case _, open := <-events:
			if !open {
				events = nil
			} else if !settling {
				settling = true
				settle.Reset(settleTime)
			}
			continue
		case _, open := <-failures: // events were lost: the next look will tell
			if !open {
				failures = nil
			}
			continue
		case <-settle.C:
			settling = false
		case <-regularly.C:
		}
		_ = w.follow() // what can not be watched is looked at regularly
		if w.changed() {
			onChange()
		}
	}
}

// watch knows what the file was when it was last looked at.
type watch struct {
	path    string
	notify  *fsnotify.Watcher
	watched map[string]bool
	content [sha256.Size]byte
	missing bool
}

func newWatch(file *File) *watch {
	return &watch{path: file.Path, content: file.fingerprint, watched: map[string]bool{}}
}

// follow watches the directory in which the file is named, and the one in which it really is.
func (w *watch) follow() error {
	if w.notify == nil {
		return nil
	}
	wanted := map[string]bool{filepath.Dir(w.path): true}
	if target, err := filepath.EvalSymlinks(w.path); err == nil {
		wanted[filepath.Dir(target)] = true
	}
	for dir := range w.watched {
		if !wanted[dir] {
			_ = w.notify.Remove(dir) // it may be gone
			delete(w.watched, dir)
		}
	}
	var failed error
	for dir := range wanted { // even if it is watched: it may have been replaced
		if err := w.notify.Add(dir); err != nil {
			failed = err
			continue
		}
		w.watched[dir] = true
	}
	return failed
}

// changed looks at the file and says whether it has another content than at the last look. A file that
// was missing then is a change: somebody may have tried to load it meanwhile, in vain.
func (w *watch) changed() bool {
	source, err := read(w.path)
	before, returned := w.content, w.missing
	w.missing = err != nil
	if w.missing {
		return false
	}
	w.content = sha256.Sum256(source)
	return returned || w.content != before
}
