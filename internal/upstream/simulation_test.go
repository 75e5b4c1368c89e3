package upstream

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"shareai/internal/catalog"
	"shareai/internal/openai"
)

func simulatedCall(t testing.TB, settings catalog.Simulation, request string) *Call {
	t.Helper()
	call := newCall(t, "", request)
	call.Provider = &catalog.Provider{Name: "sim", Dialect: catalog.Simulated, Simulation: settings}
	return call
}

// said is what a simulated provider answered, from a whole answer or a stream.
type saidBy struct {
	text   string
	finish string
	usage  openai.Usage
	tools  string
	err    error
}

// ask makes the call and reads the answer through to its end.
func ask(ctx context.Context, t testing.TB, c *Client, call *Call) saidBy {
	t.Helper()
	answer, err := c.Do(ctx, call)
	if err != nil {
		return saidBy{err: err}
	}
	defer answer.Close()
	if answer.Stream == nil {
		return readReply(t, answer.Body)
	}
	return readStream(t, answer.Stream)
}

func isMalformed(err error) bool {
	var malformed *openai.MalformedError
	return errors.As(err, &malformed)
}

type choiceOf struct {
	Message struct {
		Content   string
		ToolCalls []struct {
			Function struct{ Name, Arguments string }
		} `json:"tool_calls"`
	}
	Text         string
	FinishReason string `json:"finish_reason"`
}

func readReply(t testing.TB, body []byte) (out saidBy) {
	t.Helper()
	reply, err := openai.ParseReply(body)
	if err != nil {
		return saidBy{err: err}
	}
	var plain struct {
		Choices []choiceOf
	}
	if err := json.Unmarshal(body, &plain); err != nil {
		t.Fatal(err)
	}
	out.usage = reply.Usage
	if reply.Err != nil {
		out.err = reply.Err
		return out
	}
	for _, c := range plain.Choices {
		out.text += c.Message.Content + c.Text
		out.finish = c.FinishReason
		for _, call := range c.Message.ToolCalls {
			out.tools += call.Function.Name + call.Function.Arguments
		}
	}
	return out
}

func readStream(t testing.TB, stream *Stream) (out saidBy) {
	t.Helper()
	var progress openai.Progress
	for {
		event, err := stream.Next()
		if errors.Is(err, io.EOF) {
			out.usage = progress.Usage()
			return out
		}
		if err != nil {
			out.err = err
			return out
		}
		if openai.IsDone(event.Data) {
			continue
		}
		var chunk openai.Chunk
		if err := openai.ParseChunk(event.Data, &chunk); err != nil {
			out.err = err
			return out
		}
		if chunk.Err != nil {
			out.err = chunk.Err
			continue
		}
		progress.Observe(&chunk)
		var plain struct {
			Choices []struct {
				Delta struct {
					Content   string
					ToolCalls []struct {
						Function struct{ Name, Arguments string }
					} `json:"tool_calls"`
				}
				Text         string
				FinishReason string `json:"finish_reason"`
			}
		}
		if err := json.Unmarshal(event.Data, &plain); err != nil {
			t.Fatal(err)
		}
		for _, c := range plain.Choices {
			out.text += c.Delta.Content + c.Text
			out.finish += c.FinishReason
			for _, call := range c.Delta.ToolCalls {
				out.tools += call.Function.Name + call.Function.Arguments
			}
		}
	}
}

func streamed(request string) string {
	return strings.TrimSuffix(request, "}") + `,"stream":true}`
}

