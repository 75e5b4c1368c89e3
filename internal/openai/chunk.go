package openai

import "bytes"

// Chunk is one payload of a stream: a chat.completion.chunk or a text_completion. Reuse one Chunk
// for a whole stream.
type Chunk struct {
	Answer
}

// ParseChunk reads the data of one event into c, without allocating on the usual path. The error is
// a *MalformedError. An error object inside is no error here: see Answer.Err. An object that is none
// of all this is a Chunk without choices, which no client gets to see. c keeps data; it may be used
// until data changes. [DONE] is not a chunk: see IsDone.
func ParseChunk(data []byte, c *Chunk) error { return c.parse(data) }

// IsDone reports whether the data of an event is the [DONE] that ends a stream.
func IsDone(data []byte) bool { return string(bytes.TrimSpace(data)) == "[DONE]" }

// DecodeText is the text that pieces of Choice.Text, put together, stand for.
func DecodeText(raw []byte) string {
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw)
	}
	quoted := make([]byte, 0, len(raw)+2)
	return unquote(append(append(append(quoted, '"'), raw...), '"'))
}

// WithText appends the chunk with other text, not yet quoted, in its only choice; everything else
// stays byte for byte. A chunk that has not just one choice with Text is appended as it is.
func (c *Chunk) WithText(dst []byte, text string) []byte {
	if len(c.Choices) != 1 || c.Choices[0].Text == nil {
		return append(dst, c.Data...)
	}
	dst = append(dst, c.Data[:c.textAt-1]...)
	dst = AppendString(dst, text)
	return append(dst, c.Data[c.textAt+len(c.Choices[0].Text)+1:]...)
}
