package openai

import "bytes"

// Needs is what a request demands of a model beyond text in and text out.
type Needs struct {
	Tools      bool // tools or functions are offered
	Vision     bool // a message carries an image
	Audio      bool // a message carries sound, or sound is asked for
	JSONSchema bool // the answer must follow a schema
	JSONMode   bool // the answer must be JSON, of any shape or of a schema's
	Reasoning  bool // an effort of reasoning is asked for
	Logprobs   bool // log probabilities are asked for
}

// Needs finds out what the request demands. Tools count even when tool_choice is "none": the model's
// template must take them. What has a wrong type demands nothing; refusing it is up to the upstream.
func (r *Request) Needs() Needs {
	var n Needs
	for i := range r.object.members {
		m := &r.object.members[i]
		raw := r.object.raw(m)
		switch string(r.object.name(m)) {
		case "tools", "functions":
			n.Tools = n.Tools || isFilledArray(raw)
		case "messages", "input":
			n.readMessages(raw)
		case "modalities":
			n.Audio = n.Audio || raw[0] == '[' && bytes.Contains(raw, []byte(`"audio"`))
		case "audio":
			n.Audio = n.Audio || raw[0] == '{'
		case "response_format":
			n.readFormat(raw)
		case "reasoning_effort":
			n.Reasoning = n.Reasoning || isEffort(raw)
		case "reasoning":
			n.readReasoning(raw)
		case "logprobs": // chat says true, completions say how many
			n.Logprobs = n.Logprobs || raw[0] == 't' || isDigit(raw[0])
		case "top_logprobs":
			n.Logprobs = n.Logprobs || isDigit(raw[0]) && string(raw) != "0"
		}
	}
	return n
}

// isFilledArray reports whether raw is an array with at least one element.
func isFilledArray(raw []byte) bool {
	return raw[0] == '[' && raw[skipSpace(raw, 1)] != ']'
}

// isEffort reports whether raw names an effort of reasoning.
func isEffort(raw []byte) bool {
	return raw[0] == '"' && string(raw) != `"none"` && string(raw) != `""`
}

func (n *Needs) readFormat(raw []byte) {
	s := scanner{src: raw}
	s.eachMember(0, func(name []byte, i int) int {
		end := s.value(i, 0)
		if string(name) == "type" {
			n.JSONSchema = string(raw[i:end]) == `"json_schema"`
			n.JSONMode = n.JSONSchema || string(raw[i:end]) == `"json_object"`
		}
		return end
	})
}

func (n *Needs) readReasoning(raw []byte) {
	asked, off := false, false
	s := scanner{src: raw}
	s.eachMember(0, func(name []byte, i int) int {
		end := s.value(i, 0)
		switch string(name) {
		case "effort":
			asked = asked || isEffort(raw[i:end])
			off = off || string(raw[i:end]) == `"none"`
		case "enabled":
			asked = asked || raw[i] == 't'
			off = off || raw[i] == 'f'
		case "max_tokens":
			asked = asked || isDigit(raw[i]) && string(raw[i:end]) != "0"
		}
		return end
	})
	n.Reasoning = n.Reasoning || asked && !off
}

// readMessages looks for images and sound in the parts of messages. Most messages have plain strings
// for content; they are not walked through.
func (n *Needs) readMessages(raw []byte) {
	if raw[0] != '[' || !bytes.Contains(raw, []byte(`"type"`)) {
		return
	}
	s := scanner{src: raw}
	part := func(i int) int { return s.eachMember(i, n.readPart(&s)) }
	message := func(name []byte, i int) int {
		if string(name) == "content" {
			return s.eachElement(i, part)
		}
		return s.value(i, 0)
	}
	s.eachElement(0, func(i int) int { return s.eachMember(i, message) })
}

// readPart looks at one member of a content part.
func (n *Needs) readPart(s *scanner) func(name []byte, i int) int {
	return func(name []byte, i int) int {
		end := s.value(i, 0)
		if string(name) == "type" {
			switch string(s.src[i:end]) {
			case `"image_url"`, `"input_image"`:
				n.Vision = true
			case `"input_audio"`:
				n.Audio = true
			}
		}
		return end
	}
}