func TestSimulatedAnswersAreTheSameEverywhere(t *testing.T) {
	c := newClient(t, Options{})
	request := `{"model":"chat","messages":[{"role":"user","content":"why is the \"sky\" blue? 😀"}]}`
	whole := ask(t.Context(), t, c, simulatedCall(t, catalog.Simulation{}, request))
	if whole.err != nil || !strings.Contains(whole.text, `why is the "sky" blue? 😀`) || whole.finish != "stop" {
		t.Fatalf("%+v", whole)
	}
	if u := whole.usage; !u.Reported || u.Completion != 32 || u.Prompt < 5 || len(strings.Fields(whole.text)) != 32 {
		t.Errorf("usage %+v for %q", u, whole.text)
	}
	elsewhere := simulatedCall(t, catalog.Simulation{}, streamed(request))
	elsewhere.Provider.Name, elsewhere.Deployment.Model, elsewhere.RequestID = "other", "other-model", "req-2"
	if got := ask(t.Context(), t, c, elsewhere); got.text != whole.text || got.finish != "stop" || got.usage != whole.usage {
		t.Errorf("as a stream, elsewhere: %+v\nwant %+v", got, whole)
	}
	other := ask(t.Context(), t, c, simulatedCall(t, catalog.Simulation{}, strings.Replace(request, "blue", "grey", 1)))
	if strings.HasSuffix(other.text, whole.text[len(whole.text)-20:]) {
		t.Errorf("another request gets the same words: %q", other.text)
	}
}

func TestSimulatedLength(t *testing.T) {
	c := newClient(t, Options{})
	for _, test := range []struct {
		settings catalog.Simulation
		request  string
		tokens   int64
		finish   string
	}{
		{catalog.Simulation{Tokens: 7}, `{"model":"chat","messages":[{"role":"user","content":"hi"}]}`, 7, "stop"},
		{catalog.Simulation{Tokens: 7}, `{"model":"chat","messages":[{"role":"user","content":"hi"}],"max_tokens":3}`, 3, "length"},
		{catalog.Simulation{Tokens: 7}, `{"model":"chat","messages":[{"role":"user","content":"hi"}],"max_completion_tokens":3}`, 3, "length"},
		{catalog.Simulation{Tokens: 7}, `{"model":"chat","messages":[{"role":"user","content":"hi"}],"max_tokens":30}`, 7, "stop"},
		{catalog.Simulation{Tokens: 7}, `{"model":"chat","messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}],"n":3}`, 21, "stop"},
	} {
		for _, request := range []string{test.request, streamed(test.request)} {
			got := ask(t.Context(), t, c, simulatedCall(t, test.settings, request))
			if got.err != nil || got.usage.Completion != test.tokens || !strings.HasPrefix(got.finish, test.finish) {
				t.Errorf("%s: %+v", request, got)
			}
		}
	}
}

func TestSimulatedCompletions(t *testing.T) {
	c := newClient(t, Options{})
	for _, request := range []string{`{"model":"chat","prompt":"once upon"}`, `{"model":"chat","prompt":["once upon"]}`} {
		var texts []string
		for _, mode := range []string{request, streamed(request)} {
			call := simulatedCall(t, catalog.Simulation{}, mode)
			call.Endpoint = catalog.Completions
			got := ask(t.Context(), t, c, call)
			if got.err != nil || got.text == "" || got.finish != "stop" || !got.usage.Reported {
				t.Errorf("%s: %+v", mode, got)
			}
			texts = append(texts, got.text)
		}
		if texts[0] != texts[1] {
			t.Errorf("whole %q, streamed %q", texts[0], texts[1])
		}
	}
}

func TestSimulatedTools(t *testing.T) {
	c := newClient(t, Options{})
	const tools = `"tools":[{"type":"function","function":{"name":"time","parameters":{"type":"object"}}},
		{"type":"function","function":{"name":"weather","parameters":{"type":"object","required":["city","days","unit","wind"],
		"properties":{"city":{"type":"string"},"days":{"type":"integer"},"unit":{"enum":["C","F"]},"wind":{"type":["boolean","null"]},"more":{"type":"array"}}}}}]`
	for _, test := range []struct{ choice, want string }{
		{`"required"`, `time{}`},
		{`{"type":"function","function":{"name":"weather"}}`, `weather{"city":"simulated","days":1,"unit":"C","wind":true}`},
		{`"auto"`, ``},
		{`"none"`, ``},
		{`{"type":"function","function":{"name":"unknown"}}`, ``},
	} {
		request := `{"model":"chat","messages":[{"role":"user","content":"hi"}],` + tools + `,"tool_choice":` + test.choice + `}`
		for _, mode := range []string{request, streamed(request)} {
			got := ask(t.Context(), t, c, simulatedCall(t, catalog.Simulation{}, mode))
			finish := "tool_calls"
			if test.want == "" {
				finish = "stop"
			}
			if got.err != nil || got.tools != test.want || got.finish != finish || (got.text == "") != (test.want != "") {
				t.Errorf("%s: %+v", test.choice, got)
			}
		}
	}
}

