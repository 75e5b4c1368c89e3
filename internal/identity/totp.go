package identity

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // RFC 6238 with SHA-1 is what authenticator apps have
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"net/url"
	"strings"
	"time"

	"shareai/internal/account"
)

// The shape of codes (RFC 6238), which every authenticator knows.
const (
	totpPeriod = 30 // seconds
	totpDigits = 6
	totpSkew   = 1 // steps to either side, for clocks that differ
	totpSecret = 20
)

// newTOTP makes the secret of an authenticator.
func newTOTP() account.Secret {
	var b [totpSecret]byte
	_, _ = rand.Read(b[:]) // never fails
	return account.NewSecret(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:]))
}

// totpURL is what an authenticator reads from a QR code.
func totpURL(secret account.Secret, email string) string {
	values := url.Values{"secret": {secret.Reveal()}, "issuer": {"ShareAI"}}
	return "otpauth://totp/" + url.PathEscape("ShareAI:"+email) + "?" + values.Encode()
}

// totpCode is the code of a time step.
func totpCode(secret account.Secret, step int64) (string, error) {
	key, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(secret.Reveal())
	if err != nil {
		return "", fmt.Errorf("the secret of an authenticator is damaged")
	}
	mac := hmac.New(sha1.New, key)
	_ = binary.Write(mac, binary.BigEndian, step) // a hash takes everything
	sum := mac.Sum(nil)
	at := sum[len(sum)-1] & 0xf
	number := binary.BigEndian.Uint32(sum[at:]) & 0x7fffffff
	return fmt.Sprintf("%0*d", totpDigits, number%1_000_000), nil
}

// totpStep finds the time step of a code around now, later than the last one that was used; false: there is none.
func totpStep(secret account.Secret, code string, now time.Time, last int64) (int64, bool) {
	middle := now.Unix() / totpPeriod
	found, ok := int64(0), false
	for step := middle - totpSkew; step <= middle+totpSkew; step++ {
		want, err := totpCode(secret, step)
		if err == nil && subtle.ConstantTimeCompare([]byte(want), []byte(code)) == 1 && step > last && !ok {
			found, ok = step, true
		}
	}
	return found, ok
}

// recoveryCodes is how many there are.
const recoveryCodes = 10

// newRecovery makes the codes for when an authenticator is lost, and their hashes. Each has 100 random bits.
func newRecovery() ([]account.Secret, []account.KeyHash) {
	codes := make([]account.Secret, recoveryCodes)
	hashes := make([]account.KeyHash, recoveryCodes)
	for i := range codes {
		text := strings.ToLower(rand.Text()[:20])
		codes[i] = account.NewSecret(text[:5] + "-" + text[5:10] + "-" + text[10:15] + "-" + text[15:])
		hashes[i] = account.HashKey(text)
	}
	return codes, hashes
}

// recoveryHash is the hash of a code as somebody types it.
func recoveryHash(typed string) account.KeyHash {
	return account.HashKey(strings.ToLower(strings.NewReplacer("-", "", " ", "").Replace(typed)))
}
