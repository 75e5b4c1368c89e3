package openai

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"

	"shareai/internal/fault"
)

const (
	// maxMessage and maxWord bound what is kept of an upstream's words, in bytes.
	maxMessage = 2 << 10
	maxWord    = 128
	// maxErrorBody is how much of an error body is looked at.
	maxErrorBody = 64 << 10
	// maxRetryAfter is the longest wait that is believed.
	maxRetryAfter = 24 * time.Hour
)

// UpstreamError is what an upstream said about its failure, in whatever form it said it. The texts
// are bounded, and free of credentials and network addresses.
type UpstreamError struct {
	// Status is the HTTP status; 200 for an error inside an answer.
	Status int
	// Message is at most 2 KiB; never empty.
	Message string
	// Type, Code and Param are the members of OpenAI's error object; empty when not said.
	Type, Code, Param string
	// RetryAfter is how long the upstream asks to wait; 0 when it does not say.
	RetryAfter time.Duration
}

func (e *UpstreamError) Error() string {
	if e.Code == "" {
		return fmt.Sprintf("upstream answered %d: %s", e.Status, e.Message)
	}
	return fmt.Sprintf("upstream answered %d %s: %s", e.Status, e.Code, e.Message)
}

// ParseError reads the body of an answer with an error status, whichever engine wrote it: OpenAI's
// envelope, {"error":"text"}, {"object":"error",…}, {"detail":…}, HTML, plain text, nothing.
func ParseError(status int, header http.Header, body []byte) *UpstreamError {
	body = bytes.TrimSpace(body[:min(len(body), maxErrorBody)])
	var e UpstreamError
	switch {
	case len(body) == 0:
	case body[0] == '{' || body[0] == '[':
		e = readErrorJSON(body)
		if e.Message == "" {
			e.Message = string(body)
		}
	case body[0] == '<':
		e.Message = pageTitle(body)
	default:
		e.Message = string(body)
	}
	e.Status = status
	e.RetryAfter = retryAfter(header)
	e.clean()
	return &e
}

// errorFrom reads an error that came inside an answer.
func errorFrom(raw []byte) *UpstreamError {
	return ParseError(http.StatusOK, nil, append(append([]byte(`{"error":`), raw...), '}'))
}

// errorObject has the members that engines use for an error, at the top or inside error.
type errorObject struct {
	Error   json.RawMessage
	Message json.RawMessage
	Msg     json.RawMessage
	Detail  json.RawMessage
	Errors  json.RawMessage
	Type    json.RawMessage
	Status  json.RawMessage
	Code    json.RawMessage
	Param   json.RawMessage
}

// readErrorJSON finds an error's words in JSON; without any, Message is empty. Some engines send the
// envelope as the only element of an array.
func readErrorJSON(raw []byte) UpstreamError {
	const nesting = 4 // an error in an error, in a list: more is not worth following
	var e UpstreamError
	for range nesting {
		raw = firstElement(raw)
		var o errorObject
		if len(raw) == 0 || raw[0] != '{' || json.Unmarshal(raw, &o) != nil {
			break
		}
		e.Type = either(e.Type, either(word(o.Type), word(o.Status)))
		e.Code = either(e.Code, word(o.Code))
		e.Param = either(e.Param, word(o.Param))
		raw = nil
		for _, text := range []json.RawMessage{o.Error, o.Message, o.Msg, o.Detail, o.Errors} {
			if len(text) > 0 && string(text) != "null" {
				raw = text
				break
			}
		}
	}
	e.Message = word(raw)
	return e
}

// firstElement is the first element of an array, and any other value as it is.
func firstElement(raw []byte) []byte {
	var list []json.RawMessage
	if len(raw) == 0 || raw[0] != '[' || json.Unmarshal(raw, &list) != nil || len(list) == 0 {
		return raw
	}
	return list[0]
}

// word is a string or a number as text, "" for anything else.
func word(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text
	}
	var number json.Number
	if json.Unmarshal(raw, &number) == nil {
		return number.String()
	}
	return ""
}

func either(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// pageTitle says what an HTML page is about. The rest of it is of no use to a client.
func pageTitle(page []byte) string {
	const tag = "<title>"
	lower := bytes.ToLower(page)
	start := bytes.Index(lower, []byte(tag))
	if start < 0 {
		return "The provider answered with an HTML page."
	}
	title := page[start+len(tag):]
	if end := bytes.IndexByte(title, '<'); end >= 0 {
		title = title[:end]
	}
	return "The provider answered with an HTML page: " + string(title)
}

// clean bounds and redacts the words and gives the error a message if it has none.
func (e *UpstreamError) clean() {
	e.Message = cleanText(e.Message, maxMessage)
	e.Type, e.Code, e.Param = cleanText(e.Type, maxWord), cleanText(e.Code, maxWord), cleanText(e.Param, maxWord)
	if e.Message != "" {
		return
	}
	e.Message = "The provider reported an error without a message."
	if e.Status != http.StatusOK {
		e.Message = strings.TrimSpace(fmt.Sprintf("The provider answered %d %s", e.Status, http.StatusText(e.Status))) + " without a message."
	}
}

// addressShapes are the forms in which network addresses turn up in engines' messages: a node's
// address is nobody's business.
var addressShapes = regexp.MustCompile(`\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b` +
	`|\[[0-9a-fA-F:.]*:[0-9a-fA-F:.]*(?:%\w+)?\](?::\d+)?` +
	`|\blocalhost(?::\d+)?\b`)

// cleanText makes an upstream's text safe to show: one line of printable UTF-8 of at most limit
// bytes, without credentials and addresses.
func cleanText(s string, limit int) string {
	// Twice the limit is read, so that a credential is seen whole before the text is cut.
	s = strings.ToValidUTF8(s[:min(len(s), 2*limit)], "")
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }), " ")
	s = addressShapes.ReplaceAllString(fault.Redact(s), "[address]")
	if len(s) > limit {
		const more = "…"
		s = strings.ToValidUTF8(s[:limit-len(more)], "") + more
	}
	return s
}

// retryAfter reads how long to wait: milliseconds, seconds, or a date, which is compared with the
// answer's own Date so that no clock is needed.
func retryAfter(header http.Header) time.Duration {
	if ms, err := strconv.ParseFloat(header.Get("Retry-After-Ms"), 64); err == nil {
		return believable(ms * float64(time.Millisecond))
	}
	text := header.Get("Retry-After")
	if seconds, err := strconv.ParseFloat(text, 64); err == nil {
		return believable(seconds * float64(time.Second))
	}
	until, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	now, err := http.ParseTime(header.Get("Date"))
	if err != nil {
		return 0
	}
	return believable(float64(until.Sub(now)))
}

func believable(wait float64) time.Duration {
	if wait > 0 { // false for NaN
		return time.Duration(min(wait, float64(maxRetryAfter)))
	}
	return 0
}
