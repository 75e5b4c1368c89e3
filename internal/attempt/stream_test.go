package attempt

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"shareai/internal/catalog"
	"shareai/internal/fault"
	"shareai/internal/health"
	"shareai/internal/openai"
	"shareai/internal/upstream"
)

// story is the answer that every deployment of these tests would give.
var story = []string{"Once ", "upon a ", "time, ", "caf\u00e9 ", "\u2615 and ", "\"quotes\"", "."}

func whole(events []string) string { return strings.Join(events, "") }

// telling streams the story up to a piece and goes on with the events at the end.
func telling(upTo int, end ...string) behaviour {
	events := []string{roleChunk}
	for _, piece := range story[:upTo] {
		events = append(events, delta(piece))
	}
	return streaming(append(events, end...)...)
}

// continuing answers a prefilled request with the rest of the story; any other with the whole of it.
func continuing(t tester) behaviour {
	return func(ctx context.Context, call *upstream.Call) (*upstream.Answer, error) {
		begun := prefix(t, call)
		rest := strings.TrimPrefix(whole(story), begun)
		if len(rest) == len(whole(story)) && begun != "" {
			t.Errorf("the prefill %q is not what had been sent", begun)
		}
		return streaming(roleChunk, delta(rest), stopChunk, doneMark)(ctx, call)
	}
}

// prefix is the beginning of the answer that a call carries.
func prefix(t tester, call *upstream.Call) string {
	t.Helper()
	messages, _ := call.Request.Field("messages")
	_, begun, found := strings.Cut(string(messages), `"role":"assistant","content":`)
	if !found {
		return ""
	}
	end := strings.LastIndex(begun, `"`)
	return openai.DecodeText([]byte(begun[1:end]))
}

// refusingPrefill answers 400 to a prefilled request, else like then.
func refusingPrefill(t tester, then behaviour) behaviour {
	return func(ctx context.Context, call *upstream.Call) (*upstream.Answer, error) {
		if prefix(t, call) != "" {
			return nil, &upstream.Error{Outcome: upstream.ClientError, Status: 400, Message: "The last message must be the user's."}
		}
		return then(ctx, call)
	}
}

// differently streams another text.
var differently = streaming(roleChunk, delta("Long ago "), delta("and far away."), stopChunk, doneMark)

func (h *house) hear(t tester, body string) heard {
	t.Helper()
	answer, err := h.run(t.Context(), body)
	if err != nil {
		return heard{err: err}
	}
	return hear(answer.Stream)
}

func TestABrokenStreamIsResumed(t *testing.T) {
	for _, end := range [][]string{{"CUT"}, {}, {doneMark}, {`{"error":{"message":"the engine died"}}`}} {
		for upTo := 1; upTo <= len(story); upTo++ {
			for name, second := range map[string]func(*house){
				"prefill":         func(h *house) { h.add(continuing(t)).prefills() },
				"restart":         func(h *house) { h.add(telling(len(story), stopChunk, doneMark)) },
				"other pieces":    func(h *house) { h.add(streaming(delta(whole(story)), stopChunk)) },
				"refused prefill": func(h *house) { h.add(refusingPrefill(t, telling(len(story), stopChunk, doneMark))).prefills() },
				"itself": func(h *house) {
					h.stops[0].script = append(h.stops[0].script, telling(len(story), stopChunk, doneMark))
				},
			} {
				h := newHouse(t)
				h.add(telling(upTo, end...))
				second(h)
				if got := h.hear(t, streamBody); got.err != nil || !got.finished || got.text != whole(story) {
					t.Errorf("%s after %d pieces and %v: %+v after %q", name, upTo, end, got, h.outcomes())
				}
			}
		}
	}
}

func TestTheLogKeepsBothParts(t *testing.T) {
	h := newHouse(t)
	h.add(telling(3, "CUT"))
	h.add(continuing(t)).prefills()
	h.hear(t, streamBody)
	log := h.log.Attempts()
	if len(log) != 2 || log[0].Outcome != "broken" || log[0].Tokens.Completion == 0 || log[1].Resumes != "prefill" || log[1].Tokens.Completion == 0 {
		t.Errorf("%+v", log)
	}
}

func TestARestartThatDivergesIsGivenUp(t *testing.T) {
	h := newHouse(t)
	h.add(telling(3, "CUT"))
	h.add(differently)
	h.policy.Attempts.PerDeployment = 1
	got := h.hear(t, streamBody)
	if got.err == nil || got.finished || got.text != whole(story[:3]) || fault.From(got.err).Code != "stream_interrupted" {
		t.Errorf("%+v", got)
	}
	if h.outcomes() != "a:broken b:diverged" {
		t.Error(h.outcomes())
	}

	// After that, only who takes the beginning of its answer is asked.
	h = newHouse(t)
	h.policy.Attempts.PerDeployment = 1
	h.add(telling(3, "CUT"))
	h.add(differently)
	never := h.add(telling(len(story), stopChunk))
	h.add(continuing(t)).prefills()
	if got := h.hear(t, streamBody); got.err != nil || got.text != whole(story) || len(never.calls) != 0 {
		t.Errorf("%+v after %q", got, h.outcomes())
	}
}

