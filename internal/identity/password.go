package identity

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"runtime"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"

	"shareai/internal/account"
	"shareai/internal/fault"
)

// argon is the parameters of argon2id.
type argon struct {
	memory  uint32 // KiB
	passes  uint32
	threads uint8
}

// current are the parameters of new hashes: 19 MiB in two passes.
func current() argon { return argon{memory: 19 << 10, passes: 2, threads: 1} }

// The sizes in bytes, and the bounds within which a stored hash is believed.
const (
	saltSize   = 16
	digestSize = 32
	maxMemory  = 1 << 20 // KiB
	maxPasses  = 20
)

// hashWait is how long a sign-in waits for its turn.
const hashWait = 5 * time.Second

// hasher hashes passwords, few at a time: each takes 19 MiB and some tens of milliseconds of a core, which is meant to
// be expensive for whoever guesses, and must not be for the requests that pass through the gateway meanwhile.
type hasher struct {
	turns chan struct{}
	dummy string // the hash of no password
}

func newHasher() *hasher {
	h := &hasher{turns: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))}
	h.dummy = encode(rand.Text())
	return h
}

// hash makes the PHC string of a password.
func (h *hasher) hash(ctx context.Context, password account.Secret) (account.Secret, error) {
	if err := h.turn(ctx); err != nil {
		return account.Secret{}, err
	}
	defer func() { <-h.turns }()
	return account.NewSecret(encode(password.Reveal())), nil
}

// verify says whether a password is the one that was hashed. Where nothing was, it takes the same time to say no.
func (h *hasher) verify(ctx context.Context, hashed, password account.Secret) (bool, error) {
	if err := h.turn(ctx); err != nil {
		return false, err
	}
	defer func() { <-h.turns }()
	stored := hashed.Reveal()
	if stored == "" {
		stored = h.dummy
	}
	parameters, salt, digest, err := decode(stored)
	if err != nil {
		return false, fault.From(err)
	}
	same := subtle.ConstantTimeCompare(parameters.digest(password.Reveal(), salt), digest) == 1
	return same && !hashed.Empty(), nil
}

// turn waits until it is this one's turn.
func (h *hasher) turn(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, hashWait)
	defer cancel()
	select {
	case h.turns <- struct{}{}:
		return nil
	case <-ctx.Done():
		e := fault.New(fault.Unavailable, "sign_in_busy", "Too many people sign in at the moment. Try again shortly.")
		e.RetryAfter = hashWait
		return e
	}
}

func (a argon) digest(password string, salt []byte) []byte {
	return argon2.IDKey([]byte(password), salt, a.passes, a.memory, a.threads, digestSize)
}

// encode is $argon2id$v=19$m=19456,t=2,p=1$SALT$DIGEST.
func encode(password string) string {
	a := current()
	salt := make([]byte, saltSize)
	_, _ = rand.Read(salt) // never fails
	text := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, a.memory, a.passes, a.threads, text(salt), text(a.digest(password, salt)))
}

// decode reads a PHC string. Its error does not repeat it.
func decode(phc string) (a argon, salt, digest []byte, err error) {
	bad := fmt.Errorf("a stored password hash is damaged")
	parts := strings.Split(phc, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return a, nil, nil, bad
	}
	if n, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &a.memory, &a.passes, &a.threads); err != nil || n != 3 {
		return a, nil, nil, bad
	}
	if a.memory == 0 || a.memory > maxMemory || a.passes == 0 || a.passes > maxPasses || a.threads == 0 {
		return a, nil, nil, bad
	}
	salt, err = base64.RawStdEncoding.DecodeString(parts[4])
	if err != nil || len(salt) < saltSize {
		return a, nil, nil, bad
	}
	digest, err = base64.RawStdEncoding.DecodeString(parts[5])
	if err != nil || len(digest) != digestSize {
		return a, nil, nil, bad
	}
	return a, salt, digest, nil
}

// outdated says whether a hash was made with other parameters than new ones are.
func outdated(hashed account.Secret) bool {
	a, _, _, err := decode(hashed.Reveal())
	return err == nil && a != current()
}

// The bounds of a password: characters, and bytes, so that nobody has us hash a book.
const (
	minPassword = 10
	maxPassword = 1000
)

// checkPassword refuses what is guessed first.
func checkPassword(password account.Secret, email string) error {
	text := password.Reveal()
	refuse := func(why string) error {
		return fault.New(fault.Invalid, "weak_password", why).About("password")
	}
	switch {
	case utf8.RuneCountInString(text) < minPassword:
		return refuse(fmt.Sprintf("The password is too short: it needs %d characters. Several words in a row are easy to remember.", minPassword))
	case len(text) > maxPassword:
		return refuse(fmt.Sprintf("The password is longer than %d bytes.", maxPassword))
	case strings.EqualFold(text, email):
		return refuse("The password is the e-mail address. Choose another one.")
	case len(distinct(text)) < 5:
		return refuse("The password repeats few characters. Choose another one.")
	}
	return nil
}

func distinct(text string) map[rune]bool {
	seen := map[rune]bool{}
	for _, r := range text {
		seen[r] = true
	}
	return seen
}
