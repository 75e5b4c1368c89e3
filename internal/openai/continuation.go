package openai

import (
	"errors"
	"strconv"
)

// Continuation asks for the rest of an answer whose beginning exists.
type Continuation struct {
	// Text is the beginning, decoded.
	Text string
	// Member is put into the assistant message as "member": true; empty: nothing is.
	Member string
	// Final adds continue_final_message and the add_generation_prompt that goes with it.
	Final bool
	// Tokens is how many tokens the beginning is estimated to have; a limit on output is lowered by it.
	Tokens int64
}

// Continue is the request that makes a model go on with the text: chat messages get it as the last
// assistant message, a prompt that is a string gets it appended. Everything else stays byte for byte.
// The error says why the request has no such form.
func (r *Request) Continue(c Continuation) (*Request, error) {
	if r.N > 1 {
		return nil, errors.New("several choices can not be continued")
	}
	edits, err := r.continued(c)
	if err != nil {
		return nil, err
	}
	for _, name := range [...]string{"max_tokens", "max_completion_tokens"} {
		var limit int64
		if raw, ok := r.Field(name); ok && readCount(name, raw, &limit) == nil && limit > 0 && c.Tokens > 0 {
			edits = append(edits, Set(name, strconv.AppendInt(nil, max(1, limit-c.Tokens), 10)))
		}
	}
	return ParseRequest(r.Edit(edits...).Bytes())
}

// continued are the edits that put the text where the model goes on with it.
func (r *Request) continued(c Continuation) ([]Edit, error) {
	if messages, ok := r.Field("messages"); ok {
		messages, err := withAssistant(messages, c)
		if err != nil {
			return nil, err
		}
		edits := []Edit{Set("messages", messages)}
		if c.Final {
			edits = append(edits, Set("continue_final_message", []byte("true")), Set("add_generation_prompt", []byte("false")))
		}
		return edits, nil
	}
	prompt, ok := r.Field("prompt")
	echo, _ := r.Field("echo")
	switch {
	case !ok:
		return nil, errors.New("the request has neither messages nor a prompt")
	case prompt[0] != '"':
		return nil, errors.New("only a prompt that is one string can be continued")
	case len(echo) > 0 && echo[0] == 't':
		return nil, errors.New("a prompt that is echoed would come twice")
	}
	text := AppendString(nil, c.Text)
	longer := append(make([]byte, 0, len(prompt)+len(text)), prompt[:len(prompt)-1]...)
	return []Edit{Set("prompt", append(longer, text[1:]...))}, nil
}

// withAssistant is the array of messages with an assistant message behind its last one.
func withAssistant(messages []byte, c Continuation) ([]byte, error) {
	role, end := lastRole(messages)
	switch {
	case end == 0:
		return nil, errors.New("the request has no messages")
	case role == "assistant":
		return nil, errors.New("the last message is the assistant's already")
	}
	longer := make([]byte, 0, len(messages)+len(c.Text)+len(c.Text)/8+64)
	longer = append(longer, messages[:end]...)
	longer = append(longer, `,{"role":"assistant","content":`...)
	longer = append(AppendString(longer, c.Text), '}')
	if c.Member != "" {
		longer = AppendMember(longer, c.Member, []byte("true"))
	}
	return append(longer, messages[end:]...), nil
}

// lastRole returns the role of the last message and where that message ends, 0 when there is none.
func lastRole(messages []byte) (role string, end int) {
	s := scanner{src: messages}
	read := func(name []byte, i int) int {
		end := s.value(i, 0)
		if string(name) == "role" && s.first(i) == '"' {
			role = unquote(s.src[i:end])
		}
		return end
	}
	if messages[0] != '[' {
		return "", 0
	}
	s.eachElement(0, func(i int) int {
		role = ""
		end = s.eachMember(i, read)
		return end
	})
	return role, end
}
