package account

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"path"
	"regexp"
	"strings"
)

// MinKeyLength is the least length, in bytes, of an API key that a person chose: a shorter one
// could be guessed or found from its hash.
const MinKeyLength = 16

const keyPrefix = "sk-shareai-"

// GenerateKey makes an API key with 256 random bits.
func GenerateKey() Secret {
	var b [32]byte
	_, _ = rand.Read(b[:]) // crypto/rand.Read never fails: it ends the process instead
	return NewSecret(keyPrefix + base64.RawURLEncoding.EncodeToString(b[:]))
}

// GenerateKeyID makes the public identity of a key.
func GenerateKeyID() string { return GenerateID("key_") }

// GenerateID makes an id that is nobody else's: the prefix and 20 random characters, 100 bits.
func GenerateID(prefix string) string { return prefix + strings.ToLower(rand.Text()[:20]) }

// Hint is enough of a key for a person to recognise it, and far too little to use it.
func Hint(key Secret) string {
	v := key.Reveal()
	if len(v) < MinKeyLength {
		return "…"
	}
	lead := min(3, len(v))
	if strings.HasPrefix(v, keyPrefix) {
		lead = len(keyPrefix) + 3
	}
	return v[:lead] + "…" + v[len(v)-3:]
}

var nameShape = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$`)

// CheckName says whether a name can identify an organization, project, key, provider or policy.
func CheckName(name string) error {
	if !nameShape.MatchString(name) {
		return errors.New("a name has 1 to 63 characters of a-z, 0-9, '.', '_' and '-', and starts and ends with a letter or digit")
	}
	return nil
}

// CheckPattern says whether a model pattern of a key is well-formed.
func CheckPattern(pattern string) error {
	if pattern == "" {
		return errors.New("a model pattern is empty; use \"*\" for every model")
	}
	if _, err := path.Match(pattern, ""); err != nil {
		return errors.New("a model pattern uses '*' and '?' as wildcards; this one has an unfinished bracket")
	}
	return nil
}
