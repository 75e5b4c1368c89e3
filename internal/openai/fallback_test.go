package openai

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"shareai/internal/fault"
)

func TestModelsAndFallbacks(t *testing.T) {
	for _, c := range []struct {
		body              string
		model             string
		models, fallbacks []string
	}{
		{`{"model":"a"}`, "a", nil, nil},
		{`{"model":"a","models":null,"fallbacks":null}`, "a", nil, nil},
		{`{"model":"a","models":["b","c"]}`, "a", []string{"b", "c"}, nil},
		{`{"models":["b", "c\u0064"]}`, "b", []string{"b", "cd"}, nil},
		{`{"model":"a","fallbacks":["b",{"model":"c"}, { "model" : "d" } ]}`, "a", nil, []string{"b", "c", "d"}},
		{`{"model":"a","fallbacks":[],"models":[]}`, "a", nil, nil},
		{`{"model":"a","models":["x"` + strings.Repeat(`,"x"`, 15) + `]}`, "a", strings.Split(strings.Repeat("x", 16), ""), nil},
	} {
		r, err := ParseRequest([]byte(c.body))
		if err != nil {
			t.Fatalf("%s: %v", c.body, err)
		}
		models, err1 := r.Models()
		fallbacks, err2 := r.Fallbacks()
		if err1 != nil || err2 != nil || r.Model != c.model {
			t.Errorf("%s: model %q, errors %v, %v", c.body, r.Model, err1, err2)
		}
		if diff := cmp.Diff([][]string{c.models, c.fallbacks}, [][]string{models, fallbacks}); diff != "" {
			t.Errorf("%s\n%s", c.body, diff)
		}
	}
}

func TestModelsAndFallbacksRefuse(t *testing.T) {
	long := `"` + strings.Repeat("m", 513) + `"`
	for _, c := range []struct{ list, value, code, param string }{
		{"models", `"a"`, "invalid_type", "models"},
		{"models", `{}`, "invalid_type", "models"},
		{"models", `[1]`, "invalid_type", "models[0]"},
		{"models", `["a",null]`, "invalid_type", "models[1]"},
		{"models", `[{"model":"a"}]`, "invalid_type", "models[0]"},
		{"models", `["a",""]`, "invalid_type", "models[1]"},
		{"models", `[` + long + `]`, "invalid_value", "models[0]"},
		{"models", `["x"` + strings.Repeat(`,"x"`, 16) + `]`, "invalid_value", "models"},
		{"fallbacks", `"a"`, "invalid_type", "fallbacks"},
		{"fallbacks", `["a",2]`, "invalid_type", "fallbacks[1]"},
		{"fallbacks", `[{}]`, "invalid_value", "fallbacks[0]"},
		{"fallbacks", `[{"model":1}]`, "invalid_type", "fallbacks[0].model"},
		{"fallbacks", `[{"model":""}]`, "invalid_type", "fallbacks[0].model"},
		{"fallbacks", `[{"model":"a","messages":[]}]`, "invalid_value", "fallbacks[0]"},
		{"fallbacks", `[{"model":"a","MODEL":"b"}]`, "invalid_value", "fallbacks[0]"},
		{"fallbacks", `["x"` + strings.Repeat(`,{"model":"x"}`, 16) + `]`, "invalid_value", "fallbacks"},
	} {
		r, err := ParseRequest([]byte(`{"model":"a","` + c.list + `":` + c.value + `}`))
		if err != nil {
			t.Fatal(err)
		}
		read := r.Models
		if c.list == "fallbacks" {
			read = r.Fallbacks
		}
		names, err := read()
		checkFault(t, c.value, err, c.code, c.param)
		if names != nil {
			t.Errorf("%s: %v", c.value, names)
		}
		if c.list == "models" { // without a model, the list decides
			_, err = ParseRequest([]byte(`{"models":` + c.value + `}`))
			checkFault(t, c.value, err, c.code, c.param)
		}
	}
	for body, param := range map[string]string{
		`{"models":[]}`: "model", `{"models":null}`: "model", `{"fallbacks":["a"]}`: "model",
		`{"model":"a","Models":["b"]}`: "models", `{"model":"a","FALLBACKS":["b"]}`: "fallbacks",
	} {
		code := "missing_required_parameter"
		if param != "model" {
			code = "unknown_parameter"
		}
		_, err := ParseRequest([]byte(body))
		checkFault(t, body, err, code, param)
	}
}

func checkFault(t *testing.T, what string, err error, code, param string) {
	t.Helper()
	var f *fault.Error
	if !errors.As(err, &f) || f.Kind != fault.Invalid || f.Code != code || f.Param != param {
		t.Errorf("%.60s: %v, want %s about %s", what, err, code, param)
	}
}
