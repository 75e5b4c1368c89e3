package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"shareai/internal/account"
	"shareai/internal/audit"
	"shareai/internal/snapshot"
	"shareai/internal/store"
)

// act is something that somebody did.
func act(name string) audit.Act {
	return audit.Act{
		At: time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC), Who: audit.Actor{Kind: audit.User, Name: "ana", From: "desk"},
		Name: name, Subject: "it's ? \\ \x00ü", After: json.RawMessage(`{"why":"it's ? \\ ü"}`),
	}
}

// entries are the audit log.
func entries(t *testing.T, s *store.Store, since time.Time) []audit.Entry {
	t.Helper()
	var all []audit.Entry
	err := s.EachAudit(t.Context(), since, func(r audit.Row) error {
		e, err := r.Entry()
		all = append(all, e)
		return err
	})
	if err != nil {
		t.Fatalf("read the audit log: %v", err)
	}
	return all
}

// unbroken checks the log and how long it is.
func unbroken(t *testing.T, s *store.Store, want int64) audit.Head {
	t.Helper()
	head, err := s.VerifyAudit(t.Context(), audit.Head{})
	if err != nil || head.Entries != want {
		t.Fatalf("%d entries, want %d: %v", head.Entries, want, err)
	}
	return head
}

// An act is logged if, and only if, the change that it describes is made.
func testAuditWithChange(t *testing.T, d Database) {
	s := d.Open(t)
	unbroken(t, s, 0)
	_, at := load(t, s)
	made, err := s.Commit(t.Context(), at, putOrganization("one"), act("first"), act("second"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Commit(t.Context(), at, putOrganization("two"), act("stale")); !errors.Is(err, snapshot.ErrStale) {
		t.Fatalf("at an old revision: %v", err)
	}
	refused := snapshot.Change{Put: snapshot.Spec{Keys: []account.APIKey{
		{ID: "key_1", Hash: account.HashKey("the same")}, {ID: "key_2", Hash: account.HashKey("the same")},
	}}}
	if _, err := s.Commit(t.Context(), made, refused, act("refused")); err == nil {
		t.Fatal("two keys with one secret were stored")
	}
	// What can not be logged is not done.
	unspeakable := act("unspeakable")
	unspeakable.After = json.RawMessage("{")
	if _, err := s.Commit(t.Context(), made, putOrganization("three"), unspeakable); err == nil {
		t.Error("a change was made without its entry")
	}
	if spec, revision := load(t, s); revision != made || len(spec.Organizations) != 1 {
		t.Errorf("revision %d after %d, %d organizations", revision, made, len(spec.Organizations))
	}
	later := act("third")
	later.At = later.At.Add(time.Hour)
	if err := s.Audit(t.Context(), later); err != nil {
		t.Fatal(err)
	}
	unbroken(t, d.Open(t), 3)
	all := entries(t, s, time.Time{})
	if all[0].Act != "first" || all[1].Act != "second" || all[0].Revision != made || all[2].Revision != 0 || all[0].Who.Name != "ana" || all[0].From != "desk" {
		t.Errorf("%+v", all)
	}
	if string(all[0].After) != string(act("").After) || all[0].Subject != act("").Subject || !all[0].At.Equal(act("").At) {
		t.Errorf("%+v", all[0])
	}
	if since := entries(t, s, later.At); len(since) != 1 || since[0].Act != "third" {
		t.Errorf("since the last: %+v", since)
	}
}

// testAuditConcurrent appends through several handles at once: no act is lost and the chain does not fork.
func testAuditConcurrent(t *testing.T, d Database) {
	const writers, acts = 4, 10
	var group sync.WaitGroup
	for w := range writers {
		s := d.Open(t)
		group.Go(func() {
			for i := range acts {
				if err := auditSomehow(t.Context(), s, fmt.Sprintf("commit-%d-%d", w, i)); err != nil {
					t.Error(err)
				}
			}
		})
		group.Go(func() {
			for i := range acts {
				if err := s.Audit(t.Context(), act(fmt.Sprintf("alone-%d-%d", w, i))); err != nil {
					t.Error(err)
				}
			}
		})
		group.Go(func() { // whoever verifies meanwhile sees a whole log
			for range acts {
				if _, err := s.VerifyAudit(t.Context(), audit.Head{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	s := d.Open(t)
	unbroken(t, s, 2*writers*acts)
	once := map[string]bool{}
	for _, e := range entries(t, s, time.Time{}) {
		once[e.Act] = true
	}
	if len(once) != 2*writers*acts {
		t.Errorf("%d different acts", len(once))
	}
}

// auditSomehow commits a change with its act at whatever the revision is.
func auditSomehow(ctx context.Context, s *store.Store, name string) error {
	for {
		at, err := s.Revision(ctx)
		if err != nil {
			return err
		}
		if _, err := s.Commit(ctx, at, putOrganization(name), act(name)); !errors.Is(err, snapshot.ErrStale) {
			return err
		}
	}
}

// tamperings are ways in which the log may be changed, and the entry that is the first to be broken of five.
var tamperings = map[string]struct {
	statements []string
	broken     int64
	noted      bool // it is found by who noted the end of the log, and by nobody else
}{
	"a row is changed":                           {[]string{"UPDATE audit_entries SET body = REPLACE(body, 'act 3', 'act x') WHERE sequence = 3"}, 3, false},
	"a time is changed":                          {[]string{"UPDATE audit_entries SET at = at + 1 WHERE sequence = 4"}, 4, false},
	"a row is deleted":                           {[]string{"DELETE FROM audit_entries WHERE sequence = 2"}, 2, false},
	"the first is deleted":                       {[]string{"DELETE FROM audit_entries WHERE sequence = 1"}, 1, false},
	"the last is deleted":                        {[]string{"DELETE FROM audit_entries WHERE sequence = 5"}, 5, false},
	"all are deleted":                            {[]string{"DELETE FROM audit_entries"}, 1, false},
	"the gap is closed":                          {[]string{"DELETE FROM audit_entries WHERE sequence = 3", "UPDATE audit_entries SET sequence = 3 WHERE sequence = 4", "UPDATE audit_entries SET sequence = 4 WHERE sequence = 5"}, 3, false},
	"rows are reordered":                         {[]string{"UPDATE audit_entries SET sequence = 99 WHERE sequence = 2", "UPDATE audit_entries SET sequence = 2 WHERE sequence = 4", "UPDATE audit_entries SET sequence = 4 WHERE sequence = 99"}, 2, false},
	"a row is inserted":                          {[]string{"INSERT INTO audit_entries SELECT 6, at, body, hash FROM audit_entries WHERE sequence = 5"}, 6, false},
	"a row is put in front":                      {[]string{"INSERT INTO audit_entries SELECT 0, at, body, hash FROM audit_entries WHERE sequence = 1"}, 0, false},
	"the end is forgotten":                       {[]string{"DELETE FROM audit_head"}, 1, false},
	"the end is set back":                        {[]string{"UPDATE audit_head SET entries = 4, hash = (SELECT hash FROM audit_entries WHERE sequence = 4)"}, 5, false},
	"the last is deleted and the count set back": {[]string{"DELETE FROM audit_entries WHERE sequence = 5", "UPDATE audit_head SET entries = 4"}, 4, false},
	"the last is deleted and the end set back": {[]string{
		"DELETE FROM audit_entries WHERE sequence = 5",
		"UPDATE audit_head SET entries = 4, hash = (SELECT hash FROM audit_entries WHERE sequence = 4)",
	}, 5, true},
}

// testAuditTampering changes the log as somebody would who owns the database and took the triggers away.
func testAuditTampering(t *testing.T, d Database) {
	for name, c := range tamperings {
		t.Run(name, func(t *testing.T) {
			d := d.Another(t)
			s := d.Open(t)
			var noted audit.Head
			for i := range 5 {
				if err := s.Audit(t.Context(), act(fmt.Sprintf("act %d", i+1))); err != nil {
					t.Fatal(err)
				}
			}
			noted = unbroken(t, s, 5)
			for _, statement := range append(append([]string{}, d.Unguard...), c.statements...) {
				d.Exec(t, statement)
			}
			expected := audit.Head{}
			if c.noted {
				unbroken(t, s, 4) // nothing in the database tells
				expected = noted
			}
			_, err := s.VerifyAudit(t.Context(), expected)
			var broken *audit.Broken
			if !errors.As(err, &broken) || broken.Sequence != c.broken {
				t.Errorf("want entry %d: %v", c.broken, err)
			}
		})
	}
}

// testAuditAppendOnly tries to change the log with the triggers in place, which come back when they are taken away.
func testAuditAppendOnly(t *testing.T, d Database) {
	s := d.Open(t)
	if err := s.Audit(t.Context(), act("one"), act("two")); err != nil {
		t.Fatal(err)
	}
	refuse := func() {
		t.Helper()
		for _, statement := range d.Forbidden {
			if _, err := d.Raw.ExecContext(t.Context(), statement); err == nil {
				t.Errorf("allowed: %s", statement)
			}
		}
	}
	refuse()
	for _, statement := range d.Unguard {
		d.Exec(t, statement)
	}
	var group sync.WaitGroup
	for range 3 { // replicas start together
		group.Go(func() {
			again, err := store.Open(t.Context(), d.Options)
			if err == nil {
				err = again.Close()
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	refuse()
	unbroken(t, s, 2)
}
