package routing

import (
	"shareai/internal/catalog"
	"shareai/internal/openai"
	"shareai/internal/snapshot"
)

// What a prompt's bytes say about its tokens, as percentages of the tokens that there is room for. Dense
// text (Chinese, digits, base64) has hardly less than 2.4 bytes a token, so that an estimate below
// surelyFits is trusted. Text that is escaped in JSON (\u4e2d is six bytes and one token) or mostly
// indentation can have 10, so that only an estimate above surelyExceeds is. Between the two the
// tokenizer decides; but it does not know a model's template, nor all vocabularies, and its count has a
// margin. Where there is doubt the deployment is tried: one that refuses costs a moment, and the next
// larger one follows at once.
const (
	surelyFits    = 60
	surelyExceeds = 250
	countExceeds  = 105
)

// length is how much a request needs of a context.
type length struct {
	prompt int64 // tokens, by bytes; 0: not comparable with a context
	answer int64 // tokens that the request allows for the answer; 0: it sets no limit
	ask    *Ask  // whose Count is asked
	// counts holds what was counted, by family: counting is slow. An array keeps the plan of a request
	// without counts free of allocations.
	counts [4]counted
}

type counted struct {
	family string
	tokens int64
}

func lengthOf(ask *Ask) length {
	l := length{answer: ask.Request.MaxTokens, ask: ask}
	if ask.Endpoint == catalog.Embeddings {
		l.answer = 0
	}
	if !batched(ask.Request, ask.Endpoint) {
		l.prompt = ask.Request.PromptTokens()
	}
	return l
}

// batched says whether the request carries several prompts, of which each has the context to itself.
func batched(r *openai.Request, e catalog.Endpoint) bool {
	var name string
	switch e {
	case catalog.Embeddings:
		name = "input"
	case catalog.Completions:
		name = "prompt"
	default:
		return false
	}
	raw, ok := r.Field(name)
	if !ok || raw[0] != '[' {
		return false
	}
	for _, c := range raw[1:] {
		switch c {
		case ' ', '\t', '\n', '\r':
		default:
			return c == '"' || c == '[' // texts, or lists of tokens
		}
	}
	return false
}

// exceeds says whether the request does not fit into a deployment's context.
func (l *length) exceeds(limits *snapshot.Limits) bool {
	if limits.Context == 0 || l.prompt == 0 {
		return false
	}
	room := limits.Context - l.answer
	switch {
	case l.prompt*100 <= room*surelyFits:
		return false
	case l.prompt*100 > room*surelyExceeds:
		return true
	case l.ask.Count == nil:
		return false
	default:
		return l.tokens(limits.Tokenizer)*100 > room*countExceeds
	}
}

// tokens counts the prompt with the vocabulary of a family, once.
func (l *length) tokens(family string) int64 {
	free := len(l.counts) - 1
	for i := range l.counts {
		c := &l.counts[i]
		if c.tokens > 0 && c.family == family {
			return c.tokens
		}
		if c.tokens == 0 {
			free = i
			break
		}
	}
	l.counts[free] = counted{family, max(l.ask.Count(family), 1)}
	return l.counts[free].tokens
}

// known is the best that is known of the prompt's length.
func (l *length) known() int64 {
	if n := l.counts[0].tokens; n > 0 {
		return n
	}
	return l.prompt
}
