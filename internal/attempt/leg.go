package attempt

import (
	"errors"
	"io"
	"net/http"
	"time"

	"shareai/internal/catalog"
	"shareai/internal/openai"
	"shareai/internal/upstream"
)

// leg is the stream of one attempt. A client's stream has one, and one more each time it is resumed. It is
// read by one goroutine.
type leg struct {
	*try
	answer   *upstream.Answer
	dog      *watchdog
	idle     time.Duration
	progress openai.Progress
	mender   openai.Mender
	chunk    openai.Chunk
	held     [][]byte // what came before the commit point, and what committed it
	primed   bool     // the first content has come: from here on the clock runs from event to event
	ended    bool     // the attempt is closed and logged
	// beforeWait, when not nil, is called before the provider is waited for: the time to flush what has come.
	beforeWait func()
}

// maxHeld bounds what is held back, in bytes.
const maxHeld = 1 << 20

// prime reads up to the commit point and holds back what it read. limit counts from the start of the
// attempt.
func (l *leg) prime(limit time.Duration) *upstream.Error {
	l.dog.enter(upstream.FirstTokenTimeout, max(limit-time.Since(l.entry.start), 1))
	size := 0
	for {
		if err := l.read(); err != nil {
			return asFailure(err)
		}
		l.held = append(l.held, append([]byte(nil), l.chunk.Data...))
		size += len(l.chunk.Data)
		finished := l.progress.Finished()
		if l.chunk.Content && !l.primed {
			l.entry.firstToken()
			l.dog.rest()
			l.primed = true
		}
		switch {
		case finished && !l.primed:
			l.entry.firstToken()
			l.dog.rest()
			l.primed = true
			return l.nothingSaid(l.chunk.Choices)
		case finished, l.chunk.Content && !(l.holds() && onlyTools(&l.chunk)):
			return nil
		case l.primed && size > maxHeld:
			return nil // a call this long goes as it comes
		case size > maxHeld:
			return &upstream.Error{Outcome: upstream.BadAnswer, Message: "The provider sent a megabyte without any content."}
		}
	}
}

// holds says whether tool calls are held back until they are whole.
func (l *leg) holds() bool { return l.work.Plan.Policy.HoldToolCalls != catalog.Off }

// onlyTools says whether all that a chunk gives a user is pieces of tool calls.
func onlyTools(c *openai.Chunk) bool {
	for i := range c.Choices {
		if choice := &c.Choices[i]; len(choice.Text) > 0 || choice.Reasoning || choice.Other {
			return false
		}
	}
	return true
}

// read takes the next event into l.chunk. A finished stream ends with io.EOF, any other with an
// *upstream.Error.
func (l *leg) read() error {
	for {
		event, err := l.next()
		done := err == nil && openai.IsDone(event.Data)
		switch ended := done || errors.Is(err, io.EOF); {
		case done && l.progress.Finished():
			return io.EOF
		case err != nil && l.complete() && !errors.Is(err, upstream.Canceled):
			return io.EOF // all there; only [DONE] is missing
		case ended:
			return &upstream.Error{Outcome: upstream.NoFinish, Message: "The provider's stream ended without a finish_reason."}
		case err != nil:
			return err
		}
		if event.Name == "error" {
			return upstream.Classify(openai.ParseError(http.StatusOK, nil, event.Data))
		}
		if l.mender.ParseChunk(event.Data, &l.chunk) != nil {
			continue // one bad event does not end a good stream; a missing finish_reason would
		}
		if l.chunk.Err != nil {
			return upstream.Classify(l.chunk.Err)
		}
		l.progress.Observe(&l.chunk)
		return nil
	}
}

// next takes the next event from the provider. The clock runs only while it is waited for: a slow
// client is not its fault.
func (l *leg) next() (openai.Event, error) {
	if !l.primed || l.answer.Stream.Buffered() > 0 {
		return l.answer.Stream.Next()
	}
	if l.beforeWait != nil {
		l.beforeWait()
	}
	l.dog.enter(upstream.IdleTimeout, l.idle)
	defer l.dog.rest()
	return l.answer.Stream.Next()
}

// complete says whether a stream without [DONE] may be taken as whole: it has finished, with as many
// choices as were asked for.
func (l *leg) complete() bool {
	return l.progress.Finished() && l.progress.Choices() >= l.request.N
}

// finish closes a stream that has come to its end.
func (l *leg) finish() {
	l.entry.finish(l.progress.Usage(), l.progress.ContentBytes())
	l.end()
}

// fail closes a stream that broke; what it produced is priced.
func (l *leg) fail(f *upstream.Error) {
	l.entry.fail(f)
	if l.progress.ContentBytes() > 0 || l.progress.Usage().Reported {
		l.entry.settle(l.progress.Usage(), l.progress.ContentBytes())
	}
	l.end()
}

func (l *leg) end() {
	l.ended = true
	l.answer.Close()
	l.dog.stop()
}
