package upstream

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"strings"
)

// simulatedRequest is what a simulated provider reads of a request, for whichever endpoint.
type simulatedRequest struct {
	Model         string             `json:"model"`
	Messages      []simulatedMessage `json:"messages"`
	Prompt        json.RawMessage    `json:"prompt"`
	Input         json.RawMessage    `json:"input"`
	Stream        bool               `json:"stream"`
	StreamOptions struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
	MaxTokens           int             `json:"max_tokens"`
	MaxCompletionTokens int             `json:"max_completion_tokens"`
	N                   int             `json:"n"`
	Seed                json.RawMessage `json:"seed"`
	EncodingFormat      string          `json:"encoding_format"`
	Dimensions          int             `json:"dimensions"`
	Tools               []struct {
		Function struct {
			Name       string          `json:"name"`
			Parameters json.RawMessage `json:"parameters"`
		} `json:"function"`
	} `json:"tools"`
	ToolChoice     json.RawMessage `json:"tool_choice"`
	ResponseFormat struct {
		Type       string `json:"type"`
		JSONSchema struct {
			Schema json.RawMessage `json:"schema"`
		} `json:"json_schema"`
	} `json:"response_format"`

	completions bool // of text, not of a chat
}

type simulatedMessage struct {
	Role    string          `json:"role"`
	Content json.RawMessage `json:"content"`
}

const (
	simulatedTokens     = 32
	maxSimulatedTokens  = 1 << 16
	maxSimulatedChoices = 128
	maxSimulatedVector  = 4096
)

// simulatedSaid is what a simulated model says: choices of the same length.
type simulatedSaid struct {
	model       string
	completions bool
	choices     []simulatedChoice
	finish      string
	prompt      int // tokens
	tokens      int // of each choice
}

// simulatedChoice is the pieces of a text, or of the arguments of a call of a tool.
type simulatedChoice struct {
	tool   string // empty: text
	id     string // of the tool call
	pieces []string
}

func (c simulatedChoice) text() string { return strings.Join(c.pieces, "") }

// compose makes up an answer from the request alone: who asks the same gets the same, whichever
// simulated provider answers and whether as a stream or not. An assistant message at the end is gone on
// with: the answer to what stands before it begins with it, and the rest of that answer is said.
func (r *simulatedRequest) compose(length int) *simulatedSaid {
	if length <= 0 {
		length = simulatedTokens
	}
	length = min(length, maxSimulatedTokens)
	said := &simulatedSaid{model: r.Model, completions: r.completions, finish: "stop", prompt: r.promptTokens()}
	begun := r.takePrefill()
	limit := length
	if asked := max(r.MaxTokens, r.MaxCompletionTokens); asked > 0 && asked < limit {
		limit = asked
	}
	tool, arguments := r.forcedTool()
	for i := range min(max(r.N, 1), maxSimulatedChoices) * r.prompts() {
		random := rand.New(rand.NewPCG(r.seed(), uint64(i)))
		choice := simulatedChoice{tool: tool}
		switch {
		case tool != "":
			choice.id = "call_" + letters(random, 16)
			choice.pieces, said.finish = fragments(arguments), "tool_calls"
		case r.ResponseFormat.Type == "json_object" || r.ResponseFormat.Type == "json_schema":
			choice.pieces = fragments(sample(r.ResponseFormat.JSONSchema.Schema))
		default:
			choice.pieces = after(words(random, r.lastText(), length), begun)
			if limit < len(choice.pieces) {
				choice.pieces, said.finish = choice.pieces[:limit], "length"
			}
		}
		said.choices = append(said.choices, choice)
		said.tokens = max(said.tokens, len(choice.pieces))
	}
	return said
}

// seed is the hash of everything that the answer depends on.
func (r *simulatedRequest) seed() uint64 {
	h := fnv.New64a()
	for _, m := range r.Messages {
		_, _ = h.Write([]byte(m.Role))
		_, _ = h.Write(m.Content)
	}
	_, _ = h.Write(r.Prompt)
	_, _ = h.Write(r.Seed)
	return mix(h.Sum64())
}

// mix spreads a hash over all bits: FNV leaves the high ones of short texts nearly alike.
func mix(x uint64) uint64 {
	x = (x ^ x>>33) * 0xff51afd7ed558ccd
	x = (x ^ x>>33) * 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

// prompts is how many prompts a completion was asked for.
func (r *simulatedRequest) prompts() int {
	if r.completions {
		return min(max(len(listOf(r.Prompt)), 1), maxSimulatedChoices)
	}
	return 1
}

// promptTokens counts four bytes of what was sent as a token.
func (r *simulatedRequest) promptTokens() int {
	size := len(r.Prompt) + len(r.Input)
	for _, m := range r.Messages {
		size += len(m.Content)
	}
	return size/4 + 1
}

// takePrefill takes an assistant message off the end and returns its text; empty when there is none.
func (r *simulatedRequest) takePrefill() string {
	last := len(r.Messages) - 1
	if last < 0 || r.Messages[last].Role != "assistant" {
		return ""
	}
	begun := textOf(r.Messages[last].Content)
	r.Messages = r.Messages[:last]
	return begun
}

// after returns what of a text in pieces follows its beginning. A text that begins otherwise stays whole.
func after(pieces []string, beginning string) []string {
	if !strings.HasPrefix(strings.Join(pieces, ""), beginning) {
		return pieces
	}
	for i, piece := range pieces {
		if len(piece) > len(beginning) {
			return append([]string{piece[len(beginning):]}, pieces[i+1:]...)
		}
		beginning = beginning[len(piece):]
	}
	return nil
}

// lastText is what was said last.
func (r *simulatedRequest) lastText() string {
	if n := len(r.Messages); n > 0 {
		return textOf(r.Messages[n-1].Content)
	}
	return textOf(r.Prompt)
}

// textOf is a text, or the texts of a list of parts.
func textOf(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text
	}
	var parts []struct {
		Text string `json:"text"`
	}
	if json.Unmarshal(raw, &parts) == nil {
		for _, part := range parts {
			text += part.Text + " "
		}
	}
	return text
}

