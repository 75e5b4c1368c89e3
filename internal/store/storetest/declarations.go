package storetest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"shareai/internal/account"
	"shareai/internal/catalog"
	"shareai/internal/snapshot"
	"shareai/internal/store"
)

// full is a spec in which every field of every declaration is set.
func full() snapshot.Spec {
	at := time.Date(2026, 11, 22, 10, 30, 0, 123456000, time.UTC)
	db := account.FromDatabase
	limits := account.Limits{
		RequestsPerMinute: 1, RequestsPerHour: 2, RequestsPerDay: 3, TokensPerMinute: 4, TokensPerHour: 5, TokensPerDay: 6, Concurrency: 7,
	}
	budgets := []account.Budget{
		{Period: account.PerMonth, NanoUSD: 500e9, AlertAt: []float64{0.5, 0.8}, OnExceed: account.Reject},
		{Period: account.Fixed, Start: at, End: at.Add(time.Hour), NanoUSD: 1},
	}
	price := catalog.Price{
		Input: 1, Output: 2, CachedInput: 3, CacheWrite: 4, CacheWrite1h: 5, Reasoning: catalog.Free, AudioInput: 6, AudioOutput: 7, Request: 8,
		Above: &catalog.Above{Tokens: 9, Price: catalog.Price{Input: 10, Above: &catalog.Above{Tokens: 11}}},
	}
	labels := []account.LabelLimits{{Label: "team", Value: "search", Limits: limits, Budgets: budgets}}
	return snapshot.Spec{
		Organizations: []account.Organization{{Name: "acme", Operator: true, Community: true, Limits: limits, Budgets: budgets, LabelLimits: labels, Shares: []account.Share{{Label: "team", Value: "search", Share: 0.25}}, Origin: db}, {Name: "empty", Origin: db}},
		Projects: []account.Project{
			{Organization: "acme", Name: "app", Labels: map[string]string{"team": "search"}, Limits: limits, Budgets: budgets, Origin: db},
			{Organization: "empty", Name: "app", Origin: db},
		},
		Keys: []account.APIKey{
			{
				ID: "key_1", Name: "ci", Organization: "acme", Project: "app", Hash: account.HashKey("one"), Hint: "sk-…abc",
				Models: []string{"*", "llama-?"}, Pin: account.Pin{Provider: "alpha", Model: "m"},
				Scopes:    []account.Scope{account.ScopeInference, account.ScopeDrills},
				CreatedAt: at, Expires: at.Add(time.Hour), RevokedAt: at.Add(time.Minute), Limits: limits, Budgets: budgets, Origin: db,
			},
			{ID: "key_2", Name: "ci", Organization: "empty", Project: "app", Hash: account.HashKey("two"), Hint: "…", CreatedAt: at, Origin: db},
		},
		Providers: []catalog.Provider{
			{
				Name: "alpha", Dialect: catalog.Azure, BaseURL: "https://alpha.example/v1", APIVersion: "2024-10-21",
				Keys: []catalog.ProviderKey{
					{Name: "z-first", Secret: account.NewSecret("sk-1 'quoted' \\ ü"), Weight: 3},
					{Name: "a-second", Secret: account.NewSecret("sk-2")},
				},
				Region: "eu", Retention: "30d", PrivateNetwork: true, OutputLimit: catalog.OutputLimitMaxTokens, Origin: db,
				Prefill: catalog.PrefillPrefix, Drained: true, Probe: catalog.Probe{Kind: catalog.ProbeTCP, Every: time.Minute, DailyCap: 5},
			},
			{
				Name: "simulated", Dialect: catalog.Simulated, Origin: db,
				Simulation: catalog.Simulation{Latency: time.Second, TokensPerSecond: 50.5, Tokens: 9, Fault: catalog.FaultCut, FaultShare: 0.25},
			},
		},
		Models: []catalog.Model{{
			Name: "llama-3.3-70b", Context: 131072, MaxOutput: 8192, Capabilities: []catalog.Capability{"tools", "vision"},
			Deployments: []catalog.Deployment{{
				Provider: "alpha", Model: "llama", Weight: 2, Price: price, Priced: true,
				Context: 65536, MaxOutput: 4096, Capabilities: []catalog.Capability{"tools"}, Lacks: []catalog.Capability{"n"}, Capacity: catalog.Capacity{Concurrency: 4}, Drained: true,
			}},
			Equivalents: []catalog.Equivalent{{Model: "qwen", Grade: 0.92}}, Created: 1700000000, Limits: limits, Budgets: budgets, Origin: db,
		}},
		Routes: []catalog.Route{{
			Name: "chat", Models: []string{"llama-3.3-70b"}, Endpoints: []catalog.Endpoint{catalog.Chat},
			Projects: []string{"acme/app"}, Policy: "careful", Origin: db,
		}},
		Policies: []catalog.Policy{{
			Name: "careful", Strategy: catalog.Cheapest, Order: []string{"alpha", "node:*"}, Equivalents: "any", Fallbacks: []string{"qwen"},
			MaxPriceRatio: 1.2, Regions: []string{"eu"}, Retention: []string{"none"}, OnContentFilter: "return",
			FailoverOn: []catalog.FailureClass{catalog.FailTimeout, catalog.FailKey}, Hedge: catalog.HedgeP95, HoldToolCalls: catalog.Off,
			Attempts:  catalog.Attempts{Total: 5, PerDeployment: 2},
			Deadlines: catalog.Deadlines{Connect: 1, Headers: 2, FirstToken: 3, Idle: 4, Total: 5},
			Resume:    "off", Cache: catalog.Cache{TTL: time.Hour, StaleIfError: time.Minute}, LogContent: true,
			OnLimitStoreFailure: catalog.LimitsReject, Community: catalog.CommunityAllow, Origin: db,
		}},
		Drills: []catalog.Drill{
			{
				ID: "drill_1", Organization: "acme", Project: "app", KeyID: "key_1", Provider: "alpha", Fault: catalog.DrillCut, Share: 0.25,
				Starts: at, Ends: at.Add(time.Hour), By: "somebody", Stopped: at.Add(time.Minute), Origin: db,
			},
			{ID: "drill_2", Organization: "acme", Project: "app", Deployment: "alpha/llama", Fault: catalog.DrillSlow, Share: 1, Starts: at, Ends: at.Add(time.Hour), Origin: db},
			{ID: "drill_3", Organization: "acme", Project: "app", Region: "eu", Fault: catalog.DrillServer, Share: 1, Starts: at, Ends: at.Add(time.Hour), Origin: db},
		},
		Nodes: []catalog.Node{
			{
				ID: "node_1", Name: "laptop", Organization: "acme", Labels: map[string]string{"team": "search"}, Region: "eu", Retention: "30d",
				Keys: []catalog.NodeKey{
					{ID: "nkey_1", Public: []byte("the old key"), CreatedAt: at}, {ID: "nkey_2", Public: []byte("the new key"), CreatedAt: at},
				},
				Advertised: catalog.Advertised{
					AgentVersion: "1.0", Engines: []catalog.NodeEngine{{Name: "ollama", Kind: "ollama", Version: "0.5"}},
					Models: []catalog.NodeModel{{
						ID: "tiny:latest", Name: "tiny", Engine: "ollama", Context: 4096, Capabilities: []catalog.Capability{"tools"},
					}},
				},
				Prices:  []catalog.NodePrice{{Model: "*", Price: price}},
				Drained: true, EnrolledAt: at, EnrolledBy: "ana", Token: "ntok_1",
				Machine: catalog.NodeMachine{Hostname: "desk", OS: "linux", Arch: "amd64"}, RevokedAt: at.Add(time.Minute), Shared: sharedNode("", "", "desk", 100_000).Shared,
			},
			{ID: "node_2", Name: "laptop", Organization: "acme", EnrolledAt: at},
		},
		DefaultPolicy: "careful",
	}
}

