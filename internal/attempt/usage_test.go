package attempt

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"shareai/internal/catalog"
	"shareai/internal/openai"
	"shareai/internal/tokenizer"
	"shareai/internal/upstream"
)

// golden is a usage block as a vendor sends it, with what it means.
type golden struct {
	Source string                     `json:"source"`
	Price  catalog.Price              `json:"price"`
	At     string                     `json:"at"` // where a stream has it: chunk, last, every, choice, x_groq
	Usage  json.RawMessage            `json:"usage"`
	Beside map[string]json.RawMessage `json:"beside"` // members of the answer
	Tokens catalog.Tokens             `json:"tokens"`
	Cost   int64                      `json:"cost_nano_usd"`
}

// What vendors report comes to the same tokens and the same cost, whether the answer is streamed or not.
func TestUsageOfVendors(t *testing.T) {
	files, err := filepath.Glob("testdata/usage/*.json")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var g golden
			if err := json.Unmarshal(text, &g); err != nil || g.Source == "" {
				t.Fatalf("%v, source %q", err, g.Source)
			}
			var line bytes.Buffer // an event has one
			if err := json.Compact(&line, g.Usage); err != nil {
				t.Fatal(err)
			}
			g.Usage = line.Bytes()
			for name, value := range g.Beside {
				var line bytes.Buffer
				if err := json.Compact(&line, value); err != nil {
					t.Fatal(err)
				}
				g.Beside[name] = line.Bytes()
			}
			for _, mode := range []struct {
				body string
				says behaviour
			}{{unaryBody, g.unary}, {streamBody, streaming(g.stream()...)}} {
				h := newHouse(t)
				d := h.add(mode.says)
				d.candidate.Deployment.Price, d.candidate.PriceVersion = g.Price, "v1"
				answer, err := h.run(t.Context(), mode.body)
				if err != nil {
					t.Fatal(err)
				}
				if answer.Stream != nil {
					if got := hear(answer.Stream); !got.finished || got.err != nil {
						t.Errorf("the stream: %+v", got)
					}
				}
				tokens, cost := h.log.Totals()
				if diff := cmp.Diff(g.Tokens, tokens); diff != "" || cost != g.Cost {
					t.Errorf("%s\ncost %d, want %d\n%s", mode.body, cost, g.Cost, diff)
				}
				if got := h.log.Attempts()[0]; got.PriceVersion != "v1" || got.Cost != cost {
					t.Errorf("the attempt: %+v", got)
				}
			}
		})
	}
}

func (g *golden) unary(context.Context, *upstream.Call) (*upstream.Answer, error) {
	return &upstream.Answer{Status: 200, HeadersAt: time.Now(), Body: []byte(g.with(`{"choices":[{"index":0,"message":{"content":"hi"},"finish_reason":"stop"}]}`))}, nil
}

func (g *golden) stream() []string {
	first, stop := delta("hi"), stopChunk
	switch g.At {
	case "last":
		stop = g.with(stop)
	case "every":
		begun := strings.NewReplacer(`"completion_tokens":20`, `"completion_tokens":1`, `"total_tokens":27`, `"total_tokens":8`).Replace(g.with(first))
		return []string{begun, g.with(stop), doneMark}
	case "choice":
		stop = strings.Replace(stop, `"delta":{}`, `"delta":{},"usage":`+string(g.Usage), 1)
	case "x_groq":
		stop = string(openai.AppendMember([]byte(stop), "x_groq", []byte(`{"id":"req_01","usage":`+string(g.Usage)+`}`)))
	default:
		null := func(chunk string) string { return string(openai.AppendMember([]byte(chunk), "usage", []byte("null"))) }
		return []string{null(roleChunk), null(first), null(stop), g.with(`{"choices":[]}`), doneMark}
	}
	return []string{roleChunk, first, stop, doneMark}
}

// with adds the usage block to an answer, and what stands beside it.
func (g *golden) with(answer string) string {
	for member, value := range g.Beside {
		answer = string(openai.AppendMember([]byte(answer), member, value))
	}
	return string(openai.AppendMember([]byte(answer), "usage", g.Usage))
}

// spoken are pieces of every kind that a model says, and what of them is text.
var spoken = []struct{ event, text string }{
	{reasoning("The user wants "), "The user wants "},
	{reasoning("a short greet"), "a short greet"},
	{reasoning("ing."), "ing."},
	{`{"choices":[{"index":0,"delta":{"reasoning":" Twice","reasoning_details":[{"type":"reasoning.text","text":" Twice"}]}}]}`, " Twice"},
	{delta("Good mor"), "Good mor"},
	{delta("ning, Größenwahn \u2615 \"quoted\"\n"), "ning, Größenwahn \u2615 \"quoted\"\n"},
	{toolCall(`{"city":"Lon`), `f{"city":"Lon`},
	{`{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"don\"}"}}]}}]}`, `don"}`},
}

// speaking adds a deployment that says all of it and reports nothing.
func (h *house) speaking() {
	h.policy.HoldToolCalls = catalog.Off
	events := []string{roleChunk}
	for _, s := range spoken {
		events = append(events, s.event)
	}
	d := h.add(streaming(append(events, stopChunk, doneMark)...))
	d.candidate.Limits.Tokenizer, d.candidate.Deployment.Price = "llama3", catalog.Price{Input: 1e9, Output: 2e9}
}

