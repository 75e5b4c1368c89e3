package routing

import (
	"net/http"
	"testing"

	"shareai/internal/catalog"
	"shareai/internal/health"
	"shareai/internal/openai"
	"shareai/internal/snapshot"
)

// two keeps a house with two deployments of its model, as most have.
func two(strategy catalog.Strategy) func(*snapshot.Spec) {
	return func(s *snapshot.Spec) {
		s.Models[0].Deployments = s.Models[0].Deployments[:2]
		s.Policies[0].Strategy = strategy
	}
}

// Every request is planned: what a plan costs is a part of what the gateway costs.
func BenchmarkMake(b *testing.B) {
	for _, strategy := range catalog.Strategies {
		b.Run(string(strategy), func(b *testing.B) {
			view := house(b, two(strategy))
			a := ask("llama")
			a.Live = health.NewBoard(health.Options{})
			a.Draw = func() float64 { return 0.5 }
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Make(view, a); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("tools, limits and a price ratio", func(b *testing.B) {
		view := house(b, func(s *snapshot.Spec) {
			two(catalog.Ordered)(s)
			s.Models[0].Context, s.Models[0].MaxOutput, s.Models[0].Capabilities = 100_000, 8_000, []catalog.Capability{catalog.Tools}
			s.Policies[0].MaxPriceRatio, s.Policies[0].Regions = 1.5, []string{"us", "eu"}
		})
		a := ask("llama")
		a.Live, a.Needs = health.NewBoard(health.Options{}), openai.Needs{Tools: true}
		b.ReportAllocs()
		for b.Loop() {
			if _, err := Make(view, a); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkReadWish(b *testing.B) {
	request, err := openai.ParseRequest([]byte(`{"model":"llama","messages":[{"role":"user","content":"Hello"}],"temperature":0.5,"max_tokens":100,"stream":true}`))
	if err != nil {
		b.Fatal(err)
	}
	header := http.Header{"Authorization": {"Bearer x"}, "Content-Type": {"application/json"}, "User-Agent": {"OpenAI/Python"}, "Accept": {"*/*"}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ReadWish(request, header); err != nil {
			b.Fatal(err)
		}
	}
}
