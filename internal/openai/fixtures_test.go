package openai

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

// fixture returns the status line and body of a recorded answer of a real engine.
func fixture(tb testing.TB, name string) (status string, body []byte) {
	tb.Helper()
	raw, err := fs.ReadFile(os.DirFS("testdata"), name+".http")
	if err != nil {
		tb.Fatal(err)
	}
	raw = bytes.ReplaceAll(raw, []byte("\r\n"), []byte("\n"))
	head, body, ok := bytes.Cut(raw, []byte("\n\n"))
	if !ok {
		tb.Fatalf("%s has no body", name)
	}
	status, _, _ = strings.Cut(string(head), "\n")
	return status, body
}

// payloads returns the data of a recorded stream's events, [DONE] left out, and the error at its end.
func payloads(tb testing.TB, name string) (data []string, done bool, end error) {
	tb.Helper()
	_, body := fixture(tb, name)
	r := NewSSEReader(bytes.NewReader(body))
	for {
		e, err := r.Next()
		if err != nil {
			return data, done, err
		}
		if IsDone(e.Data) {
			done = true
			continue
		}
		data = append(data, string(e.Data))
	}
}

// decode reads JSON the slow way.
func decode(tb testing.TB, raw []byte) any {
	tb.Helper()
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		tb.Fatalf("not JSON: %v\n%q", err, raw)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		tb.Fatalf("trailing data in %q", raw)
	}
	return v
}

func sameJSON(tb testing.TB, got, want []byte) {
	tb.Helper()
	if g, w := decode(tb, got), decode(tb, want); !reflect.DeepEqual(g, w) {
		tb.Errorf("got  %s\nwant %s", got, want)
	}
}

// oracle is what encoding/json says about a text.
type oracle struct {
	valid  bool
	object bool
	depth  int
	// twice says that the outermost object has two keys that differ in letter case at most; anyTwice
	// that any object has the same key twice.
	twice, anyTwice bool
	members         int
}

func consult(text []byte) oracle {
	o := oracle{valid: json.Valid(text) && utf8.Valid(text)}
	if !o.valid {
		return o
	}
	type level struct {
		object bool
		keys   []string
		isKey  bool
	}
	var open []*level
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	for {
		token, err := d.Token()
		if err != nil {
			return o
		}
		if delim, ok := token.(json.Delim); ok && (delim == '}' || delim == ']') {
			open = open[:len(open)-1]
			continue
		}
		if len(open) > 0 {
			top := open[len(open)-1]
			if top.isKey {
				key, _ := token.(string)
				for _, k := range top.keys {
					o.anyTwice = o.anyTwice || k == key
					o.twice = o.twice || len(open) == 1 && strings.EqualFold(k, key)
				}
				top.keys = append(top.keys, key)
				top.isKey = false
				if len(open) == 1 {
					o.members++
				}
				continue
			}
			top.isKey = top.object
		}
		if delim, ok := token.(json.Delim); ok {
			if len(open) == 0 {
				o.object = delim == '{'
			}
			open = append(open, &level{object: delim == '{', isKey: delim == '{'})
			o.depth = max(o.depth, len(open))
		}
	}
}
