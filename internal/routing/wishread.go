package routing

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"

	"shareai/internal/catalog"
	"shareai/internal/fault"
	"shareai/internal/openai"
)

// The headers of a wish, in canonical form. Lists are separated by commas.
const (
	PinHeader            = "X-Shareai-Pin"             // "alpha", or "alpha/llama-70b" for a model id of the provider
	FallbacksHeader      = "X-Shareai-Fallbacks"       // models or routes
	OrderHeader          = "X-Shareai-Provider-Order"  // as provider.order
	OnlyHeader           = "X-Shareai-Provider-Only"   // as provider.only
	IgnoreHeader         = "X-Shareai-Provider-Ignore" // as provider.ignore
	AllowFallbacksHeader = "X-Shareai-Allow-Fallbacks" // true or false
	MaxPriceHeader       = "X-Shareai-Max-Price"       // USD per million tokens: "0.5/1.5" for prompt/completion, or one for both
	SortHeader           = "X-Shareai-Sort"            // price, latency or throughput
	DataCollectionHeader = "X-Shareai-Data-Collection" // allow or deny
)

// mostNames bounds the lists of a wish: every candidate is held against every name.
const mostNames = 64

// mostFallbacks bounds the further models of a request: those in a header as those in the body.
const mostFallbacks = 16

// ReadWish reads the wish of a request. Where body and header both say something, the body counts. Its
// error is a *fault.Error of kind Invalid.
func ReadWish(r *openai.Request, header http.Header) (Wish, error) {
	w := Wish{AllowFallbacks: true}
	if err := w.readHeaders(header); err != nil {
		return w, err
	}
	if err := w.readModels(r); err != nil {
		return w, err
	}
	raw, ok := r.Field("provider")
	if !ok || raw[0] == 'n' {
		return w, nil
	}
	return w, w.readProvider(raw)
}

// readModels reads the models after the first and the fallbacks.
func (w *Wish) readModels(r *openai.Request) error {
	models, err := r.Models()
	if err != nil {
		return err
	}
	fallbacks, err := r.Fallbacks()
	if err != nil {
		return err
	}
	if len(models)+len(fallbacks) > 0 {
		w.Fallbacks = nil
	}
	w.fallBack(models, "models")
	w.fallBack(fallbacks, "fallbacks")
	return nil
}

func (w *Wish) fallBack(names []string, param string) {
	for _, name := range names {
		w.Fallbacks = append(w.Fallbacks, Fallback{name, param})
	}
}

// preferences is OpenRouter's provider object, as far as it means something here. What else it may
// contain is left unread. A member that is null was not sent.
type preferences struct {
	Order          []string        `json:"order"`
	Only           []string        `json:"only"`
	Ignore         []string        `json:"ignore"`
	AllowFallbacks *bool           `json:"allow_fallbacks"`
	MaxPrice       *pricesPerToken `json:"max_price"`
	Sort           json.RawMessage `json:"sort"`
	DataCollection *string         `json:"data_collection"`
}

// pricesPerToken are USD per million tokens, each a number or a text that is one.
type pricesPerToken struct {
	Prompt     json.RawMessage `json:"prompt"`
	Completion json.RawMessage `json:"completion"`
}

func (w *Wish) readProvider(raw []byte) error {
	var p preferences
	if err := json.Unmarshal(raw, &p); err != nil {
		param := "provider"
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) && wrong.Field != "" {
			param += "." + wrong.Field
		}
		return fault.New(fault.Invalid, "invalid_type", fmt.Sprintf("%q has a wrong type. `provider` is an object such as "+
			`{"order": ["alpha"], "only": [], "ignore": [], "allow_fallbacks": true, "sort": "price", "max_price": {"prompt": 0.5, "completion": 1.5}, "data_collection": "deny"}.`,
			param)).About(param).Because(err)
	}
	if err := cmp.Or(
		preferred(&w.Order, p.Order, "provider.order"),
		preferred(&w.Only, p.Only, "provider.only"),
		preferred(&w.Ignore, p.Ignore, "provider.ignore"),
	); err != nil {
		return err
	}
	if p.AllowFallbacks != nil {
		w.AllowFallbacks = *p.AllowFallbacks
	}
	if p.MaxPrice != nil {
		if err := w.readPrices(p.MaxPrice); err != nil {
			return err
		}
	}
	if p.DataCollection != nil {
		if err := w.readDataCollection(*p.DataCollection, "provider.data_collection"); err != nil {
			return err
		}
	}
	return w.readSort(p.Sort)
}

// preferred replaces a list by one that was sent.
func preferred(into *[]string, names []string, param string) error {
	if names == nil {
		return nil
	}
	*into = names
	return bounded(names, param, mostNames)
}

// readSort reads a word, or OpenRouter's longer form {"by": word, "partition": …}.
func (w *Wish) readSort(raw json.RawMessage) error {
	if len(raw) == 0 || raw[0] == 'n' {
		return nil
	}
	var long struct {
		By string `json:"by"`
	}
	into := any(&long.By)
	if raw[0] == '{' {
		into = &long
	}
	if json.Unmarshal(raw, into) != nil {
		return wrongSort("provider.sort")
	}
	if raw[0] == '{' && long.By == "" {
		return nil
	}
	return w.sortBy(long.By, "provider.sort")
}

