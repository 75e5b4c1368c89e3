package config

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

// watching watches a file and returns a channel that gets a value for each change.
func watching(t *testing.T, path string) <-chan struct{} {
	t.Helper()
	f, err := Load(path, ready())
	if err != nil {
		t.Fatal(err)
	}
	changes := make(chan struct{}, 100)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		Watch(ctx, f, slog.New(slog.DiscardHandler), func() { changes <- struct{}{} })
	}()
	t.Cleanup(func() { cancel(); <-done })
	return changes
}

func expectChange(t *testing.T, changes <-chan struct{}) {
	t.Helper()
	select {
	case <-changes:
	case <-time.After(8 * time.Second): // less than lookEvery: this is about notifications
		t.Fatal("the change was not noticed")
	}
}

func put(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestWatchSeesEveryWayOfChanging(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "shareai.yaml")
	put(t, path, "listen: 127.0.0.1:1")
	changes := watching(t, path)

	put(t, path, "listen: 127.0.0.1:2") // in place
	expectChange(t, changes)

	put(t, path+".new", "listen: 127.0.0.1:3") // by renaming
	must(t, os.Rename(path+".new", path))
	expectChange(t, changes)

	must(t, os.Remove(path)) // deleted and written anew
	put(t, path, "listen: 127.0.0.1:4")
	expectChange(t, changes)

	put(t, path, "listen: 127.0.0.1:4") // the same content is no change, nor is another file
	put(t, filepath.Join(dir, "other"), "x")
	put(t, path, "listen: 127.0.0.1:5")
	expectChange(t, changes)
	if len(changes) != 0 {
		t.Error("a change was reported that was none")
	}
}

// Kubernetes mounts a config map as links through a directory that it swaps.
func TestWatchSeesASwappedLink(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"..1": "listen: 127.0.0.1:1", "..2": "listen: 127.0.0.1:2", "..3": "listen: 127.0.0.1:3"} {
		must(t, os.Mkdir(filepath.Join(dir, name), 0o700))
		put(t, filepath.Join(dir, name, "shareai.yaml"), content)
	}
	must(t, os.Symlink("..1", filepath.Join(dir, "..data")))
	path := filepath.Join(dir, "shareai.yaml")
	must(t, os.Symlink(filepath.Join("..data", "shareai.yaml"), path))
	changes := watching(t, path)
	for _, next := range []string{"..2", "..3"} {
		must(t, os.Symlink(next, filepath.Join(dir, "..new")))
		must(t, os.Rename(filepath.Join(dir, "..new"), filepath.Join(dir, "..data")))
		expectChange(t, changes)
	}
	put(t, filepath.Join(dir, "..3", "shareai.yaml"), "listen: 127.0.0.1:4") // where it really is
	expectChange(t, changes)
}

// What changed between Load and Watch is not missed.
func TestWatchSeesWhatChangedBeforeIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "shareai.yaml")
	put(t, path, "listen: 127.0.0.1:1")
	f, err := Load(path, ready())
	if err != nil {
		t.Fatal(err)
	}
	if w := newWatch(f); w.changed() {
		t.Error("what was loaded counts as a change")
	}
	put(t, path, "listen: 127.0.0.1:2")
	changed := make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(t.Context())
	Watch(ctx, f, slog.New(slog.DiscardHandler), func() { changed <- struct{}{}; cancel() })
	if len(changed) != 1 {
		t.Error("the change was not noticed")
	}
}

func TestWatchWithoutAFileEndsAtOnce(t *testing.T) {
	Watch(t.Context(), &File{}, slog.New(slog.DiscardHandler), func() { t.Error("a change of nothing") })
}

// Whoever tried to load the missing file has to hear that it is back, even as it was.
func TestAFileThatIsBackIsAChange(t *testing.T) {
	path := filepath.Join(t.TempDir(), "shareai.yaml")
	put(t, path, "listen: 127.0.0.1:1")
	f, err := Load(path, ready())
	if err != nil {
		t.Fatal(err)
	}
	w := newWatch(f)
	must(t, os.Remove(path))
	if w.changed() {
		t.Error("nothing to load is a change")
	}
	put(t, path, "listen: 127.0.0.1:1")
	if !w.changed() || w.changed() {
		t.Error("the file that is back was not noticed once")
	}
}

func TestLoadStableWaitsForTheWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "shareai.yaml")
		put(t, path, "")
		written := make(chan struct{})
		go func() {
			defer close(written)
			for _, content := range []string{"listen:", "listen: 127.0.0.1", "listen: 127.0.0.1:7"} {
				<-time.After(stableTime * 3 / 4)
				put(t, path, content)
			}
		}()
		f, err := LoadStable(path, ready())
		<-written
		if err != nil || f.Listen != "127.0.0.1:7" {
			t.Errorf("%+v, %v", f, err)
		}
	})
}
