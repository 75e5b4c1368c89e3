package openai

// Needs is what a request demands of a model beyond text in and text out.
type Needs struct {
	Tools      bool // tools or functions are offered
	Vision     bool // a message carries an image
	Audio      bool // a message carries sound, or sound is asked for
	JSONSchema bool // the answer must follow a schema
	JSONMode   bool // the answer must be JSON, of any shape or of a schema's
	Reasoning  bool // an effort of reasoning is asked for
	Logprobs   bool // log probabilities are asked for
}

// Needs finds out what the request demands.
func (r *Request) Needs() Needs { return Needs{} }
