package upstream

import (
	"net/http"
	"time"

	"shareai/internal/catalog"
	"shareai/internal/openai"
)

// Target is a deployment and the key to speak to it with.
type Target struct {
	Provider   *catalog.Provider
	Deployment *catalog.Deployment
	Key        catalog.ProviderKey // the zero value: none is sent
}

// Call is one request to one deployment.
type Call struct {
	Target
	Endpoint    catalog.Endpoint // Chat, Completions or Embeddings
	Request     *openai.Request  // as the client sent it
	RequestID   string           // sent as X-Request-Id; empty: not sent
	Traceparent string           // sent as traceparent; empty: not sent
	// Connect bounds name look-up, TCP and TLS together; 0: catalog.DefaultConnect. A pooled connection
	// costs none of it.
	Connect time.Duration
	// Drill, when not nil, makes the call fail in the drill's way.
	Drill *catalog.Drill
	// OnHeaders, when not nil, is called once when the head of an answer has arrived, whatever it says,
	// before its body is read. It must not block.
	OnHeaders func()
	// OnBytes, when not nil, is called each time a piece of a unary answer's body has arrived. It must not block.
	OnBytes func()
}

// Answer is what a deployment answered with a 2xx status. Its owner must Close it; one goroutine at
// a time may use it.
type Answer struct {
	Status    int
	Header    http.Header
	HeadersAt time.Time
	// Body is the whole answer of a unary call, at most MaxBody bytes; nil for a stream. It came with
	// a JSON content type and is not parsed.
	Body []byte
	// Stream gives the events of a stream; nil for a unary call.
	Stream *Stream
}

// Close releases what the answer holds. A second Close does nothing. A stream that was not read to its
// end is broken off, which makes the provider stop; one that has sent [DONE] is given a moment to end,
// so that its connection can be used again.
func (a *Answer) Close() {
	if a.Stream != nil {
		a.Stream.close()
	}
}
