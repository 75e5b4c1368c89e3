package gateway

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"shareai/internal/account"
	"shareai/internal/attempt"
	"shareai/internal/cluster"
	"shareai/internal/fault"
	"shareai/internal/snapshot"
)

// keyed sends an Idempotency-Key.
func keyed(key string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set("Idempotency-Key", key) }
}

// gated streams a beginning, then waits to be let go, then streams the rest. It stops when its client leaves.
func gated(begin []string, rest ...string) (answer http.HandlerFunc, release func()) {
	gate := make(chan struct{})
	return func(w http.ResponseWriter, r *http.Request) {
		streaming(begin...)(w, r)
		select {
		case <-gate:
			streaming(rest...)(w, r)
		case <-r.Context().Done():
		}
	}, sync.OnceFunc(func() { close(gate) })
}

// wait waits until n more records are there and returns all.
func (b *book) wait(t *testing.T, n int) []usageRecord {
	t.Helper()
	for range n {
		b.last(t)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []usageRecord
	for _, r := range b.records {
		list = append(list, usageRecord{r.ID, r.Status, r.Cost, len(r.Attempts), r.Reason, r.BytesOut})
	}
	return list
}

// usageRecord is what these tests look at.
type usageRecord struct {
	ID       string
	Status   int
	Cost     int64
	Attempts int
	Reason   string
	BytesOut int64
}

// billedOnce checks that one of the records has attempts and a cost, and that the others are repeats of it.
func billedOnce(t *testing.T, list []usageRecord) {
	t.Helper()
	var work usageRecord
	for _, r := range list {
		if r.Attempts > 0 {
			if work.ID != "" {
				t.Errorf("work was done twice: %+v", list)
			}
			work = r
		}
	}
	if work.Cost == 0 {
		t.Errorf("nobody pays: %+v", list)
	}
	for _, r := range list {
		if r.ID != work.ID && (r.Cost != 0 || r.Reason != "replay of "+work.ID) {
			t.Errorf("%+v is no repeat of %s", r, work.ID)
		}
	}
}

// alike is the part of an answer that a repeat has in common with the first one.
func alike(resp *http.Response) http.Header {
	h := resp.Header.Clone()
	for _, own := range []string{"X-Request-Id", "Date", "Idempotent-Replayed"} {
		h.Del(own)
	}
	h["trailer"] = resp.Trailer["X-Shareai-Cost"]
	return h
}

// R12: a repeat gets the same answer; the work is done and billed once.
func TestARepeatGetsTheSameAnswer(t *testing.T) {
	embeddings := `{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.5]}],"model":"l","usage":{"prompt_tokens":3,"total_tokens":3}}`
	for _, c := range []struct {
		name, path, body string
		answer           http.HandlerFunc
	}{
		{"chat", "/v1/chat/completions", hi, saying(200, reply)},
		{"chat stream", "/v1/chat/completions", hiStream, streaming(roleChunk, helloChunk, worldChunk, finishChunk, usageChunk, "[DONE]")},
		{"chat stream with usage", "/v1/chat/completions", hiStreamUsage, streaming(roleChunk, helloChunk, worldChunk, finishChunk, usageChunk, "[DONE]")},
		{"embeddings", "/v1/embeddings", `{"model":"llama","input":"x"}`, saying(200, embeddings)},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEngine(t, c.answer)
			s := newStand(t, nil, e)
			first, body := s.post(t, c.path, c.body, keyed("k"))
			if first.StatusCode != 200 || first.Header.Get("Idempotent-Replayed") != "" {
				t.Fatalf("%d %v: %s", first.StatusCode, first.Header, body)
			}
			for range 2 {
				again, repeated := s.post(t, c.path, c.body, keyed("k"))
				if repeated != body || again.StatusCode != 200 || again.Header.Get("Idempotent-Replayed") != "true" {
					t.Errorf("%d %v: %s\nwant %s", again.StatusCode, again.Header, repeated, body)
				}
				if d := cmp.Diff(alike(first), alike(again)); d != "" {
					t.Error(d)
				}
				if again.Header.Get("X-Request-Id") == first.Header.Get("X-Request-Id") {
					t.Error("the repeat has no request id of its own")
				}
			}
			if e.calls() != 1 {
				t.Errorf("%d upstream calls", e.calls())
			}
			list := s.book.wait(t, 3)
			billedOnce(t, list)
			for _, r := range list {
				if r.Status != 200 || r.BytesOut != int64(len(body)) {
					t.Errorf("record %+v of %d bytes", r, len(body))
				}
			}
		})
	}
}

