package app

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"shareai/internal/fault"
	"shareai/internal/store"
	"shareai/internal/usage"
)

// What is older than the retention goes, what is new stays, and a request is counted under the labels of
// its project.
func TestRetentionIsKept(t *testing.T) {
	provider := newProvider(t)
	labelled := strings.Replace(yaml(provider.URL, "good"), "      - name: app\n", "      - name: app\n        labels: {team: search}\n", 1)
	old := usage.Record{ID: "req_old", Start: time.Now().AddDate(0, 0, -9).UnixMicro(), Status: 200}
	var rows *store.Store
	r := run(t, "retention: {records: 7d}\n"+labelled, func(s *Settings) {
		var err error
		if rows, err = store.Open(t.Context(), store.Options{DataDir: filepath.Join(filepath.Dir(s.ConfigFile), "data")}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = rows.Close() })
		if err := rows.InsertRecords(t.Context(), []usage.Record{old}); err != nil {
			t.Fatal(err)
		}
	})
	eventually(t, "the old record is gone", func() bool {
		_, err := rows.Record(t.Context(), old.ID)
		return err != nil && fault.From(err).Kind == fault.NotFound
	})
	got := r.ask(http.MethodPost, "/v1/chat/completions", chat("good"))
	id := got.header.Get("X-Request-Id")
	r.record(id)
	sums, err := rows.Usage(t.Context(), store.UsageQuery{By: []store.Dimension{store.ByLabel("team"), store.ByProviderKey}})
	if err != nil || len(sums) != 2 || sums[1].Values[0] != "search" || sums[1].Values[1] != "main" || sums[1].Requests != 1 {
		t.Errorf("%+v, %v", sums, err)
	}
	if err := rows.RankPrompts(t.Context()); err != nil {
		t.Fatal(err)
	}
	prompts, err := rows.Prompts(t.Context(), store.PromptQuery{})
	if err != nil || len(prompts) != 1 || prompts[0].Example != id || prompts[0].PromptTokens != 10 {
		t.Errorf("%+v, %v", prompts, err)
	}
}
