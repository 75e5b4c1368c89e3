package openai

import (
	"math/bits"
	"strconv"
)

// indexes is a set of choice indexes.
type indexes [maxChoices / 64]uint64

func (x *indexes) add(i int)      { x[i>>6] |= 1 << (i & 63) }
func (x *indexes) has(i int) bool { return x[i>>6]&(1<<(i&63)) != 0 }

// Progress knows how far one upstream's stream has come. The zero value is ready. Make a new one for
// each attempt.
type Progress struct {
	begun, finished indexes
	usage           Usage
	said            Produced
	// content says that some came, explained that a finish reason says why none had to come.
	content, explained bool
}

// Observe takes note of a chunk.
func (p *Progress) Observe(c *Chunk) {
	for i := range c.Choices {
		choice := &c.Choices[i]
		p.begun.add(choice.Index)
		if choice.FinishReason != "" {
			p.finished.add(choice.Index)
			p.explained = p.explained || !explainsNothing(choice.FinishReason)
		}
	}
	p.content = p.content || c.Content
	p.said.add(&c.Answer)
	if c.Usage.Reported {
		p.usage, p.said.Unreported = c.Usage, 0
	}
}

// Finished reports whether at least one choice began and every choice that began has a finish
// reason. A stream that ends before that is broken, however cleanly it was closed.
func (p *Progress) Finished() bool { return p.begun != indexes{} && p.begun == p.finished }

// IsEmpty is Answer.IsEmpty for the stream so far. It is final once the stream has Finished.
func (p *Progress) IsEmpty() bool { return !p.content && !p.explained }

// Choices is the number of choices that began.
func (p *Progress) Choices() int {
	n := 0
	for _, word := range p.begun {
		n += bits.OnesCount64(word)
	}
	return n
}

// Usage is the last usage block that said something; Reported is false when none came.
func (p *Progress) Usage() Usage { return p.usage }

// ContentBytes is the sum of Answer.ContentBytes, for an estimate when no usage came.
func (p *Progress) ContentBytes() int { return p.said.Bytes }

// Produced is what has been said so far. It is valid until the next Observe.
func (p *Progress) Produced() Produced { return p.said }

// StreamEditor writes the chunks of one client's stream, whichever upstreams they come from. Set the
// fields, then use it for the life of the stream.
type StreamEditor struct {
	// ID is the id of every chunk.
	ID string
	// Model is the model that serves; it may be changed between chunks.
	Model string
	// IncludeUsage says that the client asked for usage; if not, usage chunks and usage members are
	// left out.
	IncludeUsage bool

	// introduced are the choices whose role the client has been told.
	introduced indexes
}

// AppendChunk appends the chunk's JSON as the client gets it: own id and model, role only in the
// first delta of each choice, no empty content beside a finish reason or a tool call, null for an
// empty finish reason. It appends nothing when the client must not see the chunk.
func (s *StreamEditor) AppendChunk(dst []byte, c *Chunk) []byte {
	if s.hides(c) {
		return dst
	}
	w := splice{src: c.Data, dst: dst}
	w.insertMissing(&c.Answer, s.ID, s.Model)
	for _, m := range c.marks {
		switch m.place {
		case atID:
			w.replaceString(m, s.ID)
		case atModel:
			w.replaceString(m, s.Model)
		case atUsage:
			if !s.IncludeUsage {
				w.remove(m)
			}
		case atRole:
			if s.introduced.has(c.Choices[m.choice].Index) {
				w.remove(m)
			}
			s.introduced.add(c.Choices[m.choice].Index)
		case atEmptyContent:
			if choice := &c.Choices[m.choice]; choice.FinishReason != "" || choice.ToolCalls {
				w.remove(m)
			}
		case atEmptyFinish:
			w.replace(m, "null")
		}
	}
	dst = w.rest()
	if c.has&hasChoices == 0 {
		dst = AppendMember(dst, "choices", []byte("[]"))
	}
	return dst
}

// hides reports whether a chunk has nothing for the client: a usage chunk it did not ask for, or an
// object that belongs to no completion.
func (s *StreamEditor) hides(c *Chunk) bool {
	if c.has&hasUsage != 0 {
		return !s.IncludeUsage && len(c.Choices) == 0
	}
	return c.has&(hasChoices|hasError) == 0
}

// AppendUsage appends a usage chunk of the gateway's own, for an upstream that sent none. object is
// "chat.completion.chunk" or "text_completion", created is in seconds since the epoch.
func (s *StreamEditor) AppendUsage(dst []byte, object string, created int64, u Usage) []byte {
	dst = AppendString(append(dst, `{"id":`...), s.ID)
	dst = AppendString(append(dst, `,"object":`...), object)
	dst = strconv.AppendInt(append(dst, `,"created":`...), created, 10)
	dst = AppendString(append(dst, `,"model":`...), s.Model)
	dst = appendUsage(append(dst, `,"choices":[],"usage":`...), u)
	return append(dst, '}')
}
