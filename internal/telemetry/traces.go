package telemetry

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"shareai/internal/catalog"
	"shareai/internal/usage"
)

// NewTraceID makes a trace id: 32 hexadecimal digits.
func NewTraceID() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// Traces makes spans of finished requests and sends them to an OTLP collector: one for the request
// and, below it, one for each attempt, with the times and ids of the record. What was said is in none
// of them, and neither are the texts of errors, because providers quote the request in theirs.
type Traces struct {
	ctx      context.Context
	exporter *watchedExporter
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
}

// TraceOptions say where the spans go.
type TraceOptions struct {
	// Endpoint is the base URL of an OTLP/HTTP collector; /v1/traces is appended. Its credentials come
	// from OTEL_EXPORTER_OTLP_HEADERS.
	Endpoint string
	Version  string
	Log      *slog.Logger
}

// The bounds of what waits for the collector. When the queue is full, spans are dropped.
const (
	traceQueue     = 2048 // spans
	traceBatch     = 512  // spans
	traceTimeout   = 10 * time.Second
	firstRetry     = time.Second
	longestRetry   = 5 * time.Second
	exportDeadline = 20 * time.Second // all tries of a batch
)

// NewTraces starts the export. It does not wait for the collector, and goes on until Close, however
// ctx ends.
func NewTraces(ctx context.Context, o TraceOptions) (*Traces, error) {
	target, err := collector(o.Endpoint)
	if err != nil {
		return nil, err
	}
	otlp, err := otlptracehttp.New(ctx,
		otlptracehttp.WithEndpointURL(target),
		otlptracehttp.WithTimeout(traceTimeout),
		otlptracehttp.WithRetry(otlptracehttp.RetryConfig{
			Enabled: true, InitialInterval: firstRetry, MaxInterval: longestRetry, MaxElapsedTime: exportDeadline,
		}),
	)
	if err != nil {
		return nil, fmt.Errorf("export traces: %w", err)
	}
	about, err := resource.New(ctx,
		resource.WithTelemetrySDK(),
		resource.WithAttributes(attribute.String("service.name", "shareai"), attribute.String("service.version", o.Version)),
		resource.WithFromEnv(), // OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win
	)
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	limits := sdktrace.NewSpanLimits()
	limits.AttributeValueLengthLimit = longestText
	t := &Traces{ctx: context.WithoutCancel(ctx), exporter: &watchedExporter{SpanExporter: otlp, log: o.Log}}
	t.provider = sdktrace.NewTracerProvider(
		sdktrace.WithResource(about),
		sdktrace.WithIDGenerator(recordedIDs{}),
		sdktrace.WithSampler(sdktrace.AlwaysSample()), // the gateway has decided
		sdktrace.WithRawSpanLimits(limits),
		sdktrace.WithBatcher(t.exporter,
			sdktrace.WithMaxQueueSize(traceQueue), sdktrace.WithMaxExportBatchSize(traceBatch),
			sdktrace.WithExportTimeout(exportDeadline)),
	)
	t.tracer = t.provider.Tracer("shareai", trace.WithInstrumentationVersion(o.Version))
	return t, nil
}

// collector is the address for traces below a base URL.
func collector(endpoint string) (string, error) {
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", fmt.Errorf("the OTLP endpoint is not an http or https URL: use one such as http://127.0.0.1:4318")
	}
	if u.User != nil {
		return "", fmt.Errorf("the OTLP endpoint holds credentials: put them into OTEL_EXPORTER_OTLP_HEADERS instead")
	}
	return u.JoinPath("v1", "traces").String(), nil
}

// Close exports what is left until ctx ends. It may be called more than once.
func (t *Traces) Close(ctx context.Context) error {
	err := t.provider.Shutdown(ctx)
	// A hanging export holds up the provider's end; this breaks it off.
	_ = t.exporter.Shutdown(ctx)
	return err
}

