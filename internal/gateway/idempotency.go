package gateway

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"shareai/internal/cluster"
	"shareai/internal/fault"
)

const (
	idempotencyHeader = "Idempotency-Key"
	// replayedHeader marks an answer that was made for an earlier request; Stripe's word for it.
	replayedHeader = "Idempotent-Replayed"
	// maxIdempotencyKey is the longest key, in bytes.
	maxIdempotencyKey = 255
	// maxClaims is how often a claim is tried when those who had the name died one after another.
	maxClaims = 3
	// ownHeaders is what headers begin with that change how the gateway answers.
	ownHeaders = "X-Shareai-"
)

var (
	errBadKey = fault.New(fault.Invalid, "invalid_idempotency_key",
		"Idempotency-Key is sent once, with 1 to 255 visible ASCII characters and no spaces. A UUID does well.").About(idempotencyHeader)
	errKeyReused = fault.New(fault.Conflict, "idempotency_key_reused",
		"This Idempotency-Key was used before, with another request. Repeat a request exactly as it was, and use a new key for a new request.").About(idempotencyHeader)
	errRepeatLost = &fault.Error{
		Kind: fault.Unavailable, Code: "idempotent_answer_lost", RetryAfter: retrySoon,
		Message: "The gateway that was answering the first request with this Idempotency-Key is gone. Send the request again, with the same key.",
	}
	errRepeatBroken = fault.New(fault.Upstream, "stream_interrupted",
		"The answer to the first request with this Idempotency-Key broke off. Send the request again, with the same key.")
	errStopping = &fault.Error{
		Kind: fault.Unavailable, Code: "stopping", RetryAfter: time.Second,
		Message: "This gateway is stopping. Send the request again; another one may answer it.",
	}
	errTooLong = fault.New(fault.Upstream, "answer_too_long",
		"The answer is longer than can be held for repetition. Send the request without Idempotency-Key.")
)

// once lets the work of requests with the same Idempotency-Key be done once. For the first of them, and
// for every request without a key, it returns the context in which to do the work. For the others it
// passes the first one's answer on, as far as it is there and then as it comes: played says that nothing
// is left to do.
func (x *exchange) once(r *http.Request, body []byte) (ctx context.Context, played bool, err error) {
	keys := r.Header[idempotencyHeader]
	if len(keys) == 0 {
		return r.Context(), false, nil
	}
	if !validKey(keys) {
		return nil, false, errBadKey
	}
	name, work := x.nameOf(keys[0]), fingerprint(body, r.Header)
	for range maxClaims {
		claim, err := x.gateway.Answers.Claim(r.Context(), name, work)
		switch {
		case errors.Is(err, cluster.ErrOtherWork):
			x.out.header["X-Should-Retry"] = []string{"false"} // OpenAI's libraries would repeat a 409
			return nil, false, errKeyReused
		case err != nil:
			return nil, false, err
		case claim.Tape != nil:
			return x.share(r, claim.Tape), false, nil
		}
		err = x.replay(r.Context(), claim.Player)
		if !errors.Is(err, cluster.ErrLost) || x.out.began {
			return nil, true, err
		}
	}
	return nil, false, errRepeatLost
}

func validKey(keys []string) bool {
	if len(keys) != 1 || keys[0] == "" || len(keys[0]) > maxIdempotencyKey {
		return false
	}
	for _, c := range []byte(keys[0]) {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return true
}

// nameOf is the name under which an answer is shared: nobody else's, whatever key he makes up, and of one
// length.
func (x *exchange) nameOf(key string) string {
	sum := sha256.Sum256([]byte(x.record.KeyID + "\x00" + string(x.record.Endpoint) + "\x00" + key))
	return hex.EncodeToString(sum[:])
}

// fingerprint says what a request asks for: its body, byte for byte, and every header of the gateway's own,
// because they choose who answers.
func fingerprint(body []byte, header http.Header) cluster.Fingerprint {
	hash := sha256.New()
	part := func(p []byte) {
		_, _ = hash.Write(binary.BigEndian.AppendUint64(nil, uint64(len(p))))
		_, _ = hash.Write(p)
	}
	part(body)
	var own []string
	for name, values := range header {
		if strings.HasPrefix(name, ownHeaders) {
			own = append(own, name+": "+strings.Join(values, "\n"))
		}
	}
	slices.Sort(own)
	for _, line := range own {
		part([]byte(line))
	}
	return cluster.Fingerprint(hash.Sum(nil))
}

// replay answers with what was, or is being, recorded for the first request with the same key. It is
// counted as a request that cost nothing.
func (x *exchange) replay(ctx context.Context, from cluster.Player) error {
	err := (&playback{out: x.out, repeat: x}).run(ctx, from)
	if errors.Is(err, cluster.ErrLost) {
		return errRepeatLost.Because(err)
	}
	return err
}
