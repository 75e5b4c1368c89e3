package adminapi

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"shareai/internal/fault"
	"shareai/internal/openai"
)

// failure is a fault in the form in which huma takes and writes errors.
type failure struct {
	fault *fault.Error
	id    string // of the request
}

// Error implements error.
func (f *failure) Error() string { return f.fault.Error() }

// GetStatus implements huma.StatusError.
func (f *failure) GetStatus() int { return f.fault.HTTPStatus() }

// GetHeaders implements huma.HeadersError.
func (f *failure) GetHeaders() http.Header {
	h := http.Header{}
	retryAfter(h, f.fault)
	return h
}

// MarshalJSON writes the envelope that /v1 has.
func (f *failure) MarshalJSON() ([]byte, error) { return openai.AppendError(nil, f.fault, f.id), nil }

func retryAfter(h http.Header, e *fault.Error) {
	if e.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int((e.RetryAfter+time.Second-1)/time.Second)))
	}
}

// writeFault answers where huma does not.
func writeFault(ctx context.Context, w http.ResponseWriter, e *fault.Error) {
	retryAfter(w.Header(), e)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(e.HTTPStatus())
	_, _ = w.Write(openai.AppendError(nil, e, idOf(ctx)))
}

func idOf(ctx context.Context) string {
	id, _ := ctx.Value(requestID{}).(string)
	return id
}

// asFailure gives every error the same form, those of huma's validation included. Theirs would repeat what
// was sent, and with it a secret in the wrong place.
func asFailure(ctx huma.Context, _ string, body any) (any, error) {
	switch e := body.(type) {
	case *failure:
		e.id = idOf(ctx.Context())
	case *huma.ErrorModel:
		return &failure{fault: refused(e), id: idOf(ctx.Context())}, nil
	}
	return body, nil
}

// mostDetails bounds how many mistakes of a request are named.
const mostDetails = 5

// refused is what huma found wrong with a request.
func refused(m *huma.ErrorModel) *fault.Error {
	e := &fault.Error{Kind: fault.Invalid, Code: "invalid_request", Status: statusOf(m.Status)}
	switch m.Status {
	case http.StatusRequestEntityTooLarge:
		e.Kind, e.Code, e.Message = fault.TooLarge, "request_too_large", fmt.Sprintf("The request body is larger than %d KiB.", maxBody>>10)
		return e
	case http.StatusUnsupportedMediaType:
		e.Kind, e.Code, e.Message = fault.UnsupportedMedia, "unsupported_media_type", "Send JSON, with `Content-Type: application/json`."
		return e
	case http.StatusRequestTimeout:
		e.Kind, e.Code, e.Message = fault.Timeout, "timeout", "The request body did not arrive in time."
		return e
	case http.StatusInternalServerError:
		e.Kind, e.Code, e.Message = fault.Internal, "internal_error", "Something went wrong inside the gateway. Quote the request id when you report it."
		return e
	}
	var said []string
	for _, d := range m.Errors[:min(len(m.Errors), mostDetails)] {
		if d == nil {
			continue
		}
		field := strings.TrimPrefix(strings.TrimPrefix(d.Location, "body"), ".")
		if field == "" {
			said = append(said, d.Message)
			continue
		}
		if e.Param == "" {
			e.Param = field
		}
		said = append(said, field+": "+d.Message)
	}
	if len(said) == 0 {
		said = append(said, m.Detail)
	}
	e.Message = "The request is not valid: " + strings.Join(said, "; ") + "."
	return e
}

// statusOf makes one of the two statuses with which huma refuses what is not valid: /v1 has 400 as well.
func statusOf(status int) int {
	if status == http.StatusUnprocessableEntity {
		return http.StatusBadRequest
	}
	return status
}

// plainly makes huma answer errors with the status and the content type of our own.
func plainly(ctx huma.Context, next func(huma.Context)) { next(plain{ctx}) }

type (
	inner = huma.Context // which has a method Context, and can not be a field of that name
	plain struct{ inner }
)

// SetStatus implements huma.Context.
func (p plain) SetStatus(code int) { p.inner.SetStatus(statusOf(code)) }

// SetHeader implements huma.Context.
func (p plain) SetHeader(name, value string) {
	if value == "application/problem+json" {
		value = "application/json"
	}
	p.inner.SetHeader(name, value)
}

// Unwrap gives humago the context that it made.
func (p plain) Unwrap() huma.Context { return p.inner }

// errorAnswer describes the envelope; failure writes it.
type errorAnswer struct {
	Error errorObject `json:"error"`
}

type errorObject struct {
	Message   string  `json:"message" doc:"What is wrong, and what to do."`
	Type      string  `json:"type" doc:"The class of the error, as OpenAI names it." example:"invalid_request_error"`
	Code      string  `json:"code" doc:"What is wrong, for programs." example:"drill_not_found"`
	Param     *string `json:"param" doc:"The field that is at fault; null: none."`
	RequestID string  `json:"request_id" doc:"Also in the header x-request-id."`
}

func errorResponse(schemas huma.Registry) *huma.Response {
	return &huma.Response{
		Description: "What is wrong. 400: the request; 401: no key, or not a valid one; 403: the key lacks the scope; 404: there is no such thing in the key's project; 409: not at the moment.",
		Content: map[string]*huma.MediaType{
			"application/json": {Schema: schemas.Schema(reflect.TypeFor[errorAnswer](), true, "")},
		},
	}
}
