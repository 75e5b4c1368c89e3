package tokenizer

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
)

// What stands around the texts, in tokens.
const (
	perMessage = 4   // role and separators
	perRequest = 3   // the beginning of the answer
	perMedium  = 800 // an image, a recording, a file: a photo of usual size has 250 to 1,600
)

// Request counts the tokens of the prompt in a request: its messages, prompt or input, instructions, and what describes
// tools and the form of the answer. field gives the raw value of a member of the request's body, which must be JSON.
func Request(family string, field func(name string) (raw []byte, ok bool)) int64 {
	t := newTally(family)
	t.fixed = perRequest
	for _, name := range []string{"messages", "prompt", "input", "instructions", "system", "suffix"} {
		if raw, ok := field(name); ok {
			w := walk{tally: t, decoder: json.NewDecoder(bytes.NewReader(raw))}
			w.value("")
		}
	}
	for _, name := range []string{"tools", "functions", "response_format"} {
		if raw, ok := field(name); ok {
			t.text(string(raw)) // models see it as JSON, or as something of about the same length
		}
	}
	return t.total()
}

// Answer counts the tokens of what a model said: JSON values one after the other, texts and tool calls, as they came in
// the pieces of a stream. Pieces are counted as the text that they are together.
func Answer(family string, values []byte) int64 {
	t := newTally(family)
	w := walk{tally: t, decoder: json.NewDecoder(bytes.NewReader(values)), joined: new(strings.Builder)}
	for w.value("") {
	}
	t.text(w.joined.String())
	return t.total()
}

// A walk goes through the JSON of a prompt and tallies what is in it.
type walk struct {
	*tally
	decoder *json.Decoder
	// joined, when not nil, gets the texts instead of the tally: of an answer, a word may be in two of them.
	joined *strings.Builder
}

func (w *walk) text(s string) {
	if w.joined != nil {
		w.joined.WriteString(s)
		return
	}
	w.tally.text(s)
}

// media are members that hold something other than text, or say where it is.
var media = []string{"image_url", "input_image", "image", "source", "input_audio", "audio", "file", "file_data", "video_url"}

// silent are members whose words are not part of the prompt, or are in what is counted for every message.
var silent = []string{"role", "type", "id", "tool_call_id", "call_id", "status", "detail", "cache_control", "signature", "encrypted_content", "format"}

// value tallies the next value, which is the member `name` of an object, or an element of such a member. It says whether
// there was one.
func (w *walk) value(name string) bool {
	token, err := w.decoder.Token()
	if err != nil {
		return false
	}
	switch v := token.(type) {
	case string:
		if !slices.Contains(silent, name) {
			w.text(v)
		}
	case float64:
		if w.joined == nil {
			w.fixed++ // the prompt is given as tokens
		}
	case json.Delim:
		if v == '{' {
			w.object()
		} else if v == '[' {
			for w.decoder.More() && w.value(name) {
			}
			_, _ = w.decoder.Token()
		}
	}
	return true
}

func (w *walk) object() {
	for w.decoder.More() {
		token, err := w.decoder.Token()
		if err != nil {
			return
		}
		switch name, _ := token.(string); {
		case slices.Contains(media, name), name == "data" && w.joined != nil:
			w.fixed += perMedium
			if !w.skip() {
				return
			}
		default:
			if name == "role" {
				w.fixed += perMessage
			}
			if !w.value(name) {
				return
			}
		}
	}
	_, _ = w.decoder.Token()
}

func (w *walk) skip() bool {
	var whatever json.RawMessage
	return w.decoder.Decode(&whatever) == nil
}