// An answer under a key is the same as one without.
func TestAKeyChangesNothingInTheAnswer(t *testing.T) {
	for name, body := range map[string]string{"unary": hi, "stream": hiStreamUsage} {
		e := newEngine(t, saying(200, reply))
		if body != hi {
			e.answer = streaming(roleChunk, helloChunk, finishChunk, usageChunk, "[DONE]")
		}
		s := newStand(t, nil, e)
		plain, want := s.post(t, "/v1/chat/completions", body)
		with, got := s.post(t, "/v1/chat/completions", body, keyed("k"))
		strip := func(resp *http.Response, text string) string {
			return strings.ReplaceAll(text, strings.TrimPrefix(resp.Header.Get("X-Request-Id"), "req_"), "ID")
		}
		if d := cmp.Diff(strip(plain, want), strip(with, got)); d != "" {
			t.Errorf("%s: %s", name, d)
		}
		if d := cmp.Diff(alike(plain), alike(with)); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

// Repeats that come while the first is running attach to it: they get what there is at once and the rest
// as it comes.
func TestRepeatsAttachToARunningAnswer(t *testing.T) {
	for _, repeats := range []int{1, 10} {
		t.Run(fmt.Sprint(repeats), func(t *testing.T) {
			answer, release := gated([]string{roleChunk, helloChunk}, worldChunk, finishChunk, usageChunk, "[DONE]")
			defer release()
			e := newEngine(t, answer)
			s := newStand(t, nil, e)
			var bodies []*live
			for range 1 + repeats {
				bodies = append(bodies, s.open(t, hiStream, keyed("k")))
			}
			for _, l := range bodies {
				l.begin(t) // nobody waits for the end
			}
			release()
			want := bodies[0].rest(t)
			for _, l := range bodies[1:] {
				if got := l.rest(t); got != want || !strings.Contains(got, " world") || !strings.HasSuffix(got, "data: [DONE]\n\n") {
					t.Errorf("%s\nwant\n%s", got, want)
				}
			}
			if e.calls() != 1 {
				t.Errorf("%d upstream calls", e.calls())
			}
			billedOnce(t, s.book.wait(t, 1+repeats))
		})
	}
}

// Whoever comes at the same time: one of them does the work.
func TestManyAtOnce(t *testing.T) {
	e := newEngine(t, saying(200, reply))
	s := newStand(t, nil, e)
	var group sync.WaitGroup
	bodies := make(chan string, 20)
	for range 20 {
		group.Go(func() {
			_, body := s.post(t, "/v1/chat/completions", hi, keyed("k"))
			bodies <- body
		})
	}
	group.Wait()
	close(bodies)
	want := <-bodies
	for body := range bodies {
		if body != want {
			t.Errorf("%s\nwant\n%s", body, want)
		}
	}
	if e.calls() != 1 {
		t.Errorf("%d upstream calls", e.calls())
	}
	billedOnce(t, s.book.wait(t, 20))
}

// live is an answer that is read while it comes.
type live struct {
	resp   *http.Response
	reader *bufio.Reader
	text   strings.Builder
	leave  context.CancelFunc
}

// open sends a request and returns when its head has come.
func (s *stand) open(t *testing.T, body string, change ...func(*http.Request)) *live {
	t.Helper()
	ctx, leave := cancelled(t)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+s.key)
	for _, c := range change {
		c(r)
	}
	resp, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { leave(); _ = resp.Body.Close() })
	return &live{resp: resp, reader: bufio.NewReader(resp.Body), leave: leave}
}

