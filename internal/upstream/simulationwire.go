package upstream

import (
	"context"
	"encoding/json"
	"io"
	"time"

	"shareai/internal/catalog"
	"shareai/internal/openai"
)

// The shapes of OpenAI's answers, as far as a simulated provider fills them.
type (
	wireReply struct {
		ID      string       `json:"id,omitempty"`
		Object  string       `json:"object"`
		Created int64        `json:"created"`
		Model   string       `json:"model"`
		Choices []wireChoice `json:"choices"`
		Usage   *wireUsage   `json:"usage,omitempty"`
	}
	wireChoice struct {
		Index        int          `json:"index"`
		Message      *wireMessage `json:"message,omitempty"` // unary chat
		Delta        *wireMessage `json:"delta,omitempty"`   // streamed chat
		Text         *string      `json:"text,omitempty"`    // completions
		FinishReason *string      `json:"finish_reason"`
		Logprobs     *struct{}    `json:"logprobs"`
	}
	wireMessage struct {
		Role      string         `json:"role,omitempty"`
		Content   *string        `json:"content,omitempty"`
		ToolCalls []wireToolCall `json:"tool_calls,omitempty"`
	}
	wireToolCall struct {
		Index    *int         `json:"index,omitempty"` // streamed
		ID       string       `json:"id,omitempty"`
		Type     string       `json:"type,omitempty"`
		Function wireFunction `json:"function"`
	}
	wireFunction struct {
		Name      string `json:"name,omitempty"`
		Arguments string `json:"arguments"`
	}
	wireUsage struct {
		PromptTokens     int `json:"prompt_tokens"`
		CompletionTokens int `json:"completion_tokens,omitempty"`
		TotalTokens      int `json:"total_tokens"`
	}
	wireEmbeddings struct {
		Object string          `json:"object"`
		Data   []wireEmbedding `json:"data"`
		Model  string          `json:"model"`
		Usage  wireUsage       `json:"usage"`
	}
	wireEmbedding struct {
		Object    string `json:"object"`
		Index     int    `json:"index"`
		Embedding any    `json:"embedding"` // []float32, or a string in base64
	}
)

// embeddings is the answer to a request for embeddings.
func (r *simulatedRequest) embeddings() wireEmbeddings {
	dimensions := 256
	if r.Dimensions > 0 {
		dimensions = min(r.Dimensions, maxSimulatedVector)
	}
	tokens := r.promptTokens()
	out := wireEmbeddings{Object: "list", Model: r.Model, Usage: wireUsage{PromptTokens: tokens, TotalTokens: tokens}}
	for i, text := range listOf(r.Input) {
		one := wireEmbedding{Object: "embedding", Index: i, Embedding: vector(text, dimensions)}
		if r.EncodingFormat == "base64" {
			one.Embedding = packed(vector(text, dimensions))
		}
		out.Data = append(out.Data, one)
	}
	return out
}

// frame is an answer without choices.
func (s *simulatedSaid) frame(chunk string) wireReply {
	if s.completions {
		return wireReply{ID: "cmpl-simulated", Object: "text_completion", Created: time.Now().Unix(), Model: s.model}
	}
	return wireReply{ID: "chatcmpl-simulated", Object: "chat.completion" + chunk, Created: time.Now().Unix(), Model: s.model}
}

func (s *simulatedSaid) usage() *wireUsage {
	tokens := 0
	for _, c := range s.choices {
		tokens += len(c.pieces)
	}
	return &wireUsage{PromptTokens: s.prompt, CompletionTokens: tokens, TotalTokens: s.prompt + tokens}
}

// reply is the whole answer.
func (s *simulatedSaid) reply() wireReply {
	out := s.frame("")
	out.Usage = s.usage()
	for i, c := range s.choices {
		text := c.text()
		choice := wireChoice{Index: i, FinishReason: &s.finish}
		switch {
		case s.completions:
			choice.Text = &text
		case c.tool != "":
			choice.Message = &wireMessage{Role: "assistant", ToolCalls: []wireToolCall{
				{ID: c.id, Type: "function", Function: wireFunction{Name: c.tool, Arguments: text}},
			}}
		default:
			choice.Message = &wireMessage{Role: "assistant", Content: &text}
		}
		out.Choices = append(out.Choices, choice)
	}
	return out
}

