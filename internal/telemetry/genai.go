package telemetry

import (
	"go.opentelemetry.io/otel/attribute"

	"shareai/internal/catalog"
)

// The names of OpenTelemetry's semantic conventions for generative AI
// (https://opentelemetry.io/docs/specs/semconv/gen-ai/) and for HTTP, as far as they are used here.
// They are written out because the library's packages with these names come and go with its releases.
const (
	genAIOperation    = attribute.Key("gen_ai.operation.name")
	genAIProvider     = attribute.Key("gen_ai.provider.name")
	genAIRequestModel = attribute.Key("gen_ai.request.model")
	genAIStream       = attribute.Key("gen_ai.request.stream")
	genAIAnswerModel  = attribute.Key("gen_ai.response.model")
	genAIFirstChunk   = attribute.Key("gen_ai.response.time_to_first_chunk") // seconds
	genAIInput        = attribute.Key("gen_ai.usage.input_tokens")
	genAICached       = attribute.Key("gen_ai.usage.cache_read.input_tokens")
	genAIOutput       = attribute.Key("gen_ai.usage.output_tokens")
	genAIReasoning    = attribute.Key("gen_ai.usage.reasoning.output_tokens")

	httpMethod = attribute.Key("http.request.method")
	httpRoute  = attribute.Key("http.route")
	httpStatus = attribute.Key("http.response.status_code")
	errorType  = attribute.Key("error.type")
)

// The names of what only this gateway knows.
const (
	ourRequestID    = attribute.Key("shareai.request_id")
	ourOrganization = attribute.Key("shareai.organization")
	ourProject      = attribute.Key("shareai.project")
	ourKeyID        = attribute.Key("shareai.key_id")
	ourRoute        = attribute.Key("shareai.route")
	ourPolicy       = attribute.Key("shareai.policy")
	ourModel        = attribute.Key("shareai.model")
	ourProvider     = attribute.Key("shareai.provider")
	ourDeployment   = attribute.Key("shareai.deployment")
	ourProviderKey  = attribute.Key("shareai.provider_key") // its name
	ourAttempts     = attribute.Key("shareai.attempts")
	ourOutcome      = attribute.Key("shareai.outcome")
	ourCost         = attribute.Key("shareai.cost_usd")
	ourPriceVersion = attribute.Key("shareai.price_version")
	ourEstimated    = attribute.Key("shareai.tokens_estimated")

	ourDrill      = attribute.Key("shareai.drill") // its id
	ourResumed    = attribute.Key("shareai.resumed")
	ourCandidates = attribute.Key("shareai.candidates") // the deployments that were kept, in order
	ourPrimary    = attribute.Key("shareai.primary")
	ourCause      = attribute.Key("shareai.failover.cause")
	ourCostDelta  = attribute.Key("shareai.difference.cost_usd")
	ourTimeLost   = attribute.Key("shareai.difference.lost_seconds")
	ourUsualDelta = attribute.Key("shareai.difference.usual_seconds")

	ourKind    = attribute.Key("shareai.attempt.kind") // first, retry, hedge or resume
	ourWait    = attribute.Key("shareai.attempt.wait_seconds")
	ourResumes = attribute.Key("shareai.attempt.resumes") // prefill or restart
	ourCircuit = attribute.Key("shareai.attempt.circuit")

	ourReason = attribute.Key("shareai.candidate.reason")
	ourOrigin = attribute.Key("shareai.candidate.origin")
	ourGrade  = attribute.Key("shareai.candidate.grade")
)

// excludedEvent is the span event of a candidate that was passed over.
const excludedEvent = "candidate excluded"

// operations are the conventions' words for the endpoints, and paths where they are served.
var operations = map[catalog.Endpoint]struct{ name, path string }{
	catalog.Chat:        {"chat", "/v1/chat/completions"},
	catalog.Completions: {"text_completion", "/v1/completions"},
	catalog.Embeddings:  {"embeddings", "/v1/embeddings"},
	catalog.Responses:   {"chat", "/v1/responses"},
	catalog.Messages:    {"chat", "/v1/messages"},
}
