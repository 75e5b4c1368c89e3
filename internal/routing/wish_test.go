package routing

import (
	"math"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"shareai/internal/account"
	"shareai/internal/catalog"
	"shareai/internal/fault"
)

func TestReadWish(t *testing.T) {
	for _, c := range []struct {
		name   string
		body   string
		header http.Header
		want   Wish
	}{
		{"nothing", ``, nil, Wish{AllowFallbacks: true}},
		{
			"the whole provider object", `"provider":{"order":["a"],"only":["a","b/m"],"ignore":["c"],"allow_fallbacks":false,"sort":"price",
			"max_price":{"prompt":0.5,"completion":"1.5","request":1},"data_collection":"deny","quantizations":["fp8"],"zdr":true,"ONLY2":1}`, nil,
			Wish{
				Order: []string{"a"}, Only: []string{"a", "b/m"}, Ignore: []string{"c"}, Sort: catalog.Cheapest,
				MaxPrice: &PriceCeiling{0.5e9, 1.5e9}, NoDataCollection: true,
			},
		},
		{
			"OpenRouter's long form of sort", `"provider":{"sort":{"by":"throughput","partition":"none"},"max_price":{"completion":2}}`, nil,
			Wish{AllowFallbacks: true, Sort: catalog.Fastest, MaxPrice: &PriceCeiling{math.MaxInt64, 2e9}},
		},
		{"null is not sent", `"provider":{"order":null,"sort":null,"max_price":null,"data_collection":null,"allow_fallbacks":null},"models":null`, nil, Wish{AllowFallbacks: true}},
		{
			"null within a price", `"provider":{"max_price":{"prompt":null},"sort":{"by":null}}`, nil,
			Wish{AllowFallbacks: true, MaxPrice: &PriceCeiling{math.MaxInt64, math.MaxInt64}},
		},
		{"null is no provider object", `"provider":null`, nil, Wish{AllowFallbacks: true}},
		{
			"models and fallbacks", `"models":["m","n"],"fallbacks":["o",{"model":"p"}]`, nil,
			Wish{AllowFallbacks: true, Fallbacks: []Fallback{{"m", "models"}, {"n", "models"}, {"o", "fallbacks"}, {"p", "fallbacks"}}},
		},
		{"headers", ``, http.Header{
			PinHeader: {"alpha/meta/llama"}, FallbacksHeader: {"n, o", "p"}, OrderHeader: {"a,b"}, OnlyHeader: {" a "}, IgnoreHeader: {"c,,"},
			AllowFallbacksHeader: {"False"}, MaxPriceHeader: {"0.5/1.5"}, SortHeader: {"latency"}, DataCollectionHeader: {"deny"},
		}, Wish{
			Pin: account.Pin{Provider: "alpha", Model: "meta/llama"}, Order: []string{"a", "b"}, Only: []string{"a"}, Ignore: []string{"c"},
			Fallbacks: []Fallback{{"n", FallbacksHeader}, {"o", FallbacksHeader}, {"p", FallbacksHeader}},
			MaxPrice:  &PriceCeiling{0.5e9, 1.5e9}, Sort: catalog.Fastest, NoDataCollection: true,
		}},
		{"one price", ``, http.Header{MaxPriceHeader: {" 2 "}, PinHeader: {"alpha"}}, Wish{AllowFallbacks: true, MaxPrice: &PriceCeiling{2e9, 2e9}, Pin: account.Pin{Provider: "alpha"}}},
		{
			"the body wins, member by member", `"models":["x"],"provider":{"order":["b"],"ignore":[],"allow_fallbacks":true,"max_price":{"prompt":1},"sort":"price","data_collection":"allow"}`,
			http.Header{
				FallbacksHeader: {"n"}, OrderHeader: {"a"}, OnlyHeader: {"a"}, IgnoreHeader: {"c"}, AllowFallbacksHeader: {"false"}, MaxPriceHeader: {"2"},
				SortHeader: {"latency"}, DataCollectionHeader: {"deny"},
			},
			Wish{
				AllowFallbacks: true, Order: []string{"b"}, Only: []string{"a"}, Ignore: []string{}, Fallbacks: []Fallback{{"x", "models"}},
				MaxPrice: &PriceCeiling{1e9, math.MaxInt64}, Sort: catalog.Cheapest,
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			body := `{"model":"m","messages":[]}`
			if c.body != "" {
				body = `{"model":"m","messages":[],` + c.body + `}`
			}
			w, err := ReadWish(request(body), c.header)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, w); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestReadWishRefuses(t *testing.T) {
	many := `"` + strings.Repeat(`a","`, mostNames) + `a"`
	for _, c := range []struct {
		body   string
		header http.Header
		param  string
	}{
		{`"provider":"alpha"`, nil, "provider"},
		{`"provider":["alpha"]`, nil, "provider"},
		{`"provider":7`, nil, "provider"},
		{`"provider":{"order":"alpha"}`, nil, "provider.order"},
		{`"provider":{"only":[1]}`, nil, "provider.only"},
		{`"provider":{"ignore":[` + many + `]}`, nil, "provider.ignore"},
		{`"provider":{"allow_fallbacks":"yes"}`, nil, "provider.allow_fallbacks"},
		{`"provider":{"sort":"fame"}`, nil, "provider.sort"},
		{`"provider":{"sort":7}`, nil, "provider.sort"},
		{`"provider":{"sort":{"by":7}}`, nil, "provider.sort"},
		{`"provider":{"data_collection":true}`, nil, "provider.data_collection"},
		{`"provider":{"data_collection":"maybe"}`, nil, "provider.data_collection"},
		{`"provider":{"max_price":1}`, nil, "provider.max_price"},
		{`"provider":{"max_price":{"prompt":-1}}`, nil, "provider.max_price.prompt"},
		{`"provider":{"max_price":{"completion":[1]}}`, nil, "provider.max_price.completion"},
		{`"models":"n"`, nil, "models"},
		{`"fallbacks":[7]`, nil, "fallbacks[0]"},
		{`"x":1`, http.Header{PinHeader: {"/llama"}}, PinHeader},
		{`"x":1`, http.Header{PinHeader: {""}}, PinHeader},
		{`"x":1`, http.Header{PinHeader: {"alpha/"}}, PinHeader},
		{`"x":1`, http.Header{AllowFallbacksHeader: {"no"}}, AllowFallbacksHeader},
		{`"x":1`, http.Header{SortHeader: {"no"}}, SortHeader},
		{`"x":1`, http.Header{DataCollectionHeader: {"no"}}, DataCollectionHeader},
		{`"x":1`, http.Header{MaxPriceHeader: {"1/x"}}, MaxPriceHeader},
		{`"x":1`, http.Header{MaxPriceHeader: {"NaN"}}, MaxPriceHeader},
		{`"x":1`, http.Header{FallbacksHeader: {strings.Repeat("a,", mostFallbacks+1)}}, FallbacksHeader},
	} {
		_, err := ReadWish(request(`{"model":"m",`+c.body+`}`), c.header)
		if e := fault.From(err); err == nil || e.Kind != fault.Invalid || e.Param != c.param || e.Message == "" {
			t.Errorf("%s %v: %+v", c.body, c.header, err)
		}
	}
}
