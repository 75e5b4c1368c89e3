//go:build !windows

package service

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// What root writes into the folder of a dynamic user can be read by that user afterwards.
func TestHandOver(t *testing.T) {
	dir := t.TempDir()
	folder := filepath.Join(dir, "private")
	if err := Protect(folder); err != nil {
		t.Fatal(err)
	}
	if about, err := os.Stat(folder); err != nil || about.Mode().Perm() != 0o700 {
		t.Errorf("%v %v", about.Mode(), err)
	}
	uid := os.Geteuid()
	if uid == 0 {
		uid = 64000
		if err := os.Chown(folder, uid, uid); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(folder, "identity.json")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link") // as systemd makes it
	if err := os.Symlink(folder, link); err != nil {
		t.Fatal(err)
	}
	if err := HandOver(link); err != nil {
		t.Fatal(err)
	}
	about, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if got := int(about.Sys().(*syscall.Stat_t).Uid); got != uid {
		t.Errorf("the file is of user %d, not of %d", got, uid)
	}
}

// Without rights the answer is what to do, before anything was touched.
func TestAllowed(t *testing.T) {
	of := Service{scope: OfUser}
	if err := of.Allowed(); err != nil {
		t.Error(err)
	}
	of.scope = OfMachine
	if err := of.Allowed(); (err == nil) != (os.Geteuid() == 0) {
		t.Errorf("got %v", err)
	}
}
