package node

import (
	"errors"
	"io"
	"net/http"

	"shareai/internal/openai"
)

var (
	errReceiver   = errors.New("the receiver is gone")
	errUnfinished = errors.New("the stream ended before the answer did")
)

// watch passes a stream on byte for byte and reads along, to know whether it came to its end: some engines end a stream
// cleanly when the process behind them has died.
type watch struct {
	from     io.Reader
	to       http.ResponseWriter
	flush    func() error
	events   *openai.SSEReader
	mender   openai.Mender
	progress openai.Progress
	ended    bool // [DONE], or an error of the engine's own, has come
}

func newWatch(from io.Reader, to http.ResponseWriter) *watch {
	w := &watch{from: from, to: to, flush: http.NewResponseController(to).Flush}
	w.events = openai.NewSSEReader(w)
	return w
}

// Read implements io.Reader for the reader of events: what it reads has been passed on.
func (w *watch) Read(b []byte) (int, error) {
	n, err := w.from.Read(b)
	if n == 0 {
		return n, err
	}
	if _, failed := w.to.Write(b[:n]); failed != nil {
		return 0, errors.Join(errReceiver, failed)
	}
	if failed := w.flush(); failed != nil {
		return 0, errors.Join(errReceiver, failed)
	}
	return n, err
}

// run returns when the stream is over; nil: it came to its end.
func (w *watch) run() error {
	defer w.events.Release()
	var chunk openai.Chunk
	for {
		event, err := w.events.Next()
		switch {
		case errors.Is(err, io.EOF) && !w.ended && !w.progress.Finished():
			return errUnfinished
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case openai.IsDone(event.Data):
			w.ended = true
		case w.mender.ParseChunk(event.Data, &chunk) == nil:
			w.progress.Observe(&chunk)
			w.ended = w.ended || chunk.Err != nil
		}
	}
}
