package failover

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"shareai/test/faultwall"
)

// received is what a client has of an answer.
type received struct {
	status  int
	header  http.Header
	body    string // as it came
	broken  error  // the connection ended otherwise than an HTTP answer does
	choices []choice
	vectors [][]float32
	failure *failure // an error answer, or an error event
	done    bool     // [DONE] came
	usage   map[string]any
	oddity  string // what no client should see
}

// choice is what has come of one choice.
type choice struct {
	Text, Reasoning string
	Calls           []call
	Finish          string
}

type call struct{ ID, Name, Arguments string }

// failure is the error object of the API.
type failure struct {
	Message   string `json:"message"`
	Type      string `json:"type"`
	Code      string `json:"code"`
	RequestID string `json:"request_id"`
	Attempts  []struct {
		Provider, Model, Outcome string
		Status                   int
	} `json:"attempts"`
}

// message is a unary choice, or a delta of a stream.
type message struct {
	Role      string  `json:"role"`
	Content   *string `json:"content"`
	Reasoning string  `json:"reasoning_content"`
	Calls     []struct {
		Index    *int   `json:"index"`
		ID       string `json:"id"`
		Function struct {
			Name      string `json:"name"`
			Arguments string `json:"arguments"`
		} `json:"function"`
	} `json:"tool_calls"`
}

type wireAnswer struct {
	ID      string `json:"id"`
	Choices []struct {
		Index   int      `json:"index"`
		Text    *string  `json:"text"`
		Message *message `json:"message"`
		Delta   *message `json:"delta"`
		Finish  *string  `json:"finish_reason"`
	} `json:"choices"`
	Data []struct {
		Embedding []float32 `json:"embedding"`
	} `json:"data"`
	Usage map[string]any `json:"usage"`
	Error *failure       `json:"error"`
}

// ask sends a request and reads all of the answer. seen hears of every event of a stream.
func (g *gateway) ask(ctx context.Context, path, body string, seen ...func(*received)) *received {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, g.url+path, strings.NewReader(body))
	if err != nil {
		return &received{broken: err}
	}
	request.Header.Set("Authorization", "Bearer "+apiKey)
	request.Header.Set("Content-Type", "application/json")
	response, err := g.client.Do(request)
	if err != nil {
		return &received{broken: err}
	}
	defer func() { _ = response.Body.Close() }()
	r := &received{status: response.StatusCode, header: response.Header}
	if strings.HasPrefix(response.Header.Get("Content-Type"), "text/event-stream") {
		r.readStream(response.Body, seen)
		return r
	}
	text, err := io.ReadAll(response.Body)
	r.body, r.broken = string(text), err
	if err == nil {
		r.take(text)
	}
	return r
}

// readStream reads events to the end of the body.
func (r *received) readStream(body io.Reader, seen []func(*received)) {
	in := bufio.NewReader(body)
	var raw strings.Builder
	defer func() { r.body = raw.String() }()
	for {
		line, err := in.ReadString('\n')
		raw.WriteString(line)
		if err != nil {
			if !errors.Is(err, io.EOF) {
				r.broken = err
			}
			return
		}
		line = strings.TrimRight(line, "\r\n")
		data, ok := strings.CutPrefix(line, "data: ")
		switch {
		case line == "":
		case !ok:
			r.odd("a line that is no data: %q", line)
		case r.done:
			r.odd("an event after [DONE]: %q", line)
		case r.failure != nil:
			r.odd("an event after the error: %q", line)
		case data == "[DONE]":
			r.done = true
		default:
			r.take([]byte(data))
			for _, hear := range seen {
				hear(r)
			}
		}
	}
}

func (r *received) odd(format string, a ...any) {
	if r.oddity == "" {
		r.oddity = fmt.Sprintf(format, a...)
	}
}

