package openai

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

func TestEdit(t *testing.T) {
	for _, c := range []struct {
		name, body string
		edits      []Edit
		want       string
	}{
		{"nothing", ` { "model" : "m" } `, nil, ` { "model" : "m" } `},
		{"the zero edit", `{"model":"m"}`, []Edit{{}}, `{"model":"m"}`},
		{"set", ` { "model" : "m" , "n":1 }`, []Edit{SetString("model", "x\"y")}, ` { "model" : "x\"y" , "n":1 }`},
		{"set twice", `{"model":"m"}`, []Edit{SetString("model", "x"), SetString("model", "y")}, `{"model":"y"}`},
		{"append", "{\n \"model\": \"m\"\n}\n", []Edit{Set("user", []byte(`"u"`))}, "{\n \"model\": \"m\",\"user\":\"u\"\n}\n"},
		{"append two", `{"model":"m"}`, []Edit{Set("a", []byte(`1`)), Set("b", []byte(`2`))}, `{"model":"m","a":1,"b":2}`},
		{"append and set", `{"model":"m"}`, []Edit{Set("a", []byte(`1`)), Set("a", []byte(`2`))}, `{"model":"m","a":2}`},
		{"append and remove", `{"model":"m"}`, []Edit{Set("a", []byte(`1`)), Remove("a")}, `{"model":"m"}`},
		{"append and rename", `{"model":"m"}`, []Edit{Set("a", []byte(`1`)), Rename("a", "b")}, `{"model":"m","b":1}`},
		{"remove the first", `{ "a" : 1 , "model":"m"}`, []Edit{Remove("a")}, `{ "model":"m"}`},
		{"remove the middle", `{"model":"m", "a":1, "b":2}`, []Edit{Remove("a")}, `{"model":"m", "b":2}`},
		{"remove the last", `{"model":"m", "a":1 }`, []Edit{Remove("a")}, `{"model":"m"}`},
		{"remove two at the start", `{"a":1,"b":2,"model":"m"}`, []Edit{Remove("b"), Remove("a")}, `{"model":"m"}`},
		{"remove two at the end", `{"model":"m","a":1,"b":2}`, []Edit{Remove("b"), Remove("a")}, `{"model":"m"}`},
		{"remove around", `{"a":1,"model":"m","b":2}`, []Edit{Remove("b"), Remove("a")}, `{"model":"m"}`},
		{"remove all", `{ "a":1, "model":"m" }`, []Edit{Remove("model"), Remove("a")}, `{}`},
		{"remove all, append", `{"a":1,"model":"m"}`, []Edit{Remove("model"), Remove("a"), Set("x", []byte(`1`)), Set("y", []byte(`2`))}, `{"x":1,"y":2}`},
		{"remove the last, append", `{"model":"m","a":1}`, []Edit{Remove("a"), Set("x", []byte(`1`))}, `{"model":"m","x":1}`},
		{"remove, set again", `{"a":1,"model":"m"}`, []Edit{Remove("a"), Set("a", []byte(`2`))}, `{"model":"m","a":2}`},
		{"remove what is absent", `{"model":"m"}`, []Edit{Remove("a")}, `{"model":"m"}`},
		{"rename", `{"max_completion_tokens" : 5, "model":"m"}`, []Edit{Rename("max_completion_tokens", "max_tokens")}, `{"max_tokens" : 5, "model":"m"}`},
		{"rename onto another", `{"a":1,"model":"m","b":2}`, []Edit{Rename("b", "a")}, `{"model":"m","a":2}`},
		{"rename and set", `{"a":1,"model":"m"}`, []Edit{Rename("a", "b"), Set("b", []byte(`9`))}, `{"b":9,"model":"m"}`},
		{"swap", `{"a":1,"b":2,"model":"m"}`, []Edit{Rename("a", "c"), Rename("b", "a"), Rename("c", "b")}, `{"b":1,"a":2,"model":"m"}`},
		{"rename what is absent", `{"model":"m"}`, []Edit{Rename("a", "b")}, `{"model":"m"}`},
		{"rename to itself", `{"a":1,"model":"m"}`, []Edit{Rename("a", "a")}, `{"a":1,"model":"m"}`},
		{"an escaped key", `{"\u0061":1,"model":"m"}`, []Edit{Set("a", []byte(`2`))}, `{"\u0061":2,"model":"m"}`},
		{
			"all else stays", `{"model":"m","big":12345678901234567890.10,"u":"\u00e9é\/","model2" :  [1 , 2]}`,
			[]Edit{SetString("model", "x")},
			`{"model":"x","big":12345678901234567890.10,"u":"\u00e9é\/","model2" :  [1 , 2]}`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := scanner{src: []byte(c.body)}
			o := s.object(s.begin(), nil)
			if s.problem != "" {
				t.Fatal(s.problem)
			}
			b := o.edit(c.edits)
			if got := string(b.Bytes()); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			if b.Len() != int64(len(c.want)) {
				t.Errorf("Len = %d, want %d", b.Len(), len(c.want))
			}
		})
	}
}

