package attempt

import (
	"slices"
	"strconv"
	"strings"

	"shareai/internal/catalog"
	"shareai/internal/openai"
	"shareai/internal/upstream"
)

// How a broken stream goes on.
const (
	byPrefill = "prefill"
	byRestart = "restart"
)

// mend closes the leg that broke and goes on with another one. It says whether that worked.
func (s *Stream) mend(failure *upstream.Error) bool {
	from := s.leg
	from.fail(failure)
	s.walk.broke(from, failure)
	calling := s.holding
	s.queue, s.holding = nil, false // pieces of calls that never became whole
	if !s.told.possible || s.walk.beforeWait != nil && s.walk.beforeWait() != nil {
		return false
	}
	text := openai.DecodeText(s.told.text)
	for at := s.walk.next(s.ctx); at != nil; at = s.walk.next(s.ctx) {
		var rest *openai.Request
		if !calling && s.canPrefill(at, text) {
			rest = s.continuation(at, text)
		}
		if next := s.resumeAt(at, rest, text); next != nil {
			s.adopt(next)
			return true
		}
	}
	return false
}

// adopt makes a leg the one that is read.
func (s *Stream) adopt(l *leg) {
	s.leg = l
	s.breaks++
	s.queue, l.held = append(s.queue, l.held...), nil
	s.walk.begin()
}

// canPrefill says whether a candidate takes the beginning of its answer. With tools on offer nobody is
// asked to: what would have become a call turns into prose. Nor with half a character at the end.
func (s *Stream) canPrefill(at *stop, text string) bool {
	return at.candidate.Limits.Can.Has(catalog.SetOf(catalog.Prefill)) && !s.walk.work.Needs.Tools &&
		!at.refusesPrefill && !strings.HasSuffix(text, "\uFFFD")
}

// resumeAt asks a candidate for the rest of the text, by the request for it, or where there is none for the
// whole answer, of which what the client has seen is skipped. When a candidate refuses the form, the walk comes
// back to it for a restart.
func (s *Stream) resumeAt(at *stop, rest *openai.Request, text string) *leg {
	t := s.walk.open(at)
	t.entry.Resumes, t.lastHope = byRestart, true
	skip := skipAll
	if rest != nil {
		t.entry.Resumes, t.request, t.entry.asked = byPrefill, rest, rest
		skip = skipRepeated
	}
	got, failure := t.run(s.ctx)
	if failure != nil {
		s.walk.note(at, failure)
		if rest != nil && failure.Outcome == upstream.ClientError {
			at.refusesPrefill = true
			s.walk.atOnce = at
		}
		return nil
	}
	if failure = skip(got.leg, text); failure == nil {
		return got.leg
	}
	got.leg.fail(failure)
	s.walk.broke(got.leg, failure)
	if failure.Outcome == upstream.Diverged { // the next restart would say something else as well
		s.walk.only = func(other *stop) bool { return s.canPrefill(other, text) }
	}
	return nil
}

// continuation is the request for the rest of the text, in the form that a candidate takes; nil when
// the request has none.
func (s *Stream) continuation(at *stop, text string) *openai.Request {
	rest := openai.Continuation{Text: text, Tokens: tokensIn(len(text))}
	switch form := at.candidate.Provider.Prefill; form {
	case catalog.PrefillContinue:
		rest.Final = true
	case catalog.PrefillPrefix, catalog.PrefillPartial:
		rest.Member = string(form)
	}
	request, err := s.walk.work.Request.Continue(rest)
	if err != nil {
		return nil
	}
	return request
}

// skipAll reads a restarted leg up to the place that the client has seen. What is left of the chunk in which that
// place lies, and what was held back after it, comes next.
func skipAll(l *leg, text string) *upstream.Error {
	c := comparison{left: text}
	for c.left != "" {
		chunk, err := l.replay()
		if err != nil {
			return asFailure(err)
		}
		if !c.take(chunk) {
			return &upstream.Error{Outcome: upstream.Diverged, Message: "The restarted answer differs from what had been sent."}
		}
	}
	l.held = append(c.rest, l.held...)
	return nil
}

// fewestRepeated is how long a text must be, in bytes, for its repetition not to be chance.
const fewestRepeated = 16

// skipRepeated finds out whether a leg that was to go on with a text tells it again, as engines do that do not
// know of prefill. That is then skipped; nearly always the first chunk tells that it goes on.
func skipRepeated(l *leg, text string) *upstream.Error {
	if len(text) < fewestRepeated {
		return nil
	}
	c := comparison{left: text}
	var seen [][]byte
	for c.left != "" {
		chunk, err := l.replay()
		if err != nil {
			return asFailure(err)
		}
		seen = append(seen, append([]byte(nil), chunk.Data...))
		if !c.take(chunk) {
			l.held = append(seen, l.held...)
			return nil
		}
	}
	l.held = append(c.rest, l.held...)
	return nil
}

// replay returns the next chunk of a leg, of what it holds first.
func (l *leg) replay() (*openai.Chunk, error) {
	if len(l.held) == 0 {
		if err := l.read(); err != nil {
			return nil, err
		}
		return &l.chunk, nil
	}
	data := l.held[0]
	l.held = l.held[1:]
	c := new(openai.Chunk)
	return c, openai.ParseChunk(data, c)
}

// comparison holds what a leg says against a text.
type comparison struct {
	left string   // of the text, that the leg has not said yet
	half []byte   // the first half of a character that is written as two, kept until the other one comes
	rest [][]byte // what the leg says beyond the text
}

// take compares a chunk and says whether the leg has said the same so far.
func (m *comparison) take(c *openai.Chunk) bool {
	if len(c.Choices) == 0 {
		return true // usage, or nothing at all
	}
	choice := &c.Choices[0]
	if len(c.Choices) > 1 || choice.Index != 0 || choice.ToolCalls || choice.Other {
		return false
	}
	raw, half := cutHalf(slices.Concat(m.half, choice.Text))
	m.half = half
	said := openai.DecodeText(raw)
	switch {
	case strings.HasPrefix(m.left, said) && len(said) < len(m.left):
		m.left = m.left[len(said):]
		return choice.FinishReason == "" // else it ends before it has said all of it
	case strings.HasPrefix(said, m.left):
		if rest := said[len(m.left):]; rest != "" || choice.FinishReason != "" {
			m.rest = append(m.rest, c.WithText(nil, rest))
		}
		m.left = ""
		return len(m.half) == 0
	default:
		return false
	}
}

// cutHalf cuts the first half of a surrogate pair off the end of a JSON string: \uD83D, whose other half is in the
// next chunk.
func cutHalf(raw []byte) (whole, half []byte) {
	const length = len(`\ud83d`)
	at := len(raw) - length
	if at < 0 || raw[at] != '\\' || raw[at+1] != 'u' {
		return raw, nil
	}
	code, err := strconv.ParseUint(string(raw[at+2:]), 16, 16)
	if err != nil || code < 0xD800 || code > 0xDBFF {
		return raw, nil
	}
	return raw[:at], append([]byte(nil), raw[at:]...)
}
