package storetest

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"shareai/internal/account"
	"shareai/internal/audit"
	"shareai/internal/store"
)

var accountsAt = time.Date(2026, 11, 22, 10, 30, 0, 123456000, time.UTC)

func userNamed(name string) account.UserRecord {
	return account.UserRecord{User: account.User{ID: "user_" + name, Email: name + "@acme.example", CreatedAt: accountsAt}}
}

func change(t *testing.T, s *store.Store, c account.UserChange, acts ...audit.Act) {
	t.Helper()
	if err := s.ChangeUsers(t.Context(), c, acts...); err != nil {
		t.Fatal(err)
	}
}

func testAccounts(t *testing.T, d Database) {
	s := d.Open(t)
	ana := userNamed("ana")
	ana.Name, ana.SignedInAt, ana.SecondFactor, ana.DisabledAt = "Ana ü'\\", accountsAt.Add(time.Hour), true, accountsAt.Add(2*time.Hour)
	ana.Password, ana.TOTP, ana.TOTPStep = account.NewSecret("$argon2id$v=19$…"), account.NewSecret(canary), 59
	ana.Recovery = []account.KeyHash{account.HashKey("one"), account.HashKey("two")}
	ana.Subjects = []account.Subject{{Issuer: "https://id.example", Subject: "1"}, {Issuer: "https://other.example", Subject: "1"}}
	ben := userNamed("ben")
	of := []account.Membership{
		{UserID: ana.ID, Organization: "acme", Role: account.Owner, Since: accountsAt},
		{UserID: ana.ID, Organization: "globex", Role: account.Viewer, Since: accountsAt},
		{UserID: ben.ID, Organization: "acme", Role: account.Member, Since: accountsAt},
	}
	change(t, s, account.UserChange{At: accountsAt, PutUsers: []account.UserRecord{ben, ana}, PutMemberships: of}, act("user.create"))
	ana.Memberships, ana.Version, ben.Memberships, ben.Version = of[:2], 1, of[2:], 1
	same := cmp.Options{cmpopts.EquateEmpty(), cmp.Comparer(account.Secret.Equal)}
	for _, ref := range []account.UserRef{{ID: ana.ID}, {Email: ana.Email}, {Subject: ana.Subjects[1]}} {
		got, err := s.User(t.Context(), ref)
		if diff := cmp.Diff(ana, got, same); err != nil || diff != "" {
			t.Errorf("%+v: %v\n%s", ref, err, diff)
		}
	}
	for _, ref := range []account.UserRef{{ID: "x"}, {Email: "x"}, {Subject: account.Subject{Issuer: "x", Subject: "1"}}, {}} {
		if _, err := s.User(t.Context(), ref); !errors.Is(err, account.ErrNoUser) {
			t.Errorf("%+v: %v", ref, err)
		}
	}
	for _, c := range []struct {
		filter account.UserFilter
		want   []account.UserRecord
	}{
		{account.UserFilter{}, []account.UserRecord{ana, ben}},
		{account.UserFilter{Limit: 1}, []account.UserRecord{ana}},
		{account.UserFilter{After: ana.Email, Limit: 1}, []account.UserRecord{ben}},
		{account.UserFilter{Organization: "globex"}, []account.UserRecord{ana}},
		{account.UserFilter{Organization: "nowhere"}, nil},
	} {
		got, err := s.Users(t.Context(), c.filter)
		if diff := cmp.Diff(c.want, got, same); err != nil || diff != "" {
			t.Errorf("%+v: %v\n%s", c.filter, err, diff)
		}
	}
	everything := string(d.Bytes(t))
	if !strings.Contains(everything, ana.Email) || strings.Contains(everything, canary) {
		t.Error("the secret of an authenticator can be read in the database")
	}
	unbroken(t, s, 1)
}