// forcedTool is the tool that the request makes the model call, with arguments for it; empty when the
// model is free, since a simulated one then prefers to talk.
func (r *simulatedRequest) forcedTool() (name string, arguments []byte) {
	if len(r.Tools) == 0 {
		return "", nil
	}
	var word string
	var named struct {
		Function struct {
			Name string `json:"name"`
		} `json:"function"`
	}
	forced := json.Unmarshal(r.ToolChoice, &word) == nil && word == "required"
	if !forced && json.Unmarshal(r.ToolChoice, &named) != nil {
		return "", nil
	}
	for _, tool := range r.Tools {
		if forced || tool.Function.Name == named.Function.Name {
			return tool.Function.Name, sample(tool.Function.Parameters)
		}
	}
	return "", nil
}

// vocabulary is what a simulated model knows.
var vocabulary = strings.Fields(`a the this that each one every other request answer model provider route
	gateway token stream light river garden morning answer question reason number letter quiet bright early
	simple careful open shared steady goes comes keeps finds makes holds turns returns follows reaches under
	over beside through between after before with without again once always often never here there`)

// words makes up a text of so many tokens, a word each: it repeats what was said and goes on from there.
func words(random *rand.Rand, said string, length int) []string {
	heard := strings.Fields(said)
	if len(heard) > length/2 {
		heard = heard[:length/2]
	}
	out := make([]string, 0, length)
	out = append(out, "Simulated:")
	for _, word := range heard {
		out = append(out, " "+word)
	}
	for len(out) < length {
		out = append(out, " "+vocabulary[random.IntN(len(vocabulary))])
	}
	return out[:length]
}

func letters(random *rand.Rand, n int) string {
	out := make([]byte, n)
	for i := range out {
		out[i] = 'a' + byte(random.IntN(26))
	}
	return string(out)
}

// fragments cuts a JSON text into pieces of the size of a token.
func fragments(text []byte) []string {
	var out []string
	for len(text) > 0 {
		n := min(len(text), 6)
		for n < len(text) && text[n]&0xc0 == 0x80 {
			n++ // not within a character
		}
		out, text = append(out, string(text[:n])), text[n:]
	}
	return out
}

// sample makes a value that fits a JSON schema, as far as types, enums and required members go.
func sample(schema json.RawMessage) []byte {
	text, _ := json.Marshal(sampleValue(schema, 0)) // maps, slices and scalars always marshal
	return text
}

func sampleValue(schema json.RawMessage, depth int) any {
	var s struct {
		Type       json.RawMessage            `json:"type"`
		Enum       []json.RawMessage          `json:"enum"`
		Const      json.RawMessage            `json:"const"`
		Properties map[string]json.RawMessage `json:"properties"`
		Required   []string                   `json:"required"`
	}
	if json.Unmarshal(schema, &s) != nil || depth > 8 {
		return map[string]any{}
	}
	switch {
	case s.Const != nil:
		return s.Const
	case len(s.Enum) > 0:
		return s.Enum[0]
	}
	kinds := listOf(s.Type)
	if len(kinds) == 0 {
		kinds = []json.RawMessage{json.RawMessage(`"object"`)}
	}
	switch string(kinds[0]) {
	case `"string"`:
		return "simulated"
	case `"integer"`, `"number"`:
		return 1
	case `"boolean"`:
		return true
	case `"array"`:
		return []any{}
	case `"null"`:
		return nil
	}
	value := map[string]any{}
	for _, name := range s.Required {
		value[name] = sampleValue(s.Properties[name], depth+1)
	}
	return value
}

// listOf gives the elements of a JSON list of anything but numbers, and any other value as the one
// element: a list of numbers is one text in tokens.
func listOf(raw json.RawMessage) []json.RawMessage {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 || bytes.Equal(raw, []byte("null")) {
		return nil
	}
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil || (len(list) > 0 && (list[0][0] == '-' || list[0][0] >= '0' && list[0][0] <= '9')) {
		return []json.RawMessage{raw}
	}
	return list
}

// vector is a unit vector made from a text.
func vector(text []byte, dimensions int) []float32 {
	h := fnv.New64a()
	_, _ = h.Write(text)
	random := rand.New(rand.NewPCG(mix(h.Sum64()), 0))
	values := make([]float64, dimensions)
	var square float64
	for i := range values {
		values[i] = random.NormFloat64()
		square += values[i] * values[i]
	}
	out := make([]float32, dimensions)
	for i, v := range values {
		out[i] = float32(v / math.Sqrt(square))
	}
	return out
}

// packed is a vector as OpenAI's SDKs ask for it by default: little-endian float32 in base64.
func packed(vector []float32) string {
	out := make([]byte, 0, 4*len(vector))
	for _, v := range vector {
		out = binary.LittleEndian.AppendUint32(out, math.Float32bits(v))
	}
	return base64.StdEncoding.EncodeToString(out)
}
