package attempt

import (
	"context"
	"errors"
	"io"

	"shareai/internal/catalog"
	"shareai/internal/fault"
	"shareai/internal/openai"
	"shareai/internal/routing"
	"shareai/internal/upstream"
)

// Stream is a committed stream: its first content has arrived. It is read by one goroutine. When the
// attempt behind it breaks, it goes on with another one where that is possible.
type Stream struct {
	ctx   context.Context // the client's: resuming begins new attempts under it
	walk  *walk
	leg   *leg
	chunk openai.Chunk
	told  told
	// queue is what comes before anything new is read; holding is set while it grows with the pieces of
	// tool calls.
	queue   [][]byte
	queued  int // bytes, of what is held
	holding bool
	ended   bool
	breaks  int // that were mended
}

func newStream(ctx context.Context, w *walk, l *leg) *Stream {
	s := &Stream{ctx: ctx, walk: w, leg: l, queue: l.held}
	l.held = nil
	w.begin()
	s.told.possible = s.resumable()
	return s
}

// BeforeWait sets what is done each time before the stream waits for a provider. Chunks that came
// together can so leave together, and nothing is held back while nothing comes. When it returns an error, the
// client is gone, and nobody is asked to go on with the answer.
func (s *Stream) BeforeWait(f func() error) { s.walk.beforeWait = f }

// Candidate is who serves the stream now.
func (s *Stream) Candidate() *routing.Candidate { return s.leg.stop.candidate }

// Resumed is how the stream was last completed after a break: "prefill" or "restart"; empty when it was not.
func (s *Stream) Resumed() string { return s.leg.entry.Resumes }

// Breaks is how often another attempt has gone on with the stream.
func (s *Stream) Breaks() int { return s.breaks }

// Usage is what the provider has reported so far.
func (s *Stream) Usage() openai.Usage { return s.leg.progress.Usage() }

// Tokens are those of the attempt that ended the stream: reported, or estimated.
func (s *Stream) Tokens() catalog.Tokens { return s.leg.entry.Tokens }

// Next returns the next chunk, valid until the next call. A stream that finished ends with io.EOF; one
// that broke with a *fault.Error, and the client must hear of it.
func (s *Stream) Next() (*openai.Chunk, error) {
	for {
		if len(s.queue) > 0 && !s.holding {
			return s.fromQueue()
		}
		if s.ended {
			return nil, io.EOF
		}
		err := s.leg.read()
		switch {
		case err == nil && s.hold():
		case err == nil:
			s.told.note(&s.leg.chunk)
			return &s.leg.chunk, nil
		case errors.Is(err, io.EOF):
			s.leg.finish()
			s.ended, s.holding = true, false
		default:
			failure := asFailure(err)
			if !s.mend(failure) {
				s.ended, s.holding, s.queue = true, false, nil
				if s.ctx.Err() != nil {
					return nil, fault.From(context.Canceled)
				}
				return nil, broken(failure)
			}
		}
	}
}

// fromQueue returns the first chunk of the queue.
func (s *Stream) fromQueue() (*openai.Chunk, error) {
	data := s.queue[0]
	s.queue = s.queue[1:]
	if err := openai.ParseChunk(data, &s.chunk); err != nil { // parsed well when it arrived
		return nil, fault.From(err)
	}
	s.told.note(&s.chunk)
	return &s.chunk, nil
}

// hold keeps the chunk that was just read back when it belongs to tool calls that are not whole yet: a
// call that breaks can then still come from another candidate.
func (s *Stream) hold() bool {
	l := s.leg
	begins := l.chunk.Content && onlyTools(&l.chunk) && l.holds() && !s.told.tools
	if !s.holding && !begins {
		return false
	}
	if !s.holding {
		s.queued = 0
	}
	s.queue = append(s.queue, append([]byte(nil), l.chunk.Data...))
	s.queued += len(l.chunk.Data)
	s.holding = !l.progress.Finished() && s.queued <= maxHeld
	return true
}

// Close ends the attempt. A stream that was not read to its end counts as left by the client: the
// upstream is stopped, and what it produced is priced.
func (s *Stream) Close() {
	if !s.ended {
		s.ended = true
		s.leg.fail(&upstream.Error{Outcome: upstream.Canceled, Message: "The client closed the request."})
	}
}

// broken is what a client hears of a stream that broke after its first content.
func broken(f *upstream.Error) error {
	kind, code, message := fault.Upstream, "stream_interrupted", "The provider's stream broke off. The answer so far is incomplete."
	switch f.Outcome {
	case upstream.Canceled:
		return fault.From(context.Canceled)
	case upstream.IdleTimeout, upstream.TotalTimeout:
		kind, message = fault.Timeout, "The provider's stream stalled. The answer so far is incomplete."
	}
	return fault.New(kind, code, message).Because(f)
}

// told is what the client has been told so far.
type told struct {
	possible bool   // what has been told can be told again, by the same words
	text     []byte // as written in JSON
	tools    bool   // pieces of tool calls have been sent
}

// maxTold is the longest text that is kept for resuming, in bytes.
const maxTold = 256 << 10

// note takes note of a chunk that goes to the client. An answer that has finished is not resumed, nor one with
// something that can not be told again: calls, reasoning, sound, a refusal.
func (t *told) note(c *openai.Chunk) {
	for i := range c.Choices {
		choice := &c.Choices[i]
		t.tools = t.tools || choice.ToolCalls
		if !t.possible {
			continue
		}
		t.text = append(t.text, choice.Text...)
		if choice.ToolCalls || choice.Reasoning || choice.Other || choice.FinishReason != "" || len(t.text) > maxTold {
			t.possible, t.text = false, nil
		}
	}
}

// resumable says whether the request is one whose answer can be resumed.
func (s *Stream) resumable() bool {
	work := s.walk.work
	switch {
	case work.Plan.Policy.Resume == catalog.Off:
		return false
	case work.Endpoint != catalog.Chat && work.Endpoint != catalog.Completions:
		return false
	default:
		return work.Request.Choices() == 1 && !work.Needs.JSONMode && !work.Needs.JSONSchema && !work.Needs.Audio
	}
}
