// Package storetest is the conformance suite of the store: what holds on every engine, shown against a
// real one. It also gives other packages' tests a fresh database.
package storetest

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"shareai/internal/account"
	"shareai/internal/catalog"
	"shareai/internal/fault"
	"shareai/internal/snapshot"
	"shareai/internal/store"
)

// Run runs the suite. fresh returns an empty database.
func Run(t *testing.T, fresh func(*testing.T) Database) {
	for name, test := range map[string]func(*testing.T, Database){
		"a fresh database is empty":                       testFresh,
		"declarations come back as they were put":         testRoundTrip,
		"the rows are what the change makes of them":      testModel,
		"a commit at an old revision changes nothing":     testStale,
		"a commit is stored as a whole or not at all":     testAtomic,
		"handles write at the same time":                  testConcurrentWriters,
		"a load is one view":                              testOneView,
		"processes may open a new database together":      testConcurrentOpen,
		"secrets can not be read in the database":         testSecretsAtRest,
		"another secrets key is refused by name":          testWrongSecretsKey,
		"a sealed key can not be moved":                   testMovedSeal,
		"a newer database is refused":                     testNewerSchema,
		"a database that goes away comes back":            testAway,
		"a call that is canceled changes nothing":         testCanceled,
		"records come back as they were inserted":         testRecordRoundTrip,
		"batches of every size arrive":                    testBatchSizes,
		"a batch may be sent again":                       testIdempotent,
		"no text of a client can hold up the records":     testHostileText,
		"a record that can never be stored is told apart": testRefusedRecord,
		"a record that is not there is not found":         testRecordNotFound,
		"usage agrees with the records":                   testUsage,
		"the sums agree with the records":                 testSumsAgree,
		"sums of any range":                               testAnyRange,
		"a range is widened to whole hours":               testWholeHours,
		"replicas add to the same sums":                   testReplicasSumUp,
		"one absurd record does not spoil the sums":       testAbsurdRecord,
		"hours of the version before":                     testNarrowHours,
		"what failed costs where it failed":               testFailedAttempts,
		"retention drops whole days and keeps the sums":   testRetention,
		"prompts are ranked":                              testPrompts,
		"what was spent agrees with the records":          testSpent,
		"what was spent before a moment":                  testSpentBefore,
		"what was spent and its records were dropped":     testSpentBeforeRetention,
		"percentiles of times":                            testTimes,
		"one replica takes a turn":                        testTurns,
		"episodes of alerts come back as they were":       testEpisodes,
		"one of the replicas tells of an alert":           testEpisodeRace,
		"a message is sent by one and in order":           testOutbox,
		"replicas count in the same minutes":              testTallies,
		"what replicas know of providers":                 testStandings,
		"usage refuses a dimension that it does not know": testUnknownDimension,
		"an act is logged with its change or not at all":  testAuditWithChange,
		"acts at the same time make one chain":            testAuditConcurrent,
		"tampering with the audit log shows":              testAuditTampering,
		"the audit log can only be appended to":           testAuditAppendOnly,
		"accounts come back as they were put":             testAccounts,
		"a change of accounts is made or refused whole":   testAccountGuards,
		"requests are listed page by page":                testRequests,
		"a link works once":                               testTicketOnce,
		"the last owner stays":                            testLastOwner,
		"sessions end":                                    testSessions,
		"tokens of nodes come back as they were added":    testNodeTokens,
		"a token makes as many nodes as it is for":        testNodeTokenUses,
		"machines race for one token":                     testNodeTokenRace,
		"a name is that of one node":                      testNodeNames,
		"an installation has one id":                      testInstallation,
		"shares of nodes come back, one for a handle":     testShares,
		"the ledger agrees with the records":              testLedger,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, fresh(t))
		})
	}
}

