package openai

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"shareai/internal/fault"
)

func TestParseRequestReadsWhatMatters(t *testing.T) {
	r, err := ParseRequest([]byte(`{"temperature":0.1,"messages":[{"role":"user","content":"héllo"}],"stream":true,
		"stream_options":{"x":1,"include_usage":true},"max_tokens":10,"max_completion_tokens":20,"n":3,
		"encoding_format":"base64","\u006dodel":"llama \"3\""}`))
	if err != nil {
		t.Fatal(err)
	}
	if r.Model != `llama "3"` || !r.Stream || !r.IncludeUsage || r.MaxTokens != 20 || r.N != 3 || r.EncodingFormat != "base64" {
		t.Errorf("%+v", r)
	}
	if want := len("user") + len("héllo"); r.PromptBytes != want {
		t.Errorf("PromptBytes = %d, want %d", r.PromptBytes, want)
	}
	if raw, ok := r.Field("temperature"); !ok || string(raw) != "0.1" {
		t.Errorf("Field(temperature) = %q, %v", raw, ok)
	}
	if raw, ok := r.Field("model"); !ok || string(raw) != `"llama \"3\""` {
		t.Errorf("Field(model) = %q, %v", raw, ok)
	}
	if _, ok := r.Field("Temperature"); ok {
		t.Error("Field ignores letter case")
	}
}

func TestParseRequestDefaults(t *testing.T) {
	for _, body := range []string{
		`{"model":"m"}`,
		`{"model":"m","stream":null,"stream_options":null,"max_tokens":null,"max_completion_tokens":null,"n":null,"encoding_format":null}`,
		` {"max_tokens":-1,"n":1,"stream":false,"stream_options":{"include_usage":null},"model":"m"} ` + "\n",
	} {
		r, err := ParseRequest([]byte(body))
		if err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		if r.Stream || r.IncludeUsage || r.MaxTokens != 0 || r.N != 1 || r.EncodingFormat != "" || r.PromptBytes != 0 {
			t.Errorf("%s: %+v", body, r)
		}
	}
}

func TestParseRequestTakesTheNewerLimit(t *testing.T) {
	for body, want := range map[string]int64{
		`{"model":"m","max_tokens":5}`:                                5,
		`{"model":"m","max_completion_tokens":7,"max_tokens":5}`:      7,
		`{"model":"m","max_tokens":5,"max_completion_tokens":7}`:      7,
		`{"model":"m","max_tokens":5,"max_completion_tokens":null}`:   5,
		`{"model":"m","max_tokens":1e3}`:                              1000,
		`{"model":"m","max_tokens":100.0}`:                            100,
		`{"model":"m","max_tokens":99999999999999999999999}`:          maxTokens,
		`{"model":"m","max_completion_tokens":1e400,"max_tokens": 1}`: maxTokens,
	} {
		r, err := ParseRequest([]byte(body))
		if err != nil || r.MaxTokens != want {
			t.Errorf("%s: %+v, %v; want %d", body, r, err, want)
		}
	}
}

func TestParseRequestEstimatesThePrompt(t *testing.T) {
	image := "data:image/png;base64," + strings.Repeat("iVBORw0KGgo", 5000)
	prose := strings.Repeat("many words ", 1000)
	for _, c := range []struct {
		body string
		want int
	}{
		{`{"model":"m","prompt":"hello","user":"somebody"}`, 5},
		{`{"model":"m","prompt":["ab","cde"],"suffix":"f"}`, 6},
		{`{"model":"m","input":[1,22,333]}`, 12},
		{`{"model":"m","input":[[1,22],[333]]}`, 12},
		{`{"model":"m","messages":[{"content":[{"type":"text","text":"abc"}]}]}`, 7},
		{`{"model":"m","tools":[{"a": 1}]}`, 10},
		{fmt.Sprintf(`{"model":"m","input":%q}`, prose), len(prose)},
		{fmt.Sprintf(`{"model":"m","messages":[{"content":[{"image_url":{"url":%q}}]}]}`, image), mediaBytes},
	} {
		r, err := ParseRequest([]byte(c.body))
		if err != nil || r.PromptBytes != c.want {
			t.Errorf("%.60s: %d, %v; want %d", c.body, r.PromptBytes, err, c.want)
		}
	}
}