// begin reads up to the first word.
func (l *live) begin(t *testing.T) {
	t.Helper()
	for {
		line, err := l.reader.ReadString('\n')
		l.text.WriteString(line)
		if err != nil {
			t.Fatalf("%v after %q", err, l.text.String())
		}
		if strings.Contains(line, "Hello") {
			return
		}
	}
}

// rest returns the whole answer once it has ended.
func (l *live) rest(t *testing.T) string {
	t.Helper()
	if _, err := io.Copy(&l.text, l.reader); err != nil {
		t.Fatalf("%v after %q", err, l.text.String())
	}
	return l.text.String()
}

// A key stands for one request: whatever would change the answer makes it another one.
func TestAKeyIsForOneRequest(t *testing.T) {
	e := newEngine(t, saying(200, reply))
	s := newStand(t, nil, e)
	s.post(t, "/v1/chat/completions", hi, keyed("k"))
	for name, again := range map[string]func() (*http.Response, string){
		"another body": func() (*http.Response, string) {
			return s.post(t, "/v1/chat/completions", hi+" ", keyed("k"))
		},
		"another pin": func() (*http.Response, string) {
			return s.post(t, "/v1/chat/completions", hi, keyed("k"), func(r *http.Request) { r.Header.Set("X-Shareai-Pin", "a") })
		},
	} {
		resp, body := again()
		f := parseFailure(t, body)
		if resp.StatusCode != 409 || f.Error.Code != "idempotency_key_reused" || !strings.Contains(f.Error.Message, "new key") || resp.Header.Get("X-Should-Retry") != "false" {
			t.Errorf("%s: %d %v %s", name, resp.StatusCode, resp.Header, body)
		}
	}
	if resp, _ := s.post(t, "/v1/chat/completions", hi, keyed("k"), func(r *http.Request) { r.Header.Set("Traceparent", "x") }); resp.StatusCode != 200 {
		t.Errorf("a header that changes nothing: %d", resp.StatusCode)
	}
	if e.calls() != 1 {
		t.Errorf("%d upstream calls", e.calls())
	}
}

// A key is for one API key and one endpoint.
func TestKeysOfOthersAreSeparate(t *testing.T) {
	e := newEngine(t, saying(200, reply))
	const other = "sk-other-0123456789abcdef"
	s := newStand(t, func(s *snapshot.Spec) {
		s.Keys = append(s.Keys, account.APIKey{ID: "key_2", Name: "other", Organization: "acme", Project: "app", Hash: account.HashKey(other)})
	}, e)
	_, first := s.post(t, "/v1/chat/completions", hi, keyed("k"))
	s.key = other
	if resp, second := s.post(t, "/v1/chat/completions", hi, keyed("k")); second == first || resp.Header.Get("Idempotent-Replayed") != "" {
		t.Errorf("another API key got the answer: %s", second)
	}
	e.answer = saying(200, strings.ReplaceAll(reply, `"message":{"role":"assistant","content":"Hello world"}`, `"text":"Hello"`))
	if resp, body := s.post(t, "/v1/completions", `{"model":"llama","prompt":"hi"}`, keyed("k")); resp.StatusCode != 200 {
		t.Errorf("another endpoint: %d %s", resp.StatusCode, body)
	}
	if e.calls() != 3 {
		t.Errorf("%d upstream calls", e.calls())
	}
}