// Observe makes the spans of a request that asked for them. It never waits.
func (t *Traces) Observe(r *usage.Record) {
	traceID, err := trace.TraceIDFromHex(r.TraceID)
	if err != nil || r.SpanID == "" {
		return
	}
	ctx := t.ctx
	if parent, err := trace.SpanIDFromHex(r.ParentID); err == nil {
		ctx = trace.ContextWithRemoteSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{
			TraceID: traceID, SpanID: parent, TraceFlags: trace.FlagsSampled, Remote: true,
		}))
	}
	operation := operations[r.Endpoint]
	start := time.UnixMicro(r.Start)
	ctx, span := t.tracer.Start(withIDs(ctx, traceID, r.SpanID), "POST "+operation.path,
		trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(start), trace.WithAttributes(requestAttributes(r)...))
	if r.Status >= http.StatusInternalServerError {
		span.SetStatus(codes.Error, "")
	}
	excluded(span, r, start)
	for i := range r.Attempts {
		t.attempt(withIDs(ctx, traceID, r.Attempts[i].SpanID), r, &r.Attempts[i])
	}
	span.End(trace.WithTimestamp(start.Add(microseconds(r.Duration))))
}

// excluded adds an event for each candidate that was passed over. The SDK keeps 128 of them.
func excluded(span trace.Span, r *usage.Record, at time.Time) {
	for i := range r.Candidates {
		c := &r.Candidates[i]
		if c.Reason == "" {
			continue
		}
		list := texts(make([]attribute.KeyValue, 0, 5),
			text{ourReason, c.Reason}, text{ourDeployment, c.Deployment}, text{ourModel, c.Model}, text{ourOrigin, c.Origin})
		if c.Grade > 0 {
			list = append(list, ourGrade.Float64(c.Grade))
		}
		span.AddEvent(excludedEvent, trace.WithTimestamp(at), trace.WithAttributes(list...))
	}
}

func (t *Traces) attempt(ctx context.Context, r *usage.Record, a *usage.Attempt) {
	start := time.UnixMicro(r.Start + a.Offset)
	model := strings.TrimPrefix(a.Deployment, a.Provider+"/")
	_, span := t.tracer.Start(ctx, operations[r.Endpoint].name+" "+model,
		trace.WithSpanKind(trace.SpanKindClient), trace.WithTimestamp(start), trace.WithAttributes(attemptAttributes(r, a, model)...))
	if a.Outcome != outcomeOK {
		span.SetStatus(codes.Error, a.Outcome)
	}
	span.End(trace.WithTimestamp(start.Add(microseconds(a.Duration))))
}

// outcomeOK is the outcome of an attempt that succeeded.
const outcomeOK = "ok"

// requestAttributes describe the whole request. Its tokens stand with the attempts that used them, so
// that whoever adds up spans counts none twice.
func requestAttributes(r *usage.Record) []attribute.KeyValue {
	operation := operations[r.Endpoint]
	list := append(make([]attribute.KeyValue, 0, 28),
		httpMethod.String(http.MethodPost), httpRoute.String(operation.path), httpStatus.Int(r.Status),
		genAIOperation.String(operation.name), genAIStream.Bool(r.Stream),
		ourRequestID.String(r.ID), ourAttempts.Int(len(r.Attempts)), ourCost.Float64(dollars(r.Cost)),
	)
	list = texts(list,
		text{genAIRequestModel, clip(r.Requested)}, text{genAIAnswerModel, r.Model}, text{errorType, codeOf(r)},
		text{ourOrganization, r.Organization}, text{ourProject, r.Project}, text{ourKeyID, r.KeyID},
		text{ourRoute, r.Route}, text{ourPolicy, r.Policy}, text{ourProvider, r.Provider}, text{ourDeployment, r.Deployment},
		text{ourDrill, r.Drill}, text{ourPrimary, r.Primary}, text{ourCause, r.Cause()},
	)
	if r.Resumed {
		list = append(list, ourResumed.Bool(true))
	}
	if kept := keptOf(r.Candidates); len(kept) > 0 {
		list = append(list, ourCandidates.StringSlice(kept))
	}
	if d, known := r.Difference(); known {
		list = append(list, ourCostDelta.Float64(dollars(d.Cost)), ourTimeLost.Float64(microseconds(d.Lost).Seconds()))
		if r.PrimaryLatency > 0 {
			list = append(list, ourUsualDelta.Float64(microseconds(d.Usual).Seconds()))
		}
	}
	return list
}

