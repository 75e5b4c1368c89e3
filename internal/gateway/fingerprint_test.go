package gateway

import (
	"strings"
	"testing"

	"shareai/internal/openai"
)

func TestAFingerprintIsOfThePromptAlone(t *testing.T) {
	of := func(body string) uint64 {
		t.Helper()
		r, err := openai.ParseRequest([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		return promptFingerprint(r)
	}
	const messages = `[{"role":"user","content":"hi"}]`
	chat := of(`{"model":"a","messages":` + messages + `}`)
	if want := uint64(0x9775280fa0e610d9); chat != want { // stays the same over releases: records of both are compared
		t.Errorf("%#x, want %#x", chat, want)
	}
	if again := of(`{"stream":true,"temperature":1,"messages": ` + messages + `,"model":"b"}`); again != chat {
		t.Errorf("%x and %x for the same prompt", chat, again)
	}
	seen := map[uint64]string{chat: messages}
	for _, body := range []string{
		`{"model":"a","messages":[{"role":"user","content":"ho"}]}`,
		`{"model":"a","input":"hi"}`, `{"model":"a","prompt":"ho"}`,
	} {
		if f := of(body); f == 0 || seen[f] != "" {
			t.Errorf("%s: %x is that of %q", body, f, seen[f])
		} else {
			seen[f] = body
		}
	}
	if f := of(`{"model":"a"}`); f != 0 {
		t.Errorf("%x without a prompt", f)
	}
}

func BenchmarkFingerprint(b *testing.B) {
	r, err := openai.ParseRequest([]byte(`{"model":"a","messages":[{"role":"user","content":"` + strings.Repeat("x", 10_000) + `"}]}`))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		promptFingerprint(r)
	}
}