func TestSimulatedJSON(t *testing.T) {
	c := newClient(t, Options{})
	request := `{"model":"chat","messages":[{"role":"user","content":"hi"}],"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":
		{"type":"object","required":["a","b"],"properties":{"a":{"type":"string"},"b":{"type":"object","required":["c"],"properties":{"c":{"type":"number"}}}}}}}}`
	for _, mode := range []string{request, streamed(request)} {
		if got := ask(t.Context(), t, c, simulatedCall(t, catalog.Simulation{}, mode)); got.text != `{"a":"simulated","b":{"c":1}}` {
			t.Errorf("%+v", got)
		}
	}
}

func TestSimulatedEmbeddings(t *testing.T) {
	c := newClient(t, Options{})
	vectors := func(request string) (out [][]float32) {
		t.Helper()
		call := simulatedCall(t, catalog.Simulation{}, request)
		call.Endpoint = catalog.Embeddings
		answer, err := c.Do(t.Context(), call)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Close()
		if reply, err := openai.ParseReply(answer.Body); err != nil || !reply.Content || !reply.Usage.Reported || reply.Usage.Prompt == 0 {
			t.Fatalf("%+v, %v", reply, err)
		}
		var list struct {
			Data []struct {
				Index     int
				Embedding json.RawMessage
			}
		}
		if err := json.Unmarshal(answer.Body, &list); err != nil {
			t.Fatal(err)
		}
		for i, one := range list.Data {
			if one.Index != i {
				t.Errorf("index %d at %d", one.Index, i)
			}
			out = append(out, unpack(t, one.Embedding))
		}
		return out
	}
	one := vectors(`{"model":"e","input":"hello"}`)
	three := vectors(`{"model":"e","input":["hello","hello you","x"],"encoding_format":"base64"}`)
	if len(one) != 1 || len(three) != 3 || len(one[0]) != 256 || fmt.Sprint(one[0]) != fmt.Sprint(three[0]) || fmt.Sprint(one[0]) == fmt.Sprint(three[1]) {
		t.Errorf("%d and %d vectors", len(one), len(three))
	}
	for _, v := range three {
		var square float64
		for _, x := range v {
			square += float64(x) * float64(x)
		}
		if math.Abs(square-1) > 1e-5 {
			t.Errorf("length %f", square)
		}
	}
	if got := vectors(`{"model":"e","input":[1,2,3],"dimensions":8}`); len(got) != 1 || len(got[0]) != 8 {
		t.Errorf("a prompt in tokens: %v", got)
	}
	if got := vectors(`{"model":"e","input":[[1,2],[3]]}`); len(got) != 2 {
		t.Errorf("two prompts in tokens: %d vectors", len(got))
	}
}

func unpack(t *testing.T, raw json.RawMessage) (out []float32) {
	t.Helper()
	if json.Unmarshal(raw, &out) == nil {
		return out
	}
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		t.Fatal(err)
	}
	bytes, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	for ; len(bytes) > 0; bytes = bytes[4:] {
		out = append(out, math.Float32frombits(binary.LittleEndian.Uint32(bytes)))
	}
	return out
}

