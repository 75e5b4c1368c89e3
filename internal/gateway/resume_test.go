package gateway

import (
	"strings"
	"testing"

	"shareai/internal/catalog"
	"shareai/internal/snapshot"
)

// R14: a stream that breaks half-way is completed by another deployment inside the same stream, and the
// client can tell from the usage chunk.
func TestABrokenStreamIsCompletedInTheSameStream(t *testing.T) {
	first := newEngine(t, streaming(roleChunk, helloChunk, "CUT"))
	second := newEngine(t, streaming(roleChunk, helloChunk, worldChunk, finishChunk, usageChunk, "[DONE]"))
	s := newStand(t, func(s *snapshot.Spec) {
		s.Models = append(s.Models, catalog.Model{Name: "qwen", Deployments: []catalog.Deployment{s.Models[0].Deployments[1]}})
		s.Models[0].Deployments = s.Models[0].Deployments[:1]
		s.Policies[0].Fallbacks = []string{"qwen"}
	}, first, second)
	resp, body := s.post(t, "/v1/chat/completions", hiStreamUsage)
	list := events(t, body)
	if got := text(t, list[:len(list)-1]); got != "Hello world" || strings.Count(body, `"finish_reason":"stop"`) != 1 || !strings.HasSuffix(body, "data: [DONE]\n\n") {
		t.Errorf("%q in %s", got, body)
	}
	if strings.Count(body, `"role":"assistant"`) != 1 {
		t.Errorf("the role is told once: %s", body)
	}
	// The model that serves is named from the place at which it took over.
	if !strings.Contains(list[0], `"model":"llama"`) || !strings.Contains(list[len(list)-2], `"model":"qwen"`) {
		t.Errorf("models: %s", body)
	}
	if !strings.Contains(list[len(list)-2], `"x-shareai-resumed":"restart"`) {
		t.Errorf("the usage chunk does not tell: %s", list[len(list)-2])
	}
	r := s.book.last(t)
	if !r.Resumed || r.Status != 200 || r.Model != "qwen" || len(r.Attempts) != 2 || r.Attempts[0].Cost == 0 || r.Attempts[1].Cost == 0 || r.Cost != r.Attempts[0].Cost+r.Attempts[1].Cost {
		t.Errorf("record %+v", r)
	}
	if resp.Trailer.Get("X-Shareai-Cost") != catalog.FormatUSD(r.Cost) {
		t.Errorf("trailer %q, cost %d", resp.Trailer.Get("X-Shareai-Cost"), r.Cost)
	}
	if want := "fallback of the policy; a/l broken"; r.Reason != want {
		t.Errorf("reason %q, want %q", r.Reason, want)
	}
}

func TestTheReasonIsInTheAnswer(t *testing.T) {
	good := newEngine(t, saying(200, reply))
	s := newStand(t, nil, good)
	resp, _ := s.post(t, "/v1/chat/completions", hi)
	if got := resp.Header.Get("X-Shareai-Reason"); got != "primary" {
		t.Errorf("%q", got)
	}
	s = newStand(t, nil, newEngine(t, saying(503, `{}`)), good)
	resp, _ = s.post(t, "/v1/chat/completions", hi)
	if got := resp.Header.Get("X-Shareai-Reason"); got != "a/l overloaded" {
		t.Errorf("%q", got)
	}
	if r := s.book.last(t); len(r.Candidates) != 2 || r.Candidates[1].Deployment != "b/l" {
		t.Errorf("candidates %+v", r.Candidates)
	}
}