// keptOf names the deployments that could be tried, in order.
func keptOf(candidates []usage.Candidate) (kept []string) {
	for i := range candidates {
		if candidates[i].Reason == "" {
			kept = append(kept, strings.ToValidUTF8(candidates[i].Deployment, "?"))
		}
	}
	return kept
}

func attemptAttributes(r *usage.Record, a *usage.Attempt, model string) []attribute.KeyValue {
	list := append(make([]attribute.KeyValue, 0, 20),
		genAIOperation.String(operations[r.Endpoint].name), genAIProvider.String(a.Provider),
		genAIRequestModel.String(model), genAIStream.Bool(r.Stream), ourOutcome.String(a.Outcome), ourKind.String(kinds[kindOf(a)]),
	)
	if a.Status != 0 {
		list = append(list, httpStatus.Int(a.Status))
	}
	if a.Outcome != outcomeOK {
		list = append(list, errorType.String(a.Outcome))
	}
	if a.FirstToken > 0 {
		list = append(list, genAIFirstChunk.Float64(microseconds(a.FirstToken).Seconds()))
	}
	if a.Tokens != (catalog.Tokens{}) {
		list = append(list,
			genAIInput.Int64(a.Tokens.Prompt), genAICached.Int64(a.Tokens.Cached),
			genAIOutput.Int64(a.Tokens.Completion), genAIReasoning.Int64(a.Tokens.Reasoning),
			ourEstimated.Bool(a.Tokens.Estimated), ourCost.Float64(dollars(a.Cost)))
	}
	if a.Wait > 0 {
		list = append(list, ourWait.Float64(microseconds(a.Wait).Seconds()))
	}
	return texts(list, text{ourModel, a.Model}, text{ourDeployment, a.Deployment},
		text{ourProviderKey, a.ProviderKey}, text{ourPriceVersion, a.PriceVersion},
		text{ourResumes, a.Resumes}, text{ourDrill, a.Drill}, text{ourCircuit, a.Circuit})
}

type text struct {
	key   attribute.Key
	value string
}

// texts appends the texts that say anything.
func texts(list []attribute.KeyValue, more ...text) []attribute.KeyValue {
	for _, t := range more {
		if t.value != "" {
			list = append(list, t.key.String(strings.ToValidUTF8(t.value, "?")))
		}
	}
	return list
}

func microseconds(n int64) time.Duration { return time.Duration(n) * time.Microsecond }

func dollars(nano int64) float64 { return float64(nano) / 1e9 }

// recordedIDs gives a span the ids that its record already has, by way of the context.
type recordedIDs struct{}

type idsKey struct{}

type ids struct {
	trace trace.TraceID
	span  trace.SpanID
}

func withIDs(ctx context.Context, traceID trace.TraceID, spanID string) context.Context {
	span, err := trace.SpanIDFromHex(spanID)
	if err != nil {
		_, _ = rand.Read(span[:]) // a span without an id of its own still belongs to the trace
	}
	return context.WithValue(ctx, idsKey{}, ids{trace: traceID, span: span})
}

// NewIDs implements sdktrace.IDGenerator.
func (recordedIDs) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	i, _ := ctx.Value(idsKey{}).(ids)
	return i.trace, i.span
}

// NewSpanID implements sdktrace.IDGenerator.
func (recordedIDs) NewSpanID(ctx context.Context, _ trace.TraceID) trace.SpanID {
	i, _ := ctx.Value(idsKey{}).(ids)
	return i.span
}

// watchedExporter says once when the export begins to fail and once when it works again. The library
// would send every error to a logger of its own.
type watchedExporter struct {
	sdktrace.SpanExporter
	log     *slog.Logger
	failing atomic.Bool
}

// ExportSpans implements sdktrace.SpanExporter.
func (e *watchedExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, spans)
	switch failed := err != nil; {
	case failed && !e.failing.Swap(true):
		e.log.Warn("traces can not be exported and are dropped; check the OTLP endpoint", "error", err)
	case !failed && e.failing.Swap(false):
		e.log.Info("traces are exported again")
	}
	return nil //nolint:nilerr // it has been logged; the SDK would print it again for every batch
}
