package app

import (
	"encoding/hex"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// collected are the spans that an OTLP collector got.
type collected struct {
	t     *testing.T
	mu    sync.Mutex
	spans []*tracepb.Span
}

// ServeHTTP implements http.Handler.
func (c *collected) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var export collectorpb.ExportTraceServiceRequest
	if err := proto.Unmarshal(body, &export); err != nil {
		c.t.Errorf("an export does not decode: %v", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, resource := range export.GetResourceSpans() {
		for _, scope := range resource.GetScopeSpans() {
			c.spans = append(c.spans, scope.GetSpans()...)
		}
	}
}

// of returns the request's span and the one attempt's of a trace.
func (c *collected) of(t *testing.T, traceID string) (request, attempt *tracepb.Span) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.spans {
		switch {
		case hex.EncodeToString(s.GetTraceId()) != traceID:
		case s.GetKind() == tracepb.Span_SPAN_KIND_SERVER:
			request = s
		default:
			attempt = s
		}
	}
	if request == nil || attempt == nil {
		t.Fatalf("trace %s is not complete among %d spans", traceID, len(c.spans))
	}
	return request, attempt
}

func TestTheCallersTraceGoesOnThroughTheGatewayToTheProvider(t *testing.T) { // R39
	spans := &collected{t: t}
	collector := newServer(t, spans)
	seen := make(chan string, 3)
	fake := newProvider(t)
	provider := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Header.Get("Traceparent")
		fake.ServeHTTP(w, r)
	}))
	r := run(t, yaml(provider, "good"), func(s *Settings) { s.OTLPEndpoint = collector })

	const trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	asked := r.ask(http.MethodPost, "/v1/chat/completions", hello, "Traceparent", "00-"+trace+"-"+parent+"-01")
	toProvider := <-seen
	r.ask(http.MethodPost, "/v1/chat/completions", hello)
	fresh := <-seen
	const unsampled = "1af7651916cd43dd8448eb211c80319c"
	r.ask(http.MethodPost, "/v1/chat/completions", hello, "Traceparent", "00-"+unsampled+"-"+parent+"-00")
	if got := <-seen; !strings.HasPrefix(got, "00-"+unsampled+"-") || !strings.HasSuffix(got, "-00") {
		t.Errorf("a trace that is not sampled reaches the provider as %q", got)
	}
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}

	request, attempt := spans.of(t, trace)
	if hex.EncodeToString(request.GetParentSpanId()) != parent {
		t.Errorf("the request's parent is %x", request.GetParentSpanId())
	}
	if string(attempt.GetParentSpanId()) != string(request.GetSpanId()) {
		t.Errorf("the attempt's parent is %x, the request is %x", attempt.GetParentSpanId(), request.GetSpanId())
	}
	if want := "00-" + trace + "-" + hex.EncodeToString(attempt.GetSpanId()) + "-01"; toProvider != want {
		t.Errorf("the provider got %q, want %q", toProvider, want)
	}
	record := r.record(asked.header.Get("X-Request-Id"))
	if record.TraceID != trace || record.SpanID != hex.EncodeToString(request.GetSpanId()) || record.Attempts[0].SpanID != hex.EncodeToString(attempt.GetSpanId()) {
		t.Errorf("the record has trace %s, span %s, attempt %s", record.TraceID, record.SpanID, record.Attempts[0].SpanID)
	}

	if len(fresh) != 55 || strings.Contains(fresh, trace) {
		t.Fatalf("a request without a trace reaches the provider as %q", fresh)
	}
	if request, _ := spans.of(t, fresh[3:35]); len(request.GetParentSpanId()) != 0 {
		t.Errorf("a trace of our own has parent %x", request.GetParentSpanId())
	}
	for _, s := range spans.spans {
		if hex.EncodeToString(s.GetTraceId()) == unsampled {
			t.Error("a trace that is not sampled was exported")
		}
	}
}

func TestWithoutACollectorTheCallersTraceIsStillPassedOn(t *testing.T) {
	seen := make(chan string, 2)
	fake := newProvider(t)
	provider := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Header.Get("Traceparent")
		fake.ServeHTTP(w, r)
	}))
	r := run(t, yaml(provider, "good"))
	const trace = "0af7651916cd43dd8448eb211c80319c"
	r.ask(http.MethodPost, "/v1/chat/completions", hello, "Traceparent", "00-"+trace+"-b7ad6b7169203331-01")
	if got := <-seen; !strings.HasPrefix(got, "00-"+trace+"-") {
		t.Errorf("the provider got %q", got)
	}
	r.ask(http.MethodPost, "/v1/chat/completions", hello)
	if got := <-seen; got != "" {
		t.Errorf("a request without a trace reaches the provider with %q", got)
	}
}