func TestSimulatedFaults(t *testing.T) {
	c := newClient(t, Options{})
	request := `{"model":"chat","messages":[{"role":"user","content":"hi"}]}`
	for fault, want := range map[catalog.Fault]struct{ whole, streamed Outcome }{
		catalog.NoFault:       {OK, OK},
		catalog.FaultRefused:  {ConnectFailed, ConnectFailed},
		catalog.FaultServer:   {ServerError, ServerError},
		catalog.FaultBusy:     {Overloaded, Overloaded},
		catalog.FaultLimited:  {RateLimited, RateLimited},
		catalog.FaultKey:      {KeyRejected, KeyRejected},
		catalog.FaultCut:      {Broken, Broken},
		catalog.FaultInBand:   {ErrorEvent, ErrorEvent},
		catalog.FaultBadChunk: {BadAnswer, BadAnswer},
	} {
		for _, mode := range []string{request, streamed(request)} {
			got := ask(t.Context(), t, c, simulatedCall(t, catalog.Simulation{Fault: fault}, mode))
			outcome := OK
			var e *Error
			var in *openai.UpstreamError
			switch {
			case errors.As(got.err, &e):
				outcome = e.Outcome
			case errors.As(got.err, &in):
				outcome = Classify(in).Outcome
			case isMalformed(got.err): // what attempt makes of it
				outcome = BadAnswer
			case got.err != nil:
				t.Errorf("%q: %v", fault, got.err)
			}
			if wanted := map[bool]Outcome{false: want.whole, true: want.streamed}[mode != request]; outcome != wanted {
				t.Errorf("%q: %s, want %s", fault, outcome, wanted)
			}
			if fault == catalog.FaultLimited && e.RetryAfter != 2*time.Second {
				t.Errorf("Retry-After %s", e.RetryAfter)
			}
			if (fault == catalog.FaultCut || fault == catalog.FaultInBand) && mode != request && got.text == "" {
				t.Errorf("%q: failed before its first content", fault)
			}
		}
	}
	got := ask(t.Context(), t, c, simulatedCall(t, catalog.Simulation{Fault: catalog.FaultNoFinish}, streamed(request)))
	if got.err != nil || got.text == "" || got.finish != "" || got.usage.Reported {
		t.Errorf("no finish: %+v", got)
	}
}

func TestSimulatedHang(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(time.Millisecond, func() { cancel(HeadersTimeout) })
	call := simulatedCall(t, catalog.Simulation{Fault: catalog.FaultHang}, chatRequest)
	if e := failure(ctx, t, newClient(t, Options{}), call); e.Outcome != HeadersTimeout {
		t.Error(e)
	}
}

// A provider goes on with an assistant message at the end: whatever part of an answer it gets, what it says
// is the rest, to the letter.
func TestSimulatedPrefill(t *testing.T) {
	c := newClient(t, Options{})
	question := `{"role":"user","content":"why is the \"sky\" blue? 😀"}`
	request := `{"model":"chat","messages":[` + question + `]}`
	whole := ask(t.Context(), t, c, simulatedCall(t, catalog.Simulation{}, request))
	for at := range len(whole.text) + 1 {
		begun, err := json.Marshal(whole.text[:at])
		if err != nil {
			t.Fatal(err)
		}
		if !utf8.ValidString(whole.text[:at]) {
			continue
		}
		resumed := `{"model":"chat","messages":[` + question + `,{"role":"assistant","content":` + string(begun) + `}]}`
		for _, mode := range []string{resumed, streamed(resumed)} {
			got := ask(t.Context(), t, c, simulatedCall(t, catalog.Simulation{}, mode))
			if got.err != nil || whole.text[:at]+got.text != whole.text || got.finish != "stop" {
				t.Fatalf("after %q: %+v", whole.text[:at], got)
			}
		}
	}
	other := strings.Replace(request, "]}", `,{"role":"assistant","content":"Not my words"}]}`, 1)
	if got := ask(t.Context(), t, c, simulatedCall(t, catalog.Simulation{}, other)); got.text != whole.text {
		t.Errorf("after somebody else's words: %q", got.text)
	}
	limited := strings.Replace(request, `"messages"`, `"max_tokens":3,"messages"`, 1)
	limited = strings.Replace(limited, "]}", `,{"role":"assistant","content":"Simulated: why"}]}`, 1)
	if got := ask(t.Context(), t, c, simulatedCall(t, catalog.Simulation{}, limited)); got.text != ` is the "sky"` || got.finish != "length" || got.usage.Completion != 3 {
		t.Errorf("three tokens more: %+v", got)
	}
}