func TestParseRequestRefuses(t *testing.T) {
	for _, c := range []struct{ name, body, code, param string }{
		{"nothing", "", "invalid_json", ""},
		{"only space", " \n", "invalid_json", ""},
		{"not an object", `["model"]`, "invalid_json", ""},
		{"a string", `"model"`, "invalid_json", ""},
		{"cut off", `{"model":"m","messages":[{"role":"us`, "invalid_json", ""},
		{"trailing garbage", `{"model":"m"} x`, "invalid_json", ""},
		{"two objects", `{"model":"m"}{"model":"n"}`, "invalid_json", ""},
		{"byte order mark", "\xEF\xBB\xBF{\"model\":\"m\"}", "invalid_json", ""},
		{"invalid UTF-8 in a value", "{\"model\":\"m\",\"a\":\"\xc3\x28\"}", "invalid_json", ""},
		{"invalid UTF-8 in a key", "{\"model\":\"m\",\"\xff\":1}", "invalid_json", ""},
		{"control character", "{\"model\":\"m\",\"a\":\"\x01\"}", "invalid_json", ""},
		{"too deep", `{"model":"m","a":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `}`, "invalid_json", ""},
		{"the same key twice", `{"model":"cheap","a":1,"model":"dear"}`, "invalid_json", ""},
		{"twice in another letter case", `{"model":"cheap","MODEL":"dear"}`, "invalid_json", ""},
		{"twice, one escaped", `{"model":"cheap","\u006dodel":"dear"}`, "invalid_json", ""},
		{"twice, one escaped and upper case", `{"\u004dodel":"dear","model":"cheap"}`, "invalid_json", ""},
		{"twice, with the Kelvin sign", "{\"model\":\"m\",\"key\":1,\"\u212aey\":2}", "invalid_json", ""},
		{"twice, with the long s", "{\"model\":\"m\",\"\u017ftream\":true,\"stream\":false}", "invalid_json", ""},
		{"no model", `{}`, "missing_required_parameter", "model"},
		{"empty model", `{"model":""}`, "invalid_type", "model"},
		{"model is a number", `{"model":5}`, "invalid_type", "model"},
		{"model is null", `{"model":null}`, "invalid_type", "model"},
		{"endless model", `{"model":"` + strings.Repeat("m", 513) + `"}`, "invalid_value", "model"},
		{"stream is a string", `{"model":"m","stream":"true"}`, "invalid_type", "stream"},
		{"stream is a number", `{"model":"m","stream":1}`, "invalid_type", "stream"},
		{"stream_options is a list", `{"model":"m","stream_options":[]}`, "invalid_type", "stream_options"},
		{"include_usage is a number", `{"model":"m","stream_options":{"include_usage":1}}`, "invalid_type", "stream_options.include_usage"},
		{"include_usage twice", `{"model":"m","stream_options":{"include_usage":false,"include_usage":true}}`, "invalid_value", "stream_options"},
		{"Include_Usage", `{"model":"m","stream_options":{"Include_Usage":true}}`, "unknown_parameter", "include_usage"},
		{"max_tokens is a string", `{"model":"m","max_tokens":"5"}`, "invalid_type", "max_tokens"},
		{"max_tokens is a fraction", `{"model":"m","max_tokens":5.5}`, "invalid_type", "max_tokens"},
		{"max_tokens is negative", `{"model":"m","max_tokens":-5}`, "invalid_value", "max_tokens"},
		{"max_tokens behind the newer one", `{"model":"m","max_completion_tokens":1,"max_tokens":true}`, "invalid_type", "max_tokens"},
		{"n is 0", `{"model":"m","n":0}`, "invalid_value", "n"},
		{"n is negative", `{"model":"m","n":-1}`, "invalid_value", "n"},
		{"n is huge", `{"model":"m","n":1000000000000000000000}`, "invalid_value", "n"},
		{"encoding_format is a number", `{"model":"m","encoding_format":1}`, "invalid_type", "encoding_format"},
		{"encoding_format is unknown", `{"model":"m","encoding_format":"int8"}`, "invalid_value", "encoding_format"},
		{"Stream", `{"model":"m","Stream":true}`, "unknown_parameter", "stream"},
		{"stream with the long s", "{\"model\":\"m\",\"\u017ftream\":true}", "unknown_parameter", "stream"},
		{"MODEL alone", `{"MODEL":"m"}`, "unknown_parameter", "model"},
		{"stream with an escaped capital", `{"model":"m","\u0053tream":true}`, "unknown_parameter", "stream"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ParseRequest([]byte(c.body))
			var f *fault.Error
			if !errors.As(err, &f) {
				t.Fatalf("error %v", err)
			}
			if f.HTTPStatus() != http.StatusBadRequest || f.Code != c.code || f.Param != c.param || f.Message == "" {
				t.Errorf("%d %s %s: %s; want 400 %s %s", f.HTTPStatus(), f.Code, f.Param, f.Message, c.code, c.param)
			}
		})
	}
}

func TestParseRequestBoundsMembers(t *testing.T) {
	body := func(n int) []byte {
		var b strings.Builder
		b.WriteString(`{"model":"m"`)
		for i := range n {
			fmt.Fprintf(&b, `,"k%d":0`, i)
		}
		return []byte(b.String() + "}")
	}
	if _, err := ParseRequest(body(MaxMembers - 1)); err != nil {
		t.Error(err)
	}
	if _, err := ParseRequest(body(MaxMembers)); err == nil {
		t.Error("no limit")
	}
}

// chatBody is a chat request of about size bytes, with model behind messages.
func chatBody(size int) []byte {
	const sentence = `The gateway reads this only once, and says \"no\" to nothing it does not know. `
	text := strings.Repeat(sentence, max(1, (size-200)/len(sentence)))
	return []byte(`{"messages":[{"role":"system","content":"You are helpful."},{"role":"user","content":"` + text +
		`"}],"model":"llama-3.3-70b","stream":true,"temperature":0.7,"max_completion_tokens":512}`)
}

func BenchmarkParseRequest(b *testing.B) {
	for _, size := range []int{300, 10 << 10, 100 << 10} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			body := chatBody(size)
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ParseRequest(body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("unicode10240", func(b *testing.B) {
		body := []byte(`{"model":"m","messages":[{"role":"user","content":"` + strings.Repeat("世界你好, ", 640) + `"}]}`)
		b.SetBytes(int64(len(body)))
		for b.Loop() {
			if _, err := ParseRequest(body); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func FuzzParseRequest(f *testing.F) {
	for _, seed := range []string{
		`{"model":"m"}`, ` { "model" : "m" , "stream" : true } `, string(chatBody(300)),
		`{"model":"m","stream_options":{"include_usage":false,"x":[1]},"max_tokens":5}`,
		`{"max_completion_tokens":1,"max_tokens":2,"model":"\u006d"}`, `{"model":"a","MODEL":"b"}`,
		`{"model":"a","\u006dodel":"b"}`, `{"model":"a","x":"\ud800"}`, `{"x":[[[[{}]]]],"model":"é"}`,
		"{\"model\":\"m\",\"\u017ftream\":1}", `{"a":1e5,"b":-0.5,"model":"m"}`,
		`{"models":["a"],"fallbacks":["b",{"model":"c"}],"prompt":"x","max_tokens":5}`,
		`{"model":"m","messages":[{"role":"user","content":[{"type":"image_url"}]}],"reasoning":{"effort":"low"},"response_format":{"type":"json_object"}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := ParseRequest(body)
		o := consult(body)
		wellFormed := o.valid && o.object && o.depth <= MaxDepth && !o.twice && o.members <= MaxMembers
		var problem *fault.Error
		if errors.As(err, &problem) && problem.Code == "invalid_json" == wellFormed {
			t.Fatalf("%q: %v, but well formed = %v (%+v)", body, err, wellFormed, o)
		}
		if err != nil {
			return
		}
		if !wellFormed {
			t.Fatalf("%q was accepted: %+v", body, o)
		}
		checkRequest(t, r)
	})
}
