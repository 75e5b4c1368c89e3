package enrol_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"shareai/internal/enrol"
)

// key is one that everybody can make again.
func key(seed byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
}

func request() enrol.Request {
	r := enrol.Request{Token: "nt-shareai-" + strings.Repeat("a", 43), Name: "laptop", AgentVersion: "1.0"}
	r.Sign(key(1))
	return r
}

// doc.go is the specification: who writes an agent of their own signs exactly this.
func TestTheBytesThatAreSigned(t *testing.T) {
	t.Parallel()
	private := key(1)
	public := base64.StdEncoding.EncodeToString(private.Public().(ed25519.PublicKey))
	r := request()
	want := ed25519.Sign(private, []byte("shareai-enrol-v1\n"+r.Token+"\n"+public+"\nlaptop"))
	if !bytes.Equal(r.Proof, want) {
		t.Error("the proof of an enrolment is another one than documented")
	}
	wire, err := json.Marshal(r)
	if err != nil || !bytes.Contains(wire, []byte(`"public_key":"`+public+`"`)) {
		t.Errorf("%v: %s", err, wire)
	}
}

func TestAProofHoldsForWhatWasSignedOnly(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		r := request()
		r.Name = rapid.String().Draw(rt, "name")
		r.Sign(key(1))
		if err := r.Verify(); err != nil {
			rt.Fatalf("as it was signed: %v", err)
		}
		flip := func(b []byte) []byte {
			b = slices.Clone(b)
			b[rapid.IntRange(0, len(b)-1).Draw(rt, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(rt, "bit")
			return b
		}
		switch rapid.SampledFrom([]string{"token", "name", "key", "proof", "short key", "short proof", "another's key"}).Draw(rt, "what") {
		case "token":
			r.Token = string(flip([]byte(r.Token)))
		case "name":
			r.Name += "x"
		case "key":
			r.PublicKey = flip(r.PublicKey)
		case "proof":
			r.Proof = flip(r.Proof)
		case "short key":
			r.PublicKey = r.PublicKey[:rapid.IntRange(0, 31).Draw(rt, "length")]
		case "short proof":
			r.Proof = r.Proof[:rapid.IntRange(0, 63).Draw(rt, "length")]
		case "another's key":
			r.PublicKey = key(2).Public().(ed25519.PublicKey)
		}
		if err := r.Verify(); !errors.Is(err, enrol.ErrProof) {
			rt.Fatalf("changed: %v", err)
		}
	})
}

func TestTokens(t *testing.T) {
	t.Parallel()
	a, b := enrol.GenerateToken(), enrol.GenerateToken()
	if a.Equal(b) || !enrol.IsToken(a.Reveal()) {
		t.Errorf("generated: %s and %s", a.Reveal(), b.Reveal())
	}
	for _, not := range []string{"", "nt-shareai-", a.Reveal() + "a", a.Reveal()[1:], a.Reveal() + "\n", "sk-shareai-" + a.Reveal()[11:]} {
		if enrol.IsToken(not) {
			t.Errorf("%q is none", not)
		}
	}
}

func TestARequestIsPrintedWithoutItsToken(t *testing.T) {
	t.Parallel()
	r := request()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if text := fmt.Sprintf(verb+verb, r, &r); strings.Contains(text, "nt-shareai") {
			t.Errorf("%s: %s", verb, text)
		}
	}
}
