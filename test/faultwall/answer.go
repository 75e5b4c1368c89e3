package faultwall

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strings"
)

// Answer is everything that a client should receive.
type Answer struct {
	Choices    []Choice
	Vectors    [][]float32
	Prompt     int // tokens
	Completion int // tokens: one for each piece
}

// Choice is one of the answers to a question, in the pieces in which a stream brings them.
type Choice struct {
	Reasoning []string
	Pieces    []string
	Calls     []ToolCall
	Finish    string
}

// Text is the content of a choice.
func (c *Choice) Text() string { return strings.Join(c.Pieces, "") }

// ToolCall is a call of a tool, its arguments in pieces.
type ToolCall struct {
	ID, Name  string
	Arguments []string
}

// words make texts. They are of one to four bytes a character, and none has a question mark.
var words = []string{
	"the", "gateway", "answers", "while", "naïve", "providers", "fail", "東京", "über", "all", "lines", "🚀", "and", "ça",
	"goes", "on", "Ωmega", "without", "a", "pause", "“quoted”", "back\\slash", "tab\there", "line\n", "ends", "żółw", "👩‍🚀", "2 + 2",
}

const dimensions = 8

// Answer is what the request asks for, from its beginning.
func (r *Request) Answer() Answer {
	a := Answer{Prompt: len(strings.Fields(strings.Join(append(r.question, r.inputs...), " "))) + 1}
	if r.Endpoint == Embeddings {
		for _, input := range r.inputs {
			random := source(input)
			vector := make([]float32, dimensions)
			for i := range vector {
				vector[i] = float32(random.IntN(2000)-1000) / 1024 // exact in every format
			}
			a.Vectors = append(a.Vectors, vector)
		}
		return a
	}
	for i := range r.choices {
		choice := r.choice(source(append(r.question, fmt.Sprint(i))...))
		a.Completion += len(choice.Reasoning) + len(choice.Pieces)
		for _, call := range choice.Calls {
			a.Completion += len(call.Arguments)
		}
		a.Choices = append(a.Choices, choice)
	}
	return a
}

func (r *Request) choice(random *rand.Rand) Choice {
	c := Choice{Finish: "stop"}
	if r.reasoning {
		c.Reasoning = prose(random, 4)
	}
	switch {
	case len(r.tools) > 0:
		c.Finish = "tool_calls"
		for _, name := range r.tools {
			arguments, _ := json.Marshal(map[string]any{"place": prose(random, 3), "days": random.IntN(9)})
			c.Calls = append(c.Calls, ToolCall{
				ID: fmt.Sprintf("call_%08x", random.Uint32()), Name: name, Arguments: cutUp(string(arguments), 6),
			})
		}
	case r.json:
		object, _ := json.Marshal(map[string]any{"words": prose(random, r.pieces)})
		c.Pieces = cutUp(string(object), r.pieces)
	default:
		c.Pieces = prose(random, r.pieces)
		if r.limit > 0 && r.limit < len(c.Pieces) {
			c.Pieces, c.Finish = c.Pieces[:r.limit], "length"
		}
	}
	return c
}

// source gives numbers that depend on the texts alone.
func source(texts ...string) *rand.Rand {
	h := fnv.New64a()
	for _, t := range texts {
		_, _ = h.Write([]byte(t))
		_, _ = h.Write([]byte{0xff}) // is in no text
	}
	return rand.New(rand.NewPCG(h.Sum64(), 1))
}

func prose(random *rand.Rand, n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = words[random.IntN(len(words))] + " "
	}
	list[n-1] = strings.TrimRight(list[n-1], " ") + "."
	return list
}

// cutUp cuts a text into n pieces, at the borders of characters.
func cutUp(s string, n int) []string {
	runes := []rune(s)
	var list []string
	for i := range n {
		if piece := string(runes[len(runes)*i/n : len(runes)*(i+1)/n]); piece != "" {
			list = append(list, piece)
		}
	}
	return list
}

// from is the rest of the answer behind a beginning; ok says whether the answer begins so.
func (c *Choice) from(beginning string) (rest Choice, ok bool) {
	if !strings.HasPrefix(c.Text(), beginning) {
		return *c, false
	}
	rest = Choice{Finish: c.Finish}
	skip := len(beginning)
	for _, p := range c.Pieces {
		if cut := min(skip, len(p)); cut < len(p) {
			rest.Pieces = append(rest.Pieces, p[cut:])
		}
		skip -= min(skip, len(p))
	}
	return rest, true
}