func TestEditEmptyObject(t *testing.T) {
	for body, want := range map[string]string{`{}`: `{"a":1,"b":2}`, `{ }`: `{"a":1,"b":2 }`} {
		s := scanner{src: []byte(body)}
		o := s.object(s.begin(), nil)
		if got := o.edit([]Edit{Set("a", []byte("1")), Set("b", []byte("2"))}).Bytes(); string(got) != want {
			t.Errorf("%s: %s, want %s", body, got, want)
		}
	}
}

func TestWithUsageKeepsOtherOptions(t *testing.T) {
	for body, want := range map[string]string{
		`{"model":"m"}`:                                                          `{"model":"m","stream_options":{"include_usage":true}}`,
		`{"stream_options":null,"model":"m"}`:                                    `{"stream_options":{"include_usage":true},"model":"m"}`,
		`{"stream_options":{},"model":"m"}`:                                      `{"stream_options":{"include_usage":true},"model":"m"}`,
		`{"model":"m","stream_options":{ "include_obfuscation" : false }}`:       `{"model":"m","stream_options":{ "include_obfuscation" : false,"include_usage":true }}`,
		`{"model":"m","stream_options":{"include_usage":false, "x":[1]}}`:        `{"model":"m","stream_options":{"include_usage":true, "x":[1]}}`,
		`{"model":"m","stream_options":{"x":1,"include_usage":true},"stream":1}`: ``,
		`{"model":"m","stream_options":{"x":1, "include_usage":true}}`:           `{"model":"m","stream_options":{"x":1, "include_usage":true}}`,
	} {
		r, err := ParseRequest([]byte(body))
		if want == "" {
			if err == nil {
				t.Errorf("%s was accepted", body)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := string(r.Edit(r.WithUsage()).Bytes()); got != want {
			t.Errorf("%s\ngot  %s\nwant %s", body, got, want)
		}
	}
}

func TestBodyReads(t *testing.T) {
	r, err := ParseRequest(chatBody(10 << 10))
	if err != nil {
		t.Fatal(err)
	}
	b := r.Edit(SetString("model", "other"), r.WithUsage(), Remove("temperature"))
	want := b.Bytes()
	for range 2 {
		if err := iotest.TestReader(b.Reader(), want); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	if n, err := io.Copy(&out, b.Reader()); err != nil || n != b.Len() || !bytes.Equal(out.Bytes(), want) {
		t.Errorf("io.Copy: %d, %v", n, err)
	}
	if n, err := b.WriteTo(failingWriter{}); err == nil || n != 0 {
		t.Errorf("a failing writer: %d, %v", n, err)
	}
	if got, err := io.ReadAll(Body{}.Reader()); err != nil || len(got) != 0 {
		t.Errorf("the empty body: %q, %v", got, err)
	}
	if nb := NewBody([]byte("abc")); nb.Len() != 3 || string(nb.Bytes()) != "abc" {
		t.Errorf("NewBody: %q", nb.Bytes())
	}
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// pair is a member in the naive model of an object.
type pair struct{ key, raw string }

// applyNaively is what Edit promises, on a list.
func applyNaively(list []pair, e Edit) []pair {
	at := func(name string) int {
		return slices.IndexFunc(list, func(p pair) bool { return p.key == name })
	}
	i := at(e.name)
	switch {
	case e.verb == set && i >= 0:
		list[i].raw = string(e.value)
	case e.verb == set:
		list = append(list, pair{e.name, string(e.value)})
	case e.verb == remove && i >= 0:
		list = slices.Delete(list, i, i+1)
	case e.verb == rename && i >= 0 && e.name != e.newName:
		renamed := pair{e.newName, list[i].raw}
		list[i].key = ""
		list = slices.DeleteFunc(list, func(p pair) bool { return p.key == e.newName })
		list[at("")] = renamed
	}
	return list
}

func TestEditKeepsItsPromiseOnAnyObject(t *testing.T) {
	key := rapid.SampledFrom([]string{"a", "b", "c", "d", "é", `q"`})
	space := rapid.SampledFrom([]string{"", "", " ", "\n\t"})
	anyVerb := rapid.SampledFrom([]verb{nothing, set, remove, rename})
	value := rapid.SampledFrom([]string{"1", `"x"`, `{"a":[1,{}]}`, "[ ]", "null", "1e400"})
	rapid.Check(t, func(t *rapid.T) {
		var text strings.Builder
		var list []pair
		text.WriteString(space.Draw(t, "s") + "{")
		for i, k := range rapid.SliceOfNDistinct(key, 0, 6, rapid.ID[string]).Draw(t, "keys") {
			if i > 0 {
				text.WriteString(",")
			}
			v := value.Draw(t, "v")
			list = append(list, pair{k, v})
			fmt.Fprint(&text, space.Draw(t, "s"), string(AppendString(nil, k)), space.Draw(t, "s"), ":", space.Draw(t, "s"), v, space.Draw(t, "s"))
		}
		text.WriteString("}" + space.Draw(t, "s"))
		edits := make([]Edit, 0, 6)
		for range rapid.IntRange(0, cap(edits)).Draw(t, "edits") {
			e := Edit{verb: anyVerb.Draw(t, "verb"), name: key.Draw(t, "name"), newName: key.Draw(t, "new"), value: []byte(value.Draw(t, "value"))}
			edits = append(edits, e)
			list = applyNaively(list, e)
		}

		s := scanner{src: []byte(text.String())}
		o := s.object(s.begin(), nil)
		got := o.edit(edits).Bytes()
		if s.problem != "" || !json.Valid(got) {
			t.Fatalf("%q became %q", text.String(), got)
		}
		again := scanner{src: got}
		result := again.object(again.begin(), nil)
		if again.problem != "" {
			t.Fatalf("%q: %s", got, again.problem)
		}
		members := make([]pair, 0, len(result.members))
		for i := range result.members {
			m := &result.members[i]
			members = append(members, pair{string(result.name(m)), string(result.raw(m))})
		}
		if !slices.Equal(members, list) {
			t.Fatalf("%q became %q\nwant %q", text.String(), got, list)
		}
	})
}

// checkRequest compares an accepted request and an edit of it with what encoding/json reads.
func checkRequest(t *testing.T, r *Request) {
	t.Helper()
	var want map[string]json.RawMessage
	if err := json.Unmarshal(r.Body, &want); err != nil {
		t.Fatalf("%q: %v", r.Body, err)
	}
	var model string
	if raw, ok := want["model"]; ok {
		if err := json.Unmarshal(raw, &model); err != nil || model != r.Model {
			t.Fatalf("%q: model %q, want %q, %v", r.Body, r.Model, model, err)
		}
	} else if models, err := r.Models(); err != nil || models[0] != r.Model {
		t.Fatalf("%q: model %q, models %q, %v", r.Body, r.Model, models, err)
	}
	checkNames(t, r, want)
	checkContinued(t, r)
	for name, raw := range want {
		if got, ok := r.Field(name); !ok || !bytes.Equal(got, raw) {
			t.Fatalf("%q: Field(%q) = %q, %v", r.Body, name, got, ok)
		}
	}
	b := r.Edit(SetString("model", "new"), r.WithUsage(), Rename("max_completion_tokens", "max_tokens"), Remove("user"))
	want = maps.Clone(want)
	want["model"] = json.RawMessage(`"new"`)
	if raw, ok := want["max_completion_tokens"]; ok {
		want["max_tokens"] = raw
		delete(want, "max_completion_tokens")
	}
	delete(want, "user")
	again, err := ParseRequest(b.Bytes())
	if err != nil || !again.IncludeUsage || again.MaxTokens != r.MaxTokens && again.isSet("max_tokens") && r.isSet("max_completion_tokens") {
		t.Fatalf("%q became %q: %v", r.Body, b.Bytes(), err)
	}
	var got map[string]json.RawMessage
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	delete(got, "stream_options")
	delete(want, "stream_options")
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%q became %q", r.Body, b.Bytes())
	}
}

// checkNames compares the lists of models with what decoding finds.
func checkNames(t *testing.T, r *Request, body map[string]json.RawMessage) {
	t.Helper()
	var want []string
	decodes := json.Unmarshal(body["models"], &want) == nil && !slices.Contains(want, "") && len(want) <= maxFallbacks
	switch got, err := r.Models(); {
	case err == nil && len(got) > 0 && (!decodes || !slices.Equal(got, want)):
		t.Fatalf("%q: models %q, want %q", r.Body, got, want)
	case err != nil && decodes && !bytes.Contains(body["models"], []byte("null")) && len(body["models"]) <= maxModelName:
		t.Fatalf("%q: %v", r.Body, err)
	}
	if names, err := r.Fallbacks(); err == nil && slices.Contains(names, "") || len(names) > maxFallbacks {
		t.Fatalf("%q: fallbacks %q", r.Body, names)
	}
}

// checkContinued checks that a request that can be continued still is one, with everything it had.
func checkContinued(t *testing.T, r *Request) {
	t.Helper()
	before := r.Needs()
	next, err := r.Continue(Continuation{Text: "\"so\n", Member: "prefix", Final: true, Tokens: 7})
	if err != nil {
		return
	}
	if next.Model != r.Model || next.Stream != r.Stream || next.Needs() != before || next.PromptBytes < r.PromptBytes {
		t.Fatalf("%q\nbecame %q: %+v, %+v", r.Body, next.Body, before, next.Needs())
	}
	if _, chat := r.Field("messages"); chat {
		if _, err := next.Continue(Continuation{Text: "x"}); err == nil {
			t.Fatalf("%q was continued twice", r.Body)
		}
	}
}

func BenchmarkEdit(b *testing.B) {
	for _, size := range []int{300, 10 << 10} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			r, err := ParseRequest(chatBody(size))
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				r.Edit(SetString("model", "upstream/llama-3.3-70b"), r.WithUsage())
			}
		})
	}
}

func BenchmarkBodyReader(b *testing.B) {
	r, err := ParseRequest(chatBody(10 << 10))
	if err != nil {
		b.Fatal(err)
	}
	body := r.Edit(SetString("model", "upstream/llama-3.3-70b"), r.WithUsage())
	b.SetBytes(body.Len())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := body.WriteTo(io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}
