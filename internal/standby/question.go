package standby

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"shareai/internal/fault"
	"shareai/internal/openai"
)

const (
	// maxBody is the largest body that can be sent twice, in bytes: no gateway takes a larger one.
	maxBody = 64 << 20
	// bodyTime is how long a client may take to send such a body.
	bodyTime = 60 * time.Second
)

// question is what a client asked.
type question struct {
	// head is the request without its body.
	head *http.Request
	// body is the whole body, unless rest follows.
	body []byte
	rest io.Reader
	// netted says that the gateway could answer it as well.
	netted bool
	// request is the parsed body; nil when there is none.
	request *openai.Request
}

// credentials are the headers in which clients of the usual providers send their key.
var credentials = [...]string{"Authorization", "Api-Key", "X-Api-Key", "X-Goog-Api-Key"}

// read takes a request from the client. A body that the gateway can not be asked with is left where it is,
// or goes as it came: the primary knows best what is wrong with it.
func read(out *clientWriter, r *http.Request) (*question, error) {
	q := &question{head: r}
	switch {
	case !isNetted(r):
		q.rest = r.Body
	case r.Method == http.MethodGet:
		q.netted = true
	default:
		if err := q.readBody(out, r); err != nil {
			return nil, err
		}
		request, err := openai.ParseRequest(q.body)
		if q.netted = err == nil && q.rest == nil; q.netted {
			q.request = request
		}
	}
	if q.rest != nil {
		out.duplex()
	}
	return q, nil
}

// isNetted says whether the gateway serves a request of this kind, and may be asked.
func isNetted(r *http.Request) bool {
	served := false
	switch path := r.URL.Path; r.Method {
	case http.MethodPost:
		served = path == "/v1/chat/completions" || path == "/v1/completions" || path == "/v1/embeddings"
	case http.MethodGet:
		served = path == "/v1/models" || strings.HasPrefix(path, "/v1/models/")
	}
	if !served || r.Header.Get("Content-Encoding") != "" {
		return false
	}
	for _, name := range credentials {
		if r.Header.Get(name) != "" {
			return true
		}
	}
	return false
}

// readBody reads the body, up to maxBody.
func (q *question) readBody(out *clientWriter, r *http.Request) error {
	out.limitReading(bodyTime)
	var body bytes.Buffer
	body.Grow(int(max(bytes.MinRead, min(r.ContentLength+bytes.MinRead, 64<<10))))
	n, err := body.ReadFrom(io.LimitReader(r.Body, maxBody+1))
	out.liftReading()
	q.body = body.Bytes()
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		e := fault.New(fault.Timeout, "request_timeout", fmt.Sprintf("The request body did not arrive within %s. Send it again.", bodyTime))
		e.Status = http.StatusRequestTimeout
		return e
	case err != nil:
		return fault.New(fault.Invalid, "incomplete_body", "The request body ended before it was complete. Send it again.").Because(err)
	case n > maxBody:
		q.rest = r.Body
	}
	return nil
}

// reader is the body from its beginning, and size its length, -1 when it is not known.
func (q *question) reader() (body io.Reader, size int64) {
	switch {
	case q.rest != nil && len(q.body) == 0:
		return q.rest, q.head.ContentLength
	case q.rest != nil:
		return io.MultiReader(bytes.NewReader(q.body), q.rest), q.head.ContentLength
	default:
		return bytes.NewReader(q.body), int64(len(q.body))
	}
}

// stream says whether the client wants events.
func (q *question) stream() bool { return q.request != nil && q.request.Stream }

// circuit is the name of the circuit that decides about the request: a provider often has trouble with
// one model and not with the others.
func (q *question) circuit() string {
	if q.request == nil {
		return "GET models"
	}
	return q.request.Model
}
