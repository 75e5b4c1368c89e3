package telemetry

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"shareai/internal/catalog"
	"shareai/internal/usage"
)

// receiver is an OTLP/HTTP collector that keeps what it gets.
type receiver struct {
	*httptest.Server
	mu       sync.Mutex
	raw      bytes.Buffer
	resource map[string]any
	spans    map[string]*tracepb.Span // by span id
}

func startReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{spans: map[string]*tracepb.Span{}}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		if request.URL.Path != "/v1/traces" || request.Header.Get("Content-Type") != "application/x-protobuf" {
			t.Errorf("the collector was asked %s with %s", request.URL, request.Header.Get("Content-Type"))
		}
		if err := r.take(request); err != nil {
			t.Errorf("an export does not decode: %v", err)
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) take(request *http.Request) error {
	var from io.Reader = request.Body
	if request.Header.Get("Content-Encoding") == "gzip" {
		unzip, err := gzip.NewReader(from)
		if err != nil {
			return err
		}
		from = unzip
	}
	body, err := io.ReadAll(from)
	if err != nil {
		return err
	}
	var export collectorpb.ExportTraceServiceRequest
	if err := proto.Unmarshal(body, &export); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.raw.Write(body)
	for _, resource := range export.GetResourceSpans() {
		r.resource = values(resource.GetResource().GetAttributes())
		for _, scope := range resource.GetScopeSpans() {
			for _, span := range scope.GetSpans() {
				r.spans[hex.EncodeToString(span.GetSpanId())] = span
			}
		}
	}
	return nil
}

func values(list []*commonpb.KeyValue) map[string]any {
	m := map[string]any{}
	for _, kv := range list {
		switch v := kv.GetValue().GetValue().(type) {
		case *commonpb.AnyValue_StringValue:
			m[kv.GetKey()] = v.StringValue
		case *commonpb.AnyValue_IntValue:
			m[kv.GetKey()] = v.IntValue
		case *commonpb.AnyValue_DoubleValue:
			m[kv.GetKey()] = v.DoubleValue
		case *commonpb.AnyValue_BoolValue:
			m[kv.GetKey()] = v.BoolValue
		case *commonpb.AnyValue_ArrayValue:
			list := []any{}
			for _, one := range v.ArrayValue.GetValues() {
				list = append(list, one.GetStringValue())
			}
			m[kv.GetKey()] = list
		}
	}
	return m
}

