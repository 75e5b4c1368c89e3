package adminapi

import (
	"context"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"shareai/internal/account"
	"shareai/internal/catalog"
	"shareai/internal/fault"
	"shareai/internal/store"
	"shareai/internal/usage"
)

// Records are what happened.
type Records interface {
	// Requests returns a page of records, and the place from which the next one goes on.
	Requests(ctx context.Context, q store.RequestQuery) ([]usage.Record, string, error)
	// Record returns a record with its trace; fault.NotFound: there is none.
	Record(ctx context.Context, id string) (usage.Record, error)
	Usage(ctx context.Context, q store.UsageQuery) ([]store.UsageRow, error)
	Prompts(ctx context.Context, q store.PromptQuery) ([]store.PromptRow, error)
}

// Request is a request as lists show it.
type Request struct {
	ID           string    `json:"id" doc:"Also in the header x-request-id of the answer."`
	Start        time.Time `json:"start"`
	DurationMS   float64   `json:"duration_ms"`
	FirstTokenMS float64   `json:"first_token_ms,omitempty" doc:"Streams: to the first content. Missing: there was none."`
	Project      string    `json:"project"`
	KeyID        string    `json:"key_id"`
	Endpoint     string    `json:"endpoint"`
	Requested    string    `json:"requested" doc:"The model or route that the client asked for."`
	Route        string    `json:"route,omitempty"`
	Policy       string    `json:"policy,omitempty"`
	Model        string    `json:"model,omitempty" doc:"That answered; missing: none did."`
	Provider     string    `json:"provider,omitempty"`
	Deployment   string    `json:"deployment,omitempty"`
	Stream       bool      `json:"stream"`
	Status       int       `json:"status" doc:"499: the client left first."`
	Code         string    `json:"code,omitempty" doc:"Of the error."`
	Tokens       Tokens    `json:"tokens"`
	CostUSD      string    `json:"cost_usd" doc:"Of all attempts, as a decimal."`
	Attempts     int       `json:"attempts"`
	FailedOver   bool      `json:"failed_over" doc:"Another than the primary answered."`
	Resumed      bool      `json:"resumed" doc:"A stream that broke was completed by another attempt."`
	Drill        string    `json:"drill,omitempty"`
}

// Tokens are those of a request or an attempt.
type Tokens struct {
	Prompt     int64 `json:"prompt"`
	Cached     int64 `json:"cached,omitempty" doc:"Of the prompt: read from the provider's cache."`
	CacheWrite int64 `json:"cache_write,omitempty" doc:"Of the prompt: written into the provider's cache."`
	Completion int64 `json:"completion"`
	Reasoning  int64 `json:"reasoning,omitempty" doc:"Of the completion."`
	Estimated  bool  `json:"estimated,omitempty" doc:"By ShareAI: the provider did not report them."`
}

// RequestList is a page of requests.
type RequestList struct {
	Requests []Request `json:"requests" nullable:"false" doc:"The newest first. A page may have fewer than asked for, or none, and be followed by others: next says so."`
	NextCursor
}

// Trace is a request with what happened to it.
type Trace struct {
	Request
	Reason         string           `json:"reason,omitempty" doc:"Why this deployment answered, in words."`
	TraceID        string           `json:"trace_id,omitempty"`
	BytesIn        int64            `json:"bytes_in"`
	BytesOut       int64            `json:"bytes_out"`
	PriceVersion   string           `json:"price_version,omitempty"`
	Primary        string           `json:"primary,omitempty" doc:"The deployment that the request was meant for."`
	PrimaryCostUSD string           `json:"primary_cost_usd,omitempty" doc:"What it would have charged for the answer."`
	PrimaryMS      float64          `json:"primary_ms,omitempty" doc:"Its usual time to the first token; not streamed: to the whole answer."`
	Timeline       []TraceAttempt   `json:"timeline" nullable:"false" doc:"The attempts, in the order in which they began."`
	Candidates     []TraceCandidate `json:"candidates" nullable:"false" doc:"What was considered, in order."`
	Content        *TraceContent    `json:"content,omitempty" doc:"What was said, where the policy logs it and the caller may see it (contents.read)."`
}

