package smoke

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// defect is something that a gateway may get wrong.
type defect string

const (
	streamCut       defect = "stream cut"       // the connection breaks after the first content
	streamNoDone    defect = "stream no [DONE]" // the stream ends cleanly, too early
	streamGarbled   defect = "stream garbled"   // an event that is not JSON
	streamNoFinish  defect = "no finish_reason" // [DONE] without a finish_reason
	streamEmpty     defect = "stream empty"     // finished, and nothing was said
	streamError     defect = "error event"      // an error event in place of the rest
	streamAsJSON    defect = "stream as JSON"   // stream: true is ignored
	streamNoUsage   defect = "no usage chunk"   // include_usage is ignored
	streamMiscounts defect = "stream miscounts" // other prompt tokens than the unary answer
	trailerDiffers  defect = "trailer differs"  // the trailer names another cost than the usage chunk
	afterDone       defect = "after [DONE]"     // the stream goes on after [DONE]
	usageSum        defect = "usage sum"        // total is not prompt + completion
	usageMissing    defect = "usage missing"    // no usage block
	noCost          defect = "no cost"          // no x-shareai-cost
	noProvider      defect = "no provider"      // no x-shareai-provider: not this gateway at all
	noAttempts      defect = "no attempts"      // no x-shareai-attempts
	noRequestID     defect = "no request id"    // no x-request-id
	emptyAnswer     defect = "empty answer"     // a finished answer without text
	noEmbedding     defect = "no embedding"     // an empty vector
	betaDown        defect = "beta down"        // beta answers nothing
	noFailover      defect = "no failover"      // a failing provider is the end of the request
	circuitOpen     defect = "circuit open"     // no defect: the rehearsal model's first deployment failed before
	nothingFails    defect = "nothing fails"    // the rehearsal model's first deployment works
	deafToWishes    defect = "deaf to wishes"   // the list of providers to leave out is not heeded
	html            defect = "html"             // another kind of server
	keyRefused      defect = "key refused"      // 401
	nobodyServes    defect = "nobody serves"    // a listed name that no provider may serve
	noModels        defect = "no models"        // the key may use nothing
	limitIgnored    defect = "limit ignored"    // more is answered than the limit
	limitEarly      defect = "limit early"      // less is
	noRetryAfter    defect = "no retry after"   // a refusal does not say when to try again
	noRemaining     defect = "no remaining"     // an answer does not say what is left
	limitUsedUp     defect = "limit used up"    // no defect: others have used it
	budgetIgnored   defect = "budget ignored"
)

// Keys of the double with bounds: requests, and a budget.
const (
	rateKey    = "sk-shareai-rate-0123456789"
	quotaKey   = "sk-shareai-quota-0123456789"
	rateLimit  = 5
	quotaLimit = 3
)

// double is a gateway in small, with the defect that a test wants.
type double struct {
	defect defect

	mu      sync.Mutex
	count   int
	refused int
	records map[string]Entry
	keys    map[string]bool // every Authorization header seen
	used    map[string]int  // requests of a key with bounds
}

func newDouble(t *testing.T, d defect) (*double, string) {
	t.Helper()
	g := &double{defect: d, records: map[string]Entry{}, keys: map[string]bool{}, used: map[string]int{}}
	server := httptest.NewServer(g)
	t.Cleanup(server.Close)
	return g, server.URL
}

type wireAsk struct {
	Model    string `json:"model"`
	Stream   bool   `json:"stream"`
	Provider struct {
		Ignore         []string `json:"ignore"`
		Only           []string `json:"only"`
		AllowFallbacks *bool    `json:"allow_fallbacks"`
	} `json:"provider"`
	MaxTokens int `json:"max_tokens"`
}

// served is what the double's models are served by, most wanted first.
var served = map[string][]string{
	"chat": {"alpha", "beta"}, "embed": {"beta"}, DefaultRehearsal: {"broken", "beta"},
}

