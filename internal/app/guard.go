package app

import (
	"fmt"
	"net/http"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"shareai/internal/fault"
	"shareai/internal/openai"
	"shareai/internal/usage"
)

// gate counts who is inside. Once it is shut nobody gets in any more.
type gate struct {
	mu     sync.Mutex
	inside int
	empty  chan struct{} // not nil: shut
}

func (g *gate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.empty != nil {
		return false
	}
	g.inside++
	return true
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inside--; g.inside == 0 && g.empty != nil {
		close(g.empty)
	}
}

// shut shuts the gate. The channel closes when the last one has left.
func (g *gate) shut() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.empty == nil {
		g.empty = make(chan struct{})
		if g.inside == 0 {
			close(g.empty)
		}
	}
	return g.empty
}

var errStopping = &fault.Error{
	Kind: fault.Unavailable, Code: "stopping", RetryAfter: time.Second,
	Message: "This gateway is stopping. Send the request again; another one may answer it.",
}

// guarded lets requests in while the site is open. A panic, which the gateway itself deals with where
// it can, ends the one connection and nothing else.
func (s *site) guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.gate.enter() {
			writeError(w, errStopping)
			return
		}
		defer s.gate.leave()
		defer func() {
			if p := recover(); p != nil {
				s.panicked(p, r)
				panic(http.ErrAbortHandler)
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// page wraps everything but the API: limited time, headers that keep browsers from guessing, and an
// answer even after a panic.
func (s *site) page(next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(pageTime))
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		h.Set("Referrer-Policy", "no-referrer")
		defer func() {
			if p := recover(); p != nil {
				s.panicked(p, r)
				writeError(w, fault.New(fault.Internal, "internal_error", "Something went wrong inside the gateway. Its log says more."))
			}
		}()
		next(w, r)
	})
}

func (s *site) panicked(p any, r *http.Request) {
	if p == http.ErrAbortHandler { //nolint:errorlint // net/http compares it like this
		return
	}
	s.log.Error("panic in a request", "path", r.URL.Path, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
}

// getOnly refuses every method but GET and HEAD.
func getOnly(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			writeError(w, fault.New(fault.MethodNotAllowed, "method_not_allowed", "This path can only be read. Send GET."))
			return
		}
		next(w, r)
	}
}

func notFound(w http.ResponseWriter, _ *http.Request) {
	writeError(w, fault.New(fault.NotFound, "unknown_url", "There is no such path. The API is below /v1/; see /v1/models."))
}

// writeError answers with an error in OpenAI's shape.
func writeError(w http.ResponseWriter, e *fault.Error) {
	id := usage.NewID()
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("X-Request-Id", id)
	if e.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int((e.RetryAfter+time.Second-1)/time.Second)))
	}
	w.WriteHeader(e.HTTPStatus())
	_, _ = w.Write(openai.AppendError(nil, e, id))
}
