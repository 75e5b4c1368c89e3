package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/mattn/go-isatty"
)

// terminal is where a command's output goes.
type terminal struct {
	out, err io.Writer
	colors   bool // out is a terminal, and the user has nothing against colours
	program  string
	version  string
	getenv   func(string) (string, bool)
}

func newTerminal(e Environment) *terminal {
	t := &terminal{out: e.Stdout, err: e.Stderr, program: e.Args[0], version: e.Version, getenv: e.Getenv}
	if !strings.ContainsAny(t.program, `/\`) {
		t.program = programName
	}
	file, isFile := e.Stdout.(*os.File)
	plain, _ := e.Getenv("NO_COLOR") // https://no-color.org
	kind, _ := e.Getenv("TERM")
	t.colors = isFile && isatty.IsTerminal(file.Fd()) && plain == "" && kind != "dumb"
	return t
}

// print writes text. A standard output that is closed has nobody who could be told.
func (t *terminal) print(format string, args ...any) { _, _ = fmt.Fprintf(t.out, format, args...) }

// json writes a document.
func (t *terminal) json(document any) error {
	e := json.NewEncoder(t.out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(document)
}

// style is an ANSI attribute.
type style string

const (
	plain style = ""
	bold  style = "1"
	faint style = "2"
	red   style = "31"
	green style = "32"
)

func (t *terminal) styled(s style, text string) string {
	if !t.colors || s == plain {
		return text
	}
	return "\x1b[" + string(s) + "m" + text + "\x1b[0m"
}
