package fault

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

func TestFromKeepsAnErrorThatMayBeShown(t *testing.T) {
	want := New(NotFound, "model_not_found", "There is no such model.").About("model")
	got := From(fmt.Errorf("while routing: %w", want))
	if got != want {
		t.Fatalf("From = %+v, want the wrapped error itself", got)
	}
	if got.HTTPStatus() != http.StatusNotFound {
		t.Errorf("status %d", got.HTTPStatus())
	}
}

func TestFromHidesAStranger(t *testing.T) {
	got := From(errors.New("dial tcp 10.1.2.3:5432: password=hunter22"))
	if got.Kind != Internal || strings.Contains(got.Message, "10.1.2.3") {
		t.Fatalf("a stranger's text reached the user: %+v", got)
	}
	if strings.Contains(got.Error(), "hunter22") {
		t.Errorf("the log text keeps a password: %s", got.Error())
	}
}

func TestFromReadsContextErrors(t *testing.T) {
	if k := From(fmt.Errorf("x: %w", context.Canceled)).Kind; k != Canceled {
		t.Errorf("canceled context: kind %d", k)
	}
	if k := From(context.DeadlineExceeded).Kind; k != Timeout {
		t.Errorf("deadline: kind %d", k)
	}
	if From(nil) != nil {
		t.Error("From(nil) is not nil")
	}
}

func TestEveryKindHasItsOwnStatus(t *testing.T) {
	seen := map[int]Kind{}
	for k := Internal; k <= Timeout; k++ {
		s := k.Status()
		if s < 400 || s > 599 {
			t.Errorf("kind %d has status %d", k, s)
		}
		if before, taken := seen[s]; taken {
			t.Errorf("kinds %d and %d share status %d", before, k, s)
		}
		seen[s] = k
	}
	if Kind(200).Status() != http.StatusInternalServerError {
		t.Error("an unknown kind is not internal")
	}
}

func TestRedact(t *testing.T) {
	for _, secret := range []string{
		"Authorization: Bearer abcdef123456", "sk-live-abcdef123456", `{"api_key":"abcdef123456"}`,
		"postgres://user:abcdef123456@db/x", "password=abcdef123456", "token: abcdef123456",
		"Incorrect API key provided: sk-abcd**********1234",
		"AIzaSyabcdef123456", "https://abcdef123456@db/x",
	} {
		if got := Redact("before " + secret + " after"); strings.Contains(got, "abcd") {
			t.Errorf("Redact(%q) = %q", secret, got)
		}
	}
	for _, plain := range []string{
		"model llama-3.3-70b is not a token bucket, max_tokens must be 5",
		"key_a2b3c4d5e6f7g2h3j4k5 was revoked",
	} {
		if Redact(plain) != plain {
			t.Errorf("harmless text changed: %q", Redact(plain))
		}
	}
}
