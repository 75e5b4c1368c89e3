package storetest

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"shareai/internal/catalog"
	"shareai/internal/fault"
	"shareai/internal/store"
	"shareai/internal/usage"
)

var epoch = time.Date(2026, 11, 22, 22, 0, 0, 0, time.UTC)

// records are n different records, ten minutes apart, some of them failures.
func records(n int) []usage.Record {
	all := make([]usage.Record, n)
	for i := range all {
		k := int64(i)
		r := usage.Record{
			Prompt: uint64(i) << 58, // of any sign in the database
			ID:     fmt.Sprintf("req_%012d", i), Start: epoch.UnixMicro() + k*10*60e6, Duration: 1000 + 7*k, FirstToken: 100 + k,
			Organization: []string{"acme", "other"}[i%2], Project: []string{"app", "web", "lab"}[i%3], KeyID: fmt.Sprintf("key_%d", i%4),
			Endpoint: catalog.Chat, Requested: "chat", Route: "chat", Policy: "careful", Model: "llama",
			Provider: []string{"alpha", "beta"}[i/3%2], Stream: i%2 == 0, Status: 200,
			Tokens: catalog.Tokens{
				Prompt: 100 + k, Cached: k, CacheWrite: k % 9, CacheWrite1h: k % 3, AudioInput: k % 4, Completion: 10 * k, Reasoning: k / 2,
				AudioOutput: k % 2, Estimated: i%5 == 0,
			},
			PriceVersion: "a1b2c3", Cost: 1_000_000 + k, BytesIn: 300 + k, BytesOut: 900, TraceID: "4bf9", SpanID: "00f0",
		}
		if i%6 != 0 {
			r.Labels = map[string]string{"team": []string{"search", "it's \"x\""}[i%2], "environment": "production"}
		}
		switch i % 7 {
		case 3: // never reached a provider
			r.Status, r.Code, r.Model, r.Provider, r.FirstToken, r.Cost = 404, "model_not_found", "", "", 0, 0
		case 4:
			r.Status, r.Code = 499, "client_closed_request"
		case 5: // broke off after the headers
			r.Code = "upstream_broken"
		}
		if r.Provider != "" {
			r.Deployment = r.Provider + "/llama"
			r.Attempts = []usage.Attempt{
				{Provider: "gamma", Deployment: "gamma/x", Model: "llama", Outcome: "server_error", Status: 500, Message: "it's \"down\"", Offset: 5, Headers: 6, Duration: 7, Drill: "drill_1"},
				{Provider: r.Provider, Deployment: r.Deployment, Model: "llama", ProviderKey: "main", Outcome: "ok", Status: 200, Offset: 12, FirstToken: 3, Duration: 900, Tokens: r.Tokens, PriceVersion: "a1b2c3", Cost: r.Cost, SpanID: "11", Retry: true, Wait: 250, Hedge: true, Resumes: "prefill", Circuit: "half_open"},
			}
			r.Primary, r.PrimaryCost, r.PrimaryLatency = []string{"gamma/x", "beta/llama"}[i%2], 900_000+k, 80
			r.Candidates = []usage.Candidate{
				{Deployment: "delta/y", Model: "llama", Reason: "region"},
				{Deployment: "gamma/x", Model: "llama"},
				{Deployment: r.Deployment, Model: "qwen", Origin: "equivalent", Grade: 0.92},
			}
			if i%4 == 1 { // it had begun to answer
				failed := &r.Attempts[0]
				failed.Tokens, failed.Cost, failed.ProviderKey = catalog.Tokens{Prompt: 90, CacheWrite: 5, Completion: k}, 777+k, "spare"
				r.Tokens, r.Cost = r.Tokens.Add(failed.Tokens), r.Cost+failed.Cost
			}
			r.Reason, r.Resumed, r.Drill = "server_error at gamma/x", i%4 == 0, []string{"", "drill_1", ""}[i%3]
		}
		all[i] = r
	}
	return all
}

func insert(t *testing.T, s *store.Store, batch []usage.Record) {
	t.Helper()
	if err := s.InsertRecords(t.Context(), batch); err != nil {
		t.Fatalf("insert: %v", err)
	}
}

func total(t *testing.T, s *store.Store) int64 {
	t.Helper()
	rows, err := s.Usage(t.Context(), store.UsageQuery{})
	if err != nil || len(rows) != 1 {
		t.Fatalf("total: %+v, %v", rows, err)
	}
	return rows[0].Requests
}

func testRecordRoundTrip(t *testing.T, d Database) {
	s := d.Open(t)
	batch := records(8)
	batch[1].Content = &usage.Content{Request: []byte("{\x00\xff}"), Answer: []byte("hello"), Truncated: true}
	batch[2].Content = &usage.Content{}
	batch[3] = usage.Record{ID: "nothing set"}
	batch[4].Cost, batch[4].Tokens.Prompt = math.MaxInt64, math.MaxInt64
	insert(t, s, batch)
	for _, want := range batch {
		got, err := s.Record(t.Context(), want.ID)
		if err != nil {
			t.Fatalf("%s: %v", want.ID, err)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s:\n%s", want.ID, diff)
		}
	}
}

