package store

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"shareai/internal/usage"
)

// TestDetailIsWrittenWhole fills every field there is: one that is added to usage.Attempt and forgotten
// in appendAttempt fails here.
func TestDetailIsWrittenWhole(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.Make[recordDetail]().Draw(t, "detail")
		document := appendDetail([]byte("before"), &usage.Record{
			Requested: want.Requested, Policy: want.Policy, Stream: want.Stream, PriceVersion: want.PriceVersion,
			BytesIn: want.BytesIn, BytesOut: want.BytesOut, TraceID: want.TraceID, SpanID: want.SpanID, Attempts: want.Attempts,
		})
		var got recordDetail
		if err := json.Unmarshal([]byte(strings.TrimPrefix(string(document), "before")), &got); err != nil {
			t.Fatalf("%v in %s", err, document)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("%s\n%s", document, diff)
		}
	})
}