func newTraces(t *testing.T, endpoint string, log *slog.Logger) *Traces {
	t.Helper()
	traces, err := NewTraces(t.Context(), TraceOptions{Endpoint: endpoint, Version: "1.2.3", Log: log})
	if err != nil {
		t.Fatal(err)
	}
	return traces
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// exported are the spans that a collector has received of the given records.
func exported(t *testing.T, records ...*usage.Record) *receiver {
	t.Helper()
	r := startReceiver(t)
	traces := newTraces(t, r.URL, discard())
	for _, record := range records {
		traces.Observe(record)
	}
	if err := traces.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestSpansHaveTheIDsAndTimesOfTheRecord(t *testing.T) {
	record := answered()
	r := exported(t, record)
	if len(r.spans) != 3 {
		t.Fatalf("%d spans, want one for the request and one for each of two attempts", len(r.spans))
	}
	const none = ""
	for _, want := range []struct {
		id, parent, name string
		kind             tracepb.Span_SpanKind
		start, end       int64 // microseconds from the record's start
		status           tracepb.Status_StatusCode
		says             string
	}{
		{record.SpanID, record.ParentID, "POST /v1/chat/completions", tracepb.Span_SPAN_KIND_SERVER, 0, 2_500_000, tracepb.Status_STATUS_CODE_UNSET, none},
		{"1111111111111111", record.SpanID, "chat llama-70b", tracepb.Span_SPAN_KIND_CLIENT, 1_000, 101_000, tracepb.Status_STATUS_CODE_ERROR, "server_error"},
		{"2222222222222222", record.SpanID, "chat meta-llama", tracepb.Span_SPAN_KIND_CLIENT, 110_000, 2_410_000, tracepb.Status_STATUS_CODE_UNSET, none},
	} {
		span := r.spans[want.id]
		if span == nil {
			t.Errorf("no span %s", want.id)
			continue
		}
		if got := hex.EncodeToString(span.GetTraceId()); got != record.TraceID {
			t.Errorf("%s: trace %s", want.name, got)
		}
		if got := hex.EncodeToString(span.GetParentSpanId()); got != want.parent {
			t.Errorf("%s: parent %s, want %s", want.name, got, want.parent)
		}
		if span.GetName() != want.name || span.GetKind() != want.kind {
			t.Errorf("span %s is %q (%s), want %q (%s)", want.id, span.GetName(), span.GetKind(), want.name, want.kind)
		}
		start, end := int64(span.GetStartTimeUnixNano()/1000)-record.Start, int64(span.GetEndTimeUnixNano()/1000)-record.Start
		if start != want.start || end != want.end {
			t.Errorf("%s: from %d to %d, want %d to %d", want.name, start, end, want.start, want.end)
		}
		if span.GetStatus().GetCode() != want.status || span.GetStatus().GetMessage() != want.says {
			t.Errorf("%s: status %v", want.name, span.GetStatus())
		}
	}
}

func TestSpansSayWhatTheConventionsAskFor(t *testing.T) {
	record := answered()
	r := exported(t, record)
	for id, want := range map[string]map[string]any{
		record.SpanID: {
			"http.request.method": "POST", "http.route": "/v1/chat/completions", "http.response.status_code": int64(200),
			"gen_ai.operation.name": "chat", "gen_ai.request.model": "chat", "gen_ai.response.model": "llama", "gen_ai.request.stream": true,
			"shareai.request_id": "req_1", "shareai.organization": "acme", "shareai.project": "app", "shareai.key_id": "key_1",
			"shareai.route": "chat", "shareai.policy": "careful", "shareai.provider": "beta", "shareai.deployment": "beta/meta-llama",
			"shareai.attempts": int64(2), "shareai.cost_usd": 0.0015,
		},
		"1111111111111111": {
			"gen_ai.operation.name": "chat", "gen_ai.provider.name": "alpha", "gen_ai.request.model": "llama-70b", "gen_ai.request.stream": true,
			"http.response.status_code": int64(500), "error.type": "server_error", "shareai.outcome": "server_error", "shareai.attempt.kind": "first",
			"shareai.model": "llama", "shareai.deployment": "alpha/llama-70b", "shareai.provider_key": "main",
		},
		"2222222222222222": {
			"gen_ai.operation.name": "chat", "gen_ai.provider.name": "beta", "gen_ai.request.model": "meta-llama", "gen_ai.request.stream": true,
			"gen_ai.response.time_to_first_chunk": 0.19, "http.response.status_code": int64(200),
			"gen_ai.usage.input_tokens": int64(110), "gen_ai.usage.cache_read.input_tokens": int64(40),
			"gen_ai.usage.output_tokens": int64(20), "gen_ai.usage.reasoning.output_tokens": int64(5),
			"shareai.tokens_estimated": false, "shareai.cost_usd": 0.0015, "shareai.price_version": "p1",
			"shareai.outcome": "ok", "shareai.attempt.kind": "first", "shareai.model": "llama", "shareai.deployment": "beta/meta-llama",
		},
	} {
		if diff := cmp.Diff(want, values(r.spans[id].GetAttributes())); diff != "" {
			t.Errorf("span %s (-want +got):\n%s", id, diff)
		}
	}
	if r.resource["service.name"] != "shareai" || r.resource["service.version"] != "1.2.3" {
		t.Errorf("resource %v", r.resource)
	}
}

func TestSpansSayHowAFailoverWent(t *testing.T) {
	record := rehearsed()
	for i := range record.Attempts {
		record.Attempts[i].SpanID = strings.Repeat(strconv.Itoa(i+1), 16)
	}
	r := exported(t, record)
	span := r.spans[record.SpanID]
	contains(t, values(span.GetAttributes()), map[string]any{
		"shareai.drill": "drill_1", "shareai.resumed": true, "shareai.primary": "alpha/llama-70b", "shareai.failover.cause": "server_error",
		"shareai.candidates": []any{"alpha/llama-70b", "gamma/x", "beta/meta-llama"}, "shareai.difference.cost_usd": 0.0005,
		"shareai.difference.lost_seconds": 0.309, "shareai.difference.usual_seconds": 0.1,
	})
	for id, want := range map[string]map[string]any{
		"1111111111111111": {"shareai.attempt.kind": "first", "shareai.drill": "drill_1"},
		"2222222222222222": {"shareai.attempt.kind": "retry", "shareai.attempt.wait_seconds": 0.005, "shareai.attempt.circuit": "half_open"},
		"3333333333333333": {"shareai.attempt.kind": "hedge"},
		"4444444444444444": {"shareai.attempt.kind": "resume", "shareai.attempt.resumes": "prefill"},
	} {
		contains(t, values(r.spans[id].GetAttributes()), want)
	}
	events := span.GetEvents()
	if len(events) != 2 {
		t.Fatalf("%d events, want one for each of two excluded candidates", len(events))
	}
	want := map[string]any{
		"shareai.candidate.reason": "price", "shareai.deployment": "delta/qwen", "shareai.model": "qwen",
		"shareai.candidate.origin": "equivalent", "shareai.candidate.grade": 0.92,
	}
	if diff := cmp.Diff(want, values(events[1].GetAttributes())); diff != "" || events[1].GetName() != "candidate excluded" {
		t.Errorf("%s:\n%s", events[1].GetName(), diff)
	}
}

// contains says which wanted values are not there, or are others.
func contains(t *testing.T, got, want map[string]any) {
	t.Helper()
	for key, value := range want {
		if diff := cmp.Diff(value, got[key], cmpopts.EquateApprox(0, 1e-9)); diff != "" {
			t.Errorf("%s: %s", key, diff)
		}
	}
}

func TestOurAttributeNamesAreThoseOfTheConventions(t *testing.T) {
	for ours, theirs := range map[attribute.Key]attribute.Key{
		genAIOperation: semconv.GenAIOperationNameKey, genAIProvider: semconv.GenAIProviderNameKey,
		genAIRequestModel: semconv.GenAIRequestModelKey, genAIStream: semconv.GenAIRequestStreamKey,
		genAIAnswerModel: semconv.GenAIResponseModelKey, genAIFirstChunk: semconv.GenAIResponseTimeToFirstChunkKey,
		genAIInput: semconv.GenAIUsageInputTokensKey, genAICached: semconv.GenAIUsageCacheReadInputTokensKey,
		genAIOutput: semconv.GenAIUsageOutputTokensKey, genAIReasoning: semconv.GenAIUsageReasoningOutputTokensKey,
		httpMethod: semconv.HTTPRequestMethodKey, httpRoute: semconv.HTTPRouteKey,
		httpStatus: semconv.HTTPResponseStatusCodeKey, errorType: semconv.ErrorTypeKey,
	} {
		if ours != theirs {
			t.Errorf("%q should be %q", ours, theirs)
		}
	}
}

func TestAFailedRequestIsAFailedSpan(t *testing.T) {
	record := answered()
	record.ParentID, record.Status, record.Code, record.Model = "", 502, "provider_error", ""
	refused := answered()
	refused.SpanID, refused.Status, refused.Code, refused.Attempts = "3333333333333333", 404, "no such model: my diagnosis", nil
	r := exported(t, record, refused)
	span := r.spans[record.SpanID]
	if span.GetStatus().GetCode() != tracepb.Status_STATUS_CODE_ERROR || values(span.GetAttributes())["error.type"] != "provider_error" {
		t.Errorf("status %v, attributes %v", span.GetStatus(), values(span.GetAttributes()))
	}
	if len(span.GetParentSpanId()) != 0 {
		t.Errorf("a request without a caller's span has parent %x", span.GetParentSpanId())
	}
	span = r.spans[refused.SpanID]
	if span.GetStatus().GetCode() == tracepb.Status_STATUS_CODE_ERROR || values(span.GetAttributes())["error.type"] != "other" {
		t.Errorf("a client's mistake: status %v, attributes %v", span.GetStatus(), values(span.GetAttributes()))
	}
}

func TestSpansHoldNothingThatWasSaid(t *testing.T) {
	record := answered()
	record.Content = &usage.Content{Request: []byte("what is my diagnosis"), Answer: []byte("the diagnosis is")}
	if r := exported(t, record); strings.Contains(r.raw.String(), "diagnosis") {
		t.Error("content or the text of an error was exported")
	}
}

func TestWhoDoesNotAskForSpansGetsNone(t *testing.T) {
	untraced, unsampled := answered(), answered()
	untraced.TraceID, untraced.SpanID, untraced.ParentID = "", "", ""
	unsampled.SpanID = ""
	if r := exported(t, untraced, unsampled); len(r.spans) != 0 {
		t.Errorf("%d spans", len(r.spans))
	}
}

func TestACollectorThatIsAwayNeitherBlocksNorGrowsMemory(t *testing.T) {
	hung := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-hung:
		case <-r.Context().Done():
		}
	}))
	defer server.Close()
	before := goleak.IgnoreCurrent()
	var log bytes.Buffer
	traces := newTraces(t, server.URL, slog.New(slog.NewTextHandler(&log, nil)))
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	record := answered()
	for range 2 * traceQueue { // fill it
		traces.Observe(record)
	}
	start := heap()
	for range 20_000 {
		traces.Observe(record)
	}
	if grown := int64(heap()) - int64(start); grown > 4<<20 {
		t.Errorf("20,000 requests grew the heap by %d KiB", grown>>10)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := traces.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Close = %v, want the end of its deadline", err)
	}
	close(hung)
	server.Close() // the library keeps its connections; they end here
	var leak error
	for range 10 { // each looks for about a second
		if leak = goleak.Find(before); leak == nil {
			return
		}
	}
	t.Errorf("left behind: %v", leak)
}