// TraceAttempt is one try at one deployment.
type TraceAttempt struct {
	Provider     string  `json:"provider"`
	Deployment   string  `json:"deployment"`
	Model        string  `json:"model"`
	ProviderKey  string  `json:"provider_key,omitempty"`
	Outcome      string  `json:"outcome"`
	Status       int     `json:"status,omitempty"`
	Message      string  `json:"message,omitempty"`
	OffsetMS     float64 `json:"offset_ms" doc:"From the start of the request."`
	HeadersMS    float64 `json:"headers_ms,omitempty" doc:"From the start of the attempt, as the rest."`
	FirstTokenMS float64 `json:"first_token_ms,omitempty"`
	DurationMS   float64 `json:"duration_ms"`
	WaitMS       float64 `json:"wait_ms,omitempty" doc:"Back-off before it."`
	Retry        bool    `json:"retry,omitempty"`
	Hedge        bool    `json:"hedge,omitempty" doc:"Ran beside another one."`
	Resumes      string  `json:"resumes,omitempty" doc:"It continued a broken stream, this way."`
	Circuit      string  `json:"circuit,omitempty"`
	Drill        string  `json:"drill,omitempty" doc:"The drill that made it fail."`
	Tokens       Tokens  `json:"tokens"`
	CostUSD      string  `json:"cost_usd"`
}

// TraceCandidate is a deployment that was considered.
type TraceCandidate struct {
	Deployment string  `json:"deployment"`
	Model      string  `json:"model"`
	Excluded   string  `json:"excluded,omitempty" doc:"Why it was left out; missing: it was kept."`
	Origin     string  `json:"origin,omitempty" doc:"Why it was considered: missing for the model itself; equivalent, policy, request."`
	Grade      float64 `json:"grade,omitempty" doc:"Of an equivalent, 0 to 1."`
}

// TraceContent is what was said.
type TraceContent struct {
	Request   string `json:"request"`
	Answer    string `json:"answer"`
	Truncated bool   `json:"truncated"`
}

type (
	requestsInput struct {
		Page
		Project  string    `query:"project" maxLength:"63"`
		Key      string    `query:"key" maxLength:"100" doc:"The id of an API key."`
		Endpoint string    `query:"endpoint" maxLength:"40"`
		Route    string    `query:"route" maxLength:"128"`
		Model    string    `query:"model" maxLength:"128" doc:"That answered."`
		Provider string    `query:"provider" maxLength:"80" doc:"That answered."`
		Status   int       `query:"status" minimum:"0" maximum:"599"`
		Code     string    `query:"code" maxLength:"80"`
		Outcome  string    `query:"outcome" enum:"ok,failed,failed_over" doc:"How they went."`
		Drill    string    `query:"drill" maxLength:"100"`
		From     time.Time `query:"from" doc:"From then on."`
		To       time.Time `query:"to" doc:"Before then."`
	}
	requestsAnswer struct{ Body RequestList }
	traceAnswer    struct{ Body Trace }
)

func (a *API) addRequests() {
	tags := []string{"Requests"}
	operation(a, huma.Operation{
		OperationID: "list-requests", Method: http.MethodGet, Path: "/api/v1/requests", Tags: tags, Summary: "List requests",
		Description: "What the organization's API keys asked for. A request is listed a few seconds after its answer.",
	}, account.ReadRequests, a.listRequests)
	operation(a, huma.Operation{
		OperationID: "get-request", Method: http.MethodGet, Path: "/api/v1/requests/{id}", Tags: tags, Summary: "Show what happened to a request",
		Description: "Candidates, attempts, times and cost.",
	}, account.ReadRequests, a.getRequest)
}

func ms(micros int64) float64 { return float64(micros) / 1000 }

func viewTokens(t catalog.Tokens) Tokens {
	return Tokens{Prompt: t.Prompt, Cached: t.Cached, CacheWrite: t.CacheWrite, Completion: t.Completion, Reasoning: t.Reasoning, Estimated: t.Estimated}
}

