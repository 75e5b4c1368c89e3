package storetest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"shareai/internal/store"
	"shareai/internal/usage"
)

// testTimes holds the percentiles of any range and grouping against those of the records: they differ by a bucket.
func testTimes(t *testing.T, d Database) {
	s := d.Open(t)
	var all []usage.Record
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 6000 {
		deployment := i % 2
		r := usage.Record{
			ID: fmt.Sprintf("req_%06d", i), Start: epoch.Add(time.Duration(i) * 30 * time.Second).UnixMicro(), // fifty hours
			Model: "llama", Deployment: []string{"alpha/llama", "beta/llama"}[deployment], Organization: "acme", Project: "app",
			Duration: int64(math.Exp(random.NormFloat64()*0.7) * 800_000 * float64(1+deployment)),
		}
		if i%3 > 0 {
			r.FirstToken = r.Duration / 4
		}
		all = append(all, r)
	}
	insert(t, s, all[:4000])
	insert(t, s, all[1000:]) // what comes again counts once
	for _, q := range []store.UsageQuery{
		{By: []store.Dimension{store.ByDeployment}},
		{By: []store.Dimension{store.ByDeployment, store.ByDay}},
		{By: []store.Dimension{store.ByHour}},
		{By: []store.Dimension{store.ByModel}, From: epoch.Add(5 * time.Hour), To: epoch.Add(47 * time.Hour)},
		{},
	} {
		rows, err := s.Times(t.Context(), q)
		if err != nil || len(rows) == 0 {
			t.Fatalf("%v: %d rows, %v", q.By, len(rows), err)
		}
		if sums := usageOf(t, s, q); len(sums) != len(rows) {
			t.Errorf("by %v: %d rows of times and %d of sums", q.By, len(rows), len(sums))
		}
		for _, row := range rows {
			var durations, firstTokens []int64
			for _, r := range all {
				if !q.From.IsZero() && (r.Start < q.From.UnixMicro() || r.Start >= q.To.UnixMicro()) || !slices.Equal(row.Values, valuesOf(&r, q.By)) {
					continue
				}
				durations = append(durations, r.Duration)
				if r.FirstToken > 0 {
					firstTokens = append(firstTokens, r.FirstToken)
				}
			}
			near(t, fmt.Sprint(row.Values), row.Duration, durations)
			near(t, fmt.Sprint(row.Values, " first token"), row.FirstToken, firstTokens)
		}
	}
	if _, err := s.DropRecords(t.Context(), epoch.Add(10*24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if rows, err := s.Times(t.Context(), store.UsageQuery{By: []store.Dimension{store.ByDeployment}}); err != nil || len(rows) != 2 {
		t.Errorf("times of days are gone with the records: %v, %v", rows, err)
	}
}

func usageOf(t *testing.T, s *store.Store, q store.UsageQuery) []store.UsageRow {
	t.Helper()
	rows, err := s.Usage(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func valuesOf(r *usage.Record, by []store.Dimension) []string {
	values := []string{}
	for _, d := range by {
		start := time.UnixMicro(r.Start).UTC()
		values = append(values, map[store.Dimension]string{
			store.ByDeployment: r.Deployment, store.ByModel: r.Model, store.ByDay: start.Format("2006-01-02"), store.ByHour: start.Format("2006-01-02T15"),
		}[d])
	}
	return values
}

// near allows the width of a bucket.
func near(t *testing.T, what string, got store.Percentiles, of []int64) {
	t.Helper()
	if len(of) == 0 {
		t.Fatalf("%s: no record", what)
	}
	slices.Sort(of)
	for share, time := range map[float64]time.Duration{0.5: got.P50, 0.95: got.P95, 0.99: got.P99} {
		want := float64(of[int(math.Ceil(share*float64(len(of))))-1])
		if ratio := float64(time.Microseconds()) / want; ratio < 0.84 || ratio > 1.19 {
			t.Errorf("%s: %s at %v, want %.0f µs", what, time, share, want)
		}
	}
}
