package tunnel

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// ServeHTTP takes in a link: GET /node/v1/tunnel. It returns when the link has ended.
func (h *Hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !h.begin() {
		w.Header().Set("Retry-After", "1")
		h.refuse(w, http.StatusServiceUnavailable, reasonDraining, "This replica is stopping. Dial again: another one answers.")
		return
	}
	defer h.background.Done()
	s, ok := h.authenticate(w, r)
	if !ok {
		return
	}
	if !slices.Contains(subprotocols(r), Subprotocol) {
		w.Header().Set("Upgrade", "websocket")
		h.refuse(w, http.StatusUpgradeRequired, reasonVersion, "This gateway speaks "+Subprotocol+". Update the agent.")
		return
	}
	l, ok := h.admit(w, r, s)
	if !ok {
		return
	}
	defer l.stop(nil)
	w.Header().Set(headerReplica, h.options.Replica)
	w.Header().Set(headerReplicas, strconv.FormatInt(h.replicas.Load(), 10))
	w.Header().Set(headerLink, l.id)
	socket, err := websocket.Accept(w, r, &websocket.AcceptOptions{
		Subprotocols: []string{Subprotocol}, CompressionMode: websocket.CompressionDisabled,
	})
	if err != nil {
		l.node.forget(l)
		return
	}
	h.serve(l, newCarrier(l.life, socket))
}

// subprotocols returns the names that the client offers.
func subprotocols(r *http.Request) []string {
	var names []string
	for _, line := range r.Header.Values("Sec-WebSocket-Protocol") {
		for name := range strings.SplitSeq(line, ",") {
			names = append(names, strings.TrimSpace(name))
		}
	}
	return names
}

// authenticate answers dials that do not prove who they are.
func (h *Hub) authenticate(w http.ResponseWriter, r *http.Request) (*signed, bool) {
	s, err := parseAssertion(r.Header.Get("Authorization"))
	if err != nil {
		h.refuse(w, http.StatusUnauthorized, reasonMalformed, "A node dials with a signed assertion.")
		return nil, false
	}
	key, err := h.options.Keys.NodeKey(s.Node, s.Key)
	if err != nil {
		h.refuseKey(w, r, &s, err)
		return nil, false
	}
	// Checking a signature is what a dial costs most. Whoever has no key that is known does not get here.
	if wait := h.limiter.take(time.Now()); wait > 0 {
		// All who are refused together do not return together.
		seconds := int(wait.Seconds()) + 1 + rand.IntN(5)
		w.Header().Set("Retry-After", strconv.Itoa(seconds))
		h.refuse(w, http.StatusServiceUnavailable, reasonBusy, "More nodes dial than this replica takes in at once.")
		return nil, false
	}
	now := time.Now()
	if err := s.verify(key, h.options.Audience, now); err != nil {
		reason := reasonSignature
		switch {
		case errors.Is(err, errAudience):
			reason = reasonAudience
		case errors.Is(err, errClock):
			reason = reasonClock
			// The agent corrects its clock by this.
			w.Header().Set("Date", now.UTC().Format(http.TimeFormat))
		}
		if reason != reasonClock { // which is nobody's attack
			h.report(r, reason, &s)
		}
		h.refuse(w, http.StatusUnauthorized, reason, "The assertion is not valid: "+err.Error()+".")
		return nil, false
	}
	if !h.unused(r, &s) {
		h.report(r, reasonReplayed, &s)
		h.refuse(w, http.StatusUnauthorized, reasonReplayed, "The assertion was used before.")
		return nil, false
	}
	return &s, true
}

func (h *Hub) refuseKey(w http.ResponseWriter, r *http.Request, s *signed, err error) {
	if errors.Is(err, ErrRevokedNode) {
		h.report(r, reasonRevoked, s)
		h.refuse(w, http.StatusForbidden, reasonRevoked, "This node was revoked. Enrol the machine again with a new token.")
		return
	}
	// Not reported: the names are a stranger's, and there may be any number of them.
	h.refuse(w, http.StatusUnauthorized, reasonUnknown, "This node is not known here. If it stays so, enrol the machine again.")
}

// unused says whether the nonce is used for the first time.
func (h *Hub) unused(r *http.Request, s *signed) bool {
	// An assertion is valid from a skew before its time to a skew after it.
	const keep = 2 * clockSkew
	name := s.Node + " " + s.Nonce
	if first, _ := h.nonces.First(r.Context(), name, keep); !first {
		return false
	}
	if h.options.Nonces == nil {
		return true
	}
	first, err := h.options.Nonces.First(r.Context(), "node:"+name, keep)
	if err != nil {
		h.log.DebugContext(r.Context(), "whether other replicas have seen an assertion could not be asked", "error", err)
		return true
	}
	return first
}

// admit makes a link for a dial that has proved who it is.
func (h *Hub) admit(w http.ResponseWriter, r *http.Request, s *signed) (*link, bool) {
	n := h.node(s.Node)
	l := &link{id: newID(), node: n, key: s.Key, boot: s.Boot, opened: time.Now(), hub: h, ready: make(chan struct{})}
	l.life, l.stop = context.WithCancelCause(r.Context())
	switch n.admit(l, r.Header.Get(headerReplaces)) {
	case "":
		return l, true
	case reasonSuperseded:
		h.report(r, reasonSuperseded, s)
		h.refuse(w, http.StatusForbidden, reasonSuperseded, "A newer agent uses the key of this node. Enrol this machine as a node of its own.")
	case reasonFlapping:
		h.report(r, reasonFlapping, s)
		w.Header().Set("Retry-After", strconv.Itoa(int(quarantine.Seconds())))
		h.refuse(w, http.StatusServiceUnavailable, reasonFlapping, "This node was lost several times within a minute, and rests.")
	case reasonDuplicate:
		h.refuse(w, http.StatusConflict, reasonDuplicate, "This agent has a link to this replica.")
	}
	l.stop(nil)
	return nil, false
}

// bucket lets so many through in a second.
type bucket struct {
	mu    sync.Mutex
	rate  float64
	level float64
	at    time.Time
}

func newBucket(rate int) bucket { return bucket{rate: float64(rate), level: float64(rate)} }

// take returns 0, or after how long there is room again.
func (b *bucket) take(now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.at.IsZero() {
		b.level = min(b.rate, b.level+b.rate*now.Sub(b.at).Seconds())
	}
	b.at = now
	if b.level < 1 {
		return time.Duration((1 - b.level) / b.rate * float64(time.Second))
	}
	b.level--
	return 0
}

// reports remembers what was told within the minute.
type reports struct {
	mu sync.Mutex
	at map[string]time.Time
}

func (t *reports) first(what string, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.at == nil || len(t.at) > 10_000 {
		t.at = map[string]time.Time{}
	}
	if at, ok := t.at[what]; ok && now.Sub(at) < time.Minute {
		return false
	}
	t.at[what] = now
	return true
}
