// Package tunnel is the link between a gateway and a node: a machine of a user's, behind NAT and without an open port,
// that serves models. Hub is the gateway's end, Dialer the node's. This text is the protocol's specification.
//
// # In short
//
// The agent dials the gateway's own port and upgrades to a WebSocket, the one upgrade that every proxy and load
// balancer passes on. Inside its binary messages runs HTTP/2 with prior knowledge, turned around: the agent is the
// server, the gateway the client. So a request to a node is an HTTP request, with streams that do not hold each
// other up, cancellation, and a way to say good-bye. An agent keeps links to two replicas where there are two; a
// replica without a link sends a request by way of one that has it.
//
// # Dialling
//
//	GET /node/v1/tunnel
//	Upgrade: websocket
//	Sec-WebSocket-Protocol: shareai.h2.v1
//	Authorization: Node PAYLOAD.SIGNATURE
//	Shareai-Replaces: LINK                     (when the new link takes the place of one)
//
// PAYLOAD is the base64url, without padding, of the JSON object
//
//	{"v":1, "node":ID, "key":ID, "aud":INSTALLATION, "ts":SECONDS, "nonce":TEXT, "boot":TEXT}
//
// and SIGNATURE that of the Ed25519 signature over "shareai-dial-v1\n" and the bytes of PAYLOAD before the encoding.
// ts may be 60 s off; a nonce is good once. boot is made by each process of an agent for itself. Unknown fields
// are ignored.
//
//	101                the link is open. Shareai-Replica: its name; Shareai-Replicas: how many there are; Shareai-Link: id
//	401  malformed     not an assertion
//	401  unknown       the node or its key is not known; it may be in a moment
//	401  signature     the signature is not by that key
//	401  audience      the assertion is for another installation
//	401  clock         ts is too far off; the agent sets its clock by the Date of the answer
//	401  replayed      the nonce was used
//	403  revoked       the agent stops
//	403  superseded    a newer process with the same key has linked; the agent stops
//	409  duplicate     this process has a link to this replica: the load balancer shall choose another
//	426  version       the gateway speaks none of the subprotocols that were offered
//	503  draining      the replica is stopping
//	503  busy          more dials than the replica takes in at once
//	503  flapping      the node was lost more than three times within a minute, and rests for 30 s
//
// The second word is in Shareai-Reason, the text of the answer is for people. With 503 comes Retry-After, in seconds.
//
// An agent dials again after a wait between nothing and 250 ms, doubled with each failure up to 30 s; after a link
// that held for 30 s it begins anew. A Retry-After is added. It opens one link, and a second one when
// Shareai-Replicas is two or more. After one to two hours a link makes way: the agent opens another one first, with
// Shareai-Replaces, and then lets the old one finish what runs on it.
//
// # Inside the link
//
// The gateway asks for events first:
//
//	GET /shareai/v1/events
//
// The answer is a stream of JSON objects, a line each: the first within 10 s, the next whenever something changes
// (no more often than every 100 ms) and at least every 5 s. Before the first one the node gets no requests; after
// 15 s of silence the gateway closes the link.
//
//	v            1
//	seq          grows with every line of the process, over all of its links
//	boot         as in the assertion
//	advertised   what the node serves: agent_version, engines, models; not there: as before
//	capacity     how many requests it takes at once; 0: none, for the moment
//	inflight     how many it has, from all replicas
//	queued       how many wait there
//	idle_state   why capacity is what it is: serving, waiting, busy
//	tok_s        tokens per second, as measured
//	draining     the node takes no new requests
//	leaving      this link takes none; it is the last line. The gateway ends the stream, which says that it has heard,
//	             and then the agent sends its GOAWAY
//	rekey        {id, public, proof}: the node asks for a further key; proof is the signature of the new key over
//	             "shareai-rekey-v1\n", the node's id, "\n" and the public key
//
// A request for a model is sent to
//
//	ANY /shareai/v1/engine/PATH                (/shareai/v1/engine/v1/chat/completions)
//
// with the body that the engine gets, and of the headers only Content-Type, Accept, Traceparent, Shareai-Request-Id and
// Shareai-Deadline-Ms: the end user's key and cookies stay at the gateway. Of the answer only Content-Type, Retry-After,
// Shareai-Busy and Shareai-Stage (queued, started) get through, and no trailers. 429 with Shareai-Busy says that nothing
// was begun and another node may be asked; every other answer is the engine's, or the agent's in its place. An answer
// that breaks off ends with a reset of its stream, never with a clean end.
//
// What the gateway has to say it posts:
//
//	POST /shareai/v1/control
//	{"op":"open"}                              the link is in use from now on: one whose place it takes may leave
//	{"op":"drain"}                             the replica is stopping: open another link, then leave this one
//	{"op":"replicas"}                          there are more replicas now, or fewer
//	{"op":"rekey", "id":ID, "key":KEY}         the key that was asked for is good; or "error":TEXT
//
// Each of them has "replicas":N, how many there are now. An agent that does not know an op answers 404.
//
// # Versions
//
// What old ends can not read has another subprotocol; the gateway speaks the present one and the one before. Inside
// one, fields are added and never given another meaning.
//
// # Keys
//
// The gateway keeps public keys only. A node replaces its key over a link that the old one has opened: it asks with
// rekey, stores the new key, and dials with it; the old one is good until then (HubOptions.Linked is told). When a key
// is gone, Check closes the links that it opened.
//
// Two processes with the same key (a copied disk) are told apart by boot. The one that was seen later wins, wherever
// it is linked; the other one's links are closed, and when it dials again it is refused for good and somebody is
// told (HubOptions.Refused): an agent that was merely restarted does not dial again with the old boot.
//
// # Several replicas
//
// Each replica writes the links that it holds into the cluster's Directory, with a lease of 15 s. A request goes over
// a link of its own replica if there is one, and otherwise to one that the directory names:
//
//	ANY /node/v1/peer/NODE/PATH                on PeerURL
//	Shareai-Peer: SECONDS.NONCE.MAC
//
// MAC is HMAC-SHA-256, by a secret of the installation, over "shareai-peer-v1\n" and method, escaped path, seconds and
// nonce with line feeds between them. That replica uses its own links only: one hop at most. It answers 421 when it has
// none. The directory is a hint; a wrong one costs a question. HTTP/1.1 is used between replicas: every request has a
// connection of its own, so none holds up another, and it works over the port that is there.
//
// # What is promised
//
// A request is dispatched once at most: over another link, or to another replica, it is sent only if the first one has
// taken nothing. Whether to try another deployment afterwards is decided elsewhere. A stream that was cut is an error,
// never a clean end. Ending the context of a request resets its stream, and with it ends the context at the agent. A
// peer that dies in silence is noticed within 10 s on both ends (ping after 4 s, 4 s for the answer). When one of two
// replicas dies the node stays reachable; the streams of the dead one are lost.
//
// A revoked node is cut off when Check is called, and at the latest 5 s after Keys have forgotten it.
package tunnel
