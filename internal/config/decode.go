package config

import (
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"shareai/internal/account"
)

// value is a node with its place in the file.
type value struct {
	*node
	path []string // as in snapshot.Problem
	what string   // how messages call it: a field's name, or "an entry of NAME"
}

// decoder reads nodes into settings. Everything that is wrong becomes a problem, and reading goes on.
// No message contains a value; names of things are no secrets and may be quoted.
type decoder struct {
	builder
	places   map[string]spot // where each path was declared
	warnings []Warning
}

// reader reads one value. The functions below make readers that fill a variable in.
type reader func(value)

// fields are the readers of a mapping.
type fields map[string]reader

const pathSeparator = "\x00"

func (d *decoder) complain(v value, hint, format string, args ...any) {
	d.problem(v.line, v.column, hint, "%s "+format, append([]any{v.what}, args...)...)
}

// visit notes where a path is declared. A later declaration of the same path wins: it is the one to
// complain about.
func (d *decoder) visit(v value) {
	d.places[strings.Join(v.path, pathSeparator)] = v.spot
	d.warn(v)
}

// is checks the kind of a value.
func (d *decoder) is(v value, want kind) bool {
	switch {
	case v.broken:
		return false
	case v.kind == want:
		return true
	case want == mapping:
		d.complain(v, "for example {name: value}", "must be a mapping of fields, not %s", v.kind)
	case want == sequence:
		d.complain(v, "for example [first, second]", "must be a list, not %s", v.kind)
	default:
		d.complain(v, "", "must be a single value, not %s", v.kind)
	}
	return false
}

func (k kind) String() string {
	return [...]string{null: "empty", scalar: "a single value", mapping: "a mapping", sequence: "a list"}[k]
}

// mapping reads the fields of a value. A field without a value counts as not given, a misspelt one as
// given, so that there is one problem and not two.
func (d *decoder) mapping(v value, known fields, required ...string) {
	if !d.is(v, mapping) {
		return
	}
	for _, e := range v.entries {
		read, ok := known[e.name]
		if !ok {
			if meant := d.unknown(e, known); meant != "" && v.field(meant) == nil {
				misspelt := &node{spot: e.spot, kind: scalar, broken: true}
				v.entries = append(v.entries, entry{spot: e.spot, name: meant, value: misspelt})
			}
			continue
		}
		field := value{node: e.value, path: append(slices.Clone(v.path), e.name), what: e.name}
		d.visit(field)
		if field.kind != null {
			read(field)
		}
	}
	for _, name := range required {
		if f := v.field(name); f == nil || f.kind == null && !f.broken {
			d.complain(v, "", "needs the field %s", name)
		}
	}
}

// unknown reports a field that is not known and returns the one that may have been meant.
func (d *decoder) unknown(e entry, known fields) (meant string) {
	names := slices.Sorted(maps.Keys(known))
	hint := "the fields here are " + strings.Join(names, ", ")
	if meant = suggest(e.name, names); meant != "" {
		hint = "did you mean " + meant + "?"
	}
	message := "there is no such field here"
	if fieldShape.MatchString(e.name) {
		message = "there is no field " + e.name + " here"
	}
	d.problem(e.line, e.column, hint, "%s", message)
	return meant
}

// list reads the items of a list.
func list[T any](d *decoder, into *[]T, read func(value) T) reader {
	return func(v value) {
		d.each(v, func(item value) { *into = append(*into, read(item)) })
	}
}

// each visits the items of a list. An item's place in the path is its name if it has one.
func (d *decoder) each(v value, read reader) {
	if !d.is(v, sequence) {
		return
	}
	for i, n := range v.items {
		part := strconv.Itoa(i)
		if name := n.field("name"); name != nil && name.kind == scalar {
			part = name.text
		}
		item := value{node: n, path: append(slices.Clone(v.path), part), what: "an entry of " + v.what}
		d.visit(item)
		if n.kind == null && !n.broken {
			d.complain(item, "remove its dash", "is empty")
			continue
		}
		read(item)
	}
}

// scalar returns the text of a single value.
func (d *decoder) scalar(v value) (string, bool) {
	if !d.is(v, scalar) {
		return "", false
	}
	if i := strings.IndexFunc(v.text, unicode.IsControl); i >= 0 {
		d.complain(v, "write it on one line", "contains a line break or another control character")
		return "", false
	}
	return v.text, true
}

// text reads any text.
func (d *decoder) text(into *string) reader {
	return func(v value) { *into, _ = d.scalar(v) }
}

// item reads an entry of a list of texts.
func (d *decoder) item(read func(*string) reader) func(value) string {
	return func(v value) (text string) {
		read(&text)(v)
		return text
	}
}

// shape is a form that a text must have.
type shape struct {
	form *regexp.Regexp
	must string // "must …"
	hint string
}

// shaped reads a text of a certain form.
func (d *decoder) shaped(s shape) func(*string) reader {
	return func(into *string) reader {
		return func(v value) {
			text, ok := d.scalar(v)
			if ok && !s.form.MatchString(text) {
				d.complain(v, s.hint, "%s", s.must)
				return
			}
			*into = text
		}
	}
}

