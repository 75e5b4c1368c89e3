package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"shareai/internal/fault"
	"shareai/internal/openai"
	"shareai/internal/tunnel"
)

const (
	maxBody   = 64 << 20    // bytes of a request
	maxBodies = 8 * maxBody // of all requests that are held at once, the ones that wait for a place included
	maxAnswer = 64 << 20    // bytes of an answer that is no stream
)

// use is what a path is for.
type use uint8

const (
	chatting use = iota
	embedding
)

// allowedPaths are all that the gateway may ask for. Everything else that an engine has (pulling and deleting models, among
// others) is none of its business.
var allowedPaths = map[string]use{
	"/v1/chat/completions": chatting,
	"/v1/completions":      chatting,
	"/v1/embeddings":       embedding,
}

// The refusals. None of them says anything about the machine beyond what it advertises.
var (
	errPath   = fault.New(fault.NotFound, "unknown_url", "This node has no such path.")
	errVerb   = fault.New(fault.MethodNotAllowed, "method_not_allowed", "Use POST.")
	errModel  = fault.New(fault.NotFound, "model_not_found", "This node does not serve such a model.").About("model")
	errUse    = fault.New(fault.Invalid, "unsupported_endpoint", "This model does not answer requests of this kind.").About("model")
	errLarge  = fault.New(fault.TooLarge, "request_too_large", "The request is longer than 64 MiB.")
	errFull   = fault.New(fault.RateLimited, "node_busy", "The node takes no more requests at the moment.")
	errEngine = fault.New(fault.Upstream, "engine_failed", "The engine of this node did not answer.")
	errTaken  = fault.New(fault.Unavailable, "node_leaving", "The owner of the node needs the machine.")
)

// server answers what comes over the links. It is a handler of paths that begin with /v1.
type server struct {
	gate      *gate
	engines   *atomic.Pointer[[]*engine]
	transport http.RoundTripper
	spend     func(tokens int64)
	failed    func() // an engine did not answer: look again
	log       *slog.Logger
	held      atomic.Int64 // bytes of bodies
}

// ServeHTTP implements http.Handler.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	request := r.Header.Get(tunnel.HeaderRequestID)
	err := s.serve(w, r)
	s.log.Debug("request", "id", request, "path", r.URL.Path, "took", time.Since(start).Round(time.Millisecond), "error", err)
	var abort abortion
	switch {
	case err == nil:
	case errors.As(err, &abort), r.Context().Err() != nil:
		// Something was sent already, or nobody listens. A clean end would pass for a whole answer.
		panic(http.ErrAbortHandler)
	default:
		refuse(w, request, err)
	}
}

// abortion is a failure after the answer began.
type abortion struct{ error }

func (a abortion) Unwrap() error { return a.error }

func refuse(w http.ResponseWriter, request string, err error) {
	e := fault.From(err)
	w.Header().Set("Content-Type", "application/json")
	if e == errFull {
		w.Header().Set(tunnel.HeaderBusy, "1")
	}
	w.WriteHeader(e.HTTPStatus())
	_, _ = w.Write(openai.AppendError(nil, e, request))
}

// serve answers a request, or says why not.
func (s *server) serve(w http.ResponseWriter, r *http.Request) error {
	kind, ok := allowedPaths[r.URL.Path]
	switch {
	case !ok || r.URL.RawPath != "":
		return errPath
	case r.Method != http.MethodPost:
		return errVerb
	}
	// The whole body is read before the engine is called: net/http may close one that is still being read when an answer
	// is flushed.
	release, err := s.hold(r.ContentLength)
	if err != nil {
		return err
	}
	defer release()
	body, err := readBody(w, r)
	if err != nil {
		return err
	}
	asked, err := openai.ParseRequest(body)
	if err != nil {
		return err
	}
	at, ok := find(*s.engines.Load(), asked.Model)
	switch {
	case !ok:
		return errModel
	case kind == chatting && !at.model.chats, kind == embedding && !at.model.embeds:
		return errUse
	}
	ctx, leave, err := s.gate.enter(r.Context(), at.engine.name, at.engine.slots)
	if errors.Is(err, errBusy) {
		return errFull
	}
	if err != nil {
		return err
	}
	defer leave()
	if ms, err := strconv.ParseInt(r.Header.Get(tunnel.HeaderDeadline), 10, 32); err == nil && ms > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(ms)*time.Millisecond)
		defer cancel()
	}
	return s.relay(ctx, w, &exchange{path: r.URL.Path, asked: asked, at: at})
}

// hold makes room in memory for a body, whose length is negative when it is not known. A gateway could send as many as a
// link has streams, long before any of them comes to the gate.
func (s *server) hold(length int64) (release func(), err error) {
	if length > maxBody {
		return nil, errLarge
	}
	if length < 0 {
		length = maxBody
	}
	release = func() { s.held.Add(-length) }
	if s.held.Add(length) > maxBodies {
		release()
		return nil, errFull
	}
	return release, nil
}

