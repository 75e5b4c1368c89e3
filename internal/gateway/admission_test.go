package gateway

import (
	"context"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"shareai/internal/account"
	"shareai/internal/admission"
	"shareai/internal/catalog"
	"shareai/internal/cluster"
	"shareai/internal/routing"
	"shareai/internal/snapshot"
	"shareai/internal/usage"
)

// hiShort allows an answer of few tokens, which makes the worst case of its cost small and known.
const hiShort = `{"model":"llama","max_tokens":10,"messages":[{"role":"user","content":"hi"}]}`

func (s *stand) chat(t *testing.T, body string) (*http.Response, failure) {
	t.Helper()
	resp, text := s.post(t, "/v1/chat/completions", body)
	if resp.StatusCode == http.StatusOK {
		return resp, failure{}
	}
	return resp, parseFailure(t, text)
}

// R28: limits of every scope, each by itself.
func TestEveryScopeHasLimits(t *testing.T) {
	two := account.Limits{RequestsPerDay: 2}
	for name, c := range map[string]struct {
		set  func(*snapshot.Spec)
		says string
	}{
		"organization": {func(s *snapshot.Spec) { s.Organizations[0].Limits = two }, `organization "acme"`},
		"project":      {func(s *snapshot.Spec) { s.Projects[0].Limits = two }, `project "app"`},
		"key":          {func(s *snapshot.Spec) { s.Keys[0].Limits = two }, `API key "ci"`},
		"model":        {func(s *snapshot.Spec) { s.Models[0].Limits = two }, `model "llama"`},
		"label": {func(s *snapshot.Spec) {
			s.Projects[0].Labels = map[string]string{"team": "search"}
			s.Organizations[0].LabelLimits = []account.LabelLimits{
				{Label: "team", Value: "ads", Limits: account.Limits{RequestsPerDay: 1}}, {Label: "team", Value: "search", Limits: two},
			}
		}, `label "team=search"`},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEngine(t, saying(200, reply))
			s := newStand(t, c.set, e)
			for i := range 2 {
				resp, f := s.chat(t, hiShort)
				if resp.StatusCode != 200 || resp.Header.Get("X-Ratelimit-Remaining-Requests") != []string{"1", "0"}[i] || resp.Header.Get("X-Ratelimit-Limit-Requests") != "2" {
					t.Fatalf("%d %+v %v", resp.StatusCode, f, resp.Header)
				}
			}
			resp, f := s.chat(t, hiShort)
			if resp.StatusCode != 429 || f.Error.Code != "rate_limit_exceeded" || !strings.Contains(f.Error.Message, c.says+" has reached its limit of 2 requests per day") {
				t.Errorf("%d %+v", resp.StatusCode, f)
			}
			if resp.Header.Get("Retry-After") == "" || resp.Header.Get("X-Ratelimit-Remaining-Requests") != "0" || resp.Header.Get("X-Ratelimit-Reset-Requests") == "" {
				t.Errorf("headers %v", resp.Header)
			}
			if e.calls() != 2 {
				t.Errorf("%d calls reached the provider", e.calls())
			}
		})
	}
}

func TestWithoutLimitsNothingIsSaid(t *testing.T) {
	s := newStand(t, nil, newEngine(t, saying(200, reply)))
	resp, _ := s.chat(t, hiShort)
	for name := range resp.Header {
		if strings.HasPrefix(name, "X-Ratelimit") {
			t.Errorf("%s: %s", name, resp.Header.Get(name))
		}
	}
}

