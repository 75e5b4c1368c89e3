package attempt

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"shareai/internal/catalog"
	"shareai/internal/health"
	"shareai/internal/openai"
	"shareai/internal/routing"
	"shareai/internal/share"
	"shareai/internal/snapshot"
	"shareai/internal/upstream"
)

// instant answers at once.
type instant struct{ answer upstream.Answer }

func (i instant) Do(context.Context, *upstream.Call) (*upstream.Answer, error) { return &i.answer, nil }

// The engine's own cost, without any wire: one attempt that succeeds.
func BenchmarkUnary(b *testing.B) { benchmarkUnary(b, nil, 0) }

// The same where attempts take seats, at a deployment that needs none and at one that has a hundred.
func BenchmarkUnaryWithADesk(b *testing.B) {
	benchmarkUnary(b, share.NewDesk(nil, slog.New(slog.DiscardHandler)), 0)
}

func BenchmarkUnaryWithASeat(b *testing.B) {
	benchmarkUnary(b, share.NewDesk(nil, slog.New(slog.DiscardHandler)), 100)
}

func benchmarkUnary(b *testing.B, desk *share.Desk, seats int64) {
	request, err := openai.ParseRequest([]byte(unaryBody))
	if err != nil {
		b.Fatal(err)
	}
	policy := catalog.Policy{}.WithDefaults()
	provider := &catalog.Provider{Name: "a", Keys: []catalog.ProviderKey{{Name: "k"}}}
	candidate := routing.Candidate{HealthID: "a/m", Target: snapshot.Target{
		ID: "a/m", Model: &catalog.Model{Name: "m"}, Provider: provider,
		Deployment: &catalog.Deployment{Provider: "a", Model: "m", Capacity: catalog.Capacity{Concurrency: seats}}, HealthID: "a/m",
	}}
	e := NewEngine(instant{upstream.Answer{
		Status: 200, HeadersAt: time.Now(), Body: []byte(`{"choices":[{"index":0,"message":{"content":"yes"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2}}`),
	}}, health.NewBoard(health.Options{}), func() float64 { return 0 }).Sharing(desk)
	b.ReportAllocs()
	for b.Loop() {
		plan := &routing.Plan{Policy: &policy, Candidates: []routing.Candidate{candidate, candidate}}
		if _, err := e.Run(b.Context(), &Work{Plan: plan, Endpoint: catalog.Chat, Request: request, Start: time.Now(), Log: &Log{}}); err != nil {
			b.Fatal(err)
		}
	}
}
