package routing

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"shareai/internal/account"
	"shareai/internal/fault"
	"shareai/internal/openai"
)

// PinHeader pins a request to a provider ("alpha") or to a provider's model id ("alpha/llama-70b"),
// for clients that can not add fields to the body.
const PinHeader = "X-Shareai-Pin"

// Wish is the client's own say about providers. Its form in the body is OpenRouter's `provider` object.
type Wish struct {
	Pin            account.Pin
	Order          []string // tried first, in this order
	Only           []string // none: all
	Ignore         []string
	AllowFallbacks bool
}

// ReadWish reads the wish of a request. Its error is a *fault.Error of kind Invalid.
func ReadWish(r *openai.Request, header http.Header) (Wish, error) {
	w := Wish{AllowFallbacks: true}
	if pin := header.Get(PinHeader); pin != "" {
		w.Pin.Provider, w.Pin.Model, _ = strings.Cut(pin, "/")
	}
	raw, ok := r.Field("provider")
	if !ok || raw[0] != '{' {
		// A string or null is not ours: an engine may have a field of this name, it passes through.
		return w, nil
	}
	var body struct {
		Order          []string `json:"order"`
		Only           []string `json:"only"`
		Ignore         []string `json:"ignore"`
		AllowFallbacks *bool    `json:"allow_fallbacks"`
	}
	if err := json.Unmarshal(raw, &body); err != nil {
		return w, fault.New(fault.Invalid, "invalid_type",
			"`provider` is an object such as {\"order\": [\"alpha\"], \"only\": [], \"ignore\": [], \"allow_fallbacks\": true}.").About("provider").Because(err)
	}
	w.Order, w.Only, w.Ignore = body.Order, body.Only, body.Ignore
	if body.AllowFallbacks != nil {
		w.AllowFallbacks = *body.AllowFallbacks
	}
	return w, nil
}

func (w *Wish) accepts(provider string) bool {
	return !slices.Contains(w.Ignore, provider) && (len(w.Only) == 0 || slices.Contains(w.Only, provider))
}

// sort puts the wanted providers first; the policy's order holds among the rest.
func (w *Wish) sort(list []Candidate) { byRank(list, w.Order) }