// name reads the name of an organization, project, key, provider or policy.
func (d *decoder) name(into *string) reader {
	return func(v value) {
		text, ok := d.scalar(v)
		if !ok {
			return
		}
		if err := account.CheckName(text); err != nil {
			d.complain(v, err.Error(), "is not a name")
			return
		}
		*into = text
	}
}

// choice reads one of some words.
func choice[T ~string](d *decoder, into *T, words ...T) reader {
	return func(v value) {
		text, ok := d.scalar(v)
		if !ok {
			return
		}
		if slices.Contains(words, T(text)) {
			*into = T(text)
			return
		}
		all := make([]string, len(words))
		for i, w := range words {
			all[i] = string(w)
		}
		hint := ""
		if near := suggest(text, all); near != "" {
			hint = "did you mean " + near + "?"
		}
		must := "must be one of "
		if len(all) == 1 {
			must = "must be "
		}
		d.complain(v, hint, "%s", must+strings.Join(all, ", "))
	}
}

// secret reads a credential of at least some characters that can be sent in a header.
func (d *decoder) secret(into *account.Secret, least int) reader {
	return func(v value) {
		if !d.is(v, scalar) {
			return
		}
		d.remember(v.text)
		switch {
		case v.text == "":
			d.complain(v, "", "is empty")
		case strings.ContainsFunc(v.text, func(r rune) bool { return r <= ' ' || r > '~' }):
			d.complain(v, "look for a line break at its end", "must consist of printable ASCII characters without spaces")
		case len(v.text) < least:
			d.complain(v, "generate one, for example with: openssl rand -hex 32", "must have at least %d characters", least)
		default:
			*into = account.NewSecret(v.text)
		}
	}
}

// boolean reads true or false.
func (d *decoder) boolean(into *bool) reader {
	return func(v value) {
		text, ok := d.scalar(v)
		switch {
		case !ok:
		case d.isText(v) || text != "true" && text != "false":
			d.complain(v, "without quotes", "must be true or false")
		default:
			*into = text == "true"
		}
	}
}

// isText says whether a value was written in quotes, so that it can not be a number or the like. What
// comes from the environment can.
func (d *decoder) isText(v value) bool { return v.quoted && !v.expanded }

var (
	integerForm = regexp.MustCompile(`^-?[0-9]{1,18}$`)
	numberForm  = regexp.MustCompile(`^[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?$`)
)

// integer reads a whole number from 0 to most.
func integer[T int | int64](d *decoder, into *T, most int64) reader {
	return func(v value) {
		text, ok := d.scalar(v)
		if !ok {
			return
		}
		n, err := strconv.ParseInt(text, 10, 64)
		switch {
		case d.isText(v):
			d.complain(v, "remove the quotes", "must be a whole number, not text")
		case err != nil || !integerForm.MatchString(text):
			d.complain(v, "digits only", "must be a whole number")
		case n < 0 || n > most:
			d.complain(v, "", "must be from 0 to %d", most)
		default:
			*into = T(n)
		}
	}
}

// span is a range of numbers; Above says that the least value itself is outside.
type span struct {
	least, most float64
	above       bool
}

func (s span) String() string {
	least, most := strconv.FormatFloat(s.least, 'f', -1, 64), strconv.FormatFloat(s.most, 'f', -1, 64)
	if s.above {
		return "above " + least + " and at most " + most
	}
	return "from " + least + " to " + most
}

// number reads a number within a range.
func (d *decoder) number(into *float64, s span) reader {
	return func(v value) {
		text, ok := d.scalar(v)
		if !ok {
			return
		}
		n, err := strconv.ParseFloat(text, 64)
		switch {
		case d.isText(v):
			d.complain(v, "remove the quotes", "must be a number, not text")
		case err != nil || !numberForm.MatchString(text) || math.IsInf(n, 0):
			d.complain(v, "for example 0.59", "must be a number")
		case n < s.least || n > s.most || s.above && n == s.least:
			d.complain(v, "", "must be %s", s)
		default:
			*into = n
		}
	}
}

// duration reads a time span such as 1m30s.
func (d *decoder) duration(into *time.Duration, most time.Duration) reader {
	return func(v value) {
		text, ok := d.scalar(v)
		if !ok {
			return
		}
		n, err := time.ParseDuration(text)
		switch {
		case err != nil && numberForm.MatchString(text):
			d.complain(v, "write 2s, 500ms or 5m", "needs a unit")
		case err != nil:
			d.complain(v, "for example 500ms, 2s or 1m30s", "must be a duration")
		case n < 0 || n > most:
			d.complain(v, "", "must be from 0s to %s", shortly(most))
		default:
			*into = n
		}
	}
}

// shortly writes a whole number of hours without the minutes and seconds that it does not have.
func shortly(d time.Duration) string { return fmt.Sprintf("%.0fh", d.Hours()) }

// moment reads a date, which stands for its first instant in UTC, or a time with its zone.
func (d *decoder) moment(into *time.Time) reader {
	return func(v value) {
		text, ok := d.scalar(v)
		if !ok {
			return
		}
		for _, layout := range []string{time.DateOnly, time.RFC3339} {
			if t, err := time.Parse(layout, text); err == nil {
				*into = t.UTC()
				return
			}
		}
		d.complain(v, "for example 2027-12-31 or 2027-12-31T18:00:00Z", "must be a date or a time")
	}
}