// unset finds the fields that none of some values sets. What a struct or list among them holds is looked at
// as well.
func unset(path string, values []reflect.Value) (missing []string) {
	switch values[0].Type() {
	case reflect.TypeFor[time.Time](), reflect.TypeFor[account.Secret](), reflect.TypeFor[account.KeyHash]():
	default:
		switch values[0].Kind() {
		case reflect.Struct:
			for i := range values[0].NumField() {
				var fields []reflect.Value
				for _, v := range values {
					fields = append(fields, v.Field(i))
				}
				missing = append(missing, unset(path+"."+values[0].Type().Field(i).Name, fields)...)
			}
			return missing
		case reflect.Slice:
			var items []reflect.Value
			for _, v := range values {
				for i := range v.Len() {
					items = append(items, v.Index(i))
				}
			}
			if len(items) == 0 {
				return []string{path}
			}
			return unset(path, items)
		}
	}
	for _, v := range values {
		if !v.IsZero() {
			return nil
		}
	}
	return []string{path}
}

func testRoundTrip(t *testing.T, d Database) {
	missing := slices.DeleteFunc(unset("Spec", []reflect.Value{reflect.ValueOf(full())}), func(field string) bool {
		return field == "Spec.Providers.Node" || field == "Spec.Providers.Organization" ||
			field == "Spec.Providers.Community" || field == "Spec.Providers.Among" || // what a provider is that stands for a node
			strings.HasPrefix(field, "Spec.Alerts.") || strings.HasPrefix(field, "Spec.Community.") // declared by the configuration file only
	})
	if len(missing) > 0 {
		t.Errorf("the round trip does not show what becomes of %s", strings.Join(missing, ", "))
	}
	s := d.Open(t)
	commit(t, s, snapshot.Change{Put: full()})
	for _, handle := range []*store.Store{s, d.Open(t)} {
		spec, _ := load(t, handle)
		if diff := cmp.Diff(full(), spec, sameSpec); diff != "" {
			t.Errorf("put and loaded differ:\n%s", diff)
		}
	}
}