func TestARestartThatEndsEarlyIsGivenUp(t *testing.T) {
	h := newHouse(t)
	h.policy.Attempts.PerDeployment = 1
	h.add(telling(3, "CUT"))
	h.add(telling(2, stopChunk, doneMark))
	if got := h.hear(t, streamBody); got.err == nil || got.finished || got.text != whole(story[:3]) || h.outcomes() != "a:broken b:diverged" {
		t.Errorf("%+v after %q", got, h.outcomes())
	}
}

func TestAStreamMayBreakMoreThanOnce(t *testing.T) {
	h := newHouse(t)
	h.add(telling(2, "CUT"))
	h.add(telling(4, "CUT"))
	h.add(continuing(t)).prefills()
	if got := h.hear(t, streamBody); got.err != nil || got.text != whole(story) || h.outcomes() != "a:broken b:broken c:ok" {
		t.Errorf("%+v after %q", got, h.outcomes())
	}
}

// What can not be told again is not resumed: the client hears of the break.
func TestWhatIsNotResumed(t *testing.T) {
	for name, arrange := range map[string]func(*house) string{
		"the policy says off": func(h *house) string { h.policy.Resume = catalog.Off; return streamBody },
		"several choices":     func(*house) string { return strings.Replace(streamBody, "{", `{"n":2,`, 1) },
		"JSON mode":           func(h *house) string { h.needs.JSONMode = true; return streamBody },
		"a schema":            func(h *house) string { h.needs.JSONSchema = true; return streamBody },
		"reasoning": func(h *house) string {
			h.stops[0].script = []behaviour{streaming(roleChunk, reasoning("hm"), delta("Once "), "CUT")}
			return streamBody
		},
	} {
		h := newHouse(t)
		h.add(telling(2, "CUT"))
		second := h.add(continuing(t)).prefills()
		got := h.hear(t, arrange(h))
		if len(second.calls) != 0 || got.err == nil || got.finished {
			t.Errorf("%s: %+v after %q", name, got, h.outcomes())
		}
	}
}

// A request that offers tools is never prefilled: what would have become a call would turn into prose.
func TestWithToolsOnOfferNothingIsPrefilled(t *testing.T) {
	h := newHouse(t)
	h.needs.Tools = true
	h.add(telling(3, "CUT"))
	b := h.add(refusingPrefill(t, telling(len(story), stopChunk))).prefills()
	if got := h.hear(t, streamBody); got.err != nil || got.text != whole(story) || len(b.calls) != 1 {
		t.Errorf("%+v after %q", got, h.outcomes())
	}
}

const toolsFinish = `{"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}`

// A tool call is held back until it is whole, so that one that breaks in its arguments fails over.
func TestToolCallsAreHeldBack(t *testing.T) {
	pieces := []string{toolCall(""), toolCall(`{"city":`), toolCall(`"Par`), toolCall(`is"}`)}
	good := streaming(append(append([]string{roleChunk}, pieces...), toolsFinish, doneMark)...)
	want := hearOnce(t, good)
	if want.err != nil || !want.finished || want.calls != whole(pieces) {
		t.Fatalf("%+v", want)
	}
	for upTo := 1; upTo <= len(pieces); upTo++ {
		for _, text := range []string{"", "Let me see. "} {
			begin := []string{roleChunk}
			if text != "" {
				begin = append(begin, delta(text))
			}
			h := newHouse(t)
			h.add(streaming(append(append(append([]string{}, begin...), pieces[:upTo]...), "CUT")...))
			h.add(streaming(append(append(append([]string{}, begin...), pieces...), toolsFinish, doneMark)...)).prefills()
			if got := h.hear(t, streamBody); got.err != nil || !got.finished || got.calls != want.calls || got.text != text {
				t.Errorf("cut after %d pieces: %+v after %q", upTo, got, h.outcomes())
			}

			h.stops[0].script = []behaviour{streaming(append(append(append([]string{}, begin...), pieces[:upTo]...), "CUT")...)}
			h.policy.HoldToolCalls = catalog.Off
			if got := h.hear(t, streamBody); got.err == nil || got.finished || got.calls != whole(pieces[:upTo]) {
				t.Errorf("not held, cut after %d pieces: %+v after %q", upTo, got, h.outcomes())
			}
		}
	}
}

