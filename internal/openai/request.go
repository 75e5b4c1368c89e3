package openai

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"

	"shareai/internal/fault"
)

const (
	// MaxDepth is how deep arrays and objects may be nested in a body; deeper is refused.
	MaxDepth = 128
	// MaxMembers is how many members an object may have whose keys are compared for duplicates:
	// the top level of a request and its stream_options. Requests of real clients have fewer than 50.
	MaxMembers = 256

	// maxModelName is the longest model name, in bytes.
	maxModelName = 512
	// maxChoices is the largest n, and the number of choices an answer may have.
	maxChoices = 128
	// maxTokens is where token counts are cut off: no model comes near, and products with a price
	// stay far from overflowing.
	maxTokens = math.MaxInt32
)

// Request is what the gateway must know of a client's request body. The zero value of a field means
// that the client did not send it, or sent null.
type Request struct {
	// Body is the client's body, never changed.
	Body []byte
	// Model is the name the client asked for: model, else the first of models. Never empty.
	Model string
	// Stream is true when the client wants server-sent events.
	Stream bool
	// IncludeUsage is stream_options.include_usage: the client wants a usage chunk.
	IncludeUsage bool
	// MaxTokens is max_completion_tokens, else max_tokens, else 0. The -1 with which clients of
	// local engines say "no limit" is 0 too.
	MaxTokens int64
	// N is the number of choices asked for, 1 to 128; 1 when the client does not say.
	N int
	// EncodingFormat is "float", "base64" or "".
	EncodingFormat string
	// PromptBytes is the size of the text a model has to read, for an estimate of its tokens: the
	// string values (not the keys) in messages, prompt, input, instructions, system and suffix, and
	// tools and functions as they are written. A number counts 4, because a prompt may be a list of
	// tokens. A string of 4 KiB or more that can only be encoded media counts 4 KiB.
	PromptBytes int

	object object
}

// ParseRequest reads a request body in one pass. Anything malformed is a *fault.Error of kind
// Invalid that says what to do and at which byte. The Request keeps body.
func ParseRequest(body []byte) (*Request, error) {
	if skipSpace(body, 0) == len(body) {
		return nil, fault.New(fault.Invalid, "invalid_json", `The request body is empty. Send a JSON object such as {"model":"…","messages":[…]}.`)
	}
	var room [16]member // stays on the stack; the request keeps a copy of just the size
	s := scanner{src: body}
	found := s.object(s.begin(), room[:])
	s.finish(found.closing + 1)
	if s.problem != "" {
		return nil, fault.New(fault.Invalid, "invalid_json", fmt.Sprintf(
			"The request body can not be read: at byte %d, %s. Send one JSON object, in UTF-8.", s.at, s.problem))
	}
	r := &Request{Body: body, N: 1}
	r.object = object{src: body, open: found.open, closing: found.closing, members: append([]member(nil), found.members...)}
	for i := range r.object.members {
		if err := r.read(&r.object.members[i]); err != nil {
			return nil, err
		}
	}
	if r.Model == "" {
		models, err := r.Models()
		if err != nil {
			return nil, err
		}
		if len(models) > 0 {
			r.Model = models[0]
			return r, nil
		}
		return nil, fault.New(fault.Invalid, "missing_required_parameter",
			"The request does not say which model it wants. Add \"model\"; GET /v1/models lists the names.").About("model")
	}
	return r, nil
}

// read takes from a member what the gateway must know. The error is untyped nil or a *fault.Error.
func (r *Request) read(m *member) error {
	key, raw := r.object.name(m), r.object.raw(m)
	switch string(key) {
	case "model":
		name, err := readModelName("model", raw)
		r.Model = name
		return err
	case "stream":
		return readBool("stream", raw, &r.Stream)
	case "stream_options":
		return r.readStreamOptions(raw)
	case "max_completion_tokens":
		return readCount("max_completion_tokens", raw, &r.MaxTokens)
	case "max_tokens":
		if r.isSet("max_completion_tokens") {
			return readCount("max_tokens", raw, new(int64))
		}
		return readCount("max_tokens", raw, &r.MaxTokens)
	case "n":
		return r.readN(raw)
	case "encoding_format":
		return r.readEncodingFormat(raw)
	case "messages", "prompt", "input", "instructions", "system", "suffix":
		r.PromptBytes += m.text
	case "tools", "functions":
		r.PromptBytes += len(raw)
	default:
		return refuseLookalike(key)
	}
	return nil
}

// isSet reports whether a member is there and not null.
func (r *Request) isSet(name string) bool {
	raw, ok := r.Field(name)
	return ok && raw[0] != 'n'
}

func (r *Request) readStreamOptions(raw []byte) error {
	if raw[0] == 'n' {
		return nil
	}
	if raw[0] != '{' {
		return wrongType("stream_options", "an object", raw)
	}
	var room [4]member
	s := scanner{src: raw}
	options := s.object(0, room[:])
	if s.problem != "" { // its syntax is known to be right
		return invalidValue("stream_options", "can not be used: "+s.problem+".")
	}
	for i := range options.members {
		m := &options.members[i]
		name := options.name(m)
		if string(name) == "include_usage" {
			if err := readBool("stream_options.include_usage", options.raw(m), &r.IncludeUsage); err != nil {
				return err
			}
		} else if bytes.EqualFold(name, []byte("include_usage")) {
			return lookalike(name, "include_usage")
		}
	}
	return nil
}

