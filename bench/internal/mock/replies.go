package mock

import (
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	identity = `"id":"chatcmpl-0123456789abcdefghijklmnopqrs","created":1767225600,"model":"gpt-4o-mini-2024-07-18","service_tier":"default","system_fingerprint":"fp_0123456789"`
	details  = `"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}`

	promptTokens = 64
	answerTokens = 96
)

// replies is a Behaviour with everything that it sends, ready to be written.
type replies struct {
	Behaviour
	chat, embedding, models []byte // whole answers
	opening                 []byte // head of a stream and its chunk with the role
	content                 []byte // a content chunk
	beforeStamp, afterStamp []byte // a stamped content chunk around its 19 digits
	finish, usage, done     []byte // the end of a stream
}

func render(b Behaviour) *replies {
	text := strings.Repeat("Revenue rose in every region but one; costs fell. ", 10)
	stamped := event(`{"content":"@0000000000000000000 "}`, "null")
	before, after, _ := strings.Cut(stamped, strings.Repeat("0", 19))
	return &replies{
		Behaviour: b,
		chat: response(http.StatusOK, `{"object":"chat.completion",`+identity+
			`,"choices":[{"index":0,"message":{"role":"assistant","content":"`+text+`","refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"stop"}]`+
			`,"usage":`+usage(answerTokens)+`}`),
		embedding: response(http.StatusOK, `{"object":"list","data":[{"object":"embedding","index":0,"embedding":[`+
			strings.TrimSuffix(strings.Repeat("0.01234567,", 256), ",")+
			`]}],"model":"text-embedding-3-small","usage":{"prompt_tokens":8,"total_tokens":8}}`),
		models: response(http.StatusOK, `{"object":"list","data":[`+
			`{"id":"gpt-4o-mini","object":"model","created":1721172741,"owned_by":"system"},`+
			`{"id":"text-embedding-3-small","object":"model","created":1705948997,"owned_by":"system"}]}`),
		opening: []byte("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n" +
			chunk(event(`{"role":"assistant","content":"","refusal":null}`, "null"))),
		content:     []byte(chunk(event(`{"content":" token"}`, "null"))),
		beforeStamp: fmt.Appendf(nil, "%x\r\n%s", len(stamped), before),
		afterStamp:  []byte(after + "\r\n"),
		finish:      []byte(chunk(event(`{}`, `"stop"`))),
		usage:       []byte(chunk(`data: {"object":"chat.completion.chunk",` + identity + `,"choices":[],"usage":` + usage(b.Chunks) + "}\n\n")),
		done:        []byte(chunk("data: [DONE]\n\n") + "0\r\n\r\n"),
	}
}

func usage(completion int) string {
	return fmt.Sprintf(`{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d,%s}`, promptTokens, completion, promptTokens+completion, details)
}

func event(delta, finish string) string {
	return `data: {"object":"chat.completion.chunk",` + identity +
		`,"choices":[{"index":0,"delta":` + delta + `,"logprobs":null,"finish_reason":` + finish + `}]}` + "\n\n"
}

// chunk wraps s for the chunked transfer encoding: one event is one chunk.
func chunk(s string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(s), s) }

func response(status int, body string) []byte {
	return fmt.Appendf(nil, "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		status, http.StatusText(status), len(body), body)
}

// stream sends one event per write. Gaps are counted from the start, so that the
// delays of a crowded machine do not add up.
func (p *replies) stream(conn net.Conn, body []byte) error {
	if _, err := conn.Write(p.opening); err != nil {
		return err
	}
	start := time.Now()
	var buf []byte
	for i := range p.Chunks {
		if p.Gap > 0 {
			time.Sleep(time.Until(start.Add(time.Duration(i+1) * p.Gap)))
		}
		next := p.content
		if p.Stamp {
			buf = append(buf[:0], p.beforeStamp...)
			buf = strconv.AppendInt(buf, time.Now().UnixNano(), 10)
			buf = append(buf, p.afterStamp...)
			next = buf
		}
		if _, err := conn.Write(next); err != nil {
			return err
		}
	}
	end := [][]byte{p.finish, p.usage, p.done}
	if !says(body, "include_usage") {
		end = [][]byte{p.finish, p.done}
	}
	for _, piece := range end {
		if _, err := conn.Write(piece); err != nil {
			return err
		}
	}
	return nil
}
