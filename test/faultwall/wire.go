package faultwall

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"strings"
)

// event is one event of a stream.
type event struct {
	data string
	kind kind
}

type kind int

const (
	role    kind = iota // says nothing but who speaks
	content             // text, reasoning or a part of a tool call
	finish              // the reason why it ends
	usage
)

type object = map[string]any

func encode(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings and numbers always have a JSON form
	}
	return string(text)
}

// id is the same for all of an answer, and often the same as that of another one: engines do that.
const id = "wall-1"

// created is when every answer was made, in seconds since the epoch.
const created = 1_760_000_000

// whole is the answer as one JSON text.
func (r *Request) whole(a Answer) string {
	tokens := object{"prompt_tokens": a.Prompt, "completion_tokens": a.Completion, "total_tokens": a.Prompt + a.Completion}
	var choices []object
	switch r.Endpoint {
	case Embeddings:
		var data []object
		for i, v := range a.Vectors {
			data = append(data, object{"object": "embedding", "index": i, "embedding": r.vector(v)})
		}
		return encode(object{"object": "list", "model": r.Model, "data": data, "usage": object{"prompt_tokens": a.Prompt, "total_tokens": a.Prompt}})
	case Completions:
		for i := range a.Choices {
			c := &a.Choices[i]
			choices = append(choices, object{"index": i, "text": c.Text(), "finish_reason": c.Finish, "logprobs": nil})
		}
		return encode(object{"id": id, "object": "text_completion", "created": created, "model": r.Model, "choices": choices, "usage": tokens})
	default:
		for i := range a.Choices {
			choices = append(choices, object{"index": i, "message": a.Choices[i].message(), "finish_reason": a.Choices[i].Finish, "logprobs": nil})
		}
		return encode(object{"id": id, "object": "chat.completion", "created": created, "model": r.Model, "choices": choices, "usage": tokens})
	}
}

func (c *Choice) message() object {
	m := object{"role": "assistant", "content": c.Text()}
	if len(c.Reasoning) > 0 {
		m["reasoning_content"] = strings.Join(c.Reasoning, "")
	}
	var calls []object
	for _, call := range c.Calls {
		calls = append(calls, object{
			"id": call.ID, "type": "function", "function": object{"name": call.Name, "arguments": strings.Join(call.Arguments, "")},
		})
	}
	if calls != nil {
		m["content"], m["tool_calls"] = nil, calls
	}
	return m
}

func (r *Request) vector(v []float32) any {
	if !r.base64 {
		return v
	}
	var raw []byte
	for _, x := range v {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(x))
	}
	return base64.StdEncoding.EncodeToString(raw)
}

// events is the answer as a stream, without the [DONE] at its end. Those of several choices take turns.
func (r *Request) events(a Answer) []event {
	var list []event
	deltas := make([][]object, len(a.Choices))
	longest := 0
	for i := range a.Choices {
		if r.Endpoint == Chat {
			list = append(list, event{r.chunk(i, object{"role": "assistant", "content": ""}, nil), role})
		}
		deltas[i] = r.deltas(&a.Choices[i])
		longest = max(longest, len(deltas[i]))
	}
	for at := range longest {
		for i := range deltas {
			if at < len(deltas[i]) {
				list = append(list, event{r.chunk(i, deltas[i][at], nil), content})
			}
		}
	}
	for i := range a.Choices {
		list = append(list, event{r.chunk(i, object{}, a.Choices[i].Finish), finish})
	}
	if r.IncludeUsage {
		list = append(list, event{r.usage(a), usage})
	}
	return list
}

// deltas are the pieces of a choice.
func (r *Request) deltas(c *Choice) []object {
	var list []object
	name := "content"
	if r.Endpoint == Completions {
		name = "text"
	}
	for _, p := range c.Reasoning {
		list = append(list, object{"reasoning_content": p})
	}
	for _, p := range c.Pieces {
		list = append(list, object{name: p})
	}
	for i, call := range c.Calls {
		list = append(list, object{"tool_calls": []object{{
			"index": i, "id": call.ID, "type": "function", "function": object{"name": call.Name, "arguments": ""},
		}}})
		for _, p := range call.Arguments {
			list = append(list, object{"tool_calls": []object{{"index": i, "function": object{"arguments": p}}}})
		}
	}
	return list
}

// chunk is the data of one event. reason is nil until the end.
func (r *Request) chunk(index int, delta object, reason any) string {
	choice := object{"index": index, "finish_reason": reason}
	kind := "chat.completion.chunk"
	if r.Endpoint == Completions {
		kind = "text_completion"
		choice["text"] = ""
		for name, value := range delta {
			choice[name] = value
		}
	} else {
		choice["delta"] = delta
	}
	return encode(object{"id": id, "object": kind, "created": created, "model": r.Model, "choices": []object{choice}})
}

func (r *Request) usage(a Answer) string {
	return fmt.Sprintf(`{"id":%q,"object":"chat.completion.chunk","created":%d,"model":%q,"choices":[],"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}}`,
		id, created, r.Model, a.Prompt, a.Completion, a.Prompt+a.Completion)
}
