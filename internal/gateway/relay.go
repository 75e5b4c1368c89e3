package gateway

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"shareai/internal/attempt"
	"shareai/internal/catalog"
	"shareai/internal/fault"
	"shareai/internal/openai"
)

const costHeader = "X-Shareai-Cost"

// ownID is the id of an answer: the gateway's own, because engines count from small numbers and
// collide.
func (x *exchange) ownID() string {
	prefix := "chatcmpl-"
	if x.record.Endpoint == catalog.Completions {
		prefix = "cmpl-"
	}
	return prefix + x.record.ID[len("req_"):]
}

// relayReply sends a unary answer.
func (x *exchange) relayReply(reply *openai.Reply) error {
	buffer := buffers.Get().(*[]byte)
	body := reply.AppendTo((*buffer)[:0], x.ownID(), x.record.Model)
	defer keepBuffer(buffer, body)
	x.record.BytesOut = int64(len(body))
	x.keepAnswer(body)
	x.settle(http.StatusOK, "")
	h := x.out.header
	h["Content-Type"] = typeJSON
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	h[costHeader] = costOf(x.record.Cost)
	x.out.begin(http.StatusOK)
	_ = x.out.write(body) // a client that left has its record
	return nil
}

var typeStream = []string{"text/event-stream; charset=utf-8"}

// relayStream sends a stream as it comes. Chunks that arrive together leave together; nothing waits
// once the upstream has nothing more at hand.
func (x *exchange) relayStream(stream *attempt.Stream, request *openai.Request) error {
	h := x.out.header
	h["Content-Type"] = typeStream
	h["Cache-Control"] = []string{"no-cache"}
	h["X-Accel-Buffering"] = []string{"no"} // an nginx in front would hold chunks back
	h["Trailer"] = []string{costHeader}
	x.out.begin(http.StatusOK)
	buffer := buffers.Get().(*[]byte)
	s := sender{exchange: x, editor: openai.StreamEditor{ID: x.ownID(), Model: x.record.Model}, wants: request.IncludeUsage, buffer: (*buffer)[:0]}
	defer func() { keepBuffer(buffer, s.buffer) }()
	stream.BeforeWait(s.send)
	for s.failed == nil {
		chunk, err := stream.Next()
		if s.failed != nil {
			break
		}
		if errors.Is(err, io.EOF) {
			return s.finish(stream)
		}
		if err != nil {
			return s.abandon(fault.From(err))
		}
		if stream.Breaks() != s.breaks {
			s.takeOver(stream)
		}
		s.chunk(chunk)
		if len(s.buffer) > maxBatch {
			_ = s.send() // the loop looks at s.failed
		}
	}
	return fault.New(fault.Canceled, "client_closed_request", "The client stopped reading.").Because(s.failed)
}

// buffers hold answers and events on their way to a client. They grow with what arrives at once.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 1<<10); return &b }}

// keepBuffer gives a buffer back in the size to which it has grown, unless one answer made it huge.
func keepBuffer(buffer *[]byte, grown []byte) {
	if cap(grown) <= 2*maxBatch {
		*buffer = grown[:0]
		buffers.Put(buffer)
	}
}

// sender turns chunks into events for one client.
type sender struct {
	*exchange
	editor openai.StreamEditor
	buffer []byte
	usage  []byte // the usage chunk, kept back until the cost is known
	wants  bool   // the client asked for a usage chunk
	failed error  // of a write: the client is gone
	breaks int    // of the stream, that another attempt has mended
}

// takeOver notes that another attempt has gone on with the stream.
func (s *sender) takeOver(stream *attempt.Stream) {
	by := stream.Candidate()
	s.answered(by)
	s.breaks, s.record.Resumed, s.editor.Model = stream.Breaks(), true, by.Model.Name
}

// chunk adds a chunk to what is sent next.
func (s *sender) chunk(c *openai.Chunk) {
	if len(c.Choices) == 0 && c.Usage.Reported {
		s.editor.IncludeUsage = s.wants
		s.usage = s.editor.AppendChunk(s.usage[:0], c)
		s.editor.IncludeUsage = false // in other chunks it would count twice
		return
	}
	if c.Content && s.record.FirstToken == 0 {
		s.record.FirstToken = time.Since(s.start).Microseconds()
	}
	before := len(s.buffer)
	s.buffer = append(s.buffer, "data: "...)
	begin := len(s.buffer)
	s.buffer = s.editor.AppendChunk(s.buffer, c)
	if len(s.buffer) == begin {
		s.buffer = s.buffer[:before] // nothing of it is for the client
		return
	}
	s.buffer = append(s.buffer, "\n\n"...)
}

// maxBatch bounds what is gathered before it is written, in bytes.
const maxBatch = 64 << 10

// send writes what has been gathered. Its error is that of the first write that failed.
func (s *sender) send() error {
	if len(s.buffer) == 0 || s.failed != nil {
		return s.failed
	}
	s.keepAnswer(s.buffer)
	s.failed = s.out.write(s.buffer)
	s.buffer = s.buffer[:0]
	if s.failed == nil {
		s.failed = s.out.flush()
	}
	return s.failed
}

// finish ends a stream that an upstream really finished.
func (s *sender) finish(stream *attempt.Stream) error {
	s.totals()
	if s.wants {
		s.usageChunk(stream)
	}
	s.record.BytesOut = s.out.sent + int64(len(s.buffer)+len(doneEvent))
	s.keepAnswer(s.buffer)
	s.settle(http.StatusOK, "")
	s.buffer = openai.AppendDone(s.buffer)
	s.out.header[costHeader] = costOf(s.record.Cost)
	_ = s.out.write(s.buffer) // a client that left has its record
	return nil
}

var doneEvent = openai.AppendDone(nil)

// usageChunk adds the usage chunk, with the cost in it: the provider's own, or ours when it sent none or
// knows of a part of the answer only.
func (s *sender) usageChunk(stream *attempt.Stream) {
	data, reported, resumed := s.usage, stream.Usage(), stream.Resumed()
	if len(data) == 0 || resumed != "" {
		if !reported.Reported || resumed != "" {
			t := stream.Tokens()
			if resumed != "" {
				t = s.record.Tokens
			}
			reported = openai.Usage{
				Prompt: t.Prompt, Cached: t.Cached, CacheWrite: t.CacheWrite, AudioInput: t.AudioInput,
				Completion: t.Completion, Reasoning: t.Reasoning, AudioOutput: t.AudioOutput,
			}
		}
		object := "chat.completion.chunk"
		if s.record.Endpoint == catalog.Completions {
			object = "text_completion"
		}
		data = s.editor.AppendUsage(nil, object, s.start.Unix(), reported)
	}
	data = openai.AppendMember(data, "x-shareai-cost", openai.AppendString(nil, catalog.FormatUSD(s.record.Cost)))
	if resumed != "" {
		data = openai.AppendMember(data, "x-shareai-resumed", openai.AppendString(nil, resumed))
	}
	s.buffer = openai.AppendEvent(s.buffer, data)
}

// abandon ends a stream that broke: the client gets an error event, never [DONE].
func (s *sender) abandon(e *fault.Error) error {
	if e.Kind == fault.Canceled {
		return e
	}
	body := openai.AppendError(nil, e, s.record.ID, attemptsOf(s.log.Attempts())...)
	s.buffer = openai.AppendEvent(s.buffer, body)
	s.record.BytesOut = s.out.sent + int64(len(s.buffer))
	s.settle(e.HTTPStatus(), e.Code)
	s.out.header[costHeader] = costOf(s.record.Cost)
	_ = s.out.write(s.buffer)
	return nil
}
