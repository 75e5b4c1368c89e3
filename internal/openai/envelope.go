package openai

import (
	"strconv"

	"shareai/internal/fault"
)

// Attempt is one try at an upstream as the client may see it: never a key or an address.
type Attempt struct {
	Provider string
	Model    string
	// Outcome is one word for what happened.
	Outcome string
	// Status is the upstream's HTTP status; 0 when there was none, shown as null.
	Status int
	// MS is the duration in milliseconds.
	MS int64
}

// AppendError appends {"error":{"message","type","code","param","request_id"[,"attempts"]}}, the
// form of a unary error answer and of the event that ends a broken stream.
func AppendError(dst []byte, e *fault.Error, requestID string, attempts ...Attempt) []byte {
	dst = AppendString(append(dst, `{"error":{"message":`...), e.Message)
	dst = AppendString(append(dst, `,"type":`...), ErrorType(e.Kind))
	dst = appendStringOrNull(append(dst, `,"code":`...), e.Code)
	dst = appendStringOrNull(append(dst, `,"param":`...), e.Param)
	dst = appendStringOrNull(append(dst, `,"request_id":`...), requestID)
	for i, a := range attempts {
		if i == 0 {
			dst = append(dst, `,"attempts":[`...)
		} else {
			dst = append(dst, ',')
		}
		dst = appendAttempt(dst, a)
	}
	if len(attempts) > 0 {
		dst = append(dst, ']')
	}
	return append(dst, `}}`...)
}

func appendAttempt(dst []byte, a Attempt) []byte {
	dst = AppendString(append(dst, `{"provider":`...), a.Provider)
	dst = AppendString(append(dst, `,"model":`...), a.Model)
	dst = AppendString(append(dst, `,"outcome":`...), a.Outcome)
	dst = append(dst, `,"status":`...)
	if a.Status == 0 {
		dst = append(dst, "null"...)
	} else {
		dst = strconv.AppendInt(dst, int64(a.Status), 10)
	}
	dst = strconv.AppendInt(append(dst, `,"ms":`...), a.MS, 10)
	return append(dst, '}')
}

func appendStringOrNull(dst []byte, s string) []byte {
	if s == "" {
		return append(dst, "null"...)
	}
	return AppendString(dst, s)
}

// errorTypes is the one table from kind to OpenAI's error.type. SDKs choose their error class by the
// HTTP status; people and agent frameworks read the type.
var errorTypes = [...]string{
	fault.Internal:         "server_error",
	fault.Invalid:          "invalid_request_error",
	fault.Unauthenticated:  "authentication_error",
	fault.Exhausted:        "insufficient_quota",
	fault.Forbidden:        "permission_error",
	fault.NotFound:         "invalid_request_error",
	fault.MethodNotAllowed: "invalid_request_error",
	fault.Conflict:         "invalid_request_error",
	fault.TooLarge:         "invalid_request_error",
	fault.UnsupportedMedia: "invalid_request_error",
	fault.RateLimited:      "rate_limit_error",
	fault.Canceled:         "request_canceled",
	fault.Upstream:         "server_error",
	fault.Unavailable:      "server_error",
	fault.Timeout:          "timeout",
}

// ErrorType is the value of error.type for a kind of failure.
func ErrorType(k fault.Kind) string {
	if int(k) >= len(errorTypes) {
		return errorTypes[fault.Internal]
	}
	return errorTypes[k]
}
