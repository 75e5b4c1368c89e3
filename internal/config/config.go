// Package config reads the configuration file: strictly, with the line of everything that is wrong,
// and without ever showing a secret. It knows what a single value may be; whether the declarations fit
// together is for snapshot.Compile to say, whose problems Explain turns into lines of the file.
package config

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"shareai/internal/account"
	"shareai/internal/fault"
	"shareai/internal/snapshot"
)

// File is a configuration that was read without a problem.
type File struct {
	Path string // empty: there is no file
	Boot
	Spec     snapshot.Spec
	Warnings []Warning

	places      map[string]spot
	redact      func(string) string
	fingerprint [sha256.Size]byte
}

// Load reads the file at a path; an empty path means that there is no file and gives the defaults.
// getenv finds the variables that the file refers to, as os.LookupEnv does. The error is an *Error
// with everything that is wrong.
func Load(path string, getenv func(string) (string, bool)) (*File, error) {
	if path == "" {
		return &File{Boot: defaultBoot()}, nil
	}
	source, err := read(path)
	if err != nil {
		return nil, &Error{Problems: []Problem{{File: path, Message: "the file can not be read: " + reason(err), Hint: "check the path and its permissions"}}}
	}
	return parse(path, source, getenv)
}

const (
	// stableTime is how long a file has to stay as it is to count as written completely.
	stableTime = 50 * time.Millisecond
	// stableTries bounds the wait for that: a file that is written all the time is taken as it is.
	stableTries = 20
)

// LoadStable is Load for a file that somebody may be writing: it waits until two reads give the same.
func LoadStable(path string, getenv func(string) (string, bool)) (*File, error) {
	before, err := read(path)
	for range stableTries {
		missing := err != nil
		<-time.After(stableTime)
		var now []byte
		now, err = read(path)
		if missing == (err != nil) && bytes.Equal(before, now) {
			break
		}
		before = now
	}
	return Load(path, getenv)
}

// read reads at most one byte more than a file may have.
func read(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // it was only read
	return io.ReadAll(io.LimitReader(file, maxFile+1))
}

// reason is an error of the file system without the path, which the message has already.
func reason(err error) string {
	var failed *fs.PathError
	if errors.As(err, &failed) {
		return failed.Err.Error()
	}
	return err.Error()
}

func parse(path string, source []byte, getenv func(string) (string, bool)) (*File, error) {
	d := decoder{
		builder: builder{file: path, getenv: getenv, anchors: map[string]*node{}},
		places:  map[string]spot{},
	}
	f := &File{Path: path, Boot: defaultBoot(), fingerprint: sha256.Sum256(source)}
	if root := d.build(source); root != nil && root.kind != null {
		d.file(value{node: root, what: "the file"}, f)
	}
	if err := failure(d.problems); err != nil {
		return nil, err
	}
	f.places, f.redact, f.Warnings = d.places, redactor(d.secrets), d.warnings
	return f, nil
}

func (d *decoder) file(v value, f *File) {
	known := d.bootFields(&f.Boot)
	known["organizations"] = d.organizations(&f.Spec)
	known["providers"] = list(d, &f.Spec.Providers, d.provider)
	known["models"] = list(d, &f.Spec.Models, d.model)
	known["routes"] = list(d, &f.Spec.Routes, d.route)
	known["policies"] = list(d, &f.Spec.Policies, d.policy)
	known["alerts"] = d.alerts(&f.Spec.Alerts)
	known["community"] = d.community(&f.Spec.Community)
	known["default_policy"] = unlessEmpty(d.name(&f.Spec.DefaultPolicy))
	d.mapping(v, known)
}

// Explain turns what snapshot.Compile found wrong with the file's declarations into an *Error with
// lines: that of the longest part of a problem's path that the file declares. No problems are no error.
func (f *File) Explain(problems snapshot.Problems) error {
	explained := make([]Problem, 0, len(problems))
	for _, p := range problems {
		at := f.place(p.Parts)
		explained = append(explained, Problem{
			File: f.name(), Line: at.line, Column: at.column, Message: f.clean(p.Message), Hint: f.clean(p.Hint),
		})
	}
	return failure(explained)
}

func (f *File) name() string {
	if f.Path == "" {
		return "configuration"
	}
	return f.Path
}

func (f *File) place(parts []string) spot {
	for n := len(parts); n > 0; n-- {
		if at, ok := f.places[strings.Join(parts[:n], pathSeparator)]; ok {
			return at
		}
	}
	return spot{}
}

func (f *File) clean(message string) string {
	if f.redact == nil { // not from a file
		return fault.Redact(message)
	}
	return f.redact(message)
}

// redactor makes a function that takes secrets out of a message: a name in it may turn out to be a
// secret that was put into the wrong field. A function holds them, because package fmt prints a Secret
// in an unexported field of a struct as it is.
func redactor(secrets []account.Secret) func(string) string {
	// The longest first: a shorter one may be a part of it.
	slices.SortFunc(secrets, func(a, b account.Secret) int { return len(b.Reveal()) - len(a.Reveal()) })
	return func(message string) string {
		for _, s := range secrets {
			message = strings.ReplaceAll(message, s.Reveal(), "[redacted]")
		}
		return fault.Redact(message)
	}
}
