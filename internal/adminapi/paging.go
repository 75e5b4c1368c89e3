package adminapi

import (
	"encoding/base64"
	"slices"
	"strings"

	"shareai/internal/fault"
)

// Page is what a list is asked for with. Embed it in the input of an operation; the answer has the member `next`.
type Page struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"500" default:"50" doc:"How many at most."`
	Cursor string `query:"cursor" maxLength:"400" doc:"The member next of the answer before; missing: the beginning."`
}

// NextCursor is the member of an answer that leads on. Embed it in the body of a list.
type NextCursor struct {
	Next string `json:"next,omitempty" doc:"The cursor of what follows; missing: this is the end."`
}

// after is the place at which the page before ended; empty: this is the first one.
func (p Page) after() (string, error) {
	place, err := base64.RawURLEncoding.DecodeString(p.Cursor)
	if err != nil {
		return "", badCursor()
	}
	return string(place), nil
}

func badCursor() error {
	return fault.New(fault.Invalid, "invalid_cursor", "The cursor is not one of this list. Take it from the member next of the answer before, or leave it out.").About("cursor")
}

// cursorAt leads on from a place.
func cursorAt(place string) NextCursor {
	return NextCursor{Next: base64.RawURLEncoding.EncodeToString([]byte(place))}
}

// pageOf cuts a page out of a whole list, sorted by place, which no two entries share. What comes and goes between two
// pages neither repeats nor hides anything else.
func pageOf[T any](all []T, p Page, place func(*T) string) ([]T, NextCursor, error) {
	after, err := p.after()
	if err != nil {
		return nil, NextCursor{}, err
	}
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b T) int { return strings.Compare(place(&a), place(&b)) })
	if after != "" {
		all = slices.DeleteFunc(all, func(t T) bool { return place(&t) <= after })
	}
	if len(all) <= p.Limit {
		return all, NextCursor{}, nil
	}
	all = all[:p.Limit]
	return all, cursorAt(place(&all[len(all)-1])), nil
}
