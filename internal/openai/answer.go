package openai

import "fmt"

// Answer is what a unary reply and a chunk of a stream have in common: what the gateway must know
// of it. Data and whatever is drawn from it stay valid as long as the parsed bytes do not change.
type Answer struct {
	// Data is the JSON text that was parsed, from its first brace to its last. It is not a copy.
	Data []byte
	// Content is true when there is something a user gets: text, a tool call, reasoning or a
	// refusal that is not empty; in a list of embeddings, at least one of them. The first chunk of
	// which this is true is the commit point of a stream.
	Content bool
	// ContentBytes is how many bytes of such text there are, as written, for a token estimate.
	ContentBytes int
	// ReasoningBytes is how many of them are reasoning.
	ReasoningBytes int
	// Choices are the choices in their order; empty in a usage chunk and in a list of embeddings.
	Choices []Choice
	// Usage is the usage block; Usage.Reported is false when there is none.
	Usage Usage
	// Err is an error that came inside an answer with status 200; nil when there is none.
	Err *UpstreamError

	marks []mark
	has   memberSet
	// said are the values that ContentBytes counts.
	said []span
	// textAt is where the last choice's Text begins in Data.
	textAt int
}

// Choice is one element of choices.
type Choice struct {
	// Index is the choice's own index, 0 to 127.
	Index int
	// Content is Answer.Content for this choice alone.
	Content bool
	// ToolCalls is true when the choice carries tool calls.
	ToolCalls bool
	// Reasoning is true when the choice carries reasoning that is not empty.
	Reasoning bool
	// Other is true when the choice carries content that is not empty and is neither Text, tool calls
	// nor reasoning: a refusal, audio, images, content that is a list of parts or comes twice.
	Other bool
	// Text is the choice's text as written in JSON, without its quotes; nil when there is none,
	// empty and not nil when it is "". DecodeText decodes it.
	Text []byte
	// FinishReason is stop, length, tool_calls, content_filter or an engine's own word; "" while the
	// choice goes on.
	FinishReason string
}

// IsEmpty reports whether a whole answer has nothing for a user although the model was done with it:
// no content of any kind, and no finish reason that explains it, as length and content_filter do.
func (a *Answer) IsEmpty() bool {
	empty := !a.Content && a.Err == nil
	for i := range a.Choices {
		empty = empty && explainsNothing(a.Choices[i].FinishReason)
	}
	return empty
}

// explainsNothing reports whether a finish reason leaves open why there is no content.
func explainsNothing(reason string) bool {
	switch reason {
	case "", "stop", "tool_calls", "function_call":
		return true
	default:
		return false
	}
}

// MalformedError says that an upstream sent something that is not what it promised: no JSON, or JSON
// without the shape of an answer.
type MalformedError struct {
	// Problem is what is wrong, without any of the upstream's text.
	Problem string
	// Offset is the byte at which it was found.
	Offset int
}

func (e *MalformedError) Error() string {
	return fmt.Sprintf("malformed answer: at byte %d, %s", e.Offset, e.Problem)
}

// span is a part of the text.
type span struct{ from, to int }

// memberSet is the set of top-level members that were seen.
type memberSet uint8

const (
	hasID memberSet = 1 << iota
	hasModel
	hasChoices
	hasData
	hasUsage // as an object, not null
	hasError
)

// mark is a place in the text that an editor may have to change. Marks are in the order of the text.
type mark struct {
	place place
	// choice is the position of the mark's choice in Answer.Choices, for marks inside of one.
	choice int
	// key is where the member begins; value to end is its value.
	key, value, end int
}

type place uint8

const (
	atID place = iota
	atModel
	atUsage
	atRole         // in a delta or message
	atEmptyContent // content "" in a delta or message
	atEmptyFinish  // finish_reason ""
)

// answerReader fills an Answer in one pass over its text.
type answerReader struct {
	scanner
	*Answer
	// inMessage says that the Text of the choice at hand is the content of its delta or message,
	// which goes before the text that some engines put beside it.
	inMessage bool
	// kind is the value of the top-level member object.
	kind []byte
	// failure is the value of the top-level member error.
	failure []byte
}

