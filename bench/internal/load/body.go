package load

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Mode is how the answer is to come.
type Mode string

// The two modes.
const (
	Unary  Mode = "unary"
	Stream Mode = "stream"
)

// chat has its members in the order in which clients with sorted maps send them:
// the model stands behind the messages, where finding it costs the most.
type chat struct {
	MaxTokens int       `json:"max_tokens"`
	Messages  []message `json:"messages"`
	Model     string    `json:"model"`
	Stream    bool      `json:"stream,omitempty"`
	Options   *options  `json:"stream_options,omitempty"`
}

type message struct {
	Content string `json:"content"`
	Role    string `json:"role"`
}

type options struct {
	IncludeUsage bool `json:"include_usage"`
}

// ChatBody is a chat completion request of exactly size bytes, or of the fewest
// possible where size is too small for one. The prompt has quotes and line ends,
// which JSON escapes, as real prompts have.
func ChatBody(model string, size int, mode Mode) []byte {
	const line = "Region %d: revenue \"rose\", costs fell.\n"
	body := chat{MaxTokens: 256, Model: model, Messages: []message{{Role: "user"}}}
	if mode == Stream {
		body.Stream, body.Options = true, &options{IncludeUsage: true}
	}
	missing := size - len(encode(body))
	var prompt strings.Builder
	for i := 0; ; i++ {
		next := fmt.Sprintf(line, i)
		cost := len(encode(next)) - len(`""`)
		if cost > missing {
			break
		}
		prompt.WriteString(next)
		missing -= cost
	}
	prompt.WriteString(strings.Repeat(".", max(missing, 0)))
	body.Messages[0].Content = prompt.String()
	return encode(body)
}

// encode is for values that always have a JSON form.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}
