package attempt

import (
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
	s.queue, s.queued, s.holding = nil, 0, false // pieces of calls that never became whole
	if !s.told.possible || s.told.tools || s.told.more {
		return false
	}
	if s.beforeWait != nil {
		s.beforeWait()
	}
	text, prefillOnly := openai.DecodeText(s.told.text), false
	for at := s.walk.next(s.ctx); at != nil; at = s.walk.next(s.ctx) {
		var rest *openai.Request
		if !calling && s.canPrefill(at) {
			rest = s.continuation(at, text)
		}
		var next *leg
		switch {
		case rest != nil:
			next = s.prefilled(at, rest)
		case prefillOnly:
			at.permit.Dropped()
			continue
		default:
			next = s.restarted(at, text)
		}
		if next != nil {
			s.adopt(next)
			return true
		}
		prefillOnly = prefillOnly || s.walk.last.Outcome == upstream.Diverged
	}
	return false
}

// adopt makes a leg the one that is read.
func (s *Stream) adopt(l *leg) {
	s.leg, s.resumed = l, l.entry.Resumes
	s.breaks++
	s.queue, l.held = append(s.queue, l.held...), nil
	l.beforeWait = s.beforeWait
	s.walk.forget()
}

// canPrefill says whether a candidate takes the beginning of its answer. With tools on offer nobody is
// asked to: what would have become a call turns into prose.
func (s *Stream) canPrefill(at *stop) bool {
	return at.candidate.Limits.Can.Has(catalog.SetOf(catalog.Prefill)) && !s.walk.work.Needs.Tools && !at.refusesPrefill
}

// prefilled asks a candidate for the rest of the text. When it refuses the form, the walk comes back
// to it for a restart.
func (s *Stream) prefilled(at *stop, rest *openai.Request) *leg {
	t := s.walk.open(at)
	t.entry.Resumes, t.lastHope = byPrefill, true
	t.request, t.entry.prompt = rest, rest.PromptBytes
	got, failure := t.run(s.ctx)
	switch {
	case failure == nil:
		return got.leg
	case failure.Outcome == upstream.ClientError:
		at.refusesPrefill = true
		at.permit.Dropped()
		s.walk.repeat(at)
	default:
		s.walk.note(at, t.key, failure)
	}
	return nil
}

// restarted asks a candidate for the whole answer and skips what the client has seen of it.
func (s *Stream) restarted(at *stop, text string) *leg {
	t := s.walk.open(at)
	t.entry.Resumes, t.lastHope = byRestart, true
	got, failure := t.run(s.ctx)
	if failure != nil {
		s.walk.note(at, t.key, failure)
		return nil
	}
	if failure = skip(got.leg, text); failure != nil {
		got.leg.fail(failure)
		s.walk.broke(got.leg, failure)
		return nil
	}
	return got.leg
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

// skip reads a leg up to the place that the client has seen. What is left of the chunk in which that place
// lies, and what was held back after it, comes next.
func skip(l *leg, text string) *upstream.Error {
	held := l.held
	l.held = nil
	var c openai.Chunk
	for text != "" {
		if len(held) > 0 {
			if err := openai.ParseChunk(held[0], &c); err != nil {
				return asFailure(err)
			}
			held = held[1:]
			if text = skipChunk(l, &c, text); text == diverged {
				return errDiverged()
			}
			continue
		}
		if err := l.read(); err != nil {
			return asFailure(err)
		}
		if text = skipChunk(l, &l.chunk, text); text == diverged {
			return errDiverged()
		}
	}
	l.held = append(l.held, held...)
	return nil
}

// diverged stands for a text that a restart does not repeat. No text of a provider is like it: it is not
// valid UTF-8.
const diverged = "\xff"

func errDiverged() *upstream.Error {
	return &upstream.Error{Outcome: upstream.Diverged, Message: "The restarted answer differs from what had been sent."}
}

// skipChunk compares a chunk with the text that the client has seen and returns the rest of that text. What the
// chunk says beyond it is kept for the client.
func skipChunk(l *leg, c *openai.Chunk, text string) string {
	if len(c.Choices) == 0 {
		return text // usage, or nothing at all
	}
	if len(c.Choices) > 1 || c.Choices[0].ToolCalls || c.Choices[0].Other {
		return diverged
	}
	said := openai.DecodeText(c.Choices[0].Text)
	switch {
	case strings.HasPrefix(text, said) && len(said) < len(text):
		if c.Choices[0].FinishReason != "" {
			return diverged // it ends before it has said all of it
		}
		return text[len(said):]
	case strings.HasPrefix(said, text):
		if rest := said[len(text):]; rest != "" || c.Choices[0].FinishReason != "" {
			l.held = append(l.held, c.WithText(nil, rest))
		}
		return ""
	default:
		return diverged
	}
}
