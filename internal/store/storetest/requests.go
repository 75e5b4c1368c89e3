package storetest

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"shareai/internal/fault"
	"shareai/internal/store"
	"shareai/internal/usage"
)

// Whatever the filter and the size of a page, the pages are the records that match, the newest first, over days.
func testRequests(t *testing.T, d Database) {
	s := d.Open(t)
	all := records(60)
	insert(t, s, all)
	slices.Reverse(all)
	for name, c := range map[string]struct {
		query   store.RequestQuery
		matches func(*usage.Record) bool
	}{
		"all":          {store.RequestQuery{}, func(*usage.Record) bool { return true }},
		"organization": {store.RequestQuery{Organization: "acme"}, func(r *usage.Record) bool { return r.Organization == "acme" }},
		"project and key": {
			store.RequestQuery{Project: "web", KeyID: "key_1"}, func(r *usage.Record) bool { return r.Project == "web" && r.KeyID == "key_1" },
		},
		"model":       {store.RequestQuery{Model: "llama", Provider: "beta"}, func(r *usage.Record) bool { return r.Model == "llama" && r.Provider == "beta" }},
		"endpoint":    {store.RequestQuery{Endpoint: "embeddings"}, func(*usage.Record) bool { return false }},
		"route":       {store.RequestQuery{Route: "chat", Drill: "drill_1"}, func(r *usage.Record) bool { return r.Drill == "drill_1" }},
		"code":        {store.RequestQuery{Code: "model_not_found"}, func(r *usage.Record) bool { return r.Code == "model_not_found" }},
		"status":      {store.RequestQuery{Status: 499}, func(r *usage.Record) bool { return r.Status == 499 }},
		"ok":          {store.RequestQuery{Outcome: store.Succeeded}, func(r *usage.Record) bool { return r.Code == "" }},
		"failed":      {store.RequestQuery{Outcome: store.Failed}, func(r *usage.Record) bool { return r.Code != "" && r.Status != 499 }},
		"failed over": {store.RequestQuery{Outcome: store.FailedOver}, func(r *usage.Record) bool { return r.FailedOver() }},
		"range": {
			store.RequestQuery{From: epoch.Add(time.Hour), To: epoch.Add(4 * time.Hour)},
			func(r *usage.Record) bool {
				return r.Start >= epoch.Add(time.Hour).UnixMicro() && r.Start < epoch.Add(4*time.Hour).UnixMicro()
			},
		},
	} {
		var want []string
		for i := range all {
			if c.matches(&all[i]) {
				want = append(want, all[i].ID)
			}
		}
		for _, limit := range []int{1, 7, 1000} {
			var got []string
			query := c.query
			for query.Limit = limit; ; {
				page, next, err := s.Requests(t.Context(), query)
				if err != nil || len(page) > limit {
					t.Fatalf("%s: %d, %v", name, len(page), err)
				}
				for i := range page {
					got = append(got, page[i].ID)
				}
				if query.After = next; next == "" {
					break
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s, %d at a time:\n%s", name, limit, diff)
			}
		}
	}
	for _, place := range []string{"x", "20000", "x y"} {
		if _, _, err := s.Requests(t.Context(), store.RequestQuery{After: place, Limit: 1}); fault.From(err).Code != "invalid_cursor" {
			t.Errorf("%q: %v", place, err)
		}
	}
}