// testModel applies random changes to the store and, as snapshot.Change defines them, to plain data.
func testModel(t *testing.T, d Database) {
	s := d.Open(t)
	expected, _ := load(t, s)
	rapid.Check(t, func(rt *rapid.T) {
		change := drawChange(rt)
		expected = change.Apply(expected)
		commit(t, s, change)
		spec, _ := load(t, s)
		if diff := cmp.Diff(expected, spec, sameSpec); diff != "" {
			rt.Fatalf("after %+v:\n%s", change, diff)
		}
	})
}

func drawChange(t *rapid.T) snapshot.Change {
	name := rapid.SampledFrom([]string{"a", "b", "c"})
	names := rapid.SliceOfNDistinct(name, 0, 2, rapid.ID)
	db := account.FromDatabase
	change := snapshot.Change{Delete: snapshot.Names{
		Providers: names.Draw(t, "delete providers"), Models: names.Draw(t, "delete models"),
		Routes: names.Draw(t, "delete routes"), Policies: names.Draw(t, "delete policies"),
		Drills: names.Draw(t, "delete drills"),
	}}
	put := &change.Put
	for _, n := range names.Draw(t, "organizations") {
		put.Organizations = append(put.Organizations, account.Organization{Name: n, Limits: account.Limits{Concurrency: rapid.Int64().Draw(t, "concurrency")}, Origin: db})
		put.Projects = append(put.Projects, account.Project{Organization: n, Name: name.Draw(t, "project"), Labels: map[string]string{"l": rapid.StringMatching(`[a-zß'"\\]*`).Draw(t, "label")}, Origin: db})
	}
	for _, n := range names.Draw(t, "keys") {
		put.Keys = append(put.Keys, account.APIKey{ID: n, Name: name.Draw(t, "key"), Hash: account.HashKey(n), RevokedAt: fromSeconds(rapid.IntRange(0, 3).Draw(t, "revoked")), Origin: db})
	}
	for _, n := range names.Draw(t, "providers") {
		p := catalog.Provider{Name: n, Dialect: catalog.OpenAI, PrivateNetwork: rapid.Bool().Draw(t, "private"), Origin: db}
		for _, k := range names.Draw(t, "provider keys") {
			p.Keys = append(p.Keys, catalog.ProviderKey{Name: k, Secret: account.NewSecret(rapid.String().Draw(t, "secret"))})
		}
		put.Providers = append(put.Providers, p)
	}
	for _, n := range names.Draw(t, "models") {
		put.Models = append(put.Models, catalog.Model{Name: n, Context: rapid.Int64().Draw(t, "context"), Origin: db})
		put.Routes = append(put.Routes, catalog.Route{Name: n, Models: names.Draw(t, "route models"), Origin: db})
		put.Policies = append(put.Policies, catalog.Policy{Name: n, MaxPriceRatio: rapid.Float64Range(0, 10).Draw(t, "ratio"), Origin: db})
	}
	for _, n := range names.Draw(t, "nodes") {
		put.Nodes = append(put.Nodes, catalog.Node{ID: n, Name: n, Organization: "acme", Drained: rapid.Bool().Draw(t, "drained"), RevokedAt: fromSeconds(rapid.IntRange(0, 3).Draw(t, "node revoked"))})
	}
	for _, n := range names.Draw(t, "drills") {
		put.Drills = append(put.Drills, catalog.Drill{ID: n, Share: rapid.Float64Range(0, 1).Draw(t, "share"), Stopped: fromSeconds(rapid.IntRange(0, 3).Draw(t, "stopped")), Origin: db})
	}
	put.DefaultPolicy = rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "default policy")
	return change
}

func fromSeconds(s int) time.Time {
	if s == 0 {
		return time.Time{}
	}
	return time.Unix(int64(s), 0).UTC()
}