// Tokens are taken by estimate and settled by what the provider reports, here 12.
func TestTokensAreSettled(t *testing.T) {
	s := newStand(t, func(s *snapshot.Spec) { s.Keys[0].Limits.TokensPerDay = 30 }, newEngine(t, saying(200, reply)))
	shorter := strings.Replace(hiShort, "10", "4", 1)
	for i, want := range []string{"24", "12", "0"} { // estimated are 6
		resp, f := s.chat(t, shorter)
		if resp.StatusCode != 200 || resp.Header.Get("X-Ratelimit-Remaining-Tokens") != want {
			t.Fatalf("%d: %d %+v %v", i, resp.StatusCode, f, resp.Header)
		}
	}
	resp, f := s.chat(t, shorter)
	if resp.StatusCode != 429 || !strings.Contains(f.Error.Message, "30 tokens per day") || resp.Header.Get("X-Ratelimit-Remaining-Tokens") != "0" {
		t.Errorf("%d %+v %v", resp.StatusCode, f, resp.Header)
	}
}

// A place comes back on every way out.
func TestPlacesComeBack(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"success":         saying(200, reply),
		"an error":        saying(400, `{"error":{"message":"no"}}`),
		"a broken answer": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"a stream":        streaming(helloChunk, finishChunk, usageChunk, "[DONE]"),
		"a broken stream": streaming(helloChunk, "CUT"),
	} {
		t.Run(name, func(t *testing.T) {
			s := newStand(t, func(s *snapshot.Spec) {
				s.Keys[0].Limits.Concurrency, s.Policies[0].Resume = 1, catalog.Off
			}, newEngine(t, answer))
			body := hiShort
			if strings.Contains(name, "stream") {
				body = hiStream
			}
			for range 3 {
				if resp, text := s.post(t, "/v1/chat/completions", body); resp.StatusCode == 429 {
					t.Fatal(text)
				}
			}
		})
	}
	t.Run("the client leaves", func(t *testing.T) {
		e := newEngine(t, streaming(helloChunk, "WAIT"))
		s := newStand(t, func(s *snapshot.Spec) { s.Keys[0].Limits.Concurrency = 1 }, e)
		for range 3 {
			answer := s.open(t, hiStream)
			answer.begin(t)
			if again, f := s.chat(t, hiShort); again.StatusCode != 429 || f.Error.Code != "rate_limit_exceeded" || again.Header.Get("Retry-After") != "1" {
				t.Fatalf("%d %+v", again.StatusCode, f)
			}
			s.book.last(t)
			answer.leave()
			s.book.last(t)
		}
	})
}

func budget(nano int64, onExceed string) []account.Budget {
	return []account.Budget{{Period: account.PerMonth, NanoUSD: nano, OnExceed: onExceed}}
}

// An answer costs 10×1000 + 2×2000 nano-dollars; the worst case of hiShort is 1×1000 + 10×2000.
func TestABudgetRefuses(t *testing.T) {
	e := newEngine(t, saying(200, reply))
	s := newStand(t, func(s *snapshot.Spec) { s.Projects[0].Budgets = budget(20_000, "") }, e)
	for range 2 { // 14,000 are spent after the first, 28,000 after the second
		if resp, f := s.chat(t, hiShort); resp.StatusCode != 200 {
			t.Fatalf("%d %+v", resp.StatusCode, f)
		}
	}
	resp, f := s.chat(t, hiShort)
	if resp.StatusCode != 402 || f.Error.Code != "insufficient_quota" || f.Error.Type != "insufficient_quota" || !strings.Contains(f.Error.Message, `The budget for the month of the project "app" is used up`) {
		t.Errorf("%d %+v", resp.StatusCode, f)
	}
	if e.calls() != 2 {
		t.Errorf("%d calls", e.calls())
	}
}

func TestABudgetOnlyTells(t *testing.T) {
	s := newStand(t, func(s *snapshot.Spec) { s.Projects[0].Budgets = budget(1, account.Alert) }, newEngine(t, saying(200, reply)))
	for range 3 {
		if resp, f := s.chat(t, hiShort); resp.StatusCode != 200 {
			t.Fatalf("%d %+v", resp.StatusCode, f)
		}
	}
}

