package adminapi

import (
	"strings"
	"testing"
)

func TestExactly(t *testing.T) {
	t.Parallel()
	type inner struct {
		Name string `json:"name"`
	}
	type outer struct {
		Inner inner            `json:"inner"`
		List  []*inner         `json:"list,omitempty"`
		Map   map[string]inner `json:"map"`
		Any   any              `json:"any"`
		Count int64            `json:"count"`
	}
	for body, says := range map[string]string{
		`{"inner":{"name":"a"},"list":[{"name":"b"},null],"map":{"Name":{"name":"c"}},"any":{"NAME":[1,{"x":null}]},"count":9007199254740993}`: "",
		`{}`:                                  "",
		`{"Inner":{}}`:                        `no member "Inner"; it is called "inner"`,
		`{"inner":{"NAME":"a"}}`:              `no member "NAME"; it is called "name"`,
		`{"list":[{"name":"b"},{"nAme":""}]}`: `no member "nAme"`,
		`{"map":{"x":{"Name":""}}}`:           `no member "Name"`,
		`{"count":1,"count":2}`:               `"count" is there twice`,
		`{"count":1,"\u0063ount":2}`:          `"count" is there twice`,
		`{"any":{"x":[{"y":1,"y":2}]}}`:       `"y" is there twice`,
		`{"map":{"x":{},"x":{}}}`:             `"x" is there twice`,
	} {
		var into outer
		err := exactly([]byte(body), &into)
		if (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want …%s…", body, err, says)
		}
	}
}
