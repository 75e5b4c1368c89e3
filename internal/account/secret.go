package account

import (
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
)

// Secret is a credential that can not be printed. Every way that Go has of turning a value into
// text (fmt, log/slog, encoding/json, encoding.TextMarshaler) yields a placeholder; only Reveal
// gives the value, and only where it is put on the wire or sealed.
type Secret struct{ value string }

const placeholder = "[secret]"

// NewSecret wraps a credential.
func NewSecret(value string) Secret { return Secret{value: value} }

// Reveal returns the credential itself.
func (s Secret) Reveal() string { return s.value }

// Empty says whether there is no credential.
func (s Secret) Empty() bool { return s.value == "" }

// Hash is the SHA-256 of the credential.
func (s Secret) Hash() KeyHash { return HashKey(s.value) }

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
