// Package node is the agent: it makes the engines of a machine part of a gateway's capacity, within its owner's rules.
//
// # What runs
//
// One process for each data directory. It dials the gateway (package tunnel) and answers what comes over that link; it
// opens no port. Its parts each own what they change:
//
//   - the finder asks engines what they serve, those that the owner named and those that listen on loopback. What it has
//     found is advertised when it has changed;
//   - the server answers requests: three paths, of advertised models only. The address of an engine comes from the owner's
//     settings or from the finder, never from the gateway;
//   - the gate decides how much runs at once. It says that it is busy before anything was started, so that the gateway may
//     ask somebody else;
//   - the machine (of states) decides when the owner's computer serves at all, from what the sensors read;
//   - the socket in the data directory answers the owner: status, pause, resume.
//
// # When it serves
//
// There are three phases:
//
//	           may serve                       may not, and requests run
//	resting ──────────────────────▶ serving ──────────────────────────────▶ leaving
//	   ▲                              │  ▲                                     │ │
//	   │      may not, nothing runs   │  └────────── may serve again ──────────┘ │
//	   └──────────────────────────────┴────────── nothing runs any more ─────────┘
//
// While it is leaving it takes nothing new; what still runs when the owner's grace is over is cut, and the gateway has
// another one complete the answer. Whether it may serve is decided by, in this order: a pause, whether there is an engine
// and tokens are left for today, the hours, and in the mode idle whether anybody else needs the machine (see Machine).
//
// # A cut answer is never a whole one
//
// An engine that dies leaves a stream that is cut, or, as Ollama does, one that ends cleanly without a finish reason. The
// server reads along and aborts the stream over the link in both cases. What is no stream is passed on when it is whole.
//
// # Files of the data directory
//
// All of them are the owner's alone (0600, in a directory of 0700), and are replaced as a whole:
//
//	identity.json   the node's id and private key
//	enrolling.json  a key that was sent and not answered yet; only while the machine is being enrolled
//	tokens.json     the tokens of today
//	paused          there while the owner has paused the node
//	node.yaml       settings; written by the owner only
//	node.sock       the socket
package node
