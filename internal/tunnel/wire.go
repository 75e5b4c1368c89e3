package tunnel

import (
	"crypto/ed25519"
	"net/http"
	"time"

	"shareai/internal/catalog"
)

// Subprotocol names what travels inside the WebSocket: a change of it that old ends can not read has another name.
const Subprotocol = "shareai.h2.v1"

// Paths of the gateway.
const (
	PathTunnel = "/node/v1/tunnel" // WebSocket; the node's end dials it
	PathPeer   = "/node/v1/peer/"  // what one replica asks of another: PathPeer NODE/v1/chat/completions
)

// Paths of the agent, which is the server inside the link.
const (
	pathEvents  = "/shareai/v1/events"
	pathControl = "/shareai/v1/control"
	pathEngine  = "/shareai/v1/engine" // before the path of the engine: /v1/chat/completions
)

// Headers. The first three go from the gateway with every request that a node gets, the next two come back.
const (
	HeaderRequestID = "Shareai-Request-Id"
	HeaderDeadline  = "Shareai-Deadline-Ms" // how long the gateway is going to wait
	headerTrace     = "Traceparent"

	HeaderBusy  = "Shareai-Busy"  // with 429: nothing was started, another node may be asked
	HeaderStage = "Shareai-Stage" // queued or started

	headerReplica  = "Shareai-Replica"  // of the gateway, whose link it is
	headerReplicas = "Shareai-Replicas" // how many there are
	headerLink     = "Shareai-Link"     // id of the link
	headerReplaces = "Shareai-Replaces" // id of the link whose place a new one takes
	headerReason   = "Shareai-Reason"   // why a dial, or a request between replicas, was refused
	headerPeer     = "Shareai-Peer"     // proof that a replica asks
)

// Times and sizes that both ends agree on.
const (
	firstEventWithin = 10 * time.Second
	heartbeat        = 5 * time.Second // of events
	// silentAfter is three heartbeats: without an event for so long a link is not a link any more, though its
	// connection may answer pings.
	silentAfter = 3 * heartbeat
	debounce    = 100 * time.Millisecond
	eventPause  = 20 * time.Millisecond // between two that are read: a node may not keep the gateway busy
	maxEvent    = 1 << 20               // bytes of a line
	maxControl  = 64 << 10
	maxHeaders  = 64 << 10
	maxStreams  = 1024     // at once on one link
	maxBody     = 64 << 20 // of a request
	maxAnswer   = 1 << 30  // of an answer; what reads it has tighter bounds of its own
	// Together less than the ten seconds within which a dead peer has to be noticed.
	pingAfter     = 4 * time.Second
	pingTimeout   = 4 * time.Second
	handshakeTime = 15 * time.Second
	hearWithin    = 2 * time.Second       // the gateway answers that a link is leaving
	lastRequests  = 50 * time.Millisecond // on their way when it did
	// tcpKeepAlive is for whoever watches the connection from outside, such as a NAT. A peer that is dead is noticed
	// by the pings inside, which a proxy in between can not answer.
	tcpKeepAlive = 15 * time.Second
)

// State is what a node says of itself.
type State struct {
	Advertised catalog.Advertised
	// Capacity is how many requests the node takes at once; 0: none, for the moment.
	Capacity int
	InFlight int // over all links
	Queued   int
	// Idle says in a word why capacity is what it is: "serving", "waiting", "busy".
	Idle            string
	TokensPerSecond float64
	Draining        bool // takes no new requests
}

// event is a line of the stream of events. What is not there has not changed.
type event struct {
	Version         int                 `json:"v"`
	Sequence        uint64              `json:"seq"` // of the agent's process, over all links
	Boot            string              `json:"boot,omitempty"`
	Advertised      *catalog.Advertised `json:"advertised,omitempty"`
	Capacity        int                 `json:"capacity"`
	InFlight        int                 `json:"inflight"`
	Queued          int                 `json:"queued,omitempty"`
	Idle            string              `json:"idle_state,omitempty"`
	TokensPerSecond float64             `json:"tok_s,omitempty"`
	Draining        bool                `json:"draining,omitempty"` // the node takes no new requests
	Leaving         bool                `json:"leaving,omitempty"`  // this link takes none; another has its place
	Rekey           *rekey              `json:"rekey,omitempty"`    // on a line of its own account: the node asks for another key
}

// rekey asks the gateway to accept a further key of the node.
type rekey struct {
	ID     string            `json:"id"` // of the question; the answer has it too
	Public ed25519.PublicKey `json:"public"`
	Proof  []byte            `json:"proof"` // signed by the new key
}

// control is what the gateway tells the agent.
type control struct {
	Op       string `json:"op"`
	Replicas int    `json:"replicas"`        // how many there are now
	ID       string `json:"id,omitempty"`    // opRekey: of the question
	Key      string `json:"key,omitempty"`   // opRekey: id of the key, once it is accepted
	Error    string `json:"error,omitempty"` // opRekey: why it is not
}

const (
	opOpen     = "open"     // the link is in use: what it replaces may go
	opDrain    = "drain"    // the gateway is about to stop: dial elsewhere, then leave
	opReplicas = "replicas" // there are more replicas now, or fewer
	opRekey    = "rekey"
)

// Reasons for which a dial is refused, in headerReason.
const (
	reasonMalformed  = "malformed"
	reasonUnknown    = "unknown"
	reasonSignature  = "signature"
	reasonAudience   = "audience"
	reasonClock      = "clock"
	reasonReplayed   = "replayed"
	reasonRevoked    = "revoked"
	reasonSuperseded = "superseded"
	reasonDuplicate  = "duplicate"
	reasonDraining   = "draining"
	reasonBusy       = "busy"
	reasonFlapping   = "flapping"
	reasonVersion    = "version"
	// reasonAway and reasonLink are said between replicas: nothing was dispatched; it was, and the link failed.
	reasonAway = "away"
	reasonLink = "link"
)

// Toward a node goes what an engine needs, and nothing that the end user sent along: no key, no cookie.
var toNode = []string{"Content-Type", "Accept", HeaderRequestID, headerTrace, HeaderDeadline}

// A node is somebody else's machine: of what it answers only this gets through, so no cookie, no redirect, and nothing
// that speaks about the connection.
var fromNode = []string{"Content-Type", "Retry-After", HeaderBusy, HeaderStage}

// allowed copies the named headers, the first value of each.
func allowed(from http.Header, names []string) http.Header {
	to := make(http.Header, len(names))
	for _, name := range names {
		if values := from[name]; len(values) > 0 {
			to[name] = values[:1:1]
		}
	}
	return to
}