// parse reads data into a, reusing a's slices.
func (a *Answer) parse(data []byte) error {
	*a = Answer{Choices: a.Choices[:0], marks: a.marks[:0], said: a.said[:0]}
	r := answerReader{scanner: scanner{src: data}, Answer: a}
	start := r.begin()
	i, more := r.enter(start, '}')
	for more {
		key := i
		i = r.key(i)
		i, more = r.next(r.member(key, i), '}')
	}
	r.finish(i)
	if r.problem != "" {
		return &MalformedError{Problem: r.problem, Offset: r.at}
	}
	a.Data = data[start:i:i]
	a.shift(start)
	a.ContentBytes = r.text
	switch {
	case r.failure != nil:
		a.Err = errorFrom(r.failure)
	case a.has&hasChoices == 0 && string(r.kind) == `"error"`:
		a.Err = errorFrom(a.Data)
	}
	return nil
}

// shift moves what points into the text to positions in Data.
func (a *Answer) shift(start int) {
	if start == 0 {
		return
	}
	a.textAt -= start
	for i := range a.marks {
		m := &a.marks[i]
		m.key, m.value, m.end = m.key-start, m.value-start, m.end-start
	}
	for i := range a.said {
		a.said[i] = span{a.said[i].from - start, a.said[i].to - start}
	}
}

// skip passes over a value that counts as no content.
func (r *answerReader) skip(i, depth int) int {
	text := r.text
	i = r.value(i, depth)
	r.text = text
	return i
}

func (r *answerReader) mark(p place, key, value, end int) {
	r.marks = append(r.marks, mark{
		place: p, choice: len(r.Choices) - 1, key: key, value: value, end: end,
	})
}

// member reads the value at i of the top-level member whose key is at key.
func (r *answerReader) member(key, i int) int {
	switch string(r.name(key)) {
	case "choices":
		if r.first(i) == '[' {
			return r.choices(i)
		}
	case "id":
		end := r.skip(i, 1)
		r.has |= hasID
		r.mark(atID, key, i, end)
		return end
	case "model":
		end := r.skip(i, 1)
		r.has |= hasModel
		r.mark(atModel, key, i, end)
		return end
	case "usage":
		if r.first(i) == '{' {
			r.has |= hasUsage
		}
		end := r.usage(i, 1)
		r.mark(atUsage, key, i, end)
		return end
	case "x_groq": // the usage of its streams, besides the chunk that OpenAI's clients ask for
		return r.inner(i)
	case "data":
		if r.first(i) == '[' {
			r.has |= hasData
			r.Content = r.isFilled(i)
		}
	case "object":
		end := r.skip(i, 1)
		r.kind = r.slice(i, end)
		return end
	case "error":
		end := r.skip(i, 1)
		if raw := r.slice(i, end); raw != nil && string(raw) != "null" {
			r.has |= hasError
			r.failure = raw
		}
		return end
	}
	return r.skip(i, 1)
}

// isFilled reports whether the value at i is a string, array or object that is not empty.
func (r *answerReader) isFilled(i int) bool {
	var closing byte
	switch r.first(i) {
	case '"':
		return r.first(i+1) != '"'
	case '[':
		closing = ']'
	case '{':
		closing = '}'
	default:
		return false
	}
	return r.first(skipSpace(r.src, i+1)) != closing
}

func (r *answerReader) choices(i int) int {
	if r.has&hasChoices != 0 {
		return r.fail(i, "choices come twice")
	}
	r.has |= hasChoices
	i, more := r.enter(i, ']')
	for more {
		if r.first(i) != '{' {
			return r.unexpected(i, "a choice, an object,")
		}
		if len(r.Choices) == maxChoices {
			return r.fail(i, "it has more than 128 choices")
		}
		r.Choices = append(r.Choices, Choice{})
		i, more = r.next(r.choice(i), ']')
	}
	return i
}