// A call of more than a megabyte is not held any longer: it goes as it comes.
func TestAHugeToolCallGoesAsItComes(t *testing.T) {
	piece := toolCall(strings.Repeat("x", 300<<10))
	for _, first := range []string{roleChunk, delta("Let me see.")} {
		h := newHouse(t)
		h.add(streaming(first, piece, piece, piece, piece, piece, "CUT"))
		h.add(streaming(first, piece, toolsFinish))
		if got := h.hear(t, streamBody); got.err == nil || got.finished || got.calls != strings.Repeat(piece, 5) {
			t.Errorf("%v, %d bytes after %q", got.err, len(got.calls), h.outcomes())
		}
	}
}

func hearOnce(t *testing.T, b behaviour) heard {
	h := newHouse(t)
	h.add(b)
	return h.hear(t, streamBody)
}

func TestAStreamThatSaysNothingIsTriedElsewhere(t *testing.T) {
	h := newHouse(t)
	h.add(streaming(roleChunk, stopChunk, doneMark))
	h.add(telling(len(story), stopChunk))
	if got := h.hear(t, streamBody); got.err != nil || got.text != whole(story) || h.outcomes() != "a:empty_answer b:ok" {
		t.Errorf("%+v after %q", got, h.outcomes())
	}
}

// However the streams break, and whoever takes over: a client never gets a clean but short or wrong answer.
func TestNeverCleanButShort(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := newHouse(t)
		h.draw = 0
		ends := [][]string{{"CUT"}, {}, {doneMark}, {"garbage", "CUT"}, {`{"error":{"message":"x"}}`}, {stopChunk, doneMark}, {stopChunk}, {stopChunk, `{"error":{"message":"too late"}}`}}
		for range rapid.IntRange(1, 4).Draw(t, "deployments") {
			upTo := rapid.IntRange(0, len(story)).Draw(t, "pieces")
			end := rapid.SampledFrom(ends).Draw(t, "end")
			if end := strings.Join(end, ""); strings.Contains(end, stopChunk) {
				upTo = len(story) // who says that it has finished has
			}
			b := telling(upTo, end...)
			switch rapid.IntRange(0, 4).Draw(t, "kind") {
			case 0:
				h.add(b)
			case 1:
				h.add(continuing(t)).prefills()
			case 2:
				h.add(refusingPrefill(t, b)).prefills()
			case 3:
				h.add(failing(rapid.SampledFrom(upstream.Outcomes[1:]).Draw(t, "outcome")))
			case 4:
				h.add(b, telling(len(story), stopChunk))
			}
		}
		answer, err := h.run(context.Background(), streamBody)
		if err != nil {
			return
		}
		got := hear(answer.Stream)
		if !strings.HasPrefix(whole(story), got.text) {
			t.Fatalf("%q is no part of the story, after %q", got.text, h.outcomes())
		}
		if got.err == nil && (!got.finished || got.text != whole(story)) {
			t.Fatalf("clean but short: %+v after %q", got, h.outcomes())
		}
		if got.err != nil && got.finished {
			t.Fatalf("finished and broken: %+v after %q", got, h.outcomes())
		}
	})
}

func TestLeavingAStreamStopsIt(t *testing.T) {
	h := newHouse(t)
	h.add(telling(3, "CUT"))
	second := h.add(continuing(t)).prefills()
	answer, err := h.run(t.Context(), streamBody)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := answer.Stream.Next(); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	answer.Stream.Close()
	answer.Stream.Close()
	if h.outcomes() != "a:canceled" || len(second.calls) != 0 {
		t.Error(h.outcomes())
	}
}

// After a finish_reason the answer is whole, whatever comes then: it is not finished twice.
func TestAnErrorAfterTheEndIsTooLate(t *testing.T) {
	h := newHouse(t)
	h.add(telling(len(story), stopChunk, `{"error":{"message":"too late"}}`))
	second := h.add(continuing(t)).prefills()
	if got := h.hear(t, streamBody); got.err != nil || !got.finished || got.text != whole(story) || len(second.calls) != 0 {
		t.Errorf("%+v after %q", got, h.outcomes())
	}
}

func TestPassedOverCandidatesUseUpNoTries(t *testing.T) {
	h := newHouse(t)
	h.policy.Attempts = catalog.Attempts{Total: 5, PerDeployment: 1}
	h.add(telling(3, "CUT"))
	h.add(differently)
	h.add(refusingPrefill(t, differently)).prefills()
	for range 5 {
		h.add(differently)
	}
	h.add(continuing(t)).prefills()
	if got := h.hear(t, streamBody); got.err != nil || got.text != whole(story) {
		t.Errorf("%+v after %q", got, h.outcomes())
	}
}