func viewRequest(r *usage.Record) Request {
	return Request{
		ID: r.ID, Start: time.UnixMicro(r.Start).UTC(), DurationMS: ms(r.Duration), FirstTokenMS: ms(r.FirstToken), Project: r.Project, KeyID: r.KeyID,
		Endpoint: string(r.Endpoint), Requested: r.Requested, Route: r.Route, Policy: r.Policy, Model: r.Model, Provider: r.Provider, Deployment: r.Deployment,
		Stream: r.Stream, Status: r.Status, Code: r.Code, Tokens: viewTokens(r.Tokens), CostUSD: money(r.Cost), Attempts: len(r.Attempts),
		FailedOver: r.FailedOver(), Resumed: r.Resumed, Drill: r.Drill,
	}
}

func (a *API) listRequests(ctx context.Context, caller *Caller, in *requestsInput) (*requestsAnswer, error) {
	project, err := caller.ProjectsOf(in.Project)
	if err != nil {
		return nil, err
	}
	after, err := in.after()
	if err != nil {
		return nil, err
	}
	records, next, err := a.Records.Requests(ctx, store.RequestQuery{
		Organization: caller.Organization, Project: project, KeyID: in.Key, Endpoint: in.Endpoint, Route: in.Route, Model: in.Model, Provider: in.Provider,
		Status: in.Status, Code: in.Code, Outcome: store.RequestOutcome(in.Outcome), Drill: in.Drill, From: in.From, To: in.To, After: after, Limit: in.Limit,
	})
	if err != nil {
		return nil, err
	}
	out := &requestsAnswer{Body: RequestList{Requests: make([]Request, len(records))}}
	for i := range records {
		out.Body.Requests[i] = viewRequest(&records[i])
	}
	if next != "" {
		out.Body.NextCursor = cursorAt(next)
	}
	return out, nil
}

func (a *API) getRequest(ctx context.Context, caller *Caller, in *byID) (*traceAnswer, error) {
	r, err := a.Records.Record(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if r.Organization != caller.Organization || caller.Project != "" && r.Project != caller.Project {
		return nil, fault.New(fault.NotFound, "record_not_found", "There is no record of this request. Records arrive a few seconds after the answer, and old ones are removed; check the id (the x-request-id of the answer).").About("id")
	}
	t := viewTrace(&r)
	if r.Content != nil && caller.Can(account.ReadContents) {
		t.Content = &TraceContent{Request: plainText(r.Content.Request), Answer: plainText(r.Content.Answer), Truncated: r.Content.Truncated}
	}
	return &traceAnswer{Body: t}, nil
}

// plainText is a text that may have been cut within a character.
func plainText(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	return strings.ToValidUTF8(string(b), "\uFFFD")
}

func viewTrace(r *usage.Record) Trace {
	t := Trace{
		Request: viewRequest(r), Reason: r.Reason, TraceID: r.TraceID, BytesIn: r.BytesIn, BytesOut: r.BytesOut, PriceVersion: r.PriceVersion,
		Primary: r.Primary, PrimaryMS: ms(r.PrimaryLatency), Timeline: make([]TraceAttempt, len(r.Attempts)), Candidates: make([]TraceCandidate, len(r.Candidates)),
	}
	if r.PrimaryCost > 0 {
		t.PrimaryCostUSD = money(r.PrimaryCost)
	}
	for i := range r.Attempts {
		at := &r.Attempts[i]
		t.Timeline[i] = TraceAttempt{
			Provider: at.Provider, Deployment: at.Deployment, Model: at.Model, ProviderKey: at.ProviderKey, Outcome: at.Outcome, Status: at.Status, Message: at.Message,
			OffsetMS: ms(at.Offset), HeadersMS: ms(at.Headers), FirstTokenMS: ms(at.FirstToken), DurationMS: ms(at.Duration), WaitMS: ms(at.Wait),
			Retry: at.Retry, Hedge: at.Hedge, Resumes: at.Resumes, Circuit: at.Circuit, Drill: at.Drill, Tokens: viewTokens(at.Tokens), CostUSD: money(at.Cost),
		}
	}
	for i, c := range r.Candidates {
		t.Candidates[i] = TraceCandidate{Deployment: c.Deployment, Model: c.Model, Excluded: c.Reason, Origin: c.Origin, Grade: c.Grade}
	}
	return t
}