func (g *double) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	g.count++
	id := fmt.Sprintf("req_%d", g.count)
	g.keys[r.Header.Get("Authorization")] = true
	g.mu.Unlock()
	if g.defect != noRequestID {
		w.Header().Set("X-Request-Id", id)
	}
	switch {
	case g.defect == html:
		fmt.Fprint(w, "<html>It works!</html>")
	case g.defect == keyRefused:
		g.refuse(w, 401, "invalid_api_key", "This API key is not known.", "")
	case r.URL.Path == "/v1/models":
		g.list(w)
	default:
		if g.admits(w, strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")) {
			g.answer(w, r, id)
		}
	}
}

func (g *double) admits(w http.ResponseWriter, key string) bool {
	g.mu.Lock()
	g.used[key]++
	n := g.used[key]
	g.mu.Unlock()
	switch key {
	case rateKey:
		left := rateLimit - n
		w.Header().Set("X-Ratelimit-Limit-Requests", strconv.Itoa(rateLimit))
		if g.defect != noRemaining {
			w.Header().Set("X-Ratelimit-Remaining-Requests", strconv.Itoa(max(left, 0)))
		}
		if g.defect != limitUsedUp && (left >= 0 || g.defect == limitIgnored) && (left > 1 || g.defect != limitEarly) {
			return true
		}
		if g.defect != noRetryAfter {
			w.Header().Set("Retry-After", "7")
		}
		g.refuse(w, 429, "rate_limit_exceeded", "Slowly.", "")
		return false
	case quotaKey:
		if n <= quotaLimit || g.defect == budgetIgnored {
			return true
		}
		g.refuse(w, 402, "insufficient_quota", "Spent.", "")
		return false
	}
	return true
}

func (g *double) list(w http.ResponseWriter) {
	if g.defect == noModels {
		fmt.Fprint(w, `{"object":"list","data":[]}`)
		return
	}
	fmt.Fprintf(w, `{"object":"list","data":[{"id":"chat"},{"id":"embed"},{"id":%q}]}`, DefaultRehearsal)
}

