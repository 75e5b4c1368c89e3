package identity

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"shareai/internal/account"
	"shareai/internal/fault"
)

func TestPasswordHashes(t *testing.T) {
	t.Parallel()
	h := newHasher()
	password := account.NewSecret("correct horse battery")
	one, err := h.hash(t.Context(), password)
	if err != nil {
		t.Fatal(err)
	}
	other, _ := h.hash(t.Context(), password)
	if one.Equal(other) || !strings.HasPrefix(one.Reveal(), "$argon2id$v=19$m=19456,t=2,p=1$") || strings.Contains(one.Reveal(), "horse") {
		t.Errorf("%s, %s", one.Reveal(), other.Reveal())
	}
	for _, c := range []struct {
		hashed, password account.Secret
		want             bool
	}{
		{one, password, true},
		{other, password, true},
		{one, account.NewSecret("correct horse batterY"), false},
		{one, account.Secret{}, false},
		{account.Secret{}, account.Secret{}, false},
		{account.Secret{}, password, false},
	} {
		if got, err := h.verify(t.Context(), c.hashed, c.password); err != nil || got != c.want {
			t.Errorf("%t, %v, want %t", got, err, c.want)
		}
	}
	if outdated(one) || !outdated(account.NewSecret(strings.Replace(one.Reveal(), "t=2", "t=1", 1))) {
		t.Error("which hashes are made anew is wrong")
	}
	for _, damaged := range []string{"damaged", "$argon2id$v=19$m=19456,t=2,p=1$", strings.Replace(one.Reveal(), "m=19456", "m=99999999", 1), one.Reveal() + "x", strings.Replace(one.Reveal(), "argon2id", "argon2i", 1)} {
		_, err := h.verify(t.Context(), account.NewSecret(damaged), password)
		if err == nil || strings.Contains(fmt.Sprint(err), one.Reveal()[40:]) {
			t.Errorf("%s: %v", damaged, err)
		}
	}
}

// Whoever guesses passwords takes turns; the rest of the gateway keeps its cores and its memory.
func TestHashingIsBounded(t *testing.T) {
	t.Parallel()
	h := newHasher()
	for range cap(h.turns) {
		h.turns <- struct{}{}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	_, err := h.verify(ctx, account.Secret{}, account.NewSecret("x"))
	if f := fault.From(err); f.Kind != fault.Unavailable || f.RetryAfter == 0 {
		t.Errorf("%v", err)
	}
}

func TestWeakPasswords(t *testing.T) {
	t.Parallel()
	for password, ok := range map[string]bool{
		"short": false, "ana@acme.example": false, "ANA@acme.example": false, "aaaaaaaaaaaaaaa": false, "abababababababab": false, "": false,
		strings.Repeat("abcdefgh", 200): false, "four words in a row": true, "пароль-пароль": true,
	} {
		if err := checkPassword(account.NewSecret(password), "ana@acme.example"); (err == nil) != ok {
			t.Errorf("%q: %v", password, err)
		}
	}
}

// The vectors of RFC 6238, appendix B, cut to six digits.
func TestCodes(t *testing.T) {
	t.Parallel()
	secret := account.NewSecret("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ")
	for at, want := range map[int64]string{59: "287082", 1111111109: "081804", 1111111111: "050471", 1234567890: "005924", 2000000000: "279037", 20000000000: "353130"} {
		if got, err := totpCode(secret, at/totpPeriod); err != nil || got != want {
			t.Errorf("%d: %s, %v", at, got, err)
		}
		now := time.Unix(at, 0)
		if step, ok := totpStep(secret, want, now, 0); !ok || step != at/totpPeriod {
			t.Errorf("%d: %d, %t", at, step, ok)
		}
		if _, ok := totpStep(secret, want, now, at/totpPeriod); ok {
			t.Errorf("%d: the code counts twice", at)
		}
		for _, off := range []time.Duration{-30 * time.Second, 30 * time.Second} {
			if _, ok := totpStep(secret, want, now.Add(off), 0); !ok {
				t.Errorf("%d: a clock that is off by %s", at, off)
			}
		}
		if _, ok := totpStep(secret, want, now.Add(90*time.Second), 0); ok {
			t.Errorf("%d: an old code", at)
		}
	}
}

func TestNeighbourhood(t *testing.T) {
	t.Parallel()
	for from, want := range map[string]string{
		"192.0.2.7": "192.0.2.7", "::ffff:192.0.2.7": "192.0.2.7", "2001:db8:1:2:3::4": "2001:db8:1:2::/64", "fe80::1%eth0": "fe80::/64", "": "unknown", "x": "unknown",
	} {
		if got := neighbourhood(from); got != want {
			t.Errorf("%s: %s", from, got)
		}
	}
}

// An address that nobody has is as much work as a wrong password: both wait for their turn.
func TestStrangersCostTheSameWork(t *testing.T) {
	t.Parallel()
	for _, users := range []oneUser{{}, {u: account.UserRecord{User: account.User{ID: "user_1"}, Password: account.NewSecret(encode("right password"))}}} {
		i := New(Options{Users: users})
		for range cap(i.hasher.turns) {
			i.hasher.turns <- struct{}{}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		_, err := i.SignIn(ctx, Credentials{Email: "ana@acme.example", Password: account.NewSecret("wrong")}, Client{})
		cancel()
		if fault.From(err).Code != "sign_in_busy" {
			t.Errorf("%+v: %v", users.u.ID, err)
		}
	}
}

type rows interface{ Users }

// oneUser is one, or nobody.
type oneUser struct {
	rows
	u account.UserRecord
}

func (o oneUser) User(context.Context, account.UserRef) (account.UserRecord, error) {
	if o.u.ID == "" {
		return account.UserRecord{}, account.ErrNoUser
	}
	return o.u, nil
}