// sameSpec compares declarations, whose order within a kind has no meaning.
var sameSpec = cmp.Options{
	cmpopts.EquateEmpty(),
	cmpopts.SortSlices(func(a, b account.Organization) bool { return a.Name < b.Name }),
	cmpopts.SortSlices(func(a, b account.Project) bool { return a.Organization+a.Name < b.Organization+b.Name }),
	cmpopts.SortSlices(func(a, b account.APIKey) bool { return a.ID < b.ID }),
	cmpopts.SortSlices(func(a, b catalog.Provider) bool { return a.Name < b.Name }),
	cmpopts.SortSlices(func(a, b catalog.Model) bool { return a.Name < b.Name }),
	cmpopts.SortSlices(func(a, b catalog.Route) bool { return a.Name < b.Name }),
	cmpopts.SortSlices(func(a, b catalog.Policy) bool { return a.Name < b.Name }),
	cmpopts.SortSlices(func(a, b catalog.Drill) bool { return a.ID < b.ID }),
	cmpopts.SortSlices(func(a, b catalog.Node) bool { return a.ID < b.ID }),
}

func load(t *testing.T, s *store.Store) (snapshot.Spec, int64) {
	t.Helper()
	spec, revision, err := s.Load(t.Context())
	if err != nil {
		t.Fatalf("load: %v", err)
	}
	return spec, revision
}

// commit applies a change at the present revision.
func commit(t *testing.T, s *store.Store, change snapshot.Change) int64 {
	t.Helper()
	at, err := s.Revision(t.Context())
	if err != nil {
		t.Fatalf("revision: %v", err)
	}
	after, err := s.Commit(t.Context(), at, change)
	if err != nil {
		t.Fatalf("commit: %v", err)
	}
	if after != at+1 {
		t.Fatalf("the revision went from %d to %d", at, after)
	}
	return after
}

func putOrganization(name string) snapshot.Change {
	return snapshot.Change{Put: snapshot.Spec{Organizations: []account.Organization{{Name: name, Origin: account.FromDatabase}}}}
}

func putProvider(name string, keys ...catalog.ProviderKey) snapshot.Change {
	return snapshot.Change{Put: snapshot.Spec{Providers: []catalog.Provider{{
		Name: name, Dialect: catalog.OpenAI, BaseURL: "https://" + name + ".example/v1", Keys: keys, Origin: account.FromDatabase,
	}}}}
}

func testFresh(t *testing.T, d Database) {
	s := d.Open(t)
	spec, revision := load(t, s)
	if diff := cmp.Diff(snapshot.Spec{}, spec, sameSpec); diff != "" {
		t.Errorf("not empty:\n%s", diff)
	}
	if alone, err := s.Revision(t.Context()); err != nil || alone != revision || revision < 1 {
		t.Errorf("revision %d, %v; loaded with %d", alone, err, revision)
	}
	if err := s.Ping(t.Context()); err != nil {
		t.Errorf("ping: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("close again: %v", err)
	}
	if _, again := load(t, d.Open(t)); again != revision {
		t.Errorf("opening again moved the revision from %d to %d", revision, again)
	}
}

func testConcurrentOpen(t *testing.T, d Database) {
	const processes = 6
	opened := make(chan error, processes)
	for range processes {
		go func() {
			s, err := store.Open(t.Context(), d.Options)
			if err == nil {
				_, _, err = s.Load(t.Context())
				err = errors.Join(err, s.Close())
			}
			opened <- err
		}()
	}
	for range processes {
		if err := <-opened; err != nil {
			t.Error(err)
		}
	}
}

const canary = "canary-4f1d0c9b7a"

func testSecretsAtRest(t *testing.T, d Database) {
	s := d.Open(t)
	key := account.NewSecret("sk-shareai-" + canary)
	change := putProvider("alpha", catalog.ProviderKey{Name: "main", Secret: account.NewSecret("sk-alpha-" + canary)})
	change.Put.Keys = []account.APIKey{{ID: "key_1", Name: "ci", Organization: "acme", Project: "app", Hash: key.Hash(), Hint: account.Hint(key)}}
	commit(t, s, change)
	if spec, _ := load(t, s); spec.Providers[0].Keys[0].Secret.Reveal() != "sk-alpha-"+canary {
		t.Fatal("the provider key was not stored")
	}
	everything := string(d.Bytes(t))
	if !strings.Contains(everything, "alpha.example") {
		t.Fatal("the search does not see what is stored")
	}
	if strings.Contains(everything, canary) {
		t.Error("a secret can be read in the database")
	}
}

func testWrongSecretsKey(t *testing.T, d Database) {
	first := d.With("the first secrets key").Open(t)
	commit(t, first, putProvider("alpha", catalog.ProviderKey{Name: "main", Secret: account.NewSecret("sk-alpha-" + canary)}))
	_, err := store.Open(t.Context(), d.With("the second secrets key").Options)
	if err == nil {
		t.Fatal("opened with another secrets key")
	}
	for _, part := range []string{`"main"`, `"alpha"`, "secrets_key"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error does not say %s: %v", part, err)
		}
	}
	for _, secret := range []string{canary, "the first", "the second"} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("the error gives %q away: %v", secret, err)
		}
	}
	if fault.From(err).Code != "secrets_key_mismatch" {
		t.Errorf("code %q", fault.From(err).Code)
	}
}

