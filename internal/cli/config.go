package cli

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"shareai/internal/config"
	"shareai/internal/snapshot"
)

type configCommands struct {
	Check configCheckCommand `cmd:"" help:"Say what is wrong with a configuration file, with line and hint."`
}

type configCheckCommand struct {
	File string `arg:"" help:"The configuration file."`
	output
}

// Help is the long help.
func (configCheckCommand) Help() string {
	return `Nothing is started and no network is used. Environment variables that the file names must be set, as they
must when the gateway starts. Exit code 1 means that a gateway would refuse the file.

    shareai config check shareai.yaml`
}

// checked is the outcome as JSON.
type checked struct {
	File     string           `json:"file"`
	OK       bool             `json:"ok"`
	Problems []checkedProblem `json:"problems"`
	Warnings []checkedProblem `json:"warnings"`
}

type checkedProblem struct {
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

// Run checks the file.
func (c *configCheckCommand) Run(t *terminal) error {
	file, err := checkFile(c.File, t.getenv)
	var wrong *config.Error
	if err != nil && !errors.As(err, &wrong) {
		return err
	}
	if !c.JSON {
		if err == nil {
			t.valid(file)
		}
		return err
	}
	result := checked{File: c.File, OK: err == nil, Problems: []checkedProblem{}, Warnings: []checkedProblem{}}
	if wrong != nil {
		for _, p := range wrong.Problems {
			result.Problems = append(result.Problems, checkedProblem(p))
		}
	} else {
		for _, w := range file.Warnings {
			result.Warnings = append(result.Warnings, checkedProblem{Line: w.Line, Message: w.Message})
		}
	}
	if err := t.json(result); err != nil {
		return err
	}
	if wrong != nil {
		return errFailed
	}
	return nil
}

// checkFile reads a file and resolves every reference in it.
func checkFile(path string, getenv func(string) (string, bool)) (*config.File, error) {
	file, err := config.Load(path, getenv)
	if err != nil {
		return nil, err
	}
	view, err := compile(file, file.Spec)
	if err != nil {
		return nil, err
	}
	for _, w := range view.Warnings {
		file.Warnings = append(file.Warnings, config.Warning{Message: w})
	}
	return file, nil
}

// compile resolves the references of declarations; what is wrong with those of the file has its line.
func compile(file *config.File, spec snapshot.Spec) (*snapshot.Snapshot, error) {
	view, err := snapshot.Compile(spec)
	var problems snapshot.Problems
	if errors.As(err, &problems) {
		return nil, file.Explain(problems)
	}
	return view, err
}

// valid says that a file is in order and what it declares.
func (t *terminal) valid(f *config.File) {
	s := f.Spec
	var declared []string
	for _, kind := range []struct {
		n    int
		noun string
	}{
		{len(s.Organizations), "organization"},
		{len(s.Projects), "project"},
		{len(s.Keys), "key"},
		{len(s.Providers), "provider"},
		{len(s.Models), "model"},
		{len(s.Routes), "route"},
	} {
		if kind.n > 0 {
			declared = append(declared, plural(kind.n, kind.noun))
		}
	}
	if n := len(s.Policies); n == 1 {
		declared = append(declared, "1 policy")
	} else if n > 1 {
		declared = append(declared, fmt.Sprintf("%d policies", n))
	}
	summary := "it declares nothing yet"
	if len(declared) > 0 {
		summary = strings.Join(declared, ", ")
	}
	t.print("%s is valid: %s\n", f.Path, summary)
	for _, w := range f.Warnings {
		place := f.Path
		if w.Line > 0 {
			place += ":" + strconv.Itoa(w.Line)
		}
		t.print("%s: warning: %s\n", place, w.Message)
	}
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