func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	var body bytes.Buffer
	if r.ContentLength > 0 {
		body.Grow(int(r.ContentLength) + bytes.MinRead)
	}
	_, err := body.ReadFrom(http.MaxBytesReader(w, r.Body, maxBody))
	var long *http.MaxBytesError
	if errors.As(err, &long) {
		return nil, errLarge
	}
	return body.Bytes(), err
}

// exchange is a request on its way to an engine.
type exchange struct {
	path  string
	asked *openai.Request
	at    found
}

// relay asks the engine and passes its answer on.
func (s *server) relay(ctx context.Context, w http.ResponseWriter, x *exchange) error {
	answer, err := s.ask(ctx, x)
	if err != nil {
		return s.without(ctx, x, err)
	}
	defer func() { _ = answer.Body.Close() }()
	kind, _, _ := mime.ParseMediaType(answer.Header.Get("Content-Type"))
	switch encoding := answer.Header.Get("Content-Encoding"); {
	case answer.StatusCode/100 == 3, encoding != "" && encoding != "identity":
		return s.without(ctx, x, fmt.Errorf("status %d, encoding %q", answer.StatusCode, encoding))
	case kind == "text/event-stream" && answer.StatusCode == http.StatusOK:
		return s.stream(ctx, w, x, answer)
	default:
		return s.whole(ctx, w, x, answer)
	}
}

// ask sends the request. Nothing of its headers is passed on: what an engine needs is the same every time.
func (s *server) ask(ctx context.Context, x *exchange) (*http.Response, error) {
	at := &x.at.engine.address
	body := x.asked.Edit(openai.SetString("model", x.at.model.id))
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, at.url(x.path), body.Reader())
	if err != nil {
		return nil, err
	}
	r.ContentLength = body.Len()
	r.GetBody = func() (io.ReadCloser, error) { return body.Reader(), nil }
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json")
	if x.asked.Stream {
		r.Header.Set("Accept", "text/event-stream")
	}
	r.Header.Set("User-Agent", "shareai-node")
	if !at.key.Empty() {
		r.Header.Set("Authorization", "Bearer "+at.key.Reveal())
	}
	return s.transport.RoundTrip(r)
}

// without is the error for an engine that gave no answer. The cause stays here: it has addresses of the machine in it.
func (s *server) without(ctx context.Context, x *exchange, cause error) error {
	switch {
	case errors.Is(context.Cause(ctx), errCut):
		return errTaken
	case ctx.Err() != nil:
		return ctx.Err()
	}
	s.log.Warn("an engine failed", "engine", x.at.engine.name, "error", cause)
	s.failed()
	return errEngine.Because(cause)
}

// whole passes on an answer that is no stream, once it is there to its end.
func (s *server) whole(ctx context.Context, w http.ResponseWriter, x *exchange, answer *http.Response) error {
	var body bytes.Buffer
	if n := answer.ContentLength; n > 0 && n <= maxAnswer {
		body.Grow(int(n) + bytes.MinRead)
	}
	n, err := body.ReadFrom(io.LimitReader(answer.Body, maxAnswer+1))
	if err == nil && n > maxAnswer {
		err = errors.New("the answer is longer than 64 MiB")
	}
	if err != nil {
		return s.without(ctx, x, err)
	}
	if answer.StatusCode == http.StatusOK {
		if reply, err := openai.ParseReply(body.Bytes()); err == nil && reply.Err == nil {
			s.account(x, reply.Usage, reply.ContentBytes)
		}
	}
	copyHeader(w, answer)
	w.Header().Set("Content-Length", strconv.Itoa(body.Len()))
	w.WriteHeader(answer.StatusCode)
	_, _ = w.Write(body.Bytes())
	return nil
}

// stream passes on a stream as it comes.
func (s *server) stream(ctx context.Context, w http.ResponseWriter, x *exchange, answer *http.Response) error {
	copyHeader(w, answer)
	w.WriteHeader(answer.StatusCode)
	_ = http.NewResponseController(w).Flush() // the first token may take its time; a receiver that is gone shows below
	watched := newWatch(answer.Body, w)
	err := watched.run()
	s.account(x, watched.progress.Usage(), watched.progress.ContentBytes())
	if err == nil {
		return nil
	}
	if ctx.Err() == nil && !errors.Is(err, errReceiver) {
		err = s.without(ctx, x, err)
	}
	return abortion{err}
}

// copyHeader copies what a client may know of an engine's headers.
func copyHeader(w http.ResponseWriter, answer *http.Response) {
	for _, name := range []string{"Content-Type", "Retry-After"} {
		if value := answer.Header.Get(name); value != "" {
			w.Header().Set(name, value)
		}
	}
}

// account adds up the tokens of an answer: as the engine counted them, else by length.
func (s *server) account(x *exchange, u openai.Usage, contentBytes int) {
	tokens := u.Prompt + u.Completion
	if !u.Reported {
		tokens = x.asked.PromptTokens() + int64(contentBytes/openai.BytesPerToken)
	}
	s.spend(tokens)
}