func testMovedSeal(t *testing.T, d Database) {
	s := d.Open(t)
	commit(t, s, putProvider("alpha", catalog.ProviderKey{Name: "main", Secret: account.NewSecret("sk-alpha")}))
	commit(t, s, putProvider("beta", catalog.ProviderKey{Name: "main", Secret: account.NewSecret("sk-beta")}))
	// Whoever can write the database could otherwise have alpha's key sent to a provider of his own.
	d.Exec(t, "UPDATE provider_keys SET sealed = (SELECT sealed FROM provider_keys WHERE provider = 'alpha') WHERE provider = 'beta'")
	_, _, err := s.Load(t.Context())
	if err == nil || !strings.Contains(err.Error(), `"beta"`) {
		t.Errorf("a moved key was opened: %v", err)
	}
}

func testNewerSchema(t *testing.T, d Database) {
	if err := d.Open(t).Close(); err != nil {
		t.Fatal(err)
	}
	d.Exec(t, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, $1)", true)
	_, err := store.Open(t.Context(), d.Options)
	if f := fault.From(err); err == nil || f.Code != "database_newer" || !strings.Contains(f.Message, "9999") {
		t.Errorf("a database of version 9999 gave %v", err)
	}
}

func testAway(t *testing.T, d Database) {
	if testing.Short() {
		t.Skip("waits for the busy timeout of SQLite")
	}
	s := d.Open(t)
	commit(t, s, putOrganization("before"))
	giveBack := d.TakeAway(t)
	if err := s.InsertRecords(t.Context(), records(1)); fault.From(err).Kind != fault.Unavailable {
		t.Errorf("insert while the database is away: %v", err)
	}
	if _, err := s.Revision(t.Context()); err != nil && fault.From(err).Kind != fault.Unavailable { // SQLite can still be read
		t.Errorf("read while the database is away: %v", err)
	}
	giveBack()
	if err := s.InsertRecords(t.Context(), records(1)); err != nil {
		t.Errorf("insert when it is back: %v", err)
	}
	// Away for a moment, between two calls: each idle connection may cost one failed call, no more.
	d.TakeAway(t)()
	const connections = 4
	for try := 0; ; try++ {
		_, err := s.Revision(t.Context())
		if err == nil {
			break
		}
		if fault.From(err).Kind != fault.Unavailable || try == connections {
			t.Fatalf("read %d after a short absence: %v", try, err)
		}
	}
	commit(t, s, putOrganization("after"))
	spec, _ := load(t, s)
	names := make([]string, 0, 2)
	for _, o := range spec.Organizations {
		names = append(names, o.Name)
	}
	slices.Sort(names)
	if diff := cmp.Diff([]string{"after", "before"}, names); diff != "" {
		t.Errorf("organizations:\n%s", diff)
	}
}