func testStale(t *testing.T, d Database) {
	s, other := d.Open(t), d.Open(t)
	_, seen := load(t, s)
	commit(t, other, putOrganization("theirs"))
	before, _ := load(t, s)
	for _, at := range []int64{seen, seen + 2, 0, -1} {
		if _, err := s.Commit(t.Context(), at, putOrganization("mine")); !errors.Is(err, snapshot.ErrStale) {
			t.Errorf("commit at %d: %v", at, err)
		}
	}
	after, revision := load(t, s)
	if diff := cmp.Diff(before, after, sameSpec); diff != "" || revision != seen+1 {
		t.Errorf("revision %d after %d; changed:\n%s", revision, seen, diff)
	}
}

func testAtomic(t *testing.T, d Database) {
	s := d.Open(t)
	before, at := load(t, s)
	change := putOrganization("half")
	change.Put.Keys = []account.APIKey{
		{ID: "key_1", Hash: account.HashKey("the same")},
		{ID: "key_2", Hash: account.HashKey("the same")}, // refused by the database
	}
	if _, err := s.Commit(t.Context(), at, change); err == nil {
		t.Fatal("two keys with one secret were stored")
	}
	after, revision := load(t, s)
	if diff := cmp.Diff(before, after, sameSpec); diff != "" || revision != at {
		t.Errorf("revision %d after %d; changed:\n%s", revision, at, diff)
	}
}

// testConcurrentWriters lets several handles commit and insert at the same time, as replicas and the
// command line do. Every commit must take effect exactly once.
func testConcurrentWriters(t *testing.T, d Database) {
	const writers, commits = 4, 8
	_, first := load(t, d.Open(t))
	var group sync.WaitGroup
	for w := range writers {
		s := d.Open(t)
		group.Go(func() {
			for i := range commits {
				if err := commitSomehow(t.Context(), s, putOrganization(fmt.Sprintf("org-%d-%d", w, i))); err != nil {
					t.Errorf("writer %d: %v", w, err)
					return
				}
			}
		})
		group.Go(func() {
			for i := range commits {
				batch := records(25)
				for j := range batch {
					batch[j].ID = fmt.Sprintf("writer-%d-%d-%d", w, i, j)
				}
				if err := s.InsertRecords(t.Context(), batch); err != nil {
					t.Errorf("inserter %d: %v", w, err)
					return
				}
			}
		})
	}
	group.Wait()
	s := d.Open(t)
	spec, revision := load(t, s)
	if len(spec.Organizations) != writers*commits || revision != first+writers*commits {
		t.Errorf("%d organizations, revision %d after %d", len(spec.Organizations), revision, first)
	}
	total, err := s.Usage(t.Context(), store.UsageQuery{})
	if err != nil || total[0].Requests != writers*commits*25 {
		t.Errorf("usage %+v, %v", total, err)
	}
}

// testOneView loads while another handle commits: what is loaded must be what its revision made.
func testOneView(t *testing.T, d Database) {
	writer, reader := d.Open(t), d.Open(t)
	_, first := load(t, reader)
	const commits = 60
	done := make(chan error, 1)
	go func() {
		var err error
		for i := 0; i < commits && err == nil; i++ {
			name := fmt.Sprintf("n-%d", i)
			change := putOrganization(name)
			change.Put.Policies = []catalog.Policy{{Name: name}} // read last
			err = commitSomehow(t.Context(), writer, change)
		}
		done <- err
	}()
	for revision := first; revision < first+commits; {
		var spec snapshot.Spec
		spec, revision = load(t, reader)
		if n := int(revision - first); len(spec.Organizations) != n || len(spec.Policies) != n {
			t.Fatalf("after %d commits: %d organizations, %d policies", n, len(spec.Organizations), len(spec.Policies))
		}
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// commitSomehow commits at whatever the revision is.
func commitSomehow(ctx context.Context, s *store.Store, change snapshot.Change) error {
	for {
		at, err := s.Revision(ctx)
		if err != nil {
			return err
		}
		if _, err := s.Commit(ctx, at, change); !errors.Is(err, snapshot.ErrStale) {
			return err
		}
	}
}

func testCanceled(t *testing.T, d Database) {
	s := d.Open(t)
	_, at := load(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Commit(ctx, at, putOrganization("never")); !errors.Is(err, context.Canceled) {
		t.Errorf("commit: %v", err)
	}
	if err := s.InsertRecords(ctx, records(3)); !errors.Is(err, context.Canceled) {
		t.Errorf("insert: %v", err)
	}
	if _, _, err := s.Load(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("load: %v", err)
	}
	spec, revision := load(t, s)
	total, err := s.Usage(t.Context(), store.UsageQuery{})
	if err != nil || revision != at || len(spec.Organizations) != 0 || total[0].Requests != 0 {
		t.Errorf("something was stored: revision %d after %d, %d organizations, %+v, %v", revision, at, len(spec.Organizations), total, err)
	}
}
