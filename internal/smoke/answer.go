package smoke

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"shareai/internal/fault"
)

const costHeader = "X-Shareai-Cost"

// usageBlock is OpenAI's usage object. The pointers tell a count of 0 from one that is missing.
type usageBlock struct {
	Prompt     *int64 `json:"prompt_tokens"`
	Completion *int64 `json:"completion_tokens"`
	Total      *int64 `json:"total_tokens"`
}

// tokens checks the block against itself.
func (u *usageBlock) tokens(mode Mode) (Tokens, error) {
	if u == nil || u.Prompt == nil || u.Total == nil || u.Completion == nil && mode != Embeddings {
		return Tokens{}, errors.New("the answer has no complete usage block")
	}
	t := Tokens{Prompt: *u.Prompt}
	if u.Completion != nil {
		t.Completion = *u.Completion
	}
	if t.Prompt <= 0 {
		return t, errors.New("the usage block counts no prompt tokens")
	}
	if t.Completion <= 0 && mode != Embeddings {
		return t, errors.New("the usage block counts no completion tokens")
	}
	if t.Prompt+t.Completion != *u.Total {
		return t, fmt.Errorf("the usage block does not add up: %d + %d is not %d", t.Prompt, t.Completion, *u.Total)
	}
	return t, nil
}

// reply is what is common to the unary answers and the chunks of a stream.
type reply struct {
	Choices []struct {
		Message *said  `json:"message"`
		Delta   *said  `json:"delta"`
		Text    string `json:"text"`
		Finish  string `json:"finish_reason"`
	} `json:"choices"`
	Data []struct {
		Embedding json.RawMessage `json:"embedding"`
	} `json:"data"`
	Usage *usageBlock `json:"usage"`
	Cost  string      `json:"x-shareai-cost"`
	Error *struct {
		Message string `json:"message"`
	} `json:"error"`
}

// said is a message or a part of one.
type said struct {
	Content   string            `json:"content"`
	Reasoning string            `json:"reasoning_content"`
	Refusal   string            `json:"refusal"`
	ToolCalls []json.RawMessage `json:"tool_calls"`
}

func (s *said) something() bool {
	return s != nil && (s.Content != "" || s.Reasoning != "" || s.Refusal != "" || len(s.ToolCalls) > 0)
}

// readReply reads a unary answer.
func (c *Call) readReply(answer *http.Response) error {
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return err
	}
	var r reply
	if err := json.Unmarshal(body, &r); err != nil {
		return errors.New("the answer is not the JSON that was asked for")
	}
	if c.Mode == Embeddings {
		if len(r.Data) == 0 || len(r.Data[0].Embedding) <= len("[]") {
			return errors.New("the answer has no embedding")
		}
	} else if err := r.finished(); err != nil {
		return err
	}
	if c.Tokens, err = r.Usage.tokens(c.Mode); err != nil {
		return err
	}
	c.Cost, err = parseUSD(answer.Header.Get(costHeader))
	return err
}

// finished says whether an answer has text and an end. One that was cut at the limit of tokens may have
// spent them all on thinking.
func (r *reply) finished() error {
	if len(r.Choices) == 0 {
		return errors.New("the answer has no choices")
	}
	first := r.Choices[0]
	if first.Finish == "" {
		return errors.New("the answer has no finish_reason")
	}
	if !first.Message.something() && first.Text == "" && first.Finish != "length" {
		return errors.New("the answer is empty")
	}
	return nil
}

// stream is what has been seen of a stream.
type stream struct {
	content, done bool
	finish        string
	usage         *usageBlock
	cost          string
}

// readStream reads a stream to its end.
func (c *Call) readStream(answer *http.Response, start time.Time) error {
	if kind, _, _ := mime.ParseMediaType(answer.Header.Get("Content-Type")); kind != "text/event-stream" {
		return fmt.Errorf("a stream was asked for, the answer's type is %q", kind)
	}
	var s stream
	lines := bufio.NewScanner(io.LimitReader(answer.Body, maxAnswer))
	lines.Buffer(nil, 1<<20)
	event := "" // an event counts once its blank line is there: what the end cuts off is none
	for lines.Scan() {
		if data, found := strings.CutPrefix(lines.Text(), "data:"); found {
			event += strings.TrimSpace(data)
		}
		if lines.Text() != "" || event == "" {
			continue
		}
		if err := s.take(event); err != nil {
			return err
		}
		event = ""
		if s.content && c.FirstToken == 0 {
			c.FirstToken = time.Since(start)
		}
	}
	if err := lines.Err(); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	return c.judge(&s, answer.Trailer)
}

// take reads one event's data.
func (s *stream) take(data string) error {
	if s.done {
		return errors.New("the stream goes on after [DONE]")
	}
	if data == "[DONE]" {
		s.done = true
		return nil
	}
	var r reply
	if err := json.Unmarshal([]byte(data), &r); err != nil {
		return errors.New("the stream has an event that is not JSON")
	}
	if r.Error != nil {
		return errors.New("the stream broke with an error: " + fault.Redact(r.Error.Message))
	}
	for _, choice := range r.Choices {
		s.content = s.content || choice.Delta.something() || choice.Text != ""
		if choice.Finish != "" {
			s.finish = choice.Finish
		}
	}
	if r.Usage != nil {
		s.usage, s.cost = r.Usage, r.Cost
	}
	return nil
}

// judge says whether a stream that ended was whole. The trailer can be read only now.
func (c *Call) judge(s *stream, trailer http.Header) error {
	switch {
	case !s.done:
		return errors.New("the stream was cut: it ended without [DONE]")
	case s.finish == "":
		return errors.New("the stream ended without a finish_reason")
	case !s.content && s.finish != "length":
		return errors.New("the stream had no content")
	}
	var err error
	if c.Tokens, err = s.usage.tokens(c.Mode); err != nil {
		return err
	}
	if c.Cost, err = parseUSD(s.cost); err != nil {
		return err
	}
	// A proxy in front may swallow the trailer; one that arrives must agree.
	if late := trailer.Get(costHeader); late != "" && late != s.cost {
		return fmt.Errorf("the stream's usage chunk says it cost $%s, its trailer says $%s", s.cost, late)
	}
	return nil
}

// checkHeaders says whether the answer says who answered.
func (c *Call) checkHeaders() error {
	switch {
	case c.RequestID == "":
		return errors.New("the answer has no x-request-id")
	case c.Provider == "":
		return errors.New("the answer has no x-shareai-provider")
	case c.Attempts < 1:
		return errors.New("the answer has no x-shareai-attempts")
	}
	return nil
}
