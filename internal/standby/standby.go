package standby

import (
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"shareai/internal/account"
	"shareai/internal/catalog"
	"shareai/internal/health"
)

// Header names the way that an answer took: primary or gateway.
const Header = "X-Shareai-Standby"

// Options are what a Standby is made of.
type Options struct {
	// Primary is the base URL that the SDK had before, such as https://api.openai.com/v1. Paths below
	// /v1 are looked for there; others at the same path of its host. One without a path gets every path
	// as it is.
	Primary *url.URL
	// Gateway is the base URL of a ShareAI gateway, with or without /v1, and Key its API key.
	Gateway *url.URL
	Key     account.Secret
	// Models maps the primary's names to the gateway's; other names stay as they are.
	Models   map[string]string
	Timeouts Timeouts
	Log      *slog.Logger
}

// Timeouts bound the ways, each on its own. Zero means the default, which is that of a policy.
type Timeouts struct {
	Connect    time.Duration // TCP and TLS
	Headers    time.Duration // streams: from the start to the answer's head
	FirstToken time.Duration // streams: from the start to the first content
	Idle       time.Duration // streams: between two pieces after that
	Answer     time.Duration // everything else: from the start to the whole answer
}

func (t Timeouts) withDefaults() Timeouts {
	return Timeouts{
		Connect:    cmp.Or(t.Connect, catalog.DefaultConnect),
		Headers:    cmp.Or(t.Headers, catalog.DefaultStreamHeaders),
		FirstToken: cmp.Or(t.FirstToken, catalog.DefaultFirstToken),
		Idle:       cmp.Or(t.Idle, catalog.DefaultIdle),
		Answer:     cmp.Or(t.Answer, catalog.DefaultTotal),
	}
}

// Standby stands in front of a primary. It is an http.Handler.
type Standby struct {
	primary, gateway *way
	board            *health.Board
	timeouts         Timeouts
	log              *slog.Logger
}

// New makes a stand-by.
func New(o Options) *Standby {
	s := &Standby{timeouts: o.Timeouts.withDefaults(), log: o.Log}
	s.primary = newWay("primary", toPrimary{o.Primary}, s.timeouts)
	// The gateway has its own, shorter, deadlines for every provider that it tries.
	whole := s.timeouts.Answer
	s.gateway = newWay("gateway", newToGateway(o), Timeouts{
		Connect: s.timeouts.Connect, Headers: whole, FirstToken: whole, Idle: whole, Answer: whole,
	})
	s.board = health.NewBoard(health.Options{OnChange: s.changed})
	return s
}

// Close closes the connections that are not in use.
func (s *Standby) Close() {
	s.primary.transport.CloseIdleConnections()
	s.gateway.transport.CloseIdleConnections()
}

// changed logs what a circuit does.
func (s *Standby) changed(id string, _, to health.State) {
	switch to {
	case health.Open:
		s.log.Warn("the primary is failing: its requests go to the gateway", "circuit", id)
	case health.HalfOpen:
		s.log.Info("finding out whether the primary is back", "circuit", id)
	case health.Closed:
		s.log.Info("the primary is back", "circuit", id)
	}
}

// ServeHTTP answers a request, one way or the other.
func (s *Standby) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/healthz" {
		s.healthz(w)
		return
	}
	out := newClientWriter(w)
	q, err := read(out, r)
	switch {
	case err != nil:
		out.fail(err)
	case q.netted:
		s.answer(out, q)
	default:
		s.pass(out, q)
	}
}

// healthz says that the process is alive, and which circuits are not closed.
func (s *Standby) healthz(w http.ResponseWriter) {
	circuits := map[string]health.State{}
	for _, status := range s.board.List() {
		if status.State != health.Closed {
			circuits[status.ID] = status.State
		}
	}
	body, err := json.Marshal(map[string]any{"status": "ok", "circuits": circuits})
	if err != nil { // it has nothing that can not be encoded
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(body, '\n'))
}

// pass sends a request to the primary, and whatever comes back to the client.
func (s *Standby) pass(out *clientWriter, q *question) {
	ctx, cancel := context.WithCancelCause(q.head.Context())
	defer cancel(nil)
	response, failed := s.primary.send(ctx, q)
	if failed != nil {
		s.giveUp(out, q, failed)
		return
	}
	defer func() { _ = response.Body.Close() }()
	s.relay(q.head.Context(), out, &answer{way: s.primary.name, response: response, rest: response.Body})
}

// answer sends a request to the primary or to the gateway, as the circuit says, and to the other when that
// fails.
func (s *Standby) answer(out *clientWriter, q *question) {
	circuit := s.board.Deployment(q.circuit())
	permit, closed := circuit.Acquire()
	var byPrimary, byGateway *failure
	if closed {
		if byPrimary = s.tryPrimary(out, q, circuit, permit); byPrimary == nil {
			return
		}
	}
	if byGateway = s.tryGateway(out, q); byGateway == nil {
		return
	}
	if !closed && byGateway.reason != clientLeft {
		if byPrimary = s.tryPrimary(out, q, circuit, circuit.Insist()); byPrimary == nil {
			return
		}
	}
	s.giveUp(out, q, byPrimary, byGateway)
}

// tryPrimary asks the primary and relays what it says, unless it fails before that. The permit learns how
// it went.
func (s *Standby) tryPrimary(out *clientWriter, q *question, circuit *health.Deployment, permit health.Permit) *failure {
	start := time.Now()
	a, failed := s.primary.ask(q.head.Context(), q)
	switch {
	case failed == nil && a.response.StatusCode < http.StatusBadRequest:
		permit.Succeeded(health.FirstToken, time.Since(start))
	case failed == nil, failed.reason == clientLeft:
		permit.Dropped()
	default:
		permit.Failed()
		circuit.HoldOff(failed.retryAfter)
	}
	if failed != nil {
		s.note(q, "the primary failed", failed)
		return failed
	}
	defer a.close()
	defer func() {
		// relay ends with a panic when it cuts the client off.
		if a.broken {
			circuit.Fail()
		}
	}()
	s.relay(q.head.Context(), out, a)
	return nil
}

func (s *Standby) tryGateway(out *clientWriter, q *question) *failure {
	if q.head.Context().Err() != nil {
		return &failure{reason: clientLeft}
	}
	a, failed := s.gateway.ask(q.head.Context(), q)
	if failed == nil && a.response.StatusCode >= http.StatusBadRequest {
		// What the gateway refuses, such as a name that it does not know, is no fault of the client's.
		failed = a.refused()
	}
	if failed != nil {
		s.note(q, "the gateway failed", failed)
		return failed
	}
	defer a.close()
	s.relay(q.head.Context(), out, a)
	return nil
}

// note logs a failure. It has no words of the other side in it: they might quote a key.
func (s *Standby) note(q *question, message string, f *failure) {
	if f.reason == clientLeft {
		return
	}
	s.log.Warn(message, "path", q.head.URL.Path, "reason", string(f.reason), "status", f.status)
}

// giveUp answers with the first failure that is an answer, the primary's before the gateway's; when
// there is none, with an error of its own.
func (s *Standby) giveUp(out *clientWriter, q *question, failures ...*failure) {
	if q.head.Context().Err() != nil {
		panic(http.ErrAbortHandler) // nobody is there any more
	}
	for _, f := range failures {
		if f != nil && f.kept != nil {
			s.relay(q.head.Context(), out, f.kept)
			return
		}
	}
	out.fail(noAnswer(failures))
}
