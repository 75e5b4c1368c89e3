package enrol

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"regexp"
	"strings"

	"shareai/internal/account"
)

// Path is where a gateway takes enrolments.
const Path = "/node/v1/enroll"

// MaxRequest is how long the body of an enrolment may be, in bytes.
const MaxRequest = 8 << 10

// Request asks for a machine to become a node.
type Request struct {
	Token        string `json:"token"`
	Name         string `json:"name,omitempty"` // that the node would like to have
	PublicKey    []byte `json:"public_key"`
	Proof        []byte `json:"proof"`
	AgentVersion string `json:"agent_version,omitempty"`
	Hostname     string `json:"hostname,omitempty"`
	OS           string `json:"os,omitempty"`   // as Go calls it
	Arch         string `json:"arch,omitempty"` // as Go calls it
}

// String hides the token from whoever prints a request.
func (Request) String() string { return "[enrolment]" }

// GoString does the same for %#v.
func (r Request) GoString() string { return r.String() }

// Answer tells a machine which node it is.
type Answer struct {
	NodeID       string   `json:"node_id"`
	KeyID        string   `json:"key_id"`
	Name         string   `json:"name"`
	Organization string   `json:"organization"`
	Audience     string   `json:"audience"` // for which the node's assertions are
	GatewayURLs  []string `json:"gateway_urls"`
}

// ErrProof is the error of a proof that is not one.
var ErrProof = errors.New("the proof is not the key's signature of what was sent")

// purpose is the first line of what is signed: a signature for one purpose is worth nothing for another.
const purpose = "shareai-enrol-v1"

// Sign puts the public key into the request and proves that its sender has the private one. Token and Name are set
// before and stay as they are.
func (r *Request) Sign(key ed25519.PrivateKey) {
	r.PublicKey, _ = key.Public().(ed25519.PublicKey)
	r.Proof = ed25519.Sign(key, r.signed())
}

// Verify says whether the proof is one. The error is ErrProof.
func (r *Request) Verify() error {
	if len(r.PublicKey) != ed25519.PublicKeySize || !ed25519.Verify(r.PublicKey, r.signed(), r.Proof) {
		return ErrProof
	}
	return nil
}

func (r *Request) signed() []byte {
	return []byte(strings.Join([]string{purpose, r.Token, base64.StdEncoding.EncodeToString(r.PublicKey), r.Name}, "\n"))
}

const tokenPrefix = "nt-shareai-"

// tokenShape is what every token looks like: 32 bytes in base64.
var tokenShape = regexp.MustCompile(`^` + tokenPrefix + `[A-Za-z0-9_-]{43}$`)

// GenerateToken makes a token with 256 random bits.
func GenerateToken() account.Secret {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails: it ends the process instead
	return account.NewSecret(tokenPrefix + base64.RawURLEncoding.EncodeToString(b[:]))
}

// IsToken says whether a text could be a token.
func IsToken(text string) bool { return tokenShape.MatchString(text) }