func TestAFailingExportIsReportedOnceAndItsEndToo(t *testing.T) {
	var log bytes.Buffer
	fail := errors.New("connection refused")
	inner := &scriptedExporter{errs: []error{fail, fail, nil, nil}}
	e := &watchedExporter{SpanExporter: inner, log: slog.New(slog.NewTextHandler(&log, nil))}
	for range 4 {
		if err := e.ExportSpans(t.Context(), nil); err != nil {
			t.Errorf("an error went on to the library's own logger: %v", err)
		}
	}
	if lines := strings.Count(log.String(), "\n"); lines != 2 || !strings.Contains(log.String(), "exported again") {
		t.Errorf("log:\n%s", log.String())
	}
}

type scriptedExporter struct{ errs []error }

func (e *scriptedExporter) Shutdown(context.Context) error { return nil }

func (e *scriptedExporter) ExportSpans(context.Context, []sdktrace.ReadOnlySpan) error {
	err := e.errs[0]
	e.errs = e.errs[1:]
	return err
}

func TestTheCollectorsAddress(t *testing.T) {
	for endpoint, want := range map[string]string{
		"http://127.0.0.1:4318":          "http://127.0.0.1:4318/v1/traces",
		"https://otel.example/":          "https://otel.example/v1/traces",
		"https://otel.example/base/path": "https://otel.example/base/path/v1/traces",
	} {
		if got, err := collector(endpoint); got != want || err != nil {
			t.Errorf("collector(%q) = %q, %v", endpoint, got, err)
		}
	}
	for _, endpoint := range []string{"127.0.0.1:4318", "localhost", "ftp://x", "http://", "http://user:hunter22@collector:4318", "http://user:hunter22@%zz"} {
		_, err := collector(endpoint)
		if err == nil {
			t.Errorf("collector(%q) was taken", endpoint)
		} else if strings.Contains(err.Error(), "hunter22") {
			t.Errorf("the error shows a password: %v", err)
		}
	}
}

func TestTraceIDsDiffer(t *testing.T) {
	a, b := NewTraceID(), NewTraceID()
	if len(a) != 32 || a == b || strings.Trim(a, "0123456789abcdef") != "" {
		t.Errorf("%q, %q", a, b)
	}
}

func TestEveryEndpointHasAnOperation(t *testing.T) {
	for _, e := range catalog.Endpoints {
		if operations[e].name == "" || operations[e].path == "" {
			t.Errorf("%s has none", e)
		}
	}
}

func BenchmarkTraces(b *testing.B) {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	defer server.Close()
	traces, err := NewTraces(b.Context(), TraceOptions{Endpoint: server.URL, Log: discard()})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = traces.Close(b.Context()) }()
	record := usual()
	b.ReportAllocs()
	for b.Loop() {
		traces.Observe(record)
	}
}
