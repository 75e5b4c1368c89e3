package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// folder is where the agent keeps what outlives it: only its owner may read it.
type folder string

const (
	identityFile = "identity.json" // who the node is, with its private key
	enrolFile    = "enrolling.json"
	tokensFile   = "tokens.json" // what was used today
	pausedFile   = "paused"      // there: the owner has paused the node
	socketFile   = "node.sock"
	settingsFile = "node.yaml"
)

// open makes the folder, and closes it to others.
func (f folder) open() error {
	err := os.MkdirAll(string(f), 0o700)
	if err == nil {
		err = os.Chmod(string(f), 0o700)
	}
	if err != nil {
		return &Problem{
			Message: fmt.Sprintf("the data directory %s can not be used", f),
			Hint:    "give one that this user may write to with --data-dir (" + err.Error() + ")", Cause: err,
		}
	}
	return nil
}

func (f folder) path(name string) string { return filepath.Join(string(f), name) }

// read reads a file into a value. fs.ErrNotExist says that there is none.
func (f folder) read(name string, into any) error {
	text, err := os.ReadFile(f.path(name))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return &Problem{
			Message: f.path(name) + " is damaged", Hint: "restore it from a copy, or remove it and enrol the node again", Cause: err,
		}
	}
	return nil
}

// write replaces a file by a value. After a crash there is the old file or the new one, never a part.
func (f folder) write(name string, value any) error {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	file, err := os.CreateTemp(string(f), name+".*.new") // 0600
	if err != nil {
		return err
	}
	_, err = file.Write(append(text, '\n'))
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), f.path(name))
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return nil
}

// remove removes a file, if it is there.
func (f folder) remove(name string) error {
	if err := os.Remove(f.path(name)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// has says whether a file is there.
func (f folder) has(name string) bool {
	_, err := os.Stat(f.path(name))
	return err == nil
}

// Problem is a failure that the owner of the machine can do something about.
type Problem struct {
	Message string // what is wrong, in words, without a secret
	Hint    string // what to do
	Cause   error
	// Final says that starting the agent again changes nothing: somebody has to do something first.
	Final bool
}

// Error is the message.
func (p *Problem) Error() string { return p.Message }

// Unwrap is the cause.
func (p *Problem) Unwrap() error { return p.Cause }