// The head of a stream comes at once, and then nothing; a unary answer does not even begin.
func TestSimulatedSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(Options{})
		for _, mode := range []string{chatRequest, streamRequest} {
			ctx, cancel := context.WithTimeoutCause(t.Context(), 5*time.Second, FirstTokenTimeout)
			heads, start := 0, time.Now()
			call := simulatedCall(t, catalog.Simulation{Fault: catalog.FaultSlow}, mode)
			call.OnHeaders = func() { heads++ }
			got := ask(ctx, t, c, call)
			cancel()
			if want := map[string]int{streamRequest: 1}[mode]; heads != want || !errors.Is(got.err, FirstTokenTimeout) || time.Since(start) != 5*time.Second {
				t.Errorf("%d heads, %v after %s", heads, got.err, time.Since(start))
			}
		}
	})
}

func TestSimulatedFaultShare(t *testing.T) {
	c := newClient(t, Options{})
	both := 0
	failures := map[string]int{}
	const calls = 2000
	for i := range calls {
		failed := 0
		for _, provider := range []string{"a", "b"} {
			call := simulatedCall(t, catalog.Simulation{Fault: catalog.FaultBusy, FaultShare: 0.3, Tokens: 1}, chatRequest)
			call.Provider.Name, call.RequestID = provider, fmt.Sprintf("req-%d", i)
			first := ask(t.Context(), t, c, call).err
			if again := ask(t.Context(), t, c, call).err; (first == nil) != (again == nil) {
				t.Fatalf("request %d: %v, then %v", i, first, again)
			}
			if first != nil {
				failures[provider]++
				failed++
			}
		}
		if failed == 2 {
			both++
		}
	}
	for provider, n := range failures {
		if share := float64(n) / calls; share < 0.25 || share > 0.35 {
			t.Errorf("%s fails %.3f of the requests", provider, share)
		}
	}
	if share := float64(both) / calls; share < 0.05 || share > 0.13 {
		t.Errorf("both fail %.3f of the requests; independent ones would 0.09", share)
	}
}

func TestSimulatedPace(t *testing.T) {
	settings := catalog.Simulation{Latency: 300 * time.Millisecond, TokensPerSecond: 10, Tokens: 6}
	synctest.Test(t, func(t *testing.T) {
		c := New(Options{})
		start := time.Now()
		if got := ask(t.Context(), t, c, simulatedCall(t, settings, chatRequest)); got.err != nil {
			t.Fatal(got.err)
		}
		if took := time.Since(start); took != 900*time.Millisecond {
			t.Errorf("a whole answer took %s", took)
		}
		start = time.Now()
		answer, err := c.Do(t.Context(), simulatedCall(t, settings, streamRequest))
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Close()
		if took := answer.HeadersAt.Sub(start); took != settings.Latency {
			t.Errorf("the headers of a stream took %s", took)
		}
		for i := range 7 { // the role and six tokens
			if _, err := answer.Stream.Next(); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(start) - settings.Latency; took != time.Duration(max(i-1, 0))*100*time.Millisecond {
				t.Errorf("event %d came after %s", i, took)
			}
		}
	})
	synctest.Test(t, func(t *testing.T) { // a cancelled context ends every wait
		c := New(Options{})
		for _, request := range []string{chatRequest, streamRequest} {
			for _, after := range []time.Duration{100 * time.Millisecond, 450 * time.Millisecond} {
				ctx, cancel := context.WithTimeoutCause(t.Context(), after, IdleTimeout)
				start := time.Now()
				got := ask(ctx, t, c, simulatedCall(t, settings, request))
				if !errors.Is(got.err, IdleTimeout) || time.Since(start) != after {
					t.Errorf("%v after %s", got.err, time.Since(start))
				}
				cancel()
			}
		}
	})
}

func TestSimulatedRefusesNonsense(t *testing.T) {
	call := simulatedCall(t, catalog.Simulation{}, `{"model":"chat","messages":"none"}`)
	if e := failure(t.Context(), t, newClient(t, Options{}), call); e.Outcome != ClientError || e.Status != 400 {
		t.Error(e)
	}
}
