package adminapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
)

// exactly reads JSON whose members have the names of v's fields to the letter, each once. encoding/json takes
// `Provider` for `provider`, and of two the last: what was checked before would not be what is done.
func exactly(data []byte, v any) error {
	if err := json.Unmarshal(data, v); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	return members(d, reflect.TypeOf(v))
}

// members walks over one value. t is the type that it is read into; what is of no struct type has no names.
func members(d *json.Decoder, t reflect.Type) error {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	open, err := d.Token()
	if err != nil {
		return err
	}
	switch open {
	case json.Delim('{'):
		seen := map[string]bool{}
		for d.More() {
			token, err := d.Token()
			if err != nil {
				return err
			}
			name, _ := token.(string)
			if seen[name] {
				return fmt.Errorf("the member %q is there twice", name)
			}
			seen[name] = true
			inner, err := memberType(t, name)
			if err != nil {
				return err
			}
			if err := members(d, inner); err != nil {
				return err
			}
		}
	case json.Delim('['):
		inner := elementType(t)
		for d.More() {
			if err := members(d, inner); err != nil {
				return err
			}
		}
	default:
		return nil
	}
	_, err = d.Token() // the closing bracket
	return err
}

// memberType finds the type of a member; nil: it is not known here.
func memberType(t reflect.Type, name string) (reflect.Type, error) {
	if t == nil || t.Kind() != reflect.Struct {
		return elementType(t), nil
	}
	for i := range t.NumField() {
		field := t.Field(i)
		own, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if own == "" {
			own = field.Name
		}
		switch {
		case own == name:
			return field.Type, nil
		case strings.EqualFold(own, name):
			return nil, fmt.Errorf("there is no member %q; it is called %q", name, own)
		}
	}
	return nil, nil
}

// elementType is the type of what is in a list or a map.
func elementType(t reflect.Type) reflect.Type {
	if t == nil {
		return nil
	}
	switch t.Kind() {
	case reflect.Slice, reflect.Array, reflect.Map:
		return t.Elem()
	default:
		return nil
	}
}
