package account

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
)

// Secret is a credential that can not be printed. Every way that Go has of turning a value into
// text (fmt, log/slog, encoding/json, encoding.TextMarshaler) yields a placeholder; only Reveal
// gives the value, and only where it is put on the wire or sealed.
//
// The value is behind a pointer because fmt can not call methods on what stands in an unexported
// field: it would walk into the struct and print a string that it found there.
type Secret struct {
	_     [0]func() // no ==: it would compare addresses; see Equal
	value *string
}

const placeholder = "[secret]"

// NewSecret wraps a credential.
func NewSecret(value string) Secret {
	if value == "" {
		return Secret{}
	}
	return Secret{value: &value}
}

// Reveal returns the credential itself.
func (s Secret) Reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

// Empty says whether there is no credential.
func (s Secret) Empty() bool { return s.value == nil }

// Equal says whether both are the same credential.
func (s Secret) Equal(o Secret) bool {
	return subtle.ConstantTimeCompare([]byte(s.Reveal()), []byte(o.Reveal())) == 1
}

// Hash is the SHA-256 of the credential.
func (s Secret) Hash() KeyHash { return HashKey(s.Reveal()) }

// String implements fmt.Stringer.
func (Secret) String() string { return placeholder }

// Format implements fmt.Formatter: no verb reveals the value.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, placeholder) }

// MarshalText implements encoding.TextMarshaler, and with it JSON and YAML.
func (Secret) MarshalText() ([]byte, error) { return []byte(placeholder), nil }

// LogValue implements slog.LogValuer.
func (Secret) LogValue() slog.Value { return slog.StringValue(placeholder) }

// KeyHash is the SHA-256 of an API key. A generated key has 256 random bits, so that a plain hash
// can not be turned back; what a configuration file declares must be at least MinKeyLength long.
type KeyHash [sha256.Size]byte

// HashKey hashes an API key as a client sends it.
func HashKey(key string) KeyHash { return sha256.Sum256([]byte(key)) }
