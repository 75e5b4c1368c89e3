// Package sdk_test runs the official Go client against a running ShareAI: only the base URL and the key are ours.
// ../run.sh starts one and sets SHAREAI_URL and SHAREAI_KEY.
package sdk_test

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
)

var (
	chatModel  = cmp.Or(os.Getenv("SHAREAI_CHAT_MODEL"), "demo-chat")
	embedModel = cmp.Or(os.Getenv("SHAREAI_EMBED_MODEL"), "demo-embed")
)

// connect returns a client that does not retry: an error has to reach its test at once.
func connect(t *testing.T, options ...option.RequestOption) openai.Client {
	t.Helper()
	gateway, key := os.Getenv("SHAREAI_URL"), os.Getenv("SHAREAI_KEY")
	if gateway == "" || key == "" {
		t.Fatal("SHAREAI_URL and SHAREAI_KEY are not set: run test/sdk/run.sh")
	}
	defaults := []option.RequestOption{
		option.WithBaseURL(gateway + "/v1/"), option.WithAPIKey(key), option.WithMaxRetries(0),
	}
	return openai.NewClient(append(defaults, options...)...)
}

func question(model string) openai.ChatCompletionNewParams {
	return openai.ChatCompletionNewParams{
		Model:    model,
		Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("Tell me about gateways.")},
	}
}

func TestModels(t *testing.T) {
	client := connect(t)
	page, err := client.Models.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, m := range page.Data {
		ids = append(ids, m.ID)
	}
	if !slices.Contains(ids, chatModel) || !slices.Contains(ids, embedModel) {
		t.Errorf("models = %v", ids)
	}
	if one, err := client.Models.Get(t.Context(), chatModel); err != nil || one.ID != chatModel {
		t.Errorf("Get = %v, %v", one, err)
	}
}

func TestChat(t *testing.T) {
	client := connect(t)
	var header *http.Response
	answer, err := client.Chat.Completions.New(t.Context(), question(chatModel), option.WithResponseInto(&header))
	if err != nil {
		t.Fatal(err)
	}
	if len(answer.Choices) != 1 || answer.Choices[0].Message.Content == "" || answer.Choices[0].FinishReason != "stop" {
		t.Errorf("choices = %+v", answer.Choices)
	}
	usage := answer.Usage
	if usage.CompletionTokens == 0 || usage.TotalTokens != usage.PromptTokens+usage.CompletionTokens {
		t.Errorf("usage = %+v", usage)
	}
	if attempts, err := strconv.Atoi(header.Header.Get("x-shareai-attempts")); err != nil || attempts < 1 {
		t.Errorf("x-shareai-attempts = %q", header.Header.Get("x-shareai-attempts"))
	}
	if header.Header.Get("x-request-id") == "" {
		t.Error("no x-request-id")
	}
}

// The client's accumulator is strict about streams: it reports the end of the content only if the last delta is empty,
// and refuses chunks whose id changes.
func TestChatStream(t *testing.T) {
	client := connect(t)
	params := question(chatModel)
	params.StreamOptions.IncludeUsage = openai.Bool(true)
	stream := client.Chat.Completions.NewStreaming(t.Context(), params)
	defer stream.Close()
	var all openai.ChatCompletionAccumulator
	var finished string
	for stream.Next() {
		if chunk := stream.Current(); !all.AddChunk(chunk) {
			t.Fatalf("the accumulator refuses %s", chunk.RawJSON())
		}
		if content, ok := all.JustFinishedContent(); ok {
			finished += content
		}
	}
	if err := stream.Err(); err != nil {
		t.Fatal(err)
	}
	if len(all.Choices) != 1 || all.Choices[0].Message.Content == "" || all.Choices[0].FinishReason != "stop" {
		t.Fatalf("choices = %+v", all.Choices)
	}
	if finished != all.Choices[0].Message.Content {
		t.Errorf("finished content %q, accumulated %q", finished, all.Choices[0].Message.Content)
	}
	if all.Usage.CompletionTokens == 0 {
		t.Error("no usage")
	}
}

func TestCancelledStream(t *testing.T) {
	client := connect(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream := client.Chat.Completions.NewStreaming(ctx, question(chatModel))
	defer stream.Close()
	if !stream.Next() {
		t.Fatal(stream.Err())
	}
	cancel()
	for stream.Next() { // what had arrived before
	}
	if err := stream.Err(); !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v", err)
	}
}

func TestCompletion(t *testing.T) {
	client := connect(t)
	answer, err := client.Completions.New(t.Context(), openai.CompletionNewParams{
		Model:  openai.CompletionNewParamsModel(chatModel),
		Prompt: openai.CompletionNewParamsPromptUnion{OfString: openai.String("My favourite animal")},
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(answer.Choices) != 1 || answer.Choices[0].Text == "" {
		t.Errorf("choices = %+v", answer.Choices)
	}
}

func TestEmbeddings(t *testing.T) {
	client := connect(t)
	answer, err := client.Embeddings.New(t.Context(), openai.EmbeddingNewParams{
		Model: embedModel,
		Input: openai.EmbeddingNewParamsInputUnion{OfArrayOfStrings: []string{"a gateway", "a fox"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(answer.Data) != 2 || len(answer.Data[0].Embedding) == 0 || answer.Data[1].Index != 1 {
		t.Errorf("data = %+v", answer.Data)
	}
}

func TestErrors(t *testing.T) {
	tests := []struct {
		name   string
		key    []option.RequestOption
		model  string
		status int
		code   string
	}{
		{"unknown key", []option.RequestOption{option.WithAPIKey("sk-unknown")}, chatModel, 401, "invalid_api_key"},
		{"unknown model", nil, "no-such-model", 404, "model_not_found"},
		{"no model", nil, "", 400, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			client := connect(t, tt.key...)
			_, err := client.Chat.Completions.New(t.Context(), question(tt.model))
			var refusal *openai.Error
			if !errors.As(err, &refusal) {
				t.Fatalf("error = %v", err)
			}
			if refusal.StatusCode != tt.status || tt.code != "" && refusal.Code != tt.code || refusal.Message == "" {
				t.Errorf("status %d, code %q, message %q", refusal.StatusCode, refusal.Code, refusal.Message)
			}
		})
	}
}
