package openai

import (
	"encoding/base64"
	"strconv"
	"strings"
	"testing"
)

func TestNeeds(t *testing.T) {
	image := `{"type":"image_url","image_url":{"url":"data:image/png;base64,iVBORw0KGgo="}}`
	for _, c := range []struct {
		body string
		want Needs
	}{
		{`"messages":[{"role":"user","content":"hi"}]`, Needs{}},
		{`"tools":[{"type":"function"}],"tool_choice":"none"`, Needs{Tools: true}},
		{`"tools":[ ],"functions":null`, Needs{}},
		{`"functions":[{}]`, Needs{Tools: true}},
		{`"tools":[{}],"functions":[]`, Needs{Tools: true}},
		{`"messages":[{"role":"user","content":[{"type":"text","text":"hi"},` + image + `]}]`, Needs{Vision: true}},
		{`"messages":[{"role":"user","content":"no"},{"content":[{"image_url":{},"type" : "image_url"}],"role":"user"}]`, Needs{Vision: true}},
		{`"input":[{"role":"user","content":[{"type":"input_image","image_url":"x"}]}]`, Needs{Vision: true}},
		{`"messages":[{"role":"user","content":[{"type":"input_audio","input_audio":{}}]}]`, Needs{Audio: true}},
		{`"messages":[{"role":"user","content":[{"type":"input_audio"},` + image + `]}]`, Needs{Audio: true, Vision: true}},
		{`"messages":[{"role":"user","content":"{\"type\":\"image_url\"}"}]`, Needs{}},
		{`"messages":[{"role":"user","content":"image_url"},{"tool_calls":[{"type":"image_url"}]}]`, Needs{}},
		{`"messages":[{"role":"user","content":[{"type":"text","text":"image_url"},{"type":"text","x":{"type":"image_url"}}]}]`, Needs{}},
		{`"messages":["type",{"content":["type",1,null]}]`, Needs{}},
		{`"messages":{"type":"image_url"}`, Needs{}},
		{`"modalities":["text"]`, Needs{}},
		{`"modalities":["text","audio"]`, Needs{Audio: true}},
		{`"audio":{"voice":"x"}`, Needs{Audio: true}},
		{`"audio":null,"modalities":null`, Needs{}},
		{`"response_format":{"type":"text"}`, Needs{}},
		{`"response_format":{"type":"json_object"}`, Needs{JSONMode: true}},
		{`"response_format":{"json_schema":{"type":"x"},"type":"json_schema"}`, Needs{JSONMode: true, JSONSchema: true}},
		{`"response_format":null`, Needs{}},
		{`"reasoning_effort":"high"`, Needs{Reasoning: true}},
		{`"reasoning_effort":"none"`, Needs{}},
		{`"reasoning_effort":null`, Needs{}},
		{`"reasoning":{"effort":"low"}`, Needs{Reasoning: true}},
		{`"reasoning":{"enabled":true}`, Needs{Reasoning: true}},
		{`"reasoning":{"enabled":false,"effort":"low"}`, Needs{}},
		{`"reasoning":{"max_tokens":2000}`, Needs{Reasoning: true}},
		{`"reasoning":{"effort":"none"}`, Needs{}},
		{`"reasoning":{"exclude":true}`, Needs{}},
		{`"reasoning":true`, Needs{}},
		{`"logprobs":true`, Needs{Logprobs: true}},
		{`"logprobs":false,"top_logprobs":0`, Needs{}},
		{`"logprobs":0`, Needs{Logprobs: true}},
		{`"top_logprobs":3`, Needs{Logprobs: true}},
	} {
		r, err := ParseRequest([]byte(`{"model":"m",` + c.body + `}`))
		if err != nil {
			t.Fatalf("%s: %v", c.body, err)
		}
		if got := r.Needs(); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.body, got, c.want)
		}
	}
}

func BenchmarkNeeds(b *testing.B) {
	bodies := map[string][]byte{
		"image1M": []byte(`{"model":"m","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"` +
			base64.StdEncoding.EncodeToString(make([]byte, 3<<18)) + `"}}]}]}`),
		"parts10240": []byte(`{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"` + strings.Repeat("many words ", 930) + `"}]}]}`),
	}
	for _, size := range []int{300, 10 << 10, 100 << 10} {
		bodies["chat"+strconv.Itoa(size)] = chatBody(size)
	}
	for name, body := range bodies {
		b.Run(name, func(b *testing.B) {
			r, err := ParseRequest(body)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				r.Needs()
			}
		})
	}
}
