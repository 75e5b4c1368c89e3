package upstream

import (
	"net/http"
	"strconv"
	"strings"

	"shareai/internal/openai"
)

// codes are the words (error.code or error.type) by which providers name a failure. They say more than the status: the
// same 429 means "slow down" or "pay your bill", the same 400 a malformed request or one that
// another model could take.
var codes = map[string]Outcome{
	"context_length_exceeded":      ContextLength,
	"exceed_context_size_error":    ContextLength, // llama.cpp
	"content_filter":               ContentFilter, // Azure
	"content_policy_violation":     ContentFilter,
	"responsibleaipolicyviolation": ContentFilter, // Azure
	"moderation_blocked":           ContentFilter,
	"data_inspection_failed":       ContentFilter, // DashScope
	"insufficient_quota":           QuotaExhausted,
	"billing_hard_limit_reached":   QuotaExhausted,
	"billing_not_active":           QuotaExhausted,
	"insufficient_balance":         QuotaExhausted,
	"invalid_api_key":              KeyRejected,
	"account_deactivated":          KeyRejected,
	"authentication_error":         KeyRejected,
	"permission_error":             KeyRejected,
	"rate_limit_exceeded":          RateLimited, // Groq sends it with 413 too
	"rate_limit_error":             RateLimited,
	"model_not_found":              NotFound,
	"deploymentnotfound":           NotFound, // Azure
	"overloaded_error":             Overloaded,
	"engine_overloaded":            Overloaded,
	"server_overloaded":            Overloaded,
}

// phrases are the only message texts that decide anything: engines that send no code for these two. Each
// is lower-case and must stand in the message of a 4xx or 5xx answer.
var phrases = []struct {
	text    string
	outcome Outcome
}{
	{"maximum context length", ContextLength},                            // vLLM, Mistral, older OpenAI
	{"model's context length", ContextLength},                            // vLLM since 0.16, SGLang
	{"exceeds the context length", ContextLength},                        // Ollama
	{"exceeds the available context size", ContextLength},                // llama.cpp before it had a type
	{"initial prompt is greater than the context length", ContextLength}, // LM Studio
	{"`inputs` tokens + `max_new_tokens` must be", ContextLength},        // text-generation-inference
	{"prompt is too long", ContextLength},                                // Fireworks, Anthropic
	{"content exists risk", ContentFilter},                               // DeepSeek
}

// byStatus are the statuses that mean more than their class.
var byStatus = map[int]Outcome{
	http.StatusUnauthorized:       KeyRejected,
	http.StatusPaymentRequired:    QuotaExhausted,
	http.StatusForbidden:          KeyRejected,
	http.StatusNotFound:           NotFound,
	http.StatusRequestTimeout:     TimeoutStatus,
	http.StatusConflict:           Overloaded, // OpenAI: locked by another request, try again
	http.StatusTooEarly:           Overloaded,
	http.StatusTooManyRequests:    RateLimited,
	http.StatusServiceUnavailable: Overloaded,
	http.StatusGatewayTimeout:     TimeoutStatus,
	529:                           Overloaded, // "site is overloaded"
}

// Classify turns an upstream's own words into an Error. It serves both for answers with an error
// status and for errors inside an answer that began with 200: those without a telling code or
// type are ErrorEvent.
func Classify(said *openai.UpstreamError) *Error {
	return &Error{
		Outcome: outcomeOf(said), Status: said.Status, RetryAfter: said.RetryAfter,
		Message: said.Message, Type: said.Type, Code: said.Code, Param: said.Param,
	}
}

func outcomeOf(said *openai.UpstreamError) Outcome {
	for _, word := range []string{said.Code, said.Type} {
		if outcome, ok := codes[strings.ToLower(word)]; ok {
			return outcome
		}
	}
	status := said.Status
	if status < 400 {
		status, _ = strconv.Atoi(said.Code) // vLLM and OpenRouter put the status they mean into code
	}
	if status == http.StatusBadRequest || status == http.StatusRequestEntityTooLarge || status == http.StatusUnprocessableEntity || status >= 500 {
		message := strings.ToLower(said.Message)
		for _, phrase := range phrases {
			if strings.Contains(message, phrase.text) {
				return phrase.outcome
			}
		}
	}
	if outcome, ok := byStatus[status]; ok {
		return outcome
	}
	switch {
	case status >= 500:
		return ServerError
	case status >= 400:
		return ClientError
	default:
		return ErrorEvent
	}
}
