package audit_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"shareai/internal/audit"
)

// log is a chain of n acts.
func log(t *testing.T, n int) ([]audit.Row, audit.Head) {
	t.Helper()
	var head audit.Head
	var rows []audit.Row
	for i := range n {
		row, next, err := head.Append(audit.Act{
			At: time.Unix(int64(i), 123456789), Who: audit.Actor{Kind: audit.User, Name: "ana <\x00\xff>", From: "desk"},
			Name: "key.create", Subject: "key_1", After: json.RawMessage(`{"a": "b"}`),
		}, int64(i))
		if err != nil {
			t.Fatal(err)
		}
		rows, head = append(rows, row), next
	}
	return rows, head
}

func verify(rows []audit.Row, head, expected audit.Head) error {
	chain := audit.Chain{Expected: expected}
	for _, r := range rows {
		if err := chain.Add(r); err != nil {
			return err
		}
	}
	return chain.End(head)
}

func TestAnUntouchedLogIsUnbroken(t *testing.T) {
	t.Parallel()
	for n := range 4 {
		rows, head := log(t, n)
		if err := verify(rows, head, audit.Head{}); err != nil {
			t.Errorf("%d entries: %v", n, err)
		}
	}
}

// Whatever byte of whatever row is another one, the first broken entry is that row or the one that misses it.
func TestEveryChangeShows(t *testing.T) {
	t.Parallel()
	rows, head := log(t, 6)
	rapid.Check(t, func(rt *rapid.T) {
		changed := append([]audit.Row{}, rows...)
		at := rapid.IntRange(0, len(rows)-1).Draw(rt, "at")
		switch r := &changed[at]; rapid.SampledFrom([]string{"body", "hash", "time", "delete", "swap", "again"}).Draw(rt, "how") {
		case "body":
			i := rapid.IntRange(0, len(r.Body)-1).Draw(rt, "byte")
			r.Body = r.Body[:i] + string(r.Body[i]^1) + r.Body[i+1:]
		case "hash":
			r.Hash = strings.Repeat("0", 64)
		case "time":
			r.At++
		case "delete":
			changed = append(changed[:at:at], changed[at+1:]...)
		case "swap": // the contents of two rows
			other := &changed[(at+1)%len(rows)]
			at = min(at, (at+1)%len(rows))
			r.Body, other.Body, r.Hash, other.Hash = other.Body, r.Body, other.Hash, r.Hash
		case "again":
			changed = append(changed, audit.Row{Sequence: 7, At: r.At, Body: r.Body, Hash: r.Hash})
			at = 6
		}
		var broken *audit.Broken
		if err := verify(changed, head, audit.Head{}); !errors.As(err, &broken) || broken.Sequence != int64(at+1) {
			rt.Fatalf("entry %d: %v", at+1, err)
		}
	})
}

// A chain that was computed anew is as sound as the first; only who noted its end can tell.
func TestAChainWrittenAnewIsFoundByWhatWasNoted(t *testing.T) {
	t.Parallel()
	_, noted := log(t, 3)
	var head audit.Head
	var rows []audit.Row
	for range 5 {
		row, next, err := head.Append(audit.Act{Name: "nothing happened"}, 0)
		if err != nil {
			t.Fatal(err)
		}
		rows, head = append(rows, row), next
	}
	if err := verify(rows, head, audit.Head{}); err != nil {
		t.Errorf("it is a chain: %v", err)
	}
	var broken *audit.Broken
	if err := verify(rows, head, noted); !errors.As(err, &broken) || broken.Sequence != 3 {
		t.Errorf("with what was noted: %v", err)
	}
	if err := verify(nil, audit.Head{}, noted); !errors.As(err, &broken) || broken.Sequence != 1 {
		t.Errorf("an emptied log: %v", err)
	}
}

// docs/audit.md says so: without its last member a line is what was hashed.
func TestALineCanBeCheckedByItself(t *testing.T) {
	t.Parallel()
	rows, _ := log(t, 2)
	for _, r := range rows {
		line := strings.TrimSuffix(r.Line(), "\n")
		var members map[string]any
		if err := json.Unmarshal([]byte(line), &members); err != nil || members["hash"] != r.Hash {
			t.Errorf("%v: %s", err, line)
		}
		sum := sha256.Sum256([]byte(regexp.MustCompile(`,"hash":"[0-9a-f]*"}$`).ReplaceAllString(line, "}")))
		if hex.EncodeToString(sum[:]) != r.Hash {
			t.Errorf("the hash is not that of the line: %s", line)
		}
	}
}