// take adds an answer or a part of one.
func (r *received) take(data []byte) {
	var w wireAnswer
	if err := json.Unmarshal(data, &w); err != nil {
		r.odd("%v in %q", err, data)
		return
	}
	if w.Usage != nil {
		r.usage = w.Usage
	}
	r.failure = w.Error
	for _, d := range w.Data {
		r.vectors = append(r.vectors, d.Embedding)
	}
	for _, c := range w.Choices {
		for len(r.choices) <= c.Index {
			r.choices = append(r.choices, choice{})
		}
		into := &r.choices[c.Index]
		if into.Finish != "" {
			r.odd("a choice goes on after its finish_reason: %s", data)
		}
		if c.Text != nil {
			into.Text += *c.Text
		}
		for _, m := range []*message{c.Message, c.Delta} {
			if m != nil {
				into.add(m)
			}
		}
		if c.Finish != nil {
			into.Finish = *c.Finish
		}
	}
}

func (c *choice) add(m *message) {
	if m.Content != nil {
		c.Text += *m.Content
	}
	c.Reasoning += m.Reasoning
	for i, piece := range m.Calls {
		at := i
		if piece.Index != nil {
			at = *piece.Index
		}
		for len(c.Calls) <= at {
			c.Calls = append(c.Calls, call{})
		}
		c.Calls[at].ID += piece.ID
		c.Calls[at].Name += piece.Function.Name
		c.Calls[at].Arguments += piece.Function.Arguments
	}
}

// finished says whether the answer claims to be whole.
func (r *received) finished(stream bool) bool {
	if r.status != http.StatusOK || r.broken != nil || r.failure != nil || stream && !r.done {
		return false
	}
	return !slices.ContainsFunc(r.choices, func(c choice) bool { return c.Finish == "" }) && len(r.choices)+len(r.vectors) > 0
}

// meant is what a client should have received in the end.
func meant(a faultwall.Answer) []choice {
	var list []choice
	for i := range a.Choices {
		c := &a.Choices[i]
		want := choice{Text: c.Text(), Reasoning: strings.Join(c.Reasoning, ""), Finish: c.Finish}
		for _, t := range c.Calls {
			want.Calls = append(want.Calls, call{t.ID, t.Name, strings.Join(t.Arguments, "")})
		}
		list = append(list, want)
	}
	return list
}

// begins says whether what has come of a choice is a beginning of what was meant.
func (c choice) begins(whole choice) bool {
	if !strings.HasPrefix(whole.Text, c.Text) || !strings.HasPrefix(whole.Reasoning, c.Reasoning) || len(c.Calls) > len(whole.Calls) {
		return false
	}
	for i, have := range c.Calls {
		if !strings.HasPrefix(whole.Calls[i].Arguments, have.Arguments) {
			return false
		}
	}
	return true
}

// honest says what is wrong with an answer whatever became of it: one that claims to be whole must be, one
// that is not must say so.
func (r *received) honest(asked *faultwall.Request) error {
	answer := asked.Answer()
	want := meant(answer)
	switch {
	case r.oddity != "":
		return fmt.Errorf("%s", r.oddity)
	case r.broken != nil:
		return fmt.Errorf("the connection broke: %w", r.broken)
	case r.status == http.StatusOK && r.finished(asked.Stream):
		if !slices.EqualFunc(r.choices, want, same) || !slices.EqualFunc(r.vectors, answer.Vectors, slices.Equal) {
			return fmt.Errorf("claims to be whole and is not:\n got %+v %v\nwant %+v %v", r.choices, r.vectors, want, answer.Vectors)
		}
	case r.failure == nil:
		return fmt.Errorf("ends without a word: status %d, %+v", r.status, r.choices)
	case r.done:
		return fmt.Errorf("has an error and [DONE]")
	default:
		for i, c := range r.choices {
			if i >= len(want) || !c.begins(want[i]) {
				return fmt.Errorf("what came before the error is not the beginning of the answer:\n got %+v\nwant %+v", c, want)
			}
		}
	}
	return nil
}

func same(a, b choice) bool {
	return a.Text == b.Text && a.Reasoning == b.Reasoning && a.Finish == b.Finish && slices.Equal(a.Calls, b.Calls)
}