// The first caller's leaving does not stop the work: his repeat finds the answer.
func TestTheFirstCallerLeaves(t *testing.T) {
	for name, body := range map[string]string{"before the answer": hi, "in mid-stream": hiStream} {
		t.Run(name, func(t *testing.T) {
			answer, release := gated([]string{helloChunk}, worldChunk, finishChunk, "[DONE]")
			if body == hi {
				gate := make(chan struct{})
				release = sync.OnceFunc(func() { close(gate) })
				answer = func(w http.ResponseWriter, r *http.Request) {
					select {
					case <-gate:
						saying(200, reply)(w, r)
					case <-r.Context().Done():
					}
				}
			}
			defer release()
			e := newEngine(t, answer)
			s := newStand(t, nil, e)
			ctx, leave := cancelled(t)
			left := make(chan struct{})
			go func() {
				defer close(left)
				r, _ := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+"/v1/chat/completions", strings.NewReader(body))
				r.Header.Set("Authorization", "Bearer "+s.key)
				keyed("k")(r)
				resp, err := s.Client().Do(r)
				if err == nil {
					_, err = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
				}
				if err == nil {
					t.Error("the first caller did not leave")
				}
			}()
			for e.calls() == 0 {
				<-time.After(time.Millisecond)
			}
			leave()
			<-left
			repeat := make(chan string, 1)
			go func() {
				_, got := s.post(t, "/v1/chat/completions", body, keyed("k"))
				repeat <- got
			}()
			release()
			if got := <-repeat; !strings.Contains(got, " world") {
				t.Errorf("%s", got)
			}
			_, got := s.post(t, "/v1/chat/completions", body, keyed("k"))
			if !strings.Contains(got, " world") || e.calls() != 1 {
				t.Errorf("%d upstream calls; %s", e.calls(), got)
			}
			billedOnce(t, s.book.wait(t, 3))
		})
	}
}

// A failure is told to whoever waits for it and then forgotten.
func TestFailuresAreForgotten(t *testing.T) {
	good := map[string]http.HandlerFunc{hi: saying(200, reply), hiStream: streaming(helloChunk, worldChunk, finishChunk, "[DONE]")}
	for _, c := range []struct {
		name, body string
		bad        http.HandlerFunc
		status     int
		code       string
	}{
		{"500", hi, saying(500, `{}`), 502, "provider_error"},
		{"the caller's mistake", hi, saying(400, `{"error":{"message":"no","type":"invalid_request_error","code":"bad"}}`), 400, "bad"},
		{"429", hiStream, saying(429, `{}`), 429, "rate_limit_exceeded"},
		{"a cut in mid-stream", hiStream, streaming(helloChunk, "CUT"), 200, "stream_interrupted"},
		{"an error event", hiStream, streaming(helloChunk, `{"error":{"message":"died"}}`), 200, "stream_interrupted"},
	} {
		t.Run(c.name, func(t *testing.T) {
			gate, entered := make(chan struct{}), make(chan struct{}, 64)
			e := newEngine(t, func(w http.ResponseWriter, r *http.Request) {
				entered <- struct{}{}
				<-gate
				c.bad(w, r)
			})
			s := newStand(t, func(s *snapshot.Spec) { s.Policies[0].Attempts.Total, s.Policies[0].Attempts.PerDeployment = 1, 1 }, e)
			answers := &claims{Answers: s.gateway.Answers, claimed: make(chan struct{}, 16)}
			s.gateway.Answers = answers
			type answer struct {
				status int
				body   string
			}
			got := make(chan answer, 2)
			for range 2 {
				go func() {
					resp, body := s.post(t, "/v1/chat/completions", c.body, keyed("k"))
					got <- answer{resp.StatusCode, body}
				}()
			}
			<-answers.claimed
			<-answers.claimed
			<-entered
			close(gate)
			first, second := <-got, <-got
			if first != second || first.status != c.status || !strings.Contains(first.body, `"code":"`+c.code+`"`) {
				t.Errorf("%+v\nand\n%+v", first, second)
			}
			if e.calls() != 1 {
				t.Errorf("%d upstream calls", e.calls())
			}
			for _, r := range s.book.wait(t, 2) {
				if r.Status < 400 {
					t.Errorf("record %+v", r)
				}
			}
			e.mu.Lock()
			e.answer = good[c.body]
			e.mu.Unlock()
			for range 2 {
				if resp, body := s.post(t, "/v1/chat/completions", c.body, keyed("k")); resp.StatusCode != 200 || !strings.Contains(body, " world") {
					t.Errorf("the next repeat: %d %s", resp.StatusCode, body)
				}
			}
			if e.calls() != 2 {
				t.Errorf("%d upstream calls", e.calls())
			}
		})
	}
}