// The request was good for whoever began the answer: a candidate that refuses it is passed over.
func TestARefusedRestartGoesOn(t *testing.T) {
	h := newHouse(t)
	h.add(telling(3, "CUT"))
	h.add(failing(upstream.ClientError))
	h.add(telling(len(story), stopChunk))
	if got := h.hear(t, streamBody); got.err != nil || got.text != whole(story) || h.outcomes() != "a:broken b:client_error c:ok" {
		t.Errorf("%+v after %q", got, h.outcomes())
	}
}

// An engine that declares prefill and does not know of it tells everything again.
func TestARepetitionInsteadOfARestIsSkipped(t *testing.T) {
	h := newHouse(t)
	h.add(telling(6, "CUT"))
	h.add(telling(len(story), stopChunk)).prefills()
	if got := h.hear(t, streamBody); got.err != nil || got.text != whole(story) {
		t.Errorf("%+v after %q", got, h.outcomes())
	}
}

// A character that is written as two halves may be cut between two chunks.
func TestHalvesOfACharacterAreCompared(t *testing.T) {
	raw := func(text string) string { return `{"choices":[{"index":0,"delta":{"content":"` + text + `"}}]}` }
	h := newHouse(t)
	h.add(streaming(raw(`a\ud83d`), raw(`\ude00b`), "CUT"))
	h.add(streaming(raw("a\U0001F600"), raw("bc"), stopChunk))
	if got := h.hear(t, streamBody); got.err != nil || !strings.HasSuffix(got.text, "bc") {
		t.Errorf("%+v after %q", got, h.outcomes())
	}
	h = newHouse(t)
	h.add(streaming(raw("a\U0001F600"), raw("b"), "CUT"))
	h.add(streaming(raw(`a\ud83d`), raw(`\ude00`), raw("bc"), stopChunk))
	if got := h.hear(t, streamBody); got.err != nil || !strings.HasSuffix(got.text, "bc") {
		t.Errorf("%+v after %q", got, h.outcomes())
	}
}

func TestWhatWasToldIsBounded(t *testing.T) {
	h := newHouse(t)
	h.add(streaming(delta(strings.Repeat("x", maxTold)), delta("more"), "CUT"))
	second := h.add(continuing(t)).prefills()
	answer, err := h.run(t.Context(), streamBody)
	if err != nil {
		t.Fatal(err)
	}
	got := hear(answer.Stream)
	if got.err == nil || len(second.calls) != 0 || len(answer.Stream.told.text) != 0 {
		t.Errorf("%v, %d calls, %d bytes kept", got.err, len(second.calls), len(answer.Stream.told.text))
	}
}

func TestAClientThatLeavesWhileItsStreamIsMended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.add(telling(3, "CUT"))
		h.add(slowly(time.Minute, continuing(t))).prefills()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		answer, err := h.run(ctx, streamBody)
		if err != nil {
			t.Fatal(err)
		}
		if got := hear(answer.Stream); fault.From(got.err).Kind != fault.Canceled || h.outcomes() != "a:broken b:canceled" {
			t.Errorf("%+v after %q", got, h.outcomes())
		}
	})
}

// A client that is gone is not worth another attempt.
func TestNobodyIsAskedForAClientThatIsGone(t *testing.T) {
	h := newHouse(t)
	h.add(telling(3, "CUT"))
	second := h.add(continuing(t)).prefills()
	answer, err := h.run(t.Context(), streamBody)
	if err != nil {
		t.Fatal(err)
	}
	answer.Stream.BeforeWait(func() error { return errors.New("broken pipe") })
	if got := hear(answer.Stream); got.err == nil || len(second.calls) != 0 {
		t.Errorf("%+v after %q", got, h.outcomes())
	}
}

// Slow clients and short deadlines say nothing about who happens to serve.
func TestTheWholeRequestsDeadlineBlamesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.policy.Deadlines.Total = time.Minute
		h.add(telling(3))
		for range 6 {
			answer, err := h.run(t.Context(), streamBody)
			if err != nil {
				t.Fatal(err)
			}
			for range 3 {
				_, _ = answer.Stream.Next()
				<-time.After(30 * time.Second)
			}
			answer.Stream.Close()
		}
		if state := h.board.Look("a/m").State; state != health.Closed {
			t.Error(state)
		}
	})
}

// A stream whose whole time is no longer than the first token's still leaves time for the next candidate.
func TestAShortTotalLeavesTimeForTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.policy.Deadlines.Total = 20 * time.Second
		h.add(slowly(time.Hour, telling(1)))
		h.add(telling(len(story), stopChunk))
		if got := h.hear(t, streamBody); got.err != nil || h.outcomes() != "a:first_token_timeout b:ok" && h.outcomes() != "a:headers_timeout b:ok" {
			t.Errorf("%+v after %q", got, h.outcomes())
		}
	})
}
