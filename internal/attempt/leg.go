package attempt

import (
	"bytes"
	"errors"
	"io"
	"net/http"

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
	progress openai.Progress
	mender   openai.Mender
	chunk    openai.Chunk
	held     [][]byte // what came before the commit point, and what committed it
	primed   bool     // the first content has come: from here on the clock runs from event to event
}

// maxHeld bounds what is held back, in bytes.
const maxHeld = 1 << 20

// prime reads up to the commit point and holds back what it read.
func (l *leg) prime() *upstream.Error {
	l.dog.enter(upstream.FirstTokenTimeout, l.firstTokenLeft())
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
			return l.judge(l.chunk.Choices, l.progress.IsEmpty())
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
		if err == nil && openai.IsDone(event.Data) {
			if l.progress.Finished() {
				return io.EOF
			}
			err = io.EOF
		}
		if err == nil {
			err = l.take(event)
		}
		switch {
		case err == nil:
			l.progress.Observe(&l.chunk)
			return nil
		case errors.Is(err, errSkip):
			continue // one bad event does not end a good stream; a missing finish_reason would
		case l.complete() && !errors.Is(err, upstream.Canceled):
			return io.EOF // all there, whatever comes after it
		case errors.Is(err, io.EOF):
			return &upstream.Error{Outcome: upstream.NoFinish, Message: "The provider's stream ended without a finish_reason."}
		default:
			return err
		}
	}
}

// errSkip says that there is nothing in an event that can be read.
var errSkip = errors.New("not a chunk")

// take parses an event into l.chunk. An error inside it is returned as one.
func (l *leg) take(event openai.Event) error {
	if event.Name == "error" {
		return upstream.Classify(openai.ParseError(http.StatusOK, nil, event.Data))
	}
	data := event.Data
	if bytes.IndexByte(data, '\n') >= 0 { // an event on several lines; white space, since no JSON string has a raw line break
		data = bytes.ReplaceAll(data, []byte("\n"), []byte(" "))
	}
	switch err := l.mender.ParseChunk(data, &l.chunk); {
	case err == nil:
	case bytes.Contains(data, []byte(`"choices"`)):
		// It was a piece of the answer. Without it, the rest would be passed off as the whole.
		return &upstream.Error{Outcome: upstream.BadAnswer, Message: "A piece of the provider's answer is malformed.", Cause: err}
	default:
		return errSkip
	}
	if l.chunk.Err != nil {
		return upstream.Classify(l.chunk.Err)
	}
	return nil
}

// next takes the next event from the provider. The clock runs only while it is waited for: a slow
// client is not its fault.
func (l *leg) next() (openai.Event, error) {
	if !l.primed || l.answer.Stream.Buffered() > 0 {
		return l.answer.Stream.Next()
	}
	if l.beforeWait != nil {
		_ = l.beforeWait() // a client that is gone ends the context
	}
	l.dog.enter(upstream.IdleTimeout, l.deadlines().Idle)
	defer l.dog.rest()
	return l.answer.Stream.Next()
}

// complete says whether a stream without [DONE] may be taken as whole: it has finished, with as many
// choices as were asked for.
func (l *leg) complete() bool {
	return l.progress.Finished() && l.progress.Choices() >= l.request.Choices()
}

// finish closes a stream that has come to its end.
func (l *leg) finish() {
	l.entry.finish(l.progress.Usage(), l.progress.Produced())
	l.stop.deployment.Completed()
	l.end()
}

// fail closes a stream that broke; what it produced is priced.
func (l *leg) fail(f *upstream.Error) {
	l.entry.fail(f)
	if l.progress.ContentBytes() > 0 || l.progress.Usage().Reported {
		l.entry.settle(l.progress.Usage(), l.progress.Produced())
	}
	l.end()
}

func (l *leg) end() {
	l.answer.Close()
	l.dog.stop()
	l.stop.seat.Release()
}
