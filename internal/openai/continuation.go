package openai

import "errors"

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
// assistant message, a prompt gets it appended. The error says that the request has no such form.
func (r *Request) Continue(c Continuation) (*Request, error) {
	return nil, errors.New("not yet")
}
