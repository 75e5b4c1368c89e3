package gateway

import (
	"errors"
	"fmt"
	"net/http"

	"shareai/internal/fault"
)

var (
	errTooLarge = fault.New(fault.TooLarge, "request_too_large", fmt.Sprintf("The request body is larger than %d MiB. Send less, for example images by URL.", MaxBody>>20))
	errNoRecord = &fault.Error{
		Kind: fault.Unavailable, Code: "journal_unavailable", RetryAfter: retrySoon,
		Message: "The gateway can not keep account of requests at the moment and takes none. Its operator finds the reason in its log.",
	}
	errOverloaded = &fault.Error{
		Kind: fault.Unavailable, Code: "overloaded", RetryAfter: retrySoon,
		Message: "The gateway is holding as many request bodies as it may. Try again shortly.",
	}
	errNoStream = &fault.Error{
		Kind: fault.Invalid, Code: "unsupported_value", Param: "stream",
		Message: "Embeddings can not be streamed. Send the request without `stream`.",
	}
	errPanic = errors.New("panic in a request")
)

// wrongMethod is the answer to a path that exists for another method.
func wrongMethod(r *http.Request, allowed string) error {
	return fault.New(fault.MethodNotAllowed, "method_not_allowed", fmt.Sprintf("%s is not allowed here. Send %s.", clipMethod(r.Method), allowed))
}

// clipMethod bounds a method that a client made up.
func clipMethod(m string) string { return m[:min(len(m), 16)] }

// allowOf names the method for the Allow header that comes with 405.
func allowOf(e *fault.Error, allowed string, header http.Header) {
	if e.Kind == fault.MethodNotAllowed {
		header.Set("Allow", allowed)
	}
}
