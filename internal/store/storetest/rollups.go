package storetest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"shareai/internal/catalog"
	"shareai/internal/fault"
	"shareai/internal/store"
	"shareai/internal/usage"
)

var byEverything = append(slices.Clone(store.Dimensions), store.ByLabel("team"), store.ByLabel("environment"))

// testSumsAgree sends batches of any cut, some of them again, in any order: the sums are those of the
// records, to the nano-dollar, whatever they are grouped by.
func testSumsAgree(t *testing.T, d Database) {
	s := d.Open(t)
	all := records(200) // over three days
	rapid.Check(t, func(t *rapid.T) {
		from := rapid.IntRange(0, len(all)-1).Draw(t, "from")
		batch := slices.Clone(all[from:rapid.IntRange(from, len(all)).Draw(t, "to")])
		if rapid.Bool().Draw(t, "backwards") {
			slices.Reverse(batch)
		}
		if err := s.InsertRecords(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	})
	insert(t, s, all)
	for _, by := range [][]store.Dimension{nil, {store.ByDay}, {store.ByHour}, byEverything} {
		q := store.UsageQuery{By: by}
		got, err := s.Usage(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(sumUp(all, q), got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("by %v:\n%s", by, diff)
		}
	}
}

// testAnyRange asks for ranges that begin and end anywhere.
func testAnyRange(t *testing.T, d Database) {
	s := d.Open(t)
	all := records(600)
	insert(t, s, all)
	rapid.Check(t, func(t *rapid.T) {
		hour := func(name string) time.Time {
			return epoch.Add(time.Duration(rapid.IntRange(-30, 130).Draw(t, name)) * time.Hour)
		}
		q := store.UsageQuery{From: hour("from"), To: hour("to"), By: rapid.SampledFrom([][]store.Dimension{
			{store.ByModel}, {store.ByDay, store.ByProvider}, {store.ByHour}, {store.ByLabel("team")},
		}).Draw(t, "by")}
		got, err := s.Usage(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(sumUp(all, q), got, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("%s to %s by %v:\n%s", q.From, q.To, q.By, diff)
		}
	})
}

// Half an hour counts as the hour that it is a part of.
func testWholeHours(t *testing.T, d Database) {
	s := d.Open(t)
	insert(t, s, records(13)) // 22:00 to 24:00 in steps of ten minutes
	for _, c := range []struct {
		from, to time.Duration // from 22:00
		want     int64
	}{{0, time.Hour, 6}, {30 * time.Minute, time.Hour, 6}, {time.Hour, 61 * time.Minute, 6}, {time.Hour, 2*time.Hour + time.Microsecond, 7}} {
		rows, err := s.Usage(t.Context(), store.UsageQuery{From: epoch.Add(c.from), To: epoch.Add(c.to)})
		if err != nil || rows[0].Requests != c.want {
			t.Errorf("%s to %s: %+v, %v", c.from, c.to, rows, err)
		}
	}
}

func testAbsurdRecord(t *testing.T, d Database) {
	s := d.Open(t)
	batch := records(3)
	batch[0].Cost, batch[0].Tokens.Prompt, batch[0].Duration = 1<<63-1, 1<<63-1, -1<<63
	batch[1].Start = 1<<63 - 1
	batch[2].Start = -1 << 63
	for i := range 20 { // without a bound, the sums would not fit
		batch[0].ID = fmt.Sprint("absurd ", i)
		insert(t, s, batch)
	}
	if got := total(t, s); got != 22 {
		t.Errorf("%d records", got)
	}
	rows, err := s.Usage(t.Context(), store.UsageQuery{By: []store.Dimension{store.ByDay}})
	if err != nil || len(rows) != 3 || rows[0].Values[0] != "1970-01-01" || rows[2].Values[0] != "9999-12-31" {
		t.Errorf("%+v, %v", rows, err)
	}
	if got, err := s.Record(t.Context(), batch[1].ID); err != nil || got.Start != batch[1].Start {
		t.Errorf("%+v, %v", got, err)
	}
}

// testReplicasSumUp has replicas store different records of the same days and series at the same time, and
// some of each other's.
func testReplicasSumUp(t *testing.T, d Database) {
	const replicas = 4
	all := records(400)
	stored := make(chan error)
	for n := range replicas {
		s := d.Open(t)
		go func() {
			var err error
			for from := 0; from < len(all) && err == nil; from += 40 {
				at := (from + n*100) % len(all)
				err = s.InsertRecords(t.Context(), all[at:min(at+20+10*n, len(all))])
			}
			stored <- err
		}()
	}
	for range replicas {
		if err := <-stored; err != nil {
			t.Error(err)
		}
	}
	s := d.Open(t)
	insert(t, s, all)
	q := store.UsageQuery{By: byEverything}
	got, err := s.Usage(t.Context(), q)
	if diff := cmp.Diff(sumUp(all, q), got, cmpopts.EquateEmpty()); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}

// testNarrowHours has hours as the version before made them, without cache writes and audio: they can be read, that version
// can add to them, and so can this one.
func testNarrowHours(t *testing.T, d Database) {
	s := d.Open(t)
	all := records(30) // from November 22, 22:00 on; the next day has a table of its own
	insert(t, s, all)
	kinds := []string{"cache_write_tokens", "cache_write_1h_tokens", "audio_input_tokens", "audio_output_tokens"}
	for _, column := range kinds {
		d.Exec(t, "ALTER TABLE usage_hours_20261122 DROP COLUMN "+column)
	}
	d.Exec(t, "DROP TABLE usage_times_20261122")
	d.Exec(t, "UPDATE usage_partitions SET layout = 1 WHERE day = $1", epoch.Unix()/86_400)
	q := store.UsageQuery{By: []store.Dimension{store.ByHour, store.ByDeployment}}
	want := sumUp(all, q)
	for i := range want {
		if strings.HasPrefix(want[i].Values[0], "2026-11-22") {
			want[i].CacheWriteTokens, want[i].CacheWrite1hTokens, want[i].AudioInputTokens, want[i].AudioOutputTokens = 0, 0, 0, 0
		}
	}
	check := func() {
		t.Helper()
		got, err := s.Usage(t.Context(), q)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%v\n%s", err, diff)
		}
	}
	check()
	// Two replicas find out at the same time that something is missing.
	done := make(chan error)
	for n := range 2 {
		other, late := d.Open(t), records(1)
		late[0].ID, late[0].Tokens.CacheWrite = fmt.Sprint("late ", n), 70
		go func() { done <- other.InsertRecords(t.Context(), late) }()
	}
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	rows, err := s.Usage(t.Context(), store.UsageQuery{By: []store.Dimension{store.ByHour}, To: epoch.Add(time.Hour)})
	if err != nil || len(rows) != 1 || rows[0].Requests != 8 || rows[0].CacheWriteTokens != 140 {
		t.Errorf("%+v, %v", rows, err)
	}
}

// testFailedAttempts: what a failed attempt cost is counted where it failed, under the key that it used, and no request is.
// The model stays the one that answered, whose budget counts all of it.
func testFailedAttempts(t *testing.T, d Database) {
	s := d.Open(t)
	r := records(1)[0]
	tokens := func(n int64) catalog.Tokens { return catalog.Tokens{Prompt: n, Completion: n, AudioOutput: n} }
	r.Model, r.Provider, r.Deployment, r.Tokens, r.Cost = "small", "alpha", "alpha/small", tokens(111), 111
	r.Attempts = []usage.Attempt{
		{Provider: "beta", Deployment: "beta/large", Model: "large", ProviderKey: "b", Tokens: tokens(1), Cost: 1},
		{Provider: "alpha", Deployment: "alpha/small", Model: "small", ProviderKey: "one", Tokens: tokens(10), Cost: 10},
		{Provider: "beta", Deployment: "beta/large", Model: "large", ProviderKey: "b"},
		{Provider: "alpha", Deployment: "alpha/small", Model: "small", ProviderKey: "two", Tokens: tokens(100), Cost: 100, Outcome: "ok"},
	}
	nobody := r // what a record does not have, its attempts can not add
	nobody.ID, nobody.Model, nobody.Provider, nobody.Deployment, nobody.Code, nobody.Cost = "nobody", "", "", "", "failed", 5
	insert(t, s, []usage.Record{r, nobody})
	row := func(tokens, requests, failures, cost int64, values ...string) store.UsageRow {
		return store.UsageRow{
			Values: values, Requests: requests, Failures: failures, PromptTokens: tokens, CompletionTokens: tokens, AudioOutputTokens: tokens, Cost: cost,
		}
	}
	for _, c := range []struct {
		by   []store.Dimension
		want []store.UsageRow
	}{
		{[]store.Dimension{store.ByModel, store.ByDeployment, store.ByProviderKey}, []store.UsageRow{
			row(0, 1, 1, 0, "", "", ""),
			row(10, 0, 0, 4, "", "alpha/small", "one"), row(100, 0, 0, 0, "", "alpha/small", "two"), row(1, 0, 0, 1, "", "beta/large", "b"),
			row(10, 0, 0, 10, "small", "alpha/small", "one"), row(100, 1, 0, 100, "small", "alpha/small", "two"), row(1, 0, 0, 1, "small", "beta/large", "b"),
		}},
		{[]store.Dimension{store.ByModel}, []store.UsageRow{row(111, 1, 1, 5, ""), row(111, 1, 0, 111, "small")}},
		{nil, []store.UsageRow{row(222, 2, 1, 116)}},
	} {
		got, err := s.Usage(t.Context(), store.UsageQuery{By: c.by})
		same := cmp.Options{cmpopts.EquateEmpty(), cmpopts.IgnoreFields(store.UsageRow{}, "MeanDuration", "MeanFirstToken", "FailedOver", "Estimated")}
		if diff := cmp.Diff(c.want, got, same); err != nil || diff != "" {
			t.Errorf("by %v: %v\n%s", c.by, err, diff)
		}
	}
}

// testRetention drops the days that have ended, and nothing else: their sums stay.
func testRetention(t *testing.T, d Database) {
	s, other := d.Open(t), d.Open(t) // another replica, which has statements for the tables that go
	all := records(400)              // November 22, 22:00 to 25, 16:30
	all[0].Content = &usage.Content{Request: []byte("hello")}
	insert(t, s, all[:200])
	insert(t, other, all[200:])
	before := sumUp(all, store.UsageQuery{By: []store.Dimension{store.ByModel}})
	if n, err := s.DropRecords(t.Context(), epoch); err != nil || n != 0 {
		t.Fatalf("dropped %d days before there were any, %v", n, err)
	}
	if n, err := other.DropRecords(t.Context(), epoch.Add(26*time.Hour)); err != nil || n != 2 {
		t.Fatalf("dropped %d days, want the two that had ended by November 24: %v", n, err)
	}
	for i, gone := range map[int]bool{0: true, 155: true, 156: false, 399: false} {
		if _, err := s.Record(t.Context(), all[i].ID); gone != (err != nil && fault.From(err).Kind == fault.NotFound) {
			t.Errorf("record %d of %s: %v", i, time.UnixMicro(all[i].Start).UTC(), err)
		}
	}
	after, err := s.Usage(t.Context(), store.UsageQuery{By: []store.Dimension{store.ByModel}})
	if diff := cmp.Diff(before, after); err != nil || diff != "" {
		t.Errorf("the sums have changed: %v\n%s", err, diff)
	}
	// A journal may bring records of a day that is gone. The first call may find the table missing.
	late := records(1)
	late[0].ID = "late"
	if err := s.InsertRecords(t.Context(), late); err != nil {
		insert(t, s, late)
	}
	if got := total(t, s); got != 401 {
		t.Errorf("%d records are counted, want 401", got)
	}
}

// testPrompts ranks by cost, and by tokens where nothing costs anything.
func testPrompts(t *testing.T, d Database) {
	s := d.Open(t)
	all := records(300)
	for i := range all {
		all[i].Prompt = []uint64{1<<63 + 5, 7, 9, 0}[i%4]
		all[i].Model, all[i].Project = "llama", "app"
		all[i].Cost = []int64{100, 300, 0, 1000}[i%4]
		all[i].Tokens.Prompt, all[i].Tokens.Completion = 10, 1
	}
	all[2].Model = "" // nobody answered
	insert(t, s, all)
	for range 2 { // again, as the job does
		if err := s.RankPrompts(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.Prompts(t.Context(), store.PromptQuery{})
	want := []store.PromptRow{
		{Prompt: "0000000000000007", Project: "other/app", Model: "llama", Requests: 75, PromptTokens: 750, CompletionTokens: 75, Cost: 22_500, Example: all[297].ID},
		{Prompt: "8000000000000005", Project: "acme/app", Model: "llama", Requests: 75, PromptTokens: 750, CompletionTokens: 75, Cost: 7_500, Example: all[296].ID},
		{Prompt: "0000000000000009", Project: "acme/app", Model: "llama", Requests: 74, PromptTokens: 740, CompletionTokens: 74, Example: all[298].ID},
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	got, err = s.Prompts(t.Context(), store.PromptQuery{From: epoch, To: epoch.Add(2 * time.Hour), Project: "app", Limit: 1})
	if err != nil || len(got) != 1 || got[0].Requests != 3 { // ten minutes apart, of which each fourth is it
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := s.DropRecords(t.Context(), epoch.Add(100*24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Prompts(t.Context(), store.PromptQuery{}); err != nil || len(got) != 0 {
		t.Errorf("after their records: %+v, %v", got, err)
	}
}

func testTurns(t *testing.T, d Database) {
	replicas := []*store.Store{d.Open(t), d.Open(t), d.Open(t)}
	taken := make(chan bool)
	for _, s := range replicas {
		go func() {
			ok, err := s.Turn(t.Context(), "retention", time.Hour)
			if err != nil {
				t.Error(err)
			}
			taken <- ok
		}()
	}
	turns := 0
	for range replicas {
		if <-taken {
			turns++
		}
	}
	if turns != 1 {
		t.Errorf("%d replicas took the turn", turns)
	}
	if ok, err := replicas[0].Turn(t.Context(), "another", time.Hour); err != nil || !ok {
		t.Errorf("another job: %t, %v", ok, err)
	}
	// A replica whose clock was days ahead has taken a turn.
	d.Exec(t, "UPDATE job_turns SET taken_at = taken_at + $1 WHERE job = $2", (72 * time.Hour).Microseconds(), "another")
	if ok, err := replicas[1].Turn(t.Context(), "another", time.Hour); err != nil || !ok {
		t.Errorf("the job waits for a clock: %v, %v", ok, err)
	}
	if ok, err := replicas[1].Turn(t.Context(), "retention", 0); err != nil || !ok {
		t.Errorf("the next turn: %t, %v", ok, err)
	}
}