func TestABudgetGoesToTheCheapest(t *testing.T) {
	dear, cheap := newEngine(t, saying(200, reply)), newEngine(t, saying(200, reply))
	s := newStand(t, func(s *snapshot.Spec) {
		s.Projects[0].Budgets = budget(1, account.Cheapest)
		s.Models[0].Deployments[1].Price = catalog.Price{Input: 1_000_000, Output: 1_000_000}
	}, dear, cheap)
	for _, want := range []string{"a", "b", "b"} {
		resp, f := s.chat(t, hiShort)
		if resp.StatusCode != 200 || resp.Header.Get("X-Shareai-Provider") != want {
			t.Fatalf("%d %+v by %s, want %s", resp.StatusCode, f, resp.Header.Get("X-Shareai-Provider"), want)
		}
	}
	s.book.last(t)
	s.book.last(t)
	if c := s.book.last(t).Candidates; len(c) != 2 || c[0].Reason != "budget" {
		t.Errorf("candidates %+v", c)
	}
}

// books is a ledger in memory.
type books struct {
	spent int64
	err   error
	asked []account.Spending
}

func (b *books) Spent(_ context.Context, of account.Spending) (int64, error) {
	b.asked = append(b.asked, of)
	return b.spent, b.err
}

// What was spent before the start counts; it is asked for once.
func TestABudgetRemembers(t *testing.T) {
	s := newStand(t, func(s *snapshot.Spec) { s.Projects[0].Budgets = budget(100_000, "") }, newEngine(t, saying(200, reply)))
	before := &books{spent: 90_000}
	s.gateway.Admission = admission.New(admission.Options{Ledger: before, Log: slog.New(slog.DiscardHandler)})
	for i, want := range []int{200, 402, 402} {
		if resp, f := s.chat(t, hiShort); resp.StatusCode != want {
			t.Fatalf("%d: %d %+v", i, resp.StatusCode, f)
		}
	}
	if len(before.asked) != 1 || before.asked[0].Organization != "acme" || before.asked[0].Projects[0] != "app" {
		t.Errorf("asked %+v", before.asked)
	}
	if from := before.asked[0].From; from.Day() != 1 || from.Hour() != 0 || !before.asked[0].Ended.Before(time.Now()) {
		t.Errorf("from %s, ended before %s", from, before.asked[0].Ended)
	}
}

// Nobody can say what was spent: the policy decides.
func TestTheLedgerIsAway(t *testing.T) {
	for policy, want := range map[string]int{catalog.LimitsAllow: 200, catalog.LimitsReject: 503} {
		s := newStand(t, func(s *snapshot.Spec) {
			s.Projects[0].Budgets, s.Policies[0].OnLimitStoreFailure = budget(1, ""), policy
		}, newEngine(t, saying(200, reply)))
		s.gateway.Admission = admission.New(admission.Options{Ledger: &books{err: io.ErrUnexpectedEOF}, Log: slog.New(slog.DiscardHandler)})
		if resp, f := s.chat(t, hiShort); resp.StatusCode != want {
			t.Errorf("%s: %d %+v", policy, resp.StatusCode, f)
		}
	}
}

