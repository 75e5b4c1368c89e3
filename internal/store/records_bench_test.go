package store_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"shareai/internal/catalog"
	"shareai/internal/store"
	"shareai/internal/store/storetest"
	"shareai/internal/usage"
)

// BenchmarkInsertRecords stores batches of 500 records as the gateway writes them. us/row is the figure
// to watch: with one series of sums, and with as many as a busy minute has.
func BenchmarkInsertRecords(b *testing.B) {
	for _, series := range []int{1, 50} {
		b.Run(fmt.Sprintf("SQLite/%d series", series), func(b *testing.B) {
			benchmarkInsert(b, store.Options{DataDir: b.TempDir()}, series)
		})
	}
	b.Run("PostgreSQL", func(b *testing.B) {
		server := os.Getenv(storetest.PostgresVariable)
		if server == "" {
			b.Skip(storetest.PostgresVariable + " is not set")
		}
		// The server's own database: the rows stay until the server goes. Their ids are new each time.
		benchmarkInsert(b, store.Options{Database: server, DataDir: b.TempDir()}, 50)
	})
}

func benchmarkInsert(b *testing.B, o store.Options, series int) {
	s, err := store.Open(b.Context(), o)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	const size = 500
	now := time.Now().UnixMicro()
	batch := make([]usage.Record, size)
	for i := range batch {
		batch[i] = usualRecord()
		batch[i].KeyID = fmt.Sprint("key_", i%series)
	}
	n := int64(0)
	for b.Loop() {
		for i := range batch {
			n++
			batch[i].Start = now + n*100
			batch[i].ID = fmt.Sprintf("req_%013x%012x", now+n*100, n*0x9E3779B9)
		}
		if err := s.InsertRecords(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(n), "us/row")
}

// usualRecord is a streamed answer at the first attempt.
func usualRecord() usage.Record {
	tokens := catalog.Tokens{Prompt: 812, Completion: 120}
	return usage.Record{
		Duration: 1_890_211, FirstToken: 240_211, Organization: "acme", Project: "app", KeyID: "key_abcdefghij0123456789",
		Endpoint: catalog.Chat, Requested: "chat", Route: "chat", Policy: "careful", Model: "llama-3.3-70b",
		Provider: "alpha", Deployment: "alpha/llama-3.3-70b-versatile", Stream: true, Status: 200,
		Tokens: tokens, PriceVersion: "a1b2c3d4e5f6", Cost: 573_880, BytesIn: 4096, BytesOut: 24_000,
		TraceID: "4bf92f3577b34da6a3ce929d0e0e4736", SpanID: "00f067aa0ba902b7",
		Attempts: []usage.Attempt{{
			Provider: "alpha", Deployment: "alpha/llama-3.3-70b-versatile", Model: "llama-3.3-70b", ProviderKey: "main",
			Outcome: "ok", Status: 200, Offset: 210, Headers: 140_211, FirstToken: 240_000, Duration: 1_890_000,
			Tokens: tokens, PriceVersion: "a1b2c3d4e5f6", Cost: 573_880, SpanID: "00f067aa0ba902b8",
		}},
		Reason: "primary", Primary: "alpha/llama-3.3-70b-versatile", PrimaryCost: 573_880, PrimaryLatency: 251_000,
		Candidates: []usage.Candidate{
			{Deployment: "alpha/llama-3.3-70b-versatile", Model: "llama-3.3-70b"},
			{Deployment: "beta/meta/llama-3.3-70b", Model: "llama-3.3-70b"},
		},
	}
}