// Where nobody reports usage it is counted, with the model's vocabulary: the prompt, and all that was said, be it text,
// reasoning or the arguments of a call, as the text that the pieces are together.
func TestWhatNobodyReportsIsCounted(t *testing.T) {
	h := newHouse(t)
	h.speaking()
	if got := h.hear(t, streamBody); !got.finished {
		t.Fatalf("%+v", got)
	}
	said := ""
	for _, s := range spoken {
		said += s.text
	}
	got := h.log.Attempts()[0]
	want := catalog.Tokens{Prompt: 8, Completion: tokenizer.Count("llama3", said), Reasoning: got.Tokens.Reasoning, Estimated: true}
	if got.Tokens != want || got.Cost != want.Prompt*1000+want.Completion*2000 {
		t.Errorf("%+v, cost %d, want %+v", got.Tokens, got.Cost, want)
	}
	if thought := tokenizer.Count("llama3", said[:len("The user wants a short greeting. Twice")]); got.Tokens.Reasoning < thought/2 || got.Tokens.Reasoning > 2*thought {
		t.Errorf("%d tokens of reasoning, about %d", got.Tokens.Reasoning, thought)
	}
	unary := newHouse(t)
	unary.add(func(context.Context, *upstream.Call) (*upstream.Answer, error) {
		return &upstream.Answer{Status: 200, HeadersAt: time.Now(), Body: []byte(`{"choices":[{"index":0,"message":{"content":"hello world"},"finish_reason":"stop"}]}`)}, nil
	})
	if _, err := unary.run(t.Context(), unaryBody); err != nil {
		t.Fatal(err)
	}
	if got := unary.log.Attempts()[0].Tokens; got != (catalog.Tokens{Prompt: 8, Completion: 2, Estimated: true}) {
		t.Errorf("unary: %+v", got)
	}
}

// Whenever a client leaves, what had been produced for him is billed, and nothing of those who were not asked.
func TestWhoLeavesPaysForWhatWasProduced(t *testing.T) {
	said := ""
	for left := 1; left <= len(spoken); left++ {
		h := newHouse(t)
		h.speaking()
		second := h.add(failing(upstream.ServerError))
		answer, err := h.run(t.Context(), streamBody)
		if err != nil {
			t.Fatal(err)
		}
		for range left + 1 { // the role comes first
			if _, err := answer.Stream.Next(); err != nil {
				t.Fatal(err)
			}
		}
		answer.Stream.Close()
		said += spoken[left-1].text
		got := h.log.Attempts()
		if len(got) != 1 || len(second.calls) != 0 || got[0].Outcome != string(upstream.Canceled) {
			t.Fatalf("%+v", got)
		}
		want := catalog.Tokens{Prompt: 8, Completion: tokenizer.Count("llama3", said), Reasoning: got[0].Tokens.Reasoning, Estimated: true}
		if got[0].Tokens != want || got[0].Cost != want.Prompt*1000+want.Completion*2000 {
			t.Errorf("after %d pieces: %+v, cost %d, want %+v", left, got[0].Tokens, got[0].Cost, want)
		}
	}
}

// What a provider said in the middle counts, and what came after it is counted here.
func TestUsageThatIsNotTheLastWord(t *testing.T) {
	for name, c := range map[string]struct {
		events []string
		want   catalog.Tokens
	}{
		"at the beginning, and cut": {
			[]string{`{"choices":[{"index":0,"delta":{"role":"assistant"}}],"usage":{"prompt_tokens":50,"completion_tokens":1}}`, delta("hello world"), "CUT"},
			catalog.Tokens{Prompt: 50, Completion: 1 + 2, Estimated: true},
		},
		"with every piece, and cut": {
			[]string{`{"choices":[{"index":0,"delta":{"content":"hello world"}}],"usage":{"prompt_tokens":50,"completion_tokens":4}}`, "CUT"},
			catalog.Tokens{Prompt: 50, Completion: 4},
		},
		"nothing had come": {[]string{roleChunk, "CUT"}, catalog.Tokens{}},
	} {
		h := newHouse(t)
		h.add(streaming(c.events...))
		h.policy.Attempts = catalog.Attempts{Total: 1, PerDeployment: 1}
		_ = h.hear(t, streamBody)
		if got, _ := h.log.Totals(); got != c.want {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// Whoever was not reached, or refused, has nothing to charge.
func TestNobodyIsPaidForNothing(t *testing.T) {
	for _, o := range []upstream.Outcome{upstream.ConnectFailed, upstream.RateLimited, upstream.ServerError, upstream.KeyRejected, upstream.HeadersTimeout} {
		h := newHouse(t)
		for _, d := range []*double{h.add(failing(o)), h.add(saying("hi", "stop"))} {
			d.candidate.Deployment.Price = catalog.Price{Input: 1e9, Output: 1e9, Request: 7}
		}
		if _, err := h.run(t.Context(), unaryBody); err != nil {
			t.Fatal(err)
		}
		if failed := h.log.Attempts()[0]; failed.Tokens != (catalog.Tokens{}) || failed.Cost != 0 {
			t.Errorf("%s: %+v", o, failed)
		}
		if tokens, cost := h.log.Totals(); tokens.Prompt != 3 || cost != 5*1000+7 {
			t.Errorf("%s: %+v, %d", o, tokens, cost)
		}
	}
}

// A very long answer is counted from its beginning: the estimate stays close, the memory small.
func TestALongAnswerIsSampled(t *testing.T) {
	events, said := []string{roleChunk}, ""
	for i := range 4000 {
		piece := fmt.Sprintf("line %d of a long story, ", i)
		events, said = append(events, delta(piece)), said+piece
	}
	h := newHouse(t)
	h.add(streaming(append(events, stopChunk, doneMark)...))
	if got := h.hear(t, streamBody); got.text != said {
		t.Fatal("the story is not whole")
	}
	got, want := h.log.Attempts()[0].Tokens.Completion, tokenizer.Count("o200k", said)
	if got < want*9/10 || got > want*11/10 {
		t.Errorf("%d tokens, want about %d", got, want)
	}
}