// R29: 200 requests at once, many of whose clients leave, spend at most the budget and one request more, and hold
// nothing afterwards.
func TestManyAtOnceKeepTheBudget(t *testing.T) {
	const limit, most = 400_000, 21_000
	e := newEngine(t, func(w http.ResponseWriter, r *http.Request) {
		if rand.N(3) == 0 {
			<-r.Context().Done()
			return
		}
		streaming(helloChunk, worldChunk, finishChunk, usageChunk, "[DONE]")(w, r)
	})
	s := newStand(t, func(s *snapshot.Spec) {
		s.Organizations[0].Budgets = budget(limit, "")
		s.Organizations[0].Limits.Concurrency = 1000
		s.Policies[0].Attempts.Total = 1
	}, e)
	spy := &spyMeters{Meters: cluster.NewMemoryMeters()}
	s.gateway.Admission = admission.New(admission.Options{Meters: spy, Log: slog.New(slog.DiscardHandler)})
	const streamShort = `{"model":"llama","stream":true,"max_tokens":10,"messages":[{"role":"user","content":"hi"}]}`
	var group sync.WaitGroup
	for range 200 {
		group.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.N(400))*time.Millisecond)
			defer cancel()
			req, _ := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+"/v1/chat/completions", strings.NewReader(streamShort))
			req.Header.Set("Authorization", "Bearer "+s.key)
			if resp, err := http.DefaultClient.Do(req); err == nil {
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
		})
	}
	group.Wait()
	s.Server.Config.SetKeepAlivesEnabled(false)
	s.Close() // waits for the handlers
	s.book.mu.Lock()
	defer s.book.mu.Unlock()
	spent := int64(0)
	for _, r := range s.book.records {
		spent += r.Cost
	}
	if spent > limit+most {
		t.Errorf("%d spent of %d", spent, limit)
	}
	for _, m := range spy.seen {
		want := int64(1000)
		if m.Kind == cluster.Money {
			m.Amount, m.Over, want = 0, true, limit-spent
		}
		taken, err := spy.Meters.Take(t.Context(), cluster.Holder{ID: "last", Lease: time.Minute}, []cluster.Meter{m})
		if left := taken.Readings[0].Remaining + m.Amount; err != nil || left != want {
			t.Errorf("%s: %d are left, want %d: %v", m.Key, left, want, err)
		}
	}
}

// spyMeters are meters that remember which ones were taken from.
type spyMeters struct {
	cluster.Meters
	mu   sync.Mutex
	seen []cluster.Meter
}

func (s *spyMeters) Take(ctx context.Context, h cluster.Holder, meters []cluster.Meter) (cluster.Taken, error) {
	s.mu.Lock()
	s.seen = slices.Clone(meters)
	s.mu.Unlock()
	return s.Meters.Take(ctx, h, meters)
}

// Two gateways on one Redis admit the limit together.
func TestTwoGatewaysShareALimit(t *testing.T) {
	if testing.Short() {
		t.Skip("needs a Redis server")
	}
	server := os.Getenv("SHAREAI_TEST_REDIS")
	if server == "" {
		t.Fatal("SHAREAI_TEST_REDIS is not set: run make test, or scripts/services.sh run go test …")
	}
	const limit = 500
	e := newEngine(t, saying(200, reply))
	organization := "shared" + strings.ToLower(usage.NewID()[4:])
	var stands [2]*stand
	for i := range stands {
		r, err := cluster.NewRedis(t.Context(), server, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.Close() })
		stands[i] = newStand(t, func(s *snapshot.Spec) {
			s.Organizations[0] = account.Organization{Name: organization, Limits: account.Limits{RequestsPerMinute: limit, Concurrency: 64}}
			s.Projects[0].Organization, s.Keys[0].Organization = organization, organization
		}, e)
		stands[i].gateway.Admission = admission.New(admission.Options{Meters: r.Meters(), Log: slog.New(slog.DiscardHandler)})
	}
	var admitted, refused atomic.Int64
	var group sync.WaitGroup
	for i := range 16 {
		group.Go(func() {
			for range 50 {
				switch resp, text := stands[i%2].post(t, "/v1/chat/completions", hiShort); resp.StatusCode {
				case 200:
					admitted.Add(1)
				case 429:
					refused.Add(1)
				default:
					t.Errorf("%d %s", resp.StatusCode, text)
				}
			}
		})
	}
	group.Wait()
	if a := admitted.Load(); a < limit || a*100 > limit*101 || refused.Load() == 0 {
		t.Errorf("%d were admitted of %d, %d refused", a, limit, refused.Load())
	}
}

// What nothing bounds pays for a look.
func BenchmarkAdmitUnbounded(b *testing.B) {
	p := &account.Principal{}
	plan := &routing.Plan{Policy: &catalog.Policy{}, Candidates: make([]routing.Candidate, 4)}
	for i := range plan.Candidates {
		plan.Candidates[i].Model = &catalog.Model{Name: "llama"}
	}
	x := &exchange{}
	for b.Loop() {
		if err := x.admit(b.Context(), p, plan, nil); err != nil {
			b.Fatal(err)
		}
		x.release()
	}
}
