package faultwall

import (
	"encoding/json"
	"net/http"
	"strings"
)

// Endpoint is the last part of a path: chat, completions or embeddings.
type Endpoint string

// The endpoints.
const (
	Chat        Endpoint = "chat"
	Completions Endpoint = "completions"
	Embeddings  Endpoint = "embeddings"
)

// Request is what the wall reads of a call.
type Request struct {
	Endpoint Endpoint
	Path     string
	Header   http.Header
	Body     []byte

	Model        string
	Stream       bool
	IncludeUsage bool
	// Prefilled says that the request carries the beginning of an answer, which is Prefill.
	Prefilled bool
	Prefill   string

	choices, pieces, limit int
	question               []string // what the answer depends on
	tools                  []string // names
	json, reasoning        bool
	inputs                 []string
	base64                 bool
}

// wireRequest is a body as it comes.
type wireRequest struct {
	Model    string `json:"model"`
	Messages []struct {
		Role    string          `json:"role"`
		Content json.RawMessage `json:"content"`
	} `json:"messages"`
	Prompt        string          `json:"prompt"`
	Input         json.RawMessage `json:"input"`
	Stream        bool            `json:"stream"`
	StreamOptions struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
	N                   int `json:"n"`
	Pieces              int `json:"pieces"`
	MaxTokens           int `json:"max_tokens"`
	MaxCompletionTokens int `json:"max_completion_tokens"`
	Tools               []struct {
		Function struct {
			Name string `json:"name"`
		} `json:"function"`
	} `json:"tools"`
	ResponseFormat struct {
		Type string `json:"type"`
	} `json:"response_format"`
	ReasoningEffort string `json:"reasoning_effort"`
	EncodingFormat  string `json:"encoding_format"`
}

// defaultPieces is the length of an answer that nobody asked to be otherwise.
const defaultPieces = 12

// Read makes a request of a path such as /v1/chat/completions and a body.
func Read(path string, body []byte) (*Request, error) {
	var w wireRequest
	if err := json.Unmarshal(body, &w); err != nil {
		return nil, err
	}
	r := &Request{
		Path: path, Body: body, Model: w.Model, Stream: w.Stream, IncludeUsage: w.StreamOptions.IncludeUsage,
		choices: max(w.N, 1), pieces: w.Pieces, limit: max(w.MaxTokens, w.MaxCompletionTokens),
		json:      strings.HasPrefix(w.ResponseFormat.Type, "json"),
		reasoning: w.ReasoningEffort != "",
		base64:    w.EncodingFormat == "base64",
	}
	if r.pieces <= 0 {
		r.pieces = defaultPieces
	}
	for _, t := range w.Tools {
		r.tools = append(r.tools, t.Function.Name)
	}
	switch {
	case strings.HasSuffix(path, "/chat/completions"):
		r.Endpoint = Chat
		for _, m := range w.Messages {
			r.question = append(r.question, m.Role, text(m.Content))
		}
		if last := len(w.Messages) - 1; last >= 0 && w.Messages[last].Role == "assistant" {
			r.Prefilled, r.Prefill = true, text(w.Messages[last].Content)
			r.question = r.question[:2*last]
		}
	case strings.HasSuffix(path, "/completions"):
		r.Endpoint = Completions
		end := strings.LastIndexByte(w.Prompt, '?') + 1
		if end == 0 {
			end = len(w.Prompt)
		}
		r.question = []string{w.Prompt[:end]}
		r.Prefill = w.Prompt[end:]
		r.Prefilled = r.Prefill != ""
	default:
		r.Endpoint = Embeddings
		if json.Unmarshal(w.Input, &r.inputs) != nil {
			r.inputs = []string{text(w.Input)}
		}
	}
	return r, nil
}

// text is a JSON string decoded, and anything else as it stands.
func text(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	return string(raw)
}
