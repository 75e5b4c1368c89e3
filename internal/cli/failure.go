package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"shareai/internal/config"
	"shareai/internal/fault"
)

// failure is an error with its second line and its exit code.
type failure struct {
	message string
	hint    string // what to do; may be empty
	code    int    // 0: exitFailed
	cause   error
}

func (f *failure) Error() string { return f.message }
func (f *failure) Unwrap() error { return f.cause }

// What has been said already, so that only the exit code is left.
var (
	errFailed = &failure{}
	errUsage  = &failure{code: exitUsage}
)

// exit reports an error and returns the exit code.
func (t *terminal) exit(err error) int {
	if err == nil {
		return exitOK
	}
	code := exitFailed
	var f *failure
	if errors.As(err, &f) && f.code != 0 {
		code = f.code
	}
	message, hint := explain(err)
	if message != "" {
		_, _ = fmt.Fprintf(t.err, "%s: %s\n", programName, message)
	}
	if hint != "" {
		_, _ = fmt.Fprintf(t.err, "  %s\n", strings.ReplaceAll(hint, "\n", "\n  "))
	}
	return code
}

// explain puts an error into words: what is wrong, and what to do.
func explain(err error) (message, hint string) {
	var own *failure
	var file *config.Error
	var known *fault.Error
	switch {
	case errors.As(err, &own):
		return own.message, own.hint
	case errors.As(err, &file):
		return problemLines(file), ""
	case errors.As(err, &known) && known.Kind != fault.Internal:
		return known.Message, ""
	case errors.Is(err, context.Canceled):
		return "interrupted", ""
	default:
		return fault.Redact(err.Error()), ""
	}
}

// problemLines lists what is wrong with a configuration file: a single problem as it is, several below
// a line that counts them.
func problemLines(e *config.Error) string {
	lines := e.Error()
	if len(e.Problems) == 1 {
		return lines
	}
	return fmt.Sprintf("the configuration has %d problems\n  %s", len(e.Problems), strings.ReplaceAll(lines, "\n", "\n  "))
}
