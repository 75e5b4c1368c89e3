package app

import (
	"crypto/rand"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// R12: a repeat that reaches another replica gets the answer of the first, while it runs and afterwards.
func TestARepeatReachesAnotherReplica(t *testing.T) {
	if testing.Short() {
		t.Skip("needs a Redis server")
	}
	redis := os.Getenv("SHAREAI_TEST_REDIS")
	if redis == "" {
		t.Fatal("SHAREAI_TEST_REDIS is not set: run make test, or scripts/services.sh run go test …")
	}
	provider := newProvider(t)
	file := yaml(provider.URL, "slow")
	shared := func(s *Settings) { s.Redis = redis }
	a, b := run(t, file, shared), run(t, file, shared)
	key := rand.Text()
	ask := func(r *running) <-chan answer {
		got := make(chan answer, 1)
		go func() {
			defer close(got) // when it fails
			got <- r.ask(http.MethodPost, "/v1/chat/completions", streamed("slow"), "Idempotency-Key", key)
		}()
		return got
	}
	first := ask(a)
	provider.next <- struct{}{} // it is running
	second := ask(b)
	provider.next <- struct{}{}
	want := <-first
	for _, got := range []answer{<-second, <-ask(b)} {
		if got.body != want.body || !strings.HasSuffix(got.body, "data: [DONE]\n\n") || got.header.Get("Idempotent-Replayed") != "true" {
			t.Errorf("%v %q\nwant %q", got.header, got.body, want.body)
		}
		if r := b.record(got.header.Get("X-Request-Id")); r.Cost != 0 || r.Reason != "replay of "+want.header.Get("X-Request-Id") {
			t.Errorf("record %+v", r)
		}
	}
	if r := a.record(want.header.Get("X-Request-Id")); r.Cost == 0 {
		t.Errorf("record %+v", r)
	}
}

// Work whose client has left is waited for when the gateway stops, and cut off after the grace.
func TestStopWaitsForWorkWhoseClientHasLeft(t *testing.T) {
	for name, grace := range map[string]time.Duration{"within the grace": limit, "after the grace": time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			provider := newProvider(t)
			r := run(t, yaml(provider.URL, "slow"), func(s *Settings) { s.Grace = grace })
			next, leave := r.events(streamed("slow"), "Idempotency-Key", "k")
			await(t, next, "one")
			leave()
			stopped := make(chan error, 1)
			go func() { stopped <- r.Stop() }()
			if grace == limit {
				provider.next <- struct{}{}
				provider.next <- struct{}{}
			} else {
				<-provider.left
			}
			if err := <-stopped; err != nil {
				t.Errorf("Stop: %v", err)
			}
			if n := r.count(t); n != 1 {
				t.Errorf("%d records are stored", n)
			}
		})
	}
}
