// Package enrol is how a machine becomes a node: what is sent, and what is signed. Both ends use it, the agent and the
// gateway. How a node that is linked replaces its key is a part of the link's protocol.
//
// # Enrolment
//
// Somebody who may administer nodes makes a token. It holds for 15 minutes at most and for one machine, unless it
// was made for several. The agent makes an Ed25519 key and keeps it, and then sends
//
//	POST /node/v1/enroll        Content-Type: application/json, at most 8 KiB
//	{"token": "nt-shareai-…", "name": "laptop", "public_key": "…", "proof": "…",
//	 "agent_version": "1.0", "hostname": "…", "os": "linux", "arch": "amd64"}
//
// public_key and proof are in standard base64 with padding. proof is the Ed25519 signature, made with the private
// key, of these bytes, each "\n" one line feed and none at the end:
//
//	shareai-enrol-v1\n
//	TOKEN\n
//	PUBLIC_KEY in base64, as it is sent\n
//	NAME as it is sent, which may be empty
//
// It shows that the sender has the private key of what becomes known as the node's, and that nobody on the way
// changed the key or the name. A member that is not known is an error: an agent sends what is written here.
//
// The answer is 201 with
//
//	{"node_id": "node_…", "key_id": "nkey_…", "name": "laptop", "organization": "acme",
//	 "audience": "inst_…", "gateway_urls": []}
//
// name is the node's name: what was asked for, in small letters, with a number behind it where another node has the
// name already, or the name that the token gives. audience names the installation: what the node signs from now on is
// for this one and no other. gateway_urls are where the gateway wants to be dialled, best
// first; when there are none, where this request went.
//
// An agent that did not get its answer sends the same again, with the same key: as long as the token has not expired
// it gets the same answer, although the token is used. So it keeps the key before it asks.
//
// Errors have the shape of all errors of the gateway. Their codes:
//
//	401 enrolment_token_unknown   no such token, or one of long ago. Ask for another.
//	401 enrolment_token_expired   its time is over. Ask for another.
//	401 enrolment_token_used      another machine was faster. Ask for another, and ask who used it.
//	401 enrolment_token_revoked   somebody withdrew it.
//	400 invalid_proof             the signature is not that of the key over these bytes.
//	409 node_key_in_use           the key is that of another node: a copied disk. Make a new key.
//	403 node_key_refused          the key is that of a node which was revoked. Make a new key.
//	409 node_exists               the name that the token gives was taken meanwhile. The token is not used up.
//	429, 503                      with Retry-After.
package enrol