// choice reads the choice at i into the last element of Choices.
func (r *answerReader) choice(i int) int {
	c := &r.Choices[len(r.Choices)-1]
	r.inMessage = false
	i, more := r.enter(i, '}')
	for more {
		key := i
		i = r.key(i)
		var end int
		switch string(r.name(key)) {
		case "index":
			end = r.index(i, c)
		case "delta", "message":
			end = r.message(i, c)
		case "text":
			end = r.content(i, 3, c)
			if !r.inMessage {
				r.setText(i, end, c)
			}
		case "finish_reason":
			end = r.skip(i, 3)
			c.FinishReason = finishReason(r.slice(i, end))
			if c.FinishReason == "" && r.first(i) == '"' {
				r.mark(atEmptyFinish, key, i, end)
			}
		case "usage": // of the stream, as Moonshot has it
			end = r.usage(i, 3)
		default:
			end = r.skip(i, 3)
		}
		i, more = r.next(end, '}')
	}
	return i
}

// inner reads an object of which nothing but its usage is of interest.
func (r *answerReader) inner(i int) int {
	if r.first(i) != '{' {
		return r.skip(i, 1)
	}
	i, more := r.enter(i, '}')
	for more {
		key := i
		i = r.key(i)
		var end int
		if string(r.name(key)) == "usage" && !r.Usage.Reported {
			end = r.usage(i, 2)
		} else {
			end = r.skip(i, 2)
		}
		i, more = r.next(end, '}')
	}
	return i
}

// index reads the index of a choice; null is 0, as when there is none. Anything but a small whole
// number is refused: an answer's choices are told apart by it.
func (r *answerReader) index(i int, c *Choice) int {
	end := r.skip(i, 3)
	n, ok := plainCount(r.slice(i, end))
	if r.first(i) != 'n' && (!ok || n >= maxChoices) {
		return r.fail(i, "the index of a choice must be from 0 to 127")
	}
	c.Index = int(n)
	return end
}

// message reads a delta or message.
func (r *answerReader) message(i int, c *Choice) int {
	if r.first(i) != '{' {
		return r.skip(i, 3)
	}
	i, more := r.enter(i, '}')
	for more {
		key := i
		i = r.key(i)
		var end int
		switch string(r.name(key)) {
		case "role":
			end = r.skip(i, 4)
			r.mark(atRole, key, i, end)
		case "content":
			end = r.content(i, 4, c)
			if end == i+2 && r.first(i) == '"' {
				r.mark(atEmptyContent, key, i, end)
			}
			c.Other = c.Other || r.inMessage
			r.inMessage = r.setText(i, end, c)
		case "tool_calls", "function_call":
			c.ToolCalls = c.ToolCalls || r.isFilled(i)
			end = r.content(i, 4, c)
		case "reasoning_content", "reasoning", "reasoning_details":
			end = r.reasoning(i, c)
		case "refusal", "audio", "images":
			c.Other = c.Other || r.isFilled(i)
			end = r.content(i, 4, c)
		default:
			end = r.skip(i, 4)
		}
		i, more = r.next(end, '}')
	}
	return i
}

// content passes over a value that a user gets.
func (r *answerReader) content(i, depth int, c *Choice) int {
	if !r.isFilled(i) {
		return r.value(i, depth)
	}
	c.Content, r.Content = true, true
	end := r.value(i, depth)
	r.said = append(r.said, span{i, end})
	return end
}

// reasoning reads one of the members that carry it. Some engines say the same in several: it is counted once.
func (r *answerReader) reasoning(i int, c *Choice) int {
	if c.Reasoning || !r.isFilled(i) {
		return r.skip(i, 4)
	}
	c.Reasoning = true
	before := r.text
	end := r.content(i, 4, c)
	r.ReasoningBytes += r.text - before
	return end
}

// setText takes the value from i to end as the choice's text and reports whether it is a string.
func (r *answerReader) setText(i, end int, c *Choice) bool {
	if raw := r.slice(i, end); len(raw) >= 2 && raw[0] == '"' {
		c.Text, r.textAt = raw[1:len(raw)-1:len(raw)-1], i+1
		return true
	}
	c.Other = c.Other || r.isFilled(i)
	return false
}

// finishReason is the string in raw, without an allocation for the usual words.
func finishReason(raw []byte) string {
	if len(raw) == 0 || raw[0] != '"' {
		return ""
	}
	switch word := raw[1 : len(raw)-1]; string(word) {
	case "stop":
		return "stop"
	case "length":
		return "length"
	case "tool_calls":
		return "tool_calls"
	case "content_filter":
		return "content_filter"
	case "function_call":
		return "function_call"
	default:
		return unquote(raw)
	}
}