func (g *double) refuse(w http.ResponseWriter, status int, code, message, failed string) {
	g.mu.Lock()
	g.refused++
	g.mu.Unlock()
	attempts := "[]"
	if failed != "" {
		attempts = fmt.Sprintf(`[{"provider":%q,"outcome":"overloaded","status":503,"ms":3}]`, failed)
	}
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"error":{"message":%q,"type":"x","code":%q,"param":null,"attempts":%s}}`, message, code, attempts)
}

func (g *double) answer(w http.ResponseWriter, r *http.Request, id string) {
	var a wireAsk
	if json.NewDecoder(r.Body).Decode(&a) != nil {
		g.refuse(w, 400, "invalid_json", "The body is not JSON.", "")
		return
	}
	if embeds := r.URL.Path == "/v1/embeddings"; embeds != (a.Model == "embed") {
		g.refuse(w, 400, "endpoint_not_supported", "wrong endpoint", "")
		return
	}
	provider, attempts := "", 0
	for _, p := range served[a.Model] {
		wish := a.Provider
		if p == "broken" && g.defect == circuitOpen {
			w.Header().Set("X-Shareai-Reason", "broken/chat circuit")
			continue
		}
		if g.defect != deafToWishes && (slices.Contains(wish.Ignore, p) || len(wish.Only) > 0 && !slices.Contains(wish.Only, p)) {
			continue
		}
		attempts++
		down := p == "broken" && g.defect != nothingFails || p == "beta" && g.defect == betaDown
		if !down {
			provider = p
			break
		}
		if g.defect == noFailover || wish.AllowFallbacks != nil && !*wish.AllowFallbacks {
			g.refuse(w, 502, "upstream_failed", "Every attempt failed. Authorization: Bearer sk-provider-123456", p)
			return
		}
	}
	if provider == "" && attempts > 0 {
		g.refuse(w, 502, "upstream_failed", "Every attempt failed.", "beta")
		return
	}
	if provider == "" || g.defect == nobodyServes {
		g.refuse(w, 503, "no_candidate", "Nobody left.", "")
		return
	}
	g.say(w, &a, id, provider, attempts)
}

// say writes an answer of 7 prompt tokens and 5 completion tokens, at 2 nano-dollars a token.
func (g *double) say(w http.ResponseWriter, a *wireAsk, id, provider string, attempts int) {
	completion := int64(5)
	if a.Model == "embed" {
		completion = 0
	}
	entry := Entry{Tokens: Tokens{Prompt: 7, Completion: completion}, Cost: 2 * (7 + completion)}
	g.mu.Lock()
	g.records[id] = entry
	g.mu.Unlock()
	h := w.Header()
	if g.defect != noProvider {
		h.Set("X-Shareai-Provider", provider)
	}
	if g.defect != noAttempts {
		h.Set("X-Shareai-Attempts", strconv.Itoa(attempts))
	}
	usage := fmt.Sprintf(`{"prompt_tokens":7,"completion_tokens":%d,"total_tokens":%d}`, completion, 7+completion)
	switch g.defect {
	case usageSum:
		usage = strings.Replace(usage, `"total_tokens":`, `"total_tokens":9`, 1)
	case usageMissing:
		usage = "null"
	}
	cost := formatUSD(entry.Cost)
	if a.Stream && g.defect != streamAsJSON {
		g.stream(w, usage, cost)
		return
	}
	if g.defect != noCost {
		h.Set("X-Shareai-Cost", cost)
	}
	switch {
	case a.Model == "embed" && g.defect == noEmbedding:
		fmt.Fprintf(w, `{"object":"list","data":[{"embedding":[]}],"usage":%s}`, usage)
	case a.Model == "embed":
		fmt.Fprintf(w, `{"object":"list","data":[{"embedding":[0.1,0.2]}],"usage":%s}`, usage)
	case g.defect == emptyAnswer:
		fmt.Fprintf(w, `{"choices":[{"message":{"role":"assistant","content":null},"finish_reason":"stop"}],"usage":%s}`, usage)
	default:
		fmt.Fprintf(w, `{"choices":[{"message":{"role":"assistant","content":"Waves."},"finish_reason":"stop"}],"usage":%s}`, usage)
	}
}

func (g *double) stream(w http.ResponseWriter, usage, cost string) {
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	w.Header().Set("Trailer", "X-Shareai-Cost")
	event := func(data string) { fmt.Fprintf(w, "data: %s\n\n", data) }
	event(`{"choices":[{"delta":{"role":"assistant","content":""},"finish_reason":null}]}`)
	if g.defect != streamEmpty {
		event(`{"choices":[{"delta":{"content":"Waves."},"finish_reason":null}]}`)
	}
	switch g.defect {
	case streamCut:
		fmt.Fprint(w, `data: {"choices":[{"del`)
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	case streamNoDone:
		return
	case streamError:
		event(`{"error":{"message":"The provider broke off.","code":"broken"}}`)
		return
	case streamGarbled:
		event(`{"choices":[{"del`)
	case streamNoFinish:
	default:
		event(`{"choices":[{"delta":{},"finish_reason":"stop"}]}`)
	}
	switch g.defect {
	case streamNoUsage:
	case streamMiscounts:
		event(`{"choices":[],"usage":{"prompt_tokens":8,"completion_tokens":5,"total_tokens":13},"x-shareai-cost":"0"}`)
	case noCost:
		event(fmt.Sprintf(`{"choices":[],"usage":%s}`, usage))
	default:
		event(fmt.Sprintf(`{"choices":[],"usage":%s,"x-shareai-cost":%q}`, usage, cost))
	}
	event("[DONE]")
	if g.defect == afterDone {
		event(`{"choices":[]}`)
	}
	switch g.defect {
	case trailerDiffers:
		w.Header().Set("X-Shareai-Cost", "7")
	case streamMiscounts:
		w.Header().Set("X-Shareai-Cost", "0")
	default:
		w.Header().Set("X-Shareai-Cost", cost)
	}
}
