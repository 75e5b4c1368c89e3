//go:build !windows

package service

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

func administrator() bool { return os.Geteuid() == 0 }

// Protect makes the folder of a service of the machine, for nobody but administrators.
func Protect(folder string) error { return os.MkdirAll(folder, 0o700) }

// HandOver gives everything in the folder to the folder's owner. systemd does so by itself when it takes a folder over
// for a service; in one that the service had before it looks at the folder alone, and what an administrator has
// written meanwhile could not be read by the service.
func HandOver(folder string) error {
	folder, err := filepath.EvalSymlinks(folder)
	if err != nil {
		return err
	}
	about, err := os.Stat(folder)
	if err != nil {
		return err
	}
	owner, ok := about.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("the owner of %s can not be found out", folder)
	}
	return filepath.WalkDir(folder, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, int(owner.Uid), int(owner.Gid))
	})
}
