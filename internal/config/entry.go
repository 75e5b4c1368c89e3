package config

import (
	"bytes"
	"errors"
	"strings"

	"shareai/internal/fault"
	"shareai/internal/snapshot"
)

// ReadEntry reads one entry of a list of the file ("providers", "models", "routes", "policies") that somebody sends as
// JSON, by the rules that hold for the file. Variables of the environment are none of his business: ${NAME} stands for
// itself. The error is fault.Invalid.
func ReadEntry(list string, entry []byte) (snapshot.Spec, error) {
	source := bytes.Join([][]byte{[]byte(`{"` + list + `":[`), bytes.ReplaceAll(entry, []byte("${"), []byte("$${")), []byte("]}")}, nil)
	file, err := parse(list, source, func(string) (string, bool) { return "", false })
	var wrong *Error
	if errors.As(err, &wrong) {
		said := make([]string, 0, len(wrong.Problems))
		for _, p := range wrong.Problems {
			p.File, p.Line, p.Column = "", 0, 0
			said = append(said, strings.TrimLeft(p.String(), ": "))
		}
		return snapshot.Spec{}, fault.New(fault.Invalid, "invalid_value", "This can not be done: "+strings.Join(said, "; ")+".")
	}
	if err != nil {
		return snapshot.Spec{}, err
	}
	return file.Spec, nil
}