// What a change finds otherwise than it should refuses all of it, and its entry in the log.
func testAccountGuards(t *testing.T, d Database) {
	s := d.Open(t)
	ana, ben := userNamed("ana"), userNamed("ben")
	change(t, s, account.UserChange{At: accountsAt, First: true, PutUsers: []account.UserRecord{ana}})
	twin := userNamed("cleo")
	twin.Email = ana.Email
	stale := ana // Version 0, and there is one
	stale.Version = 7
	for name, c := range map[string]struct {
		change account.UserChange
		want   error
	}{
		"first":  {account.UserChange{First: true, PutUsers: []account.UserRecord{ben}}, account.ErrUsersExist},
		"email":  {account.UserChange{PutUsers: []account.UserRecord{ben, twin}}, account.ErrEmailTaken},
		"stale":  {account.UserChange{PutUsers: []account.UserRecord{ben, stale}}, account.ErrUserStale},
		"ticket": {account.UserChange{PutUsers: []account.UserRecord{ben}, UseTicket: account.HashKey("no ticket")}, account.ErrNoTicket},
		"owner":  {account.UserChange{PutUsers: []account.UserRecord{ben}, OwnedAfter: "acme"}, account.ErrLastOwner},
	} {
		if err := s.ChangeUsers(t.Context(), c.change, act(name)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := s.User(t.Context(), account.UserRef{ID: ben.ID}); !errors.Is(err, account.ErrNoUser) {
			t.Errorf("%s: a part was made: %v", name, err)
		}
	}
	unbroken(t, s, 0)
}

// Of many who come with one link at the same time, one gets in.
func testTicketOnce(t *testing.T, d Database) {
	s := d.Open(t)
	ticket := account.Ticket{
		Hash: account.HashKey("link"), ID: "ticket_1", Kind: account.InvitationTicket, UserID: "user_1", Organization: "acme", Role: account.Admin,
		Email: "ben@acme.example", By: "ana", CreatedAt: accountsAt, Expires: accountsAt.Add(time.Hour),
	}
	endless := account.Ticket{Hash: account.HashKey("set-up"), ID: "ticket_2", Kind: account.SetupTicket, CreatedAt: accountsAt}
	change(t, s, account.UserChange{At: accountsAt, PutTickets: []account.Ticket{ticket, endless}})
	for _, want := range []account.Ticket{ticket, endless} {
		if got, err := s.Ticket(t.Context(), want.Hash); err != nil || got != want {
			t.Errorf("%+v, %v", got, err)
		}
	}
	if list, err := s.Tickets(t.Context(), account.InvitationTicket, "acme"); err != nil || len(list) != 1 || list[0] != ticket {
		t.Errorf("%+v, %v", list, err)
	}
	if list, err := s.Tickets(t.Context(), account.InvitationTicket, "globex"); err != nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
	const many = 5
	used := make(chan error, many)
	for range many {
		go func() { used <- s.ChangeUsers(t.Context(), account.UserChange{At: accountsAt, UseTicket: ticket.Hash}) }()
	}
	ok := 0
	for range many {
		if err := <-used; err == nil {
			ok++
		} else if !errors.Is(err, account.ErrNoTicket) {
			t.Error(err)
		}
	}
	if ok != 1 {
		t.Errorf("%d used the link", ok)
	}
	change(t, s, account.UserChange{At: accountsAt, PutTickets: []account.Ticket{ticket}})
	change(t, s, account.UserChange{At: ticket.Expires})
	if _, err := s.Ticket(t.Context(), ticket.Hash); !errors.Is(err, account.ErrNoTicket) {
		t.Errorf("one that is over: %v", err)
	}
	if _, err := s.Ticket(t.Context(), endless.Hash); err != nil {
		t.Errorf("one without an end: %v", err)
	}
	change(t, s, account.UserChange{At: accountsAt, DeleteTickets: []string{endless.ID}})
	if _, err := s.Ticket(t.Context(), endless.Hash); !errors.Is(err, account.ErrNoTicket) {
		t.Errorf("one that was deleted: %v", err)
	}
}

// Two owners who leave at the same time do not leave the organization to nobody.
func testLastOwner(t *testing.T, d Database) {
	s := d.Open(t)
	ana, ben := userNamed("ana"), userNamed("ben")
	change(t, s, account.UserChange{At: accountsAt, PutUsers: []account.UserRecord{ana, ben}, PutMemberships: []account.Membership{
		{UserID: ana.ID, Organization: "acme", Role: account.Owner}, {UserID: ben.ID, Organization: "acme", Role: account.Owner},
	}})
	left := make(chan error, 2)
	for _, id := range []string{ana.ID, ben.ID} {
		go func() {
			left <- s.ChangeUsers(t.Context(), account.UserChange{
				At: accountsAt, DeleteMemberships: []account.Membering{{UserID: id, Organization: "acme"}}, OwnedAfter: "acme",
			})
		}()
	}
	one, other := <-left, <-left
	if (one == nil) == (other == nil) || !errors.Is(errors.Join(one, other), account.ErrLastOwner) {
		t.Errorf("%v, %v", one, other)
	}
	if users, err := s.Users(t.Context(), account.UserFilter{Organization: "acme"}); err != nil || len(users) != 1 {
		t.Errorf("%+v, %v", users, err)
	}
}

func testSessions(t *testing.T, d Database) {
	s := d.Open(t)
	ana := userNamed("ana")
	session := func(n time.Duration) account.NewSession {
		id := n.String()
		return account.NewSession{Hash: account.HashKey(id), Session: account.Session{
			ID: id, UserID: ana.ID, CreatedAt: accountsAt.Add(n), SeenAt: accountsAt.Add(n), Expires: accountsAt.Add(time.Hour + n), Method: "password", From: "192.0.2.1", Client: "x",
		}}
	}
	of := []account.Membership{{UserID: ana.ID, Organization: "acme", Role: account.Owner, Since: accountsAt}}
	sessions := []account.NewSession{session(1 * time.Minute), session(2 * time.Minute), session(3 * time.Minute), session(4 * time.Minute)}
	change(t, s, account.UserChange{At: accountsAt, PutUsers: []account.UserRecord{ana}, PutMemberships: of, PutSessions: sessions})
	got, err := s.SignedIn(t.Context(), sessions[0].Hash)
	want := account.SignedIn{Session: sessions[0].Session, User: ana.User, Memberships: of}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	seen := accountsAt.Add(10 * time.Minute)
	for _, at := range []time.Time{seen, seen.Add(-time.Minute)} { // another replica's, late
		if err := s.TouchSession(t.Context(), sessions[0].ID, at); err != nil {
			t.Fatal(err)
		}
	}
	list := func() (ids []string) {
		all, err := s.Sessions(t.Context(), ana.ID)
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range all {
			ids = append(ids, one.ID)
			if one.ID == sessions[0].ID && !one.SeenAt.Equal(seen) {
				t.Errorf("seen at %v", one.SeenAt)
			}
		}
		return ids
	}
	check := func(c account.UserChange, left ...string) {
		t.Helper()
		change(t, s, c)
		if diff := cmp.Diff(left, list()); diff != "" {
			t.Error(diff)
		}
	}
	check(account.UserChange{At: accountsAt.Add(time.Hour + time.Minute)}, "4m0s", "3m0s", "2m0s")
	check(account.UserChange{At: accountsAt, DeleteSessions: []string{"2m0s"}}, "4m0s", "3m0s")
	check(account.UserChange{At: accountsAt, EndSessions: ana.ID, EndSessionsBut: "3m0s"}, "3m0s")
	check(account.UserChange{At: accountsAt, EndSessions: ana.ID})
	if _, err := s.SignedIn(t.Context(), sessions[2].Hash); !errors.Is(err, account.ErrNoSession) {
		t.Errorf("a session that is over: %v", err)
	}
}
