package attempt

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"shareai/internal/fault"
	"shareai/internal/openai"
	"shareai/internal/snapshot"
	"shareai/internal/upstream"
)

// Stream is a committed stream: its first content has arrived. It is read by one goroutine.
type Stream struct {
	answer   *upstream.Answer
	work     *Work
	target   *snapshot.Target
	entry    entry
	dog      *watchdog
	idle     time.Duration
	progress openai.Progress
	chunk    openai.Chunk
	held     [][]byte // what came before the first content, and that content itself
	primed   bool     // the first content has come: from here on the clock runs from event to event
	ended    bool     // the attempt is closed and logged
	// beforeWait is called before the provider is waited for: the time to flush what has come.
	beforeWait func()
}

// BeforeWait sets what is done each time before the stream waits for the provider. Chunks that came
// together can so leave together, and nothing is held back while nothing comes.
func (s *Stream) BeforeWait(f func()) { s.beforeWait = f }

// maxHeld bounds what is held back before the first content, in bytes.
const maxHeld = 1 << 20

// prime reads up to the first content and holds back what it read. limit counts from the start of the
// attempt.
func (s *Stream) prime(limit time.Duration) *upstream.Error {
	s.dog.enter(upstream.FirstTokenTimeout, max(limit-time.Since(s.entry.start), 1))
	size := 0
	for {
		if err := s.read(); err != nil {
			return asFailure(err)
		}
		data := append([]byte(nil), s.chunk.Data...)
		s.held = append(s.held, data)
		if s.chunk.Content || s.progress.Finished() {
			s.entry.firstToken()
			s.dog.rest()
			s.primed = true
			return nil
		}
		if size += len(data); size > maxHeld {
			return &upstream.Error{Outcome: upstream.BadAnswer, Message: "The provider sent a megabyte without any content."}
		}
	}
}

// Next returns the next chunk, valid until the next call. A stream that finished ends with io.EOF; one
// that broke with a *fault.Error, and the client must hear of it.
func (s *Stream) Next() (*openai.Chunk, error) {
	if len(s.held) > 0 {
		data := s.held[0]
		s.held = s.held[1:]
		if err := openai.ParseChunk(data, &s.chunk); err != nil { // parsed well when it arrived
			return nil, fault.From(err)
		}
		return &s.chunk, nil
	}
	if s.ended {
		return nil, io.EOF
	}
	err := s.read()
	switch {
	case err == nil:
		return &s.chunk, nil
	case errors.Is(err, io.EOF):
		s.finish()
		return nil, io.EOF
	default:
		failure := asFailure(err)
		s.fail(failure)
		return nil, broken(failure)
	}
}

// Usage is what the provider has reported so far.
func (s *Stream) Usage() openai.Usage { return s.progress.Usage() }

// Close ends the attempt. A stream that was not read to its end counts as left by the client: the
// upstream is stopped, and what it produced is priced.
func (s *Stream) Close() {
	if !s.ended {
		s.fail(&upstream.Error{Outcome: upstream.Canceled, Message: "The client closed the request."})
	}
}

// read takes the next event into s.chunk. A finished stream ends with io.EOF, any other with an
// *upstream.Error.
func (s *Stream) read() error {
	for {
		event, err := s.next()
		done := err == nil && openai.IsDone(event.Data)
		switch ended := done || errors.Is(err, io.EOF); {
		case done && s.progress.Finished():
			return io.EOF
		case err != nil && s.complete() && !errors.Is(err, upstream.Canceled):
			return io.EOF // all there; only [DONE] is missing
		case ended:
			return &upstream.Error{Outcome: upstream.NoFinish, Message: "The provider's stream ended without a finish_reason."}
		case err != nil:
			return err
		}
		if event.Name == "error" {
			return upstream.Classify(openai.ParseError(http.StatusOK, nil, event.Data))
		}
		if err := openai.ParseChunk(event.Data, &s.chunk); err != nil {
			continue // one bad event does not end a good stream; a missing finish_reason would
		}
		if s.chunk.Err != nil {
			return upstream.Classify(s.chunk.Err)
		}
		s.progress.Observe(&s.chunk)
		return nil
	}
}

// next takes the next event from the provider. The clock runs only while it is waited for: a slow
// client is not its fault.
func (s *Stream) next() (openai.Event, error) {
	if !s.primed || s.answer.Stream.Buffered() > 0 {
		return s.answer.Stream.Next()
	}
	if s.beforeWait != nil {
		s.beforeWait()
	}
	s.dog.enter(upstream.IdleTimeout, s.idle)
	defer s.dog.rest()
	return s.answer.Stream.Next()
}

// complete says whether a stream without [DONE] may be taken as whole: it has finished, with as many
// choices as were asked for.
func (s *Stream) complete() bool {
	return s.progress.Finished() && s.progress.Choices() >= s.work.Request.N
}

func (s *Stream) finish() {
	s.entry.finish(s.work, s.target, s.progress.Usage(), s.progress.ContentBytes())
	s.end()
}

func (s *Stream) fail(f *upstream.Error) {
	s.entry.fail(f)
	if s.progress.ContentBytes() > 0 || s.progress.Usage().Reported {
		s.entry.settle(s.work, s.target, s.progress.Usage(), s.progress.ContentBytes())
	}
	s.end()
}

func (s *Stream) end() {
	s.ended = true
	s.answer.Close()
	s.dog.stop()
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