// Whoever hears of a failure may repeat at once and gets a new try.
func TestAFailureMayBeRepeatedAtOnce(t *testing.T) {
	e := newEngine(t, saying(400, `{"error":{"message":"no","type":"invalid_request_error"}}`))
	s := newStand(t, nil, e)
	const tries = 200
	for range tries {
		if resp, _ := s.post(t, "/v1/chat/completions", hi, keyed("k")); resp.StatusCode != 400 {
			t.Fatalf("%d", resp.StatusCode)
		}
	}
	if e.calls() != tries {
		t.Errorf("%d upstream calls of %d", e.calls(), tries)
	}
}

// claims tells of every claim that was made.
type claims struct {
	cluster.Answers
	claimed chan struct{}
}

func (c *claims) Claim(ctx context.Context, name string, work cluster.Fingerprint) (cluster.Claim, error) {
	claim, err := c.Answers.Claim(ctx, name, work)
	c.claimed <- struct{}{}
	return claim, err
}

// A defect releases the key.
func TestAPanicReleasesTheKey(t *testing.T) {
	s := newStand(t, nil, newEngine(t, saying(200, reply)))
	working := s.gateway.Runner
	s.gateway.Runner = faulty{func() (attempt.Answer, error) { panic("went wrong") }}
	if resp, body := s.post(t, "/v1/chat/completions", hi, keyed("k")); resp.StatusCode != 500 || parseFailure(t, body).Error.Code != "internal_error" {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	s.gateway.Runner = working
	if resp, _ := s.post(t, "/v1/chat/completions", hi, keyed("k")); resp.StatusCode != 200 {
		t.Errorf("the repeat: %d", resp.StatusCode)
	}
}

// What is cut for the first caller is cut for everybody: a clean end would pass half an answer off as whole.
func TestACutIsACutForEverybody(t *testing.T) {
	answer, release := gated([]string{helloChunk}, finishChunk, "[DONE]")
	defer release()
	s := newStand(t, nil, newEngine(t, answer))
	s.gateway.Observers = []Observer{spoiled{}}
	first, second := s.open(t, hiStream, keyed("k")), s.open(t, hiStream, keyed("k"))
	first.begin(t)
	second.begin(t)
	release()
	for _, l := range []*live{first, second} {
		rest, err := io.ReadAll(l.reader)
		if err == nil || strings.Contains(string(rest), "[DONE]") {
			t.Errorf("the stream ended cleanly: %s", rest)
		}
	}
}

// Everybody reads at his own speed, the first caller too.
func TestASlowReaderHoldsNobodyUp(t *testing.T) {
	big := strings.Repeat("x", 1<<20)
	list := []string{helloChunk}
	for range 16 { // more than the buffers of a connection take
		list = append(list, strings.Replace(worldChunk, " world", big, 1))
	}
	list = append(list, finishChunk, "[DONE]")
	for _, slow := range []string{"the first", "the second"} {
		t.Run(slow, func(t *testing.T) {
			s := newStand(t, nil, newEngine(t, streaming(list...)))
			var first, second *live
			first = s.open(t, hiStream, keyed("k"))
			second = s.open(t, hiStream, keyed("k"))
			if slow == "the first" {
				first, second = second, first
			}
			got := first.rest(t) // while nobody reads the other one
			if !strings.HasSuffix(got, "data: [DONE]\n\n") {
				t.Fatalf("%d bytes", len(got))
			}
			if second.rest(t) != got {
				t.Error("the slow reader got something else")
			}
			billedOnce(t, s.book.wait(t, 2))
			// It is too long to be kept, so that the next one works anew.
			resp, _ := s.post(t, "/v1/chat/completions", hiStream, keyed("k"))
			if resp.Header.Get("Idempotent-Replayed") != "" {
				t.Error("a long answer was kept")
			}
		})
	}
}

// An answer that no tape holds breaks off, and says why where it can.
func TestAnAnswerLongerThanATape(t *testing.T) {
	s := newStand(t, nil, newEngine(t, streaming(helloChunk, strings.Replace(worldChunk, " world", strings.Repeat("x", 1<<20), 1), finishChunk, "[DONE]")))
	s.gateway.Answers = cluster.NewMemoryAnswers(cluster.AnswerLimits{Tape: 128 << 10})
	l := s.open(t, hiStream, keyed("k"))
	if rest, err := io.ReadAll(l.reader); err == nil || strings.Contains(string(rest), "[DONE]") {
		t.Errorf("it ended cleanly after %d bytes", len(rest))
	}
	if r := s.book.last(t); r.Code != "answer_too_long" {
		t.Errorf("record %d %s", r.Status, r.Code)
	}
}

func TestBadIdempotencyKeys(t *testing.T) {
	e := newEngine(t, saying(200, reply))
	s := newStand(t, nil, e)
	for name, keys := range map[string][]string{
		"empty": {""}, "two": {"a", "b"}, "too long": {strings.Repeat("k", 256)}, "a space": {"a b"}, "not ASCII": {"ключ"},
	} {
		resp, body := s.post(t, "/v1/chat/completions", hi, func(r *http.Request) { r.Header["Idempotency-Key"] = keys })
		if f := parseFailure(t, body); resp.StatusCode != 400 || f.Error.Code != "invalid_idempotency_key" || f.Error.Param != "Idempotency-Key" {
			t.Errorf("%s: %d %s", name, resp.StatusCode, body)
		}
	}
	if resp, body := s.post(t, "/v1/chat/completions", hi, keyed(strings.Repeat("~", 255))); resp.StatusCode != 200 || e.calls() != 1 {
		t.Errorf("255 characters: %d %s", resp.StatusCode, body)
	}
}

// Who may ask is found out first, whatever is kept.
func TestARepeatMustAuthenticate(t *testing.T) {
	var spec snapshot.Spec
	s := newStand(t, func(s *snapshot.Spec) { spec = *s }, newEngine(t, saying(200, reply)))
	s.post(t, "/v1/chat/completions", hi, keyed("k"))
	spec.Keys[0].Expires = time.Now().Add(-time.Hour)
	view, err := snapshot.Compile(spec)
	if err != nil {
		t.Fatal(err)
	}
	s.config.view = view
	if resp, body := s.post(t, "/v1/chat/completions", hi, keyed("k")); resp.StatusCode != 401 || parseFailure(t, body).Error.Code != "expired_api_key" {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}

// awayAnswers can not be claimed.
type awayAnswers struct{ err error }

func (a awayAnswers) Claim(context.Context, string, cluster.Fingerprint) (cluster.Claim, error) {
	return cluster.Claim{}, a.err
}

// lostAnswers are answers whose recorders die.
type lostAnswers struct{}

func (lostAnswers) Claim(context.Context, string, cluster.Fingerprint) (cluster.Claim, error) {
	return cluster.Claim{Player: lostAnswers{}}, nil
}
func (lostAnswers) Next(context.Context) ([][]byte, error) { return nil, cluster.ErrLost }

// Without a claim the work is not begun: doing it twice is what the caller does not want.
func TestNoWorkWithoutAClaim(t *testing.T) {
	unreachable, err := cluster.NewRedis(t.Context(), "redis://127.0.0.1:1/0", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unreachable.Close() })
	for name, c := range map[string]struct {
		answers cluster.Answers
		code    string
	}{
		"Redis is away":         {unreachable.Answers(cluster.AnswerLimits{}), "idempotency_unavailable"},
		"recorders die":         {lostAnswers{}, "idempotent_answer_lost"},
		"a defect of ours":      {awayAnswers{errors.New("redis://secret")}, "internal_error"},
		"something is too much": {awayAnswers{&fault.Error{Kind: fault.Unavailable, Code: "overloaded", Message: "m", RetryAfter: 1}}, "overloaded"},
	} {
		e := newEngine(t, saying(200, reply))
		s := newStand(t, nil, e)
		s.gateway.Answers = c.answers
		resp, body := s.post(t, "/v1/chat/completions", hi, keyed("k"))
		f := parseFailure(t, body)
		if f.Error.Code != c.code || (resp.StatusCode == 503) != (resp.Header.Get("Retry-After") != "") || strings.Contains(body, "secret") || e.calls() != 0 {
			t.Errorf("%s: %d %v %s", name, resp.StatusCode, resp.Header, body)
		}
		if resp, _ := s.post(t, "/v1/chat/completions", hi); resp.StatusCode != 200 {
			t.Errorf("%s: without a key %d", name, resp.StatusCode)
		}
	}
}

// Work whose client has left ends when the gateway has to.
func TestInterruptedWork(t *testing.T) {
	e := newEngine(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	s := newStand(t, nil, e)
	life, end := cancelled(t)
	s.gateway.Life = life
	go func() {
		for e.calls() == 0 {
			<-time.After(time.Millisecond)
		}
		end()
	}()
	resp, body := s.post(t, "/v1/chat/completions", hi, keyed("k"))
	if resp.StatusCode != 503 || parseFailure(t, body).Error.Code != "stopping" || resp.Header.Get("Retry-After") == "" {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	select {
	case <-e.gone:
	case <-time.After(5 * time.Second):
		t.Fatal("the upstream was not stopped")
	}
}

// replicas puts a second gateway beside a stand; the two share answers by Redis.
func replicas(t *testing.T, e *engine) (here, there *stand) {
	t.Helper()
	server := os.Getenv("SHAREAI_TEST_REDIS")
	if testing.Short() {
		t.Skip("needs a Redis server")
	}
	if server == "" {
		t.Fatal("SHAREAI_TEST_REDIS is not set: run make test, or scripts/services.sh run go test …")
	}
	stands := [2]*stand{}
	for n := range stands {
		redis, err := cluster.NewRedis(t.Context(), server, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = redis.Close() })
		stands[n] = newStand(t, nil, e)
		stands[n].gateway.Answers = redis.Answers(cluster.AnswerLimits{})
	}
	return stands[0], stands[1]
}

// R12, with many replicas: a repeat may arrive anywhere.
func TestARepeatAtAnotherReplica(t *testing.T) {
	answer, release := gated([]string{helloChunk}, worldChunk, finishChunk, usageChunk, "[DONE]")
	defer release()
	e := newEngine(t, answer)
	here, there := replicas(t, e)
	key := keyed(t.Name() + fmt.Sprint(time.Now().UnixNano()))
	first, second := here.open(t, hiStreamUsage, key), there.open(t, hiStreamUsage, key)
	first.begin(t)
	second.begin(t)
	if resp, body := there.post(t, "/v1/chat/completions", hi, key); resp.StatusCode != 409 {
		t.Errorf("another request: %d %s", resp.StatusCode, body)
	}
	release()
	want := first.rest(t)
	if got := second.rest(t); got != want || !strings.HasSuffix(got, "data: [DONE]\n\n") {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	for _, s := range []*stand{here, there} {
		resp, got := s.post(t, "/v1/chat/completions", hiStreamUsage, key)
		if got != want || resp.Header.Get("Idempotent-Replayed") != "true" {
			t.Errorf("%s\nwant\n%s", got, want)
		}
		if d := cmp.Diff(alike(first.resp), alike(resp)); d != "" {
			t.Error(d)
		}
	}
	if e.calls() != 1 {
		t.Errorf("%d upstream calls", e.calls())
	}
}

// The goroutines of a shared answer end with it, however it ends.
func TestSharedAnswersLeaveNothingBehind(t *testing.T) {
	before := goleak.IgnoreCurrent()
	func() {
		t.Run("", func(t *testing.T) {
			e := newEngine(t, streaming(helloChunk, "CUT"))
			s := newStand(t, nil, e)
			life, end := cancelled(t)
			defer end()
			s.gateway.Life = life
			for n := range 5 {
				l := s.open(t, hiStream, keyed(fmt.Sprint(n)))
				l.begin(t)
				l.leave()
				s.post(t, "/v1/chat/completions", hiStream, keyed(fmt.Sprint(n)))
			}
		})
	}()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	if err := goleak.Find(before); err != nil {
		t.Error(err)
	}
}

// Requests without a key pay nothing for it.
func TestNoKeyCostsNothing(t *testing.T) {
	s := newStand(t, nil, newEngine(t, saying(200, reply)))
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/chat/completions", http.NoBody)
	x := s.gateway.newExchange(httptest.NewRecorder(), r, "chat")
	if n := testing.AllocsPerRun(100, func() {
		if _, played, err := x.once(r, nil); played || err != nil {
			t.Errorf("%t %v", played, err)
		}
		x.deliver(true)
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// What a replica wrote is read by another, perhaps of another version: nothing that it may hold breaks us.
func FuzzPlayback(f *testing.F) {
	f.Add([]byte("h{\"status\":200,\"header\":{\"X-Request-Id\":[\"r\"]}}\nbhello\ne{\"whole\":true,\"status\":200}"))
	f.Add([]byte("bhello\nh{}"))
	f.Add([]byte("e{\"whole\":true}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var tape frames
		for _, frame := range strings.Split(string(data), "\n") {
			if frame != "" {
				tape = append(tape, []byte(frame))
			}
		}
		w := httptest.NewRecorder()
		p := playback{out: newClientWriter(w)}
		if err := p.run(t.Context(), tape); err == nil && !p.end.Whole {
			t.Error("half an answer passed for a whole one")
		}
	})
}

// frames is a tape that has ended.
type frames [][]byte

func (f frames) Next(context.Context) ([][]byte, error) { return f, io.EOF }

// Frames arrive in whatever portions: the end may come before the tape is known to have ended, or never.
func TestPlaybackInPortions(t *testing.T) {
	whole := []string{`h{"status":200,"header":{"X-Request-Id":["req_1"]}}`, "bhel", "blo", `e{"whole":true,"status":200}`}
	for n := range 1 << len(whole) {
		for _, complete := range []bool{true, false} {
			tape := &portions{cuts: n}
			for _, frame := range whole {
				tape.frames = append(tape.frames, []byte(frame))
			}
			if !complete {
				tape.frames = tape.frames[:len(whole)-1]
			}
			w := httptest.NewRecorder()
			p := playback{out: newClientWriter(w)}
			err := p.run(t.Context(), tape)
			if (err == nil) != complete || w.Code != 200 || w.Body.String() != "hello" || p.head.Header.Get("X-Request-Id") != "req_1" {
				t.Errorf("portions %b: %v, %d %q", n, err, w.Code, w.Body)
			}
		}
	}
}

// portions is a tape that pauses after the frames whose bits are set in cuts.
type portions struct {
	frames [][]byte
	cuts   int
	at     int
}

func (p *portions) Next(context.Context) ([][]byte, error) {
	for n := p.at; n < len(p.frames); n++ {
		if p.cuts&(1<<n) != 0 {
			list := p.frames[p.at : n+1]
			p.at = n + 1
			return list, nil
		}
	}
	list := p.frames[p.at:]
	p.at = len(p.frames)
	return list, io.EOF
}

// A failure is passed on when its end is there, which is when its key is free.
func TestPlaybackHoldsFailures(t *testing.T) {
	w := httptest.NewRecorder()
	steps := [][]byte{[]byte(`h{"status":502}`), []byte("bno"), []byte(`e{"whole":true,"status":502}`)}
	tape := next(func() ([][]byte, error) {
		if w.Body.Len() > 0 {
			t.Errorf("%q was sent before the end", w.Body)
		}
		frame := steps[:1]
		steps = steps[1:]
		return frame, nil
	})
	if err := (&playback{out: newClientWriter(w)}).run(t.Context(), tape); err != nil || w.Code != 502 || w.Body.String() != "no" {
		t.Errorf("%v, %d %q", err, w.Code, w.Body)
	}
}

// next is a tape in steps.
type next func() ([][]byte, error)

func (n next) Next(context.Context) ([][]byte, error) { return n() }