func (r *Request) readN(raw []byte) error {
	n := int64(1)
	if err := readCount("n", raw, &n); err != nil {
		return err
	}
	if n < 1 || n > maxChoices {
		return invalidValue("n", "must be from 1 to 128.")
	}
	r.N = int(n)
	return nil
}

func (r *Request) readEncodingFormat(raw []byte) error {
	if raw[0] == 'n' {
		return nil
	}
	if raw[0] != '"' {
		return wrongType("encoding_format", "a string", raw)
	}
	r.EncodingFormat = unquote(raw)
	if r.EncodingFormat != "float" && r.EncodingFormat != "base64" {
		return invalidValue("encoding_format", `must be "float" or "base64".`)
	}
	return nil
}

func readBool(name string, raw []byte, to *bool) error {
	switch raw[0] {
	case 't', 'f':
		*to = raw[0] == 't'
	case 'n':
	default:
		return wrongType(name, "true or false", raw)
	}
	return nil
}

// readCount reads a whole number. 1e3 and 100.0 are whole too; -1 is how clients of local engines
// say that there is no limit, and leaves 0.
func readCount(name string, raw []byte, to *int64) error {
	if raw[0] == 'n' {
		return nil
	}
	if raw[0] != '-' && !isDigit(raw[0]) {
		return wrongType(name, "a whole number", raw)
	}
	if n, ok := plainCount(raw); ok {
		*to = n
		return nil
	}
	v, err := strconv.ParseFloat(string(raw), 64)
	switch {
	case err == nil && v != math.Trunc(v):
		return wrongType(name, "a whole number", raw)
	case v < -1:
		return invalidValue(name, "must not be negative.")
	}
	*to = int64(max(0, min(v, maxTokens)))
	return nil
}

// readMembers are the members whose meaning the gateway acts upon.
var readMembers = [...]string{
	"model", "stream", "stream_options", "max_tokens", "max_completion_tokens", "n", "encoding_format",
	"models", "fallbacks",
}

// refuseLookalike refuses a key such as MODEL: an upstream that ignores letter case would act on
// what the gateway did not see.
func refuseLookalike(key []byte) error {
	if !mayFold(key) {
		return nil
	}
	for _, name := range readMembers {
		if bytes.EqualFold(key, []byte(name)) {
			return lookalike(key, name)
		}
	}
	return nil
}

// mayFold reports whether a key has anything that letter case can change into lower-case ASCII.
func mayFold(key []byte) bool {
	for _, c := range key {
		if 'A' <= c && c <= 'Z' || c >= 0x80 {
			return true
		}
	}
	return false
}

func lookalike(key []byte, name string) error {
	return fault.New(fault.Invalid, "unknown_parameter",
		fmt.Sprintf("There is no parameter %q. Did you mean %q?", key, name)).About(name)
}

func wrongType(name, want string, raw []byte) error {
	got := kindName(raw)
	if got == "a number" && want == "a whole number" {
		got = "a fraction"
	}
	return fault.New(fault.Invalid, "invalid_type", fmt.Sprintf("%q must be %s, not %s.", name, want, got)).About(name)
}

func invalidValue(name, problem string) error {
	return fault.New(fault.Invalid, "invalid_value", fmt.Sprintf("%q %s", name, problem)).About(name)
}

// Field returns the raw JSON value of a top-level member, without surrounding white space.
func (r *Request) Field(name string) ([]byte, bool) {
	if i := r.object.find(name); i >= 0 {
		return r.object.raw(&r.object.members[i]), true
	}
	return nil, false
}

// Edit returns the body with the edits applied in order; everything else stays byte for byte. The
// Body shares memory with the request and with the edits' values.
func (r *Request) Edit(edits ...Edit) Body { return r.object.edit(edits) }

// WithUsage is the edit that makes an upstream report usage at the end of a stream:
// stream_options.include_usage becomes true, other members of stream_options stay as they are.
func (r *Request) WithUsage() Edit {
	const option, yes = "include_usage", "true"
	raw, ok := r.Field("stream_options")
	switch {
	case r.IncludeUsage:
		return Edit{}
	case !ok || raw[0] != '{':
		return Set("stream_options", []byte(`{"`+option+`":`+yes+`}`))
	}
	s := scanner{src: raw}
	options := s.object(0, nil)
	return Set("stream_options", options.edit([]Edit{Set(option, []byte(yes))}).Bytes())
}

// BytesPerToken is the usual length of a token of English text or code in today's vocabularies. Money is settled on
// reported tokens wherever there are any.
const BytesPerToken = 4

// PromptTokens estimates the tokens of the prompt by its bytes.
func (r *Request) PromptTokens() int64 { return int64(r.PromptBytes)/BytesPerToken + 1 }

// Choices is the number of choices that a whole answer has: n for each prompt. Only completions take several
// prompts, as an array of strings or of arrays of tokens.
func (r *Request) Choices() int {
	raw, ok := r.Field("prompt")
	if !ok || raw[0] != '[' {
		return r.N
	}
	var prompts []json.RawMessage
	if json.Unmarshal(raw, &prompts) != nil || len(prompts) == 0 || isDigit(prompts[0][0]) {
		return r.N // one prompt, as tokens
	}
	return r.N * len(prompts)
}
