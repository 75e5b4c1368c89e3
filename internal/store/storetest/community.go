package storetest

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"shareai/internal/account"
	"shareai/internal/catalog"
	"shareai/internal/snapshot"
	"shareai/internal/store"
	"shareai/internal/upstream"
	"shareai/internal/usage"
)

// sharedNode is a node of an organization with a handle.
func sharedNode(id, organization, handle string, fee int64) catalog.Node {
	return catalog.Node{
		ID: id, Name: id, Organization: organization, EnrolledAt: tokenTime,
		Shared: &catalog.NodeShare{
			Handle: handle, DisplayName: "it's ü", Listed: true, Models: []string{"tiny", "l*"}, Retention: "none", Fee: fee, Since: tokenTime,
			Prices: []catalog.NodePrice{{Model: "*", Price: catalog.Price{Input: 1, Output: 2, CachedInput: 1}}},
		},
	}
}

func testShares(t *testing.T, d Database) {
	s := d.Open(t)
	spec := snapshot.Spec{
		Organizations: []account.Organization{{Name: "acme", Community: true, Origin: account.FromDatabase}, {Name: "other", Origin: account.FromDatabase}},
		Nodes:         []catalog.Node{sharedNode("node_1", "acme", "desk", 100_000), {ID: "node_2", Name: "node_2", Organization: "other", EnrolledAt: tokenTime}},
	}
	commit(t, s, snapshot.Change{Put: spec})
	if got, _ := load(t, d.Open(t)); !cmp.Equal(spec, got, sameSpec) {
		t.Errorf("came back as\n%s", cmp.Diff(spec, got, sameSpec))
	}
	at, err := s.Revision(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	thief := sharedNode("node_2", "other", "desk", 0)
	if _, err := s.Commit(t.Context(), at, snapshot.Change{Put: snapshot.Spec{Nodes: []catalog.Node{thief}}}); err == nil {
		t.Error("two nodes have one handle")
	}
	if got, _ := load(t, s); !cmp.Equal(spec, got, sameSpec) {
		t.Errorf("what was refused left something behind\n%s", cmp.Diff(spec, got, sameSpec))
	}
}

// communityRecords are n records with and without shared nodes in them.
func communityRecords(random *rand.Rand, n int) []usage.Record {
	providers := []string{"community:desk", "community:rack", "community:nobody", "alpha", "node:own"}
	all := records(n)
	for i := range all {
		r := &all[i]
		r.Start = epoch.UnixMicro() + random.Int64N(3*24*3600)*1e6
		if r.Provider == "" {
			continue
		}
		r.Organization = []string{"acme", "other", "third"}[random.IntN(3)]
		r.Provider = providers[random.IntN(len(providers))]
		r.Deployment = r.Provider + "/tiny"
		r.Cost = random.Int64N(3) * random.Int64N(1_000_003)
		last := &r.Attempts[1]
		last.Provider, last.Deployment, last.Cost, last.ProviderKey = r.Provider, r.Deployment, r.Cost, ""
		failed := &r.Attempts[0]
		failed.Provider = providers[random.IntN(len(providers))]
		failed.Deployment, failed.Drill = failed.Provider+"/big", []string{"", "drill_1"}[random.IntN(2)]
		failed.Outcome = string(upstream.Outcomes[1:][random.IntN(len(upstream.Outcomes)-1)])
		failed.Tokens, failed.Cost = catalog.Tokens{}, 0
		if random.IntN(3) == 0 {
			failed.Tokens, failed.Cost = catalog.Tokens{Prompt: 7, Completion: 3}, random.Int64N(999)
			r.Cost += failed.Cost
			r.Tokens = r.Tokens.Add(failed.Tokens)
		}
	}
	return all
}

// expected is what the ledger has to hold, worked out in another way.
func expected(all []usage.Record, owners map[string]string, fees map[string]int64) map[string]int64 {
	want := map[string]int64{}
	move := func(r *usage.Record, provider string, cost int64) {
		handle, shared := usage.HandleOf(provider)
		if !shared || cost == 0 {
			return
		}
		due := cost * fees[handle] / 1_000_000
		want["organization:"+r.Organization] -= cost
		to := "unclaimed"
		if owners[handle] != "" {
			to = "organization:" + owners[handle]
		}
		want[to] += cost - due
		want["operator"] += due
	}
	for i := range all {
		r := &all[i]
		if len(r.Attempts) == 0 {
			continue
		}
		first := r.Attempts[0]
		if first.Provider == r.Provider && first.Deployment == r.Deployment {
			first.Cost = 0
		}
		move(r, first.Provider, first.Cost)
		move(r, r.Provider, r.Cost-first.Cost)
	}
	return want
}

// crashing is a context that ends when it was looked at so many times: in the middle of a transaction.
type crashing struct {
	context.Context
	left atomic.Int64
	once sync.Once
	end  context.CancelFunc
}

func crashAfter(ctx context.Context, looks int64) *crashing {
	c := &crashing{}
	c.Context, c.end = context.WithCancel(ctx)
	c.left.Store(looks)
	return c
}

func (c *crashing) look() {
	if c.left.Add(-1) < 0 {
		c.once.Do(c.end)
	}
}

func (c *crashing) Done() <-chan struct{} { c.look(); return c.Context.Done() }
func (c *crashing) Err() error            { c.look(); return c.Context.Err() }

// R25: whatever order records arrive in, how often, by which replica, and however often one dies in between, the sum of
// all accounts is zero and what was earned agrees with the records to the nano-dollar.
func testLedger(t *testing.T, d Database) {
	s, replica := d.Open(t), d.Open(t)
	commit(t, s, snapshot.Change{Put: snapshot.Spec{Nodes: []catalog.Node{
		sharedNode("node_1", "acme", "desk", 100_000), sharedNode("node_2", "other", "rack", 333_333),
	}}})
	owners, fees := map[string]string{"desk": "acme", "rack": "other"}, map[string]int64{"desk": 100_000, "rack": 333_333}
	random := rand.New(rand.NewPCG(25, uint64(len(s.String()))))
	all := communityRecords(random, 150)
	crashes := 0
	for round := range 3 {
		order := random.Perm(len(all))
		for len(order) > 0 {
			size := min(1+random.IntN(20), len(order))
			var batch []usage.Record
			for _, i := range order[:size] {
				batch = append(batch, all[i])
			}
			order = order[size:]
			ctx := crashAfter(t.Context(), random.Int64N(150))
			if round == 2 {
				ctx = crashAfter(t.Context(), 1<<40)
			}
			at := []*store.Store{s, replica}[random.IntN(2)]
			if err := at.InsertRecords(ctx, batch); err != nil {
				if round == 2 {
					t.Fatal(err)
				}
				crashes++
			}
			ctx.end()
			sum := int64(0)
			balances := accounts(t, s)
			for _, amount := range balances {
				sum += amount
			}
			if sum != 0 {
				t.Fatalf("the accounts sum up to %d: %v", sum, balances)
			}
		}
	}
	if crashes < 3 {
		t.Errorf("only %d crashes", crashes)
	}
	if diff := cmp.Diff(expected(all, owners, fees), accounts(t, s), cmpopts.IgnoreMapEntries(func(_ string, n int64) bool { return n == 0 })); diff != "" {
		t.Errorf("the ledger and the records:\n%s", diff)
	}
	statementsAgree(t, s, all)
	recordsAgree(t, s, all)
}

func accounts(t *testing.T, s *store.Store) map[string]int64 {
	t.Helper()
	balances, err := s.CommunityAccounts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return balances
}

// statementsAgree checks that the statements of days are together that of all time, and that with the balance.
func statementsAgree(t *testing.T, s *store.Store, all []usage.Record) {
	t.Helper()
	for _, organization := range []string{"acme", "other", "third", "nobody"} {
		whole, err := s.CommunityStatement(t.Context(), organization, 0, 1<<60)
		if err != nil {
			t.Fatal(err)
		}
		gross, net := whole.Earned()
		if net-whole.Spent != whole.Balance || organization == "acme" && (gross == 0 || whole.Spent == 0) {
			t.Errorf("%s: earned %d and %d, spent %d, balance %d", organization, gross, net, whole.Spent, whole.Balance)
		}
		var requests, parts, spent int64
		for at := epoch.Add(-24 * time.Hour); at.Before(epoch.AddDate(0, 0, 5)); at = at.Add(7 * time.Hour) {
			part, err := s.CommunityStatement(t.Context(), organization, at.UnixMicro(), at.Add(7*time.Hour).UnixMicro())
			if err != nil {
				t.Fatal(err)
			}
			_, earned := part.Earned()
			parts, spent = parts+earned, spent+part.Spent
		}
		if parts != net || spent != whole.Spent {
			t.Errorf("%s: by parts earned %d and spent %d, at once %d and %d", organization, parts, spent, net, whole.Spent)
		}
		for _, l := range whole.Lines {
			requests += l.Requests
		}
		if want := paidAnswers(all, organization); requests != want {
			t.Errorf("%s: %d requests, want %d", organization, requests, want)
		}
	}
}

func paidAnswers(all []usage.Record, organization string) (n int64) {
	provider := map[string]string{"acme": "community:desk", "other": "community:rack"}[organization]
	for i := range all {
		for _, p := range all[i].CommunityParts() {
			if p.Answered && p.Cost > 0 && all[i].Provider == provider && all[i].Organization != organization { // who serves himself owes nothing
				n++
			}
		}
	}
	return n
}

// recordsAgree checks what reliability is made of.
func recordsAgree(t *testing.T, s *store.Store, all []usage.Record) {
	t.Helper()
	got, err := s.CommunityRecords(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	late, err := s.CommunityRecords(t.Context(), epoch.AddDate(0, 0, 30).UnixMicro())
	if err != nil || len(late) != len(got) || late[0].Served+late[0].Failed != 0 || late[0].PromptTokens != got[0].PromptTokens {
		t.Errorf("since a day after all of them: %+v %v", late, err)
	}
	for _, r := range got {
		var served, failed, tokens int64
		for i := range all {
			for _, a := range all[i].Attempts {
				if counts, good := a.Verdict(); a.Provider == "community:"+r.Handle && counts {
					served, failed = served+map[bool]int64{true: 1}[good], failed+map[bool]int64{false: 1}[good]
				}
			}
			for _, p := range all[i].CommunityParts() {
				if p.Handle == r.Handle {
					tokens += p.Tokens.Prompt
				}
			}
		}
		if r.Served != served || r.Failed != failed || r.PromptTokens != tokens || served == 0 || failed == 0 {
			t.Errorf("%+v, want %d served, %d failed, %d tokens", r, served, failed, tokens)
		}
	}
	if len(got) != 3 {
		t.Errorf("handles: %+v", got)
	}
}