// simulatedStream is the body of a streamed answer. It is written while it is read, a token of every
// choice at a time, at the pace of the provider.
type simulatedStream struct {
	ctx     context.Context
	gap     time.Duration
	failing catalog.Fault
	said    *simulatedSaid
	usage   bool

	buf  []byte // rendered and not read
	step int    // -1 + the token that is due; 0: the opening
	err  error
}

// Read implements io.Reader.
func (s *simulatedStream) Read(p []byte) (int, error) {
	for len(s.buf) == 0 {
		if s.err != nil {
			return 0, s.err
		}
		s.advance()
	}
	n := copy(p, s.buf)
	s.buf = s.buf[n:]
	return n, nil
}

// Close implements io.Closer.
func (s *simulatedStream) Close() error { return nil }

// advance renders the next step, or ends the stream.
func (s *simulatedStream) advance() {
	token := s.step - 1
	s.step++
	switch {
	case token < 0:
		s.open()
		return
	case token == 1 && s.failing == catalog.FaultInBand:
		s.buf = openai.AppendEvent(nil, simulatedFailures[s.failing].text())
		s.err = io.EOF
		return
	case token >= (s.said.tokens+1)/2 && s.failing == catalog.FaultCut:
		s.err = io.ErrUnexpectedEOF
		return
	case token >= s.said.tokens:
		s.finish()
		return
	}
	if token > 0 {
		if s.err = pause(s.ctx, s.gap); s.err != nil {
			return
		}
	} else if s.ctx.Err() != nil {
		s.err = context.Cause(s.ctx)
		return
	}
	chunk := s.said.frame(".chunk")
	for i, c := range s.said.choices {
		if token < len(c.pieces) {
			chunk.Choices = append(chunk.Choices, s.said.piece(i, c, token))
		}
	}
	s.event(chunk)
}

// open renders what comes before the first token: the role, and the name of a tool.
func (s *simulatedStream) open() {
	if s.said.completions {
		return
	}
	chunk := s.said.frame(".chunk")
	for i, c := range s.said.choices {
		delta := &wireMessage{Role: "assistant"}
		if c.tool != "" {
			delta.ToolCalls = []wireToolCall{{Index: new(int), ID: c.id, Type: "function", Function: wireFunction{Name: c.tool}}}
		} else {
			delta.Content = new(string)
		}
		chunk.Choices = append(chunk.Choices, wireChoice{Index: i, Delta: delta})
	}
	s.event(chunk)
}

// piece is one token of a choice.
func (s *simulatedSaid) piece(i int, c simulatedChoice, token int) wireChoice {
	text := c.pieces[token]
	switch {
	case s.completions:
		return wireChoice{Index: i, Text: &text}
	case c.tool != "":
		return wireChoice{Index: i, Delta: &wireMessage{ToolCalls: []wireToolCall{{Index: new(int), Function: wireFunction{Arguments: text}}}}}
	default:
		return wireChoice{Index: i, Delta: &wireMessage{Content: &text}}
	}
}

// finish renders the end.
func (s *simulatedStream) finish() {
	s.err = io.EOF
	if s.failing == catalog.FaultNoFinish {
		return
	}
	chunk := s.said.frame(".chunk")
	for i := range s.said.choices {
		choice := wireChoice{Index: i, FinishReason: &s.said.finish, Delta: &wireMessage{}}
		if s.said.completions {
			choice.Delta, choice.Text = nil, new(string)
		}
		chunk.Choices = append(chunk.Choices, choice)
	}
	s.event(chunk)
	if s.usage {
		chunk.Choices, chunk.Usage = []wireChoice{}, s.said.usage()
		s.event(chunk)
	}
	s.buf = openai.AppendDone(s.buf)
}

func (s *simulatedStream) event(chunk wireReply) {
	text, err := json.Marshal(chunk)
	if err != nil {
		s.err = err
		return
	}
	s.buf = openai.AppendEvent(s.buf, text)
}
