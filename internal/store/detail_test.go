package store

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"shareai/internal/catalog"
	"shareai/internal/usage"
)

// TestDetailIsWrittenWhole fills every field there is: one that is added to usage.Attempt or
// usage.Candidate and forgotten in what writes it fails here.
func TestDetailIsWrittenWhole(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.Make[recordDetail]().Draw(t, "detail")
		for i := range want.Candidates {
			want.Candidates[i].Grade = rapid.Float64Range(0, 1).Draw(t, "grade")
		}
		k := want.Kinds // the others have columns
		want.Kinds = catalog.Tokens{CacheWrite: k.CacheWrite, CacheWrite1h: k.CacheWrite1h, AudioInput: k.AudioInput, AudioOutput: k.AudioOutput}
		document := appendDetail([]byte("before"), &usage.Record{
			Requested: want.Requested, Policy: want.Policy, Stream: want.Stream, PriceVersion: want.PriceVersion,
			BytesIn: want.BytesIn, BytesOut: want.BytesOut, TraceID: want.TraceID, SpanID: want.SpanID, Attempts: want.Attempts,
			Candidates: want.Candidates, Reason: want.Reason, Resumed: want.Resumed,
			Primary: want.Primary, PrimaryCost: want.PrimaryCost, PrimaryLatency: want.PrimaryLatency,
			Labels: want.Labels, Tokens: want.Kinds,
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

func TestAGradeThatIsNoneIsLeftOut(t *testing.T) {
	t.Parallel()
	for _, grade := range []float64{math.NaN(), math.Inf(1), -1, 2} {
		document := appendDetail(nil, &usage.Record{Candidates: []usage.Candidate{{Deployment: "a", Grade: grade}}})
		if want := `{"candidates":[{"deployment":"a"}]}`; string(document) != want {
			t.Errorf("%v: %s", grade, document)
		}
	}
}
