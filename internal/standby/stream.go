package standby

import (
	"context"
	"errors"
	"io"
	"net/http"

	"shareai/internal/openai"
)

// stream reads an answer's events while their bytes go to the client as they are: to find the commit point, and to
// know whether the stream was whole when it ended. It is its own reader's source.
type stream struct {
	*answer
	choices  int // that were asked for
	from     io.Reader
	events   *openai.SSEReader
	chunk    openai.Chunk
	progress openai.Progress
	content  bool // some has come
	done     bool // [DONE] has come
	said     bool // an error has come as an event

	// out gets what is read from now on; nil while it is held back.
	out *clientWriter
}

func newStream(a *answer, q *question) *stream {
	s := &stream{answer: a, from: a.rest, choices: 1}
	if q.request != nil {
		s.choices = q.request.N
	}
	s.events = openai.NewSSEReader(s)
	return s
}

// Read implements io.Reader for the reader of the events. What it returns is held back or has been sent.
func (s *stream) Read(p []byte) (int, error) {
	if s.out == nil {
		n, err := s.from.Read(p)
		s.held = append(s.held, p[:n]...)
		return n, err
	}
	s.clock.Reset(s.idle)
	n, err := s.from.Read(p)
	s.clock.Stop() // a slow client is not the provider's fault
	if n > 0 {
		if err := s.out.send(p[:n]); err != nil {
			return 0, err
		}
	}
	return n, err
}

// next takes note of an event.
func (s *stream) next() error {
	event, err := s.events.Next()
	switch {
	case err != nil:
		return err
	case openai.IsDone(event.Data):
		s.done = true
	case event.Name == "error":
		s.said = true
	case openai.ParseChunk(event.Data, &s.chunk) == nil: // what is malformed is the client's to judge
		s.said = s.said || s.chunk.Err != nil
		s.content = s.content || s.chunk.Content
		s.progress.Observe(&s.chunk)
	}
	return nil
}

// prime reads up to the first content, or to the end when there is none and the stream says so.
func (s *stream) prime() reason {
	for len(s.held) < maxHeld {
		err := s.next()
		switch {
		case err != nil, s.done && !s.progress.Finished():
			return brokeOff
		case s.said:
			return saidError
		case s.content, s.progress.Finished():
			return ""
		}
	}
	return ""
}

// relay sends what follows, and returns how the stream ended: nil when it was whole, or said itself that it
// is not.
func (s *stream) relay(out *clientWriter) error {
	s.out = out
	for {
		err := s.next()
		if err == nil {
			continue
		}
		ended := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		whole := s.progress.Finished() && s.progress.Choices() >= s.choices // only [DONE] is missing
		if s.done || s.said || whole && ended {
			return out.failed
		}
		return err
	}
}

// relay sends an answer to the client. One that breaks off is cut off, by a panic that net/http knows: a
// clean end would pass it off as whole.
func (s *Standby) relay(ctx context.Context, out *clientWriter, a *answer) {
	out.begin(a)
	err := out.send(a.held)
	switch {
	case err != nil || a.rest == nil:
	case a.stream != nil:
		err = a.stream.relay(out)
	default:
		err = a.copyRest(out)
	}
	if err == nil {
		out.trailer(a.response.Trailer)
		return
	}
	if ctx.Err() == nil && out.failed == nil {
		a.broken = true
		s.log.Warn("an answer broke off", "way", a.way)
	}
	panic(http.ErrAbortHandler)
}

// copyRest sends what is no stream of the API, or none that can be read, as it comes.
func (a *answer) copyRest(out *clientWriter) error {
	buffer := make([]byte, 32<<10)
	for {
		n, err := a.rest.Read(buffer)
		if n > 0 {
			if err := out.send(buffer[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
