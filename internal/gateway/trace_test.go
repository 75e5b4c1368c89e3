package gateway

import (
	"net/http"
	"strings"
	"testing"

	"shareai/internal/attempt"
)

func TestReadTraceTakesUpWhatTheSpecificationAllows(t *testing.T) {
	const trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	sampled := attempt.Trace{TraceID: trace, ParentID: parent, Sampled: true}
	unsampled := attempt.Trace{TraceID: trace, ParentID: parent}
	for value, want := range map[string]attempt.Trace{
		"00-" + trace + "-" + parent + "-01":                                sampled,
		"00-" + trace + "-" + parent + "-00":                                unsampled,
		"00-" + trace + "-" + parent + "-fe":                                unsampled,
		"00-" + trace + "-" + parent + "-ff":                                sampled,
		"01-" + trace + "-" + parent + "-01-more":                           sampled, // a later version
		"00-" + trace + "-" + parent + "-01-more":                           {},
		"01-" + trace + "-" + parent + "-011":                               {},
		"ff-" + trace + "-" + parent + "-01":                                {},
		"00-" + strings.ToUpper(trace) + "-" + parent + "-01":               {},
		"00-" + strings.Repeat("0", 32) + "-" + parent + "-01":              {},
		"00-" + trace + "-" + strings.Repeat("0", 16) + "-01":               {},
		"00-" + trace + "-" + strings.Replace(parent, "b", "\n", 1) + "-01": {},
		"00-" + trace + "-" + parent:                                        {},
		"":                                                                  {},
	} {
		if got := readTrace(http.Header{"Traceparent": {value}}); got != want {
			t.Errorf("readTrace(%q) = %+v, want %+v", value, got, want)
		}
	}
	twice := http.Header{"Traceparent": {"00-" + trace + "-" + parent + "-01", "00-" + trace + "-" + parent + "-01"}}
	if got := readTrace(twice); got != (attempt.Trace{}) {
		t.Errorf("two headers were taken up: %+v", got)
	}
}

func TestTheGatewayBeginsATraceOnlyWhereTheCallerSentNone(t *testing.T) {
	own := attempt.Trace{TraceID: strings.Repeat("a", 32), Sampled: true}
	g := New(Options{NewTrace: func() attempt.Trace { return own }})
	if got := g.traceOf(http.Header{}); got != own {
		t.Errorf("without a caller's trace: %+v", got)
	}
	callers := http.Header{"Traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"}}
	if got := g.traceOf(callers); got.TraceID != "0af7651916cd43dd8448eb211c80319c" || got.Sampled {
		t.Errorf("the caller's trace was not taken up: %+v", got)
	}
	if got := New(Options{}).traceOf(http.Header{}); got != (attempt.Trace{}) {
		t.Errorf("a trace began although nothing makes any: %+v", got)
	}
}
