package tunnel

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"time"
)

// Identity is who a node is, and how it proves that.
type Identity struct {
	Node string // id of the node: node_...
	Key  string // id of the key: nkey_...
	// Audience is the installation that the node enrolled with. An assertion made for one is worth nothing at another.
	Audience string
	Private  ed25519.PrivateKey
}

// Assertion is what a node signs for every dial. TLS may end at a load balancer, so who dials can not rest on a client
// certificate.
type Assertion struct {
	Version  int    `json:"v"`
	Node     string `json:"node"`
	Key      string `json:"key"`
	Audience string `json:"aud"`
	Time     int64  `json:"ts"`    // seconds since the epoch
	Nonce    string `json:"nonce"` // used once
	Boot     string `json:"boot"`  // of the agent's process: tells a network that failed from a second agent with the same key
}

const (
	assertionScheme  = "Node "
	assertionContext = "shareai-dial-v1\n" // what is signed here can not be taken for anything else that the key signs
	rekeyContext     = "shareai-rekey-v1\n"
	maxAssertion     = 2048 // bytes of the header
	maxName          = 128  // bytes of a name inside
	clockSkew        = 60 * time.Second
)

var (
	errMalformed = errors.New("not an assertion")
	errSignature = errors.New("the signature does not match")
	errAudience  = errors.New("the assertion is for another installation")
	errClock     = errors.New("the assertion is too old, or from the future")
)

// authorization returns the Authorization header of one dial.
func (id *Identity) authorization(boot string, now time.Time) string {
	payload, err := json.Marshal(Assertion{
		Version: 1, Node: id.Node, Key: id.Key, Audience: id.Audience, Time: now.Unix(), Nonce: rand.Text(), Boot: boot,
	})
	if err != nil {
		panic(err) // strings and numbers
	}
	signature := ed25519.Sign(id.Private, append([]byte(assertionContext), payload...))
	return assertionScheme + base64.RawURLEncoding.EncodeToString(payload) + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// signed is an assertion as it arrived.
type signed struct {
	Assertion
	payload, signature []byte
}

// parseAssertion reads an Authorization header. Nothing in it has been verified.
func parseAssertion(header string) (signed, error) {
	text, ok := strings.CutPrefix(header, assertionScheme)
	if !ok || len(text) > maxAssertion || strings.ContainsAny(text, "\r\n") { // which the decoder would pass over
		return signed{}, errMalformed
	}
	before, after, ok := strings.Cut(text, ".")
	if !ok {
		return signed{}, errMalformed
	}
	// Strict: two spellings of the same bytes would be two headers with one signature.
	encoding := base64.RawURLEncoding.Strict()
	payload, err := encoding.DecodeString(before)
	if err != nil {
		return signed{}, errMalformed
	}
	signature, err := encoding.DecodeString(after)
	if err != nil || len(signature) != ed25519.SignatureSize {
		return signed{}, errMalformed
	}
	s := signed{payload: payload, signature: signature}
	if json.Unmarshal(payload, &s.Assertion) != nil || s.Version != 1 {
		return signed{}, errMalformed
	}
	for _, name := range []string{s.Node, s.Key, s.Nonce, s.Boot} {
		if name == "" || len(name) > maxName {
			return signed{}, errMalformed
		}
	}
	return s, nil
}

// verify says whether the assertion was signed by the key, for this audience and now.
func (s *signed) verify(key ed25519.PublicKey, audience string, now time.Time) error {
	if len(key) != ed25519.PublicKeySize || !ed25519.Verify(key, append([]byte(assertionContext), s.payload...), s.signature) {
		return errSignature
	}
	if s.Audience != audience {
		return errAudience
	}
	if off := now.Sub(time.Unix(s.Time, 0)); off > clockSkew || off < -clockSkew {
		return errClock
	}
	return nil
}

// rekeyProof is signed by a new key, so that a node can not claim a key that is not its own.
func rekeyProof(node string, key ed25519.PublicKey) []byte {
	return append([]byte(rekeyContext+node+"\n"), key...)
}