func testBatchSizes(t *testing.T, d Database) {
	s := d.Open(t)
	all := records(1000)
	insert(t, s, nil)
	stored := 0
	for _, size := range []int{1, 9, 10, 11, 99, 100, 101, 234, 435} {
		insert(t, s, all[stored:stored+size])
		stored += size
		if got := total(t, s); got != int64(stored) {
			t.Fatalf("after a batch of %d: %d records, want %d", size, got, stored)
		}
	}
}

func testIdempotent(t *testing.T, d Database) {
	s := d.Open(t)
	batch := records(123)
	batch[7].Content = &usage.Content{Request: []byte("first")}
	insert(t, s, batch)
	again := slices.Clone(batch)
	again[7].Content = &usage.Content{Request: []byte("second")}
	for i := range again {
		again[i].Cost++
	}
	insert(t, s, append(again, again[0], usage.Record{ID: "new"}, usage.Record{ID: "new"}))
	if got := total(t, s); got != 124 {
		t.Errorf("%d records, want 124", got)
	}
	for _, want := range []usage.Record{batch[0], batch[7], batch[122]} {
		got, err := s.Record(t.Context(), want.ID)
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); err != nil || diff != "" {
			t.Errorf("the first version did not stay: %v\n%s", err, diff)
		}
	}
}

func testHostileText(t *testing.T, d Database) {
	s := d.Open(t)
	for i, text := range []string{"zero \x00 byte", "not \xff UTF-8", `back\slash 'quote' "double" ?0 $1 ? :name`, "'); DROP TABLE usage_records; --", "\u2028 \U0001F980"} {
		r := records(1)[0]
		r.ID, r.Requested, r.Model, r.Code = fmt.Sprint(i), text, text, text
		r.Attempts = []usage.Attempt{{Message: text}}
		insert(t, s, []usage.Record{r})
		got, err := s.Record(t.Context(), r.ID)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if i >= 2 && (got.Model != text || got.Requested != text || got.Attempts[0].Message != text) {
			t.Errorf("%q came back as %q", text, got.Model)
		}
		rows, err := s.Usage(t.Context(), store.UsageQuery{Model: got.Model, By: []store.Dimension{store.ByModel}})
		if err != nil || len(rows) != 1 || rows[0].Values[0] != got.Model {
			t.Errorf("usage of model %q: %+v, %v", got.Model, rows, err)
		}
	}
}

func testRefusedRecord(t *testing.T, d Database) {
	s := d.Open(t)
	batch := records(4)
	insert(t, s, batch[3:]) // makes the tables of the day
	batch = batch[:3]
	d.Exec(t, "CREATE UNIQUE INDEX only_for_this_test ON usage_records_20261122 (start)")
	batch[2].Start = batch[1].Start
	if err := s.InsertRecords(t.Context(), batch); fault.From(err).Kind != fault.Invalid {
		t.Errorf("a record that can never be stored: %v", err)
	}
	if got := total(t, s); got != 1 {
		t.Errorf("%d records of a refused batch were stored", got-1)
	}
	insert(t, s, batch[:2])
}

func testRecordNotFound(t *testing.T, d Database) {
	_, err := d.Open(t).Record(t.Context(), "req_nobody")
	if fault.From(err).Kind != fault.NotFound {
		t.Errorf("%v", err)
	}
}

func testUnknownDimension(t *testing.T, d Database) {
	_, err := d.Open(t).Usage(t.Context(), store.UsageQuery{By: []store.Dimension{"model; DROP TABLE usage_records"}})
	if fault.From(err).Kind != fault.Invalid {
		t.Errorf("%v", err)
	}
}

// testUsage compares what the database sums up with a plain loop over the same records.
func testUsage(t *testing.T, d Database) {
	s := d.Open(t)
	all := records(300)
	insert(t, s, all)
	at := func(hours int) time.Time { return epoch.Add(time.Duration(hours) * time.Hour) }
	queries := []store.UsageQuery{
		{},
		{From: at(1000)},
		{From: at(3), To: at(9)},
		{From: at(3), To: at(9), By: []store.Dimension{store.ByHour}},
		{To: at(30), By: []store.Dimension{store.ByDay, store.ByStatus}},
		{By: []store.Dimension{store.ByProject, store.ByKey}},
		{Organization: "acme", Project: "web", By: []store.Dimension{store.ByProvider}},
		{KeyID: "key_1", Model: "llama", Provider: "beta", By: []store.Dimension{store.ByDeployment, store.ByRoute}},
	}
	for _, dimension := range append(store.Dimensions, store.ByLabel("team")) {
		queries = append(queries, store.UsageQuery{By: []store.Dimension{dimension}})
	}
	for _, q := range queries {
		got, err := s.Usage(t.Context(), q)
		if err != nil {
			t.Fatalf("%+v: %v", q, err)
		}
		if diff := cmp.Diff(sumUp(all, q), got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%+v:\n%s", q, diff)
		}
	}
}

