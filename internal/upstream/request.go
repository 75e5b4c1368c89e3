package upstream

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"

	"shareai/internal/catalog"
	"shareai/internal/openai"
)

// request is the call as the provider gets it. Headers are made here and nowhere else: nothing that
// the client sent as a header travels on.
func (c *Client) request(ctx context.Context, call *Call) (*http.Request, *Error) {
	d, ok := dialects[call.Provider.Dialect]
	if !ok {
		return nil, &Error{Outcome: ClientError, Message: "This version does not speak the dialect of the provider."}
	}
	address, err := c.addresses.find(d, call)
	if err != nil {
		return nil, &Error{Outcome: NotFound, Message: "The request can not be addressed: " + err.Error() + ".", Cause: err}
	}
	header := make(http.Header, 8)
	put := putter(header)
	put("Content-Type", "application/json")
	put("Accept", accept(call.Request.Stream))
	put("User-Agent", c.userAgent)
	if call.RequestID != "" {
		put("X-Request-Id", call.RequestID)
	}
	if call.Traceparent != "" {
		put("Traceparent", call.Traceparent)
	}
	if !call.Key.Secret.Empty() {
		name, value := d.credential(call.Key.Secret.Reveal())
		if !validValue(value) {
			return nil, &Error{Outcome: KeyRejected, Message: "The provider key contains characters that can not be sent in a header, such as a line break. Correct it in the configuration."}
		}
		put(name, value)
	}
	var room [8]openai.Edit
	body := call.Request.Edit(edits(room[:0], call, address.Hostname())...)
	req := http.Request{
		Method: http.MethodPost, URL: address, Host: address.Host, Header: header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Body: body.Reader(), ContentLength: body.Len(),
		GetBody: func() (io.ReadCloser, error) { return body.Reader(), nil },
	}
	return req.WithContext(withConnect(ctx, call.Connect)), nil
}

// putter sets headers whose values share one allocation. Names are in canonical form.
func putter(header http.Header) func(name, value string) {
	values := make([]string, 0, 8)
	return func(name, value string) {
		values = append(values, value)
		last := len(values)
		header[name] = values[last-1 : last : last]
	}
}

func accept(stream bool) string {
	if stream {
		return "text/event-stream, application/json" // an error comes as JSON
	}
	return "application/json"
}

// ours are the members of a request that speak to the gateway and are no provider's business, in the
// form in which they do: an engine may know the same name for something else. null speaks to nobody.
var ours = []struct {
	name  string
	opens byte // the first byte of the value
}{{"fallbacks", '['}, {"models", '['}, {"provider", '{'}}

// edits appends what must change in the client's body for the deployment; host is the provider's.
func edits(out []openai.Edit, call *Call, host string) []openai.Edit {
	out = append(out, openai.SetString("model", call.Deployment.Model))
	for _, member := range ours {
		if value, ok := call.Request.Field(member.name); ok && (value[0] == member.opens || value[0] == 'n') {
			out = append(out, openai.Remove(member.name))
		}
	}
	if call.Request.Stream && call.Endpoint != catalog.Embeddings {
		out = append(out, call.Request.WithUsage())
	}
	return limitOutput(out, call, host)
}

// limitOutput sends the limit on output tokens once, under the name that the provider takes. A client
// that sends both means the newer one.
func limitOutput(out []openai.Edit, call *Call, host string) []openai.Edit {
	value, ok := call.Request.Field("max_completion_tokens")
	switch {
	case !ok:
		return out
	case bytes.Equal(value, []byte("null")):
		return append(out, openai.Remove("max_completion_tokens"))
	case asSent(call.Provider, host):
		return append(out, openai.Remove("max_tokens"))
	default:
		return append(out, openai.Rename("max_completion_tokens", "max_tokens"))
	}
}

// asSent says whether the provider takes both names for the limit.
func asSent(p *catalog.Provider, host string) bool {
	switch p.OutputLimit {
	case catalog.OutputLimitAsSent:
		return true
	case catalog.OutputLimitMaxTokens:
		return false
	default:
		return p.Dialect == catalog.Azure || strings.EqualFold(strings.TrimSuffix(host, "."), "api.openai.com")
	}
}