// sortBy reads a word. What is measured is the time to the first token, which throughput is taken to
// follow.
func (w *Wish) sortBy(word, param string) error {
	switch strings.ToLower(word) {
	case "price":
		w.Sort = catalog.Cheapest
	case "latency", "throughput":
		w.Sort = catalog.Fastest
	default:
		return wrongSort(param)
	}
	return nil
}

func wrongSort(param string) error {
	return fault.New(fault.Invalid, "invalid_value", fmt.Sprintf("%q must be price, latency or throughput.", param)).About(param)
}

func (w *Wish) readDataCollection(word, param string) error {
	switch strings.ToLower(word) {
	case "allow":
		w.NoDataCollection = false
	case "deny":
		w.NoDataCollection = true
	default:
		return fault.New(fault.Invalid, "invalid_value", fmt.Sprintf("%q must be allow or deny.", param)).About(param)
	}
	return nil
}

func (w *Wish) readPrices(p *pricesPerToken) error {
	ceiling := PriceCeiling{math.MaxInt64, math.MaxInt64}
	for _, part := range []struct {
		raw   json.RawMessage
		param string
		into  *int64
	}{{p.Prompt, "provider.max_price.prompt", &ceiling.Prompt}, {p.Completion, "provider.max_price.completion", &ceiling.Completion}} {
		if len(part.raw) == 0 || part.raw[0] == 'n' {
			continue
		}
		if err := readPrice(strings.Trim(string(part.raw), `"`), part.param, part.into); err != nil {
			return err
		}
	}
	w.MaxPrice = &ceiling
	return nil
}

func readPrice(text, param string, into *int64) error {
	usd, err := strconv.ParseFloat(text, 64)
	if err == nil {
		*into, err = catalog.NanoPerMillion(usd)
	}
	if err != nil {
		return fault.New(fault.Invalid, "invalid_value",
			fmt.Sprintf("%q must be a price in US dollars per million tokens, such as 0.5.", param)).About(param)
	}
	return nil
}

// readHeaders reads what headers say. Their names are in canonical form, as a server has them.
func (w *Wish) readHeaders(header http.Header) error {
	if len(header[PinHeader]) > 0 {
		var slash bool
		w.Pin.Provider, w.Pin.Model, slash = strings.Cut(one(header, PinHeader), "/")
		if w.Pin.Provider == "" || slash && w.Pin.Model == "" {
			return wrongHeader(PinHeader, "the name of a provider, or provider/model")
		}
	}
	names := many(header, FallbacksHeader)
	w.fallBack(names, FallbacksHeader)
	w.Order, w.Only, w.Ignore = many(header, OrderHeader), many(header, OnlyHeader), many(header, IgnoreHeader)
	for _, l := range []struct {
		param string
		names []string
		most  int
	}{{FallbacksHeader, names, mostFallbacks}, {OrderHeader, w.Order, mostNames}, {OnlyHeader, w.Only, mostNames}, {IgnoreHeader, w.Ignore, mostNames}} {
		if err := bounded(l.names, l.param, l.most); err != nil {
			return err
		}
	}
	switch word := one(header, AllowFallbacksHeader); strings.ToLower(word) {
	case "", "true":
	case "false":
		w.AllowFallbacks = false
	default:
		return wrongHeader(AllowFallbacksHeader, "true or false")
	}
	if word := one(header, SortHeader); word != "" {
		if err := w.sortBy(word, SortHeader); err != nil {
			return err
		}
	}
	if word := one(header, DataCollectionHeader); word != "" {
		if err := w.readDataCollection(word, DataCollectionHeader); err != nil {
			return err
		}
	}
	return w.readMaxPrice(one(header, MaxPriceHeader))
}

func (w *Wish) readMaxPrice(text string) error {
	if text == "" {
		return nil
	}
	prompt, completion, both := strings.Cut(text, "/")
	if !both {
		completion = prompt
	}
	var ceiling PriceCeiling
	if err := readPrice(strings.TrimSpace(prompt), MaxPriceHeader, &ceiling.Prompt); err != nil {
		return err
	}
	if err := readPrice(strings.TrimSpace(completion), MaxPriceHeader, &ceiling.Completion); err != nil {
		return err
	}
	w.MaxPrice = &ceiling
	return nil
}

func bounded(names []string, param string, most int) error {
	if len(names) <= most {
		return nil
	}
	return fault.New(fault.Invalid, "invalid_value", fmt.Sprintf("%q has more than %d names. Send fewer.", param, most)).About(param)
}

func wrongHeader(name, must string) error {
	return fault.New(fault.Invalid, "invalid_value", fmt.Sprintf("The header %s must be %s.", name, must)).About(name)
}

// one is the value of a header; its name is in canonical form, so that it need not be made so.
func one(header http.Header, name string) string {
	if values := header[name]; len(values) > 0 {
		return strings.TrimSpace(values[0])
	}
	return ""
}

// many is the list in a header, which may come in several lines.
func many(header http.Header, name string) (list []string) {
	for _, line := range header[name] {
		for part := range strings.SplitSeq(line, ",") {
			if part = strings.TrimSpace(part); part != "" {
				list = append(list, part)
			}
		}
	}
	return list
}