// part is what a record has where it was answered, or failed says, what it has at a deployment that failed.
type part struct {
	usage.Record
	failed bool
}

func parts(all []usage.Record) []part {
	var list []part
	for _, r := range all {
		for i := range r.Attempts {
			a := r.Attempts[i]
			if a.Cost == 0 || a.Deployment == r.Deployment {
				continue
			}
			at := r
			at.Provider, at.Deployment, at.Tokens, at.Cost, at.Attempts = a.Provider, a.Deployment, a.Tokens, a.Cost, []usage.Attempt{a}
			list = append(list, part{at, true})
			r.Tokens.Prompt -= a.Tokens.Prompt
			r.Tokens.CacheWrite -= a.Tokens.CacheWrite
			r.Tokens.Completion -= a.Tokens.Completion
			r.Cost -= a.Cost
		}
		list = append(list, part{r, false})
	}
	return list
}

func sumUp(all []usage.Record, q store.UsageQuery) []store.UsageRow {
	type sum struct {
		row                  store.UsageRow
		durations, firsts, n int64
	}
	groups := map[string]*sum{}
	if len(q.By) == 0 {
		groups["[]"] = &sum{}
	}
	for _, p := range parts(all) {
		r := &p.Record
		if !selects(q, r) {
			continue
		}
		values := []string{}
		for _, d := range q.By {
			values = append(values, value(d, r))
		}
		id := fmt.Sprint(values)
		if groups[id] == nil {
			groups[id] = &sum{row: store.UsageRow{Values: values}}
		}
		g := groups[id]
		u := &g.row
		u.PromptTokens += r.Tokens.Prompt
		u.CachedTokens += r.Tokens.Cached
		u.CacheWriteTokens += r.Tokens.CacheWrite
		u.CacheWrite1hTokens += r.Tokens.CacheWrite1h
		u.AudioInputTokens += r.Tokens.AudioInput
		u.CompletionTokens += r.Tokens.Completion
		u.ReasoningTokens += r.Tokens.Reasoning
		u.AudioOutputTokens += r.Tokens.AudioOutput
		u.Cost += r.Cost
		if p.failed {
			continue
		}
		u.Requests++
		u.Failures += one(r.Code != "" && r.Status != 499)
		u.Canceled += one(r.Status == 499)
		u.FailedOver += one(r.Deployment != "" && r.Deployment != r.Primary)
		u.Estimated += one(r.Tokens.Estimated)
		g.durations += r.Duration
		g.firsts += r.FirstToken
		g.n += one(r.FirstToken > 0)
		u.MeanDuration = time.Duration(g.durations/u.Requests) * time.Microsecond
		u.MeanFirstToken = time.Duration(g.firsts/max(g.n, 1)) * time.Microsecond
	}
	var rows []store.UsageRow
	for _, g := range groups {
		rows = append(rows, g.row)
	}
	slices.SortFunc(rows, func(a, b store.UsageRow) int { return slices.Compare(a.Values, b.Values) })
	return rows
}

func selects(q store.UsageQuery, r *usage.Record) bool {
	start := time.UnixMicro(r.Start)
	return (q.From.IsZero() || !start.Before(q.From)) && (q.To.IsZero() || start.Before(q.To)) &&
		(q.Organization == "" || q.Organization == r.Organization) && (q.Project == "" || q.Project == r.Project) &&
		(q.KeyID == "" || q.KeyID == r.KeyID) && (q.Model == "" || q.Model == r.Model) &&
		(q.Provider == "" || q.Provider == r.Provider)
}

func value(d store.Dimension, r *usage.Record) string {
	start := time.UnixMicro(r.Start).UTC()
	return map[store.Dimension]string{
		store.ByModel: r.Model, store.ByProvider: r.Provider, store.ByDeployment: r.Deployment, store.ByRoute: r.Route,
		store.ByKey: r.KeyID, store.ByProject: r.Organization + "/" + r.Project, store.ByOrganization: r.Organization,
		store.ByProviderKey: r.ProviderKey(), store.ByLabel("team"): r.Labels["team"], store.ByLabel("environment"): r.Labels["environment"],
		store.ByEndpoint: string(r.Endpoint), store.ByStatus: fmt.Sprint(r.Status), store.ByDrill: r.Drill,
		store.ByDay: start.Format(time.DateOnly), store.ByHour: start.Format("2006-01-02T15"),
	}[d]
}

func one(is bool) int64 {
	if is {
		return 1
	}
	return 0
}
